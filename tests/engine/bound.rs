//! Preemption bounds: every trace within the bound is explored, and fewer
//! executions than without.
//!
//! `ENGINE_CASES=100000 cargo test --release --test engine bound` is the long run.

use crate::sim::programs::*;
use crate::sim::random::{any_order, any_program, cases};
use crate::sim::{Program, Runner, brute, explore, explore_with, preemptions};
use frontrun_native::dpor::Dpor;
use frontrun_native::strategy::Strategy as _;
use frontrun_native::trace::Trace;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// How many traces have a linearisation with at most 0, 1, 2… preemptions.
fn within(program: &Program) -> Vec<usize> {
    let all = preemptions(program);
    let most = all.values().max().copied().unwrap_or(0);
    (0..=most).map(|k| all.values().filter(|&&p| p <= k).count()).collect()
}

#[test]
fn the_oracle_agrees_with_the_reference() {
    assert_eq!(within(&readers(4)), [16]);
    assert_eq!(within(&lastzero(4)), [28]);
    assert_eq!(within(&counter(3, 1)), [6, 24, 36]);
    assert_eq!(within(&counter(2, 3)), [2, 12, 56, 132, 236, 304, 326, 328]);
    assert_eq!(within(&fib(2, true)), [6, 33, 98, 137, 140]);
    assert_eq!(within(&philosophers(4)), [14, 15]);
    assert_eq!(within(&account(3)), [3, 27, 51, 63]);
    assert_eq!(within(&coa(3)), [24, 90, 130]);
    assert_eq!(within(&locked_counter(2, 3)), [2, 6, 14, 18, 20]);
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn explores_every_trace_within_the_bound(
        program in any_program(),
        seed in any::<u64>(),
        bound in 0..4u32,
        order in any_order(),
    ) {
        let Some(all) = brute(&program, 2000) else { return Ok(()) };
        let mut dpor = Dpor::with_bound(Some(bound)).in_order(order);
        let found: Vec<_> = explore_with(Runner::new(&program, seed), &mut dpor, 20 * all.len() + 10);
        let distinct: BTreeSet<_> = found.iter().map(|(canon, _)| canon).collect();
        for (canon, least) in preemptions(&program) {
            prop_assert!(least > bound || distinct.contains(&canon), "missed one with {least}");
        }
        prop_assert_eq!(distinct.len(), found.len(), "traces explored twice");
        prop_assert!(distinct.len() <= all.len());
    }
}

/// (executions with these bounds, without)
fn cut(program: &Program, bounds: &[u32]) -> Vec<usize> {
    let count = |bound| explore(program, &mut Dpor::with_bound(bound), 1, usize::MAX).len();
    bounds.iter().map(|&k| count(Some(k))).collect()
}

#[test]
fn bounds_cut() {
    assert_eq!(cut(&counter(2, 5), &[0, 1, 2]), [19, 172, 740]); // of 34904
    assert_eq!(cut(&counter(3, 2), &[0, 1, 2]), [501, 1626, 3606]); // of 7134
    assert_eq!(cut(&counter(3, 3), &[0, 1, 2]), [1655, 10032, 44703]);
}

/// `cargo test --release --test engine bound large -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn large_ones_are_cut() {
    for (name, program) in [("counter(3,3)", counter(3, 3)), ("counter(4,2)", counter(4, 2))] {
        for bound in [Some(1), Some(2), None] {
            let mut dpor = Dpor::with_bound(bound);
            let mut runner = Runner::new(&program, 1);
            let mut trace = Trace::new();
            let mut plan = dpor.next_plan(None).cloned();
            while let Some(p) = plan {
                runner.run(&p, &mut trace);
                plan = dpor.next_plan(Some(&trace)).cloned();
            }
            println!("{name} {bound:?}: {:?}", dpor.stats());
        }
    }
}
