//! A million executions within a gibibyte.
//!
//! `cargo test --release --test engine memory -- --ignored --nocapture`

use crate::sim::programs::counter;
use crate::sim::{Program, Runner};
use frontrun_native::dpor::{Dpor, Order};
use frontrun_native::strategy::Strategy;
use frontrun_native::trace::Trace;

/// The most memory this process has ever used, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0) / 1024
}

fn run(program: &Program, order: Order, executions: u64) {
    let mut dpor = Dpor::new().in_order(order);
    let mut runner = Runner::new(program, 1);
    let mut trace = Trace::new();
    let mut plan = dpor.next_plan(None).cloned();
    while let Some(p) = plan.filter(|_| dpor.stats().executions < executions) {
        runner.run(&p, &mut trace);
        plan = dpor.next_plan(Some(&trace)).cloned();
    }
    println!("{order:?}: {:?}, peak {} MiB, estimate {:?}", dpor.stats(), peak(), dpor.estimate());
    assert!(dpor.stats().executions >= executions);
    assert!(peak() < 1024);
}

#[test]
#[ignore = "takes a minute"]
fn a_million_executions() {
    for order in [Order::DepthFirst, Order::FewPreemptions] {
        run(&counter(3, 3), order, 1_000_000);
        run(&counter(2, 200), order, 100_000);
    }
}
