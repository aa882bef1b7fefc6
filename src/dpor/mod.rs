//! Optimal dynamic partial-order reduction: exactly one execution for every
//! Mazurkiewicz trace of the program.
//!
//! The algorithm is Optimal-DPOR with wakeup trees (Abdulla, Aronis, Jonsson,
//! Sagonas, *Source Sets: A Foundation for Optimal Dynamic Partial Order
//! Reduction*, JACM 2017). In one paragraph: after each execution, list the
//! pairs of events that [race](races). For each, the [sequence](reversal) that
//! takes the second event before the first one is inserted into the [wakeup
//! tree](wakeup_tree) of the point before the first event, unless an execution
//! that is done (a *sleeping* worker) or planned covers it. The deepest point
//! with a non-empty tree goes next; what is planned may be [executed
//! earlier](ahead).
//!
//! What differs from the paper: executions are replayed from the start, so the
//! engine sees whole traces and answers with whole plans; and nothing that is
//! kept from one execution to the next names a location, because the same
//! object has another number every time. Whether a step of the tree commutes
//! with events of the execution at hand is decided by the locations it has in
//! that execution.

mod ahead;
mod bound;
mod history;
mod races;
mod record;
mod reversal;
mod wakeup_tree;

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use crate::explore::{Estimate, Estimator, Sizes};
use crate::strategy::{Candidate, Plan, Segment, Strategy, Walk};
use crate::trace::{Trace, Worker};
pub use ahead::Order;
use ahead::{Ahead, Serial};
use bound::{Limit, Preemptions};
use history::{History, Step};
use races::{Race, Races};
use record::LazyRecord;
use reversal::Reversal;
use wakeup_tree::{Asleep, Branch, insert};

/// What the search has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Executions, all told.
    pub executions: u64,
    /// Reversible races met.
    pub races: u64,
    /// Executions that turned out to be covered by others only when they had
    /// begun, and were cut off (sleep-set blocked). Zero, but where it depends on
    /// something that no execution has shown yet whether two steps commute: on
    /// whether a compare-and-set succeeds that was never tried in that place, or
    /// on which location it is that a step touches ([`crate::trace::Trait`]).
    pub blocked: u64,
    /// Executions that could not follow their plan, because a worker waited for
    /// something unseen.
    pub stalled: u64,
    /// Branches not taken because they are beyond the preemption bound.
    pub pruned: u64,
    /// Different traces among the executions, where events are blocks: what a block
    /// does is not known beforehand, so that some traces are executed twice.
    pub distinct: u64,
}

/// The program did not do again what it did before: it has nondeterminism that
/// the scheduler does not control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The first event that differs, counted from 0.
    pub index: usize,
    /// Who was to execute it.
    pub worker: Worker,
    /// Where it was before; unknown if it was never executed in this place.
    pub expected_site: Option<u32>,
    /// Where it was now; none if the execution ended before it, or another
    /// worker ran.
    pub found_site: Option<u32>,
}

/// A point of the search where something is left to do, or sleeps.
#[derive(Debug, Default)]
struct Node {
    /// Workers whose next steps are explored from here already.
    sleep: Vec<Asleep>,
    /// The wakeup tree, without the branch that is being explored.
    pending: Vec<Branch>,
    /// How many executions the explored branches took.
    done: Sizes,
    /// Executions that were learned from before the branch that is being explored.
    since: u64,
}

/// Enough of an event to recognise it in the next execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    worker: Worker,
    kinds: u16,
    site: u32,
}

/// The search.
#[derive(Debug, Default)]
pub struct Dpor {
    /// The points of the current execution that matter, by number of events.
    nodes: BTreeMap<Step, Node>,
    history: History,
    now: LazyRecord,
    races: Races,
    reversal: Reversal,
    plan: Plan,
    /// How much of the plan repeats the execution before.
    common: Step,
    /// Nodes of the plan, whose sleep sets are not known yet.
    fresh: Vec<(Step, Vec<Branch>)>,
    path: Vec<Stamp>,
    stats: Stats,
    state: State,
    divergence: Option<Divergence>,
    bound: Option<u32>,
    ahead: Ahead,
    /// The branch that is executed ahead of its turn.
    running: Option<Serial>,
    /// So many executions were learned from.
    learned: u64,
    /// Goes on where plans end, in a diverse order.
    walk: Option<Walk>,
    /// All traces so far: where events are blocks, and to see that else none comes twice.
    traces: FxHashSet<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    New,
    Running,
    Done,
}

impl Dpor {
    /// A search over all traces.
    pub fn new() -> Self {
        Self::default()
    }

    /// A search over at least those traces that have a linearisation with at most
    /// `bound` preemptions (all of them if `None`), and over fewer than all if
    /// the bound is low.
    pub fn with_bound(bound: Option<u32>) -> Self {
        Self { bound, ..Self::default() }
    }

    /// The same search with its executions in another order.
    pub fn in_order(mut self, order: Order) -> Self {
        self.ahead.order = order;
        // What is within a bound is reached only from executions that preempt little.
        let is_free = order == Order::Diverse && self.bound.is_none();
        self.walk = is_free.then(|| Walk::new(0));
        self
    }

    /// Counters of the search so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Have all traces been executed?
    pub fn exhausted(&self) -> bool {
        self.state == State::Done && self.divergence.is_none()
    }

    /// The first difference between two executions of one prefix. The search
    /// ends with it.
    pub fn divergence(&self) -> Option<Divergence> {
        self.divergence
    }

    /// Takes in the execution of the current plan.
    fn learn(&mut self, trace: &Trace) {
        self.learned += 1;
        self.divergence = self.compare(trace);
        if self.divergence.is_some_and(|d| trace.stalled && d.index >= self.common as usize) {
            self.divergence = None;
            self.stats.stalled += 1;
            self.fresh.clear();
            self.path.truncate(self.common as usize);
            self.history.load(trace);
            return;
        }
        if self.divergence.is_some() {
            return;
        }
        self.history.load(trace);
        self.now = LazyRecord::default();
        for (depth, pending) in std::mem::take(&mut self.fresh) {
            let sleep = self.asleep_at(depth);
            for branch in &pending {
                branch.ends(&mut |end| self.ahead.offer(end, depth));
            }
            self.add_node(depth, sleep, pending);
        }
        if self.is_covered() {
            self.stats.blocked += 1;
            // Of blocks the runner cannot tell who sleeps: it may have chosen the wrong one.
            if !self.history.blocks {
                return;
            }
        }
        if self.history.blocks || cfg!(debug_assertions) {
            let is_new = self.traces.insert(record::fingerprint(&self.history));
            debug_assert!(is_new || self.history.blocks, "a trace came twice");
            self.stats.distinct += u64::from(is_new);
        }
        self.races.compute(&mut self.history);
        self.stats.races += self.races.found.len() as u64;
        let preemptions = Preemptions::of(&self.history);
        let limit = self.bound.map(|bound| Limit::new(&self.history, bound, &preemptions));
        for race in std::mem::take(&mut self.races.found) {
            self.reverse(race, &preemptions, limit.as_ref());
        }
    }

    /// Has the execution at hand, from where its plan ends, a sleeper that nothing
    /// wakes? Then it is one that was explored before.
    fn is_covered(&self) -> bool {
        let uncertain = !self.plan.sleep.is_empty();
        let planned = self.plan.segments.iter().map(|s| s.events).sum();
        let from = if uncertain { self.plan.sleep_from } else { planned };
        let covered = self.asleep_at(from).iter().any(|s| self.never_wakes(s, from));
        let uncertain = uncertain || self.history.blocks;
        debug_assert!(uncertain || !covered, "an execution was blocked by its sleep set");
        covered
    }

    /// Compares the execution with the plan and the prefix it repeats, and
    /// remembers it for the next time.
    fn compare(&mut self, trace: &Trace) -> Option<Divergence> {
        let differs = self.difference(trace);
        if differs.is_none() {
            self.path.truncate(self.common as usize);
            self.path.extend((self.path.len()..trace.len()).map(|i| Stamp::of(trace, i)));
        }
        differs
    }

    /// Where does the execution not follow the plan, or the prefix that it repeats?
    fn difference(&self, trace: &Trace) -> Option<Divergence> {
        let mut index = 0;
        for segment in &self.plan.segments {
            for _ in 0..segment.events {
                let expected = self.path.get(index).filter(|_| index < self.common as usize);
                let found = trace.events().get(index).map(|_| Stamp::of(trace, index));
                let same = match (expected, found) {
                    (Some(&expected), Some(found)) => expected == found,
                    (None, Some(found)) => found.worker == segment.worker,
                    _ => false,
                };
                if !same {
                    return Some(Divergence {
                        index,
                        worker: segment.worker,
                        expected_site: expected.map(|s| s.site),
                        found_site: found.filter(|s| s.worker == segment.worker).map(|s| s.site),
                    });
                }
                index += 1;
            }
        }
        None
    }

    /// A point is found, so all since the branch around it began was explored
    /// from its first branch.
    fn add_node(&mut self, depth: Step, sleep: Vec<Asleep>, pending: Vec<Branch>) {
        let since = self.nodes.range(..depth).next_back().map_or(0, |(_, outer)| outer.since);
        self.nodes.insert(depth, Node { sleep, pending, done: Sizes::default(), since });
    }

    /// The sleep set at a point of the execution at hand.
    fn asleep_at(&self, depth: Step) -> Vec<Asleep> {
        let Some((&from, node)) = self.nodes.range(..=depth).next_back() else {
            return Vec::new();
        };
        let sleeps = |s: &&Asleep| s.sleeps(&self.history, &self.now, from, depth) == Some(true);
        node.sleep.iter().filter(sleeps).cloned().collect()
    }

    /// Is a sleeper from `depth` on never woken, and executed at most asleep?
    fn never_wakes(&self, asleep: &Asleep, depth: Step) -> bool {
        let (h, worker) = (&self.history, asleep.sleeper.worker);
        let own = h.nth(worker, h.count_before(worker, depth)).unwrap_or(h.events);
        asleep.sleeps(h, &self.now, depth, own.min(h.events)) == Some(true)
    }

    /// Plans the executions that reverse a race, unless they are covered.
    fn reverse(&mut self, race: Race, preemptions: &Preemptions, limit: Option<&Limit>) {
        let (h, now, v) = (&self.history, &self.now, &mut self.reversal);
        v.set(h, race);
        let depth = v.depth;
        let mut covers = true;
        if let Some((&from, node)) = self.nodes.range(..=depth).next_back() {
            for s in &node.sleep {
                let covered = match s.sleeps(h, now, from, depth) {
                    Some(true) => s.with_known(|known| v.weak_initial(h, now, known)),
                    awake => awake,
                };
                match covered {
                    Some(true) => return,
                    Some(false) => {}
                    None => covers = false,
                }
            }
        }
        if limit.is_some_and(|limit| limit.excludes(h, v)) {
            self.stats.pruned += 1;
            return;
        }
        let end = self.ahead.name(|| preemptions.to_reverse(h, v));
        let is_new = match self.nodes.get_mut(&depth) {
            Some(node) => insert(&mut node.pending, v, h, now, covers, end),
            None => {
                let pending = vec![Branch::new(v, h, now, covers, end)];
                let sleep = self.asleep_at(depth);
                self.add_node(depth, sleep, pending);
                true
            }
        };
        if is_new {
            self.ahead.offer(end, depth);
        }
    }

    /// Plans the next execution. False if there is none.
    fn advance(&mut self) -> bool {
        while self.divergence.is_none() {
            while self.nodes.last_entry().is_some_and(|last| last.get().pending.is_empty()) {
                self.nodes.pop_last();
            }
            let Some((&depth, node)) = self.nodes.last_key_value() else { return false };
            let turn = node.pending[0].leaf().end.serial;
            self.running = self.plan_ahead(turn);
            if self.running.is_some() {
                return true;
            }
            self.pick(depth);
            match self.ahead.take(turn) {
                Some(trace) => self.learn(&trace),
                None => return true,
            }
        }
        false
    }

    /// Plans a branch ahead of its turn, if that is wanted.
    fn plan_ahead(&mut self, turn: Serial) -> Option<Serial> {
        let nodes = &self.nodes;
        let way_to = |serial, depth| {
            nodes.get(&depth)?.pending.iter().find_map(|branch| branch.way_to(serial))
        };
        let (serial, depth) = self.ahead.choose(turn, |s, depth| way_to(s, depth).is_some())?;
        let way = way_to(serial, depth)?;
        self.common = depth;
        self.plan.sleep.clear();
        self.plan.segments.clear();
        self.plan.segments.extend(self.history.runs.until(depth));
        let mut at = depth;
        for branch in way.into_iter().rev() {
            branch.runs().for_each(|run| add_run(&mut self.plan.segments, run, depth, &mut at));
        }
        Some(serial)
    }

    /// Turns the next branch of the last point into the plan.
    fn pick(&mut self, depth: Step) {
        let node = self.nodes.get_mut(&depth).expect("it is the last one");
        if depth < self.history.events {
            let explored = self.history.worker(depth);
            node.sleep.extend(Asleep::new(&self.history, explored, depth, &self.now));
        }
        node.done.add(self.learned - node.since);
        node.since = self.learned;
        let mut branch = node.pending.remove(0);
        self.common = depth;
        self.plan.segments.clear();
        self.plan.segments.extend(self.history.runs.until(depth));
        let mut at = depth;
        loop {
            branch.runs().for_each(|run| add_run(&mut self.plan.segments, run, depth, &mut at));
            if branch.next.is_empty() {
                break;
            }
            let first = branch.next.remove(0);
            if !branch.next.is_empty() {
                self.fresh.push((at, branch.next));
            }
            branch = first;
        }
        self.plan.sleep.clear();
        self.plan.sleep_from = depth;
        if !branch.covers {
            let asleep = self.nodes[&depth].sleep.iter();
            self.plan.sleep.extend(asleep.map(|asleep| asleep.sleeper.clone()));
        }
    }
}

/// Adds a run of a branch to a plan in which the branch begins at `depth`.
fn add_run(segments: &mut Vec<Segment>, run: Segment, depth: Step, at: &mut Step) {
    match segments.last_mut() {
        Some(last) if last.worker == run.worker && *at > depth => last.events += run.events,
        _ => segments.push(run),
    }
    *at += run.events;
}

impl Stamp {
    fn of(trace: &Trace, index: usize) -> Self {
        let event = &trace.events()[index];
        let kinds = trace
            .accesses_of(event)
            .iter()
            .fold(event.len, |hash, a| hash.wrapping_mul(31).wrapping_add(a.kind as u16));
        Self { worker: event.worker, kinds, site: event.site }
    }
}

impl Strategy for Dpor {
    fn next_plan(&mut self, last: Option<&Trace>) -> Option<&Plan> {
        match (self.state, last) {
            (State::New, _) => self.state = State::Running,
            (State::Running, Some(trace)) => {
                self.stats.executions += 1;
                match self.running.take() {
                    Some(serial) => {
                        self.divergence = self.difference(trace).filter(|_| !trace.stalled);
                        self.ahead.keep(serial, trace);
                    }
                    None => self.learn(trace),
                }
                if !self.advance() {
                    self.state = State::Done;
                }
            }
            // Nothing was executed: the plan stands.
            (State::Running, None) => {}
            (State::Done, _) => {}
        }
        if let Some(walk) = &mut self.walk {
            walk.next_plan(last);
        }
        (self.state == State::Running).then_some(&self.plan)
    }

    fn chooses(&self) -> bool {
        self.walk.is_some()
    }

    fn choose(&mut self, current: Option<Worker>, candidates: &[Candidate<'_>]) -> Worker {
        match &mut self.walk {
            Some(walk) => walk.choose(current, candidates),
            None => candidates[0].worker,
        }
    }

    fn compares(&self) -> bool {
        true
    }

    fn estimate(&self) -> Option<Estimate> {
        let mut estimator = Estimator::new();
        for node in self.nodes.values().rev() {
            estimator.point(&node.done, node.pending.len());
        }
        Some(estimator.finish(self.stats.executions))
    }
}
