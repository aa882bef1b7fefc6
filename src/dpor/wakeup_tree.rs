//! Wakeup trees: what is still to be explored from one point of the search
//! (Abdulla et al., JACM 2017, §5).
//!
//! The tree is ordered, and its leaves are the beginnings of executions. It is
//! a radix tree: an edge is a sequence of runs, worker × number of events, that
//! is split when another sequence leaves it half-way.

use std::rc::Rc;

use super::history::{History, SlotAccess, Step};
use super::record::{LazyRecord, Record};
use super::reversal::{Known, Reversal};
use crate::strategy::{Segment, Sleeper};
use crate::trace::Worker;

/// An edge of a wakeup tree, and the subtree behind it.
#[derive(Debug)]
pub(super) struct Branch {
    pub runs: Vec<Segment>,
    /// Of the execution that the edge was found in.
    record: Rc<Record>,
    pub next: Vec<Branch>,
    /// As a leaf, does it cover whatever goes on like it? Not if it could not
    /// be decided whether all that sleeps in it is woken.
    pub covers: bool,
    /// The accesses of the last step, which was not yet executed where it is
    /// planned: conditional ones may turn out otherwise.
    last: Option<Box<[SlotAccess]>>,
}

impl Branch {
    /// A branch that executes `v`. See [`Branch::covers`].
    pub fn new(v: &Reversal, h: &History, now: &LazyRecord, covers: bool) -> Self {
        let record = Rc::clone(now.get(h));
        let last = v.foreseen().map(Into::into);
        Self { runs: v.segments(h), record, next: Vec::new(), covers, last }
    }

    /// Cuts the edge behind `events` events of its run number `run`.
    fn split(&mut self, run: usize, events: u32) {
        let mut rest = self.runs.split_off(run);
        if events > 0 {
            self.runs.push(Segment { events, ..rest[0] });
            rest[0].events -= events;
        }
        let next = std::mem::take(&mut self.next);
        let record = Rc::clone(&self.record);
        let last = self.last.take();
        self.next.push(Branch { runs: rest, record, next, covers: self.covers, last });
    }
}

/// Adds the sequence to a tree, given by its root's branches, unless an
/// execution that the tree holds already covers it.
///
/// `covers` says that it certainly wakes everything that sleeps at the root.
pub(super) fn insert(
    mut branches: &mut Vec<Branch>,
    v: &mut Reversal,
    h: &History,
    now: &LazyRecord,
    mut covers: bool,
) {
    loop {
        if v.is_empty() {
            return;
        }
        let mut into = None;
        for (i, branch) in branches.iter().enumerate() {
            let (run, events, weak_initial) = pass(branch, v, h, now);
            // A step of which too little is known counts as no weak initial.
            covers &= weak_initial.is_some();
            if (run, events) != (0, 0) {
                into = Some((i, run, events));
                break;
            }
        }
        let Some((i, run, events)) = into else {
            branches.push(Branch::new(v, h, now, covers));
            return;
        };
        let branch = &mut branches[i];
        let is_leaf = run == branch.runs.len() && branch.next.is_empty();
        if v.is_empty() || (is_leaf && branch.covers) {
            return;
        }
        if run < branch.runs.len() {
            branch.split(run, events);
        }
        branches = &mut branch.next;
    }
}

/// Goes down an edge as long as its steps are weak initials of what is left of
/// the sequence. Where it stops, (run, events of that run), and whether it does
/// so because the next step is none, or not known.
fn pass(
    branch: &Branch,
    v: &mut Reversal,
    h: &History,
    now: &LazyRecord,
) -> (usize, u32, Option<bool>) {
    let record = &branch.record;
    for (i, run) in branch.runs.iter().enumerate() {
        let mut events = 0;
        while events < run.events {
            let worker = run.worker;
            let is_last = i + 1 == branch.runs.len() && events + 1 == run.events;
            let guess = branch.last.as_deref().filter(|_| is_last);
            let known = Known {
                worker,
                accesses: guess.unwrap_or_else(|| record.get(worker, v.passed[worker as usize])),
                record: Some(record),
                guess: guess.is_some(),
            };
            let weak_initial = v.weak_initial(h, now, known);
            if weak_initial != Some(true) {
                return (i, events, weak_initial);
            }
            let alike = v.steps_alike(h, worker).min(run.events - events);
            v.passed[worker as usize] += alike;
            events += alike;
        }
    }
    (branch.runs.len(), 0, Some(true))
}

/// Does a sleeping worker's step still sleep when execution reaches `to`?
pub(super) fn sleeps(h: &History, sleeper: &Sleeper, from: Step, to: Step) -> bool {
    let n = h.count_before(sleeper.worker, from);
    let Some(step) = h.nth(sleeper.worker, n) else { return false };
    let accesses = h.accesses(step);
    // Its own execution ends its sleep too.
    if step < to || accesses.len() != sleeper.kinds.len() {
        return false;
    }
    !accesses.iter().zip(&sleeper.kinds).any(|(a, &kind)| {
        if kind.is_memory() && a.names_no_location() {
            return from < to;
        }
        let touches = h.touches_of_any(a.slot, kind);
        touches[touches.partition_point(|t| t.step < from)..]
            .iter()
            .take_while(|t| t.step < to)
            .any(|t| t.kind.conflicts(kind))
    })
}

/// The step of `worker` that comes first from `depth` on, as a sleeper.
pub(super) fn sleeper(h: &History, worker: Worker, depth: Step) -> Option<Sleeper> {
    let step = h.nth(worker, h.count_before(worker, depth))?;
    Some(Sleeper { worker, kinds: h.accesses(step).iter().map(|a| a.kind).collect() })
}
