//! Random schedules of instructions: each entry is any worker, with equal chance.
//!
//! The schedules are drawn before anything runs, so that they depend on nothing
//! but the seed: see [`schedule`]. An entry for a worker that waits or has ended
//! is left out when the schedule is run, so each step is a uniform choice among
//! those who can go on. That is a random walk, of instructions instead of visible
//! events, and it guarantees as little as [`super::walk`].

use rand::Rng;

use super::{Plan, Strategy, dice};
use crate::explore::segments;
use crate::trace::{Trace, Worker};

/// See the [module](self).
#[derive(Debug)]
pub struct Random {
    seed: u64,
    execution: u64,
    workers: u32,
    length: usize,
    plan: Plan,
}

impl Random {
    /// Schedules of so many entries, for so many workers; those that workers start
    /// take part as soon as an execution has shown that they exist.
    pub fn new(seed: u64, workers: usize, length: usize) -> Self {
        Self { seed, execution: 0, workers: workers as u32, length, plan: Plan::default() }
    }
}

/// The schedule of this execution (from 0): entry i is (xᵢ · workers) >> 32, with xᵢ
/// the i-th 32-bit number of ChaCha8 whose key is made of `seed` by `seed_from_u64`
/// of `rand_core` and whose stream is `execution`.
pub fn schedule(
    seed: u64,
    execution: u64,
    workers: u32,
    length: usize,
) -> impl Iterator<Item = Worker> {
    let mut rng = dice(seed, execution);
    (0..length).map(move |_| ((u64::from(rng.next_u32()) * u64::from(workers)) >> 32) as Worker)
}

impl Strategy for Random {
    fn next_plan(&mut self, last: Option<&Trace>) -> Option<&Plan> {
        let seen = last.and_then(|trace| trace.events().iter().map(|e| e.worker).max());
        self.workers = self.workers.max(seen.map_or(0, |worker| u32::from(worker) + 1));
        let drawn = schedule(self.seed, self.execution, self.workers, self.length);
        self.plan.segments = segments(drawn);
        self.execution += 1;
        Some(&self.plan)
    }
}
