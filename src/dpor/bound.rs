//! Preemption bounds: how few preemptions does a trace need?
//!
//! A *preemption* leaves a worker that could go on (Musuvathi, Qadeer, PLDI
//! 2007). A trace counts by its best linearisation, as in Marmanis,
//! Kokologiannakis, Vafeiadis, *Reconciling Preemption Bounding with DPOR*
//! (TACAS 2023), from where also comes what makes a bound sound: a search by
//! race reversals reaches some traces within the bound only through traces a
//! little above it, so that it has to go on up to a *slack* above the bound.
//!
//! What is computed is a lower bound that only grows when a trace gets longer:
//! leaving a worker is free if it has no further event or if its next one may
//! have been disabled.

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::history::{History, Step};
use super::reversal::Reversal;
use crate::trace::{Kind, Worker};

type Counts = SmallVec<[u32; 8]>;

/// So many states are looked at before a trace gets the benefit of the doubt.
const PATIENCE: usize = 20_000;

/// How far above the bound the search has to go: by two less than there are
/// workers, and by one more where workers wait for tokens. (The first is the
/// number of Marmanis et al.; the second was found by trying: with a slack of 0,
/// one in 15,000 random programs of two workers with locks misses a trace.)
fn slack(h: &History) -> u32 {
    let waits = h.slots.iter().any(|slot| slot.is_resource);
    (h.workers as u32 + u32::from(waits)).saturating_sub(2)
}

/// The preemptions of the execution at hand.
#[derive(Debug)]
pub(super) struct Preemptions {
    /// For each run, how many there are before it.
    before: Vec<(Step, u32)>,
}

/// So many runs of an execution are looked at for the preemptions of one sequence.
const FEW: usize = 12;

impl Preemptions {
    pub fn of(h: &History) -> Self {
        let mut before = Vec::new();
        let mut preemptions = 0;
        let mut last: Option<Worker> = None;
        for (start, worker) in h.runs.starts() {
            let left = last.map(|last| (last, h.count_before(last, start)));
            preemptions += u32::from(left.is_some_and(|(last, n)| !leaves_freely(h, last, n)));
            before.push((start, preemptions));
            last = Some(worker);
        }
        Self { before }
    }

    /// How many there are among the first so many events.
    fn until(&self, depth: Step) -> u32 {
        let run = self.before.partition_point(|&(start, _)| start < depth).max(1) - 1;
        self.before.get(run).map_or(0, |run| run.1)
    }

    /// How many it takes to reverse a race, if the events come as they do now; at least,
    /// where that is long.
    pub fn to_reverse(&self, h: &History, v: &Reversal) -> u32 {
        self.count(h, v, FEW, u32::MAX)
    }

    /// The same, looking at so many runs only, and until there are more than `most`.
    fn count(&self, h: &History, v: &Reversal, few: usize, most: u32) -> u32 {
        let mut counts: Counts = v.passed.as_slice().into();
        let mut last = v.depth.checked_sub(1).map(|step| h.worker(step));
        let mut number = self.until(v.depth);
        for run in h.runs.within_few(&v.window(), few) {
            if number > most {
                break;
            }
            let left = last.filter(|&last| last != run.worker);
            number += u32::from(left.is_some_and(|w| !leaves_freely(h, w, counts[w as usize])));
            counts[run.worker as usize] += run.events;
            last = Some(run.worker);
        }
        number
    }
}

/// What a bound allows in the execution at hand.
#[derive(Debug)]
pub(super) struct Limit<'a> {
    /// So many preemptions.
    most: u32,
    /// Those of the execution.
    preemptions: &'a Preemptions,
    /// An execution that begins as this one until there needs more than `most`.
    fatal: Step,
}

/// Of executions that are as long it is found out once where they become fatal,
/// because then most of their races are beyond it.
const LONG: Step = 32;

impl<'a> Limit<'a> {
    /// That of a bound.
    pub fn new(h: &History, bound: u32, preemptions: &'a Preemptions) -> Self {
        let most = bound + slack(h);
        let before = &preemptions.before;
        let mut fatal = h.events + 1;
        if h.events >= LONG && before.last().is_some_and(|&(_, n)| n > most) {
            let mut possible = before[before.partition_point(|&(_, n)| n <= most)].0;
            while possible + 1 < fatal {
                let middle = possible.midpoint(fatal);
                let beginning = Beginning::first(h, middle.min(h.events));
                let exceeds = middle <= h.events && beginning.needs_more_than(most);
                *if exceeds { &mut fatal } else { &mut possible } = middle;
            }
        }
        Self { most, preemptions, fatal }
    }

    /// Does every trace that begins with `v` need more preemptions than allowed?
    pub fn excludes(&self, h: &History, v: &Reversal) -> bool {
        if v.depth >= self.fatal {
            return true;
        }
        // It does not if there are few enough as the events come.
        if self.preemptions.count(h, v, usize::MAX, self.most) <= self.most {
            return false;
        }
        Beginning::of(h, v).needs_more_than(self.most)
    }
}

/// Is it no preemption to leave a worker after `n` of its events?
fn leaves_freely(h: &History, worker: Worker, n: u32) -> bool {
    h.nth(worker, n).is_none_or(|step| {
        let waits = |kind| matches!(kind, Kind::Acquire | Kind::Join);
        h.advances(step) || h.accesses(step).iter().any(|a| waits(a.kind))
    })
}

/// The beginning of a trace: of every worker some events, and maybe one more event.
struct Beginning<'a> {
    h: &'a History,
    /// Without the event more.
    until: Counts,
    /// With it.
    end: Counts,
    /// What must come before it.
    before_last: Counts,
}

impl<'a> Beginning<'a> {
    /// The first so many events of an execution.
    fn first(h: &'a History, events: Step) -> Self {
        let end: Counts = (0..h.workers as Worker).map(|w| h.count_before(w, events)).collect();
        Self { h, until: end.clone(), end, before_last: Counts::new() }
    }

    /// What a reversal begins with.
    fn of(h: &'a History, v: &Reversal) -> Self {
        let until: Counts = (0..h.workers as Worker).map(|w| v.until(w)).collect();
        let mut before_last = Counts::from_elem(0, h.workers);
        for access in v.foreseen().unwrap_or_default() {
            for touch in h.touches_of_any(access.slot, access.kind).iter().rev() {
                let (w, n) = (h.worker(touch.step) as usize, h.ordinal(touch.step));
                if n < until[w] && touch.kind.conflicts(access.kind) {
                    before_last[w] = before_last[w].max(n + 1);
                    if touch.step < v.depth && touch.kind.is_write() {
                        // It comes after all that conflicted before.
                        break;
                    }
                }
            }
        }
        let mut end = until.clone();
        end[v.runner() as usize] += 1;
        Self { h, until, end, before_last }
    }

    fn needs_more_than(&self, bound: u32) -> bool {
        !self.is_cheap(bound) && self.needs_certainly_more_than(bound)
    }

    /// Is it within the bound if the worker goes on each time that comes furthest, best to
    /// where it can be left freely? (Found fast, if so.)
    fn is_cheap(&self, bound: u32) -> bool {
        let mut counts = Counts::from_elem(0, self.h.workers);
        let mut last: Option<Worker> = None;
        let mut preemptions = 0;
        while counts != self.end {
            let others = (0..self.h.workers as Worker).filter(|&worker| Some(worker) != last);
            let runs = others.map(|worker| (worker, self.run(&counts, worker)));
            let runs = runs.filter(|&(worker, to)| to > counts[worker as usize]);
            let best = runs.max_by_key(|&(worker, to)| {
                (!self.preempts(worker, to), to - counts[worker as usize])
            });
            let Some((worker, to)) = best else { return false };
            preemptions += u32::from(last.is_some_and(|w| self.preempts(w, counts[w as usize])));
            if preemptions > bound {
                return false;
            }
            counts[worker as usize] = to;
            last = Some(worker);
        }
        true
    }

    /// Is it a preemption to leave a worker after `n` of its events?
    fn preempts(&self, worker: Worker, n: u32) -> bool {
        n < self.end[worker as usize] && !leaves_freely(self.h, worker, n)
    }

    fn needs_certainly_more_than(&self, bound: u32) -> bool {
        let h = self.h;
        let mut layer = vec![(Counts::from_elem(0, h.workers), None)];
        let mut seen = FxHashSet::default();
        for _ in 0..=bound {
            let mut next = Vec::new();
            while let Some((counts, last)) = layer.pop() {
                if !seen.insert((counts.clone(), last)) {
                    continue;
                }
                if counts == self.end || seen.len() > PATIENCE {
                    return false;
                }
                let preempts = last.is_some_and(|w: Worker| self.preempts(w, counts[w as usize]));
                for worker in 0..h.workers as Worker {
                    if Some(worker) == last {
                        continue;
                    }
                    let to = self.run(&counts, worker);
                    if to > counts[worker as usize] {
                        let mut counts = counts.clone();
                        counts[worker as usize] = to;
                        if preempts { &mut next } else { &mut layer }.push((counts, Some(worker)));
                    }
                }
            }
            layer = next;
        }
        true
    }

    /// How far a worker gets if it goes on as long as the order allows. Stopping
    /// earlier never saves a preemption.
    fn run(&self, counts: &Counts, worker: Worker) -> u32 {
        let w = worker as usize;
        let (from, until) = (counts[w], self.until[w]);
        let done = |clock: &[u32]| {
            clock.iter().zip(counts).enumerate().all(|(x, (c, n))| x == w || c <= n)
        };
        if from < until {
            // A worker's clocks only grow.
            let clocked = self.h.clocked_from(worker, from);
            let stop = clocked.partition_point(|&step| done(self.h.clock(step)));
            let stop = clocked.get(stop).map_or(until, |&step| self.h.ordinal(step));
            if stop < until {
                return stop;
            }
        }
        if from <= until && until < self.end[w] && done(&self.before_last) {
            return until + 1;
        }
        until.max(from)
    }
}
