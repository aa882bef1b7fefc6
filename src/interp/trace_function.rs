//! A Python trace function, delivered to as `sys.settrace` does.
//!
//! CPython source: `Python/sysmodule.c` (`trace_trampoline`, `call_trampoline`).

use std::cell::RefCell;
use std::ffi::c_int;
use std::rc::Rc;

#[cfg(all(Py_3_12, not(Py_3_13)))]
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pyo3_ffi as ffi;
use rustc_hash::FxHashMap;

use super::call::call;
use super::code::{attribute, import};
use super::error::{self, Result};
use super::layout;
use super::object::{Obj, Owned};
use super::thread_state::{ThreadState, TraceFunction};
use super::tracer;
use super::value::Value;
use crate::runtime::session;
use crate::trace::Worker;

/// What `threading.settrace` and `threading.setprofile` ask for in every new thread, as
/// debuggers and coverage.py do. Workers are threads to them.
pub struct ThreadHooks {
    trace: Option<Owned>,
    profile: Option<Owned>,
    /// What came of `trace` in the worker of this number, for the next execution:
    /// coverage.py keeps each trace function that it has made.
    made: RefCell<FxHashMap<Worker, TraceFunction>>,
}

impl ThreadHooks {
    /// Those that are set now, if there are any.
    pub fn find() -> Option<Rc<ThreadHooks>> {
        let hook = |name| {
            let threading = import(c"threading")?;
            attribute(threading.borrow(), name)
        };
        let [trace, profile] = [hook(c"_trace_hook"), hook(c"_profile_hook")].map(|hook| {
            if hook.is_err() {
                drop(error::take());
            }
            hook.ok().filter(|hook| !hook.borrow().is_none())
        });
        (trace.is_some() || profile.is_some())
            .then(|| Rc::new(ThreadHooks { trace, profile, made: RefCell::default() }))
    }

    /// A worker begins, on the attached thread state.
    pub fn enter(&self, worker: Worker) -> Result<()> {
        let made = self.made.borrow_mut().remove(&worker);
        match (made, &self.trace) {
            (Some(made), _) => tracer::chain(&made),
            (None, Some(hook)) => set(hook.borrow())?,
            (None, None) => {}
        }
        if let Some(hook) = &self.profile {
            let sys = import(c"sys")?;
            let set_profile = attribute(sys.borrow(), c"setprofile")?;
            call(set_profile.borrow(), &[hook.borrow()])?;
        }
        Ok(())
    }

    /// It has ended.
    pub fn leave(&self, worker: Worker) {
        let made = tracer::chained();
        if self.trace.is_some() && made.0.is_some() {
            self.made.borrow_mut().insert(worker, made);
        }
    }
}

/// Sets the trace function of the calling thread; `None` ends tracing.
pub fn set(function: Obj<'_>) -> Result<()> {
    // 3.11 has one trace function for each thread, and a worker's is ours.
    if session::running().is_some() && !cfg!(Py_3_12) {
        let none = function.is_none();
        let trampoline: layout::Py_tracefunc = (!none).then_some(deliver_to_worker);
        tracer::chain(&(trampoline, (!none).then(|| function.own())));
        return Ok(());
    }
    let (trampoline, object): (Option<ffi::Py_tracefunc>, _) = match function.is_none() {
        true => (None, std::ptr::null_mut()),
        false => (Some(deliver), function.as_ptr()),
    };
    install(trampoline, object)
}

/// The public function would only report that another one is just being installed.
#[cfg(not(Py_3_12))]
fn install(trampoline: Option<ffi::Py_tracefunc>, object: *mut ffi::PyObject) -> Result<()> {
    unsafe extern "C" {
        fn _PyEval_SetTrace(
            state: *mut ffi::PyThreadState,
            function: Option<ffi::Py_tracefunc>,
            object: *mut ffi::PyObject,
        ) -> c_int;
    }
    // SAFETY: the attached thread state, which takes a reference to the object.
    let failed = unsafe { _PyEval_SetTrace(ffi::PyThreadState_Get(), trampoline, object) } < 0;
    if failed { Err(error::Raised) } else { Ok(()) }
}

#[cfg(Py_3_12)]
fn install(trampoline: Option<ffi::Py_tracefunc>, object: *mut ffi::PyObject) -> Result<()> {
    // SAFETY: a thread state is attached, and takes a reference to the object.
    unsafe { ffi::PyEval_SetTrace(trampoline, object) };
    Ok(())
}

/// The trace function of the calling thread, whoever set it.
pub fn get() -> Option<Owned> {
    ThreadState::current().trace_object()
}

/// The names of the kinds of events, by their numbers.
const NAMES: [&str; 8] =
    ["call", "exception", "line", "return", "c_call", "c_exception", "c_return", "opcode"];

/// [`deliver`], as the headers declare it.
unsafe extern "C" fn deliver_to_worker(
    function: *mut layout::PyObject,
    frame: *mut layout::PyFrameObject,
    what: c_int,
    argument: *mut layout::PyObject,
) -> c_int {
    // SAFETY: the same arguments under the names of the other declaration.
    unsafe { deliver(function.cast(), frame.cast(), what, argument.cast()) }
}

unsafe extern "C" fn deliver(
    function: *mut ffi::PyObject,
    frame: *mut ffi::PyFrameObject,
    what: c_int,
    argument: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: the arguments of a trace function: the object that was set with it, the
    // frame that executes, and NULL or an object. `f_trace` is the frame's own
    // reference, held here while it is called.
    let (callback, on, argument) = unsafe {
        let callback = match what {
            ffi::PyTrace_CALL => Some(Obj::from_arg(function).own()),
            _ => {
                Obj::from_ptr((*frame.cast::<layout::PyFrameObject>()).f_trace.cast()).map(Obj::own)
            }
        };
        (callback, Obj::from_arg(frame.cast()), Obj::from_ptr(argument))
    };
    let Some(callback) = callback else { return 0 };
    let Some(result) = report(callback.borrow(), on, what, argument) else {
        // SAFETY: a thread state is attached; the frame's reference is taken out before
        // it is given up, and the exception of the callback stays set meanwhile.
        unsafe {
            let raised = error::take();
            ffi::PyEval_SetTrace(None, std::ptr::null_mut());
            drop(replace(frame, std::ptr::null_mut()));
            raised.map(error::restore);
        }
        return -1;
    };
    #[cfg(all(Py_3_12, not(Py_3_13)))]
    ask_for_opcodes(function, frame);
    if !result.borrow().is_none() {
        // SAFETY: the frame takes the reference over.
        drop(unsafe { replace(frame, result.into_ptr()) });
    }
    0
}

/// 3.12 delivers opcode events only to a trace function that is set after a frame has
/// asked for them.
#[cfg(all(Py_3_12, not(Py_3_13)))]
fn ask_for_opcodes(function: *mut ffi::PyObject, frame: *mut ffi::PyFrameObject) {
    // SAFETY: the frame that executes; its flag is a byte.
    let wanted = unsafe { (*frame.cast::<layout::PyFrameObject>()).f_trace_opcodes } != 0;
    let current = get().is_some_and(|now| std::ptr::eq(now.borrow().as_ptr(), function));
    if wanted && current && !OPCODES.swap(true, Relaxed) {
        // SAFETY: a thread state is attached, and takes a reference to the function.
        unsafe { ffi::PyEval_SetTrace(Some(deliver), function) };
    }
}

/// Has a trace function been set since a frame asked for opcode events?
#[cfg(all(Py_3_12, not(Py_3_13)))]
static OPCODES: AtomicBool = AtomicBool::new(false);

/// Calls back; `None` for an exception.
fn report(
    callback: Obj<'_>,
    frame: Obj<'_>,
    what: c_int,
    argument: Option<Obj<'_>>,
) -> Option<Owned> {
    let name = Value::from(NAMES[what as usize & 7]).into_object().ok()?;
    let argument = argument.map_or_else(Owned::none, Obj::own);
    let _locals = Locals::show(frame).ok()?;
    call(callback, &[frame, name.borrow(), argument.borrow()]).ok()
}

/// Puts another reference into `f_trace`, and gives the one that was there.
///
/// # Safety
/// `frame` is a live frame object; `function` is a new reference or NULL.
unsafe fn replace(frame: *mut ffi::PyFrameObject, function: *mut ffi::PyObject) -> Option<Owned> {
    // SAFETY: as the caller promises.
    unsafe {
        let place = &raw mut (*frame.cast::<layout::PyFrameObject>()).f_trace;
        let before = std::mem::replace(&mut *place, function.cast());
        Owned::from_new(before.cast())
    }
}

/// While it lives the frame's `f_locals` shows its variables, and afterwards the
/// variables have what it shows. From 3.13 on `f_locals` does so by itself.
struct Locals {
    #[cfg(not(Py_3_13))]
    frame: Owned,
}

#[cfg(not(Py_3_13))]
unsafe extern "C" {
    fn PyFrame_FastToLocalsWithError(frame: *mut ffi::PyFrameObject) -> c_int;
    fn PyFrame_LocalsToFast(frame: *mut ffi::PyFrameObject, clear: c_int);
}

impl Locals {
    #[cfg(Py_3_13)]
    fn show(_frame: Obj<'_>) -> Result<Locals> {
        Ok(Locals {})
    }

    #[cfg(not(Py_3_13))]
    fn show(frame: Obj<'_>) -> Result<Locals> {
        // SAFETY: a live frame object that executes.
        let failed = unsafe { PyFrame_FastToLocalsWithError(frame.as_ptr().cast()) } < 0;
        if failed { Err(error::Raised) } else { Ok(Locals { frame: frame.own() }) }
    }
}

#[cfg(not(Py_3_13))]
impl Drop for Locals {
    fn drop(&mut self) {
        // SAFETY: a live frame object that executes; keeps a set exception.
        unsafe { PyFrame_LocalsToFast(self.frame.borrow().as_ptr().cast(), 1) };
    }
}
