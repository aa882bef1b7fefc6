//! The engine explores as many executions as there are traces: published
//! numbers, and those of `mazur.py`.

use crate::sim::programs::*;
use crate::sim::{Program, brute, explore};
use frontrun_native::dpor::Dpor;
use std::collections::BTreeSet;

/// (executions, deadlocks), after checking that nothing was wasted.
fn count(name: &str, program: &Program) -> (usize, usize) {
    let mut dpor = Dpor::new();
    let all = explore(program, &mut dpor, 7, usize::MAX);
    let stats = dpor.stats();
    assert_eq!(stats.blocked, 0, "{name}");
    assert!(dpor.exhausted(), "{name}");
    let distinct: BTreeSet<_> = all.iter().map(|(canon, _)| canon).collect();
    assert_eq!(distinct.len(), all.len(), "{name}: traces explored twice");
    (all.len(), all.iter().filter(|(_, outcome)| outcome.deadlock).count())
}

fn check(table: &[(&str, Program, usize, usize)]) {
    let wrong: Vec<_> = table
        .iter()
        .map(|(name, program, traces, deadlocks)| {
            (name, (*traces, *deadlocks), count(name, program))
        })
        .filter(|(_, expected, found)| expected != found)
        .collect();
    assert!(wrong.is_empty(), "(name, expected, found): {wrong:#?}");
}

#[test]
fn steps_that_touch_more_or_less_depending_on_the_order() {
    check(&[("sweepers(2)", sweepers(2), 2, 0), ("sweepers(3)", sweepers(3), 6, 0)]);
}

#[test]
fn counts_of_brute_force() {
    for (name, program) in [
        ("twostage(1, 1)", twostage(1, 1)),
        ("twostage(2, 1)", twostage(2, 1)),
        ("twostage(2, 2)", twostage(2, 2)),
        ("wronglock(1)", wronglock(1)),
        ("wronglock(2)", wronglock(2)),
        ("wronglock(3)", wronglock(3)),
    ] {
        let traces = brute(&program, 1_000_000).expect("so few prefixes").len();
        println!("{name}: {traces}");
        assert_eq!(count(name, &program), (traces, 0), "{name}");
    }
}

#[test]
fn published_counts() {
    check(&[
        ("readers(1)", readers(1), 2, 0),
        ("readers(2)", readers(2), 4, 0),
        ("readers(3)", readers(3), 8, 0),
        ("readers(4)", readers(4), 16, 0),
        ("readers(8)", readers(8), 256, 0),
        ("lastzero(1)", lastzero(1), 2, 0),
        ("lastzero(2)", lastzero(2), 5, 0),
        ("lastzero(3)", lastzero(3), 12, 0),
        ("lastzero(4)", lastzero(4), 28, 0),
        ("lastzero(5)", lastzero(5), 64, 0),
        ("lastzero(6)", lastzero(6), 144, 0),
        ("lastzero(10)", lastzero(10), 3328, 0),
        ("indexer(11)", indexer(11), 1, 0),
        ("indexer(12)", indexer(12), 8, 0),
        ("indexer(13)", indexer(13), 64, 0),
        ("indexer(14)", indexer(14), 512, 0),
        ("indexer(15)", indexer(15), 4096, 0),
        ("filesystem(13)", filesystem(13), 1, 0),
        ("filesystem(14)", filesystem(14), 2, 0),
        ("filesystem(16)", filesystem(16), 8, 0),
        ("filesystem(18)", filesystem(18), 32, 0),
        ("filesystem(19)", filesystem(19), 64, 0),
        ("counter(2,1)", counter(2, 1), 4, 0),
        ("counter(3,1)", counter(3, 1), 36, 0),
        ("counter(4,1)", counter(4, 1), 576, 0),
        ("counter(5,1)", counter(5, 1), 14400, 0),
        ("counter(2,2)", counter(2, 2), 34, 0),
        ("counter(2,3)", counter(2, 3), 328, 0),
        ("counter(2,4)", counter(2, 4), 3334, 0),
        ("counter(2,5)", counter(2, 5), 34904, 0),
        ("counter(3,2)", counter(3, 2), 7134, 0),
        ("locked_counter(2,1)", locked_counter(2, 1), 2, 0),
        ("locked_counter(3,1)", locked_counter(3, 1), 6, 0),
        ("locked_counter(4,1)", locked_counter(4, 1), 24, 0),
        ("locked_counter(2,2)", locked_counter(2, 2), 6, 0),
        ("locked_counter(2,3)", locked_counter(2, 3), 20, 0),
        ("locked_counter(3,2)", locked_counter(3, 2), 90, 0),
        ("writers_a_reader(1)", writers_a_reader(1), 2, 0),
        ("writers_a_reader(2)", writers_a_reader(2), 6, 0),
        ("writers_a_reader(3)", writers_a_reader(3), 24, 0),
        ("writers_a_reader(4)", writers_a_reader(4), 120, 0),
        ("writers_a_reader(5)", writers_a_reader(5), 720, 0),
        ("ainc(2)", ainc(2), 2, 0),
        ("ainc(5)", ainc(5), 120, 0),
        ("cinc(2)", cinc(2), 8, 0),
        ("cinc(3)", cinc(3), 216, 0),
        ("casrot(2)", casrot(2), 2, 0),
        ("casrot(3)", casrot(3), 5, 0),
        ("casrot(4)", casrot(4), 14, 0),
        ("casrot(5)", casrot(5), 43, 0),
        ("casrot(6)", casrot(6), 144, 0),
        ("cas(2)", cas(2), 2, 0),
        ("cas(3)", cas(3), 3, 0),
        ("cas(4)", cas(4), 4, 0),
        ("cas(5)", cas(5), 5, 0),
        ("casw(2)", casw(2), 6, 0),
        ("casw(3)", casw(3), 66, 0),
        ("casw(4)", casw(4), 1200, 0),
        ("coa(1)", coa(1), 4, 0),
        ("coa(2)", coa(2), 15, 0),
        ("coa(3)", coa(3), 130, 0),
        ("coa(4)", coa(4), 2028, 0),
        ("fib(1)", fib(1, false), 3, 0),
        ("fib(2)", fib(2, false), 19, 0),
        ("fib(3)", fib(3, false), 141, 0),
        ("fib(1) observed", fib(1, true), 11, 0),
        ("fib(2) observed", fib(2, true), 140, 0),
        ("fib(3) observed", fib(3, true), 1698, 0),
        ("store_buffer(2)", store_buffer(2), 3, 0),
        ("store_buffer(3)", store_buffer(3), 7, 0),
        ("store_buffer(6)", store_buffer(6), 63, 0),
        ("philosophers(2)", philosophers(2), 3, 1),
        ("philosophers(3)", philosophers(3), 7, 1),
        ("philosophers(4)", philosophers(4), 15, 1),
        ("philosophers(5)", philosophers(5), 31, 1),
        ("philosophers(6)", philosophers(6), 63, 1),
        ("lock_order(2)", lock_order(2), 3, 1),
        ("lock_order(3)", lock_order(3), 10, 4),
        ("lock_order(4)", lock_order(4), 44, 20),
        ("account(2)", account(2), 6, 0),
        ("account(3)", account(3), 63, 0),
        ("message_passing", message_passing(), 2, 0),
        ("reorder(3)", reorder(3), 36, 0),
        ("reorder(4)", reorder(4), 576, 0),
        ("reorder(5)", reorder(5), 14400, 0),
        ("late_worker", late_worker(), 13, 3),
    ]);
}
