//! `_queue.SimpleQueue`. CPython source: `Modules/_queuemodule.c`.

use pyo3_ffi as ffi;

use super::{Row, wait_in_slices};
use crate::hook;
use crate::interp::code::{attribute, import};
use crate::interp::error::{self, Raised, Result};
use crate::interp::object::{Obj, Owned};
use crate::interp::redirect::{Arguments, Hook};
use crate::runtime::queues;
use crate::runtime::session;

hook!(GET => |hook, queue, arguments| match session::running() {
    Some(_) => {
        let block = arguments.truth(0, "block", true)?;
        get(queue, block, arguments.seconds(1, "timeout")?)
    }
    None => get_for_caller(hook, queue, arguments),
});
hook!(GET_NOWAIT => |hook, queue, arguments| match session::running() {
    Some(_) => get(queue, false, None),
    None => hook.pass_on(queue, arguments),
});
hook!(PUT => put);
hook!(PUT_NOWAIT => put);
hook!(QSIZE => look);
hook!(EMPTY => look);

/// The methods of simple queues.
pub(super) const TABLE: &[Row] = &[(
    c"_queue",
    c"SimpleQueue",
    &[
        (c"get", &GET),
        (c"get_nowait", &GET_NOWAIT),
        (c"put", &PUT),
        (c"put_nowait", &PUT_NOWAIT),
        (c"qsize", &QSIZE),
        (c"empty", &EMPTY),
    ],
)];

fn get(queue: Obj<'_>, block: bool, timeout: Option<f64>) -> Result<Owned> {
    if block && timeout.is_some_and(|timeout| timeout < 0.0) {
        return Err(error::value_error("'timeout' must be a non-negative number"));
    }
    if queues::take(queue, block, timeout)? {
        return get_now(queue);
    }
    Err(empty())
}

/// `queue.get(block, timeout)` in setup or invariant.
fn get_for_caller(hook: &Hook, queue: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    let timeout = arguments.seconds(1, "timeout")?;
    if !arguments.truth(0, "block", true)? || timeout.is_some_and(|timeout| timeout < 0.0) {
        return hook.pass_on(queue, arguments);
    }
    let item = wait_in_slices(timeout, |slice| {
        let (block, slice) = (Owned::from_bool(true), Owned::from_float(slice)?);
        match hook.call(queue, &[block.borrow(), slice.borrow()]) {
            Ok(item) => Ok(Some(item)),
            // Without a GIL it may be what the handler of a signal has raised.
            Err(Raised) => match error::take() {
                Some(raised) if !is_empty(raised.borrow())? => Err(error::restore(raised)),
                _ => Ok(None),
            },
        }
    })?;
    item.ok_or_else(empty)
}

/// Takes an item that is there.
pub fn get_now(queue: Obj<'_>) -> Result<Owned> {
    let no = Owned::from_bool(false);
    GET.call(queue, &[no.borrow()])
}

/// Does it say that a queue is empty?
fn is_empty(exception: Obj<'_>) -> Result<bool> {
    Ok(error::is_instance(exception, empty_class()?.borrow()))
}

fn empty_class() -> Result<Owned> {
    attribute(import(c"_queue")?.borrow(), c"Empty")
}

fn empty() -> Raised {
    if let Ok(class) = empty_class() {
        // SAFETY: an exception class.
        unsafe { ffi::PyErr_SetNone(class.borrow().as_ptr()) };
    }
    Raised
}

fn put(hook: &Hook, queue: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    if session::running().is_some() {
        queues::give(queue)?;
    }
    match arguments.get(0, "item") {
        Some(item) => hook.call(queue, &[item]),
        None => hook.pass_on(queue, arguments),
    }
}

fn look(hook: &Hook, queue: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    if session::running().is_some() {
        queues::look(queue)?;
    }
    hook.pass_on(queue, arguments)
}

/// How many items are in the queue.
pub fn len(queue: Obj<'_>) -> u32 {
    let size = QSIZE.call(queue, &[]).ok().and_then(|size| size.borrow().as_i64());
    size.and_then(|size| u32::try_from(size).ok()).unwrap_or(0)
}
