//! The engine against brute force on random programs.
//!
//! `ENGINE_CASES=100000 cargo test --release --test engine_random` is the long
//! run; without the variable a thousand programs are tried.

mod engine_sim;

use engine_sim::random::{any_program, cases};
use engine_sim::{Op, Runner, brute, explore_with};
use frontrun_native::dpor::Dpor;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PREFIXES: usize = 6_000;

proptest! {
    #![proptest_config(cases(1000))]

    fn explores_every_trace_once(program in any_program(), seed in any::<u64>(), told in any::<bool>()) {
        let Some(expected) = brute(&program, PREFIXES) else { return Ok(()) };
        let mut dpor = Dpor::new();
        let runner = Runner { traits: told, ..Runner::new(&program, seed) };
        let all = explore_with(runner, &mut dpor, 20 * expected.len() + 10);
        prop_assert_eq!(dpor.divergence(), None);
        let mut found = BTreeMap::new();
        for (canon, outcome) in &all {
            prop_assert!(expected.contains_key(canon), "not a trace");
            found.insert(canon, outcome);
        }
        prop_assert_eq!(found.len(), expected.len(), "traces missed");
        for (canon, outcome) in found {
            prop_assert_eq!(outcome, &expected[canon]);
        }
        let stats = dpor.stats();
        // Without traits, or if a compare-and-set is planned that was never
        // executed in that place, a comparison may have to be settled by an
        // execution. Otherwise nothing is wasted.
        let conditional = program.workers.iter().flatten().any(|op| matches!(op, Op::Cas(..)));
        if told && !conditional {
            prop_assert_eq!((stats.blocked, stats.repeated), (0, 0), "wasted executions");
            prop_assert_eq!(all.len(), expected.len(), "traces explored twice");
        }
        TRACES.fetch_add(expected.len() as u64, Relaxed);
        WASTED[usize::from(told)].fetch_add((all.len() - expected.len()) as u64, Relaxed);
    }
}

/// How many executions were more than needed, without and with traits.
static WASTED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
static TRACES: AtomicU64 = AtomicU64::new(0);

#[test]
fn little_is_wasted() {
    explores_every_trace_once();
    let wasted = WASTED.each_ref().map(|n| n.load(Relaxed));
    let traces = TRACES.load(Relaxed);
    println!("{traces} traces, wasted without and with traits: {wasted:?}");
    assert!(wasted[0] * 50 <= traces && wasted[1] * 1000 <= traces);
}
