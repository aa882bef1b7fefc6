//! A recording as a Python object, which frees it.

use std::ffi::{CStr, c_void};

use pyo3_ffi as ffi;

use super::error::{self, Result};
use super::object::{Obj, Owned};
use crate::runtime::recorder::Recording;

/// Only [`wrap`] makes capsules of this name.
const NAME: &CStr = c"frontrun._native.Recording";

/// Hands a recording over to Python.
pub fn wrap(recording: Box<Recording>) -> Result<Owned> {
    let raw = Box::into_raw(recording).cast::<c_void>();
    // SAFETY: a pointer that is not NULL, a static name; `free` frees what `raw` is.
    unsafe { error::check(ffi::PyCapsule_New(raw, NAME.as_ptr(), Some(free))) }
}

/// The recording in a capsule of [`wrap`]'s.
pub fn unwrap<'a>(object: Obj<'a>) -> Option<&'a Recording> {
    // SAFETY: the check looks at the type, the pointer and the name only. A capsule of
    // that name holds a Box<Recording>, which nobody changes while it lives.
    unsafe {
        if ffi::PyCapsule_IsValid(object.as_ptr(), NAME.as_ptr()) == 0 {
            return None;
        }
        ffi::PyCapsule_GetPointer(object.as_ptr(), NAME.as_ptr()).cast::<Recording>().as_ref()
    }
}

unsafe extern "C" fn free(capsule: *mut ffi::PyObject) {
    // SAFETY: called once, with the GIL held, for a capsule of `wrap`'s.
    unsafe {
        let raw = ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr());
        if !raw.is_null() {
            drop(Box::from_raw(raw.cast::<Recording>()));
        }
    }
}
