//! What one execution did, as the engine sees it: events of workers on
//! locations. Nothing in here knows Python.
//!
//! A [`Trace`] is a sequence of [`Event`]s. An event is one atomic step of one
//! worker (for Python: one bytecode instruction, or one intercepted call) with
//! the accesses it made. Two events are *dependent* when they belong to one
//! worker or when two of their accesses conflict ([`Kind::conflicts`]).

/// Index of a worker. Stable across the executions of one exploration: the
/// n-th worker that worker `p` starts has the same index in every execution.
pub type Worker = u16;

/// Identifies a location *within one trace*; numbers of different traces have
/// nothing to do with each other.
pub type Loc = u32;

/// What an access does to its location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The instruction could have touched this location, and did not this time
    /// (the structure of a dict when an existing key was overwritten). Keeps
    /// the list of accesses of one instruction equally long whatever happens.
    None,
    /// Reads the location; reads commute.
    Read,
    /// A read that the instruction did not need this time (the length of a list
    /// when an index was in range), and never a write.
    Unread,
    /// Writes the location.
    Write,
    /// A conditional write that did not happen, and so only read: a failed
    /// compare-and-set or try-lock, a `setdefault` that found its key. In
    /// another state the same instruction may write.
    Miss,
    /// A conditional write that did happen: a successful compare-and-set, the
    /// structure of a dict when a new key was inserted. In another state the
    /// same instruction may be a [`Kind::Miss`] or a [`Kind::None`].
    Hit,
    /// Takes a token of a counted resource (a lock has one token); the event
    /// is disabled while there is none.
    Acquire,
    /// Takes a token without waiting; never disabled. One that finds no token
    /// is a [`Kind::Miss`].
    TryAcquire,
    /// Gives a token back; never disabled.
    Release,
    /// Starts the worker whose index is the access's `loc`.
    Start,
    /// Waits for the end of the worker whose index is the access's `loc`;
    /// disabled until then.
    Join,
    /// Virtual time jumped, because nobody could run: ordered after everything
    /// before it and before everything after it. Its `loc` means nothing. An
    /// acquire that timed out is `Advance` and a [`Kind::Miss`] of the resource;
    /// it could have been the acquire that it is elsewhere.
    Advance,
}

impl Kind {
    /// Does the kind speak of a location (and not of a worker or of time)?
    pub fn is_memory(self) -> bool {
        use Kind::{Advance, Join, None, Start, Unread};
        !matches!(self, None | Unread | Start | Join | Advance)
    }

    /// Is this more than a read of its location?
    pub fn is_write(self) -> bool {
        use Kind::{Acquire, Hit, Release, TryAcquire, Write};
        matches!(self, Write | Hit | Acquire | TryAcquire | Release)
    }

    /// The most that the same access can be in another state. (Whether a
    /// try-lock succeeds is not open: tokens can be counted.)
    pub fn strongest(self) -> Kind {
        match self {
            Kind::None | Kind::Miss => Kind::Hit,
            Kind::Unread => Kind::Read,
            kind => kind,
        }
    }

    /// The least that the same access can be in another state.
    pub fn weakest(self) -> Kind {
        match self {
            Kind::Hit => Kind::None,
            kind => kind,
        }
    }

    /// Do two accesses to *one* location, of these kinds, conflict?
    pub fn conflicts(self, other: Kind) -> bool {
        self.is_memory() && other.is_memory() && (self.is_write() || other.is_write())
    }
}

/// What is the same about a location in every execution, as two hashes; 0 is
/// "not known". Locations that differ in either are different ones, and those
/// that are equal in both are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trait {
    /// Which object.
    pub object: u64,
    /// Which part of it: the name of the attribute, the key.
    pub part: u64,
}

impl Trait {
    /// Could these be traits of one location?
    pub fn fits(self, other: Trait) -> bool {
        let fits = |a, b| a == b || a == 0 || b == 0;
        fits(self.object, other.object) && fits(self.part, other.part)
    }

    /// Does it name one location only?
    pub fn is_unique(self) -> bool {
        self.object != 0 && self.part != 0
    }
}

/// One access of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// The location, or the worker for [`Kind::Start`] and [`Kind::Join`].
    pub loc: Loc,
    /// What was done to it.
    pub kind: Kind,
}

/// One atomic step of one worker. Its accesses are in [`Trace::accesses_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who did it.
    pub worker: Worker,
    /// Number of accesses.
    pub len: u16,
    /// First of its accesses in the trace's table.
    pub first: u32,
    /// Where in the program, opaque to the engine: equal programs at equal
    /// points have equal sites, in every execution.
    pub site: u32,
}

/// A worker that had not ended when the execution did, and what it waits to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The blocked worker.
    pub worker: Worker,
    /// The accesses of the step it is blocked at; at least one of them is an
    /// [`Kind::Acquire`] or a [`Kind::Join`].
    pub accesses: Vec<Access>,
}

/// The events of one complete execution, in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Vec<Event>,
    accesses: Vec<Access>,
    /// So many of the accesses are those of events.
    committed: usize,
    tokens: Vec<(Loc, u32)>,
    traits: Vec<(Loc, Trait)>,
    /// Workers blocked for good at the end.
    pub pending: Vec<Pending>,
    /// It ended where the plan named a worker that waited for something unseen.
    pub stalled: bool,
    /// Are the events *blocks*, whose accesses are not known before they run, and
    /// may depend on what they read?
    pub blocks: bool,
}

impl Trace {
    /// An empty trace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything, and keeps the memory for the next execution.
    pub fn clear(&mut self) {
        self.events.clear();
        self.accesses.clear();
        self.committed = 0;
        self.tokens.clear();
        self.traits.clear();
        self.pending.clear();
        self.stalled = false;
        self.blocks = false;
    }

    /// Appends an event of `worker` with these accesses.
    pub fn push(&mut self, worker: Worker, site: u32, accesses: &[Access]) {
        self.accesses.extend_from_slice(accesses);
        self.commit(worker, site);
    }

    /// Adds an access to the event that comes next.
    #[inline]
    pub fn draft(&mut self, access: Access) {
        self.accesses.push(access);
    }

    /// The accesses of the event that comes next.
    #[inline]
    pub fn drafted(&self) -> &[Access] {
        &self.accesses[self.committed..]
    }

    /// Appends the event whose accesses were drafted.
    #[inline]
    pub fn commit(&mut self, worker: Worker, site: u32) {
        let (first, end) = (self.committed, self.accesses.len());
        self.committed = end;
        self.events.push(Event { worker, len: (end - first) as u16, first: first as u32, site });
    }

    /// Forgets the accesses that were drafted.
    pub fn discard(&mut self) {
        self.accesses.truncate(self.committed);
    }

    /// Adds accesses to the last event. False: there is none, or it is full.
    pub fn extend(&mut self, accesses: &[Access]) -> bool {
        let room = self.events.last().map_or(0, |last| (u16::MAX - last.len) as usize);
        let fits = accesses.len() <= room && !self.events.is_empty();
        if let (true, Some(last)) = (fits, self.events.last_mut()) {
            last.len += accesses.len() as u16;
            self.accesses.extend_from_slice(accesses);
            self.committed = self.accesses.len();
        }
        fits
    }

    /// Number of tokens that a resource had before its first event, where that
    /// is not one (a lock that setup left held: 0; a queue with 3 items: 3).
    pub fn set_tokens(&mut self, loc: Loc, tokens: u32) {
        self.tokens.push((loc, tokens));
    }

    /// The resources that did not start with exactly one token.
    pub fn tokens(&self) -> &[(Loc, u32)] {
        &self.tokens
    }

    /// Tells what is the same about a location in every execution. Needed for none;
    /// saves executions when two steps have to be compared that never met in one
    /// execution.
    pub fn set_trait(&mut self, loc: Loc, known: Trait) {
        self.traits.push((loc, known));
    }

    /// The traits that were told, in that order.
    pub fn traits(&self) -> &[(Loc, Trait)] {
        &self.traits
    }

    /// The events, oldest first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The accesses of one event of this trace.
    pub fn accesses_of(&self, event: &Event) -> &[Access] {
        &self.accesses[event.first as usize..event.first as usize + event.len as usize]
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Has nothing happened?
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
