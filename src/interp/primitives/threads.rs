//! Threads: their identity, start and join. CPython source:
//! `Modules/_threadmodule.c`.

use std::ffi::CStr;

use pyo3_ffi as ffi;

use super::{Row, shown_identity, wait_in_slices};
use crate::hook;
use crate::interp::call::call;
use crate::interp::code::{attribute, import, list_items};
use crate::interp::error::{self, Result};
use crate::interp::object::{Obj, Owned};
use crate::interp::redirect::{Arguments, Hook, is_true};
use crate::interp::thread_state::worker_identity;
use crate::interp::trace_function;
use crate::interp::value::Value;
use crate::runtime::session;
use crate::runtime::threads::{self, Task};
use crate::trace::Worker;

hook!(GET_IDENT => |hook, module, _| match shown_identity() {
    Some(identity) => Value::Int(identity as i64).into_object(),
    None => hook.call(module, &[]),
});
/// Is it the hook that tells a thread who it is?
pub fn is_identity(hook: &Hook) -> bool {
    std::ptr::eq(hook, &GET_IDENT)
}

hook!(START_NEW_THREAD => start_new_thread);
hook!(START_NEW => start_new_thread);
hook!(START_JOINABLE_THREAD => start_joinable_thread);
hook!(SET_SENTINEL => |hook, module, _| {
    let lock = hook.call(module, &[])?;
    if let Some(worker) = session::running() {
        threads::register(lock.borrow(), worker);
    }
    Ok(lock)
});
// 3.11 has one trace function for each thread, and a worker's is ours.
hook!(SETTRACE => |hook, module, arguments| match (session::running(), arguments.get(0, "")) {
    (Some(_), Some(function)) if !cfg!(Py_3_12) => {
        trace_function::set(function).map(|()| Owned::none())
    }
    _ => hook.pass_on(module, arguments),
});
hook!(HANDLE_JOIN => join);
hook!(HANDLE_IS_DONE => is_done);

/// Functions about threads. `_ThreadHandle` exists since 3.13; before, a thread
/// is joined through the lock of `_set_sentinel`.
pub(super) const TABLE: &[Row] = &[
    (
        c"_thread",
        c"",
        &[
            (c"get_ident", &GET_IDENT),
            (c"start_new_thread", &START_NEW_THREAD),
            (c"start_new", &START_NEW),
            (c"start_joinable_thread", &START_JOINABLE_THREAD),
            (c"_set_sentinel", &SET_SENTINEL),
        ],
    ),
    (c"sys", c"", &[(c"settrace", &SETTRACE)]),
    (c"_thread", c"_ThreadHandle", &[(c"join", &HANDLE_JOIN), (c"is_done", &HANDLE_IS_DONE)]),
];

/// `start_new_thread(function, args[, kwargs])`.
fn start_new_thread(hook: &Hook, module: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    let positional = arguments.positional();
    let (Some(_), [function, args, rest @ ..]) = (session::running(), positional) else {
        return hook.pass_on(module, arguments);
    };
    let task = Task {
        function: function.own(),
        arguments: list_items(*args).map(Obj::own).collect(),
        keywords: rest.first().map(|keywords| keywords.own()),
        handle: None,
        daemon: is_daemon(*function) || is_of_pool(*function),
    };
    let worker = threads::start(task)?;
    Value::Int(identity(worker) as i64).into_object()
}

/// `start_joinable_thread(function, handle=None, daemon=True)`.
fn start_joinable_thread(hook: &Hook, module: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    let function = arguments.get(0, "function");
    let (Some(_), Some(function)) = (session::running(), function) else {
        return hook.pass_on(module, arguments);
    };
    let handle = match arguments.get(1, "handle").filter(|handle| !handle.is_none()) {
        Some(handle) => handle.own(),
        None => {
            let thread = import(c"_thread")?;
            call(attribute(thread.borrow(), c"_ThreadHandle")?.borrow(), &[])?
        }
    };
    threads::start(Task {
        function: function.own(),
        arguments: vec![],
        keywords: None,
        handle: Some(handle.clone()),
        daemon: arguments.truth(2, "daemon", true)? || is_of_pool(function),
    })?;
    Ok(handle)
}

/// `_ThreadHandle.join(timeout=None)`.
fn join(hook: &Hook, handle: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    match threads::by_handle(handle) {
        Some(worker) => {
            let timeout = arguments.seconds(0, "timeout")?.filter(|timeout| *timeout >= 0.0);
            threads::join(worker, handle, timeout)?;
            Ok(Owned::none())
        }
        // In setup or invariant.
        None => {
            let timeout = arguments.seconds(0, "timeout")?.filter(|timeout| *timeout >= 0.0);
            wait_in_slices(timeout, |slice| {
                hook.call(handle, &[Owned::from_float(slice)?.borrow()])?;
                Ok(is_true(HANDLE_IS_DONE.call(handle, &[])?.borrow())?.then_some(()))
            })?;
            Ok(Owned::none())
        }
    }
}

/// `_ThreadHandle.is_done()`.
fn is_done(hook: &Hook, handle: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    match threads::by_handle(handle) {
        Some(worker) => threads::is_done(worker, handle).map(Owned::from_bool),
        None => hook.pass_on(handle, arguments),
    }
}

/// Is `function` the bootstrap of a thread of a `ThreadPoolExecutor`? They wait for work
/// for as long as the pool lives, which keeps no execution from ending.
fn is_of_pool(function: Obj<'_>) -> bool {
    is_of_thread(function, &[c"_target", c"__module__"], |module| {
        Ok(module.as_str().is_some_and(|module| module == "concurrent.futures.thread"))
    })
}

/// Is `function` the bootstrap of a `threading.Thread` that is a daemon?
fn is_daemon(function: Obj<'_>) -> bool {
    is_of_thread(function, &[c"_daemonic"], is_true)
}

/// Is `function` the bootstrap of a `threading.Thread`, and does what these attributes
/// lead to from there satisfy the test?
fn is_of_thread(
    function: Obj<'_>,
    path: &[&CStr],
    test: impl FnOnce(Obj<'_>) -> Result<bool>,
) -> bool {
    let thread = attribute(function, c"__self__");
    let found = path.iter().fold(thread, |from, name| attribute(from?.borrow(), name));
    let passed = found.and_then(|found| test(found.borrow()));
    if passed.is_err() {
        drop(error::take());
    }
    passed == Ok(true)
}

/// The identity that a worker's thread has.
pub fn identity(worker: Worker) -> usize {
    worker_identity(worker as usize + 1)
}

/// Runs a thread's function as CPython does: SystemExit ends it silently,
/// another exception is reported.
pub fn run(task: &Task) -> Result<()> {
    let arguments: Vec<Obj<'_>> = task.arguments.iter().map(Owned::borrow).collect();
    let function = task.function.borrow();
    let result = match &task.keywords {
        None => call(function, &arguments),
        Some(keywords) => {
            let values: Vec<*mut ffi::PyObject> = arguments.iter().map(|a| a.as_ptr()).collect();
            // SAFETY: live objects; the array outlives the call.
            unsafe {
                error::check(ffi::PyObject_VectorcallDict(
                    function.as_ptr(),
                    values.as_ptr(),
                    values.len(),
                    keywords.borrow().as_ptr(),
                ))
            }
        }
    };
    result.map(drop)
}

/// Reports the current exception as one that nobody can catch.
pub fn report_unraisable(exception: Owned, function: Obj<'_>) {
    if error::is_system_exit(exception.borrow()) {
        return;
    }
    error::restore(exception);
    // SAFETY: a live object, and an exception is set.
    unsafe { ffi::PyErr_WriteUnraisable(function.as_ptr()) };
}
