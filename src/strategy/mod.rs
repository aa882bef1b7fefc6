//! How the next execution is chosen: one trait, one file for each strategy.
//!
//! [`crate::dpor`] is the exhaustive one. The others sample: they never end, and
//! what they guarantee is a chance.

pub mod pct;
pub mod portfolio;
pub mod pos;
pub mod random;
pub mod replay;
pub mod surw;
pub mod walk;

pub use pct::Pct;
pub use portfolio::Portfolio;
pub use pos::Pos;
pub use random::Random;
pub use replay::Replay;
pub use surw::Surw;
pub use walk::Walk;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::explore::Estimate;
use crate::trace::{Access, Kind, Trace, Worker};

/// A run of events of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who runs.
    pub worker: Worker,
    /// For how many events.
    pub events: u32,
}

/// A worker that must not be chosen freely until an event is dependent with
/// its next step: the executions in which that step comes first are explored
/// already (sleep sets, Godefroid 1996).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sleeper {
    /// Who sleeps.
    pub worker: Worker,
    /// The kinds of its next step's accesses, as they were when that step was
    /// explored from here. The locations are those of its next step in the
    /// execution at hand.
    pub kinds: Box<[Kind]>,
}

/// What an execution shall do. After the segments it goes on freely: the
/// current worker until it blocks or ends, then the next one that is enabled
/// and not asleep. When only sleepers are enabled, it is cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The prefix, to be followed exactly.
    pub segments: Vec<Segment>,
    /// Who sleeps. Empty for all plans but those of which it could not be told
    /// whether others cover them.
    pub sleep: Vec<Sleeper>,
    /// After so many events they fall asleep: where a segment begins, or ends last.
    pub sleep_from: u32,
}

impl Plan {
    /// A schedule to be followed to its end.
    pub fn of(segments: Vec<Segment>) -> Self {
        Plan { segments, ..Plan::default() }
    }
}

/// An enabled worker, paused before its next event.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Who.
    pub worker: Worker,
    /// The accesses of its next event, as far as they are known before it runs.
    pub next: &'a [Access],
}

impl Candidate<'_> {
    /// Do the next events of two workers conflict?
    pub fn conflicts(&self, other: &Candidate<'_>) -> bool {
        self.next
            .iter()
            .any(|a| other.next.iter().any(|b| a.loc == b.loc && a.kind.conflicts(b.kind)))
    }
}

/// The random numbers of one execution, so that any can be had again alone.
fn dice(seed: u64, execution: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(execution);
    rng
}

/// Picks executions, one after the other.
pub trait Strategy {
    /// The plan of the next execution, or `None` when the search is over.
    /// `last` is the whole trace of the execution before, `None` at first.
    fn next_plan(&mut self, last: Option<&Trace>) -> Option<&Plan>;

    /// Does the strategy want to be asked ([`Strategy::choose`]) before every
    /// event that the plan does not fix?
    fn chooses(&self) -> bool {
        false
    }

    /// Who runs next? `candidates` is not empty and sorted by worker.
    fn choose(&mut self, _current: Option<Worker>, candidates: &[Candidate<'_>]) -> Worker {
        candidates[0].worker
    }

    /// Does it compare executions, and so make use of [`crate::trace::Trait`]s?
    fn compares(&self) -> bool {
        false
    }

    /// How many executions there will be, where that can be told.
    fn estimate(&self) -> Option<Estimate> {
        None
    }
}
