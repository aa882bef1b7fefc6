//! Wakeup trees: what is still to be explored from one point of the search
//! (Abdulla et al., JACM 2017, §5).
//!
//! The tree is ordered, and its leaves are the beginnings of executions. It is
//! a radix tree: an edge is a sequence of runs, worker × number of events, that
//! is split when another sequence leaves it half-way. As long as it is not, it is
//! kept as the window into an execution that it is, and takes a few words.

use std::rc::Rc;

use smallvec::SmallVec;

use super::ahead::Serial;
use super::history::{History, SlotAccess, Step, Window};
use super::record::{LazyRecord, Record, conflicts};
use super::reversal::{Known, Reversal};
use crate::strategy::{Segment, Sleeper};
use crate::trace::{Trait, Worker};

/// An edge of a wakeup tree, and the subtree behind it.
#[derive(Debug)]
pub(super) struct Branch {
    edge: Edge,
    /// Of the execution that the edge was found in.
    record: Rc<Record>,
    pub next: Vec<Branch>,
    /// As a leaf, does it cover whatever goes on like it? Not if it could not
    /// be decided whether all that sleeps in it is woken.
    pub covers: bool,
    /// The accesses of the last step, which was not yet executed where it is
    /// planned: conditional ones may turn out otherwise.
    last: Option<Box<[SlotAccess]>>,
    /// What ends here, if it is a leaf.
    pub end: End,
}

/// The end of a planned execution.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Its name.
    pub serial: Serial,
    /// How many preemptions it takes to get there.
    pub preemptions: u32,
}

#[derive(Debug)]
enum Edge {
    Window(Window),
    Listed(Vec<Segment>),
}

impl Branch {
    /// A branch that executes `v`.
    pub fn new(v: &Reversal, h: &History, now: &LazyRecord, covers: bool, end: End) -> Self {
        let record = Rc::clone(now.get(h));
        let last = v.foreseen().map(Into::into);
        Self { edge: Edge::Window(v.window()), record, next: Vec::new(), covers, last, end }
    }

    /// The first leaf.
    pub fn leaf(&self) -> &Branch {
        self.next.first().map_or(self, Branch::leaf)
    }

    /// Its end, if it is a leaf that stays one whatever else is found.
    fn settled(&self) -> Option<End> {
        (self.next.is_empty() && self.covers).then_some(self.end)
    }

    /// Goes to the ends of all leaves that stay.
    pub fn ends(&self, each: &mut impl FnMut(End)) {
        self.settled().into_iter().for_each(&mut *each);
        self.next.iter().for_each(|branch| branch.ends(each));
    }

    /// The branches on the way to the leaf of that name, the last one first, if it stays.
    pub fn way_to(&self, serial: Serial) -> Option<Vec<&Branch>> {
        if self.settled().is_some_and(|end| end.serial == serial) {
            return Some(vec![self]);
        }
        let mut way = self.next.iter().find_map(|branch| branch.way_to(serial))?;
        way.push(self);
        Some(way)
    }

    /// The edge.
    pub fn runs(&self) -> impl Iterator<Item = Segment> + '_ {
        let (window, listed) = match &self.edge {
            Edge::Window(window) => (Some(self.record.runs.within(window)), None),
            Edge::Listed(runs) => (None, Some(runs.iter().copied())),
        };
        window.into_iter().flatten().chain(listed.into_iter().flatten())
    }

    /// Cuts the edge behind `events` events of its run number `run`.
    fn split(&mut self, run: usize, events: u32) {
        let mut runs: Vec<Segment> = self.runs().collect();
        let mut rest = runs.split_off(run);
        if events > 0 {
            runs.push(Segment { events, ..rest[0] });
            rest[0].events -= events;
        }
        self.edge = Edge::Listed(runs);
        let next = std::mem::take(&mut self.next);
        let record = Rc::clone(&self.record);
        let (edge, last) = (Edge::Listed(rest), self.last.take());
        let Self { covers, end, .. } = *self;
        self.next.push(Branch { edge, record, next, covers, last, end });
    }
}

/// How far down an edge a sequence goes.
struct Passed {
    run: usize,
    /// Of that run.
    events: u32,
    /// To its end?
    whole: bool,
    /// If not, because the next step is no weak initial (or that is not known)?
    weak_initial: Option<bool>,
}

/// Adds the sequence to a tree, given by its root's branches, unless an
/// execution that the tree holds already covers it. Was it added?
///
/// `covers` says that it certainly wakes everything that sleeps at the root.
pub(super) fn insert(
    mut branches: &mut Vec<Branch>,
    v: &mut Reversal,
    h: &History,
    now: &LazyRecord,
    mut covers: bool,
    end: End,
) -> bool {
    loop {
        if v.is_empty() {
            return false;
        }
        let mut into = None;
        for (i, branch) in branches.iter().enumerate() {
            let passed = pass(branch, v, h, now);
            // A step of which too little is known counts as no weak initial.
            covers &= passed.weak_initial.is_some();
            if (passed.run, passed.events) != (0, 0) {
                into = Some((i, passed));
                break;
            }
        }
        let Some((i, passed)) = into else {
            branches.push(Branch::new(v, h, now, covers, end));
            return true;
        };
        let branch = &mut branches[i];
        let is_leaf = passed.whole && branch.next.is_empty();
        if v.is_empty() || (is_leaf && branch.covers) {
            return false;
        }
        if !passed.whole {
            branch.split(passed.run, passed.events);
        }
        branches = &mut branch.next;
    }
}

/// Goes down an edge as long as its steps are weak initials of what is left of
/// the sequence.
fn pass(branch: &Branch, v: &mut Reversal, h: &History, now: &LazyRecord) -> Passed {
    let record = &branch.record;
    let mut runs = branch.runs().enumerate().peekable();
    let mut run = 0;
    while let Some((i, Segment { worker, events: length })) = runs.next() {
        let mut events = 0;
        while events < length {
            let is_last = runs.peek().is_none() && events + 1 == length;
            let guess = branch.last.as_deref().filter(|_| is_last);
            let known = Known {
                worker,
                accesses: guess.unwrap_or_else(|| record.get(worker, v.passed[worker as usize])),
                record: Some(record),
                guess: guess.is_some(),
            };
            let weak_initial = v.weak_initial(h, now, known);
            if weak_initial != Some(true) {
                return Passed { run: i, events, whole: false, weak_initial };
            }
            let alike = v.steps_alike(h, worker).min(length - events);
            v.passed[worker as usize] += alike;
            events += alike;
        }
        run = i + 1;
    }
    Passed { run, events: 0, whole: true, weak_initial: Some(true) }
}

/// A worker that sleeps, and its step where that was explored, as far as it cannot be
/// told from the execution at hand: what a block accesses there may be another thing.
#[derive(Clone, Debug)]
pub(super) struct Asleep {
    pub sleeper: Sleeper,
    /// What is known of the location of each of its accesses.
    places: Box<[Trait]>,
    block: Option<(Rc<Record>, Box<[SlotAccess]>)>,
}

impl Asleep {
    /// The step of `worker` that comes first from `depth` on.
    pub fn new(h: &History, worker: Worker, depth: Step, now: &LazyRecord) -> Option<Self> {
        let n = h.count_before(worker, depth);
        let accesses = h.accesses(h.nth(worker, n)?);
        let sleeper = Sleeper { worker, kinds: accesses.iter().map(|a| a.kind).collect() };
        let place = |a: &SlotAccess| match a.names_no_location() {
            true => Trait::default(),
            false => h.place(a.slot),
        };
        let places = accesses.iter().map(place).collect();
        let block = h.blocks.then(|| (Rc::clone(now.get(h)), accesses.into()));
        Some(Self { sleeper, places, block })
    }

    /// The step, to be compared with others.
    pub fn with_known<T>(&self, work: impl FnOnce(Known<'_>) -> T) -> T {
        let worker = self.sleeper.worker;
        if let Some((record, accesses)) = &self.block {
            return work(Known { worker, accesses, record: Some(record), guess: false });
        }
        let kinds = self.sleeper.kinds.iter();
        let accesses: SmallVec<[_; 4]> = kinds.map(|&kind| SlotAccess { slot: 0, kind }).collect();
        work(Known { worker, accesses: &accesses, record: None, guess: false })
    }

    /// Does it still sleep when execution, from `from` on, reaches `to`? `None`: not known.
    pub fn sleeps(&self, h: &History, now: &LazyRecord, from: Step, to: Step) -> Option<bool> {
        let n = h.count_before(self.sleeper.worker, from);
        let Some(step) = h.nth(self.sleeper.worker, n) else { return Some(false) };
        // Its own execution ends its sleep too.
        if step < to {
            return Some(false);
        }
        match &self.block {
            Some((record, accesses)) => {
                conflicts(h, now, record, accesses, (from..to).map(|s| h.accesses(s)))
                    .map(|wakes| !wakes)
            }
            None => Some(self.sleeps_at(h, step, from, to)),
        }
    }

    fn sleeps_at(&self, h: &History, step: Step, from: Step, to: Step) -> bool {
        let accesses = h.accesses(step);
        if accesses.len() != self.sleeper.kinds.len() {
            // What precedes it has changed how much it touches, so that its locations
            // are told by what is the same about them in every execution.
            let wakes = |a: &SlotAccess| {
                let mut own = self.sleeper.kinds.iter().zip(&self.places);
                own.any(|(kind, place)| a.kind.conflicts(*kind) && h.place(a.slot).fits(*place))
            };
            return !(from..to).any(|step| h.accesses(step).iter().any(wakes));
        }
        !accesses.iter().zip(&self.sleeper.kinds).any(|(a, &kind)| {
            if kind.is_memory() && a.names_no_location() {
                return from < to;
            }
            let touches = h.touches_of_any(a.slot, kind);
            touches[touches.partition_point(|t| t.step < from)..]
                .iter()
                .take_while(|t| t.step < to)
                .any(|t| t.kind.conflicts(kind))
        })
    }
}
