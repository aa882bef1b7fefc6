//! Safe handles on Python objects: borrowed ([`Obj`]) and owned ([`Owned`]).

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use pyo3_ffi as ffi;

#[cfg(Py_3_12)]
use super::layout;
use super::types::types;

/// A borrowed reference: alive for `'a`, because a frame, a container or an
/// [`Owned`] keeps it so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Obj<'a> {
    ptr: NonNull<ffi::PyObject>,
    keeper: PhantomData<&'a ()>,
}

/// A strong reference. Dropping it may run Python code (`__del__`), so it is
/// never dropped while a table of the runtime is borrowed.
pub struct Owned {
    ptr: NonNull<ffi::PyObject>,
}

impl<'a> Obj<'a> {
    /// Wraps a borrowed pointer; `None` for NULL.
    ///
    /// # Safety
    /// The object stays alive for `'a`.
    #[inline]
    pub unsafe fn from_ptr(ptr: *mut ffi::PyObject) -> Option<Self> {
        NonNull::new(ptr).map(|ptr| Obj { ptr, keeper: PhantomData })
    }

    /// Wraps the borrowed argument of a callback.
    ///
    /// # Safety
    /// `ptr` is not NULL and stays alive for `'a`.
    #[inline]
    pub unsafe fn from_arg(ptr: *mut ffi::PyObject) -> Self {
        // SAFETY: the caller promises that it is not NULL.
        Obj { ptr: unsafe { NonNull::new_unchecked(ptr) }, keeper: PhantomData }
    }

    /// The raw pointer, for other modules of this folder.
    #[inline]
    pub fn as_ptr(self) -> *mut ffi::PyObject {
        self.ptr.as_ptr()
    }

    /// The object's address: its identity for as long as it lives.
    #[inline]
    pub fn address(self) -> usize {
        self.ptr.as_ptr() as usize
    }

    /// A strong reference to the same object.
    #[inline]
    pub fn own(self) -> Owned {
        // SAFETY: the object is alive, and the GIL is held.
        unsafe { ffi::Py_INCREF(self.as_ptr()) };
        Owned { ptr: self.ptr }
    }

    /// The object's type.
    #[inline]
    pub fn type_of(self) -> Obj<'a> {
        // SAFETY: every object has a type, which it keeps alive.
        unsafe { Obj::from_arg(ffi::Py_TYPE(self.as_ptr()).cast()) }
    }

    /// Is this object the very same as the other one?
    #[inline]
    pub fn is(self, other: Obj<'_>) -> bool {
        self.address() == other.address()
    }

    /// Is its type exactly `tp` (no subclass)?
    #[inline]
    pub fn is_exactly(self, tp: *mut ffi::PyTypeObject) -> bool {
        // SAFETY: only reads the type pointer of a live object.
        ptr::eq(unsafe { ffi::Py_TYPE(self.as_ptr()) }, tp)
    }

    /// Is it `None`?
    #[inline]
    pub fn is_none(self) -> bool {
        // SAFETY: the singleton's address never changes.
        ptr::eq(self.as_ptr(), unsafe { ffi::Py_None() })
    }

    /// Name of its type, without the module.
    pub fn type_name(self) -> String {
        class_name(self.type_of()).to_owned()
    }

    /// The name of its type as C code has given it, with its module; of a class that Python
    /// code has made without.
    pub fn full_type_name(self) -> &'a str {
        full_class_name(self.type_of())
    }

    /// Text of an exact `str`, `None` for anything else.
    pub fn as_str(self) -> Option<String> {
        // SAFETY: PyUnicode_Check only reads the type's flags.
        if unsafe { ffi::PyUnicode_Check(self.as_ptr()) } == 0 {
            return None;
        }
        let mut len = 0;
        // SAFETY: the object is a str; the buffer belongs to it and is copied at once.
        unsafe {
            let utf8 = ffi::PyUnicode_AsUTF8AndSize(self.as_ptr(), &mut len);
            if utf8.is_null() {
                ffi::PyErr_Clear();
                return Some("<undecodable>".into());
            }
            let bytes = std::slice::from_raw_parts(utf8.cast::<u8>(), len as usize);
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }

    /// Value of an exact `int` that fits, without running code.
    #[inline]
    pub fn as_i64(self) -> Option<i64> {
        let types = types();
        if !self.is_exactly(types.int) && !self.is_exactly(types.bool) {
            return None;
        }
        let mut overflow = 0;
        // SAFETY: for an int the conversion runs no Python code and cannot fail but by overflow.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(self.as_ptr(), &mut overflow) };
        (overflow == 0).then_some(value)
    }

    /// The value of an int from 0 up to 2³⁰: that of its only digit.
    ///
    /// # Safety
    /// It is such an int.
    #[cfg(Py_3_12)]
    #[inline]
    pub unsafe fn as_digit(self) -> usize {
        // SAFETY: as the caller promises; zero has a digit, too (`pycore_long.h`).
        unsafe { (*self.as_ptr().cast::<layout::PyLongObject>()).long_value.ob_digit[0] as usize }
    }

    /// A short text for values whose `repr` runs no Python code: numbers,
    /// strings, bytes, None, and the type's name in brackets for the others.
    pub fn safe_repr(self) -> String {
        let t = types();
        let plain = [t.int, t.bool, t.float, t.str, t.bytes, t.none];
        if !plain.iter().any(|tp| self.is_exactly(*tp)) {
            return format!("<{}>", self.type_name());
        }
        // SAFETY: repr of these exact types is C code that touches nothing else.
        let text = unsafe { Owned::from_new(ffi::PyObject_Repr(self.as_ptr())) };
        match text {
            Some(text) => shorten(text.borrow().as_str().unwrap_or_default()),
            None => {
                // SAFETY: the GIL is held; the error (a MemoryError) is ours to drop.
                unsafe { ffi::PyErr_Clear() };
                format!("<{}>", self.type_name())
            }
        }
    }
}

fn shorten(text: String) -> String {
    const LIMIT: usize = 60;
    if text.chars().count() <= LIMIT {
        return text;
    }
    text.chars().take(LIMIT - 1).chain(['…']).collect()
}

impl Owned {
    /// Takes over a new reference; `None` for NULL (an exception is set).
    ///
    /// # Safety
    /// `ptr` is a new reference or NULL.
    #[inline]
    pub unsafe fn from_new(ptr: *mut ffi::PyObject) -> Option<Self> {
        NonNull::new(ptr).map(|ptr| Owned { ptr })
    }

    /// A borrowed handle.
    #[inline]
    pub fn borrow(&self) -> Obj<'_> {
        Obj { ptr: self.ptr, keeper: PhantomData }
    }

    /// Gives the reference up: the caller owns it now.
    #[inline]
    pub fn into_ptr(self) -> *mut ffi::PyObject {
        ManuallyDrop::new(self).ptr.as_ptr()
    }

    /// `None`.
    pub fn none() -> Owned {
        // SAFETY: None is immortal or alive as long as the interpreter.
        unsafe { Obj::from_arg(ffi::Py_None()) }.own()
    }
}

impl Clone for Owned {
    fn clone(&self) -> Self {
        self.borrow().own()
    }
}

impl Drop for Owned {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: we own one reference, and the GIL is held wherever `Owned` lives.
        unsafe { ffi::Py_DECREF(self.ptr.as_ptr()) }
    }
}

// SAFETY: a reference may be handed to another OS thread; it is used and
// dropped there with the GIL held only.
unsafe impl Send for Owned {}

impl Owned {
    /// `True` or `False`.
    pub fn from_bool(truth: bool) -> Owned {
        // SAFETY: the two singletons live as long as the interpreter.
        unsafe { Obj::from_arg(if truth { ffi::Py_True() } else { ffi::Py_False() }) }.own()
    }

    /// A float.
    pub fn from_float(value: f64) -> super::error::Result<Owned> {
        // SAFETY: the GIL is held.
        unsafe { super::error::check(ffi::PyFloat_FromDouble(value)) }
    }
}

/// The name of a class, which the caller has, without the module.
pub fn class_name<'a>(class: Obj<'a>) -> &'a str {
    full_class_name(class).rsplit('.').next().unwrap_or_default()
}

fn full_class_name<'a>(class: Obj<'a>) -> &'a str {
    let class = class.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: a type, whose name ends with NUL and lives as long as it does.
    unsafe { std::ffi::CStr::from_ptr((*class).tp_name) }.to_str().unwrap_or_default()
}
