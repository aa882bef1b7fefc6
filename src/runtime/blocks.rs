//! Blocks: what a task of an event loop does between two suspensions is one event
//! with many accesses. No task runs while another one's block does.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::execution::{Accesses, Site};
use crate::trace::{Access, Kind, Loc, Worker};

/// A step inside of a block, as people are told of it.
pub struct Detail {
    /// Whose block.
    pub worker: Worker,
    /// Which one of all, from 0.
    pub block: usize,
    /// Where.
    pub site: Site,
    /// What.
    pub accesses: Accesses,
    /// Where the values of its accesses start among those of the execution.
    pub values: usize,
}

impl Detail {
    /// Is it a step of the user's own code, rather than one of a library, which the user's
    /// line only called?
    pub fn is_own(&self) -> bool {
        is_own(self.site)
    }
}

/// Is this place in the user's own code?
pub fn is_own(site: Site) -> bool {
    !site.what.contains('.')
}

/// The blocks of one execution.
#[derive(Default)]
pub struct Blocks {
    /// So many blocks the running task may begin before somebody decides again.
    pub budget: u32,
    /// Steps inside of blocks, kept where a failure is to be told.
    pub details: Vec<Detail>,
    open: bool,
    site: Option<Site>,
    accesses: Vec<Access>,
    /// Where a location stands among the accesses.
    at: FxHashMap<Loc, u32>,
    /// Locks that this block has taken, and not given back yet.
    taken: Vec<Loc>,
}

impl Blocks {
    /// A new execution.
    pub fn begin(&mut self) {
        self.close();
        self.budget = 0;
        self.details.clear();
    }

    /// A block begins. What is done outside of blocks is not noted.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// Does somebody run a block?
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// A step of the block that is over; `values`: how many values are noted already, if
    /// any are.
    pub fn detail(
        &mut self,
        worker: Worker,
        block: usize,
        accesses: &[Access],
        site: Site,
        values: Option<usize>,
    ) {
        if !self.open {
            return;
        }
        self.site.get_or_insert(site);
        if let Some(values) = values {
            let accesses = SmallVec::from_slice(accesses);
            self.details.push(Detail { worker, block, site, accesses, values });
        }
    }

    /// Notes an access of the block. A location counts once: as written if it ever is.
    pub fn touch(&mut self, loc: Loc, kind: Kind) {
        // What a conditional access would do in another state is another block.
        let kind = match kind {
            Kind::None | Kind::Unread | Kind::Start | Kind::Join => return,
            // A lock that is given back before the block ends has excluded nobody.
            Kind::Acquire | Kind::TryAcquire => {
                self.taken.push(loc);
                Kind::Read
            }
            Kind::Release => match self.taken.iter().rposition(|taken| *taken == loc) {
                Some(at) => {
                    self.taken.swap_remove(at);
                    Kind::Read
                }
                None => Kind::Write,
            },
            Kind::Read | Kind::Miss => Kind::Read,
            kind if kind.is_write() => Kind::Write,
            kind => kind,
        };
        if !self.open {
            return;
        }
        if kind == Kind::Advance {
            self.accesses.push(Access { loc, kind });
            return;
        }
        let next = self.accesses.len() as u32;
        let at = *self.at.entry(loc).or_insert(next);
        match self.accesses.get_mut(at as usize) {
            Some(access) if kind == Kind::Write && access.kind == Kind::Read => access.kind = kind,
            Some(_) => {}
            None => self.accesses.push(Access { loc, kind }),
        }
    }

    /// Notes that the block takes or gives what makes another block possible.
    pub fn token(&mut self, loc: Loc, kind: Kind) {
        if self.open {
            self.accesses.push(Access { loc, kind });
        }
    }

    /// The block is over: where it began, and its accesses.
    pub fn close(&mut self) -> Option<(Site, Vec<Access>)> {
        for lock in std::mem::take(&mut self.taken) {
            self.touch(lock, Kind::Write);
        }
        self.at.clear();
        let accesses = std::mem::take(&mut self.accesses);
        let site = self.site.take();
        std::mem::take(&mut self.open)
            .then(|| (site.unwrap_or(Site { code: u32::MAX, offset: 0, what: "block" }), accesses))
    }
}
