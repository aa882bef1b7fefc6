//! The intercepted primitives: locks, identities. What they mean for the
//! scheduler is said in `runtime::session`; here they are found, redirected and
//! called.
//!
//! CPython source: `Modules/_threadmodule.c`.

use std::sync::OnceLock;

use pyo3_ffi as ffi;

use super::code::{attribute, import};
use super::error::{self, Raised, Result};
use super::object::{Obj, Owned};
use super::redirect::{
    ARRAY_AND_NAMES, Arguments, Original, Replacement, TUPLE_AND_DICT, is_true, seconds,
};
use super::thread_state::ThreadState;
use crate::runtime::locks::{self, LockKind};
use crate::runtime::session;

/// The methods of one kind of lock.
struct LockMethods {
    acquire: Original,
    release: Original,
    locked: Option<Original>,
    is_owned: Option<Original>,
}

struct Primitives {
    lock: LockMethods,
    rlock: LockMethods,
    release_save: Original,
    acquire_restore: Original,
    get_ident: Original,
    all: Vec<Original>,
}

static PRIMITIVES: OnceLock<Primitives> = OnceLock::new();

thread_local! {
    static STANDS_FOR: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// While the carrier runs setup or invariant it stands for the caller's thread:
/// whose identity is this? 0 ends it.
pub fn stand_for(identity: usize) {
    STANDS_FOR.set(identity);
}

/// The identity that code on this OS thread shall see, where it is not the real one.
fn shown_identity() -> Option<usize> {
    if session::running().is_some() {
        return Some(ThreadState::current().identity());
    }
    match STANDS_FOR.get() {
        0 => None,
        identity => Some(identity),
    }
}

fn primitives() -> &'static Primitives {
    PRIMITIVES.get().expect("calls end here only after `intercept`")
}

/// Redirects the primitives. Idempotent.
pub fn intercept() -> Result<()> {
    if PRIMITIVES.get().is_none() {
        let _ = PRIMITIVES.set(find()?);
    }
    primitives().all.iter().for_each(Original::redirect);
    Ok(())
}

/// Takes all redirections back.
pub fn release_interception() {
    if let Some(primitives) = PRIMITIVES.get() {
        primitives.all.iter().for_each(Original::restore);
    }
}

/// Names of what is intercepted.
pub fn count() -> usize {
    PRIMITIVES.get().map_or(0, |primitives| primitives.all.len())
}

fn find() -> Result<Primitives> {
    let thread = import(c"_thread")?;
    let mut all = vec![];
    let lock = attribute(thread.borrow(), c"LockType")?;
    let rlock = attribute(thread.borrow(), c"RLock")?;
    let lock_methods = find_lock(lock.borrow(), &LOCK, &mut all)?;
    let rlock_methods = find_lock(rlock.borrow(), &RLOCK, &mut all)?;
    let mut one = |owner: Obj<'_>, name: &'static std::ffi::CStr, ways: &[Replacement]| {
        let found = Original::find(owner, name, ways)?.ok_or_else(|| {
            error::runtime_error(&format!("this Python has no {}", name.to_string_lossy()))
        })?;
        all.push(found);
        Ok::<_, Raised>(found)
    };
    let plain = |function| ffi::PyMethodDefPointer { PyCFunction: function };
    let release_save =
        one(rlock.borrow(), c"_release_save", &[(ffi::METH_NOARGS, plain(rlock_release_save))])?;
    let acquire_restore = one(
        rlock.borrow(),
        c"_acquire_restore",
        &[
            (ffi::METH_VARARGS, plain(rlock_acquire_restore_tuple)),
            (ffi::METH_O, plain(rlock_acquire_restore)),
        ],
    )?;
    one(rlock.borrow(), c"_is_owned", &[(ffi::METH_NOARGS, plain(rlock_is_owned))])?;
    let get_ident = one(thread.borrow(), c"get_ident", &[(ffi::METH_NOARGS, plain(get_ident))])?;
    Ok(Primitives {
        lock: lock_methods,
        rlock: rlock_methods,
        release_save,
        acquire_restore,
        get_ident,
        all,
    })
}

/// The replacements for one kind of lock.
struct LockReplacements {
    acquire: [Replacement; 2],
    enter: [Replacement; 2],
    release: [Replacement; 1],
    exit: [Replacement; 2],
}

// SAFETY: a table of function pointers and flags.
unsafe impl Sync for LockReplacements {}

fn find_lock(
    class: Obj<'_>,
    ways: &LockReplacements,
    all: &mut Vec<Original>,
) -> Result<LockMethods> {
    let mut methods = vec![];
    for (name, replacements) in [
        (c"acquire", &ways.acquire[..]),
        (c"release", &ways.release[..]),
        (c"__exit__", &ways.exit[..]),
        (c"acquire_lock", &ways.acquire[..]),
        (c"release_lock", &ways.release[..]),
    ] {
        if let Some(found) = Original::find(class, name, replacements)? {
            methods.push(found);
        }
    }
    if let Some(found) = Original::find(class, c"__enter__", &ways.acquire).or_else(|_| {
        drop(error::take());
        Original::find(class, c"__enter__", &ways.enter)
    })? {
        methods.push(found);
    }
    let (acquire, release) = (methods[0], methods[1]);
    all.extend(methods);
    let untouched = |name| Original::find(class, name, &[(ffi::METH_NOARGS, acquire.method())]);
    Ok(LockMethods {
        acquire,
        release,
        locked: untouched(c"locked")?,
        is_owned: untouched(c"_is_owned")?,
    })
}

macro_rules! lock_replacements {
    ($table:ident, $kind:expr, $of:ident) => {
        static $table: LockReplacements = {
            unsafe extern "C" fn acquire_tuple(
                this: *mut ffi::PyObject,
                args: *mut ffi::PyObject,
                keywords: *mut ffi::PyObject,
            ) -> *mut ffi::PyObject {
                if session::running().is_none() && STANDS_FOR.get() == 0 {
                    // SAFETY: the very call that came in, passed on.
                    return unsafe {
                        (primitives().$of.acquire.method().PyCFunctionWithKeywords)(
                            this, args, keywords,
                        )
                    };
                }
                // SAFETY: the arguments of this call.
                unsafe { acquire($kind, this, Arguments::from_tuple(args, keywords)) }
            }
            unsafe extern "C" fn acquire_array(
                this: *mut ffi::PyObject,
                args: *const *mut ffi::PyObject,
                count: ffi::Py_ssize_t,
                names: *mut ffi::PyObject,
            ) -> *mut ffi::PyObject {
                if session::running().is_none() && STANDS_FOR.get() == 0 {
                    // SAFETY: the very call that came in, passed on.
                    return unsafe {
                        (primitives().$of.acquire.method().PyCFunctionFastWithKeywords)(
                            this, args, count, names,
                        )
                    };
                }
                // SAFETY: the arguments of this call.
                unsafe { acquire($kind, this, Arguments::from_array(args, count, names)) }
            }
            unsafe extern "C" fn enter(
                this: *mut ffi::PyObject,
                _none: *mut ffi::PyObject,
            ) -> *mut ffi::PyObject {
                // SAFETY: `self` of this call.
                unsafe { acquire($kind, this, Arguments::none()) }
            }
            unsafe extern "C" fn release_plain(
                this: *mut ffi::PyObject,
                _none: *mut ffi::PyObject,
            ) -> *mut ffi::PyObject {
                // SAFETY: `self` of this call.
                unsafe { release($kind, this) }
            }
            unsafe extern "C" fn exit_tuple(
                this: *mut ffi::PyObject,
                _args: *mut ffi::PyObject,
            ) -> *mut ffi::PyObject {
                // SAFETY: `self` of this call.
                unsafe { release($kind, this) }
            }
            unsafe extern "C" fn exit_array(
                this: *mut ffi::PyObject,
                _args: *mut *mut ffi::PyObject,
                _count: ffi::Py_ssize_t,
            ) -> *mut ffi::PyObject {
                // SAFETY: `self` of this call.
                unsafe { release($kind, this) }
            }
            use ffi::PyMethodDefPointer as Way;
            LockReplacements {
                acquire: [
                    (TUPLE_AND_DICT, Way { PyCFunctionWithKeywords: acquire_tuple }),
                    (ARRAY_AND_NAMES, Way { PyCFunctionFastWithKeywords: acquire_array }),
                ],
                enter: [
                    (ffi::METH_NOARGS, Way { PyCFunction: enter }),
                    (TUPLE_AND_DICT, Way { PyCFunctionWithKeywords: acquire_tuple }),
                ],
                release: [(ffi::METH_NOARGS, Way { PyCFunction: release_plain })],
                exit: [
                    (ffi::METH_VARARGS, Way { PyCFunction: exit_tuple }),
                    (ffi::METH_FASTCALL, Way { PyCFunctionFast: exit_array }),
                ],
            }
        };
    };
}

lock_replacements!(LOCK, LockKind::Plain, lock);
lock_replacements!(RLOCK, LockKind::Reentrant, rlock);

fn methods(kind: LockKind) -> &'static LockMethods {
    match kind {
        LockKind::Plain => &primitives().lock,
        LockKind::Reentrant => &primitives().rlock,
    }
}

unsafe fn acquire(
    kind: LockKind,
    this: *mut ffi::PyObject,
    arguments: Arguments<'_>,
) -> *mut ffi::PyObject {
    // SAFETY: `self` of the intercepted call.
    let lock = unsafe { Obj::from_arg(this) };
    give(acquire_with(kind, lock, &arguments).map(Owned::from_bool))
}

fn acquire_with(kind: LockKind, lock: Obj<'_>, arguments: &Arguments<'_>) -> Result<bool> {
    let blocking = match arguments.get(0, "blocking") {
        Some(argument) => is_true(argument)?,
        None => true,
    };
    let timeout = match arguments.get(1, "timeout") {
        Some(argument) => seconds(argument)?,
        None => -1.0,
    };
    if session::running().is_some() {
        if !blocking && timeout != -1.0 {
            return Err(error::value_error("can't specify a timeout for a non-blocking call"));
        }
        if timeout < 0.0 && timeout != -1.0 {
            return Err(error::value_error("timeout value must be a non-negative number"));
        }
        let timeout = (timeout >= 0.0).then_some(timeout);
        return locks::acquire(kind, lock, blocking, timeout);
    }
    let (blocking, timeout) = (Owned::from_bool(blocking), Owned::from_float(timeout)?);
    as_owner(kind, lock, || {
        let got = methods(kind).acquire.call(lock, &[blocking.borrow(), timeout.borrow()])?;
        is_true(got.borrow())
    })
}

unsafe fn release(kind: LockKind, this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: `self` of the intercepted call.
    let lock = unsafe { Obj::from_arg(this) };
    if session::running().is_some() {
        return give(locks::release(kind, lock).map(|()| Owned::none()));
    }
    if STANDS_FOR.get() != 0 {
        return give(as_owner(kind, lock, || methods(kind).release.call(lock, &[])));
    }
    // SAFETY: the original takes `self` only.
    unsafe { (methods(kind).release.method().PyCFunction)(this, std::ptr::null_mut()) }
}

/// Takes the lock now if it is free.
pub fn try_acquire(kind: LockKind, lock: Obj<'_>) -> Result<bool> {
    let no = Owned::from_bool(false);
    as_owner(kind, lock, || is_true(methods(kind).acquire.call(lock, &[no.borrow()])?.borrow()))
}

/// Really releases the lock.
pub fn release_now(kind: LockKind, lock: Obj<'_>) -> Result<()> {
    as_owner(kind, lock, || methods(kind).release.call(lock, &[]).map(drop))
}

/// Is the lock held, by whomever?
pub fn is_locked(kind: LockKind, lock: Obj<'_>) -> bool {
    match kind {
        LockKind::Plain => {
            let locked = methods(kind).locked.map(|locked| locked.call(lock, &[]));
            matches!(locked, Some(Ok(truth)) if is_true(truth.borrow()) == Ok(true))
        }
        LockKind::Reentrant => owner_word(lock) != 0,
    }
}

/// Does the worker that runs now hold this re-entrant lock?
pub fn is_mine(lock: Obj<'_>) -> bool {
    shown_identity().is_some_and(|identity| owner_word(lock) == identity)
}

/// The word in an RLock that names its owner: behind the lock itself, on every
/// version (`rlockobject`; `_PyRecursiveMutex` since 3.14).
fn owner_slot(lock: Obj<'_>) -> *mut usize {
    let offset = size_of::<ffi::PyObject>() + size_of::<usize>();
    lock.as_ptr().cast::<u8>().wrapping_add(offset).cast()
}

fn owner_word(lock: Obj<'_>) -> usize {
    // SAFETY: a live RLock; see `owner_slot`.
    unsafe { owner_slot(lock).read() }
}

/// How often its owner holds a re-entrant lock: the word behind the owner's.
pub fn depth(lock: Obj<'_>) -> usize {
    // SAFETY: a live RLock. Up to 3.13 the count of holds; since 3.14 the number
    // of holds beyond the first (`_PyRecursiveMutex.level`).
    let word = unsafe { owner_slot(lock).add(1).read() };
    if cfg!(Py_3_14) { word + 1 } else { word }
}

/// Calls an original of an RLock, which compares its owner with the identity of
/// the OS thread: for the time of the call the one we show is the real one.
fn as_owner<T>(kind: LockKind, lock: Obj<'_>, call: impl FnOnce() -> T) -> T {
    let Some(shown) = shown_identity().filter(|_| kind == LockKind::Reentrant) else {
        return call();
    };
    const SOMEBODY_ELSE: usize = 1;
    // SAFETY: returns the identity of the OS thread, without side effects.
    let real = unsafe { ffi::PyThread_get_thread_ident() } as usize;
    if shown == real {
        return call();
    }
    let exchange = |from: usize, to: usize| {
        // SAFETY: the GIL is held, and nobody else uses the lock meanwhile.
        unsafe {
            if owner_slot(lock).read() == from {
                owner_slot(lock).write(to);
                return true;
            }
        }
        false
    };
    if !exchange(shown, real) {
        exchange(real, SOMEBODY_ELSE);
    }
    let result = call();
    if !exchange(real, shown) {
        exchange(SOMEBODY_ELSE, real);
    }
    result
}

unsafe extern "C" fn get_ident(
    module: *mut ffi::PyObject,
    none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    match shown_identity() {
        // SAFETY: makes a new int.
        Some(identity) => unsafe { ffi::PyLong_FromSize_t(identity) },
        // SAFETY: the very call that came in, passed on.
        None => unsafe { (primitives().get_ident.method().PyCFunction)(module, none) },
    }
}

unsafe extern "C" fn rlock_is_owned(
    this: *mut ffi::PyObject,
    none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: `self` of the intercepted call.
    let lock = unsafe { Obj::from_arg(this) };
    if shown_identity().is_some() {
        return Owned::from_bool(is_mine(lock)).into_ptr();
    }
    let original = primitives().rlock.is_owned.as_ref();
    // SAFETY: the very call that came in, passed on.
    original.map_or_else(std::ptr::null_mut, |o| unsafe { (o.method().PyCFunction)(this, none) })
}

unsafe extern "C" fn rlock_release_save(
    this: *mut ffi::PyObject,
    none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: `self` of the intercepted call.
    let lock = unsafe { Obj::from_arg(this) };
    if session::running().is_some() {
        return give(locks::release_save(lock));
    }
    if STANDS_FOR.get() != 0 {
        return give(release_all(lock));
    }
    // SAFETY: the very call that came in, passed on.
    unsafe { (primitives().release_save.method().PyCFunction)(this, none) }
}

/// Really releases all holds of a re-entrant lock; the state to take it back with.
pub fn release_all(lock: Obj<'_>) -> Result<Owned> {
    as_owner(LockKind::Reentrant, lock, || primitives().release_save.call(lock, &[]))
}

unsafe extern "C" fn rlock_acquire_restore(
    this: *mut ffi::PyObject,
    state: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: `self` and the argument of the intercepted call.
    let (lock, state) = unsafe { (Obj::from_arg(this), Obj::from_arg(state)) };
    give(restore(lock, state).map(|()| Owned::none()))
}

unsafe extern "C" fn rlock_acquire_restore_tuple(
    this: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a METH_VARARGS call: a tuple with the one argument.
    let (lock, args) = unsafe { (Obj::from_arg(this), Obj::from_arg(args)) };
    let state = super::code::list_items(args).next();
    let result = match state {
        Some(state) => restore(lock, state),
        None => Err(error::value_error("_acquire_restore takes the saved state")),
    };
    give(result.map(|()| Owned::none()))
}

fn restore(lock: Obj<'_>, state: Obj<'_>) -> Result<()> {
    let mut parts = super::code::list_items(state).filter_map(Obj::as_i64);
    let depth = parts.next().unwrap_or(1).max(1);
    if session::running().is_some() {
        return locks::acquire_restore(lock, depth as u32);
    }
    as_owner(LockKind::Reentrant, lock, || {
        primitives().acquire_restore.call(lock, &[state]).map(drop)
    })
}

fn give(result: Result<Owned>) -> *mut ffi::PyObject {
    result.map_or_else(|Raised| std::ptr::null_mut(), Owned::into_ptr)
}
