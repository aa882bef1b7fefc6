//! Processes. A child of `fork` would inherit the carrier and nothing of the
//! caller's thread, so a worker must not fork; `subprocess`, which starts
//! another program, is passed through.

use super::Row;
use crate::hook;
use crate::interp::code::list_items;
use crate::interp::error;
use crate::interp::object::Obj;
use crate::interp::object::Owned;
use crate::interp::redirect::{Arguments, Hook};
use crate::runtime::{session, time};

hook!(WAITPID => waitpid);
hook!(FORK => fork);
hook!(FORKPTY => fork);

/// Functions that fork, and one that waits for children.
pub(super) const TABLE: &[Row] =
    &[(c"posix", c"", &[(c"fork", &FORK), (c"forkpty", &FORKPTY), (c"waitpid", &WAITPID)])];

/// `waitpid(pid, options)`: notes a process that goes on.
fn waitpid(hook: &Hook, module: Obj<'_>, arguments: &Arguments<'_>) -> error::Result<Owned> {
    let result = hook.pass_on(module, arguments)?;
    if session::running().is_some() {
        let ended = list_items(result.borrow()).next().and_then(Obj::as_i64);
        time::note_child(ended == Some(0));
    }
    Ok(result)
}

fn fork(hook: &Hook, module: Obj<'_>, arguments: &Arguments<'_>) -> error::Result<Owned> {
    if session::running().is_some() {
        return Err(error::runtime_error(
            "a worker of an exploration cannot fork: start processes in setup, use subprocess, \
             or the 'spawn' start method of multiprocessing",
        ));
    }
    hook.pass_on(module, arguments)
}
