//! PCT, probabilistic concurrency testing: random priorities that change at a
//! few random events.
//!
//! The enabled worker of highest priority runs; at d-1 random events the
//! running worker falls behind all others. A bug of depth d in a program of n
//! workers and k events is found with a chance of at least 1/(n·kᵈ⁻¹)
//! (Burckhardt, Kothari, Musuvathi, Nagarakatte, *A Randomized Scheduler with
//! Probabilistic Guarantees of Finding Bugs*, ASPLOS 2010). For k stands the
//! longest execution so far, so that the first one has no changes.

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::{Candidate, Plan, Strategy, dice};
use crate::trace::{Trace, Worker};

/// See the [module](self).
#[derive(Debug)]
pub struct Pct {
    seed: u64,
    depth: u32,
    execution: u64,
    rng: ChaCha8Rng,
    longest: u64,
    /// Of each worker that was met; higher than all priorities of fallen ones.
    priorities: Vec<Option<u64>>,
    /// At which events somebody falls, ascending.
    changes: Vec<u64>,
    /// Events so far, and changes among them.
    events: u64,
    fallen: u64,
    plan: Plan,
}

impl Pct {
    /// For bugs of this depth, which is how many orders between events it takes
    /// to provoke them.
    pub fn new(seed: u64, depth: u32) -> Self {
        Self {
            seed,
            depth: depth.max(1),
            execution: 0,
            rng: dice(seed, 0),
            longest: 0,
            priorities: Vec::new(),
            changes: Vec::new(),
            events: 0,
            fallen: 0,
            plan: Plan::default(),
        }
    }

    fn priority(&mut self, worker: Worker) -> u64 {
        let at = worker as usize;
        if self.priorities.len() <= at {
            self.priorities.resize(at + 1, None);
        }
        // The upper half of the numbers; the lower one is for the fallen.
        *self.priorities[at].get_or_insert_with(|| self.rng.next_u64() | 1 << 63)
    }
}

impl Strategy for Pct {
    fn next_plan(&mut self, last: Option<&Trace>) -> Option<&Plan> {
        self.longest = self.longest.max(last.map_or(0, |trace| trace.len() as u64));
        self.rng = dice(self.seed, self.execution);
        self.execution += 1;
        self.priorities.clear();
        self.changes.clear();
        if self.longest > 0 {
            for _ in 1..self.depth {
                self.changes.push(self.rng.random_range(0..self.longest));
            }
            self.changes.sort_unstable();
        }
        self.events = 0;
        self.fallen = 0;
        Some(&self.plan)
    }

    fn chooses(&self) -> bool {
        true
    }

    fn choose(&mut self, _current: Option<Worker>, candidates: &[Candidate<'_>]) -> Worker {
        loop {
            let mut best = (0, candidates[0].worker);
            for candidate in candidates {
                best = best.max((self.priority(candidate.worker), candidate.worker));
            }
            match self.changes.get(self.fallen as usize) {
                Some(&at) if at <= self.events => {
                    self.fallen += 1;
                    // Later falls are deeper ones.
                    self.priorities[best.1 as usize] = Some(u64::from(self.depth) - self.fallen);
                }
                _ => {
                    self.events += 1;
                    return best.1;
                }
            }
        }
    }
}
