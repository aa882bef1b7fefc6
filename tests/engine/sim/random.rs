//! Random programs.

use std::collections::BTreeMap;

use frontrun_native::dpor::Order;
use proptest::prelude::*;

use super::{At, Op, Program, Val};

fn place(n: i64) -> impl Strategy<Value = At> {
    // Sometimes the variable depends on what was read.
    prop_oneof![
        6 => (0..n).prop_map(|x| At(x, None)),
        1 => (0..n).prop_map(|x| At(x, Some(0))),
    ]
}

fn value() -> impl Strategy<Value = Val> {
    prop_oneof![(0..3i64).prop_map(Val::C), Just(Val::R(0)), Just(Val::Add(0, 1))]
}

/// The variable in which a condition keeps who waits for it, and the locks that
/// the waiters wait at, as `threading.Condition` does it (with place for one).
const CONDITION: i64 = 20;
const WAITERS: i64 = 30;
/// Stands for the worker's own number plus one.
const ME: i64 = -1;

/// Waits for the condition, and not longer than so long.
fn wait(limit: Option<u32>) -> Vec<Op> {
    let waiter = At(WAITERS + ME, None);
    let lock = At(0, None);
    vec![
        Op::Acquire(lock),
        Op::Write(At(CONDITION, None), Val::C(ME)),
        Op::Release(lock),
        limit.map_or(Op::Acquire(waiter), |n| Op::AcquireWithin(0, waiter, n)),
        Op::Acquire(lock),
        Op::Release(lock),
    ]
}

/// Wakes who waits for the condition, if anybody does.
fn notify() -> Vec<Op> {
    vec![
        Op::Acquire(At(0, None)),
        Op::Read(1, At(CONDITION, None)),
        Op::JumpIfZero(1, usize::MAX - 1),
        Op::Write(At(CONDITION, None), Val::C(0)),
        Op::Release(At(WAITERS, Some(1))),
        Op::Release(At(0, None)),
    ]
}

fn op(vars: i64, locks: i64, workers: usize) -> impl Strategy<Value = Vec<Op>> {
    let lock = move || (0..locks.max(1)).prop_map(|l| At(l, None));
    let jump = (prop::bool::ANY, 1..3usize);
    let locked = u32::from(locks > 0);
    prop_oneof![
        4 => place(vars).prop_map(|x| vec![Op::Read(0, x)]),
        4 => (place(vars), value()).prop_map(|(x, v)| vec![Op::Write(x, v)]),
        1 => place(vars).prop_map(|x| vec![Op::Rmw(0, x, 1)]),
        3 => (place(vars), 0..2i64, 0..3i64)
            .prop_map(|(x, a, b)| vec![Op::Cas(0, x, Val::C(a), Val::C(b))]),
        2 * locked + 1 => lock().prop_map(move |l| {
            if locked == 1 { vec![Op::Acquire(l), Op::Read(0, At(0, None)), Op::Release(l)] }
            else { vec![Op::Private] }
        }),
        2 * locked + 1 => lock().prop_map(move |l| {
            if locked == 1 { vec![Op::Acquire(l)] } else { vec![Op::Private] }
        }),
        2 * locked + 1 => lock().prop_map(move |l| {
            if locked == 1 { vec![Op::Release(l)] } else { vec![Op::Private] }
        }),
        // try, and release only what was taken
        2 * locked + 1 => (lock(), prop::bool::ANY).prop_map(move |(l, back)| {
            if locked == 0 { vec![Op::Private] }
            else if back { vec![Op::Try(0, l), Op::JumpIfZero(0, usize::MAX), Op::Release(l)] }
            else { vec![Op::Try(0, l)] }
        }),
        1 => (lock(), place(vars)).prop_map(move |(l, x)| {
            if locked == 1 { vec![Op::AcquireAndWrite(l, x)] } else { vec![Op::Private] }
        }),
        1 => (1..4u32).prop_map(|n| vec![Op::Sleep(n)]),
        1 => (lock(), 1..4u32).prop_map(move |(l, n)| {
            if locked == 0 { vec![Op::Private] }
            else { vec![Op::AcquireWithin(0, l, n), Op::JumpIfZero(0, usize::MAX), Op::Release(l)] }
        }),
        1 => (1..workers as u16).prop_map(|w| vec![Op::Start(w)]),
        1 => (0..workers as u16).prop_map(|w| vec![Op::Join(w)]),
        locked + 1 => prop::option::of(1..4u32).prop_map(move |limit| {
            if locked == 1 { wait(limit) } else { vec![Op::Private] }
        }),
        locked + 1 => Just(if locked == 1 { notify() } else { vec![Op::Private] }),
        1 => jump.prop_map(|(zero, n)| vec![
            if zero { Op::JumpIfZero(0, usize::MAX - n) } else { Op::JumpIfNot(0, usize::MAX - n) }
        ]),
        1 => Just(vec![Op::Private]),
    ]
}

/// Resolves the jumps, which are relative and forward, and keeps starts sane:
/// only a later worker, once.
fn program(lists: Vec<Vec<Vec<Op>>>, tokens: Vec<(i64, i64)>) -> Program {
    let mut started = vec![false; lists.len()];
    let mut workers = Vec::new();
    for (w, list) in lists.into_iter().enumerate() {
        let mut ops = Vec::new();
        for op in list.into_iter().flatten() {
            let here = ops.len();
            let target = |t: usize| here + 2 + (usize::MAX - t);
            match op {
                Op::JumpIfZero(r, t) => ops.push(Op::JumpIfZero(r, target(t))),
                Op::JumpIfNot(r, t) => ops.push(Op::JumpIfNot(r, target(t))),
                Op::Start(t) => {
                    if t as usize > w && (t as usize) < started.len() && !started[t as usize] {
                        started[t as usize] = true;
                        ops.push(op);
                    }
                }
                Op::Join(t) if t as usize == w => {}
                Op::Write(x, Val::C(ME)) => ops.push(Op::Write(x, Val::C(w as i64 + 1))),
                Op::Acquire(At(lock, None)) if lock == WAITERS + ME => {
                    ops.push(Op::Acquire(At(WAITERS + w as i64 + 1, None)));
                }
                Op::AcquireWithin(r, At(lock, None), n) if lock == WAITERS + ME => {
                    ops.push(Op::AcquireWithin(r, At(WAITERS + w as i64 + 1, None), n));
                }
                _ => ops.push(op),
            }
        }
        workers.push(ops);
    }
    // Joins of a worker that does not exist wait forever for nobody.
    let n = workers.len() as u16;
    for ops in &mut workers {
        for op in ops.iter_mut() {
            if matches!(op, Op::Join(t) if *t >= n) {
                *op = Op::Private;
            }
        }
    }
    let waiters = (1..=i64::from(n)).map(|w| (WAITERS + w, 0));
    Program { workers, init: BTreeMap::new(), tokens: tokens.into_iter().chain(waiters).collect() }
}

pub fn any_program() -> impl Strategy<Value = Program> {
    (2..=4usize, 1..=3i64, 0..=2i64).prop_flat_map(|(workers, vars, locks)| {
        let list = prop::collection::vec(op(vars, locks, workers), 1..=6);
        let tokens = prop::collection::vec((0..2i64, 0..=2i64), 0..=1);
        (prop::collection::vec(list, workers), tokens)
            .prop_map(|(lists, tokens)| program(lists, tokens))
    })
}

/// The orders of a search.
pub fn any_order() -> impl Strategy<Value = Order> {
    prop::sample::select(vec![Order::DepthFirst, Order::FewPreemptions, Order::Diverse])
}

/// The number of cases to try: `ENGINE_CASES`, or a default.
pub fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("ENGINE_CASES").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    ProptestConfig {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Default::default()
    }
}
