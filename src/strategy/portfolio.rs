//! Several strategies that take turns, one execution each.
//!
//! Which strategy is best depends on the program. Of n that take turns, the one
//! that suits it finds a bug after n times as many executions as alone, whichever
//! that is: the price of not having to know (Huberman, Lukose, Hogg, *An Economics
//! Approach to Hard Computational Problems*, Science 1997).

use super::{Candidate, Pct, Plan, Pos, Strategy, Surw};
use crate::trace::{Trace, Worker};

/// See the [module](self).
pub struct Portfolio {
    members: Vec<Box<dyn Strategy + Send>>,
    /// Who chooses in the execution at hand.
    turn: usize,
}

impl Portfolio {
    /// SURW for bugs in how often accesses alternate, PCT of depths 2 and 3 for those
    /// that few preemptions in the right places provoke, POS for those between.
    pub fn new(seed: u64) -> Self {
        let members: Vec<Box<dyn Strategy + Send>> = vec![
            Box::new(Surw::new(seed)),
            Box::new(Pct::new(seed, 2)),
            Box::new(Pos::new(seed)),
            Box::new(Pct::new(seed, 3)),
        ];
        Self { turn: members.len() - 1, members }
    }
}

impl Strategy for Portfolio {
    fn next_plan(&mut self, last: Option<&Trace>) -> Option<&Plan> {
        self.turn = (self.turn + 1) % self.members.len();
        self.members[self.turn].next_plan(last)
    }

    fn chooses(&self) -> bool {
        true
    }

    fn choose(&mut self, current: Option<Worker>, candidates: &[Candidate<'_>]) -> Worker {
        self.members[self.turn].choose(current, candidates)
    }
}
