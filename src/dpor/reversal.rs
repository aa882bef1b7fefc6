//! The executions in which a race is reversed: *notdep(e, E) · e'*, everything
//! that followed the first event and does not happen after it, and then the
//! second event (Abdulla et al., JACM 2017, §5).
//!
//! Such a sequence is a window into the execution it comes from: of every
//! worker some consecutive events. So it costs a number per worker to set up,
//! and its events are listed only if it really becomes a branch.

use super::history::{History, SlotAccess, Step, Window};
use super::races::Race;
use super::record::{LazyRecord, Record, conflicts};
use crate::trace::{Kind, Worker};

/// A wakeup sequence, as far as it is not yet matched against a wakeup tree.
#[derive(Debug, Default)]
pub(super) struct Reversal {
    /// Length of the prefix that stays.
    pub depth: Step,
    /// The step that comes last in the sequence.
    second: Step,
    /// What it will access there.
    foreseen: Vec<SlotAccess>,
    /// How many events of each worker are in the prefix or in the part of the
    /// tree that has been passed.
    pub passed: Vec<u32>,
    /// Up to which of each worker's events the sequence goes, without `second`.
    until: Vec<u32>,
    runner: Worker,
}

/// A step that was explored or planned in an earlier execution.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub worker: Worker,
    pub accesses: &'a [SlotAccess],
    /// The execution that the accesses are of; sleepers need none.
    pub record: Option<&'a Record>,
    /// It was planned and never executed in this place: conditional accesses
    /// may turn out otherwise.
    pub guess: bool,
}

impl Reversal {
    /// The sequence that reverses `race`.
    pub fn set(&mut self, h: &History, race: Race) {
        self.depth = race.first;
        self.second = race.second;
        self.runner = h.worker(race.second);
        self.passed.clear();
        self.until.clear();
        for worker in 0..h.workers as Worker {
            let passed = h.count_before(worker, race.first);
            self.passed.push(passed);
            self.until.push(h.count_not_after(worker, race.first).max(passed));
        }
        // Nothing of its worker is left out before the second event.
        self.until[self.runner as usize] = h.ordinal(race.second);
        self.foreseen.clear();
        let accesses = h.accesses(race.second).iter();
        self.foreseen.extend(accesses.map(|a| match a.kind {
            // Whether a try-lock succeeds is a matter of counting.
            Kind::TryAcquire | Kind::Miss if h.slots[a.slot as usize].is_resource => {
                let free = h.tokens_without(a.slot, race.first) > 0;
                SlotAccess { kind: if free { Kind::TryAcquire } else { Kind::Read }, ..*a }
            }
            _ => *a,
        }));
    }

    /// What the last step will access, unless it has been matched; where that
    /// depends on the state, it is a guess.
    pub fn foreseen(&self) -> Option<&[SlotAccess]> {
        self.is_left(self.runner).then_some(&self.foreseen)
    }

    /// How many of a worker's events, without the last one of the sequence, are
    /// in the prefix or in the sequence.
    pub fn until(&self, worker: Worker) -> u32 {
        self.until[worker as usize]
    }

    /// Who executes the last step of the sequence.
    pub fn runner(&self) -> Worker {
        self.runner
    }

    /// Has everything been matched?
    pub fn is_empty(&self) -> bool {
        self.passed[self.runner as usize] > self.until[self.runner as usize]
            && self.passed.iter().zip(&self.until).all(|(p, u)| p >= u)
    }

    fn contains(&self, h: &History, step: Step) -> bool {
        let (w, n) = (h.worker(step) as usize, h.ordinal(step));
        step >= self.depth && n >= self.passed[w] && n < self.until[w]
    }

    /// Has the sequence events of this worker left?
    pub fn runs(&self, worker: Worker) -> bool {
        let w = worker as usize;
        self.passed[w] < self.until[w] || self.is_second(worker)
    }

    fn is_second(&self, worker: Worker) -> bool {
        let w = worker as usize;
        worker == self.runner && self.passed[w] == self.until[w]
    }

    /// Can this step come first in what is left of the sequence, or does it at
    /// least commute with all of it? `None`: not known.
    pub fn weak_initial(&self, h: &History, now: &LazyRecord, known: Known<'_>) -> Option<bool> {
        let worker = known.worker;
        if !self.runs(worker) && h.blocks {
            return self.meets_block(h, now, known, true).map(|meets| !meets);
        }
        if !self.runs(worker) {
            return self.commutes(h, now, known);
        }
        let n = self.passed[worker as usize];
        if !self.is_second(worker) {
            return Some(h.nth(worker, n).is_some_and(|s| self.has_passed(h.clock(s), worker)));
        }
        let before =
            if n == 0 { &[][..] } else { h.nth(worker, n - 1).map_or(&[][..], |s| h.clock(s)) };
        if !self.has_passed(before, worker) {
            return Some(false);
        }
        if h.blocks {
            return self.meets_block(h, now, known, false).map(|meets| !meets);
        }
        let accesses = &self.foreseen;
        let conflicts = |of: fn(Kind) -> Kind| {
            accesses
                .iter()
                .any(|a| self.conflicts_below_second(h, SlotAccess { kind: of(a.kind), ..*a }))
        };
        certainly_not(conflicts(Kind::weakest), conflicts(Kind::strongest))
    }

    fn has_passed(&self, clock: &[u32], worker: Worker) -> bool {
        clock.iter().zip(&self.passed).enumerate().all(|(w, (c, p))| w == worker as usize || c <= p)
    }

    /// Does a block conflict with what is left of the sequence, its last step included
    /// or not? That one, if it was not matched, may be anything: blocks depend on what
    /// they read.
    fn meets_block(
        &self,
        h: &History,
        now: &LazyRecord,
        known: Known<'_>,
        with_last: bool,
    ) -> Option<bool> {
        let steps = (self.depth..h.events).filter(|&step| self.contains(h, step));
        let mut steps = steps.map(|step| h.accesses(step));
        let unknown = with_last && self.is_left(self.runner);
        if known.guess {
            return (!unknown && steps.next().is_none()).then_some(false);
        }
        match conflicts(h, now, known.record?, known.accesses, steps) {
            Some(false) if unknown => None,
            meets => meets,
        }
    }

    /// Does a step of a worker that has none in the sequence commute with it?
    fn commutes(&self, h: &History, now: &LazyRecord, known: Known<'_>) -> Option<bool> {
        let w = known.worker as usize;
        // The worker did nothing yet that it does not do in the sequence too,
        // so the step is its next one in the execution at hand as well.
        // (Unless it was never started there.)
        // (Unless it was never started there.)
        let unlike =
            |(a, k): (&SlotAccess, &SlotAccess)| k.kind.is_memory() && a.names_no_location();
        let same = (self.passed[w] <= self.until[w])
            .then(|| h.nth(known.worker, self.passed[w]))
            .flatten()
            .map(|step| h.accesses(step))
            .filter(|same| same.len() == known.accesses.len())
            .filter(|same| !same.iter().zip(known.accesses).any(unlike));
        let mut conflict = Some(false);
        for (i, access) in known.accesses.iter().enumerate() {
            let at_most = if known.guess { access.kind.strongest() } else { access.kind };
            let at_least = if known.guess { access.kind.weakest() } else { access.kind };
            if !at_most.is_memory() {
                continue;
            }
            let (certainly, possibly) = if let Some(same) = same {
                let slot = same[i].slot;
                let at_least = SlotAccess { slot, kind: at_least };
                let at_most = SlotAccess { slot, kind: at_most };
                (
                    self.conflicts(h, at_least, Kind::weakest),
                    self.conflicts(h, at_most, Kind::strongest),
                )
            } else {
                let record = known.record?;
                let now = now.get(h);
                match now.translate(record, access.slot) {
                    Some(slot) => (
                        self.meets(h, |s| s == slot, at_least, Kind::weakest),
                        self.meets(h, |s| s == slot, at_most, Kind::strongest),
                    ),
                    None => {
                        let could_be = |s| record.could_be(access.slot, now, s);
                        (false, self.meets(h, could_be, at_most, Kind::strongest))
                    }
                }
            };
            if certainly {
                return Some(false);
            }
            if possibly {
                conflict = None;
            }
        }
        conflict.map(|conflict| !conflict)
    }

    /// Like [`Reversal::conflicts`], for a step that was not executed in the
    /// execution at hand, so that its location may seem private to another worker.
    fn meets(
        &self,
        h: &History,
        here: impl Fn(u32) -> bool,
        kind: Kind,
        of: fn(Kind) -> Kind,
    ) -> bool {
        let meets = |a: &SlotAccess, other: Kind| {
            !a.names_no_location() && other.conflicts(kind) && here(a.slot)
        };
        let last = self.foreseen().unwrap_or_default();
        last.iter().any(|a| meets(a, of(a.kind)))
            || (self.depth..h.events)
                .filter(|&step| self.contains(h, step))
                .any(|step| h.accesses(step).iter().any(|a| meets(a, a.kind)))
    }

    /// How many of the worker's next steps are alike: one that is shared, or all
    /// private ones that come before the next shared one in the sequence.
    pub fn steps_alike(&self, h: &History, worker: Worker) -> u32 {
        let n = self.passed[worker as usize];
        let left = self.until[worker as usize].saturating_sub(n);
        h.private_from(worker, n).min(left).max(1)
    }

    /// Does an access conflict with what is left? The kinds of the second event
    /// are a guess, bounded by `of`.
    fn conflicts(&self, h: &History, access: SlotAccess, of: fn(Kind) -> Kind) -> bool {
        let second = || {
            self.is_left(self.runner)
                && self
                    .foreseen
                    .iter()
                    .any(|a| a.slot == access.slot && of(a.kind).conflicts(access.kind))
        };
        access.kind.is_memory() && (second() || self.conflicts_below_second(h, access))
    }

    fn is_left(&self, worker: Worker) -> bool {
        self.passed[worker as usize] <= self.until[worker as usize]
    }

    fn conflicts_below_second(&self, h: &History, access: SlotAccess) -> bool {
        let touches = h.touches_of_any(access.slot, access.kind);
        touches[touches.partition_point(|t| t.step < self.depth)..]
            .iter()
            .any(|t| t.kind.conflicts(access.kind) && self.contains(h, t.step))
    }

    /// What is left of the sequence.
    pub fn window(&self) -> Window {
        let bounds = self.passed.iter().copied().zip(self.until.iter().copied()).collect();
        let last = self.is_left(self.runner).then_some(self.runner);
        Window { from: self.depth, bounds, last }
    }
}

/// "Does not conflict", from whether it does at least and at most.
fn certainly_not(at_least: bool, at_most: bool) -> Option<bool> {
    (at_least == at_most).then_some(!at_least)
}
