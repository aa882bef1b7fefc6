//! Greenlets copy parts of the C stack of the OS thread that they belong to. Fibers
//! share an OS thread and have a stack each, so a worker that uses greenlets needs a
//! thread of its own.
//!
//! Source: `greenlet.h` of the package `greenlet`.

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

use pyo3_ffi as ffi;

use super::{Row, find_in};
use crate::hook;
use crate::interp::code::attribute;
use crate::interp::error::{self, Result};
use crate::interp::object::{Obj, Owned};
use crate::interp::redirect::{Arguments, Hook};
use crate::interp::seat;
use crate::runtime::session;

hook!(SWITCH => use_greenlet);
hook!(THROW => use_greenlet);
hook!(GET_CURRENT => use_greenlet);
hook!(EXEC_DYNAMIC => exec_dynamic);

/// What runs a C extension that is being imported.
pub(super) const IMPORT: Row = (c"_imp", c"", &[(c"exec_dynamic", &EXEC_DYNAMIC)]);

/// The methods of a package that is not imported for our sake.
pub(super) const TABLE: &[Row] = &[
    (MODULE, c"greenlet", &[(c"switch", &SWITCH), (c"throw", &THROW)]),
    (MODULE, c"", &[(c"getcurrent", &GET_CURRENT)]),
];

const MODULE: &CStr = c"greenlet._greenlet";

/// Finds the methods if the package has been imported.
pub(super) fn find() -> Result<()> {
    let Some(module) = loaded()? else { return Ok(()) };
    for (_, class, functions) in TABLE {
        find_in(module.borrow(), class, functions)?;
    }
    redirect_table(module.borrow())
}

fn loaded() -> Result<Option<Owned>> {
    // SAFETY: a NUL-terminated name; a new reference, or NULL with or without an error.
    unsafe {
        let name = error::check(ffi::PyUnicode_FromString(MODULE.as_ptr()))?;
        match Owned::from_new(ffi::PyImport_GetModule(name.borrow().as_ptr())) {
            Some(module) => Ok(Some(module)),
            None if ffi::PyErr_Occurred().is_null() => Ok(None),
            None => Err(error::Raised),
        }
    }
}

/// A worker may be the first to import the package.
fn exec_dynamic(hook: &Hook, imp: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    let result = hook.pass_on(imp, arguments)?;
    find()?;
    for (_, _, functions) in TABLE {
        functions.iter().for_each(|(_, hook)| hook.redirect());
    }
    Ok(result)
}

fn use_greenlet(hook: &Hook, this: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    need_thread()?;
    hook.pass_on(this, arguments)
}

/// A worker that is a fiber ends here, with its exploration.
fn need_thread() -> Result<()> {
    if session::running().is_none() || seat::has_os_thread() {
        return Ok(());
    }
    session::need_threads("used greenlets, which belong to an OS thread");
    Err(error::abandoned())
}

/// C extensions call the functions through a table, by these numbers.
const C_GET_CURRENT: usize = 4;
const C_THROW: usize = 5;
const C_SWITCH: usize = 6;

type Get = unsafe extern "C" fn() -> *mut ffi::PyObject;
type Three = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;
type Four = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// The functions that were in the table before.
struct Originals {
    get_current: Get,
    throw: Four,
    switch: Three,
}

static ORIGINALS: OnceLock<Originals> = OnceLock::new();

fn redirect_table(module: Obj<'_>) -> Result<()> {
    if ORIGINALS.get().is_some() {
        return Ok(());
    }
    let Some(capsule) = error::if_any(attribute(module, c"_C_API"))? else { return Ok(()) };
    // SAFETY: the capsule of this name holds the table that `greenlet.h` describes, in
    // writable data that is never freed; with the GIL held nobody reads it meanwhile.
    unsafe {
        let name = c"greenlet._C_API".as_ptr();
        let table = ffi::PyCapsule_GetPointer(capsule.borrow().as_ptr(), name);
        if table.is_null() {
            return Err(error::Raised);
        }
        let table = table.cast::<*mut c_void>();
        let originals = Originals {
            get_current: std::mem::transmute::<*mut c_void, Get>(*table.add(C_GET_CURRENT)),
            throw: std::mem::transmute::<*mut c_void, Four>(*table.add(C_THROW)),
            switch: std::mem::transmute::<*mut c_void, Three>(*table.add(C_SWITCH)),
        };
        if ORIGINALS.set(originals).is_ok() {
            *table.add(C_GET_CURRENT) = get_current as *mut c_void;
            *table.add(C_THROW) = throw as *mut c_void;
            *table.add(C_SWITCH) = switch as *mut c_void;
        }
    }
    Ok(())
}

fn original() -> Option<&'static Originals> {
    match super::intercepts().then(need_thread) {
        Some(Err(error::Raised)) => None,
        _ => ORIGINALS.get(),
    }
}

unsafe extern "C" fn get_current() -> *mut ffi::PyObject {
    // SAFETY: the very call that came in, passed on.
    original().map_or(std::ptr::null_mut(), |original| unsafe { (original.get_current)() })
}

unsafe extern "C" fn throw(
    greenlet: *mut ffi::PyObject,
    class: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    traceback: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the very call that came in, passed on.
    original().map_or(std::ptr::null_mut(), |original| unsafe {
        (original.throw)(greenlet, class, value, traceback)
    })
}

unsafe extern "C" fn switch(
    greenlet: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the very call that came in, passed on.
    original().map_or(std::ptr::null_mut(), |original| unsafe {
        (original.switch)(greenlet, args, kwargs)
    })
}
