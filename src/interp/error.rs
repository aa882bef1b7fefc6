//! Python exceptions from Rust.

use std::ffi::CString;

use pyo3_ffi as ffi;

use super::call::call;
use super::code::{attribute, import};
use super::object::{Obj, Owned};
use super::thread_state::ThreadState;
use super::value::Value;

/// An exception is set in the current thread state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised;

/// What a call into Python gives.
pub type Result<T> = std::result::Result<T, Raised>;

/// A new reference, or the exception that came instead.
///
/// # Safety
/// `ptr` is a new reference, or NULL with an exception set.
pub unsafe fn check(ptr: *mut ffi::PyObject) -> Result<Owned> {
    // SAFETY: as the caller promises.
    unsafe { Owned::from_new(ptr) }.ok_or(Raised)
}

/// Takes the current exception out of the thread state.
pub fn take() -> Option<Owned> {
    #[cfg(Py_3_12)]
    // SAFETY: a thread state is attached; the result is a new reference or NULL.
    unsafe {
        Owned::from_new(ffi::PyErr_GetRaisedException())
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: a thread state is attached; the three are new references or NULL.
    unsafe {
        let (mut kind, mut value, mut traceback) =
            (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback);
        ffi::PyErr_NormalizeException(&mut kind, &mut value, &mut traceback);
        if !traceback.is_null() {
            ffi::PyException_SetTraceback(value, traceback);
        }
        ffi::Py_XDECREF(kind);
        ffi::Py_XDECREF(traceback);
        Owned::from_new(value)
    }
}

/// What this version, or this build, may lack: `None` where it does. Any other
/// exception stays one (Ctrl-C may come while a module is imported).
pub fn if_any<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        // SAFETY: an exception is set; static exception classes.
        Err(Raised) => unsafe {
            let lacks = ffi::PyErr_ExceptionMatches(ffi::PyExc_ImportError) != 0
                || ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) != 0;
            if !lacks {
                return Err(Raised);
            }
            ffi::PyErr_Clear();
            Ok(None)
        },
    }
}

/// Sets an exception that was taken before.
pub fn restore(exception: Owned) -> Raised {
    // SAFETY: both calls work with any exception instance; PyErr_SetObject takes
    // references of its own.
    unsafe {
        let value = exception.borrow().as_ptr();
        ffi::PyErr_SetObject(ffi::Py_TYPE(value).cast(), value);
    }
    Raised
}

/// Sets `class(message)`, for one of the interpreter's own exception classes.
fn raise(class: *mut ffi::PyObject, message: &str) -> Raised {
    let text = CString::new(message.replace('\0', "?")).unwrap_or_default();
    // SAFETY: the class is static, the text NUL-terminated.
    unsafe { ffi::PyErr_SetString(class, text.as_ptr()) };
    Raised
}

/// Sets `RuntimeError(message)`.
pub fn runtime_error(message: &str) -> Raised {
    // SAFETY: reads the address of a static exception class.
    raise(unsafe { ffi::PyExc_RuntimeError }, message)
}

/// Sets `TypeError(message)`.
pub fn type_error(message: &str) -> Raised {
    // SAFETY: reads the address of a static exception class.
    raise(unsafe { ffi::PyExc_TypeError }, message)
}

/// Sets `ValueError(message)`.
pub fn value_error(message: &str) -> Raised {
    // SAFETY: reads the address of a static exception class.
    raise(unsafe { ffi::PyExc_ValueError }, message)
}

/// Sets `IndexError(message)`.
pub fn index_error(message: &str) -> Raised {
    // SAFETY: reads the address of a static exception class.
    raise(unsafe { ffi::PyExc_IndexError }, message)
}

/// Sets `ImportError(message)`.
pub fn import_error(message: &str) -> Raised {
    // SAFETY: reads the address of a static exception class.
    raise(unsafe { ffi::PyExc_ImportError }, message)
}

/// Is `exception` an instance of the class `kind`?
pub fn is_instance(exception: Obj<'_>, kind: Obj<'_>) -> bool {
    // SAFETY: PyErr_GivenExceptionMatches walks the MRO of an exception type.
    unsafe { ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), kind.as_ptr()) != 0 }
}

static ABANDONED: std::sync::OnceLock<Owned> = std::sync::OnceLock::new();

// SAFETY: an exception class, used with the GIL held only.
unsafe impl Sync for Owned {}

/// Makes the class of the exception that unwinds abandoned workers: a
/// `BaseException`, so that `except Exception` lets it pass.
pub fn init() -> Result<Owned> {
    let doc = c"Unwinds a worker whose execution was given up; not to be caught.";
    // SAFETY: NUL-terminated literals, a static base class.
    let class = unsafe {
        check(ffi::PyErr_NewExceptionWithDoc(
            c"frontrun.Abandoned".as_ptr(),
            doc.as_ptr(),
            ffi::PyExc_BaseException,
            std::ptr::null_mut(),
        ))?
    };
    Ok(ABANDONED.get_or_init(|| class).clone())
}

/// Sets the exception that unwinds an abandoned worker.
pub fn abandoned() -> Raised {
    let class = ABANDONED.get().expect("init has run").borrow().as_ptr();
    // SAFETY: an exception class.
    unsafe { ffi::PyErr_SetNone(class) };
    Raised
}

/// Is the interpreter on its way out?
pub fn is_finalizing() -> bool {
    unsafe extern "C" {
        #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
        fn Py_IsFinalizing() -> std::ffi::c_int;
    }
    // SAFETY: reads a flag of the runtime.
    unsafe { Py_IsFinalizing() != 0 }
}

/// Is this not a subinterpreter?
pub fn is_main_interpreter() -> bool {
    // SAFETY: a thread state is attached; compares two addresses.
    unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() }
}

/// Takes back what [`raise_in_thread`] has asked for.
pub fn withdraw_from_thread(identity: usize) {
    // SAFETY: NULL withdraws; an unknown identity is ignored.
    unsafe { ffi::PyThreadState_SetAsyncExc(identity as _, std::ptr::null_mut()) };
    ThreadState::current().attend_to_exceptions();
}

/// Sets `SystemExit`, which ends a thread silently.
pub fn system_exit() -> Raised {
    // SAFETY: a static exception class.
    unsafe { ffi::PyErr_SetNone(ffi::PyExc_SystemExit) };
    Raised
}

/// Is it that exception?
pub fn is_abandoned(exception: Obj<'_>) -> bool {
    ABANDONED.get().is_some_and(|class| is_instance(exception, class.borrow()))
}

/// Does it end a thread silently?
pub fn is_system_exit(exception: Obj<'_>) -> bool {
    // SAFETY: reads the address of a static exception class.
    is_instance(exception, unsafe { Obj::from_arg(ffi::PyExc_SystemExit) })
}

/// Is it Ctrl-C?
pub fn is_keyboard_interrupt(exception: Obj<'_>) -> bool {
    // SAFETY: reads the address of a static exception class.
    is_instance(exception, unsafe { Obj::from_arg(ffi::PyExc_KeyboardInterrupt) })
}

/// Did the handler of a signal raise it? Without a GIL handlers run in the midst of setup
/// and invariant.
pub fn is_of_handler(exception: Obj<'_>) -> bool {
    if !cfg!(Py_GIL_DISABLED) {
        return false;
    }
    let found = handlers().and_then(|handlers| {
        let mut traceback = attribute(exception, c"__traceback__")?;
        while !traceback.borrow().is_none() {
            let frame = attribute(traceback.borrow(), c"tb_frame")?;
            let code = attribute(frame.borrow(), c"f_code")?;
            if handlers.iter().any(|handler| handler.borrow().as_ptr() == code.borrow().as_ptr()) {
                return Ok(true);
            }
            traceback = attribute(traceback.borrow(), c"tb_next")?;
        }
        Ok(false)
    });
    if found.is_err() {
        drop(take());
    }
    found == Ok(true)
}

/// The code of all signal handlers that are functions.
fn handlers() -> Result<Vec<Owned>> {
    let ask = attribute(import(c"signal")?.borrow(), c"getsignal")?;
    let mut codes = vec![];
    for number in 1..=64 {
        let handler = call(ask.borrow(), &[Value::Int(number).into_object()?.borrow()])?;
        codes.extend(if_any(attribute(handler.borrow(), c"__code__"))?);
    }
    Ok(codes)
}

/// Runs pending signal handlers.
pub fn check_signals() -> Result<()> {
    // SAFETY: a thread state is attached.
    if unsafe { ffi::PyErr_CheckSignals() } < 0 { Err(Raised) } else { Ok(()) }
}

/// Lets the thread of this identity raise [`abandoned`] at its next bytecode; or
/// [`system_exit`], if it is one of `threading`'s, which reports any other exception.
pub fn raise_in_thread(identity: usize, is_threadings: bool) {
    let abandoned = ABANDONED.get().map(|class| class.borrow().as_ptr());
    // SAFETY: reads the address of a static exception class.
    let class = if is_threadings { Some(unsafe { ffi::PyExc_SystemExit }) } else { abandoned };
    if let Some(class) = class {
        // SAFETY: an exception class; an unknown identity is ignored.
        unsafe { ffi::PyThreadState_SetAsyncExc(identity as _, class) };
    }
}
