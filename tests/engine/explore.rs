//! The loop: limits, failures, estimates.

use std::collections::BTreeSet;

use crate::sim::programs::{counter, lock_order};
use crate::sim::{Program, Runner as Simulation};
use frontrun_native::dpor::Dpor;
use frontrun_native::explore::{End, Limits, Progress, Runner, Verdict, explore};
use frontrun_native::strategy::{Plan, Strategy};
use frontrun_native::trace::Trace;

/// Runs a program and checks the final value of variable 0.
struct Checker<'p> {
    simulation: Simulation<'p>,
    expected: i64,
    estimates: Vec<f64>,
}

impl<'p> Checker<'p> {
    fn new(program: &'p Program, expected: i64) -> Self {
        Self { simulation: Simulation::new(program, 1), expected, estimates: Vec::new() }
    }
}

impl Runner for Checker<'_> {
    fn run(&mut self, plan: &Plan, _: &mut dyn Strategy, trace: &mut Trace) -> Verdict {
        let (_, outcome) = self.simulation.run(plan, trace);
        let value = outcome.mem.get(&0).copied().unwrap_or(0);
        if outcome.deadlock || value != self.expected { Verdict::Fail } else { Verdict::Pass }
    }

    fn progress(&mut self, progress: &Progress<'_>) -> bool {
        self.estimates.extend(progress.estimate().map(|e| e.total));
        true
    }
}

#[test]
fn lists_every_failing_trace_once() {
    let program = counter(2, 2);
    let mut checker = Checker::new(&program, 4);
    let summary = explore(&mut Dpor::new(), &mut checker, &Limits::default());
    assert_eq!((summary.executions, summary.end), (34, End::Exhausted));
    assert!(summary.exhaustive());
    // All but the two serial ones lose an update... unless they do not overlap.
    let distinct: BTreeSet<_> = summary
        .failures
        .iter()
        .map(|f| f.schedule.iter().map(|s| (s.worker, s.events)).collect::<Vec<_>>())
        .collect();
    assert_eq!(distinct.len(), summary.failures.len());
    // A schedule replays its failure.
    for failure in &summary.failures {
        let plan = Plan::of(failure.schedule.clone());
        let verdict = checker.run(&plan, &mut Dpor::new(), &mut Trace::new());
        assert_eq!(verdict, Verdict::Fail);
    }
}

#[test]
fn deadlocks_are_failures_like_others() {
    let program = lock_order(3);
    let mut checker = Checker::new(&program, 0);
    let summary = explore(&mut Dpor::new(), &mut checker, &Limits::default());
    assert_eq!((summary.executions, summary.failures.len()), (10, 4));
}

#[test]
fn limits_are_kept_and_named() {
    let program = counter(2, 3);
    let limits = Limits { max_executions: Some(10), ..Limits::default() };
    let summary = explore(&mut Dpor::new(), &mut Checker::new(&program, 6), &limits);
    assert_eq!((summary.executions, summary.end), (10, End::Executions));
    assert!(!summary.exhaustive());

    let limits = Limits { stop_on_first: true, ..Limits::default() };
    let summary = explore(&mut Dpor::new(), &mut Checker::new(&program, 6), &limits);
    assert_eq!((summary.failures.len(), summary.end), (1, End::Failure));

    let limits = Limits { total_time: Some(std::time::Duration::ZERO), ..Limits::default() };
    let summary = explore(&mut Dpor::new(), &mut Checker::new(&program, 6), &limits);
    assert_eq!((summary.executions, summary.end), (0, End::Time));
}

#[test]
fn as_many_executions_as_there_are_end_it_exhausted() {
    let program = counter(2, 1);
    let limits = Limits { max_executions: Some(4), ..Limits::default() };
    let summary = explore(&mut Dpor::new(), &mut Checker::new(&program, 2), &limits);
    assert!(summary.exhaustive());
}

#[test]
fn the_estimate_becomes_exact() {
    let program = counter(3, 2);
    let mut checker = Checker::new(&program, 6);
    let summary = explore(&mut Dpor::new(), &mut checker, &Limits::default());
    let last = summary.estimate.expect("the search can tell");
    assert_eq!((last.total, last.low, last.high), (7134.0, 7134.0, 7134.0));
    for at in [200, 1000, 3000] {
        let total = checker.estimates[at];
        println!("after {at}: {total}");
        assert!((700.0..70_000.0).contains(&total), "after {at} executions: {total}");
    }
}
