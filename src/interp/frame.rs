//! The interpreter's frame: where it stands and what lies on its operand stack.
//!
//! CPython sources: `Include/internal/pycore_frame.h` (3.11-3.13),
//! `pycore_interpframe_structs.h` (3.14+), `pycore_stackref.h` (3.14+).

use pyo3_ffi as ffi;

use super::code::Code;
use super::layout::{self, _PyInterpreterFrame};
use super::object::Obj;

/// The frame that the current thread state executes, valid while a callback of
/// the interpreter runs.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    raw: &'a _PyInterpreterFrame,
    /// First slot of the operand stack.
    base: usize,
}

/// What an operand slot holds.
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    /// An object.
    Object(Obj<'a>),
    /// Nothing: the NULL that some call instructions push.
    Null,
    /// A small integer of the interpreter's own (3.14+, an iteration index).
    Tagged,
}

impl<'a> Operand<'a> {
    /// The object, if there is one.
    #[inline]
    pub fn object(self) -> Option<Obj<'a>> {
        match self {
            Operand::Object(object) => Some(object),
            Operand::Null | Operand::Tagged => None,
        }
    }
}

impl<'a> Frame<'a> {
    /// The frame that runs now, if it is one of `code`.
    #[inline]
    pub fn current(code: Code<'a>) -> Option<Self> {
        // SAFETY: a thread state is attached; its current frame is live while a
        // callback runs in it.
        let raw = unsafe { current_raw().as_ref() }?;
        (executable(raw) == code.as_obj().as_ptr()).then(|| Frame { raw, base: code.locals() })
    }

    /// The frame of a frame object that is executing.
    ///
    /// # Safety
    /// `frame` is the frame argument of a running trace function, `code` its code.
    #[cfg(not(Py_3_12))]
    #[inline]
    pub unsafe fn of_object(frame: *mut ffi::PyFrameObject, code: Code<'a>) -> Option<Self> {
        // SAFETY: as the caller promises; an executing frame object points to its frame.
        let raw = unsafe { (*frame.cast::<layout::PyFrameObject>()).f_frame.as_ref() }?;
        Some(Frame { raw, base: code.locals() })
    }

    /// The operand `from_top` slots below the top of a stack of this depth
    /// (1 is the top).
    #[inline]
    pub fn operand(self, depth: u16, from_top: usize) -> Operand<'a> {
        match (depth as usize).checked_sub(from_top) {
            Some(index) => self.slot(self.base + index),
            None => Operand::Null,
        }
    }

    /// A fast local, cell or free variable.
    #[inline]
    pub fn local(self, index: usize) -> Option<Obj<'a>> {
        if index >= self.base { None } else { self.slot(index).object() }
    }

    #[inline]
    fn slot(self, index: usize) -> Operand<'a> {
        // SAFETY: localsplus has room for all locals and the whole stack
        // (co_nlocalsplus + co_stacksize slots), and `index` comes from the static
        // analysis of the frame's own code.
        let slot = unsafe { *self.raw.localsplus.as_ptr().add(index) };
        #[cfg(Py_3_14)]
        {
            // SAFETY: a stack reference is one word, whatever it holds.
            let bits = unsafe { slot.bits };
            if bits & 3 == 3 {
                return Operand::Tagged;
            }
            // SAFETY: an untagged stack reference is a live object or NULL.
            let object = unsafe { Obj::from_ptr((bits & !3) as *mut ffi::PyObject) };
            object.map_or(Operand::Null, Operand::Object)
        }
        #[cfg(not(Py_3_14))]
        {
            // SAFETY: below the static depth every slot is a live object or NULL.
            unsafe { Obj::from_ptr(slot.cast()) }.map_or(Operand::Null, Operand::Object)
        }
    }

    /// The dict of its module's globals.
    #[inline]
    pub fn globals(self) -> Option<Obj<'a>> {
        // SAFETY: kept alive by the frame's function.
        unsafe { Obj::from_ptr(self.raw.f_globals.cast()) }
    }

    /// The builtins that its names fall back to.
    #[inline]
    pub fn builtins(self) -> Option<Obj<'a>> {
        // SAFETY: kept alive by the frame's function.
        unsafe { Obj::from_ptr(self.raw.f_builtins.cast()) }
    }

    /// The namespace of a class body or module, if the frame has one.
    #[inline]
    pub fn locals_mapping(self) -> Option<Obj<'a>> {
        // SAFETY: kept alive by the frame.
        unsafe { Obj::from_ptr(self.raw.f_locals.cast()) }
    }

    /// The depth that the interpreter itself has noted: it writes it down before
    /// a callback on 3.11, 3.14 and 3.15 only.
    pub fn saved_depth(self) -> Option<usize> {
        #[cfg(Py_3_14)]
        {
            let start = self.raw.localsplus.as_ptr();
            let top = self.raw.stackpointer;
            (!top.is_null())
                .then(|| (top as usize - start as usize) / size_of::<layout::_PyStackRef>())
                .and_then(|slots| slots.checked_sub(self.base))
        }
        #[cfg(not(Py_3_14))]
        {
            usize::try_from(self.raw.stacktop).ok()?.checked_sub(self.base)
        }
    }

    /// The offset in bytes of the instruction it stands at.
    pub fn offset(self, code: Code<'_>) -> usize {
        instruction_pointer(self.raw).wrapping_sub(code.first_unit())
    }
}

/// The innermost frames of the current thread state that run Python code,
/// innermost first: code object and offset in bytes.
pub fn stack<'a>() -> impl Iterator<Item = (Code<'a>, usize)> {
    // SAFETY: a thread state is attached; its chain of frames is live.
    let mut next = unsafe { current_raw().as_ref() };
    std::iter::from_fn(move || {
        loop {
            let raw = next?;
            // SAFETY: `previous` is the live caller's frame or NULL.
            next = unsafe { raw.previous.as_ref() };
            // SAFETY: the executable of a live frame is a live object (or NULL).
            if let Some(object) = unsafe { Obj::from_ptr(executable(raw)) }
                && let Some(code) = Code::from_obj(object)
            {
                return Some((code, instruction_pointer(raw).wrapping_sub(code.first_unit())));
            }
        }
    })
}

#[inline]
unsafe fn current_raw() -> *mut _PyInterpreterFrame {
    // SAFETY: a thread state is attached.
    unsafe {
        let state = ffi::PyThreadState_Get().cast::<layout::PyThreadState>();
        #[cfg(Py_3_13)]
        return (*state).current_frame;
        #[cfg(not(Py_3_13))]
        return (*(*state).cframe).current_frame;
    }
}

#[inline]
fn executable(raw: &_PyInterpreterFrame) -> *mut ffi::PyObject {
    #[cfg(Py_3_14)]
    // SAFETY: a stack reference is one word; the low bits are tags.
    return unsafe { (raw.f_executable.bits & !3) as *mut ffi::PyObject };
    #[cfg(all(Py_3_13, not(Py_3_14)))]
    return raw.f_executable.cast();
    #[cfg(not(Py_3_13))]
    return raw.f_code.cast();
}

#[inline]
fn instruction_pointer(raw: &_PyInterpreterFrame) -> usize {
    #[cfg(Py_3_13)]
    return raw.instr_ptr as usize;
    #[cfg(not(Py_3_13))]
    return raw.prev_instr as usize;
}
