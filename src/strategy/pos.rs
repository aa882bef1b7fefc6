//! POS, partial order sampling: random priorities of events instead of workers.
//!
//! The enabled event of highest priority runs, and whatever conflicts with it
//! draws a new priority. Every partial order of a program gets a chance of at
//! least that of the least likely of its linearisations under random priorities,
//! far more than a random walk gives it (Yuan, Yang, Gu, *Partial Order Aware
//! Concurrency Sampling*, CAV 2018).

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Candidate, Plan, Strategy, dice};
use crate::trace::{Trace, Worker};

/// See the [module](self).
#[derive(Debug)]
pub struct Pos {
    seed: u64,
    execution: u64,
    rng: ChaCha8Rng,
    /// Of each worker's next event.
    priorities: Vec<Option<u64>>,
    plan: Plan,
}

impl Pos {
    /// Equal seeds give equal executions.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            execution: 0,
            rng: dice(seed, 0),
            priorities: Vec::new(),
            plan: Plan::default(),
        }
    }

    fn priority(&mut self, worker: Worker) -> u64 {
        let at = worker as usize;
        if self.priorities.len() <= at {
            self.priorities.resize(at + 1, None);
        }
        *self.priorities[at].get_or_insert_with(|| self.rng.next_u64())
    }
}

impl Strategy for Pos {
    fn next_plan(&mut self, _last: Option<&Trace>) -> Option<&Plan> {
        self.rng = dice(self.seed, self.execution);
        self.execution += 1;
        self.priorities.clear();
        Some(&self.plan)
    }

    fn chooses(&self) -> bool {
        true
    }

    fn choose(&mut self, _current: Option<Worker>, candidates: &[Candidate<'_>]) -> Worker {
        let mut best = (0, 0);
        for (i, candidate) in candidates.iter().enumerate() {
            best = best.max((self.priority(candidate.worker), i));
        }
        let chosen = &candidates[best.1];
        for other in candidates {
            if other.worker == chosen.worker || chosen.conflicts(other) {
                self.priorities[other.worker as usize] = None;
            }
        }
        chosen.worker
    }
}
