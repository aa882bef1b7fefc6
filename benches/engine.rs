//! What the engine costs: per event of a trace, and per execution of a search.
//!
//! `cargo bench --bench engine`. The executions are simulated, and their cost is
//! measured apart (`simulation`).
#![allow(missing_docs)]

#[path = "../tests/engine/sim/mod.rs"]
mod sim;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frontrun_native::dpor::{Dpor, Order};
use frontrun_native::strategy::{Plan, Strategy};
use frontrun_native::trace::{Access, Kind, Trace, Worker};
use sim::programs::{counter, lastzero};
use sim::{Program, Runner};

fn access(loc: u32, kind: Kind) -> Access {
    Access { loc, kind }
}

/// Two workers, one after the other; of their events three touch what the other
/// one touches, too.
fn private(events: u32) -> Trace {
    let mut trace = Trace::new();
    for worker in 0..2u32 {
        for i in 0..events / 2 {
            let shared = i % (events / 2) == events / 4 && worker == 0 || worker == 1 && i < 2;
            let loc = if shared { 0 } else { 1 + worker * events + i % 1000 };
            let kind = if i % 2 == 0 { Kind::Write } else { Kind::Read };
            let other = access(1 + 2 * events + worker, Kind::Read);
            trace.push(worker as Worker, i, &[access(loc, kind), other]);
        }
    }
    trace
}

/// Two workers that increment one variable all the time, one after the other.
fn counting(events: u32) -> Trace {
    let mut trace = Trace::new();
    for worker in 0..2 {
        for i in 0..events / 2 {
            let kind = if i % 2 == 0 { Kind::Read } else { Kind::Write };
            trace.push(worker, i, &[access(0, kind)]);
        }
    }
    trace
}

/// A producer writes many variables, a consumer reads them: a race for each.
fn racing(events: u32) -> Trace {
    let mut trace = Trace::new();
    for worker in 0..2 {
        for i in 0..events / 2 {
            let kind = if worker == 0 { Kind::Write } else { Kind::Read };
            trace.push(worker, i, &[access(i, kind)]);
        }
    }
    trace
}

/// Four workers that take a lock in turn for three accesses.
fn locking(events: u32) -> Trace {
    let mut trace = Trace::new();
    for i in 0..events / 4 {
        let worker = (i % 4) as Worker;
        trace.push(worker, 0, &[access(0, Kind::Acquire)]);
        trace.push(worker, 1, &[access(1, Kind::Read)]);
        trace.push(worker, 2, &[access(1, Kind::Write)]);
        trace.push(worker, 3, &[access(0, Kind::Release)]);
    }
    trace
}

/// Three workers in turn, one event each: two increment one variable, the third
/// one another variable that a fourth one, which comes last, reads.
fn alternating(events: u32) -> Trace {
    let mut trace = Trace::new();
    for i in 0..events - 1 {
        let (worker, round) = (i % 3, i / 3);
        let kind = if round % 2 == 0 { Kind::Read } else { Kind::Write };
        trace.push(worker as Worker, round, &[access(worker / 2, kind)]);
    }
    trace.push(3, 0, &[access(1, Kind::Read)]);
    trace
}

/// Analysis of one trace and the plan after it.
fn per_event(c: &mut Criterion) {
    per_event_within(c, None);
    per_event_within(c, Some(2));
}

fn per_event_within(c: &mut Criterion, bound: Option<u32>) {
    type Shape = fn(u32) -> Trace;
    let shapes = [
        ("private", private as Shape),
        ("counting", counting),
        ("racing", racing),
        ("locking", locking),
        ("alternating", alternating),
    ];
    for (name, shape) in shapes {
        let within = bound.map_or(String::new(), |bound| format!(", bound {bound}"));
        let mut group = c.benchmark_group(format!("per event, {name}{within}"));
        for events in [100, 1000, 10_000, 100_000] {
            let trace = shape(events);
            group.throughput(Throughput::Elements(u64::from(events)));
            group.sample_size(10);
            group.bench_with_input(BenchmarkId::from_parameter(events), &trace, |b, trace| {
                b.iter_batched_ref(
                    || {
                        let dpor = Dpor::with_bound(bound);
                        let mut dpor = dpor.in_order(Order::FewPreemptions);
                        dpor.next_plan(None);
                        dpor
                    },
                    |dpor| black_box(dpor.next_plan(Some(trace)).is_some()),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

fn search(program: &Program) -> u64 {
    let mut dpor = Dpor::new().in_order(Order::FewPreemptions);
    let mut runner = Runner::new(program, 1);
    let mut trace = Trace::new();
    let mut plan = dpor.next_plan(None).cloned();
    while let Some(p) = plan {
        runner.run(&p, &mut trace);
        plan = dpor.next_plan(Some(&trace)).cloned();
    }
    dpor.stats().executions
}

/// Whole searches, simulation included, and the simulation alone.
fn searches(c: &mut Criterion) {
    let mut group = c.benchmark_group("search");
    group.sample_size(10);
    for (name, program, traces) in
        [("counter(3,2)", counter(3, 2), 7134), ("lastzero(10)", lastzero(10), 3328)]
    {
        group.throughput(Throughput::Elements(traces));
        group.bench_function(name, |b| b.iter(|| assert_eq!(search(&program), traces)));
        group.bench_function(format!("{name} simulation"), |b| {
            b.iter(|| {
                let mut runner = Runner::new(&program, 1);
                let mut trace = Trace::new();
                (0..traces).for_each(|_| drop(runner.run(&Plan::default(), &mut trace)));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, per_event, searches);
criterion_main!(benches);
