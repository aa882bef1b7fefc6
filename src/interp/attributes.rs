//! Where an attribute lives, found without running anybody's code.
//!
//! CPython source: `Objects/object.c` (`_PyObject_GenericGetAttrWithDict`),
//! `Objects/typeobject.c` (`_PyType_Lookup`).

use pyo3_ffi as ffi;

use super::object::Obj;
use super::types::types;

/// Where looking an attribute up ends.
#[derive(Clone, Copy)]
pub enum Home<'a> {
    /// In the instance: its dict or a slot.
    Instance,
    /// In the instance if it has it, else in its class.
    InstanceOrClass,
    /// In the class of the instance: a property or another data descriptor.
    Class,
    /// In a class that was asked for it itself, or in one of its bases.
    OwnClass,
    /// In a module: its dict.
    Module(Obj<'a>),
    /// The instance's own `__dict__`.
    Dict,
    /// Nowhere that two workers could conflict: an immutable type's method, a
    /// thread-local, an object whose attributes are Python code.
    Nowhere,
}

unsafe extern "C" {
    fn _PyType_Lookup(tp: *mut ffi::PyTypeObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// Where `owner.name` is looked up.
pub fn home<'a>(owner: Obj<'a>, name: Obj<'a>) -> Home<'a> {
    let t = types();
    // SAFETY: a live object's type; reading slots runs nothing.
    unsafe {
        let tp = ffi::Py_TYPE(owner.as_ptr());
        if ffi::PyModule_Check(owner.as_ptr()) != 0 {
            // A borrowed reference to a dict that lives as long as the module.
            return Obj::from_ptr(ffi::PyModule_GetDict(owner.as_ptr()))
                .map_or(Home::Nowhere, Home::Module);
        }
        if ffi::PyType_Check(owner.as_ptr()) != 0 {
            let mutable = is_mutable_type(owner.as_ptr().cast());
            return if mutable { Home::OwnClass } else { Home::Nowhere };
        }
        if !has_generic_getattr(tp) {
            return Home::Nowhere;
        }
        let found = _PyType_Lookup(tp, name.as_ptr());
        let has_dict = ffi::PyType_HasFeature(tp, MANAGED_DICT) != 0 || (*tp).tp_dictoffset != 0;
        if found.is_null() {
            return if has_dict { Home::Instance } else { Home::Nowhere };
        }
        let kind = ffi::Py_TYPE(found);
        if kind == t.member_descriptor {
            return Home::Instance;
        }
        if kind == t.getset_descriptor {
            return match name.as_str().as_deref() {
                Some("__dict__") => Home::Dict,
                Some("__class__") => Home::Nowhere,
                _ if is_mutable_type(tp) || has_dict => Home::Instance,
                _ => Home::Nowhere,
            };
        }
        if (*kind).tp_descr_set.is_some() {
            return Home::Class;
        }
        match (has_dict, is_mutable_type(tp)) {
            (true, true) => Home::InstanceOrClass,
            (true, false) => Home::Instance,
            (false, true) => Home::Class,
            (false, false) => Home::Nowhere,
        }
    }
}

/// Where `owner.name = value` and `del owner.name` end. Types with a Python
/// `__setattr__` are `Nowhere`: that method is observed itself.
pub fn home_of_store<'a>(owner: Obj<'a>, name: Obj<'a>) -> Home<'a> {
    // SAFETY: a live object's type; reading slots runs nothing.
    unsafe {
        let tp = ffi::Py_TYPE(owner.as_ptr());
        if ffi::PyModule_Check(owner.as_ptr()) != 0 {
            return Obj::from_ptr(ffi::PyModule_GetDict(owner.as_ptr()))
                .map_or(Home::Nowhere, Home::Module);
        }
        if ffi::PyType_Check(owner.as_ptr()) != 0 {
            return Home::OwnClass;
        }
        if (*tp).tp_setattro.map(|f| f as usize) != object().tp_setattro.map(|f| f as usize) {
            return Home::Nowhere;
        }
        home_of_plain_store(owner, name)
    }
}

/// Where `object.__setattr__(owner, name, value)` ends.
pub fn home_of_plain_store<'a>(owner: Obj<'a>, name: Obj<'a>) -> Home<'a> {
    // SAFETY: a live object's type; reading slots runs nothing.
    unsafe {
        let found = _PyType_Lookup(ffi::Py_TYPE(owner.as_ptr()), name.as_ptr());
        if !found.is_null() {
            let kind = ffi::Py_TYPE(found);
            if kind != types().member_descriptor
                && kind != types().getset_descriptor
                && (*kind).tp_descr_set.is_some()
            {
                return Home::Nowhere;
            }
        }
        Home::Instance
    }
}

/// The classes in which an attribute of `class` may live: its MRO, without the
/// immutable ones.
pub fn mutable_bases<'a>(class: Obj<'a>) -> impl Iterator<Item = Obj<'a>> {
    // SAFETY: `class` is a type; its MRO is a tuple that it keeps alive.
    let mro = unsafe { Obj::from_ptr((*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_mro) };
    mro.into_iter()
        .flat_map(super::code::list_items)
        // SAFETY: the items of an MRO are types.
        .filter(|base| unsafe { is_mutable_type(base.as_ptr().cast()) })
}

/// The instance's `__dict__`, made now if it has to be: only for instructions
/// that ask for it themselves.
pub fn instance_dict<'a>(owner: Obj<'a>) -> Option<Obj<'a>> {
    // SAFETY: the type has a dict, so this runs no code but the allocation; the
    // owner keeps the dict alive after our reference is gone.
    unsafe {
        let dict = ffi::PyObject_GenericGetDict(owner.as_ptr(), std::ptr::null_mut());
        if dict.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        ffi::Py_DECREF(dict);
        Obj::from_ptr(dict)
    }
}

/// The value that a plain lookup of an instance attribute would find; `None`
/// where finding it out could run code.
pub fn plain_value<'a>(owner: Obj<'a>, name: Obj<'a>) -> Option<Obj<'a>> {
    // SAFETY: with no class attribute of that name (or a slot), the generic
    // lookup only reads the instance; the instance keeps the value alive.
    unsafe {
        let found = _PyType_Lookup(ffi::Py_TYPE(owner.as_ptr()), name.as_ptr());
        if !found.is_null() && ffi::Py_TYPE(found) != types().member_descriptor {
            return None;
        }
        let value = ffi::PyObject_GenericGetAttr(owner.as_ptr(), name.as_ptr());
        if value.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        ffi::Py_DECREF(value);
        Obj::from_ptr(value)
    }
}

#[cfg(Py_3_12)]
const MANAGED_DICT: std::ffi::c_ulong = 1 << 4;
#[cfg(not(Py_3_12))]
const MANAGED_DICT: std::ffi::c_ulong = 1 << 4;

/// Does reading attributes of `tp` follow the generic rules, at least at first?
unsafe fn has_generic_getattr(tp: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live type; reading slots runs nothing.
    unsafe {
        if (*tp).tp_getattro.map(|f| f as usize) == object().tp_getattro.map(|f| f as usize) {
            return true;
        }
        if !is_mutable_type(tp) {
            return false;
        }
        // A Python `__getattr__` replaces the slot, and is asked last only.
        let found = _PyType_Lookup(tp, types_getattribute());
        !found.is_null() && found == object_getattribute()
    }
}

/// The slots of `object`: the generic ones.
fn object() -> &'static ffi::PyTypeObject {
    // SAFETY: a static type, whose slots never change.
    unsafe { &*(&raw const ffi::PyBaseObject_Type) }
}

fn types_getattribute() -> *mut ffi::PyObject {
    super::names::names().getattribute.borrow().as_ptr()
}

fn object_getattribute() -> *mut ffi::PyObject {
    // SAFETY: `object` is a static type, the name an interned str.
    unsafe { _PyType_Lookup(&raw mut ffi::PyBaseObject_Type, types_getattribute()) }
}

unsafe fn is_mutable_type(tp: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live type; reads its flags.
    unsafe {
        ffi::PyType_HasFeature(tp, ffi::Py_TPFLAGS_HEAPTYPE) != 0
            && ffi::PyType_HasFeature(tp, IMMUTABLE_TYPE) == 0
    }
}

const IMMUTABLE_TYPE: std::ffi::c_ulong = 1 << 8;
