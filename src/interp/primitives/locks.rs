//! Locks. CPython source: `Modules/_threadmodule.c`.

use pyo3_ffi as ffi;

use super::{Row, shown_identity, wait_in_slices};
use crate::hook;
use crate::interp::code::list_items;
use crate::interp::error::{self, Result};
use crate::interp::object::{Obj, Owned};
use crate::interp::redirect::{Arguments, Hook, is_true};
use crate::runtime::locks::{self, LockKind};
use crate::runtime::session;
use crate::runtime::threads;

hook!(LOCK_ACQUIRE => |_, lock, arguments| acquire(LockKind::Plain, lock, arguments));
hook!(LOCK_ACQUIRE_OLD => |_, lock, arguments| acquire(LockKind::Plain, lock, arguments));
hook!(LOCK_ENTER => |_, lock, _| acquire(LockKind::Plain, lock, &Arguments::none()));
hook!(LOCK_RELEASE => |_, lock, _| release(LockKind::Plain, lock));
hook!(LOCK_RELEASE_OLD => |_, lock, _| release(LockKind::Plain, lock));
hook!(LOCK_EXIT => |_, lock, _| release(LockKind::Plain, lock));
hook!(LOCK_LOCKED => |_, lock, _| locked(LockKind::Plain, lock));
hook!(LOCK_LOCKED_OLD => |_, lock, _| locked(LockKind::Plain, lock));
hook!(RLOCK_ACQUIRE => |_, lock, arguments| acquire(LockKind::Reentrant, lock, arguments));
hook!(RLOCK_ENTER => |_, lock, _| acquire(LockKind::Reentrant, lock, &Arguments::none()));
hook!(RLOCK_RELEASE => |_, lock, _| release(LockKind::Reentrant, lock));
hook!(RLOCK_EXIT => |_, lock, _| release(LockKind::Reentrant, lock));
hook!(RLOCK_LOCKED => |_, lock, _| locked(LockKind::Reentrant, lock));
hook!(RLOCK_IS_OWNED => |_, lock, _| Ok(Owned::from_bool(is_mine(lock))));
hook!(RLOCK_RECURSION_COUNT => |hook, lock, _| as_owner(lock, || hook.call(lock, &[])));
hook!(RLOCK_RELEASE_SAVE => |_, lock, _| match session::running() {
    Some(_) => locks::release_save(lock),
    None => release_all(lock),
});
hook!(RLOCK_ACQUIRE_RESTORE => acquire_restore);

/// The methods of the two kinds of locks.
pub(super) const TABLE: &[Row] = &[
    (
        c"_thread",
        c"LockType",
        &[
            (c"acquire", &LOCK_ACQUIRE),
            (c"acquire_lock", &LOCK_ACQUIRE_OLD),
            (c"__enter__", &LOCK_ENTER),
            (c"release", &LOCK_RELEASE),
            (c"release_lock", &LOCK_RELEASE_OLD),
            (c"__exit__", &LOCK_EXIT),
            (c"locked", &LOCK_LOCKED),
            (c"locked_lock", &LOCK_LOCKED_OLD),
        ],
    ),
    (
        c"_thread",
        c"RLock",
        &[
            (c"acquire", &RLOCK_ACQUIRE),
            (c"__enter__", &RLOCK_ENTER),
            (c"release", &RLOCK_RELEASE),
            (c"__exit__", &RLOCK_EXIT),
            (c"locked", &RLOCK_LOCKED),
            (c"_is_owned", &RLOCK_IS_OWNED),
            (c"_recursion_count", &RLOCK_RECURSION_COUNT),
            (c"_release_save", &RLOCK_RELEASE_SAVE),
            (c"_acquire_restore", &RLOCK_ACQUIRE_RESTORE),
        ],
    ),
];

fn acquire(kind: LockKind, lock: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    let blocking = arguments.truth(0, "blocking", true)?;
    let timeout = arguments.seconds(1, "timeout")?.unwrap_or(-1.0);
    if session::running().is_none() {
        return acquire_for_caller(kind, lock, blocking, timeout);
    }
    if !blocking && timeout != -1.0 {
        return Err(error::value_error("can't specify a timeout for a non-blocking call"));
    }
    if timeout < 0.0 && timeout != -1.0 {
        return Err(error::value_error("timeout value must be a non-negative number"));
    }
    let timeout = (timeout >= 0.0).then_some(timeout);
    if let Some(worker) = threads::by_handle(lock) {
        let got = locks::acquire_of_thread(worker, lock, blocking, timeout)?;
        return Ok(Owned::from_bool(got));
    }
    locks::acquire(kind, lock, blocking, timeout).map(Owned::from_bool)
}

/// `lock.acquire(blocking, timeout)` in setup or invariant.
fn acquire_for_caller(
    kind: LockKind,
    lock: Obj<'_>,
    blocking: bool,
    timeout: f64,
) -> Result<Owned> {
    let original = |timeout: f64| {
        let (blocking, timeout) = (Owned::from_bool(blocking), Owned::from_float(timeout)?);
        as_owner_of(kind, lock, || {
            acquire_hook(kind).call(lock, &[blocking.borrow(), timeout.borrow()])
        })
    };
    if !blocking || timeout < 0.0 && timeout != -1.0 {
        return original(timeout);
    }
    let got = wait_in_slices((timeout >= 0.0).then_some(timeout), |slice| {
        Ok(is_true(original(slice)?.borrow())?.then_some(()))
    })?;
    Ok(Owned::from_bool(got.is_some()))
}

fn release(kind: LockKind, lock: Obj<'_>) -> Result<Owned> {
    match session::running() {
        Some(_) if threads::by_handle(lock).is_none() => locks::release(kind, lock)?,
        _ => release_now(kind, lock)?,
    }
    Ok(Owned::none())
}

fn locked(kind: LockKind, lock: Obj<'_>) -> Result<Owned> {
    if session::running().is_some() {
        locks::look(kind, lock)?;
    }
    Ok(Owned::from_bool(is_locked(kind, lock)))
}

fn acquire_restore(hook: &Hook, lock: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    let Some(&state) = arguments.positional().first() else {
        return Err(error::value_error("_acquire_restore takes the saved state"));
    };
    if session::running().is_some() {
        let depth = list_items(state).next().and_then(Obj::as_i64).unwrap_or(1).max(1);
        locks::acquire_restore(lock, depth as u32)?;
    } else {
        as_owner(lock, || hook.call(lock, &[state]))?;
    }
    Ok(Owned::none())
}

fn acquire_hook(kind: LockKind) -> &'static Hook {
    match kind {
        LockKind::Plain => &LOCK_ACQUIRE,
        LockKind::Reentrant => &RLOCK_ACQUIRE,
    }
}

/// Takes the lock now if it is free.
pub fn try_acquire(kind: LockKind, lock: Obj<'_>) -> Result<bool> {
    let no = Owned::from_bool(false);
    as_owner_of(kind, lock, || is_true(acquire_hook(kind).call(lock, &[no.borrow()])?.borrow()))
}

/// Really releases the lock.
pub fn release_now(kind: LockKind, lock: Obj<'_>) -> Result<()> {
    let hook = match kind {
        LockKind::Plain => &LOCK_RELEASE,
        LockKind::Reentrant => &RLOCK_RELEASE,
    };
    as_owner_of(kind, lock, || hook.call(lock, &[]).map(drop))
}

/// Really releases all holds of a re-entrant lock; the state to take it back with.
pub fn release_all(lock: Obj<'_>) -> Result<Owned> {
    as_owner(lock, || RLOCK_RELEASE_SAVE.call(lock, &[]))
}

/// Is the lock held, by whomever?
pub fn is_locked(kind: LockKind, lock: Obj<'_>) -> bool {
    match kind {
        LockKind::Plain => {
            let locked = LOCK_LOCKED.call(lock, &[]);
            matches!(locked, Ok(truth) if is_true(truth.borrow()) == Ok(true))
        }
        LockKind::Reentrant => owner_word(lock) != 0,
    }
}

/// The identity of the thread that holds this re-entrant lock, or 0.
pub fn owner(lock: Obj<'_>) -> usize {
    owner_word(lock)
}

/// Does the code that runs now hold this re-entrant lock?
pub fn is_mine(lock: Obj<'_>) -> bool {
    shown_identity().is_some_and(|identity| owner_word(lock) == identity)
}

/// How often its owner holds a re-entrant lock: the word behind the owner's.
pub fn depth(lock: Obj<'_>) -> usize {
    // SAFETY: a live RLock. Up to 3.13 the count of holds; since 3.14 the number
    // of holds beyond the first (`_PyRecursiveMutex.level`).
    let word = unsafe { owner_slot(lock).add(1).read() };
    if cfg!(Py_3_14) { word + 1 } else { word }
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

fn as_owner_of<T>(kind: LockKind, lock: Obj<'_>, call: impl FnOnce() -> T) -> T {
    match kind {
        LockKind::Plain => call(),
        LockKind::Reentrant => as_owner(lock, call),
    }
}

/// Calls an original of an RLock, which compares its owner with the identity of
/// the OS thread: for the time of the call the one we show is the real one.
fn as_owner<T>(lock: Obj<'_>, call: impl FnOnce() -> T) -> T {
    const SOMEBODY_ELSE: usize = 1;
    // SAFETY: returns the identity of the OS thread, without side effects.
    let real = unsafe { ffi::PyThread_get_thread_ident() } as usize;
    let Some(shown) = shown_identity().filter(|shown| *shown != real) else {
        return call();
    };
    let exchange = |from: usize, to: usize| {
        let found = owner_word(lock) == from;
        if found {
            // SAFETY: the GIL is held, and nobody else uses the lock meanwhile.
            unsafe { owner_slot(lock).write(to) };
        }
        found
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
