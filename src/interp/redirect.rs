//! Redirecting C methods: the function pointer in their `PyMethodDef` is
//! replaced, which reaches objects and bound methods made before, `with`
//! statements and specialised call sites alike.

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;

use pyo3_ffi as ffi;
use smallvec::SmallVec;

use super::callables::{self, Callee};
use super::code::{attribute, dict_items, list_items};
use super::error::{self, Raised, Result};
use super::object::{Obj, Owned};
use super::primitives::threads::is_identity;
use super::thread_state::ThreadState;
use crate::runtime::session;

/// `METH_*` flags that tell signatures apart.
const SIGNATURE: c_int = ffi::METH_VARARGS
    | ffi::METH_KEYWORDS
    | ffi::METH_NOARGS
    | ffi::METH_O
    | ffi::METH_FASTCALL
    | ffi::METH_METHOD;

/// Arguments in a tuple and a dict.
pub(super) const TUPLE_AND_DICT: c_int = ffi::METH_VARARGS | ffi::METH_KEYWORDS;
/// Arguments in an array, the names of the last of them in a tuple.
pub(super) const ARRAY_AND_NAMES: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
/// The same, with the defining class.
pub(super) const CLASS_ARRAY_AND_NAMES: c_int =
    ffi::METH_METHOD | ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

/// What a redirected call ends in. It is asked only where [`super::primitives::intercepts`]
/// says so; `hook` is for calling the original.
pub type Handler = fn(hook: &Hook, this: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned>;

/// A C method that is redirected. Made by [`hook!`](crate::hook).
pub struct Hook {
    pub(super) original: OnceLock<Original>,
    /// One replacement for each signature that a method can have.
    pub(super) ways: [(c_int, ffi::PyMethodDefPointer); 7],
}

// SAFETY: function pointers, and a definition that is used with the GIL held.
unsafe impl Sync for Hook {}

/// A C method as it was before it was redirected.
pub(super) struct Original {
    definition: *mut ffi::PyMethodDef,
    pub(super) method: ffi::PyMethodDefPointer,
    replacement: ffi::PyMethodDefPointer,
    signature: c_int,
}

/// Declares a [`Hook`] whose calls end in a [`Handler`].
#[macro_export]
macro_rules! hook {
    ($(#[$doc:meta])* $name:ident => $handler:expr) => {
        $(#[$doc])*
        static $name: $crate::interp::redirect::Hook = {
            use pyo3_ffi as ffi;
            use $crate::interp::primitives::intercepts;
            use $crate::interp::redirect::{Arguments, Hook, Handler, handle};
            const HANDLER: Handler = $handler;
            type Ptr = *mut ffi::PyObject;
            unsafe extern "C" fn plain(this: Ptr, none: Ptr) -> Ptr {
                if !intercepts() {
                    // SAFETY: the very call that came in, passed on.
                    return unsafe { ($name.method().PyCFunction)(this, none) };
                }
                // SAFETY: `self` of this call.
                unsafe { handle(&$name, HANDLER, this, Arguments::none()) }
            }
            unsafe extern "C" fn one(this: Ptr, argument: Ptr) -> Ptr {
                if !intercepts() {
                    // SAFETY: the very call that came in, passed on.
                    return unsafe { ($name.method().PyCFunction)(this, argument) };
                }
                // SAFETY: the argument of this call.
                let arguments = unsafe { Arguments::from_array(&argument, 1, std::ptr::null_mut()) };
                // SAFETY: `self` of this call.
                unsafe { handle(&$name, HANDLER, this, arguments) }
            }
            unsafe extern "C" fn tuple(this: Ptr, args: Ptr) -> Ptr {
                if !intercepts() {
                    // SAFETY: the very call that came in, passed on.
                    return unsafe { ($name.method().PyCFunction)(this, args) };
                }
                // SAFETY: the arguments of this call.
                let arguments = unsafe { Arguments::from_tuple(args, std::ptr::null_mut()) };
                // SAFETY: `self` of this call.
                unsafe { handle(&$name, HANDLER, this, arguments) }
            }
            unsafe extern "C" fn tuple_and_dict(this: Ptr, args: Ptr, keywords: Ptr) -> Ptr {
                if !intercepts() {
                    // SAFETY: the very call that came in, passed on.
                    return unsafe {
                        ($name.method().PyCFunctionWithKeywords)(this, args, keywords)
                    };
                }
                // SAFETY: the arguments of this call.
                unsafe { handle(&$name, HANDLER, this, Arguments::from_tuple(args, keywords)) }
            }
            unsafe extern "C" fn array(this: Ptr, args: *mut Ptr, count: ffi::Py_ssize_t) -> Ptr {
                if !intercepts() {
                    // SAFETY: the very call that came in, passed on.
                    return unsafe { ($name.method().PyCFunctionFast)(this, args, count) };
                }
                // SAFETY: the arguments of this call.
                let arguments = unsafe { Arguments::from_array(args, count, std::ptr::null_mut()) };
                // SAFETY: `self` of this call.
                unsafe { handle(&$name, HANDLER, this, arguments) }
            }
            unsafe extern "C" fn array_and_names(
                this: Ptr,
                args: *const Ptr,
                count: ffi::Py_ssize_t,
                names: Ptr,
            ) -> Ptr {
                if !intercepts() {
                    // SAFETY: the very call that came in, passed on.
                    return unsafe {
                        ($name.method().PyCFunctionFastWithKeywords)(this, args, count, names)
                    };
                }
                // SAFETY: the arguments of this call.
                unsafe { handle(&$name, HANDLER, this, Arguments::from_array(args, count, names)) }
            }
            unsafe extern "C" fn class_array_and_names(
                this: Ptr,
                class: *mut ffi::PyTypeObject,
                args: *const Ptr,
                count: ffi::Py_ssize_t,
                names: Ptr,
            ) -> Ptr {
                if !intercepts() {
                    // SAFETY: the very call that came in, passed on.
                    return unsafe { ($name.method().PyCMethod)(this, class, args, count, names) };
                }
                // SAFETY: the arguments of this call.
                unsafe { handle(&$name, HANDLER, this, Arguments::from_array(args, count, names)) }
            }
            Hook::new(
                ffi::PyMethodDefPointer { PyCFunction: plain },
                ffi::PyMethodDefPointer { PyCFunction: one },
                ffi::PyMethodDefPointer { PyCFunction: tuple },
                ffi::PyMethodDefPointer { PyCFunctionWithKeywords: tuple_and_dict },
                ffi::PyMethodDefPointer { PyCFunctionFast: array },
                ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: array_and_names },
                ffi::PyMethodDefPointer { PyCMethod: class_array_and_names },
            )
        };
    };
}

/// Lets a handler answer an intercepted call.
///
/// # Safety
/// `this` is the `self` of the call (the module, for a function).
pub unsafe fn handle(
    hook: &Hook,
    handler: Handler,
    this: *mut ffi::PyObject,
    arguments: Arguments<'_>,
) -> *mut ffi::PyObject {
    // SAFETY: `self` of the call (the module, for a function), alive for the call.
    let this = unsafe { Obj::from_arg(this) };
    // What a trace function does is no part of the program: it takes its locks, if any,
    // between two steps.
    let aside = ThreadState::current().is_tracing() && session::running().is_some();
    let handler = if aside && !is_identity(hook) { Hook::pass_on } else { handler };
    handler(hook, this, &arguments).map_or_else(|Raised| std::ptr::null_mut(), Owned::into_ptr)
}

impl Hook {
    /// One replacement for each signature.
    pub const fn new(
        plain: ffi::PyMethodDefPointer,
        one: ffi::PyMethodDefPointer,
        tuple: ffi::PyMethodDefPointer,
        tuple_and_dict: ffi::PyMethodDefPointer,
        array: ffi::PyMethodDefPointer,
        array_and_names: ffi::PyMethodDefPointer,
        class_array_and_names: ffi::PyMethodDefPointer,
    ) -> Self {
        Hook {
            original: OnceLock::new(),
            ways: [
                (ffi::METH_NOARGS, plain),
                (ffi::METH_O, one),
                (ffi::METH_VARARGS, tuple),
                (TUPLE_AND_DICT, tuple_and_dict),
                (ffi::METH_FASTCALL, array),
                (ARRAY_AND_NAMES, array_and_names),
                (CLASS_ARRAY_AND_NAMES, class_array_and_names),
            ],
        }
    }

    /// Looks `owner.name` up, once. False where this version has no such C function.
    ///
    /// # Errors
    /// When it has a signature that no replacement has.
    pub fn find(&self, owner: Obj<'_>, name: &CStr) -> Result<bool> {
        if self.original.get().is_some() {
            return Ok(true);
        }
        let Some(method) = error::if_any(attribute(owner, name))? else { return Ok(false) };
        let Callee::Native { definition, .. } = callables::resolve(method.borrow()) else {
            return Ok(false);
        };
        let definition = definition as *mut ffi::PyMethodDef;
        // SAFETY: the definition of a builtin method or function, which is static.
        let (flags, method) = unsafe { ((*definition).ml_flags, (*definition).ml_meth) };
        let signature = flags & SIGNATURE;
        let Some((_, replacement)) = self.ways.iter().find(|(flags, _)| *flags == signature) else {
            return Err(error::runtime_error(&format!(
                "frontrun does not know the signature of {} on this Python ({signature:#x})",
                name.to_string_lossy(),
            )));
        };
        let replacement = *replacement;
        let _ = self.original.set(Original { definition, method, replacement, signature });
        Ok(true)
    }

    /// Lets calls end in the handler.
    pub fn redirect(&self) {
        if let Some(original) = self.original.get() {
            // SAFETY: definitions are in writable data; the signature matches.
            unsafe { (*original.definition).ml_meth = original.replacement };
        }
    }

    /// Lets calls end in the original again.
    pub fn restore(&self) {
        if let Some(original) = self.original.get() {
            // SAFETY: as above; a call that is under way keeps our code, which stays.
            unsafe { (*original.definition).ml_meth = original.method };
        }
    }

    /// The original's own pointer, for passing a call on untouched.
    #[inline]
    pub fn method(&self) -> ffi::PyMethodDefPointer {
        self.original.get().expect("only a method that was found is redirected").method
    }

    /// Passes an intercepted call on to the original.
    pub fn pass_on(&self, this: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
        let Some(original) = self.original.get() else { return self.call(this, &[]) };
        let raw = |object: Option<Obj<'_>>| object.map_or(std::ptr::null_mut(), Obj::as_ptr);
        let positional = arguments.positional();
        let array: SmallVec<[*mut ffi::PyObject; 4]> =
            arguments.values.iter().map(|value| value.as_ptr()).collect();
        let (array, len) = (array.as_ptr(), positional.len() as ffi::Py_ssize_t);
        // SAFETY: the arguments came in by the same signature.
        unsafe {
            error::check(match original.signature {
                TUPLE_AND_DICT => {
                    let (tuple, keywords) = (tuple(positional)?, raw(arguments.keywords));
                    let method = original.method.PyCFunctionWithKeywords;
                    method(this.as_ptr(), tuple.borrow().as_ptr(), keywords)
                }
                ARRAY_AND_NAMES => {
                    let method = original.method.PyCFunctionFastWithKeywords;
                    method(this.as_ptr(), array, len, raw(arguments.names))
                }
                CLASS_ARRAY_AND_NAMES => {
                    let (method, class) = (original.method.PyCMethod, ffi::Py_TYPE(this.as_ptr()));
                    method(this.as_ptr(), class, array, len, raw(arguments.names))
                }
                _ => return self.call(this, positional),
            })
        }
    }

    /// Calls the original with positional arguments.
    pub fn call(&self, this: Obj<'_>, arguments: &[Obj<'_>]) -> Result<Owned> {
        let Some(original) = self.original.get() else {
            return Err(error::runtime_error("this Python lacks an intercepted method"));
        };
        let this = this.as_ptr();
        let array: SmallVec<[*mut ffi::PyObject; 4]> =
            arguments.iter().map(|argument| argument.as_ptr()).collect();
        let (array, len) = (array.as_ptr().cast_mut(), arguments.len() as ffi::Py_ssize_t);
        let none = std::ptr::null_mut();
        let method = original.method;
        // SAFETY: each arm reads the member of the union that belongs to the
        // signature, and passes what that signature takes.
        unsafe {
            error::check(match original.signature {
                ffi::METH_NOARGS => (method.PyCFunction)(this, none),
                ffi::METH_O => (method.PyCFunction)(this, *array),
                ffi::METH_VARARGS => {
                    let tuple = tuple(arguments)?;
                    (method.PyCFunction)(this, tuple.borrow().as_ptr())
                }
                TUPLE_AND_DICT => {
                    let tuple = tuple(arguments)?;
                    (method.PyCFunctionWithKeywords)(this, tuple.borrow().as_ptr(), none)
                }
                ffi::METH_FASTCALL => (method.PyCFunctionFast)(this, array, len),
                ARRAY_AND_NAMES => {
                    (method.PyCFunctionFastWithKeywords)(this, array as *const _, len, none)
                }
                _ => {
                    let class = ffi::Py_TYPE(this);
                    (method.PyCMethod)(this, class, array as *const _, len, none)
                }
            })
        }
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
    values: SmallVec<[Obj<'a>; 4]>,
    names: Option<Obj<'a>>,
    keywords: Option<Obj<'a>>,
}

impl<'a> Arguments<'a> {
    /// From a tuple and a dict.
    ///
    /// # Safety
    /// The arguments of a `METH_VARARGS` call; `dict` may be NULL.
    pub unsafe fn from_tuple(tuple: *mut ffi::PyObject, dict: *mut ffi::PyObject) -> Self {
        // SAFETY: as the caller promises; a tuple keeps its items alive for the call.
        unsafe {
            let values = list_items(Obj::from_arg(tuple)).collect();
            Arguments { values, names: None, keywords: Obj::from_ptr(dict) }
        }
    }

    /// From an array and the names of the last of them.
    ///
    /// # Safety
    /// The arguments of a `METH_FASTCALL` call; `names` may be NULL.
    pub unsafe fn from_array(
        array: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: as the caller promises: the array has `count` positional
        // arguments, and one more for each name.
        unsafe {
            let names = Obj::from_ptr(names);
            let named = names.map_or(0, |names| list_items(names).count());
            let len = count as usize + named;
            let values = (0..len).map(|index| Obj::from_arg(*array.add(index))).collect();
            Arguments { values, names, keywords: None }
        }
    }

    /// No arguments.
    pub fn none() -> Self {
        Arguments { values: SmallVec::new(), names: None, keywords: None }
    }

    /// The positional arguments.
    pub fn positional(&self) -> &[Obj<'a>] {
        let named = self.names.map_or(0, |names| list_items(names).count());
        &self.values[..self.values.len() - named]
    }

    /// The argument at this position or of this name.
    pub fn get(&self, position: usize, name: &str) -> Option<Obj<'a>> {
        if let Some(value) = self.positional().get(position) {
            return Some(*value);
        }
        if let Some(names) = self.names {
            let first = self.positional().len();
            let index =
                list_items(names).position(|known| known.as_str().as_deref() == Some(name))?;
            return self.values.get(first + index).copied();
        }
        dict_items(self.keywords?)
            .find(|(known, _)| known.as_str().as_deref() == Some(name))
            .map(|(_, value)| value)
    }

    /// The argument as a truth value.
    pub fn truth(&self, position: usize, name: &str, default: bool) -> Result<bool> {
        self.get(position, name).map_or(Ok(default), is_true)
    }

    /// The argument as a number of seconds; `None` where it is missing or `None`.
    pub fn seconds(&self, position: usize, name: &str) -> Result<Option<f64>> {
        self.get(position, name).filter(|value| !value.is_none()).map(seconds).transpose()
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
