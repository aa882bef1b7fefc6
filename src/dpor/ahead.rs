//! Executions ahead of their turn.
//!
//! What is found in one execution is compared with all that was found before, and
//! an optimal search has to do so depth first: only then is it certain what the
//! branches that are left have to cover. But each planned branch is executed in the
//! end, whatever is found meanwhile. So a branch may be *executed* at any time, if
//! its trace is kept and *learned* from when its turn comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::history::Step;
use super::wakeup_tree::End;
use crate::trace::Trace;

/// Names a planned branch; none is used twice.
pub(super) type Serial = u64;

/// Which of the planned branches is executed next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The one whose turn it is: the deepest.
    #[default]
    DepthFirst,
    /// One with the fewest preemptions.
    FewPreemptions,
    /// The one that leaves the execution it was found in the earliest.
    Diverse,
}

/// The traces that are kept have at most so many events together, and each of them
/// counts for some more.
const MOST_EVENTS: usize = 1 << 20;
const OVERHEAD: usize = 32;

/// So many branches are compared.
const MOST_OFFERS: usize = 1 << 20;

/// The branches that can be executed ahead, and the traces of those that were.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pub order: Order,
    last: Serial,
    /// What a branch costs, which one it is, and the point that it leaves from.
    queue: BinaryHeap<Reverse<(u32, Reverse<Serial>, Step)>>,
    traces: FxHashMap<Serial, Trace>,
    events: usize,
}

impl Ahead {
    /// The end of a new branch; how many preemptions it takes is asked if it matters.
    pub fn name(&mut self, preemptions: impl FnOnce() -> u32) -> End {
        self.last += 1;
        let counts = self.order == Order::FewPreemptions;
        End { serial: self.last, preemptions: if counts { preemptions() } else { 0 } }
    }

    /// A branch waits at a point.
    pub fn offer(&mut self, end: End, depth: Step) {
        let cost = match self.order {
            Order::DepthFirst => return,
            Order::FewPreemptions => end.preemptions,
            Order::Diverse => depth,
        };
        // Those that are too many are executed when their turn comes.
        if self.queue.len() < MOST_OFFERS {
            self.queue.push(Reverse((cost, Reverse(end.serial), depth)));
        }
    }

    /// Which branch is executed before the one whose turn it is? One that waits.
    pub fn choose(
        &mut self,
        turn: Serial,
        waits: impl Fn(Serial, Step) -> bool,
    ) -> Option<(Serial, Step)> {
        if self.events > MOST_EVENTS || self.traces.contains_key(&turn) {
            return None;
        }
        while let Some(Reverse((_, Reverse(serial), depth))) = self.queue.pop() {
            if serial == turn {
                return None;
            }
            if !self.traces.contains_key(&serial) && waits(serial, depth) {
                return Some((serial, depth));
            }
        }
        None
    }

    /// A branch was executed.
    pub fn keep(&mut self, serial: Serial, trace: &Trace) {
        self.events += trace.len() + OVERHEAD;
        self.traces.insert(serial, trace.clone());
    }

    /// The trace of a branch whose turn it is, if it was executed.
    pub fn take(&mut self, serial: Serial) -> Option<Trace> {
        let trace = self.traces.remove(&serial)?;
        self.events -= trace.len() + OVERHEAD;
        Some(trace)
    }
}
