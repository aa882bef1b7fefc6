//! Wakeup trees: what is still to be explored from one point of the search
//! (Abdulla et al., JACM 2017, §5).
//!
//! The tree is ordered, and its leaves are the beginnings of executions. It is
//! a radix tree: an edge is a sequence of runs, worker × number of events, that
//! is split when another sequence leaves it half-way.

use std::rc::Rc;

use super::history::{History, Step};
use super::reversal::Reversal;
use crate::strategy::{Segment, Sleeper};
use crate::trace::{Kind, Worker};

/// The kinds of all accesses of one execution. Locations mean nothing in other
/// executions, kinds do.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    /// For each worker, where the kinds of each of its steps start.
    first: Vec<Vec<u32>>,
    kinds: Vec<Kind>,
}

impl Kinds {
    pub fn of(h: &History) -> Self {
        let mut all = Self::default();
        for worker in 0..h.workers as Worker {
            let mut first = Vec::with_capacity(h.executed(worker) as usize + 2);
            first.push(all.kinds.len() as u32);
            let mut n = 0;
            while let Some(step) = h.nth(worker, n) {
                all.kinds.extend(h.accesses(step).iter().map(|a| a.kind));
                first.push(all.kinds.len() as u32);
                n += 1;
            }
            all.first.push(first);
        }
        all
    }

    /// Of the n-th step of a worker.
    pub fn get(&self, worker: Worker, n: u32) -> &[Kind] {
        let first = &self.first[worker as usize];
        &self.kinds[first[n as usize] as usize..first[n as usize + 1] as usize]
    }
}

/// An edge of a wakeup tree, and the subtree behind it.
#[derive(Debug)]
pub(super) struct Branch {
    pub runs: Vec<Segment>,
    /// Of the execution that the edge was found in.
    kinds: Rc<Kinds>,
    pub next: Vec<Branch>,
    /// As a leaf, does it cover whatever goes on like it? Not if it could not
    /// be decided whether all that sleeps in it is woken.
    covers: bool,
    /// The last step was not yet executed where it is planned: its conditional
    /// accesses may turn out otherwise.
    guess: bool,
}

impl Branch {
    /// A branch that executes `v`. See [`Branch::covers`].
    pub fn new(v: &Reversal, h: &History, kinds: Rc<Kinds>, covers: bool) -> Self {
        Self { runs: v.segments(h), kinds, next: Vec::new(), covers, guess: true }
    }

    /// Cuts the edge behind `events` events of its run number `run`.
    fn split(&mut self, run: usize, events: u32) {
        let mut rest = self.runs.split_off(run);
        if events > 0 {
            self.runs.push(Segment { events, ..rest[0] });
            rest[0].events -= events;
        }
        let next = std::mem::take(&mut self.next);
        let kinds = Rc::clone(&self.kinds);
        self.next.push(Branch { runs: rest, kinds, next, covers: self.covers, guess: self.guess });
        self.guess = false;
    }
}

/// Adds the sequence to a tree, given by its root's branches, unless an
/// execution that the tree holds already covers it.
///
/// `covers` says that it certainly wakes everything that sleeps at the root, and
/// `kinds` makes the record of the execution at hand, when it is needed.
pub(super) fn insert(
    mut branches: &mut Vec<Branch>,
    v: &mut Reversal,
    h: &History,
    mut covers: bool,
    kinds: &mut dyn FnMut() -> Rc<Kinds>,
) {
    loop {
        if v.is_empty() {
            return;
        }
        let mut into = None;
        for (i, branch) in branches.iter().enumerate() {
            let (run, events, weak_initial) = pass(branch, v, h);
            // A step of which too little is known counts as no weak initial.
            covers &= weak_initial.is_some();
            if (run, events) != (0, 0) {
                into = Some((i, run, events));
                break;
            }
        }
        let Some((i, run, events)) = into else {
            branches.push(Branch::new(v, h, kinds(), covers));
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
fn pass(branch: &Branch, v: &mut Reversal, h: &History) -> (usize, u32, Option<bool>) {
    for (i, run) in branch.runs.iter().enumerate() {
        let mut events = 0;
        while events < run.events {
            let w = run.worker as usize;
            let last = i + 1 == branch.runs.len() && events + 1 == run.events;
            let kinds = branch.kinds.get(run.worker, v.passed[w]);
            let weak_initial = v.weak_initial(h, run.worker, kinds, branch.guess && last);
            if weak_initial != Some(true) {
                return (i, events, weak_initial);
            }
            // What follows until the worker's next shared step goes the same way.
            let skip = v.private_steps(h, run.worker).clamp(1, run.events - events);
            v.pass(h, run.worker, skip);
            events += skip;
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
        if kind == Kind::Advance || (kind.is_memory() && a.names_no_location()) {
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
