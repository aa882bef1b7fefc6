//! The engine against brute force where events are blocks: what they access is not
//! known before they run, and may depend on what they read.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::sim::random::{any_order, cases};
use crate::sim::{At, Op, Program, Runner, Val, at, brute_with, explore_with};
use frontrun_native::dpor::{Dpor, Order};
use proptest::prelude::*;

const PREFIXES: usize = 4_000;

fn place() -> impl Strategy<Value = At> {
    prop_oneof![4 => (0..3i64).prop_map(|x| At(x, None)), 1 => (0..2i64).prop_map(|x| At(x, Some(0)))]
}

fn value() -> impl Strategy<Value = Val> {
    prop_oneof![(0..3i64).prop_map(Val::C), Just(Val::R(0)), Just(Val::Add(0, 1))]
}

/// Of a jump: how many operations it skips.
fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => place().prop_map(|x| Op::Read(0, x)),
        4 => (place(), value()).prop_map(|(x, v)| Op::Write(x, v)),
        1 => place().prop_map(|x| Op::Rmw(0, x, 1)),
        1 => (place(), 0..2i64, 0..3i64).prop_map(|(x, a, b)| Op::Cas(0, x, Val::C(a), Val::C(b))),
        4 => Just(Op::Private),
        1 => (0..2i64).prop_map(|l| Op::Acquire(at(l))),
        2 => (0..2i64).prop_map(|l| Op::Release(at(l))),
        2 => (1..4usize).prop_map(|n| Op::JumpIfZero(0, n)),
        1 => (1..4usize).prop_map(|n| Op::JumpIfNot(0, n)),
    ]
}

/// Tokens stand for wake-ups: there are none before somebody gives one, and a worker
/// takes its own ones only.
fn any_program() -> impl Strategy<Value = Program> {
    prop::collection::vec(prop::collection::vec(op(), 1..=6), 2..=4).prop_map(|workers| {
        let own = |w: usize, ops: Vec<Op>| {
            let resolve = |(here, op)| match op {
                Op::JumpIfZero(r, n) => Op::JumpIfZero(r, here + 1 + n),
                Op::JumpIfNot(r, n) => Op::JumpIfNot(r, here + 1 + n),
                Op::Acquire(_) => Op::Acquire(at(w as i64)),
                op => op,
            };
            ops.into_iter().enumerate().map(resolve).collect()
        };
        let workers = workers.into_iter().enumerate().map(|(w, ops)| own(w, ops)).collect();
        let mut program = Program::new(workers);
        program.tokens = (0..4).map(|lock| (lock, 0)).collect();
        program
    })
}

fn explored(
    program: &Program,
    seed: u64,
    order: Order,
    limit: usize,
) -> (usize, BTreeSet<crate::sim::Canon>, Dpor) {
    let mut dpor = Dpor::new().in_order(order);
    let runner = Runner { blocks: true, ..Runner::new(program, seed) };
    let all = explore_with(runner, &mut dpor, limit);
    let distinct = all.iter().map(|(canon, _)| canon.clone()).collect();
    (all.len(), distinct, dpor)
}

static TRACES: AtomicU64 = AtomicU64::new(0);
static EXECUTIONS: AtomicU64 = AtomicU64::new(0);

proptest! {
    #![proptest_config(cases(2000))]

    fn explores_every_trace(
        program in any_program(),
        seed in any::<u64>(),
        order in any_order(),
    ) {
        let Some(expected) = brute_with(&program, PREFIXES, |state, w| state.block(w)) else { return Ok(()) };
        let (executions, found, dpor) = explored(&program, seed, order, 50 * expected.len() + 50);
        prop_assert_eq!(dpor.divergence(), None);
        prop_assert!(dpor.exhausted(), "no end");
        prop_assert_eq!(found, expected.keys().cloned().collect());
        TRACES.fetch_add(expected.len() as u64, Relaxed);
        EXECUTIONS.fetch_add(executions as u64, Relaxed);
    }
}

#[test]
fn every_trace_is_explored_and_few_of_them_twice() {
    explores_every_trace();
    let (traces, executions) = (TRACES.load(Relaxed), EXECUTIONS.load(Relaxed));
    println!("{traces} traces, {executions} executions");
    assert!(executions * 2 <= traces * 3);
}

#[test]
fn blocks_of_a_counter() {
    let add =
        |n: usize| vec![Op::Read(0, at(0)), Op::Private, Op::Write(at(0), Val::Add(0, n as i64))];
    for (workers, traces) in [(2, 4), (3, 36)] {
        let program = Program::new(vec![add(1); workers]);
        let (executions, found, dpor) = explored(&program, 1, Order::DepthFirst, 10_000);
        assert!(dpor.exhausted());
        assert_eq!((executions, found.len()), (traces, traces));
    }
}
