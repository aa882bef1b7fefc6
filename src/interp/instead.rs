//! Other values for what modules have, for a while.

use std::ffi::CStr;
use std::ptr::null_mut;

use pyo3_ffi as ffi;

use super::call::call;
use super::code::{attribute, import};
use super::error::{self, Raised, Result};
use super::object::{Obj, Owned};
use crate::runtime::session;

/// What has been put in place of something else. Dropped, it puts that back, unless
/// somebody has put a third thing there.
#[derive(Default)]
pub struct Instead(Vec<Place>);

struct Place {
    owner: Owned,
    name: &'static CStr,
    ours: Owned,
    before: Owned,
}

impl Instead {
    /// Puts `value` into an attribute.
    pub fn put(&mut self, owner: Owned, name: &'static CStr, value: Owned) -> Result<()> {
        let before = attribute(owner.borrow(), name)?;
        set_attribute(&owner, name, &value)?;
        self.0.push(Place { owner, name, ours: value, before });
        Ok(())
    }

    /// `sys.unraisablehook` shall not be told of what ends workers: a finaliser of the
    /// program's may be in the way of it.
    pub fn report_less(&mut self) -> Result<()> {
        static mut FILTER: ffi::PyMethodDef = ffi::PyMethodDef {
            ml_name: c"unraisablehook".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: report },
            ml_flags: ffi::METH_O,
            ml_doc: std::ptr::null(),
        };
        let sys = import(c"sys")?;
        let before = attribute(sys.borrow(), c"unraisablehook")?;
        // SAFETY: a static definition; the function keeps what it is made for.
        let filter = unsafe {
            let filter = (&raw mut FILTER).cast();
            error::check(ffi::PyCFunction_NewEx(filter, before.borrow().as_ptr(), null_mut()))?
        };
        self.put(sys, c"unraisablehook", filter)
    }
}

/// Passes a report on, unless it is of what ends workers.
unsafe extern "C" fn report(
    before: *mut ffi::PyObject,
    unraisable: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter's arguments, alive during the call.
    let (before, unraisable) = unsafe { (Obj::from_arg(before), Obj::from_arg(unraisable)) };
    let told = attribute(unraisable, c"exc_value").and_then(|exception| {
        let ours = error::is_abandoned(exception.borrow())
            || error::is_system_exit(exception.borrow()) && session::is_thread_killed();
        if ours { Ok(Owned::none()) } else { call(before, &[unraisable]) }
    });
    told.map_or(null_mut(), Owned::into_ptr)
}

impl Drop for Instead {
    fn drop(&mut self) {
        let raised = error::take();
        for Place { owner, name, ours, before } in self.0.drain(..).rev() {
            let restored = attribute(owner.borrow(), name).and_then(|now| {
                let is_ours = now.borrow().as_ptr() == ours.borrow().as_ptr();
                if is_ours { set_attribute(&owner, name, &before) } else { Ok(()) }
            });
            if restored.is_err() {
                drop(error::take());
            }
        }
        raised.map(error::restore);
    }
}

fn set_attribute(owner: &Owned, name: &CStr, value: &Owned) -> Result<()> {
    let (owner, value) = (owner.borrow().as_ptr(), value.borrow().as_ptr());
    // SAFETY: live objects and a NUL-terminated name.
    let failed = unsafe { ffi::PyObject_SetAttrString(owner, name.as_ptr(), value) } < 0;
    if failed { Err(Raised) } else { Ok(()) }
}
