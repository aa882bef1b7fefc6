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
