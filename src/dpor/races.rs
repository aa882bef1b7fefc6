//! Finds the reversible races of an execution, in one pass that also computes
//! the vector clocks.
//!
//! Two events of different workers *race* when they conflict and nothing that
//! happens between them orders them (Abdulla et al., JACM 2017, §3). A race is
//! *reversible* when the second event could be executed where the first one is:
//! always, except that an acquire needs a token. So the race of an acquire is
//! with the latest conflicting event before which it was enabled, which for a
//! lock is the acquire of the last holder and not its release (*ibid.*, §6).
//! Steps that are still waiting when everything has come to rest, at the end or
//! before virtual time jumps, race as if they were executed then; without that
//! rule, deadlocks are missed.

use super::history::{History, NONE, SlotAccess, Step};
use smallvec::SmallVec;

use crate::trace::{Kind, Worker};

/// A pair of steps whose order can be reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Race {
    /// The event that came first.
    pub first: Step,
    /// The step, executed or pending, that can come before it instead.
    pub second: Step,
}

/// The state of the pass.
#[derive(Debug, Default)]
pub(super) struct Races {
    pub found: Vec<Race>,
    /// Index of each worker's latest clock, and how many events it has had.
    current: Vec<u32>,
    count: Vec<u32>,
    /// The clock of the event that started each worker.
    start: Vec<u32>,
    /// How many jumps of time each worker has seen.
    epoch_of: Vec<u32>,
    epoch: u32,
    floor: Vec<u32>,
    base: Vec<u32>,
    joined: Vec<u32>,
    candidates: Vec<Step>,
}

impl Races {
    /// Fills in the clocks of `h` and lists its races in `self.found`.
    pub fn compute(&mut self, h: &mut History) {
        let workers = h.workers;
        self.found.clear();
        self.epoch = 0;
        for (list, value) in [
            (&mut self.current, NONE),
            (&mut self.count, 0),
            (&mut self.start, NONE),
            (&mut self.epoch_of, 0),
            (&mut self.floor, 0),
        ] {
            list.clear();
            list.resize(workers, value);
        }
        for step in 0..h.events {
            let worker = h.worker(step);
            let w = worker as usize;
            if self.needs_clock(h, step, worker) {
                self.executed(h, step, worker);
            } else {
                let current = self.current[w];
                h.clock_at.push(current);
            }
            self.count[w] += 1;
        }
        for step in h.events..h.steps() {
            self.waiting(h, step);
        }
    }

    fn needs_clock(&self, h: &History, step: Step, worker: Worker) -> bool {
        let w = worker as usize;
        self.epoch_of[w] != self.epoch
            || h.advances(step)
            || (self.count[w] == 0 && self.start[w] != NONE)
            || h.accesses(step).iter().any(|a| match a.kind {
                Kind::None | Kind::Unread => false,
                Kind::Start | Kind::Join => true,
                _ => h.contended(a.slot),
            })
    }

    fn executed(&mut self, h: &mut History, step: Step, worker: Worker) {
        let w = worker as usize;
        if h.advances(step) {
            self.advance(h);
        }
        self.set_base(h, step, worker);
        self.races_of(h, step, true, |_, a| a);
        // The clock is the base joined with all conflicting predecessors.
        self.joined.clone_from(&self.base);
        for i in 0..h.accesses(step).len() {
            let SlotAccess { slot, kind } = h.accesses(step)[i];
            if !kind.is_memory() || !h.contended(slot) {
                continue;
            }
            let info = h.slots[slot as usize];
            let stop = if info.last_write == NONE { h.first_touch(slot) } else { info.last_write };
            if kind.is_write() {
                (stop..info.cursor).for_each(|t| join_step(&mut self.joined, h, h.touch_at(t)));
            } else if info.last_write != NONE {
                join_step(&mut self.joined, h, h.touch_at(stop));
            }
        }
        for i in 0..h.accesses(step).len() {
            let SlotAccess { slot, kind } = h.accesses(step)[i];
            if kind.is_memory() && h.contended(slot) {
                h.pass_touch(slot, kind);
            }
        }
        let at = h.clocks.len() as u32;
        h.clocks.extend_from_slice(&self.joined);
        h.clock_at.push(at);
        h.clocked[w].push(step);
        self.current[w] = at;
        self.epoch_of[w] = self.epoch;
        for i in 0..h.accesses(step).len() {
            let SlotAccess { slot, kind } = h.accesses(step)[i];
            if kind == Kind::Start {
                self.start[slot as usize] = step;
            }
        }
    }

    /// Sets `self.base` to what orders a step whatever its memory accesses are:
    /// its worker's past, its start, the joined workers and jumps of time.
    fn set_base(&mut self, h: &History, step: Step, worker: Worker) {
        let w = worker as usize;
        self.base.clear();
        match self.current[w] {
            NONE => self.base.resize(h.workers, 0),
            at => self.base.extend_from_slice(&h.clocks[at as usize..at as usize + h.workers]),
        }
        if self.count[w] == 0 && self.start[w] != NONE {
            join_step(&mut self.base, h, self.start[w]);
        }
        if self.epoch_of[w] != self.epoch {
            join(&mut self.base, &self.floor);
        }
        for access in h.accesses(step) {
            if access.kind == Kind::Join {
                let ended = access.slot as usize;
                match (self.current[ended], self.start[ended]) {
                    (NONE, NONE) => {}
                    // Started, and had nothing to do.
                    (NONE, start) => join_step(&mut self.base, h, start),
                    (at, _) => {
                        join(&mut self.base, &h.clocks[at as usize..at as usize + h.workers]);
                    }
                }
                self.base[ended] = self.base[ended].max(self.count[ended]);
            }
        }
        self.base[w] = self.count[w];
    }

    /// Time jumps: whoever waits for a token now may have to get it earlier,
    /// and everything later happens after everything until now.
    fn advance(&mut self, h: &History) {
        for w in 0..h.workers {
            let begun = self.start[w] != NONE || !h.is_started(w as Worker);
            let Some(next) = h.nth(w as Worker, self.count[w]) else { continue };
            let waits = h.accesses(next).iter().any(|&a| wanted(h, a).kind == Kind::Acquire);
            if begun && waits {
                self.waiting(h, next);
            }
        }
        self.floor.clone_from(&self.count);
        self.epoch += 1;
    }

    /// The races of a step that waits although everything has come to rest.
    fn waiting(&mut self, h: &History, step: Step) {
        if h.accesses(step).iter().any(|a| a.kind == Kind::Join) {
            return;
        }
        self.set_base(h, step, h.worker(step));
        self.races_of(h, step, false, wanted);
    }

    /// Lists the races between the events so far and `step`, whose base is set,
    /// if its accesses were what `wanted` makes of them.
    fn races_of(
        &mut self,
        h: &History,
        step: Step,
        enabled: bool,
        wanted: fn(&History, SlotAccess) -> SlotAccess,
    ) {
        let worker = h.worker(step);
        let accesses: SmallVec<[SlotAccess; 4]> =
            h.accesses(step).iter().map(|&a| wanted(h, a)).collect();
        let acquires = accesses.iter().any(|a| a.kind == Kind::Acquire);
        self.candidates.clear();
        for access in &accesses {
            if !access.kind.is_memory() || !h.contended(access.slot) {
                continue;
            }
            let info = &h.slots[access.slot as usize];
            // Without tokens to look after, readers need only the last write.
            let mut t = info.cursor;
            if !acquires && !access.kind.is_write() {
                t = if info.last_write == NONE { 0 } else { info.last_write + 1 };
            }
            while t > h.first_touch(access.slot) {
                t -= 1;
                let touch = h.touches[t as usize];
                if !touch.kind.conflicts(access.kind) {
                    continue;
                }
                let other = h.worker(touch.step);
                let ordered = self.base[other as usize] > h.ordinal(touch.step);
                if ordered {
                    if touch.kind.is_write() {
                        break;
                    }
                    continue;
                }
                if other != worker
                    && (!acquires || could_acquire(h, &accesses, touch.step, enabled))
                {
                    self.candidates.push(touch.step);
                    if touch.kind.is_write() {
                        break;
                    }
                }
            }
        }
        // Of these, those that do not happen before another one.
        self.candidates.sort_unstable_by(|a, b| b.cmp(a));
        self.candidates.dedup();
        if self.candidates.len() == 1 {
            self.found.push(Race { first: self.candidates[0], second: step });
            return;
        }
        self.joined.clone_from(&self.base);
        for &first in &self.candidates {
            if self.joined[h.worker(first) as usize] <= h.ordinal(first) {
                self.found.push(Race { first, second: step });
                join_step(&mut self.joined, h, first);
            }
        }
    }
}

/// What a step waited for: had there been a token, it would not have timed out.
fn wanted(h: &History, a: SlotAccess) -> SlotAccess {
    let in_vain = a.kind == Kind::Miss && h.slots[a.slot as usize].is_resource;
    SlotAccess { kind: if in_vain { Kind::Acquire } else { a.kind }, ..a }
}

/// Would the tokens that the accesses need be there if `first`, and everything that
/// happens after it, had not been executed?
fn could_acquire(h: &History, accesses: &[SlotAccess], first: Step, enabled: bool) -> bool {
    accesses.iter().filter(|a| a.kind == Kind::Acquire).all(|access| {
        if !h.contended(access.slot) {
            return enabled;
        }
        h.tokens_without(access.slot, first) > 0
    })
}

fn join(clock: &mut [u32], other: &[u32]) {
    clock.iter_mut().zip(other).for_each(|(a, &b)| *a = (*a).max(b));
}

/// Joins a step, and what happens before it, into a clock.
fn join_step(clock: &mut [u32], h: &History, step: Step) {
    join(clock, h.clock(step));
    let own = &mut clock[h.worker(step) as usize];
    *own = (*own).max(h.ordinal(step) + 1);
}
