//! SURW, selectively uniform random walk: interleavings of the events that
//! matter, all with equal chance.
//!
//! A walk that chooses a worker with a chance proportional to the number of its
//! events still to come samples interleavings uniformly. It does so for the
//! *interesting* events only, those on which something depends, and the others
//! follow at random (Zhao, Wolff, Mathur, Roychoudhury, *Selectively Uniform
//! Concurrency Testing*, ASPLOS 2025). The counts are learned from the first
//! execution; interesting are events on locations that more than one worker
//! touched and one wrote in it. Where the counts are right, each of the N
//! interleavings of interesting events has a chance of 1/N.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Candidate, Plan, Strategy, dice};
use crate::trace::{Kind, Loc, Trace, Worker};

/// See the [module](self).
#[derive(Debug)]
pub struct Surw {
    seed: u64,
    execution: u64,
    rng: ChaCha8Rng,
    profile: Option<Profile>,
    /// Events of each worker so far in this execution.
    done: Vec<usize>,
    /// Who executes the next interesting event.
    intended: Option<Worker>,
    plan: Plan,
}

/// What one execution taught.
#[derive(Debug, Default)]
struct Profile {
    /// For each worker and each of its events: how many interesting ones come
    /// from there on, with those of the workers it starts.
    left: Vec<Vec<u32>>,
}

impl Profile {
    fn of(trace: &Trace) -> Self {
        // Who touched a location first, did another worker too, was it written?
        let mut touched: BTreeMap<Loc, (Worker, bool, bool)> = BTreeMap::new();
        for event in trace.events() {
            for access in trace.accesses_of(event).iter().filter(|a| a.kind.is_memory()) {
                let entry = touched.entry(access.loc).or_insert((event.worker, false, false));
                entry.1 |= entry.0 != event.worker;
                entry.2 |= access.kind.is_write();
            }
        }
        let workers = trace.events().iter().map(|e| e.worker as usize + 1).max().unwrap_or(0);
        let mut left = vec![vec![0]; workers];
        // From the end, so that a started worker's events are counted already.
        for event in trace.events().iter().rev() {
            let mut n = *left[event.worker as usize].last().expect("starts with 0");
            let accesses = trace.accesses_of(event);
            let matters =
                |loc| touched.get(&loc).is_some_and(|&(_, shared, written)| shared && written);
            n += accesses.iter().any(|a| a.kind.is_memory() && matters(a.loc)) as u32;
            for started in accesses.iter().filter(|a| a.kind == Kind::Start) {
                n += left.get(started.loc as usize).map_or(0, |list| list[list.len() - 1]);
            }
            left[event.worker as usize].push(n);
        }
        left.iter_mut().for_each(|list| list.reverse());
        Self { left }
    }

    fn left(&self, worker: Worker, done: usize) -> u32 {
        self.left.get(worker as usize).and_then(|list| list.get(done)).copied().unwrap_or(0)
    }

    /// Is a worker's event of this number interesting? A start counts the
    /// started worker's events, and is none itself.
    fn is_interesting(&self, candidate: &Candidate<'_>, done: usize) -> bool {
        let starts = candidate.next.iter().any(|a| a.kind == Kind::Start);
        !starts && self.left(candidate.worker, done) > self.left(candidate.worker, done + 1)
    }
}

impl Surw {
    /// Equal seeds give equal executions.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            execution: 0,
            rng: dice(seed, 0),
            profile: None,
            done: Vec::new(),
            intended: None,
            plan: Plan::default(),
        }
    }

    fn done(&mut self, worker: Worker) -> &mut usize {
        let at = worker as usize;
        if self.done.len() <= at {
            self.done.resize(at + 1, 0);
        }
        &mut self.done[at]
    }

    fn pick(&mut self, candidates: &[Candidate<'_>]) -> Worker {
        let done: Vec<usize> = candidates.iter().map(|c| *self.done(c.worker)).collect();
        let Some(profile) = &self.profile else {
            return candidates[self.rng.random_range(0..candidates.len())].worker;
        };
        if !self.intended.is_some_and(|w| candidates.iter().any(|c| c.worker == w)) {
            let weights = candidates.iter().zip(&done);
            let weights = weights.map(|(c, &n)| (c.worker, profile.left(c.worker, n)));
            self.intended = draw(&mut self.rng, weights);
        }
        let interesting: Vec<bool> =
            candidates.iter().zip(&done).map(|(c, &n)| profile.is_interesting(c, n)).collect();
        // Interesting events of others wait for the intended one's.
        let free: Vec<usize> = (0..candidates.len())
            .filter(|&i| !interesting[i] || Some(candidates[i].worker) == self.intended)
            .collect();
        let i = match free.len() {
            0 => self.rng.random_range(0..candidates.len()),
            n => free[self.rng.random_range(0..n)],
        };
        let worker = candidates[i].worker;
        let started = candidates[i].next.iter().filter(|a| a.kind == Kind::Start);
        if Some(worker) == self.intended {
            // The turn goes on to whom it was counted for.
            let heirs = started.map(|a| (a.loc as Worker, profile.left(a.loc as Worker, 0)));
            let own = (worker, profile.left(worker, done[i] + 1));
            let weights: Vec<(Worker, u32)> = heirs.chain([own]).collect();
            if weights.len() > 1 {
                self.intended = draw(&mut self.rng, weights.into_iter());
            } else if interesting[i] {
                self.intended = None;
            }
        }
        worker
    }
}

/// Picks a worker with a chance proportional to its weight.
fn draw(
    rng: &mut ChaCha8Rng,
    weights: impl Iterator<Item = (Worker, u32)> + Clone,
) -> Option<Worker> {
    let total: u32 = weights.clone().map(|(_, weight)| weight).sum();
    let mut ticket = (total > 0).then(|| rng.random_range(0..total))?;
    for (worker, weight) in weights {
        if ticket < weight {
            return Some(worker);
        }
        ticket -= weight;
    }
    None
}

impl Strategy for Surw {
    fn next_plan(&mut self, last: Option<&Trace>) -> Option<&Plan> {
        if self.profile.is_none() {
            self.profile = last.map(Profile::of);
        }
        self.rng = dice(self.seed, self.execution);
        self.execution += 1;
        self.done.clear();
        self.intended = None;
        Some(&self.plan)
    }

    fn chooses(&self) -> bool {
        true
    }

    fn choose(&mut self, _current: Option<Worker>, candidates: &[Candidate<'_>]) -> Worker {
        let chosen = self.pick(candidates);
        *self.done(chosen) += 1;
        chosen
    }
}
