//! Calling Python.

use pyo3_ffi as ffi;

use super::error::{self, Result};
use super::object::{Obj, Owned};

/// `callable(*arguments)`.
pub fn call(callable: Obj<'_>, arguments: &[Obj<'_>]) -> Result<Owned> {
    let array: smallvec::SmallVec<[*mut ffi::PyObject; 4]> =
        arguments.iter().map(|argument| argument.as_ptr()).collect();
    // SAFETY: live objects; the array outlives the call.
    unsafe {
        error::check(ffi::PyObject_Vectorcall(
            callable.as_ptr(),
            array.as_ptr(),
            array.len(),
            std::ptr::null_mut(),
        ))
    }
}

/// Closes a coroutine that will not be awaited. False: it is none.
pub fn close_coroutine(object: Obj<'_>) -> bool {
    if !super::types::is_coroutine(object) {
        return false;
    }
    let closed =
        super::code::attribute(object, c"close").and_then(|close| call(close.borrow(), &[]));
    if closed.is_err() {
        drop(error::take());
    }
    true
}
