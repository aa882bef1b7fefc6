//! One execution, indexed: who did what when, and what happened before what.
//!
//! *Happens-before* is the smallest partial order that keeps program order, the
//! order of conflicting accesses, starts before the first event of the started
//! worker and joins after the last event of the joined one. Two executions with
//! the same happens-before are the same Mazurkiewicz trace (Mazurkiewicz 1987).
//! It is kept in vector clocks (Fidge 1988, Mattern 1989), and only at steps
//! that touch what another worker touches too: all others inherit the clock of
//! their worker.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::strategy::Segment;
use crate::trace::{Access, Kind, Loc, Trace, Trait, Worker};

/// Index of a step: an event of the trace, or behind them, in the order of
/// [`Trace::pending`], a step that was never executed.
pub(super) type Step = u32;

/// "There is none", for indices.
pub(super) const NONE: u32 = u32::MAX;

/// An access, with its location renumbered densely.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotAccess {
    pub slot: u32,
    pub kind: Kind,
}

impl SlotAccess {
    pub fn names_no_location(self) -> bool {
        matches!(self.kind, Kind::Start | Kind::Join)
    }
}

/// One touch of a location that more than one worker touches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touch {
    pub step: Step,
    pub kind: Kind,
    /// Tokens of the resource just before.
    pub tokens: u32,
}

/// What is known of one location.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    owner: Worker,
    shared: bool,
    written: bool,
    /// Does anybody take or give tokens?
    pub(super) is_resource: bool,
    count: u32,
    /// Its touches, in [`History::touches`].
    start: u32,
    /// Where its next touch goes; while races are computed: its next touch.
    pub(super) cursor: u32,
    pub(super) last_write: u32,
    pub(super) tokens: u32,
    /// What was told of it.
    pub(super) known: Trait,
}

/// A run of one worker, up to where the next one starts.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: Step,
    worker: Worker,
    /// Position of its first event among those of its worker.
    ordinal: u32,
}

/// The maximal runs of one worker, in the order in which they were executed.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
    end: Step,
}

/// A part of an execution: of every worker some consecutive events, and maybe one
/// event more.
#[derive(Debug)]
pub(super) struct Window {
    /// Nothing before this step is part of it.
    pub from: Step,
    /// For each worker, from which of its events on, and until before which.
    pub bounds: SmallVec<[(u32, u32); 4]>,
    /// Whose event comes after all that.
    pub last: Option<Worker>,
}

impl Runs {
    /// Where each run starts, and whose it is.
    pub fn starts(&self) -> impl Iterator<Item = (Step, Worker)> + '_ {
        self.runs.iter().map(|run| (run.start, run.worker))
    }

    /// The runs of the first so many events.
    pub fn until(&self, end: Step) -> impl Iterator<Item = Segment> + '_ {
        let runs = self.runs.iter().take_while(move |run| run.start < end);
        runs.enumerate().map(move |(at, run)| {
            let events = self.end_of(at).min(end) - run.start;
            Segment { worker: run.worker, events }
        })
    }

    fn end_of(&self, at: usize) -> Step {
        self.runs.get(at + 1).map_or(self.end, |run| run.start)
    }

    /// The runs of a window.
    pub fn within<'a>(&'a self, window: &'a Window) -> impl Iterator<Item = Segment> + 'a {
        self.within_few(window, usize::MAX)
    }

    /// The same, but for those that are in none of so many runs of the execution.
    pub fn within_few<'a>(
        &'a self,
        window: &'a Window,
        few: usize,
    ) -> impl Iterator<Item = Segment> + 'a {
        let mut left: u32 = window.bounds.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
        let mut at = self.runs.partition_point(|run| run.start <= window.from).max(1) - 1;
        let end = at.saturating_add(few);
        let mut last = window.last;
        std::iter::from_fn(move || {
            let mut found: Option<Segment> = None;
            while left > 0 && at < end {
                let Run { start, worker, ordinal } = self.runs[at];
                let (from, to) = window.bounds[worker as usize];
                let (from, to) = (from.max(ordinal), to.min(ordinal + self.end_of(at) - start));
                if from < to {
                    match &mut found {
                        None => found = Some(Segment { worker, events: to - from }),
                        Some(found) if found.worker == worker => found.events += to - from,
                        Some(_) => return found,
                    }
                    left -= to - from;
                }
                at += 1;
            }
            match (&mut found, last) {
                (Some(found), Some(worker)) if found.worker != worker => {}
                (found, Some(worker)) => {
                    found.get_or_insert(Segment { worker, events: 0 }).events += 1;
                    last = None;
                }
                (_, None) => {}
            }
            found
        })
    }
}

/// Maps the trace's locations to dense slots.
#[derive(Debug, Default)]
struct Slots {
    dense: Vec<u32>,
    sparse: FxHashMap<Loc, u32>,
    is_dense: bool,
}

impl Slots {
    fn reset(&mut self, max: Loc, accesses: usize) {
        self.is_dense = (max as usize) < 4 * accesses + 1024;
        self.dense.clear();
        self.sparse.clear();
        if self.is_dense {
            self.dense.resize(max as usize + 1, NONE);
        }
    }

    fn entry(&mut self, loc: Loc) -> &mut u32 {
        if self.is_dense {
            &mut self.dense[loc as usize]
        } else {
            self.sparse.entry(loc).or_insert(NONE)
        }
    }
}

/// The index of one execution. Its memory is reused for the next one.
#[derive(Debug, Default)]
pub(super) struct History {
    pub workers: usize,
    /// See [`Trace::blocks`].
    pub blocks: bool,
    /// Number of executed steps.
    pub events: u32,
    worker: Vec<Worker>,
    ordinal: Vec<u32>,
    first: Vec<u32>,
    accesses: Vec<SlotAccess>,
    steps_of: Vec<Vec<Step>>,
    executed: Vec<u32>,
    /// Which workers another one starts.
    started: Vec<bool>,
    /// The steps at which time jumped.
    advances: Vec<Step>,
    pub runs: Runs,
    slot_of: Slots,
    pub(super) slots: Vec<Slot>,
    pub(super) touches: Vec<Touch>,
    pub(super) clock_at: Vec<u32>,
    pub(super) clocks: Vec<u32>,
    pub(super) clocked: Vec<Vec<Step>>,
}

impl History {
    /// Takes in a trace. Clocks are filled in by [`super::races`].
    pub fn load(&mut self, trace: &Trace) {
        self.clear();
        let names_worker = |a: &Access| matches!(a.kind, Kind::Start | Kind::Join);
        let mut max = 0;
        // Branches that wait may name workers that this execution never started.
        let mut workers = self.workers;
        let mut accesses = 0;
        let pending = trace.pending.iter().map(|p| (p.worker, p.accesses.as_slice()));
        let events = trace.events().iter().map(|e| (e.worker, trace.accesses_of(e)));
        for (worker, list) in events.clone().chain(pending.clone()) {
            workers = workers.max(worker as usize + 1);
            accesses += list.len();
            for access in list {
                if names_worker(access) {
                    workers = workers.max(access.loc as usize + 1);
                } else if access.kind != Kind::Advance {
                    max = max.max(access.loc);
                }
            }
        }
        self.workers = workers;
        self.blocks = trace.blocks;
        self.events = trace.len() as u32;
        self.runs.end = self.events;
        self.slot_of.reset(max, accesses);
        self.started.resize(workers, false);
        if self.steps_of.len() < workers {
            self.steps_of.resize_with(workers, Vec::new);
            self.clocked.resize_with(workers, Vec::new);
        }
        for (worker, list) in events {
            self.add_step(worker, list);
        }
        self.executed.extend(self.steps_of[..workers].iter().map(|s| s.len() as u32));
        for (worker, list) in pending {
            self.add_step(worker, list);
        }
        self.first.push(self.accesses.len() as u32);
        for &(loc, tokens) in trace.tokens() {
            if let Some(slot) = self.known_slot(loc) {
                self.slots[slot as usize].tokens = tokens;
                self.slots[slot as usize].is_resource = true;
            }
        }
        for &(loc, known) in trace.traits() {
            if let Some(slot) = self.known_slot(loc) {
                self.slots[slot as usize].known = known;
            }
        }
        self.index_touches();
    }

    fn clear(&mut self) {
        self.worker.clear();
        self.ordinal.clear();
        self.first.clear();
        self.accesses.clear();
        self.steps_of.iter_mut().for_each(Vec::clear);
        self.executed.clear();
        self.started.clear();
        self.advances.clear();
        self.runs.runs.clear();
        self.slots.clear();
        self.touches.clear();
        self.clock_at.clear();
        self.clocks.clear();
        self.clocked.iter_mut().for_each(Vec::clear);
    }

    fn known_slot(&mut self, loc: Loc) -> Option<u32> {
        if self.slot_of.is_dense && loc as usize >= self.slot_of.dense.len() {
            return None;
        }
        Some(*self.slot_of.entry(loc)).filter(|&slot| slot != NONE)
    }

    fn add_step(&mut self, worker: Worker, accesses: &[Access]) {
        let step = self.worker.len() as Step;
        if self.worker.last() != Some(&worker) && step < self.events {
            let ordinal = self.steps_of[worker as usize].len() as u32;
            self.runs.runs.push(Run { start: step, worker, ordinal });
        }
        self.worker.push(worker);
        self.ordinal.push(self.steps_of[worker as usize].len() as u32);
        self.steps_of[worker as usize].push(step);
        self.first.push(self.accesses.len() as u32);
        for access in accesses {
            if access.kind == Kind::Start {
                self.started[access.loc as usize] = true;
            }
            let slot = match access.kind {
                // Not kept as an access, so that a step has equally many whether
                // it times out or not.
                Kind::Advance => {
                    self.advances.push(step);
                    continue;
                }
                Kind::Start | Kind::Join => access.loc,
                _ => self.touch(worker, access, step < self.events),
            };
            self.accesses.push(SlotAccess { slot, kind: access.kind });
        }
    }

    fn touch(&mut self, worker: Worker, access: &Access, executed: bool) -> u32 {
        let entry = self.slot_of.entry(access.loc);
        if *entry == NONE {
            *entry = self.slots.len() as u32;
            self.slots.push(Slot {
                owner: worker,
                shared: false,
                written: false,
                is_resource: false,
                count: 0,
                start: 0,
                cursor: 0,
                last_write: NONE,
                tokens: 1,
                known: Trait::default(),
            });
        }
        let index = *entry;
        let slot = &mut self.slots[index as usize];
        slot.shared |= slot.owner != worker;
        slot.written |= !matches!(access.kind, Kind::Read | Kind::Unread);
        slot.is_resource |= matches!(access.kind, Kind::Acquire | Kind::TryAcquire | Kind::Release);
        slot.count += (executed && !matches!(access.kind, Kind::None | Kind::Unread)) as u32;
        index
    }

    /// Sorts the touches of shared locations by location.
    fn index_touches(&mut self) {
        let mut total = 0;
        for slot in &mut self.slots {
            slot.start = total;
            slot.cursor = total;
            if slot.shared {
                total += slot.count;
            } else {
                slot.count = 0;
            }
        }
        if total == 0 {
            return;
        }
        self.touches.resize(total as usize, Touch { step: NONE, kind: Kind::None, tokens: 0 });
        for step in 0..self.events {
            for i in self.first[step as usize]..self.first[step as usize + 1] {
                let SlotAccess { slot, kind } = self.accesses[i as usize];
                if kind.is_memory() && self.slots[slot as usize].shared {
                    let cursor = &mut self.slots[slot as usize].cursor;
                    self.touches[*cursor as usize] = Touch { step, kind, tokens: 0 };
                    *cursor += 1;
                }
            }
        }
        for slot in &mut self.slots {
            slot.cursor = slot.start;
        }
    }

    pub fn worker(&self, step: Step) -> Worker {
        self.worker[step as usize]
    }

    /// Position of a step among those of its worker.
    pub fn ordinal(&self, step: Step) -> u32 {
        self.ordinal[step as usize]
    }

    /// All steps, pending ones included.
    pub fn steps(&self) -> u32 {
        self.worker.len() as u32
    }

    pub fn accesses(&self, step: Step) -> &[SlotAccess] {
        let step = step as usize;
        &self.accesses[self.first[step] as usize..self.first[step + 1] as usize]
    }

    /// The n-th step of a worker, pending ones included.
    pub fn nth(&self, worker: Worker, n: u32) -> Option<Step> {
        self.steps_of.get(worker as usize)?.get(n as usize).copied()
    }

    /// How many steps a worker executed.
    pub fn executed(&self, worker: Worker) -> u32 {
        self.executed[worker as usize]
    }

    /// Did time jump at this step?
    pub fn advances(&self, step: Step) -> bool {
        !self.advances.is_empty() && self.advances.binary_search(&step).is_ok()
    }

    /// Is it started by another worker of this execution?
    pub fn is_started(&self, worker: Worker) -> bool {
        self.started[worker as usize]
    }

    /// How many of a worker's events are among the first `len` of the trace.
    pub fn count_before(&self, worker: Worker, len: Step) -> u32 {
        let executed = self.executed(worker) as usize;
        self.steps_of[worker as usize][..executed].partition_point(|&s| s < len) as u32
    }

    /// What is the same about a location in every execution.
    pub fn place(&self, slot: u32) -> Trait {
        self.slots[slot as usize].known
    }

    /// Can the location cause a race? It needs two workers and a non-read.
    pub fn contended(&self, slot: u32) -> bool {
        let slot = &self.slots[slot as usize];
        slot.shared && slot.written
    }

    /// The executed touches of the location of an access that could be of this
    /// kind, oldest first; none if no other worker touches it.
    pub fn touches_of_any(&self, slot: u32, kind: Kind) -> &[Touch] {
        if !kind.is_memory() {
            return &[];
        }
        let slot = &self.slots[slot as usize];
        &self.touches[slot.start as usize..(slot.start + slot.count) as usize]
    }

    /// The vector clock of an executed step: for every worker, how many of its
    /// events happen before the step. The own entry means nothing; use ordinals.
    pub fn clock(&self, step: Step) -> &[u32] {
        match self.clock_at[step as usize] {
            NONE => &[],
            at => &self.clocks[at as usize..at as usize + self.workers],
        }
    }

    /// Does executed step `a` happen before executed step `b`?
    pub fn before(&self, a: Step, b: Step) -> bool {
        let (worker, ordinal) = (self.worker(a), self.ordinal(a));
        if worker == self.worker(b) {
            return ordinal < self.ordinal(b);
        }
        self.clock(b).get(worker as usize).is_some_and(|&n| n > ordinal)
    }

    /// Number of events of `worker` before its first one that happens after
    /// `step`.
    pub fn count_not_after(&self, worker: Worker, step: Step) -> u32 {
        if worker == self.worker(step) {
            return self.ordinal(step);
        }
        let clocked = &self.clocked[worker as usize];
        let at = clocked.partition_point(|&s| !self.before(step, s));
        clocked.get(at).map_or(self.executed(worker), |&s| self.ordinal(s))
    }

    /// The steps with a clock of their own from a worker's n-th one on.
    pub fn clocked_from(&self, worker: Worker, n: u32) -> &[Step] {
        let clocked = &self.clocked[worker as usize];
        &clocked[clocked.partition_point(|&s| self.ordinal(s) < n)..]
    }

    /// How many private steps the worker makes from its n-th on.
    pub fn private_from(&self, worker: Worker, n: u32) -> u32 {
        let end = self
            .clocked_from(worker, n)
            .first()
            .map_or(self.executed(worker), |&s| self.ordinal(s));
        end.saturating_sub(n)
    }
}

impl History {
    /// How many tokens has a resource so far, if `undone` and all that happens
    /// after it is left out?
    pub fn tokens_without(&self, slot: u32, undone: Step) -> u32 {
        let info = &self.slots[slot as usize];
        if !self.contended(slot) {
            return info.tokens;
        }
        let touches = &self.touches[info.start as usize..info.cursor as usize];
        let from = touches.partition_point(|t| t.step < undone);
        touches[from..]
            .iter()
            .find(|t| t.kind.is_write() && (t.step == undone || self.before(undone, t.step)))
            .map_or(info.tokens, |t| t.tokens)
    }
}

/// What the pass over the events needs.
impl History {
    pub(super) fn first_touch(&self, slot: u32) -> u32 {
        self.slots[slot as usize].start
    }

    pub(super) fn touch_at(&self, index: u32) -> Step {
        self.touches[index as usize].step
    }

    /// The pass has come to the next touch of a location.
    pub(super) fn pass_touch(&mut self, slot: u32, kind: Kind) {
        let info = &mut self.slots[slot as usize];
        self.touches[info.cursor as usize].tokens = info.tokens;
        if kind.is_write() {
            info.last_write = info.cursor;
        }
        info.cursor += 1;
        match kind {
            Kind::Acquire | Kind::TryAcquire => info.tokens = info.tokens.saturating_sub(1),
            Kind::Release => info.tokens += 1,
            _ => {}
        }
    }
}
