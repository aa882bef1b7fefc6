//! What a schedule costs whoever reads it, and the cheapest order of the events of
//! a trace.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::segments;
use crate::strategy::Segment;
use crate::trace::{Access, Kind, Loc, Trace, Worker};

/// What makes a schedule hard to follow, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Switches away from a worker that could have gone on.
    pub preemptions: u32,
    /// Switches, all told.
    pub switches: u32,
    /// Events.
    pub events: u32,
}

impl Cost {
    /// Of an execution.
    pub fn of(trace: &Trace) -> Self {
        let mut cost = Cost { preemptions: 0, switches: 0, events: trace.len() as u32 };
        let mut world = World::new(trace);
        let mut last: Option<Worker> = None;
        for event in trace.events() {
            if let Some(left) = last.filter(|&left| left != event.worker) {
                cost.switches += 1;
                cost.preemptions += world.could_go_on(left) as u32;
            }
            world.execute(event.worker, trace.accesses_of(event));
            last = Some(event.worker);
        }
        cost
    }
}

/// What is enabled, while a trace is gone through.
struct World<'a> {
    trace: &'a Trace,
    tokens: FxHashMap<Loc, u32>,
    /// The events of each worker that are still to come, last one first.
    left: FxHashMap<Worker, Vec<usize>>,
}

impl<'a> World<'a> {
    fn new(trace: &'a Trace) -> Self {
        let mut left: FxHashMap<Worker, Vec<usize>> = FxHashMap::default();
        for (index, event) in trace.events().iter().enumerate().rev() {
            left.entry(event.worker).or_default().push(index);
        }
        Self { trace, tokens: trace.tokens().iter().copied().collect(), left }
    }

    fn next(&self, worker: Worker) -> Option<&'a [Access]> {
        let index = *self.left.get(&worker)?.last()?;
        Some(self.trace.accesses_of(&self.trace.events()[index]))
    }

    fn pending(&self, worker: Worker) -> Option<&'a [Access]> {
        let mut pending = self.trace.pending.iter();
        pending.find(|p| p.worker == worker).map(|p| p.accesses.as_slice())
    }

    fn could_go_on(&self, worker: Worker) -> bool {
        let next = self.next(worker);
        let is_free = |loc| self.tokens.get(&loc).is_none_or(|&n| n > 0);
        next.or_else(|| self.pending(worker)).is_some_and(|accesses| {
            let timed_out = accesses.iter().any(|access| access.kind == Kind::Advance);
            accesses.iter().all(|access| match access.kind {
                Kind::Acquire => is_free(access.loc),
                // The acquire that timed out would have got it before.
                Kind::Miss if timed_out => is_free(access.loc),
                // Who waits for an end to the last has waited all along.
                Kind::Join if next.is_none() => false,
                Kind::Join => {
                    let other = access.loc as Worker;
                    self.next(other).is_none() && self.pending(other).is_none()
                }
                // A sleep goes on only when nobody else can.
                Kind::Advance => accesses.len() > 1,
                _ => true,
            })
        })
    }

    fn execute(&mut self, worker: Worker, accesses: &[Access]) {
        self.left.entry(worker).or_default().pop();
        for access in accesses {
            let tokens = || self.tokens.get(&access.loc).copied().unwrap_or(1);
            let now = match access.kind {
                Kind::Acquire | Kind::TryAcquire => tokens().saturating_sub(1),
                Kind::Release => tokens() + 1,
                _ => continue,
            };
            self.tokens.insert(access.loc, now);
        }
    }
}

/// So many states are looked at before the search for the best order is given up.
const PATIENCE: usize = 20_000;

/// The order of a trace's events that costs least, among those in which nothing
/// that depends on something else changes places with it.
pub(super) fn linearise(trace: &Trace) -> Option<(Vec<Segment>, Cost)> {
    let order = Order::of(trace);
    let start = (vec![0; order.steps.len()], None);
    let mut known = FxHashMap::default();
    let mut queue = BinaryHeap::new();
    known.insert(start.clone(), ((0, 0), None));
    queue.push((Reverse((0, 0)), start));
    while let Some((Reverse(cost), state)) = queue.pop() {
        if known[&state].0 < cost {
            continue;
        }
        if known.len() > PATIENCE {
            return None;
        }
        let (done, last) = &state;
        let enabled = last.is_some_and(|last| order.could_go_on(trace, last, done));
        let mut complete = true;
        for (worker, steps) in order.steps.iter().enumerate() {
            let Some(&step) = steps.get(done[worker]) else { continue };
            complete = false;
            if order.before[step].iter().zip(done).any(|(needed, done)| needed > done) {
                continue;
            }
            let switch = last.is_some_and(|last| last != worker);
            let cost = (cost.0 + (switch && enabled) as u32, cost.1 + switch as u32);
            let mut next = (done.clone(), Some(worker));
            next.0[worker] += 1;
            if known.get(&next).is_none_or(|(known, _)| cost < *known) {
                known.insert(next.clone(), (cost, Some(state.clone())));
                queue.push((Reverse(cost), next));
            }
        }
        if complete {
            let cost = Cost { preemptions: cost.0, switches: cost.1, events: trace.len() as u32 };
            let mut workers = vec![];
            let mut at = &state;
            while let Some(earlier) = &known[at].1 {
                workers.extend(at.1.map(|worker| worker as Worker));
                at = earlier;
            }
            return Some((segments(workers.into_iter().rev()), cost));
        }
    }
    None
}

/// What must come before what in a trace.
pub(super) struct Order {
    /// The events of each worker.
    pub steps: Vec<Vec<usize>>,
    /// Of each event: how many events of each worker come before it.
    pub before: Vec<Vec<usize>>,
}

impl Order {
    pub fn of(trace: &Trace) -> Self {
        let workers = trace.events().iter().map(|event| event.worker as usize + 1);
        let workers = workers.max().unwrap_or(0);
        let mut order = Order { steps: vec![vec![]; workers], before: vec![] };
        let join = |clock: &mut Vec<usize>, other: &[usize]| {
            clock.iter_mut().zip(other).for_each(|(a, b)| *a = *b.max(a));
        };
        let nothing = vec![0; workers];
        let mut clocks = vec![nothing.clone(); workers];
        let mut writes: FxHashMap<Loc, Vec<usize>> = FxHashMap::default();
        let mut touches: FxHashMap<Loc, Vec<usize>> = FxHashMap::default();
        for (index, event) in trace.events().iter().enumerate() {
            let worker = event.worker as usize;
            let accesses = trace.accesses_of(event);
            let mut clock = clocks[worker].clone();
            for access in accesses {
                match access.kind {
                    Kind::Join => {
                        if let Some(ended) = clocks.get(access.loc as usize) {
                            join(&mut clock, ended);
                        }
                    }
                    Kind::Advance => {
                        let all: Vec<usize> = order.steps.iter().map(Vec::len).collect();
                        join(&mut clock, &all);
                    }
                    kind if kind.is_memory() => {
                        let map = if kind.is_write() { &touches } else { &writes };
                        join(&mut clock, map.get(&access.loc).unwrap_or(&nothing));
                    }
                    _ => {}
                }
            }
            order.before.push(clock.clone());
            order.steps[worker].push(index);
            clock[worker] = order.steps[worker].len();
            for access in accesses {
                match access.kind {
                    Kind::Start => {
                        if let Some(started) = clocks.get_mut(access.loc as usize) {
                            join(started, &clock);
                        }
                    }
                    Kind::Advance => clocks.iter_mut().for_each(|other| join(other, &clock)),
                    kind if kind.is_memory() => {
                        let new = || nothing.clone();
                        join(touches.entry(access.loc).or_insert_with(new), &clock);
                        if kind.is_write() {
                            join(writes.entry(access.loc).or_insert_with(new), &clock);
                        }
                    }
                    _ => {}
                }
            }
            clocks[worker] = clock;
        }
        order
    }

    fn could_go_on(&self, trace: &Trace, worker: usize, done: &[usize]) -> bool {
        let next = self.steps[worker].get(done[worker]).map(|&step| &trace.events()[step]);
        let always = |access: &Access| matches!(access.kind, Kind::Read | Kind::Write);
        if next.is_some_and(|next| trace.accesses_of(next).iter().all(always)) {
            return true;
        }
        let mut world = World::new(trace);
        for (worker, &count) in done.iter().enumerate() {
            for &step in &self.steps[worker][..count] {
                world.execute(worker as Worker, trace.accesses_of(&trace.events()[step]));
            }
        }
        world.could_go_on(worker as Worker)
    }
}
