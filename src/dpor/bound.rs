//! Preemption bounds: how few preemptions does a trace need?
//!
//! A *preemption* leaves a worker that could go on (Musuvathi, Qadeer, PLDI
//! 2007). A trace counts by its best linearisation, as in Marmanis,
//! Kokologiannakis, Vafeiadis, *Reconciling Preemption Bounding with DPOR*
//! (TACAS 2023), from where also comes what makes a bound sound: a search by
//! race reversals reaches some traces within the bound only through traces a
//! little above it, so that it has to go on up to a *slack* above the bound.
//!
//! What is computed is a lower bound that only grows when a trace gets longer:
//! leaving a worker is free if it has no further event or if its next one may
//! have been disabled.

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::history::History;
use super::reversal::Reversal;
use crate::trace::{Kind, Worker};

type Counts = SmallVec<[u32; 8]>;

/// So many states are looked at before a trace gets the benefit of the doubt.
const PATIENCE: usize = 20_000;

/// How far above the bound the search has to go: by two less than there are
/// workers, and by one more where workers wait for tokens. (The first is the
/// number of Marmanis et al.; the second was found by trying: with a slack of 0,
/// one in 15,000 random programs of two workers with locks misses a trace.)
pub(super) fn slack(h: &History) -> u32 {
    let waits = h.slots.iter().any(|slot| slot.is_resource);
    (h.workers as u32 + u32::from(waits)).saturating_sub(2)
}

/// The beginning of a trace: of every worker some events, and one more event.
struct Beginning<'a> {
    h: &'a History,
    v: &'a Reversal,
    end: Counts,
    /// What must come before the last event of the reversal.
    before_last: Counts,
}

/// Does every trace that begins with `v` need more than `bound` preemptions?
pub(super) fn exceeds(h: &History, v: &Reversal, bound: u32) -> bool {
    let beginning = Beginning::new(h, v);
    let mut layer = vec![(Counts::from_elem(0, h.workers), None)];
    let mut seen = FxHashSet::default();
    for _ in 0..=bound {
        let mut next = Vec::new();
        while let Some((counts, last)) = layer.pop() {
            if !seen.insert((counts.clone(), last)) {
                continue;
            }
            if counts == beginning.end || seen.len() > PATIENCE {
                return false;
            }
            let preempts = last.is_some_and(|last| !beginning.leaves_freely(&counts, last));
            for worker in 0..h.workers as Worker {
                if Some(worker) == last {
                    continue;
                }
                let to = beginning.run(&counts, worker);
                if to > counts[worker as usize] {
                    let mut counts = counts.clone();
                    counts[worker as usize] = to;
                    if preempts { &mut next } else { &mut layer }.push((counts, Some(worker)));
                }
            }
        }
        layer = next;
    }
    true
}

impl<'a> Beginning<'a> {
    fn new(h: &'a History, v: &'a Reversal) -> Self {
        let mut end: Counts = (0..h.workers as Worker).map(|w| v.until(w)).collect();
        let mut before_last = Counts::from_elem(0, h.workers);
        for access in v.foreseen().unwrap_or_default() {
            for touch in h.touches_of_any(access.slot, access.kind) {
                let (w, n) = (h.worker(touch.step) as usize, h.ordinal(touch.step));
                if n < end[w] && touch.kind.conflicts(access.kind) {
                    before_last[w] = before_last[w].max(n + 1);
                }
            }
        }
        end[v.runner() as usize] += 1;
        Self { h, v, end, before_last }
    }

    /// How far a worker gets if it goes on as long as the order allows. Stopping
    /// earlier never saves a preemption.
    fn run(&self, counts: &Counts, worker: Worker) -> u32 {
        let w = worker as usize;
        let done = |clock: &[u32]| {
            clock.iter().zip(counts).enumerate().all(|(x, (c, n))| x == w || c <= n)
        };
        let until = self.v.until(worker);
        if counts[w] < until || (counts[w] == until && worker == self.v.runner()) {
            for &step in self.h.clocked_from(worker, counts[w]) {
                if self.h.ordinal(step) >= until {
                    break;
                }
                if !done(self.h.clock(step)) {
                    return self.h.ordinal(step);
                }
            }
            if worker == self.v.runner() && done(&self.before_last) {
                return until + 1;
            }
            return until;
        }
        counts[w]
    }

    fn leaves_freely(&self, counts: &Counts, worker: Worker) -> bool {
        let n = counts[worker as usize];
        n >= self.end[worker as usize]
            || self.h.nth(worker, n).is_none_or(|step| {
                let waits = |kind| matches!(kind, Kind::Acquire | Kind::Join);
                self.h.advances(step) || self.h.accesses(step).iter().any(|a| waits(a.kind))
            })
    }
}
