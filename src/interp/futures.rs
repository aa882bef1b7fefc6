//! Futures and tasks of `asyncio`, whatever class they are of.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pyo3_ffi as ffi;

use super::code::{attribute, import};
use super::error::Result;
use super::object::{Obj, Owned};
use super::redirect::is_true;
use crate::observe::calls;

/// The class of futures written in C, while tasks are observed.
static FUTURE: AtomicUsize = AtomicUsize::new(0);

/// Makes futures known.
pub fn learn() -> Result<()> {
    let class = attribute(import(c"_asyncio")?.borrow(), c"Future")?;
    FUTURE.store(class.borrow().address(), Relaxed);
    // The class lives as long as the process.
    std::mem::forget(class);
    calls::learn_futures()
}

/// Ends what `learn` began: futures are objects like others again.
pub fn forget() {
    FUTURE.store(0, Relaxed);
}

/// Is this a future or a task written in C, while tasks are observed?
pub fn is_future(object: Obj<'_>) -> bool {
    let class = FUTURE.load(Relaxed);
    // SAFETY: a live object, and a class that is never freed.
    class != 0 && unsafe { ffi::PyObject_TypeCheck(object.as_ptr(), class as *mut _) != 0 }
}

/// Has a task ended, and which future does it wait for? Of a C task these are
/// getters in C; of others, their own code.
pub fn state_of(task: Obj<'_>) -> Result<(bool, Option<Owned>)> {
    let waits_for = attribute(task, c"_fut_waiter")?;
    let ended = super::call::call(attribute(task, c"done")?.borrow(), &[])?;
    let waits = !waits_for.borrow().is_none();
    Ok((is_true(ended.borrow())?, waits.then_some(waits_for)))
}

/// The future that a task written in C waits for.
pub fn waiter_of<'a>(task: Obj<'a>) -> Option<Obj<'a>> {
    if !is_future(task) {
        return None;
    }
    match attribute(task, c"_fut_waiter") {
        // SAFETY: the task holds it, too, and nothing runs before the caller is done with it.
        Ok(future) => unsafe { Obj::from_ptr(future.borrow().as_ptr()) }.filter(|f| !f.is_none()),
        Err(super::error::Raised) => {
            drop(super::error::take());
            None
        }
    }
}

/// What a handle calls: nothing once it is cancelled.
pub fn callback_of(handle: Obj<'_>) -> Option<Owned> {
    match attribute(handle, c"_callback") {
        Ok(callback) => Some(callback).filter(|callback| !callback.borrow().is_none()),
        Err(super::error::Raised) => {
            drop(super::error::take());
            None
        }
    }
}
