//! Redirecting C methods: the function pointer in their `PyMethodDef` is
//! replaced, which reaches objects and bound methods made before, `with`
//! statements and specialised call sites alike.

use std::ffi::{CStr, c_int};

use pyo3_ffi as ffi;

use super::callables::{self, Callee};
use super::code::attribute;
use super::error::{self, Raised, Result};
use super::object::{Obj, Owned};

/// `METH_*` flags that tell signatures apart.
pub const SIGNATURE: c_int = ffi::METH_VARARGS
    | ffi::METH_KEYWORDS
    | ffi::METH_NOARGS
    | ffi::METH_O
    | ffi::METH_FASTCALL
    | ffi::METH_METHOD;

/// Signature of a method with positional and keyword arguments in a tuple and a dict.
pub const TUPLE_AND_DICT: c_int = ffi::METH_VARARGS | ffi::METH_KEYWORDS;
/// Signature of a method with arguments in an array and keyword names in a tuple.
pub const ARRAY_AND_NAMES: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
/// The same, with the defining class.
pub const CLASS_ARRAY_AND_NAMES: c_int = ffi::METH_METHOD | ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

/// A C method as it was before it was redirected.
#[derive(Clone, Copy)]
pub struct Original {
    definition: *mut ffi::PyMethodDef,
    method: ffi::PyMethodDefPointer,
    replacement: ffi::PyMethodDefPointer,
    signature: c_int,
}

// SAFETY: a static definition of the interpreter; used with the GIL held.
unsafe impl Send for Original {}
// SAFETY: as above.
unsafe impl Sync for Original {}

/// A replacement for one signature.
pub type Replacement = (c_int, ffi::PyMethodDefPointer);

impl Original {
    /// Looks `owner.name` up and prepares its redirection to the replacement that
    /// has its signature. `None` where this version has no such method.
    ///
    /// # Errors
    /// When the method has a signature that no replacement has.
    pub fn find(owner: Obj<'_>, name: &CStr, replacements: &[Replacement]) -> Result<Option<Self>> {
        let Ok(method) = attribute(owner, name) else {
            drop(error::take());
            return Ok(None);
        };
        let Callee::Native { definition, .. } = callables::resolve(method.borrow()) else {
            return Ok(None);
        };
        let definition = definition as *mut ffi::PyMethodDef;
        // SAFETY: the definition of a builtin method or function, which is static.
        let (flags, original) = unsafe { ((*definition).ml_flags, (*definition).ml_meth) };
        let signature = flags & SIGNATURE;
        match replacements.iter().find(|(flags, _)| *flags == signature) {
            Some((_, replacement)) => Ok(Some(Original {
                definition,
                method: original,
                replacement: *replacement,
                signature,
            })),
            None => Err(error::runtime_error(&format!(
                "frontrun does not know the signature of {} on this Python ({signature:#x})",
                name.to_string_lossy(),
            ))),
        }
    }

    /// Lets calls end in the replacement.
    pub fn redirect(&self) {
        // SAFETY: definitions are in writable data; the signature matches.
        unsafe { (*self.definition).ml_meth = self.replacement };
    }

    /// Lets calls end in the original again.
    pub fn restore(&self) {
        // SAFETY: as above.
        unsafe { (*self.definition).ml_meth = self.method };
    }

    /// Calls the original with positional arguments.
    pub fn call(&self, object: Obj<'_>, arguments: &[Obj<'_>]) -> Result<Owned> {
        let this = object.as_ptr();
        let array: smallvec::SmallVec<[*mut ffi::PyObject; 4]> =
            arguments.iter().map(|argument| argument.as_ptr()).collect();
        let (array, len) = (array.as_ptr().cast_mut(), arguments.len() as ffi::Py_ssize_t);
        // SAFETY: each arm reads the member of the union that belongs to the
        // signature, and passes what that signature takes.
        unsafe {
            error::check(match self.signature {
                ffi::METH_NOARGS => (self.method.PyCFunction)(this, std::ptr::null_mut()),
                ffi::METH_O => (self.method.PyCFunction)(this, *array),
                ffi::METH_VARARGS => {
                    let tuple = tuple(arguments)?;
                    (self.method.PyCFunction)(this, tuple.borrow().as_ptr())
                }
                TUPLE_AND_DICT => {
                    let tuple = tuple(arguments)?;
                    let none = std::ptr::null_mut();
                    (self.method.PyCFunctionWithKeywords)(this, tuple.borrow().as_ptr(), none)
                }
                ffi::METH_FASTCALL => (self.method.PyCFunctionFast)(this, array, len),
                ARRAY_AND_NAMES => {
                    let none = std::ptr::null_mut();
                    (self.method.PyCFunctionFastWithKeywords)(this, array as *const _, len, none)
                }
                CLASS_ARRAY_AND_NAMES => (self.method.PyCMethod)(
                    this,
                    ffi::Py_TYPE(this),
                    array as *const _,
                    len,
                    std::ptr::null_mut(),
                ),
                _ => return Err(error::runtime_error("a signature that was never prepared")),
            })
        }
    }

    /// The original's own pointer, for passing a call on untouched.
    #[inline]
    pub fn method(&self) -> ffi::PyMethodDefPointer {
        self.method
    }
}

fn tuple(items: &[Obj<'_>]) -> Result<Owned> {
    // SAFETY: a new tuple, filled with new references before anyone sees it.
    unsafe {
        let tuple = error::check(ffi::PyTuple_New(items.len() as ffi::Py_ssize_t))?;
        for (index, item) in items.iter().enumerate() {
            let item = item.own().into_ptr();
            ffi::PyTuple_SetItem(tuple.borrow().as_ptr(), index as ffi::Py_ssize_t, item);
        }
        Ok(tuple)
    }
}

/// The arguments of an intercepted call, whatever its signature.
pub struct Arguments<'a> {
    positional: &'a [*mut ffi::PyObject],
    names: Option<Obj<'a>>,
    keywords: Option<Obj<'a>>,
}

impl<'a> Arguments<'a> {
    /// From a tuple and a dict.
    ///
    /// # Safety
    /// The arguments of a `METH_VARARGS | METH_KEYWORDS` call.
    pub unsafe fn from_tuple(tuple: *mut ffi::PyObject, dict: *mut ffi::PyObject) -> Self {
        // SAFETY: as the caller promises; a tuple lends its items for the call.
        unsafe {
            let len = ffi::PyTuple_GET_SIZE(tuple) as usize;
            let first = (&raw const (*tuple.cast::<ffi::PyTupleObject>()).ob_item).cast();
            Arguments {
                positional: std::slice::from_raw_parts(first, len),
                names: None,
                keywords: Obj::from_ptr(dict),
            }
        }
    }

    /// From an array and the names of the last of them.
    ///
    /// # Safety
    /// The arguments of a `METH_FASTCALL` call.
    pub unsafe fn from_array(
        array: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: as the caller promises: the array has `count` positional
        // arguments, and one more for each name.
        unsafe {
            let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) };
            let len = (count + named) as usize;
            let positional = if len == 0 { &[] } else { std::slice::from_raw_parts(array, len) };
            Arguments { positional, names: Obj::from_ptr(names), keywords: None }
        }
    }

    /// No arguments.
    pub fn none() -> Self {
        Arguments { positional: &[], names: None, keywords: None }
    }

    /// The argument at this position or of this name.
    pub fn get(&self, position: usize, name: &str) -> Option<Obj<'a>> {
        let named = self.names.map_or(0, |names| super::code::list_items(names).count());
        let plain = self.positional.len() - named;
        if position < plain {
            // SAFETY: an argument lives for the call.
            return unsafe { Obj::from_ptr(self.positional[position]) };
        }
        if let Some(names) = self.names {
            let index = super::code::list_items(names)
                .position(|known| known.as_str().as_deref() == Some(name))?;
            // SAFETY: as above.
            return unsafe { Obj::from_ptr(self.positional[plain + index]) };
        }
        let keywords = self.keywords?;
        super::code::dict_items(keywords)
            .find(|(known, _)| known.as_str().as_deref() == Some(name))
            .map(|(_, value)| value)
    }
}

/// The truth of an argument.
pub fn is_true(object: Obj<'_>) -> Result<bool> {
    // SAFETY: a live object; may run Python code, which is the caller's own.
    match unsafe { ffi::PyObject_IsTrue(object.as_ptr()) } {
        -1 => Err(Raised),
        truth => Ok(truth != 0),
    }
}

/// An argument as a number of seconds.
pub fn seconds(object: Obj<'_>) -> Result<f64> {
    // SAFETY: a live object.
    let value = unsafe { ffi::PyFloat_AsDouble(object.as_ptr()) };
    // SAFETY: the GIL is held.
    if value == -1.0 && !unsafe { ffi::PyErr_Occurred() }.is_null() {
        return Err(Raised);
    }
    Ok(value)
}
