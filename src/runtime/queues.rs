//! Simple queues, as the scheduler sees them: a resource with a token for each
//! item.

use super::execution::{Execution, Sort};
use super::session;
use super::time::Wait;
use crate::interp::error::Result;
use crate::interp::object::Obj;
use crate::interp::primitives::queues;
use crate::trace::{Kind, Loc};

fn locate(execution: &mut Execution, queue: Obj<'_>) -> Loc {
    session::look_at(execution, Sort::Queue, queue)
}

/// Waits for an item. False: there is none (in time).
pub fn take(queue: Obj<'_>, block: bool, timeout: Option<f64>) -> Result<bool> {
    if session::is_killed() && queues::len(queue) > 0 {
        return Ok(true);
    }
    let wait = Wait::begin(block, timeout);
    session::take_token("queue.get", wait, |execution| locate(execution, queue))
}

/// Is about to put an item in.
pub fn give(queue: Obj<'_>) -> Result<()> {
    if session::is_killed() {
        return Ok(());
    }
    session::step("queue.put", |execution| {
        let loc = locate(execution, queue);
        session::access(loc, Kind::Release)
    })
    .map(drop)
}

/// Is about to look how full it is.
pub fn look(queue: Obj<'_>) -> Result<()> {
    if session::is_killed() {
        return Ok(());
    }
    session::step("queue.qsize", |execution| {
        let loc = locate(execution, queue);
        session::access(loc, Kind::Read)
    })
    .map(drop)
}
