//! Replay: one known schedule, once.

use super::{Plan, Segment, Strategy};
use crate::trace::{Trace, Worker};

/// See the [module](self).
#[derive(Debug)]
pub struct Replay {
    plan: Plan,
    done: bool,
    divergence: Option<usize>,
}

impl Replay {
    /// Of the schedule of an execution ([`crate::explore::schedule`]).
    pub fn new(schedule: Vec<Segment>) -> Self {
        let plan = Plan::of(schedule);
        Self { plan, done: false, divergence: None }
    }

    /// The first event at which the execution left the schedule.
    pub fn divergence(&self) -> Option<usize> {
        self.divergence
    }

    fn workers(&self) -> impl Iterator<Item = Worker> + '_ {
        let runs = self.plan.segments.iter();
        runs.flat_map(|s| std::iter::repeat_n(s.worker, s.events as usize))
    }
}

impl Strategy for Replay {
    fn next_plan(&mut self, last: Option<&Trace>) -> Option<&Plan> {
        if let Some(trace) = last {
            let mut found = trace.events().iter().map(|e| e.worker);
            let left = self.workers().position(|worker| found.next() != Some(worker));
            self.divergence = left;
        }
        (!std::mem::replace(&mut self.done, true)).then_some(&self.plan)
    }
}
