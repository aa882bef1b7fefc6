//! One execution: who may run, who runs next, and what has happened. A state
//! machine that runs no Python; `session` connects it to the interpreter.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::blocks::{Blocks, is_own};
use super::label::Label;
use super::locations::Locations;
use super::locks::LockKind;
use super::script::{Lead, Script};
use super::stats;
use crate::interp::types::is_coroutine;
use crate::strategy::{Candidate, Plan, Segment, Sleeper, Strategy};
use crate::trace::{Access, Kind, Loc, Pending, Trace, Worker};

/// The accesses of one event; rarely more than a handful.
pub type Accesses = SmallVec<[Access; 6]>;

/// Where an event happened: the number of the code object, the offset in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// [`crate::interp::code::Table::id`].
    pub code: u32,
    /// Offset of the instruction in bytes.
    pub offset: u32,
    /// What it was, for people: an opcode's or a primitive's name.
    pub what: &'static str,
}

impl Site {
    fn fingerprint(self) -> u32 {
        self.code.wrapping_mul(0x9e37_79b1).rotate_left(9) ^ self.offset
    }
}

/// What led to an event.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The traced functions that called the one of its site, outermost last.
    pub callers: Vec<u32>,
    /// The functions of libraries that were called at its site, innermost first.
    pub libraries: Vec<u32>,
}

impl Chain {
    /// So many callers are told.
    pub const CALLERS: usize = 3;
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not run yet.
    New,
    /// It stands before its next event, whose accesses are known.
    Paused,
    /// It has ended.
    Done,
    /// A task that waits for a future: nobody has made it ready yet.
    Waiting,
    /// Nobody has started it in this execution.
    Absent,
}

/// A worker of an execution.
#[derive(Debug)]
pub struct Slot {
    /// How far it has come.
    pub status: Status,
    /// The accesses of its next event.
    pub pending: Accesses,
    /// Where it is paused.
    pub site: Site,
    /// The functions of libraries that have been called there, innermost first, where the
    /// execution is told.
    pub within: Vec<u32>,
    /// Its next event in words, where an execution follows a script.
    pub label: Option<Label>,
    /// It stands before a lock that a notification of a condition releases.
    pub for_notification: bool,
    /// When its wait times out, in virtual seconds.
    pub deadline: Option<f64>,
    /// Its wait has timed out, and it has not noticed yet.
    pub timed_out: bool,
    /// Its wait may time out whenever it is chosen, although others can run.
    pub open: bool,
    /// How many of its waits have timed out.
    pub timeouts: u32,
    /// It waits for a token of any of these, whatever its next event is then: for
    /// what arrives at these descriptors.
    pub any_of: SmallVec<[(Loc, i32); 2]>,
    /// The execution may end without it.
    pub daemon: bool,
    /// Could an interpreter with a GIL have gone to another thread since its last event?
    pub may_switch: bool,
    /// It shall end as soon as it can.
    pub killed: bool,
    /// Where it is with a call that blocks in C, unseen.
    pub call: Call,
}

/// A worker's way through a call that blocks in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// There is none.
    None,
    /// It is inside, while others run.
    Blocks,
    /// The call has ended, and the worker has not run since.
    Ended,
}

impl Slot {
    fn absent() -> Self {
        Slot {
            status: Status::Absent,
            pending: Accesses::new(),
            site: Site { code: u32::MAX, offset: 0, what: "start" },
            within: vec![],
            label: None,
            for_notification: false,
            deadline: None,
            timed_out: false,
            open: false,
            timeouts: 0,
            any_of: SmallVec::new(),
            daemon: false,
            may_switch: true,
            killed: false,
            call: Call::None,
        }
    }

    /// Will it do nothing more?
    fn is_over(&self) -> bool {
        matches!(self.status, Status::Done | Status::Absent)
    }
}

/// A step that is part of an event: an instruction took a lock, say.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    /// Number of the event.
    pub event: usize,
    /// First of its accesses that is the step's.
    pub first: usize,
    /// Where the step happened.
    pub site: Site,
}

/// What a worker that stands before an event shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Do it; it has been recorded.
    Go,
    /// Wait: somebody else runs first.
    Wait,
}

/// What the carrier shall do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Let this worker run.
    Run(Worker),
    /// Nobody can run, but somebody who is no worker may send what one waits for.
    Outside,
    /// Nobody can run. See whether somebody who is not a worker has changed that or
    /// will ([`Execution::correct`]); if not, say so ([`Execution::alone`]).
    Look,
    /// Wait until a call that blocks a worker in C has ended.
    Await,
    /// The execution is over.
    End,
}

/// Why an execution was not played to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nobody can run any more, and not everybody has ended.
    Deadlock,
    /// All that could run is explored from here already.
    Redundant,
    /// The plan names a worker that waits in C for something unseen.
    Stalled,
    /// More than `max_branches` events.
    Branches,
    /// Longer than `timeout_per_run`.
    RunTime,
    /// A worker did not reach a scheduling point for `deadlock_timeout`.
    Stuck,
    /// Nobody can run, and a thread outside the exploration that could have changed
    /// that did not.
    Outside,
    /// Only daemon threads are left, which need not end: no cut in earnest.
    Daemons,
    /// The user interrupted, or the whole exploration ran out of time.
    Interrupted,
}

/// A counted resource.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    /// What it is.
    pub sort: Sort,
    /// Tokens that are left.
    pub tokens: u32,
    /// Who took the last one.
    pub holder: Option<Worker>,
    /// Tokens that there were before its first event.
    first: u32,
}

/// The sorts of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// It has one token.
    Lock(LockKind),
    /// It has a token for each item.
    Queue,
    /// What its tokens are is known elsewhere.
    Other,
}

/// One execution.
pub struct Execution {
    /// The workers, by index.
    pub workers: Vec<Slot>,
    /// What has happened.
    pub trace: Trace,
    /// Where each event of the trace happened.
    pub sites: Vec<Site>,
    /// Numbers of locations.
    pub locations: Locations,
    /// Locks and other resources, by location.
    pub resources: FxHashMap<Loc, Resource>,
    /// Virtual time in seconds since the execution began.
    pub clock: f64,
    /// So many waits of each worker may time out whenever they are chosen; further
    /// ones only when nobody can run.
    pub open_waits: u32,
    /// Nobody who is not a worker will help: those who wait, wait for each other.
    pub alone: bool,
    /// Has a worker released what none of them held?
    pub released_others: bool,
    /// Did a worker block in C, where nobody sees what ends the wait?
    pub blocked: bool,
    /// Has somebody of this process sent a worker something, who is no worker?
    pub answered: bool,
    /// Time jumps to the next deadline, whoever blocks in C.
    pub hurries: bool,
    /// Set when the execution is to be given up.
    pub cut: Option<Cut>,
    /// Index of the first event where it could not follow its plan.
    pub diverged: Option<(usize, Worker)>,
    /// At most so many events.
    pub max_events: usize,
    /// Values read and written, for each access, when asked for.
    pub values: Option<Vec<Option<String>>>,
    /// Then, by the index of an event's first value, what led to it.
    pub chains: FxHashMap<usize, Chain>,
    /// Steps that belong to an event that began before them, oldest first.
    pub joined: Vec<Joined>,
    /// Is each instruction of traced code an event, whatever it touches? Then a plan
    /// is a wish: what is in it for a worker that cannot run is left out.
    pub by_instruction: bool,
    /// Has the running worker had an event since it was given the turn?
    within_event: bool,
    /// Do workers switch only where threads of an interpreter with a GIL do?
    pub with_gil: bool,
    /// Then, of each event: can nothing come between it and its worker's event before?
    pub within_block: Vec<bool>,
    /// Decides who runs, where there is one.
    pub script: Option<Script>,
    /// Is a plan not followed in which a wait times out before its time or its turn?
    pub keeps_time: bool,
    current: Option<Worker>,
    segments: std::vec::IntoIter<Segment>,
    budget: u32,
    planned: bool,
    sleepers: Vec<Sleeper>,
    sleep_from: usize,
    chooses: bool,
    errand: Option<Errand>,
    asked_outside: bool,
    /// Where workers are the tasks of an event loop.
    pub blocks: Option<Blocks>,
}

/// A new thread runs up to its first event at once, while the worker that
/// started it waits: `Thread.start` returns when its thread has begun.
#[derive(Clone, Copy, Debug)]
struct Errand {
    child: Worker,
    parent: Worker,
    budget: u32,
    within_event: bool,
    begun: bool,
}

/// Deadlines that are no further apart (in seconds) are one: they are computed from
/// readings, and what these are rounded to differs by process. No multiple of a tick.
const RESOLUTION: f64 = 1.005e-4;

/// So many instructions a worker may run on when the plan is used up and each
/// instruction is an event; then it is the next one's turn, lest one that polls
/// waits for ever.
const SLICE: u32 = 10_000;

impl Execution {
    /// An execution before its first event.
    pub fn new() -> Self {
        Execution {
            workers: vec![],
            trace: Trace::new(),
            sites: vec![],
            locations: Locations::default(),
            resources: FxHashMap::default(),
            clock: 0.0,
            open_waits: 0,
            alone: false,
            released_others: false,
            blocked: false,
            answered: false,
            hurries: false,
            cut: None,
            diverged: None,
            max_events: usize::MAX,
            values: None,
            chains: FxHashMap::default(),
            joined: vec![],
            by_instruction: false,
            within_event: false,
            with_gil: false,
            within_block: vec![],
            script: None,
            keeps_time: false,
            current: None,
            segments: Vec::new().into_iter(),
            budget: 0,
            planned: true,
            sleepers: vec![],
            sleep_from: 0,
            chooses: false,
            errand: None,
            asked_outside: false,
            blocks: None,
        }
    }

    /// Gets ready to follow `plan` with this many workers.
    pub fn begin(&mut self, plan: &Plan, workers: usize, chooses: bool) {
        self.workers.clear();
        self.trace.clear();
        self.sites.clear();
        self.joined.clear();
        self.within_block.clear();
        self.resources.clear();
        self.clock = 0.0;
        self.alone = false;
        self.released_others = false;
        self.blocked = false;
        self.answered = false;
        self.hurries = false;
        self.cut = None;
        self.diverged = None;
        self.current = None;
        self.segments = plan.segments.clone().into_iter();
        self.budget = 0;
        self.within_event = false;
        self.planned = true;
        self.sleepers.clone_from(&plan.sleep);
        self.sleep_from = plan.sleep_from as usize;
        self.chooses = chooses || self.script.is_some();
        self.errand = None;
        self.asked_outside = false;
        self.chains.clear();
        if let Some(values) = &mut self.values {
            values.clear();
        }
        for worker in 0..workers {
            self.add_worker_at(worker as Worker, false);
        }
        if let Some(blocks) = &mut self.blocks {
            blocks.begin();
            self.trace.blocks = true;
            // All begin by a block, and nothing is known of it before.
            self.workers.iter_mut().for_each(|slot| slot.status = Status::Paused);
        }
    }

    /// A further worker, under this index.
    pub fn add_worker_at(&mut self, worker: Worker, daemon: bool) {
        let index = worker as usize;
        while self.workers.len() <= index {
            self.workers.push(Slot::absent());
        }
        self.workers[index] = Slot { status: Status::New, daemon, ..Slot::absent() };
    }

    /// The running worker has started `child` and is about to give its turn away
    /// until the child has begun.
    pub fn send_off(&mut self, child: Worker) {
        let Some(parent) = self.current else { return };
        self.workers[parent as usize].status = Status::Paused;
        self.workers[parent as usize].pending.clear();
        let (budget, within_event) = (self.budget, self.within_event);
        self.errand = Some(Errand { child, parent, budget, within_event, begun: false });
    }

    /// The running worker begins a wait that ends so many virtual seconds from now.
    /// May it time out whenever it is chosen?
    pub fn begin_wait(&mut self, timeout: f64) -> bool {
        let Some(current) = self.current else { return false };
        let slot = &mut self.workers[current as usize];
        slot.deadline = Some(self.clock + timeout);
        slot.open = slot.timeouts < self.open_waits;
        slot.open
    }

    /// The wait of a worker is over: it goes on, and does not time out any more.
    pub fn end_wait(&mut self, worker: Worker) {
        let slot = &mut self.workers[worker as usize];
        slot.deadline = None;
        slot.open = false;
        slot.any_of.clear();
    }

    /// The running worker blocks in C, and others may run.
    pub fn leave(&mut self) {
        let Some(current) = self.current else { return };
        let slot = &mut self.workers[current as usize];
        slot.status = Status::Paused;
        slot.pending.clear();
        slot.call = Call::Blocks;
        self.blocked = true;
    }

    /// The call has ended that blocked this worker.
    pub fn come_back(&mut self, worker: Worker) {
        self.workers[worker as usize].call = Call::Ended;
    }

    /// How many other workers have not ended.
    pub fn unfinished_but(&self, worker: Worker) -> usize {
        let but = |(index, slot): &(usize, &Slot)| *index != worker as usize && !slot.is_over();
        self.workers.iter().enumerate().filter(but).count()
    }

    /// The workers that block in C.
    pub fn blocking(&self) -> Vec<Worker> {
        (0..self.workers.len() as Worker).filter(|worker| self.blocks(*worker)).collect()
    }

    fn blocks(&self, worker: Worker) -> bool {
        let slot = &self.workers[worker as usize];
        slot.call == Call::Blocks && !slot.is_over()
    }

    /// Can any other worker run?
    pub fn others_can_run(&self, worker: Worker) -> bool {
        (0..self.workers.len() as Worker).any(|other| other != worker && self.is_enabled(other))
    }

    /// Who runs.
    pub fn current(&self) -> Option<Worker> {
        self.current
    }

    /// The running worker stands before an event with these accesses. On
    /// [`Turn::Go`] the event is recorded and the worker does it now.
    #[inline]
    pub fn before_event(&mut self, accesses: &[Access], site: Site) -> Turn {
        if self.budget > 0 && self.cut.is_none() && self.is_possible(accesses) {
            self.budget -= 1;
            self.record(accesses, site);
            return Turn::Go;
        }
        self.pause(accesses, site)
    }

    /// The same for an instruction: its accesses are drafted in the trace, all of them
    /// to memory.
    #[inline]
    pub fn before_instruction(&mut self, site: Site) -> Turn {
        match self.current {
            Some(current) if self.budget > 0 && self.cut.is_none() => {
                self.budget -= 1;
                self.commit(current, site);
                Turn::Go
            }
            _ => {
                let accesses = Accesses::from_slice(self.trace.drafted());
                self.trace.discard();
                self.pause(&accesses, site)
            }
        }
    }

    /// The running worker stands before a step that is no instruction. Where each
    /// instruction is an event, the step belongs to the one that it is part of.
    pub fn before_step(&mut self, accesses: &[Access], site: Site) -> Turn {
        if self.joins_event() && self.cut.is_none() && self.is_possible(accesses) {
            self.extend(accesses, site);
            return Turn::Go;
        }
        let turn = self.before_event(accesses, site);
        if turn == Turn::Go {
            self.note_no_values(accesses.len());
        }
        turn
    }

    fn joins_event(&self) -> bool {
        self.by_instruction && self.within_event
    }

    /// Adds accesses to the last event, which is the running worker's.
    fn extend(&mut self, accesses: &[Access], site: Site) {
        let (event, first) = match self.trace.events().last() {
            Some(last) => (self.trace.len() - 1, last.len as usize),
            None => return,
        };
        if !self.trace.extend(accesses) {
            return;
        }
        self.joined.push(Joined { event, first, site });
        self.note_no_values(accesses.len());
        if let Some(current) = self.current {
            accesses.iter().for_each(|access| self.count_tokens(*access, current));
        }
    }

    fn note_no_values(&mut self, accesses: usize) {
        if let Some(values) = &mut self.values {
            values.extend((0..accesses).map(|_| None));
        }
    }

    #[cold]
    fn pause(&mut self, accesses: &[Access], site: Site) -> Turn {
        if self.blocks.is_some() {
            return self.in_block(accesses, site);
        }
        let Some(current) = self.current else { return Turn::Go };
        let slot = &mut self.workers[current as usize];
        slot.status = Status::Paused;
        slot.pending = accesses.into();
        slot.site = site;
        if self.script.is_some() {
            let label = Label::of(self, accesses, site);
            self.workers[current as usize].label = Some(label);
        }
        Turn::Wait
    }

    /// A step inside of a block. What would wait here waits for good: no other
    /// task runs before the block ends. Only time can pass.
    fn in_block(&mut self, accesses: &[Access], site: Site) -> Turn {
        let Some(current) = self.current else { return Turn::Go };
        if !self.is_possible(accesses) {
            if !self.time_out(current) {
                self.trace.pending.push(Pending { worker: current, accesses: accesses.to_vec() });
                self.workers[current as usize].site = site;
                self.cut.get_or_insert(Cut::Deadlock);
                // The block ends here, and belongs to the schedule.
                let blocks = self.blocks.as_mut();
                let closed = blocks.and_then(|blocks| {
                    accesses.iter().for_each(|access| blocks.touch(access.loc, access.kind));
                    blocks.close()
                });
                if let Some((site, accesses)) = closed {
                    self.end_block(&accesses, site);
                }
            }
            return Turn::Wait;
        }
        for access in accesses {
            self.count_tokens(*access, current);
        }
        let values = self.values.as_ref().map(Vec::len);
        let locations = &self.locations;
        // A coroutine belongs to the task that awaits it.
        let is_its = |loc| locations.place(loc).is_some_and(|p| is_coroutine(p.object.borrow()));
        if let Some(blocks) = &mut self.blocks {
            let shared = accesses.iter().filter(|access| !is_its(access.loc));
            shared.for_each(|access| blocks.touch(access.loc, access.kind));
            blocks.detail(current, self.trace.len(), accesses, site, values);
        }
        if let Some(mut script) = self.script.take() {
            if is_own(site) {
                script.note(Label::of(self, accesses, site));
            }
            self.script = Some(script);
        }
        Turn::Go
    }

    /// Is it of interest what the blocks consist of?
    pub fn tells_blocks(&self) -> bool {
        self.blocks.is_some() && (self.values.is_some() || self.script.is_some())
    }

    /// The block of the running task is over: an event like any other.
    pub fn end_block(&mut self, accesses: &[Access], site: Site) {
        let Some(current) = self.current else { return };
        for (loc, known) in self.locations.take_fresh() {
            self.trace.set_trait(loc, known);
        }
        self.trace.push(current, site.fingerprint(), accesses);
        self.sites.push(site);
        if let Some(script) = &mut self.script {
            script.end_block(current);
        }
        if self.trace.len() >= self.max_events && self.cut.is_none() {
            self.cut = Some(Cut::Branches);
        }
    }

    /// May the running worker go on with its next block, without a decision?
    pub fn goes_on(&mut self) -> bool {
        let (Some(current), None) = (self.current, self.cut) else { return false };
        let enabled = self.is_enabled(current);
        self.blocks.as_mut().is_some_and(|blocks| {
            let goes_on = enabled && blocks.budget > 0;
            blocks.budget -= u32::from(goes_on);
            goes_on
        })
    }

    /// Appends an event that the running worker was not asked about: the end of a
    /// timed wait.
    pub fn record_unasked(&mut self, accesses: &[Access], site: Site) {
        if self.joins_event() {
            return self.extend(accesses, site);
        }
        self.budget = self.budget.saturating_sub(1);
        self.record(accesses, site);
        self.note_no_values(accesses.len());
    }

    /// Appends an event of the running worker to the trace.
    pub fn record(&mut self, accesses: &[Access], site: Site) {
        let Some(current) = self.current else { return };
        for access in accesses {
            self.count_tokens(*access, current);
        }
        accesses.iter().for_each(|access| self.trace.draft(*access));
        self.commit(current, site);
    }

    /// Appends the event whose accesses are drafted.
    #[inline]
    fn commit(&mut self, current: Worker, site: Site) {
        self.within_event = true;
        if self.locations.has_fresh() {
            self.tell_traits();
        }
        if !self.sleepers.is_empty() && self.trace.len() >= self.sleep_from {
            self.wake(current, &Accesses::from_slice(self.trace.drafted()));
        }
        self.trace.commit(current, site.fingerprint());
        self.sites.push(site);
        if self.with_gil {
            let slot = &mut self.workers[current as usize];
            self.within_block.push(!std::mem::take(&mut slot.may_switch));
        }
        if self.trace.len() >= self.max_events && self.cut.is_none() {
            self.cut = Some(Cut::Branches);
        }
    }

    /// The running worker's next event needs a token of any of these.
    pub fn wait_for_any(&mut self, resources: impl Iterator<Item = (Loc, i32)>) {
        if let Some(current) = self.current {
            self.workers[current as usize].any_of = resources.collect();
        }
    }

    fn may_come_from_outside(&self, worker: Worker) -> bool {
        !self.asked_outside && !self.workers[worker as usize].any_of.is_empty()
    }

    /// The descriptors that workers wait for, with their locations.
    pub fn descriptors(&self) -> impl Iterator<Item = (Loc, i32)> {
        let waiting = self.workers.iter().filter(|slot| slot.status == Status::Paused);
        waiting.flat_map(|slot| slot.any_of.iter().copied())
    }

    /// How many virtual seconds are left until the next wait times out.
    pub fn patience(&self) -> Option<f64> {
        let worker = self.earliest(0..self.workers.len() as Worker)?;
        self.workers[worker as usize].deadline.map(|deadline| deadline - self.clock)
    }

    /// Nobody outside has sent anything in time.
    pub fn give_up_outside(&mut self) {
        self.asked_outside = true;
    }

    /// Somebody who is no worker has given this resource a token, if it has none.
    pub fn find_token(&mut self, loc: Loc) {
        if self.resources.get(&loc).is_some_and(|resource| resource.tokens == 0) {
            self.correct(loc, Sort::Other, 1);
        }
    }

    /// Somebody who is no worker has taken all tokens of this resource.
    pub fn lose_tokens(&mut self, loc: Loc) {
        if let Some(resource) = self.resources.get_mut(&loc) {
            resource.tokens = 0;
        }
    }

    #[cold]
    fn tell_traits(&mut self) {
        for (loc, known) in self.locations.take_fresh() {
            self.trace.set_trait(loc, known);
        }
    }

    fn count_tokens(&mut self, access: Access, worker: Worker) {
        match access.kind {
            Kind::Acquire | Kind::TryAcquire => {
                let Some(resource) = self.resources.get_mut(&access.loc) else { return };
                resource.tokens = resource.tokens.saturating_sub(1);
                resource.holder = Some(worker);
            }
            Kind::Release => {
                let Some(resource) = self.resources.get_mut(&access.loc) else { return };
                let lock = matches!(resource.sort, Sort::Lock(_));
                self.released_others |= lock && resource.holder.is_none();
                resource.tokens += 1;
                resource.holder = None;
            }
            _ => {}
        }
    }

    /// A resource has so many tokens in reality: it is new, or somebody who is not a
    /// worker took or gave some. To the trace they were so from the start.
    pub fn correct(&mut self, loc: Loc, sort: Sort, tokens: u32) {
        let new = Resource { sort, tokens: 1, holder: None, first: 1 };
        let resource = self.resources.entry(loc).or_insert(new);
        if resource.tokens != tokens {
            resource.first = (resource.first + tokens).saturating_sub(resource.tokens);
            resource.tokens = tokens;
            resource.holder = None;
            self.trace.set_tokens(loc, resource.first);
        }
    }

    /// The workers that wait for a token of a resource, and the resource.
    pub fn waits(&self) -> impl Iterator<Item = (Worker, Loc, Resource)> {
        self.workers.iter().enumerate().flat_map(move |(index, slot)| {
            let pending = slot.pending.iter().filter(|_| slot.status == Status::Paused);
            pending.filter(|access| access.kind == Kind::Acquire).filter_map(move |access| {
                Some((index as Worker, access.loc, *self.resources.get(&access.loc)?))
            })
        })
    }

    /// Can an event with these accesses happen now?
    #[inline]
    pub fn is_possible(&self, accesses: &[Access]) -> bool {
        accesses.iter().all(|access| match access.kind {
            Kind::Acquire => self.resources.get(&access.loc).is_none_or(|r| r.tokens > 0),
            Kind::Join => self.is_over(access.loc as Worker),
            Kind::Advance => false,
            _ => true,
        })
    }

    /// Will this worker do nothing more?
    pub fn is_over(&self, worker: Worker) -> bool {
        self.workers.get(worker as usize).is_none_or(Slot::is_over)
    }

    /// Can this worker run?
    pub fn is_enabled(&self, worker: Worker) -> bool {
        let slot = &self.workers[worker as usize];
        match slot.status {
            Status::New => true,
            Status::Paused if slot.call == Call::Blocks => false,
            Status::Paused if slot.timed_out || slot.open => true,
            Status::Paused if slot.any_of.is_empty() => self.is_possible(&slot.pending),
            Status::Paused => {
                let has_token = |loc| self.resources.get(loc).is_some_and(|r| r.tokens > 0);
                slot.any_of.iter().any(|(loc, _)| has_token(loc))
            }
            Status::Done | Status::Waiting | Status::Absent => false,
        }
    }

    /// Can it run only by timing out?
    fn would_time_out(&self, slot: &Slot) -> bool {
        slot.open && !slot.timed_out && !self.is_possible(&slot.pending)
    }

    fn is_asleep(&self, worker: Worker) -> bool {
        self.sleepers.iter().any(|sleeper| sleeper.worker == worker)
    }

    /// Wakes the sleepers whose next step depends on this event.
    fn wake(&mut self, current: Worker, accesses: &[Access]) {
        if self.is_asleep(current) && self.cut.is_none() {
            self.cut = Some(Cut::Redundant);
        }
        let workers = &self.workers;
        self.sleepers.retain(|sleeper| {
            let pending = &workers[sleeper.worker as usize].pending;
            !depends(accesses, pending, &sleeper.kinds)
        });
    }

    /// The running worker has ended.
    pub fn finish(&mut self, worker: Worker) {
        self.workers[worker as usize].status = Status::Done;
        self.budget = 0;
    }

    /// The event loop has ended, and all of its tasks.
    pub fn finish_all(&mut self) {
        self.workers.iter_mut().for_each(|slot| slot.status = Status::Done);
    }

    /// Decides who runs next.
    pub fn next(&mut self, strategy: &mut dyn Strategy) -> Next {
        if self.cut.is_some() {
            return self.next_to_kill();
        }
        if let Some(errand) = &mut self.errand {
            let errand = *errand;
            if errand.begun {
                self.errand = None;
                let next = self.run(errand.parent, errand.budget);
                self.within_event = errand.within_event;
                return next;
            }
            self.errand = Some(Errand { begun: true, ..errand });
            return self.run(errand.child, 0);
        }
        if self.trace.len() == self.sleep_from
            && let Some(worker) = self.unknown(|this, worker| this.is_asleep(worker))
        {
            return self.run(worker, 0);
        }
        let plan_ends = self.planned;
        if self.planned {
            if let Some(next) = self.next_planned() {
                return next;
            }
            self.planned = false;
            self.segments = Vec::new().into_iter();
        }
        self.next_freely(strategy, plan_ends)
    }

    /// What the plan says next, if it can be done.
    fn next_planned(&mut self) -> Option<Next> {
        if self.by_instruction && !self.is_anybody_enabled() {
            self.let_time_pass();
        }
        loop {
            let segment = self.rest_of_segment().or_else(|| self.segments.next())?;
            let known = (segment.worker as usize) < self.workers.len();
            if known && self.is_enabled(segment.worker) {
                return Some(self.run(segment.worker, segment.events));
            }
            if !self.by_instruction {
                if known && self.blocks(segment.worker) {
                    // To be found as the rest of its segment.
                    (self.current, self.budget) = (Some(segment.worker), segment.events);
                    return Some(Next::Await);
                }
                if known && self.may_come_from_outside(segment.worker) {
                    (self.current, self.budget) = (Some(segment.worker), segment.events);
                    return Some(Next::Outside);
                }
                let in_time = !self.keeps_time || self.is_next_to_time_out(segment.worker);
                if known && in_time && self.time_out(segment.worker) {
                    return Some(self.run(segment.worker, segment.events));
                }
                self.diverged = Some((self.trace.len(), segment.worker));
                return None;
            }
            self.budget = 0;
        }
    }

    /// Is it the plan that says who runs now?
    pub fn is_planned(&self) -> bool {
        self.planned
    }

    /// A worker that waits in the middle of its segment goes on with it, when its
    /// wait has timed out.
    fn rest_of_segment(&self) -> Option<Segment> {
        let budget = self.blocks.as_ref().map_or(self.budget, |blocks| blocks.budget);
        let worker = self.current.filter(|_| budget > 0)?;
        Some(Segment { worker, events: budget })
    }

    /// One of these workers that has not come to its first event yet: what a sleeper
    /// or a candidate is about to do is known only then.
    fn unknown(&self, among: impl Fn(&Self, Worker) -> bool) -> Option<Worker> {
        let mut all = (0..).zip(&self.workers);
        let found = all.find(|(worker, slot)| slot.status == Status::New && among(self, *worker));
        found.map(|(worker, _)| worker)
    }

    fn next_freely(&mut self, strategy: &mut dyn Strategy, plan_ends: bool) -> Next {
        if self.chooses
            && let Some(worker) = self.unknown(|_, _| true)
        {
            return self.run(worker, 0);
        }
        if let Some(mut script) = self.script.take() {
            let is_enabled = |worker| self.is_enabled(worker);
            let lead = match &self.blocks {
                Some(_) => script.lead_block(&self.workers, is_enabled),
                None => script.lead(&self.workers, self.current, self.trace.len(), is_enabled),
            };
            self.script = Some(script);
            return match lead {
                Lead::Run(worker) => self.run(worker, 1),
                Lead::Nobody => self.nobody_can_run(strategy),
                Lead::Lost => {
                    self.cut = Some(Cut::Redundant);
                    self.next_to_kill()
                }
            };
        }
        if self.chooses {
            return self.next_by_choice(strategy);
        }
        let able = |worker: &Worker| self.is_enabled(*worker) && !self.is_asleep(*worker);
        let goes_on =
            |worker: &Worker| able(worker) && !self.would_time_out(&self.workers[*worker as usize]);
        let count = self.workers.len() as Worker;
        // By instruction it goes round and round, each worker for a slice.
        let in_turn = self.by_instruction && !plan_ends;
        let stays = self.current.filter(|worker| goes_on(worker) && !in_turn);
        let from = self.current.filter(|_| in_turn).map_or(0, |current| current + 1);
        let first = stays.or_else(|| (0..count).map(|nth| (from + nth) % count).find(goes_on));
        match first.or_else(|| self.earliest((0..count).filter(able))) {
            Some(worker) => {
                let budget = if self.sleepers.is_empty() { self.longest_run() } else { 1 };
                self.run(worker, budget)
            }
            None => self.nobody_can_run(strategy),
        }
    }

    /// Events that a worker may run on for where nothing else is planned.
    fn longest_run(&self) -> u32 {
        if self.by_instruction { SLICE } else { u32::MAX }
    }

    /// Must nothing come before this worker's next event?
    fn is_within_block(&self, worker: Worker) -> bool {
        self.with_gil && !self.workers[worker as usize].may_switch && self.is_enabled(worker)
    }

    fn next_by_choice(&mut self, strategy: &mut dyn Strategy) -> Next {
        if let Some(current) = self.current.filter(|&worker| self.is_within_block(worker)) {
            return self.run(current, 1);
        }
        let candidates: SmallVec<[Candidate<'_>; 8]> = (0..self.workers.len() as Worker)
            .filter(|worker| self.is_enabled(*worker))
            .map(|worker| Candidate { worker, next: &self.workers[worker as usize].pending })
            .collect();
        let chosen = match candidates.is_empty() {
            true => None,
            false => Some(strategy.choose(self.current, &candidates)),
        };
        drop(candidates);
        match chosen {
            Some(worker) => self.run(worker, 1),
            None => self.nobody_can_run(strategy),
        }
    }

    fn nobody_can_run(&mut self, strategy: &mut dyn Strategy) -> Next {
        if self.workers.iter().all(Slot::is_over) {
            return Next::End;
        }
        if self.is_anybody_enabled() && self.blocks.is_some() {
            // What a block will do is not known, so not whether it is still asleep.
            self.sleepers.clear();
            return self.next_freely(strategy, false);
        }
        if self.is_anybody_enabled() {
            // All that can run are asleep.
            self.note_pending();
            self.cut = Some(Cut::Redundant);
            return self.next_to_kill();
        }
        if self.workers.iter().all(|slot| slot.is_over() || slot.daemon) {
            self.cut = Some(Cut::Daemons);
            return Next::End;
        }
        if !self.hurries && !self.blocking().is_empty() {
            return Next::Await;
        }
        if !self.asked_outside && self.descriptors().next().is_some() {
            return Next::Outside;
        }
        if !std::mem::take(&mut self.alone) {
            return Next::Look;
        }
        if let Some(worker) = self.let_time_pass() {
            let free = !self.chooses && self.sleepers.is_empty();
            return self.run(worker, if free { self.longest_run() } else { 1 });
        }
        self.note_pending();
        self.cut = Some(Cut::Deadlock);
        self.next_to_kill()
    }

    fn is_anybody_enabled(&self) -> bool {
        (0..self.workers.len() as Worker).any(|worker| self.is_enabled(worker))
    }

    /// Whose wait of these ends first; of waits that end together, the first worker's.
    fn earliest(&self, workers: impl Iterator<Item = Worker>) -> Option<Worker> {
        let waits: SmallVec<[(f64, Worker); 8]> = workers
            .filter_map(|worker| {
                let slot = &self.workers[worker as usize];
                slot.deadline.filter(|_| !slot.is_over()).map(|deadline| (deadline, worker))
            })
            .collect();
        let first = waits.iter().map(|wait| wait.0).min_by(f64::total_cmp)?;
        waits.iter().find(|wait| wait.0 <= first + RESOLUTION).map(|wait| wait.1)
    }

    /// Does time jump to the end of this worker's wait?
    fn is_next_to_time_out(&self, worker: Worker) -> bool {
        let earliest = || self.earliest(0..self.workers.len() as Worker);
        !self.is_anybody_enabled() && earliest() == Some(worker)
    }

    /// Lets the earliest wait time out, and says whose it is.
    fn let_time_pass(&mut self) -> Option<Worker> {
        let worker = self.earliest(0..self.workers.len() as Worker)?;
        self.time_out(worker);
        Some(worker)
    }

    /// Lets the wait of this worker time out, if it has a deadline.
    fn time_out(&mut self, worker: Worker) -> bool {
        let slot = &mut self.workers[worker as usize];
        let Some(deadline) = slot.deadline else { return false };
        slot.timed_out = true;
        if !slot.open {
            self.clock = self.clock.max(deadline);
        }
        true
    }

    fn note_pending(&mut self) {
        for (index, slot) in self.workers.iter().enumerate() {
            if slot.status == Status::Paused {
                let accesses = slot.pending.to_vec();
                self.trace.pending.push(Pending { worker: index as Worker, accesses });
            }
        }
    }

    fn run(&mut self, worker: Worker, budget: u32) -> Next {
        if self.would_time_out(&self.workers[worker as usize]) {
            self.time_out(worker);
        }
        if self.current.replace(worker).is_some_and(|before| before != worker) {
            stats::SWITCHES.add(1);
        }
        self.within_event = false;
        match &mut self.blocks {
            Some(blocks) => blocks.budget = budget,
            None => self.budget = budget,
        }
        self.asked_outside = false;
        self.hurries = false;
        let slot = &mut self.workers[worker as usize];
        if slot.call == Call::Ended {
            slot.call = Call::None;
            // Nobody knows what has ended its wait: all that has happened may have.
            let site = slot.site;
            self.record_unasked(&[Access { loc: 0, kind: Kind::Advance }], site);
            if let Some(values) = &mut self.values {
                values.push(None);
            }
        }
        Next::Run(worker)
    }

    /// Ends the workers of an execution that is given up, one by one.
    fn next_to_kill(&mut self) -> Next {
        if self.blocks.is_some() {
            // All of them live in one fiber.
            let Some(worker) = self.workers.iter().position(|slot| !slot.is_over()) else {
                return Next::End;
            };
            self.workers.iter_mut().for_each(|slot| slot.killed = true);
            self.current = Some(worker as Worker);
            return Next::Run(worker as Worker);
        }
        for (index, slot) in self.workers.iter_mut().enumerate() {
            match slot.status {
                Status::New => slot.status = Status::Done,
                Status::Paused if slot.call == Call::Blocks => {}
                Status::Paused => {
                    slot.killed = true;
                    self.current = Some(index as Worker);
                    return Next::Run(index as Worker);
                }
                Status::Done | Status::Waiting | Status::Absent => {}
            }
        }
        if self.blocking().is_empty() { Next::End } else { Next::Await }
    }

    /// Will time jump, if nobody comes back?
    pub fn has_deadline(&self) -> bool {
        self.cut.is_none()
            && self.workers.iter().any(|slot| !slot.is_over() && slot.deadline.is_some())
    }

    /// The worker of each event that touched anything.
    pub fn ordering(&self) -> Vec<Worker> {
        let events = self.trace.events().iter();
        events.filter(|event| event.len > 0).map(|event| event.worker).collect()
    }

    /// The worker of each event: the schedule.
    pub fn schedule(&self) -> Vec<Worker> {
        self.trace.events().iter().map(|event| event.worker).collect()
    }
}

impl Default for Execution {
    fn default() -> Self {
        Self::new()
    }
}

/// Is an event with accesses `event` dependent with a step of another worker
/// that touches `step`, with `kinds` as they were when the step was explored?
fn depends(event: &[Access], step: &[Access], kinds: &[Kind]) -> bool {
    if step.len() != kinds.len() {
        return true;
    }
    event.iter().any(|a| {
        a.kind == Kind::Advance
            || step.iter().zip(kinds).any(|(b, kind)| {
                let known = a.loc == b.loc && b.kind.is_memory() | kind.is_memory();
                known && a.kind.conflicts(*kind)
            })
    })
}
