//! Telling when a marked instruction is about to run, on 3.11: a native trace
//! function that calls Python at gates only. 3.12+ needs none of this: there
//! `sys.monitoring` switches off what is not marked.
//!
//! CPython sources: `Python/ceval.c` (`call_trace`, `maybe_call_line_trace`),
//! `Objects/codeobject.c` (data on code objects).

use super::error::Result;
use super::object::Obj;

/// Lets the calling thread report its gates: `look(code)` gives a dict of their offsets,
/// asked once for each code object; `reached(code, offset)` is called at each.
/// Two `None` end it.
#[cfg(not(Py_3_12))]
pub fn trace(look: Obj<'_>, reached: Obj<'_>) -> Result<()> {
    settrace::trace(look, reached)
}

/// As above: not on this version.
#[cfg(Py_3_12)]
pub fn trace(_look: Obj<'_>, _reached: Obj<'_>) -> Result<()> {
    Err(super::error::runtime_error("markers use sys.monitoring on this Python"))
}

#[cfg(not(Py_3_12))]
mod settrace {
    use std::ffi::{c_int, c_void};
    use std::sync::OnceLock;

    use pyo3_ffi as ffi;

    use super::*;
    use crate::interp::call::call;
    use crate::interp::code::{Code, dict_items, list_items};
    use crate::interp::error::{self, Raised};
    use crate::interp::frame::Frame;
    use crate::interp::layout;
    use crate::interp::value::Value;

    unsafe extern "C" {
        fn _PyEval_RequestCodeExtraIndex(free: ffi::freefunc) -> ffi::Py_ssize_t;
        fn _PyCode_GetExtra(
            code: *mut ffi::PyObject,
            index: ffi::Py_ssize_t,
            extra: *mut *mut c_void,
        ) -> c_int;
        fn _PyCode_SetExtra(
            code: *mut ffi::PyObject,
            index: ffi::Py_ssize_t,
            extra: *mut c_void,
        ) -> c_int;
    }

    /// The offsets of the gates in a code object; empty for most.
    type Gates = Vec<usize>;

    static INDEX: OnceLock<ffi::Py_ssize_t> = OnceLock::new();

    fn index() -> Result<ffi::Py_ssize_t> {
        // SAFETY: `free` frees what `gates` stores under this index.
        let index = *INDEX.get_or_init(|| unsafe { _PyEval_RequestCodeExtraIndex(free) });
        if index < 0 {
            return Err(error::runtime_error("no free slot for data on code objects"));
        }
        Ok(index)
    }

    unsafe extern "C" fn free(gates: *mut c_void) {
        if !gates.is_null() {
            // SAFETY: only `gates` stores here, and it stores a leaked Box<Gates>.
            drop(unsafe { Box::from_raw(gates.cast::<Gates>()) });
        }
    }

    pub fn trace(look: Obj<'_>, reached: Obj<'_>) -> Result<()> {
        if look.is_none() {
            // SAFETY: a thread state is attached.
            unsafe { ffi::PyEval_SetTrace(None, std::ptr::null_mut()) };
            return Ok(());
        }
        index()?;
        let pair = Value::Tuple(vec![Value::Object(look.own()), Value::Object(reached.own())]);
        let pair = pair.into_object()?;
        // SAFETY: a thread state is attached, and takes a reference to the pair.
        unsafe { ffi::PyEval_SetTrace(Some(on_event), pair.borrow().as_ptr()) };
        Ok(())
    }

    unsafe extern "C" fn on_event(
        pair: *mut ffi::PyObject,
        frame: *mut ffi::PyFrameObject,
        what: c_int,
        _argument: *mut ffi::PyObject,
    ) -> c_int {
        if what != ffi::PyTrace_CALL && what != ffi::PyTrace_LINE {
            return 0;
        }
        // SAFETY: the thread state holds the pair; the frame argument of a trace
        // function is executing, and points to the interpreter's frame and its code.
        let (pair, object, code, running) = unsafe {
            let object = frame.cast::<layout::PyFrameObject>();
            let code = Code::from_ptr((*(*object).f_frame).f_code.cast());
            let Some(running) = Frame::of_object(frame, code) else { return 0 };
            (Obj::from_arg(pair), object, code, running)
        };
        let mut both = list_items(pair);
        let (Some(look), Some(reached)) = (both.next(), both.next()) else { return 0 };
        let Ok(gates) = gates(code, look) else { return -1 };
        if what == ffi::PyTrace_CALL {
            // SAFETY: the frame object is ours to configure, as `f_trace_lines` is
            // from Python.
            unsafe { (*object).f_trace_lines = !gates.is_empty() as _ };
            return 0;
        }
        let offset = running.offset(code);
        if !gates.contains(&offset) {
            return 0;
        }
        let Ok(offset) = Value::Int(offset as i64).into_object() else { return -1 };
        match call(reached, &[code.as_obj(), offset.borrow()]) {
            Ok(_) => 0,
            Err(Raised) => -1,
        }
    }

    /// The gates in a code object that is running.
    fn gates<'a>(code: Code<'a>, look: Obj<'_>) -> Result<&'a [usize]> {
        let (index, code_object) = (index()?, code.as_obj().as_ptr());
        let mut found = std::ptr::null_mut();
        // SAFETY: a code object, and an index of ours.
        if unsafe { _PyCode_GetExtra(code_object, index, &mut found) } < 0 {
            return Err(Raised);
        }
        if found.is_null() {
            let offsets = call(look, &[code.as_obj()])?;
            let offsets: Gates = dict_items(offsets.borrow())
                .filter_map(|(offset, _)| offset.as_i64())
                .map(|offset| offset as usize)
                .collect();
            found = Box::into_raw(Box::new(offsets)).cast();
            // SAFETY: as above; the code object owns the box from now on.
            if unsafe { _PyCode_SetExtra(code_object, index, found) } < 0 {
                // SAFETY: it was not taken.
                unsafe { free(found) };
                return Err(Raised);
            }
        }
        // SAFETY: a box that nobody changes, and that lives as long as the code.
        Ok(unsafe { &*found.cast::<Gates>() })
    }
}
