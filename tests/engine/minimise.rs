//! A failing schedule is shown with as few preemptions and switches as can be.

use std::time::Duration;

use crate::sim::Op::*;
use crate::sim::Val::{Add, C};
use crate::sim::programs::{counter, lock_order};
use crate::sim::random::{any_program, cases};
use crate::sim::{Outcome, Program, Runner as Simulation, at, brute, preemptions};
use frontrun_native::explore::{Budget, Limits, Minimised, Runner, Verdict, explore, minimise};
use frontrun_native::strategy::{Plan, Segment, Strategy, Walk};
use frontrun_native::trace::Trace;
use proptest::prelude::*;

/// Fails where the outcome is the one that is looked for.
struct Looking<'p, F> {
    simulation: Simulation<'p>,
    fails: F,
}

impl<F: Fn(&Outcome) -> bool> Runner for Looking<'_, F> {
    fn run(&mut self, plan: &Plan, strategy: &mut dyn Strategy, trace: &mut Trace) -> Verdict {
        let (_, outcome) = self.simulation.run_choosing(plan, Some(strategy), trace);
        if (self.fails)(&outcome) { Verdict::Fail } else { Verdict::Pass }
    }
}

fn looking<F: Fn(&Outcome) -> bool>(program: &Program, fails: F) -> Looking<'_, F> {
    let mut simulation = Simulation::new(program, 1);
    simulation.lenient = true;
    Looking { simulation, fails }
}

const BUDGET: Budget = Budget { executions: 500, time: Duration::from_secs(60) };

/// Finds a failure by chance and minimises it.
fn found_by_chance<F: Fn(&Outcome) -> bool>(
    program: &Program,
    seed: u64,
    fails: F,
) -> Option<Minimised> {
    let mut runner = looking(program, fails);
    let limits = Limits { max_executions: Some(2000), total_time: None, stop_on_first: true };
    let summary = explore(&mut Walk::new(seed), &mut runner, &limits);
    let failure = summary.failures.into_iter().next()?;
    Some(minimise(failure.schedule, &mut runner, BUDGET))
}

fn runs(schedule: &[Segment]) -> Vec<(u16, u32)> {
    schedule.iter().map(|s| (s.worker, s.events)).collect()
}

#[test]
fn a_lost_update_takes_one_preemption_and_two_switches() {
    let program = counter(2, 5);
    for seed in 0..20 {
        let value = |outcome: &Outcome| outcome.mem[&0] != 10;
        let found = found_by_chance(&program, seed, value).expect("almost every walk fails");
        let cost = found.cost.expect("it fails again");
        assert_eq!((cost.preemptions, cost.switches), (1, 2), "{:?}", runs(&found.schedule));
        assert!(found.fewest);
    }
}

#[test]
fn a_deadlock_ends_with_the_switch_that_closes_the_circle() {
    let found = found_by_chance(&lock_order(2), 3, |outcome| outcome.deadlock).expect("found");
    assert_eq!(runs(&found.schedule), [(0, 1), (1, 1)]);
    assert!(found.fewest);
}

#[test]
fn leaving_a_worker_that_waits_is_no_preemption() {
    // Whoever comes second has to wait inside, if the first is preempted inside.
    let inc = vec![Acquire(at(0)), Read(0, at(0)), Release(at(0)), Write(at(0), Add(0, 1))];
    let program = Program::new(vec![inc.clone(), inc]);
    let found = found_by_chance(&program, 1, |outcome| outcome.mem[&0] == 1).expect("found");
    let cost = found.cost.expect("it fails again");
    assert_eq!((cost.preemptions, cost.switches), (1, 2), "{:?}", runs(&found.schedule));
}

#[test]
fn a_failure_that_needs_only_another_order_is_told_without_preemption() {
    let program = Program::new(vec![
        vec![Write(at(1), C(1)), Write(at(0), C(7)), Write(at(1), C(2))],
        vec![Read(0, at(1)), Read(0, at(0)), Write(at(2), Add(0, 0))],
    ]);
    let found = found_by_chance(&program, 2, |outcome| outcome.mem[&2] == 0).expect("found");
    assert_eq!(runs(&found.schedule), [(1, 3), (0, 3)]);
}

#[test]
fn what_does_not_fail_again_is_left_as_it_is() {
    let program = counter(2, 1);
    let failing = vec![Segment { worker: 1, events: 2 }, Segment { worker: 0, events: 2 }];
    let found = minimise(failing.clone(), &mut looking(&program, |_| false), BUDGET);
    assert_eq!((found.schedule, found.cost, found.executions), (failing, None, 1));
}

#[test]
fn no_more_executions_are_spent_than_allowed() {
    let program = counter(3, 5);
    let mut runner = looking(&program, |outcome| outcome.mem[&0] < 6);
    let summary = explore(
        &mut Walk::new(1),
        &mut runner,
        &Limits { max_executions: Some(2000), total_time: None, stop_on_first: true },
    );
    let failing = summary.failures[0].schedule.clone();
    for executions in [1, 2, 7, 40] {
        let found = minimise(failing.clone(), &mut runner, Budget { executions, ..BUDGET });
        assert!(found.executions <= executions, "{} of {executions}", found.executions);
        assert!(found.cost.is_some());
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn nothing_fails_with_fewer_preemptions_if_it_says_so(
        program in any_program(),
        seed in 0..1000u64,
        pick in any::<prop::sample::Index>(),
    ) {
        let Some(all) = brute(&program, 3_000) else { return Ok(()) };
        let outcomes: Vec<&Outcome> = all.values().collect();
        let wanted = outcomes[pick.index(outcomes.len())].clone();
        let fails = |o: &Outcome| o.mem == wanted.mem && o.deadlock == wanted.deadlock;
        let Some(found) = found_by_chance(&program, seed, fails) else { return Ok(()) };
        let cost = found.cost.expect("simulated programs are deterministic");
        let least = preemptions(&program)
            .into_iter()
            .filter(|(canon, _)| fails(&all[canon]))
            .map(|(_, n)| n)
            .min()
            .expect("one failed");
        prop_assert!(cost.preemptions >= least);
        prop_assert!(!found.fewest || cost.preemptions == least, "{cost:?}, {least} suffice");
    }
}
