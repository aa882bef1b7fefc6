//! Programs that are not deterministic are found out.

use crate::sim::programs::counter;
use crate::sim::{Op, Program, Runner, at};
use frontrun_native::dpor::{Dpor, Order};
use frontrun_native::strategy::Strategy;
use frontrun_native::trace::Trace;

const ORDERS: [Order; 3] = [Order::DepthFirst, Order::FewPreemptions, Order::Diverse];

/// Explores `first` once and goes on with `then`.
fn explore_changing(first: &Program, then: &Program, order: Order) -> Dpor {
    let mut dpor = Dpor::new().in_order(order);
    let mut trace = Trace::new();
    let plan = dpor.next_plan(None).cloned().expect("a first one");
    Runner::new(first, 1).run(&plan, &mut trace);
    if dpor.next_plan(Some(&trace)).is_some() {
        // The changed program may not be able to follow the plan; show what it does.
        Runner::new(then, 1).run(&Default::default(), &mut trace);
        assert!(dpor.next_plan(Some(&trace)).is_none(), "the search ends");
    }
    dpor
}

#[test]
fn a_step_that_changed_is_named() {
    let mut changed = counter(2, 1);
    changed.workers[0].insert(0, Op::Try(0, at(5)));
    for order in ORDERS {
        let dpor = explore_changing(&counter(2, 1), &changed, order);
        let divergence = dpor.divergence().expect("it changed");
        assert_eq!((divergence.index, divergence.worker), (0, 0));
        assert!(!dpor.exhausted());
    }
}

#[test]
fn an_execution_that_ends_early_is_named() {
    let short = Program::new(vec![vec![Op::Read(0, at(0))]]);
    let dpor = explore_changing(&counter(2, 1), &short, Order::DepthFirst);
    let divergence = dpor.divergence().expect("it ended early");
    assert_eq!((divergence.index, divergence.found_site), (1, None));
}

#[test]
fn a_plan_is_dropped_whose_worker_waits_for_something_unseen() {
    let program = counter(3, 1);
    let mut short = counter(3, 1);
    short.workers[1].truncate(1);
    short.workers[2].clear();
    let mut dpor = Dpor::new();
    let mut trace = Trace::new();
    let mut executed = 0;
    while let Some(plan) = dpor.next_plan(Some(&trace).filter(|_| executed > 0)).cloned() {
        trace.clear();
        if executed == 1 {
            Runner::new(&short, 1).run(&Default::default(), &mut trace);
            trace.stalled = true;
        } else {
            Runner::new(&program, 1).run(&plan, &mut trace);
        }
        executed += 1;
    }
    assert_eq!(dpor.divergence(), None);
    assert_eq!(dpor.stats().stalled, 1);
    assert!(executed > 2, "other plans are still executed");
}
