//! Which executions can happen where threads switch only at certain points.

use std::collections::{BTreeSet, HashMap};

use crate::sim::random::{any_program, cases};
use crate::sim::{Canon, Op, Program, Runner, State, brute};
use frontrun_native::dpor::Dpor;
use frontrun_native::explore::has_uninterrupted_order;
use frontrun_native::strategy::Strategy as _;
use frontrun_native::trace::Trace;
use proptest::prelude::*;

/// Is this operation, by chance, one that follows the one before without a switch?
fn is_within(op: Op, worker: usize, n: u32, dice: u64) -> bool {
    let memory = matches!(op, Op::Read(..) | Op::Write(..) | Op::Rmw(..) | Op::Cas(..));
    n > 0 && memory && (dice >> ((worker * 7 + n as usize) % 64)) & 1 == 1
}

/// The traces of the executions in which no block is interrupted, by brute force.
fn uninterrupted(program: &Program, dice: u64) -> BTreeSet<Canon> {
    let start = State::new(program);
    let counts = vec![0; start.workers()];
    let mut level = HashMap::from([((Canon::new(start.workers()), counts), start)]);
    let mut all = BTreeSet::new();
    while !level.is_empty() {
        let mut next = HashMap::new();
        for ((canon, counts), state) in level {
            let runnable = state.runnable();
            if runnable.is_empty() {
                all.insert(canon.clone());
            }
            for w in runnable {
                let (mut canon, mut counts, mut state) =
                    (canon.clone(), counts.clone(), state.clone());
                loop {
                    canon.add(w, &state.next(w));
                    state.step(w);
                    counts[w] += 1;
                    let goes_on =
                        state.next_op(w).is_some_and(|op| is_within(op, w, counts[w], dice));
                    if !goes_on {
                        break;
                    }
                }
                next.insert((canon, counts), state);
            }
        }
        level = next;
    }
    all
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_trace_is_kept_exactly_if_some_uninterrupted_execution_has_it(
        program in any_program(),
        dice in any::<u64>(),
    ) {
        prop_assume!(brute(&program, 1500).is_some());
        let expected = uninterrupted(&program, dice);
        let mut dpor = Dpor::new();
        let mut runner = Runner::new(&program, 1);
        let mut trace = Trace::new();
        let mut found = BTreeSet::new();
        let mut plan = dpor.next_plan(None).cloned();
        while let Some(p) = plan {
            let (canon, _) = runner.run(&p, &mut trace);
            let mut state = State::new(&program);
            let mut counts = vec![0; state.workers()];
            let mut within = vec![];
            for event in trace.events() {
                let w = event.worker as usize;
                let op = state.next_op(w).expect("it was executed");
                within.push(is_within(op, w, counts[w], dice));
                state.step(w);
                counts[w] += 1;
            }
            if has_uninterrupted_order(&trace, &within) {
                found.insert(canon);
            }
            plan = dpor.next_plan(Some(&trace)).cloned();
        }
        prop_assert_eq!(found, expected);
    }
}
