//! Sampling strategies have the distributions that their papers give them.

use crate::sim::Op::*;
use crate::sim::Val::C;
use crate::sim::programs::lock_order;
use crate::sim::{Program, Runner, at};
use frontrun_native::explore::schedule;
use frontrun_native::strategy::{Pct, Plan, Portfolio, Pos, Random, Replay, Strategy, Surw, Walk};
use frontrun_native::trace::{Trace, Worker};
use std::collections::BTreeMap;

/// How often each order of workers came, out of `n` executions after the first.
fn sample(program: &Program, strategy: &mut dyn Strategy, n: u32) -> BTreeMap<Vec<Worker>, f64> {
    let mut runner = Runner::new(program, 1);
    let mut trace = Trace::new();
    let mut counts = BTreeMap::new();
    for i in 0..=n {
        let plan = strategy.next_plan((i > 0).then_some(&trace)).cloned().expect("never ends");
        runner.run_choosing(&plan, Some(strategy), &mut trace);
        if i > 0 {
            let order: Vec<Worker> = trace.events().iter().map(|e| e.worker).collect();
            *counts.entry(order).or_insert(0.0) += 1.0 / f64::from(n);
        }
    }
    counts
}

/// Are the frequencies those expected (in per cent), by three standard deviations?
fn check(found: &BTreeMap<Vec<Worker>, f64>, expected: &[(&[Worker], f64)]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (order, p) in expected {
        let f = found.get(*order).copied().unwrap_or(0.0);
        assert!((f - p).abs() < 0.011, "{order:?}: {f}, expected {p}");
    }
}

const N: u32 = 20_000;

/// Two events against one, all on one variable.
fn two_and_one() -> Program {
    let w = Write(at(0), C(1));
    Program::new(vec![vec![w, w], vec![w]])
}

#[test]
fn a_walk_halves_its_chances() {
    let found = sample(&two_and_one(), &mut Walk::new(5), N);
    check(&found, &[(&[0, 0, 1], 0.25), (&[0, 1, 0], 0.25), (&[1, 0, 0], 0.5)]);
}

#[test]
fn pct_of_depth_one_never_preempts() {
    let found = sample(&two_and_one(), &mut Pct::new(5, 1), N);
    check(&found, &[(&[0, 0, 1], 0.5), (&[1, 0, 0], 0.5)]);
}

#[test]
fn pct_of_depth_two_preempts_at_one_event() {
    // The change is before event 0, 1 or 2: for the order 0 > 1 that gives
    // 100, 010, 001; for 1 > 0 it gives 001, 100, 100.
    let found = sample(&two_and_one(), &mut Pct::new(5, 2), N);
    let sixth = 1.0 / 6.0;
    check(&found, &[(&[0, 0, 1], 2.0 * sixth), (&[0, 1, 0], sixth), (&[1, 0, 0], 3.0 * sixth)]);
}

#[test]
fn pos_draws_again_only_after_a_conflict() {
    let found = sample(&two_and_one(), &mut Pos::new(5), N);
    check(&found, &[(&[0, 0, 1], 0.25), (&[0, 1, 0], 0.25), (&[1, 0, 0], 0.5)]);
    // Without conflicts, the order is that of three random numbers.
    let w = |x| Write(at(x), C(1));
    let program = Program::new(vec![vec![w(0), w(1)], vec![w(2)]]);
    let found = sample(&program, &mut Pos::new(5), N);
    let third = 1.0 / 3.0;
    check(&found, &[(&[0, 0, 1], third), (&[0, 1, 0], third / 2.0), (&[1, 0, 0], 0.5)]);
}

#[test]
fn surw_is_uniform_over_interleavings_of_what_matters() {
    let found = sample(&two_and_one(), &mut Surw::new(5), N);
    let third = 1.0 / 3.0;
    check(&found, &[(&[0, 0, 1], third), (&[0, 1, 0], third), (&[1, 0, 0], third)]);

    // Private events do not disturb it: 6 interleavings of 2 and 2.
    let w = Write(at(0), C(1));
    let program = Program::new(vec![vec![w, Private, Private, w], vec![Private, w, w]]);
    let mut by_order: BTreeMap<Vec<Worker>, f64> = BTreeMap::new();
    for (order, f) in sample(&program, &mut Surw::new(6), N) {
        let mut seen = [0; 2];
        let shared: [&[usize]; 2] = [&[0, 3], &[1, 2]];
        let only = order.into_iter().filter(|&w| {
            seen[w as usize] += 1;
            shared[w as usize].contains(&(seen[w as usize] - 1))
        });
        *by_order.entry(only.collect()).or_insert(0.0) += f;
    }
    assert_eq!(by_order.len(), 6);
    assert!(by_order.values().all(|f| (f - 1.0 / 6.0).abs() < 0.011), "{by_order:?}");
}

#[test]
fn surw_counts_the_events_of_workers_to_be_started() {
    // Worker 0 starts 1 and 2, which write once; 0 writes once itself.
    let w = Write(at(0), C(1));
    let program = Program::new(vec![vec![Start(1), Start(2), w], vec![w], vec![w]]);
    let mut by_order: BTreeMap<Vec<Worker>, f64> = BTreeMap::new();
    for (order, f) in sample(&program, &mut Surw::new(6), N) {
        let mut started = 0;
        let writes = order.into_iter().filter(|&w| {
            started += u32::from(w == 0);
            w != 0 || started == 3
        });
        *by_order.entry(writes.collect()).or_insert(0.0) += f;
    }
    assert_eq!(by_order.len(), 6, "{by_order:?}");
    assert!(by_order.values().all(|f| (f - 1.0 / 6.0).abs() < 0.03), "{by_order:?}");
}

#[test]
fn random_schedules_draw_each_worker_equally_often_and_learn_of_new_ones() {
    let mut random = Random::new(5, 2, 30_000);
    let share = |plan: &Plan, worker: Worker| {
        let own = plan.segments.iter().filter(|s| s.worker == worker);
        own.map(|s| f64::from(s.events)).sum::<f64>() / 30_000.0
    };
    let plan = random.next_plan(None).cloned().expect("endless");
    assert!((share(&plan, 0) - 0.5).abs() < 0.01);
    assert!((share(&plan, 1) - 0.5).abs() < 0.01);
    // A worker that another one started.
    let mut trace = Trace::new();
    trace.push(2, 0, &[]);
    let plan = random.next_plan(Some(&trace)).cloned().expect("endless");
    for worker in 0..3 {
        assert!((share(&plan, worker) - 1.0 / 3.0).abs() < 0.01);
    }
}

#[test]
fn the_members_of_a_portfolio_take_turns() {
    let program = lock_order(3);
    let orders = |strategy: &mut dyn Strategy, n: usize| -> Vec<_> {
        let mut runner = Runner::new(&program, 1);
        let mut trace = Trace::new();
        let execute = |i| {
            let plan = strategy.next_plan((i > 0).then_some(&trace)).cloned().expect("endless");
            runner.run_choosing(&plan, Some(strategy), &mut trace);
            schedule(&trace)
        };
        (0..n).map(execute).collect()
    };
    let all = orders(&mut Portfolio::new(3), 40);
    // The third of four depends on nothing that the others did.
    let third: Vec<_> = all.iter().skip(2).step_by(4).cloned().collect();
    assert_eq!(third, orders(&mut Pos::new(3), 10));
    assert_ne!(all[..10], third);
}

#[test]
fn equal_seeds_give_equal_executions() {
    let program = lock_order(3);
    let orders = |strategy: &mut dyn Strategy| {
        let mut runner = Runner::new(&program, 1);
        let mut trace = Trace::new();
        let mut all = Vec::new();
        for i in 0..50 {
            let plan = strategy.next_plan((i > 0).then_some(&trace)).cloned().expect("endless");
            runner.run_choosing(&plan, Some(strategy), &mut trace);
            all.push(schedule(&trace));
        }
        all
    };
    assert_eq!(orders(&mut Walk::new(3)), orders(&mut Walk::new(3)));
    assert_ne!(orders(&mut Walk::new(3)), orders(&mut Walk::new(4)));
    assert_eq!(orders(&mut Pct::new(3, 3)), orders(&mut Pct::new(3, 3)));
    assert_eq!(orders(&mut Pos::new(3)), orders(&mut Pos::new(3)));
    assert_eq!(orders(&mut Surw::new(3)), orders(&mut Surw::new(3)));
}

#[test]
fn a_replay_is_the_same_once() {
    let program = two_and_one();
    let mut runner = Runner::new(&program, 1);
    let mut trace = Trace::new();
    let mut walk = Walk::new(9);
    let plan = walk.next_plan(None).cloned().expect("endless");
    let (canon, _) = runner.run_choosing(&plan, Some(&mut walk), &mut trace);
    let mut replay = Replay::new(schedule(&trace));
    let plan = replay.next_plan(None).cloned().expect("once");
    assert_eq!(runner.run(&plan, &mut trace).0, canon);
    assert!(replay.next_plan(Some(&trace)).is_none());
    assert_eq!(replay.divergence(), None);

    // A program that has become shorter.
    let order = schedule(&trace);
    let mut replay = Replay::new(order.clone());
    replay.next_plan(None);
    trace.clear();
    trace.push(order[0].worker, 0, &[]);
    assert!(replay.next_plan(Some(&trace)).is_none());
    assert_eq!(replay.divergence(), Some(1));
}
