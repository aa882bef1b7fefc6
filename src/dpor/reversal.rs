//! The executions in which a race is reversed: *notdep(e, E) · e'*, everything
//! that followed the first event and does not happen after it, and then the
//! second event (Abdulla et al., JACM 2017, §5).
//!
//! Such a sequence is a window into the execution it comes from: of every
//! worker some consecutive events. So it costs a number per worker to set up,
//! and its events are listed only if it really becomes a branch.

use super::history::{History, SlotAccess, Step};
use super::races::Race;
use crate::strategy::Segment;
use crate::trace::{Kind, Worker};

/// A wakeup sequence, as far as it is not yet matched against a wakeup tree.
#[derive(Debug, Default)]
pub(super) struct Reversal {
    /// Length of the prefix that stays.
    pub depth: Step,
    /// The step that comes last in the sequence.
    second: Step,
    /// How many events of each worker are in the prefix or in the part of the
    /// tree that has been passed.
    pub passed: Vec<u32>,
    /// Up to which of each worker's events the sequence goes, without `second`.
    until: Vec<u32>,
    runner: Worker,
    /// Whose next step is the one that it is in the execution at hand.
    known: Vec<bool>,
}

impl Reversal {
    /// The sequence that reverses `race`.
    pub fn set(&mut self, h: &History, race: Race) {
        self.depth = race.first;
        self.second = race.second;
        self.runner = h.worker(race.second);
        self.passed.clear();
        self.until.clear();
        self.known.clear();
        self.known.resize(h.workers, true);
        let end = race.second.min(h.events);
        for worker in 0..h.workers as Worker {
            let passed = h.count_before(worker, race.first);
            let not_after = h.count_not_after(worker, race.first);
            let until = if super::WHOLE_SUFFIX {
                not_after
            } else {
                not_after.min(h.count_before(worker, end))
            };
            self.passed.push(passed);
            self.until.push(until.max(passed));
        }
        // Nothing of its worker is left out before the second event.
        self.until[self.runner as usize] = h.ordinal(race.second);
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

    /// Can this worker's next step come first in what is left of the sequence,
    /// or does it at least commute with all of it? `kinds` are those of the
    /// step where it was explored or planned; `guess` says that it was not
    /// executed there, so that its conditional accesses may turn out otherwise.
    /// `None`: not known.
    pub fn weak_initial(
        &self,
        h: &History,
        worker: Worker,
        kinds: &[Kind],
        guess: bool,
    ) -> Option<bool> {
        if !self.runs(worker) {
            return self.commutes(h, worker, kinds, guess);
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
        let accesses = h.accesses(self.second);
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

    /// Passes the worker's next `events` steps: one, or several private ones.
    pub fn pass(&mut self, h: &History, worker: Worker, events: u32) {
        let w = worker as usize;
        if self.passed[w] >= self.until[w] && self.known[w] {
            // Not of the sequence. Was it the same step in the execution at
            // hand? If what it depends on came before it there too, no more
            // and no less.
            self.known[w] = h.nth(worker, self.passed[w]).is_some_and(|step| {
                step < h.events
                    && self.has_passed(h.clock(step), worker)
                    && !self.passed_one_after(h, step)
            });
        }
        self.passed[w] += events;
    }

    fn passed_one_after(&self, h: &History, step: Step) -> bool {
        (0..h.workers as Worker).any(|other| {
            let n = self.passed[other as usize];
            n > 0
                && other != h.worker(step)
                && h.nth(other, n - 1).is_some_and(|last| last < h.events && h.before(step, last))
        })
    }

    /// Does the step of a worker that has none in the sequence commute with it?
    fn commutes(&self, h: &History, worker: Worker, kinds: &[Kind], guess: bool) -> Option<bool> {
        if !self.known[worker as usize] {
            return None;
        }
        let step = h.nth(worker, self.passed[worker as usize])?;
        let accesses = h.accesses(step);
        let unlike = |(a, k): (&SlotAccess, &Kind)| k.is_memory() && a.names_no_location();
        if accesses.len() != kinds.len() || accesses.iter().zip(kinds).any(unlike) {
            return None;
        }
        let conflicts = |strongest: bool| {
            let of = if strongest { Kind::strongest } else { Kind::weakest };
            accesses.iter().zip(kinds).any(|(a, &kind)| {
                let kind = if guess { of(kind) } else { kind };
                self.conflicts(h, SlotAccess { slot: a.slot, kind }, of)
            })
        };
        certainly_not(conflicts(false), conflicts(true))
    }

    /// How many steps in a row of this worker, from its next one on, are alike:
    /// one that is shared, or all private ones before the next shared one.
    pub fn private_steps(&self, h: &History, worker: Worker) -> u32 {
        let n = self.passed[worker as usize];
        let until = self.until[worker as usize];
        let private = h.private_from(worker, n);
        if n < until { private.min(until - n) } else { private }
    }

    /// Does an access conflict with what is left? The kinds of the second event
    /// are a guess, bounded by `of`.
    fn conflicts(&self, h: &History, access: SlotAccess, of: fn(Kind) -> Kind) -> bool {
        let second = || {
            self.is_left(self.runner)
                && h.accesses(self.second)
                    .iter()
                    .any(|a| a.slot == access.slot && of(a.kind).conflicts(access.kind))
        };
        access.kind == Kind::Advance
            || access.kind.is_memory() && (second() || self.conflicts_below_second(h, access))
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

    /// What is left of the sequence, as runs.
    pub fn segments(&self, h: &History) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut push = |worker: Worker, events: u32| match segments.last_mut() {
            Some(last) if last.worker == worker => last.events += events,
            _ => segments.push(Segment { worker, events }),
        };
        let mut left: u32 =
            self.passed.iter().zip(&self.until).map(|(p, u)| u.saturating_sub(*p)).sum();
        for (start, end) in h.runs_from(self.depth) {
            if left == 0 {
                break;
            }
            let worker = h.worker(start);
            let w = worker as usize;
            let from = h.ordinal(start).max(self.passed[w]);
            let to = (h.ordinal(start) + (end - start)).min(self.until[w]);
            if from < to {
                push(worker, to - from);
                left -= to - from;
            }
        }
        if self.is_left(self.runner) {
            push(self.runner, 1);
        }
        segments
    }
}

/// "Does not conflict", from whether it does at least and at most.
fn certainly_not(at_least: bool, at_most: bool) -> Option<bool> {
    (at_least == at_most).then_some(!at_least)
}
