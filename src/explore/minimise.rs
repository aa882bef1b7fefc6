//! Makes a failing schedule easy to read: fewest preemptions, then fewest
//! switches, then fewest events.
//!
//! First by small changes for as long as one of them still fails and is
//! simpler, as delta debugging does (Zeller, Hildebrandt, TSE 2002); then by
//! asking a search with a lower preemption bound for a failure, which is
//! iterative context bounding (Musuvathi, Qadeer, PLDI 2007) and tells that
//! there is none with fewer preemptions when it comes to its end.

use std::time::{Duration, Instant};

use super::cost::{Cost, linearise};
use super::{Limits, Runner, Verdict, explore, schedule};
use crate::dpor::Dpor;
use crate::strategy::{Plan, Replay, Segment, Strategy};
use crate::trace::{Kind, Trace};

/// How much may be spent.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Executions.
    pub executions: u64,
    /// Time.
    pub time: Duration,
}

/// A failing schedule, minimised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minimised {
    /// Who runs for how long, from start to end.
    pub schedule: Vec<Segment>,
    /// What it costs; none if the schedule did not fail again.
    pub cost: Option<Cost>,
    /// Executions that this took.
    pub executions: u64,
    /// Is it certain that no failure has fewer preemptions?
    pub fewest: bool,
}

/// Minimises a schedule. [`Verdict::Fail`] of `runner` means: the failure that it
/// is about.
pub fn minimise(failing: Vec<Segment>, runner: &mut dyn Runner, budget: Budget) -> Minimised {
    let start = Instant::now();
    let mut search = Search { runner, budget, start, executions: 0, best: None, over: false };
    search.attempt(failing.clone());
    let (mut before, mut fewest) = (None, false);
    while before != search.cost() && !fewest && !search.is_spent() {
        before = search.cost();
        search.reduce();
        fewest = search.try_fewer_preemptions();
    }
    let executions = search.executions;
    match search.best {
        Some((schedule, cost)) => Minimised { schedule, cost: Some(cost), executions, fewest },
        None => Minimised { schedule: failing, cost: None, executions, fewest: false },
    }
}

struct Search<'a> {
    runner: &'a mut dyn Runner,
    budget: Budget,
    start: Instant,
    executions: u64,
    best: Option<(Vec<Segment>, Cost)>,
    /// An execution could not be judged: it hangs, or the user interrupts.
    over: bool,
}

impl Search<'_> {
    fn is_spent(&self) -> bool {
        self.over
            || self.executions >= self.budget.executions
            || self.start.elapsed() >= self.budget.time
    }

    fn cost(&self) -> Option<Cost> {
        self.best.as_ref().map(|(_, cost)| *cost)
    }

    /// Executes a schedule, or as much of it as is possible, and keeps what
    /// happened if that fails and costs less. Did it?
    fn attempt(&mut self, segments: Vec<Segment>) -> bool {
        let plan = Plan::of(segments.clone());
        self.run(&plan, &mut Replay::new(segments), &mut Trace::new()).1
    }

    fn run(
        &mut self,
        plan: &Plan,
        strategy: &mut dyn Strategy,
        trace: &mut Trace,
    ) -> (Verdict, bool) {
        self.executions += 1;
        let verdict = self.runner.run(plan, strategy, trace);
        self.over |= verdict == Verdict::Inconclusive;
        if verdict != Verdict::Fail {
            return (verdict, false);
        }
        let cost = Cost::of(trace);
        let better = self.cost().is_none_or(|best| cost < best);
        if better {
            self.best = Some((schedule(trace), cost));
        }
        (verdict, better)
    }

    /// Changes the schedule for as long as that makes it simpler.
    fn reduce(&mut self) {
        'again: while let Some((best, _)) = self.best.clone() {
            for candidate in simpler(&best) {
                if self.is_spent() {
                    return;
                }
                if self.attempt(candidate) {
                    continue 'again;
                }
            }
            return;
        }
    }

    /// Searches for a failure with fewer preemptions. True if there is none.
    fn try_fewer_preemptions(&mut self) -> bool {
        let preemptions = |this: &Self| this.cost().map_or(0, |cost| cost.preemptions);
        let before = preemptions(self);
        for bound in 0..before {
            let limits = Limits {
                max_executions: Some(self.budget.executions.saturating_sub(self.executions)),
                total_time: Some(self.budget.time.saturating_sub(self.start.elapsed())),
                stop_on_first: false,
            };
            let mut dpor = Dpor::with_bound(Some(bound));
            let mut bounded = Bounded { search: self, before, unsure: false };
            let summary = explore(&mut dpor, &mut bounded, &limits);
            let all = summary.exhaustive() && dpor.divergence().is_none() && !bounded.unsure;
            if preemptions(self) < before || !all {
                return false;
            }
        }
        true
    }
}

/// Keeps the simplest failure of a search, and ends the search with the first one
/// that has fewer preemptions than there were before.
struct Bounded<'a, 'b> {
    search: &'a mut Search<'b>,
    before: u32,
    /// Was there a trace whose best order could not be found, or is not known to exist?
    unsure: bool,
}

impl Runner for Bounded<'_, '_> {
    fn run(&mut self, plan: &Plan, strategy: &mut dyn Strategy, trace: &mut Trace) -> Verdict {
        let (verdict, _) = self.search.run(plan, strategy, trace);
        // When time jumps depends on who can run, which the bound does not ask about.
        self.unsure |= jumps_in_time(trace);
        // The same events may fit into fewer runs.
        let enough = self.search.cost().is_some_and(|cost| cost.preemptions < self.before);
        if verdict == Verdict::Fail && !enough {
            match linearise(trace) {
                Some((schedule, cost)) if Some(cost) < self.search.cost() => {
                    self.search.attempt(schedule);
                }
                Some(_) => {}
                None => self.unsure = true,
            }
        }
        verdict
    }

    fn progress(&mut self, _progress: &super::Progress<'_>) -> bool {
        let goes_on = |cost: Cost| cost.preemptions >= self.before;
        !self.search.is_spent() && self.search.cost().is_none_or(goes_on)
    }
}

fn jumps_in_time(trace: &Trace) -> bool {
    let accesses = trace.events().iter().flat_map(|event| trace.accesses_of(event));
    accesses.into_iter().any(|access| access.kind == Kind::Advance)
}

/// Schedules with fewer switches that are near to one, the simplest first.
fn simpler(schedule: &[Segment]) -> impl Iterator<Item = Vec<Segment>> {
    // Its beginning only: the rest goes on without preemptions.
    let beginnings = (0..schedule.len()).map(|end| schedule[..end].to_vec());
    let joined = (0..schedule.len()).flat_map(move |i| {
        let j = (i + 1..schedule.len()).find(|&j| schedule[j].worker == schedule[i].worker);
        let earlier = j.map(|j| moved(schedule, j, i + 1));
        let later = j.map(|j| moved(schedule, i, j));
        earlier.into_iter().chain(later)
    });
    // A worker's turn comes later, where it goes on.
    let without = (0..schedule.len()).map(move |i| {
        let mut shorter = schedule.to_vec();
        shorter.remove(i);
        merged(&shorter)
    });
    beginnings.chain(joined).chain(without)
}

/// The schedule with segment `from` in front of what was segment `to`.
fn moved(schedule: &[Segment], from: usize, to: usize) -> Vec<Segment> {
    let mut order = schedule.to_vec();
    let segment = order.remove(from);
    order.insert(if from < to { to - 1 } else { to }, segment);
    merged(&order)
}

fn merged(schedule: &[Segment]) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::new();
    for segment in schedule.iter().filter(|segment| segment.events > 0) {
        match merged.last_mut() {
            Some(last) if last.worker == segment.worker => last.events += segment.events,
            _ => merged.push(*segment),
        }
    }
    merged
}
