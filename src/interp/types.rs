//! The builtin types and interned names that are compared with by address.

use std::sync::OnceLock;

use pyo3_ffi as ffi;

use super::object::Owned;

/// Addresses of the types that the observer tells apart.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Types {
    pub int: *mut ffi::PyTypeObject,
    pub bool: *mut ffi::PyTypeObject,
    pub float: *mut ffi::PyTypeObject,
    pub str: *mut ffi::PyTypeObject,
    pub bytes: *mut ffi::PyTypeObject,
    pub none: *mut ffi::PyTypeObject,
    pub tuple: *mut ffi::PyTypeObject,
    pub frozenset: *mut ffi::PyTypeObject,
    pub list: *mut ffi::PyTypeObject,
    pub dict: *mut ffi::PyTypeObject,
    pub set: *mut ffi::PyTypeObject,
    pub bytearray: *mut ffi::PyTypeObject,
    pub slice: *mut ffi::PyTypeObject,
    pub ty: *mut ffi::PyTypeObject,
    pub module: *mut ffi::PyTypeObject,
    pub function: *mut ffi::PyTypeObject,
    pub method: *mut ffi::PyTypeObject,
    pub builtin: *mut ffi::PyTypeObject,
    pub method_descriptor: *mut ffi::PyTypeObject,
    pub member_descriptor: *mut ffi::PyTypeObject,
    pub getset_descriptor: *mut ffi::PyTypeObject,
    pub wrapper_descriptor: *mut ffi::PyTypeObject,
    pub method_wrapper: *mut ffi::PyTypeObject,
    pub property: *mut ffi::PyTypeObject,
    pub code: *mut ffi::PyTypeObject,
    pub list_iterator: *mut ffi::PyTypeObject,
}

// SAFETY: addresses of static types; they are compared, and read with the GIL held.
unsafe impl Send for Types {}
// SAFETY: as above.
unsafe impl Sync for Types {}

static TYPES: OnceLock<Types> = OnceLock::new();

/// The table; made at import.
#[inline]
pub fn types() -> &'static Types {
    TYPES.get_or_init(make)
}

fn make() -> Types {
    // SAFETY: static types of the interpreter, only their addresses are taken.
    unsafe {
        let list_iterator = {
            let list = Owned::from_new(ffi::PyList_New(0)).expect("an empty list");
            let iter = Owned::from_new(ffi::PyObject_GetIter(list.borrow().as_ptr()));
            ffi::Py_TYPE(iter.expect("an iterator").borrow().as_ptr())
        };
        let method_wrapper = {
            let method =
                Owned::from_new(ffi::PyObject_GetAttrString(ffi::Py_None(), c"__repr__".as_ptr()));
            ffi::Py_TYPE(method.expect("None.__repr__").borrow().as_ptr())
        };
        Types {
            int: &raw mut ffi::PyLong_Type,
            bool: &raw mut ffi::PyBool_Type,
            float: &raw mut ffi::PyFloat_Type,
            str: &raw mut ffi::PyUnicode_Type,
            bytes: &raw mut ffi::PyBytes_Type,
            none: ffi::Py_TYPE(ffi::Py_None()),
            tuple: &raw mut ffi::PyTuple_Type,
            frozenset: &raw mut ffi::PyFrozenSet_Type,
            list: &raw mut ffi::PyList_Type,
            dict: &raw mut ffi::PyDict_Type,
            set: &raw mut ffi::PySet_Type,
            bytearray: &raw mut ffi::PyByteArray_Type,
            slice: &raw mut ffi::PySlice_Type,
            ty: &raw mut ffi::PyType_Type,
            module: &raw mut ffi::PyModule_Type,
            function: &raw mut ffi::PyFunction_Type,
            method: super::callables::bound_method_type(),
            builtin: &raw mut ffi::PyCFunction_Type,
            method_descriptor: &raw mut ffi::PyMethodDescr_Type,
            member_descriptor: &raw mut ffi::PyMemberDescr_Type,
            getset_descriptor: &raw mut ffi::PyGetSetDescr_Type,
            wrapper_descriptor: &raw mut ffi::PyWrapperDescr_Type,
            method_wrapper,
            property: &raw mut ffi::PyProperty_Type,
            code: &raw mut ffi::PyCode_Type,
            list_iterator,
        }
    }
}
