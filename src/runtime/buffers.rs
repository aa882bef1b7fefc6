//! The locks of buffered files, as the scheduler sees them: each call holds its
//! file's, and may make steps meanwhile.

use std::cell::RefCell;

use super::execution::Execution;
use super::session;
use super::time::Wait;
use crate::interp::error::Result;
use crate::interp::object::Obj;
use crate::trace::{Kind, Loc, Worker};

fn inside() -> &'static RefCell<Vec<(Worker, usize)>> {
    &session::current().resources.inside
}

fn locate(execution: &mut Execution, file: Obj<'_>) -> Loc {
    let loc = session::whole(execution, file);
    session::resource(execution, loc, || 1);
    loc
}

/// Begins a call; waits while another worker is inside one. False where it needs no
/// end: the worker is inside already, or is being unwound.
pub fn enter(file: Obj<'_>) -> Result<bool> {
    let Some(worker) = session::running() else { return Ok(false) };
    let entry = (worker, file.address());
    if session::is_killed() || inside().borrow().contains(&entry) {
        return Ok(false);
    }
    session::take_token("file.enter", Wait::ForGood, |execution| locate(execution, file))?;
    inside().borrow_mut().push(entry);
    Ok(true)
}

/// Ends it.
pub fn leave(file: Obj<'_>) -> Result<()> {
    let Some(worker) = session::running() else { return Ok(()) };
    let entry = (worker, file.address());
    inside().borrow_mut().retain(|known| *known != entry);
    if session::is_killed() {
        return Ok(());
    }
    session::step("file.leave", |execution| {
        let loc = locate(execution, file);
        session::access(loc, Kind::Release)
    })
    .map(drop)
}
