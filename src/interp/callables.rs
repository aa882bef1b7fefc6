//! What a call calls: C functions are known by the address of their definition,
//! however they were reached.

use std::ffi::CStr;

use pyo3_ffi as ffi;

use super::code::{attribute, import};
use super::error::Result;
use super::object::{Obj, Owned};
use super::types::types;

/// Where a call leads.
#[derive(Clone, Copy)]
pub enum Callee<'a> {
    /// A C function or method, by the address of its definition, with the
    /// object it is bound to, if it is.
    Native {
        /// Address of the `PyMethodDef` or `wrapperbase`.
        definition: usize,
        /// `self` of a bound method.
        receiver: Option<Obj<'a>>,
    },
    /// A class: its address is its definition.
    Class(Obj<'a>),
    /// A function written in Python: it is observed itself.
    Python,
    /// Anything else.
    Other,
}

/// Resolves a callable: bound methods, descriptors, wrappers.
pub fn resolve<'a>(callable: Obj<'a>) -> Callee<'a> {
    let t = types();
    // SAFETY: each cast follows a check of the exact type, whose layout is public.
    unsafe {
        let ptr = callable.as_ptr();
        if ffi::PyCFunction_Check(ptr) != 0 {
            let function = ptr.cast::<ffi::PyCFunctionObject>();
            let receiver = Obj::from_ptr((*function).m_self)
                .filter(|object| ffi::PyModule_Check(object.as_ptr()) == 0);
            return Callee::Native { definition: (*function).m_ml as usize, receiver };
        }
        if callable.is_exactly(t.method_descriptor) {
            let descriptor = ptr.cast::<MethodDescriptor>();
            return Callee::Native { definition: (*descriptor).method as usize, receiver: None };
        }
        if callable.is_exactly(t.wrapper_descriptor) {
            let descriptor = ptr.cast::<MethodDescriptor>();
            return Callee::Native { definition: (*descriptor).method as usize, receiver: None };
        }
        if callable.is_exactly(t.method_wrapper) {
            let wrapper = ptr.cast::<MethodWrapper>();
            let descriptor = (*wrapper).descriptor.cast::<MethodDescriptor>();
            return Callee::Native {
                definition: (*descriptor).method as usize,
                receiver: Obj::from_ptr((*wrapper).receiver),
            };
        }
        if ffi::PyType_Check(ptr) != 0 {
            return Callee::Class(callable);
        }
        if callable.is_exactly(t.function) || callable.is_exactly(t.method) {
            return Callee::Python;
        }
    }
    Callee::Other
}

/// The type of bound methods.
pub fn bound_method_type() -> *mut ffi::PyTypeObject {
    unsafe extern "C" {
        static mut PyMethod_Type: ffi::PyTypeObject;
    }
    // The address of a static type of the interpreter.
    &raw mut PyMethod_Type
}

/// `PyMethodDescrObject` and `PyWrapperDescrObject` (`descrobject.h`) begin alike.
#[repr(C)]
struct MethodDescriptor {
    base: ffi::PyObject,
    class: *mut ffi::PyTypeObject,
    name: *mut ffi::PyObject,
    qualname: *mut ffi::PyObject,
    method: *mut std::ffi::c_void,
}

/// `wrapperobject` (`Objects/descrobject.c`).
#[repr(C)]
struct MethodWrapper {
    base: ffi::PyObject,
    descriptor: *mut ffi::PyObject,
    receiver: *mut ffi::PyObject,
}

/// The address of the definition behind `module.owner.name` (or `module.name`
/// with an empty owner); `None` where this version has no such C function.
pub fn definition(module: &CStr, owner: &CStr, name: &CStr) -> Result<Option<usize>> {
    let module = import(module)?;
    let holder = if owner.is_empty() {
        module
    } else {
        match attribute(module.borrow(), owner) {
            Ok(owner) => owner,
            Err(_) => return forget(),
        }
    };
    let found: Owned = match attribute(holder.borrow(), name) {
        Ok(found) => found,
        Err(_) => return forget(),
    };
    Ok(match resolve(found.borrow()) {
        Callee::Native { definition, .. } => Some(definition),
        Callee::Class(class) => Some(class.address()),
        Callee::Python | Callee::Other => None,
    })
}

fn forget<T>() -> Result<Option<T>> {
    // SAFETY: the GIL is held; the AttributeError is ours to drop.
    unsafe { ffi::PyErr_Clear() };
    Ok(None)
}
