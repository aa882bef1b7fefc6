//! Random walk: at every visible event, any enabled worker with equal chance.
//!
//! The simplest sampler, and a good baseline (Thomson, Donaldson, Betts,
//! PPoPP 2014). It guarantees little: of two workers, the chance that one
//! finishes n events before the other begins is 2⁻ⁿ.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Candidate, Plan, Strategy, dice};
use crate::trace::{Trace, Worker};

/// See the [module](self).
#[derive(Debug)]
pub struct Walk {
    seed: u64,
    execution: u64,
    rng: ChaCha8Rng,
    plan: Plan,
}

impl Walk {
    /// Equal seeds give equal walks.
    pub fn new(seed: u64) -> Self {
        Self { seed, execution: 0, rng: dice(seed, 0), plan: Plan::default() }
    }
}

impl Strategy for Walk {
    fn next_plan(&mut self, _last: Option<&Trace>) -> Option<&Plan> {
        self.rng = dice(self.seed, self.execution);
        self.execution += 1;
        Some(&self.plan)
    }

    fn chooses(&self) -> bool {
        true
    }

    fn choose(&mut self, _current: Option<Worker>, candidates: &[Candidate<'_>]) -> Worker {
        candidates[self.rng.random_range(0..candidates.len())].worker
    }
}
