//! Locks, as the scheduler sees them: a resource with one token. A worker that
//! wants a held lock is disabled, it never spins.

use super::execution::{Accesses, Execution, Sort};
use super::time::Wait;
use super::{session, threads};
use crate::interp::error::Result;
use crate::interp::object::{Obj, Owned};
use crate::interp::primitives::locks as primitives;
use crate::trace::{Kind, Loc, Worker};

/// The two kinds of locks of `_thread`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `_thread.lock`.
    Plain,
    /// `_thread.RLock`.
    Reentrant,
}

impl LockKind {
    fn acquire(self) -> &'static str {
        match self {
            LockKind::Plain => "lock.acquire",
            LockKind::Reentrant => "rlock.acquire",
        }
    }

    fn release(self) -> &'static str {
        match self {
            LockKind::Plain => "lock.release",
            LockKind::Reentrant => "rlock.release",
        }
    }
}

/// The location of a lock.
fn locate(execution: &mut Execution, kind: LockKind, lock: Obj<'_>) -> Loc {
    session::look_at(execution, Sort::Lock(kind), lock)
}

/// `lock.acquire(blocking, timeout)`.
pub fn acquire(
    kind: LockKind,
    lock: Obj<'_>,
    blocking: bool,
    timeout: Option<f64>,
) -> Result<bool> {
    if session::is_killed() || kind == LockKind::Reentrant && primitives::is_mine(lock) {
        return acquire_unseen(kind, lock);
    }
    if session::is_bookkeeping() {
        let got = primitives::try_acquire(kind, lock)?;
        if got || !blocking {
            return Ok(got);
        }
    }
    loop {
        let wait = Wait::begin(blocking, timeout);
        let located = |execution: &mut Execution| locate(execution, kind, lock);
        if !session::take_token(kind.acquire(), wait, located)? {
            return Ok(false);
        }
        if primitives::try_acquire(kind, lock)? {
            return Ok(true);
        }
        if wait == Wait::No {
            return Ok(false);
        }
        // Without a GIL, somebody who is not a worker may have been faster.
    }
}

/// An acquisition that is no event: a worker that holds the lock takes it once
/// more, or a worker that is being unwound wants one for its clean-up.
fn acquire_unseen(kind: LockKind, lock: Obj<'_>) -> Result<bool> {
    if primitives::try_acquire(kind, lock)? {
        return Ok(true);
    }
    session::step(kind.acquire(), |_| Accesses::new()).map(|_| false)
}

/// `lock.release()`.
pub fn release(kind: LockKind, lock: Obj<'_>) -> Result<()> {
    let unseen = session::is_killed()
        || kind == LockKind::Reentrant && !ends_hold(lock)
        || session::is_bookkeeping();
    if unseen {
        return primitives::release_now(kind, lock);
    }
    session::step(kind.release(), |execution| {
        let loc = locate(execution, kind, lock);
        // Releasing a free lock is an error of the program, and a read of the lock.
        let held = execution.resources[&loc].tokens == 0;
        session::access(loc, if held { Kind::Release } else { Kind::Read })
    })?;
    primitives::release_now(kind, lock)
}

/// Would one release give the re-entrant lock up?
fn ends_hold(lock: Obj<'_>) -> bool {
    primitives::is_mine(lock) && primitives::depth(lock) == 1
}

/// `RLock._release_save()`: gives it up whatever its depth.
pub fn release_save(lock: Obj<'_>) -> Result<Owned> {
    if !session::is_killed() && primitives::is_mine(lock) && !session::is_bookkeeping() {
        session::step(LockKind::Reentrant.release(), |execution| {
            let loc = locate(execution, LockKind::Reentrant, lock);
            session::access(loc, Kind::Release)
        })?;
    }
    primitives::release_all(lock)
}

/// `RLock._acquire_restore(state)`: takes it back as often as it was held.
pub fn acquire_restore(lock: Obj<'_>, depth: u32) -> Result<()> {
    acquire(LockKind::Reentrant, lock, true, None)?;
    for _ in 1..depth {
        primitives::try_acquire(LockKind::Reentrant, lock)?;
    }
    Ok(())
}

/// `lock.locked()`: looks whether it is held.
pub fn look(kind: LockKind, lock: Obj<'_>) -> Result<()> {
    if session::is_killed() || session::is_bookkeeping() {
        return Ok(());
    }
    session::step("lock.locked", |execution| {
        let loc = locate(execution, kind, lock);
        session::access(loc, Kind::Read)
    })
    .map(drop)
}

/// `lock.acquire(…)` of a lock that is released by the end of a thread: the way
/// to join one up to 3.12.
pub fn acquire_of_thread(
    worker: Worker,
    lock: Obj<'_>,
    blocking: bool,
    timeout: Option<f64>,
) -> Result<bool> {
    if session::running() == Some(worker) || session::is_killed() {
        return acquire_unseen(LockKind::Plain, lock);
    }
    if blocking {
        threads::join(worker, lock, timeout)?;
    } else {
        threads::is_done(worker, lock)?;
    }
    primitives::try_acquire(LockKind::Plain, lock)
}
