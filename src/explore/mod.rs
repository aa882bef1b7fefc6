//! The loop: strategy → plan → execution → verdict → strategy, whatever it is
//! that executes.

mod cost;
mod estimate;
mod family;
mod minimise;
mod uninterrupted;

use std::cell::Cell;
use std::time::{Duration, Instant};

pub use cost::Cost;
pub use estimate::{Estimate, Estimator, Sizes};
pub use family::{Family, Made};
pub use minimise::{Budget, Minimised, minimise};
pub use uninterrupted::has_uninterrupted_order;

use crate::strategy::{Plan, Segment, Strategy};
use crate::trace::{Trace, Worker};

/// What is thought of one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was wrong.
    Pass,
    /// Something was.
    Fail,
    /// It did not end, and cannot be judged.
    Inconclusive,
}

/// Executes plans.
pub trait Runner {
    /// Executes `plan` from the start and writes down what happened. Asks
    /// `strategy` where the plan leaves a choice, if it wants to be asked.
    fn run(&mut self, plan: &Plan, strategy: &mut dyn Strategy, trace: &mut Trace) -> Verdict;

    /// Told after every execution. False ends the exploration.
    fn progress(&mut self, _progress: &Progress<'_>) -> bool {
        true
    }
}

/// When to end although more is left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// So many executions.
    pub max_executions: Option<u64>,
    /// So much time.
    pub total_time: Option<Duration>,
    /// The first failure.
    pub stop_on_first: bool,
}

/// Why an exploration ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The strategy has nothing more to try.
    #[default]
    Exhausted,
    /// [`Limits::max_executions`].
    Executions,
    /// [`Limits::total_time`].
    Time,
    /// [`Limits::stop_on_first`].
    Failure,
    /// [`Runner::progress`] said so.
    Stopped,
}

/// How far an exploration has come.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    /// Executions so far.
    pub executions: u64,
    /// Failing ones among them.
    pub failures: u64,
    /// Since the start.
    pub elapsed: Duration,
    strategy: &'a dyn Strategy,
}

impl Progress<'_> {
    /// Of the executions in all, where the strategy can tell. Takes a moment.
    pub fn estimate(&self) -> Option<Estimate> {
        self.strategy.estimate().map(|estimate| estimate.at_least(self.executions))
    }
}

/// A failing execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its number, from 0.
    pub execution: u64,
    /// Who ran for how long, from start to end: replays it.
    pub schedule: Vec<Segment>,
}

/// What an exploration found.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Executions.
    pub executions: u64,
    /// Those that could not be judged.
    pub inconclusive: u64,
    /// The failing ones, in the order in which they were found.
    pub failures: Vec<Failure>,
    /// Why it ended.
    pub end: End,
    /// Of the executions in all, where the strategy can tell.
    pub estimate: Option<Estimate>,
}

impl Summary {
    /// Was everything there is executed and judged?
    pub fn exhaustive(&self) -> bool {
        self.end == End::Exhausted && self.inconclusive == 0
    }
}

/// Explores until the strategy has nothing more to try or a limit is met.
pub fn explore(strategy: &mut dyn Strategy, runner: &mut dyn Runner, limits: &Limits) -> Summary {
    let start = Instant::now();
    let mut summary = Summary::default();
    let mut trace = SPARE.take();
    let mut last = None;
    while let Some(plan) = strategy.next_plan(last).cloned() {
        if limits.max_executions.is_some_and(|most| summary.executions >= most) {
            summary.end = End::Executions;
            break;
        }
        if limits.total_time.is_some_and(|most| start.elapsed() >= most) {
            summary.end = End::Time;
            break;
        }
        trace.clear();
        match runner.run(&plan, strategy, &mut trace) {
            Verdict::Pass => {}
            Verdict::Fail => summary
                .failures
                .push(Failure { execution: summary.executions, schedule: schedule(&trace) }),
            Verdict::Inconclusive => summary.inconclusive += 1,
        }
        summary.executions += 1;
        if limits.stop_on_first && !summary.failures.is_empty() {
            summary.end = End::Failure;
            break;
        }
        let goes_on = runner.progress(&Progress {
            executions: summary.executions,
            failures: summary.failures.len() as u64,
            elapsed: start.elapsed(),
            strategy: &*strategy,
        });
        if !goes_on {
            summary.end = End::Stopped;
            break;
        }
        last = Some(&trace);
    }
    summary.estimate = strategy.estimate().map(|all| all.at_least(summary.executions));
    if trace.len() <= MOST_KEPT {
        SPARE.set(trace);
    }
    summary
}

/// That of longer traces is given back.
const MOST_KEPT: usize = 1 << 20;

thread_local! {
    /// The memory of the last exploration, for the next one. To get it from the kernel can
    /// take half as long as all else that is done for an event.
    static SPARE: Cell<Trace> = Cell::default();
}

/// Who ran for how long in an execution.
pub fn schedule(trace: &Trace) -> Vec<Segment> {
    segments(trace.events().iter().map(|event| event.worker))
}

/// The runs of a schedule that names the worker of each event.
pub fn segments(schedule: impl Iterator<Item = Worker>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for worker in schedule {
        match segments.last_mut() {
            Some(last) if last.worker == worker => last.events += 1,
            _ => segments.push(Segment { worker, events: 1 }),
        }
    }
    segments
}
