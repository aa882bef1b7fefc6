//! The interpreter's frame: where it stands and what lies on its operand stack.
//!
//! CPython sources: `Include/internal/pycore_frame.h` (3.11-3.13),
//! `pycore_interpframe_structs.h` (3.14+), `pycore_stackref.h` (3.14+).

use pyo3_ffi as ffi;

use super::code::{self, Code};
use super::containers;
use super::error::{self, Result};
use super::layout::{self, _PyInterpreterFrame};
use super::object::{Obj, Owned};
use super::types;

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
    Tagged(i64),
}

impl<'a> Operand<'a> {
    /// The object, if there is one.
    #[inline]
    pub fn object(self) -> Option<Obj<'a>> {
        match self {
            Operand::Object(object) => Some(object),
            Operand::Null | Operand::Tagged(_) => None,
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
                return Operand::Tagged(bits as i64 >> 2);
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

    /// The function that it executes, if it is one.
    pub fn function(self) -> Option<Obj<'a>> {
        #[cfg(Py_3_14)]
        // SAFETY: a stack reference is one word; the low bits are tags.
        let function = unsafe { (self.raw.f_funcobj.bits & !3) as *mut ffi::PyObject };
        #[cfg(all(Py_3_12, not(Py_3_14)))]
        let function = self.raw.f_funcobj.cast::<ffi::PyObject>();
        #[cfg(not(Py_3_12))]
        let function = self.raw.f_func.cast::<ffi::PyObject>();
        // SAFETY: kept alive by the frame.
        unsafe { Obj::from_ptr(function) }
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

    /// The generator or coroutine whose frame it is.
    pub fn generator(self) -> Option<Obj<'a>> {
        const OWNED_BY_GENERATOR: i32 = 1;
        if i32::from(self.raw.owner) != OWNED_BY_GENERATOR {
            return None;
        }
        let offset = std::mem::offset_of!(layout::PyGenObject, gi_iframe);
        // SAFETY: such a frame lies inside its generator, which is running now.
        unsafe { Obj::from_ptr((&raw const *self.raw).byte_sub(offset).cast_mut().cast()) }
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

    /// Does nobody refer to the object but this frame: its locals, its operands on a
    /// stack of this depth, the iterators and views among these?
    pub fn alone_holds(self, object: Obj<'_>, depth: u16) -> bool {
        let mut held = 0;
        let slots = (0..self.base + depth as usize).filter_map(|index| self.slot(index).object());
        for slot in slots {
            held += (slot == object) as usize;
            if containers::looks_into_another(slot) {
                let inside = containers::referents(slot);
                held += inside.into_iter().filter(|one| *one == object).count();
            }
        }
        // A borrowed operand is none of the counted references.
        containers::references(object) <= held
    }

    /// Everything on a stack of this depth, bottom first.
    pub fn operands(self, depth: u16) -> impl Iterator<Item = Operand<'a>> {
        (1..=depth as usize).rev().map(move |from_top| self.operand(depth, from_top))
    }

    /// The offset in bytes of the instruction it stands at.
    pub fn offset(self, code: Code<'_>) -> usize {
        instruction_pointer(self.raw).wrapping_sub(code.first_unit())
    }
}

/// The code of a generator or coroutine that is not running now and has not ended.
pub fn code_of_suspended<'a>(generator: Obj<'a>) -> Option<Code<'a>> {
    const FIRST: i8 = if cfg!(Py_3_15) { 0 } else { i8::MIN };
    const RUNNING: i8 = if cfg!(Py_3_15) { 3 } else { 0 };
    // SAFETY: generators and coroutines are laid out alike; the frame of one that has
    // not ended is live.
    unsafe {
        let generator = generator.as_ptr().cast::<layout::PyGenObject>();
        if !(FIRST..RUNNING).contains(&(*generator).gi_frame_state) {
            return None;
        }
        let frame = (&raw const (*generator).gi_iframe).cast::<_PyInterpreterFrame>();
        Obj::from_ptr(executable(&*frame)).and_then(Code::from_obj)
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
            // 3.12 marks each entry from C with a frame of a trampoline.
            const OWNED_BY_C_STACK: i8 = 3;
            if cfg!(all(Py_3_12, not(Py_3_13))) && raw.owner == OWNED_BY_C_STACK as _ {
                continue;
            }
            // SAFETY: the executable of a live frame is a live object (or NULL).
            if let Some(object) = unsafe { Obj::from_ptr(executable(raw)) }
                && let Some(code) = Code::from_obj(object)
            {
                return Some((code, instruction_pointer(raw).wrapping_sub(code.first_unit())));
            }
        }
    })
}

/// Does a frame hold what it must, where the headers say? Called at import, so
/// that another layout is an ImportError and never a crash later on.
pub fn check_layout() -> Result<()> {
    let known = types::evaluate(c"lambda probe, below, argument: (below, probe(argument))")?;
    // SAFETY: a METH_O function with a static definition.
    let probe = unsafe {
        error::check(ffi::PyCFunction_NewEx(
            (&raw mut LAYOUT_PROBE).cast(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        ))?
    };
    let argument = code::import(c"sys")?;
    let arguments = [probe.borrow(), known.borrow(), argument.borrow()];
    let told = super::call::call(known.borrow(), &arguments)?;
    let fits = code::list_items(told.borrow()).nth(1).is_some_and(|fits| {
        // SAFETY: the singleton's address never changes.
        std::ptr::eq(fits.as_ptr(), unsafe { ffi::Py_True() })
    });
    if fits {
        return Ok(());
    }
    Err(error::import_error(
        "the frames of this Python are not laid out as in the headers that frontrun was built \
         with: install frontrun again with this very Python",
    ))
}

static mut LAYOUT_PROBE: ffi::PyMethodDef = ffi::PyMethodDef {
    ml_name: c"probe".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunction: layout_probe },
    ml_flags: ffi::METH_O,
    ml_doc: std::ptr::null(),
};

/// Called by the frame of [`check_layout`]'s function, with its third argument.
unsafe extern "C" fn layout_probe(
    _self: *mut ffi::PyObject,
    argument: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the argument of this call.
    let argument = unsafe { Obj::from_arg(argument) };
    // SAFETY: a thread state is attached; its current frame is live.
    let raw = unsafe { current_raw().as_ref() };
    let fits = raw.is_some_and(|raw| {
        // SAFETY: the executable of a live frame is a live object (or NULL).
        let code = unsafe { Obj::from_ptr(executable(raw)) }.and_then(Code::from_obj);
        code.is_some_and(|code| {
            let frame = Frame { raw, base: code.locals() };
            if frame.base != 3 {
                return false;
            }
            let below = frame.operand(1, 1).object();
            code.plain_name() == "<lambda>"
                && frame.globals().is_some_and(|globals| globals != argument)
                && frame.local(2) == Some(argument)
                && below.is_some()
                && below == frame.local(1)
        })
    });
    Owned::from_bool(fits).into_ptr()
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
