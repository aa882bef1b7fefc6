//! The engine against brute force on random programs.
//!
//! `ENGINE_CASES=100000 cargo test --release --test engine random` is the long
//! run; without the variable a thousand programs are tried.

use crate::sim::random::{any_order, any_program, cases};
use crate::sim::{Op, Runner, Told, brute, explore_with};
use frontrun_native::dpor::Dpor;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PREFIXES: usize = 6_000;

proptest! {
    #![proptest_config(cases(1000))]

    fn explores_every_trace_once(
        program in any_program(),
        seed in any::<u64>(),
        told in 0..4usize,
        order in any_order(),
    ) {
        let Some(expected) = brute(&program, PREFIXES) else { return Ok(()) };
        let mut dpor = Dpor::new().in_order(order);
        let runner = Runner { told: TOLD[told], ..Runner::new(&program, seed) };
        let all = explore_with(runner, &mut dpor, 20 * expected.len() + 10);
        prop_assert_eq!(dpor.divergence(), None);
        let mut found = BTreeMap::new();
        for (canon, outcome) in &all {
            prop_assert!(expected.contains_key(canon), "not a trace");
            found.insert(canon, outcome);
        }
        prop_assert_eq!(found.len(), expected.len(), "traces missed");
        prop_assert_eq!(all.len(), expected.len(), "traces explored twice");
        for (canon, outcome) in found {
            prop_assert_eq!(outcome, &expected[canon]);
        }
        // If a compare-and-set is planned that was never executed in that place, or if
        // it is not told which location is which, an execution may have to find out
        // whether two steps commute.
        let blocked = dpor.stats().blocked;
        let conditional = program.workers.iter().flatten().any(|op| matches!(op, Op::Cas(..)));
        if !conditional && TOLD[told] == Told::All || program.workers.len() < 3 {
            prop_assert_eq!(blocked, 0);
        }
        TRACES.fetch_add(expected.len() as u64, Relaxed);
        BLOCKED[told].fetch_add(blocked, Relaxed);
    }
}

/// How many executions were blocked, by what was told.
static BLOCKED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
const TOLD: [Told; 4] = [Told::Nothing, Told::Part, Told::Some, Told::All];
static TRACES: AtomicU64 = AtomicU64::new(0);

#[test]
fn hardly_any_execution_is_blocked() {
    explores_every_trace_once();
    let blocked = BLOCKED.each_ref().map(|n| n.load(Relaxed));
    let traces = TRACES.load(Relaxed);
    println!("{traces} traces, blocked: {blocked:?}");
    assert!(blocked.iter().all(|b| b * 100 <= traces) && blocked[3] * 1000 <= traces);
}
