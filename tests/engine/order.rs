//! The order in which executions come: the same ones in every order, and a bug that
//! needs few preemptions early, however far from the end it is.

use std::collections::BTreeSet;

use crate::sim::Op::{Read, Write};
use crate::sim::programs::{counter, lastzero, philosophers};
use crate::sim::{Canon, Outcome, Program, Val, at, explore, preemptions};
use frontrun_native::dpor::{Dpor, Order};

const ORDERS: [Order; 3] = [Order::DepthFirst, Order::FewPreemptions, Order::Diverse];

fn in_order(program: &Program, order: Order, most: usize) -> Vec<(Canon, Outcome)> {
    explore(program, &mut Dpor::new().in_order(order), 1, most)
}

#[test]
fn every_order_comes_to_the_same_traces_once_each() {
    for program in [counter(3, 1), counter(2, 3), lastzero(5), philosophers(4)] {
        let [first, others @ ..] = ORDERS.map(|order| in_order(&program, order, usize::MAX));
        let distinct: BTreeSet<_> = first.iter().map(|(canon, _)| canon).collect();
        assert_eq!(distinct.len(), first.len());
        for other in others {
            assert_eq!(other.len(), first.len());
            assert_eq!(other.iter().map(|(canon, _)| canon).collect::<BTreeSet<_>>(), distinct);
        }
    }
}

#[test]
fn an_order_is_the_same_on_every_run() {
    for order in ORDERS {
        assert_eq!(
            in_order(&counter(3, 2), order, 500),
            in_order(&counter(3, 2), order, 500),
            "{order:?}"
        );
    }
}

/// An increment that can be lost, and then many that do not matter.
fn early_window(workers: usize) -> Program {
    let mut ops = vec![Read(0, at(0)), Write(at(0), Val::Add(0, 1))];
    ops.extend([Read(0, at(1)), Write(at(1), Val::Add(0, 1))].repeat(6));
    Program::new(vec![ops; workers])
}

#[test]
fn a_window_at_the_beginning_is_found_early_unless_depth_first() {
    let executions = |order, workers| {
        let all = in_order(&early_window(workers), order, 500);
        all.iter().position(|(_, outcome)| outcome.mem[&0] < workers as i64)
    };
    for workers in [2, 3] {
        assert_eq!(executions(Order::DepthFirst, workers), None);
        for order in [Order::FewPreemptions, Order::Diverse] {
            assert!(executions(order, workers).is_some_and(|n| n < 20), "{order:?}");
        }
    }
}

#[test]
fn traces_with_few_preemptions_come_first() {
    let program = counter(2, 4);
    let needed = preemptions(&program);
    let few = needed.values().filter(|&&n| n <= 1).count();
    // Within so many executions all of those have come.
    let until = |order| {
        let all = in_order(&program, order, usize::MAX);
        let last = all.iter().rposition(|(canon, _)| needed[canon] <= 1);
        last.expect("there are some") + 1
    };
    let (soon, late) = (until(Order::FewPreemptions), until(Order::DepthFirst));
    println!("{few} of {}: {soon}, depth first {late}", needed.len());
    assert!(soon < late);
}
