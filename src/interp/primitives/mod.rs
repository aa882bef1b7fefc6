//! The intercepted primitives: what everything else in the standard library
//! waits with. What they mean for the scheduler is said in `runtime`; here they
//! are found, redirected and called.

pub mod buffers;
pub mod c_functions;
pub mod databases;
mod greenlets;
pub mod locks;
pub mod processes;
pub mod queues;
pub mod threads;
pub mod time;

use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::code::{attribute, import};
use super::error::{self, Result};
use super::object::Obj;
use super::redirect::Hook;
use super::thread_state::ThreadState;
use crate::runtime::session;
use crate::runtime::time as virtual_time;

/// Module, class (or nothing), and its redirected functions.
pub(super) type Row = (&'static CStr, &'static CStr, &'static [(&'static CStr, &'static Hook)]);

fn own_table() -> impl Iterator<Item = &'static Row> {
    locks::TABLE
        .iter()
        .chain(threads::TABLE)
        .chain(queues::TABLE)
        .chain(time::TABLE)
        .chain(processes::TABLE)
        .chain(buffers::TABLE)
        .chain(databases::TABLE)
        .chain([&greenlets::IMPORT])
}

fn table() -> impl Iterator<Item = &'static Row> {
    own_table().chain(greenlets::TABLE)
}

thread_local! {
    static STANDS_FOR: Cell<usize> = const { Cell::new(0) };
}

/// How many explorations run in this process, those that were left behind included.
static EXPLORATIONS: AtomicUsize = AtomicUsize::new(0);

/// Is a call on this OS thread to be handled by us?
#[inline]
pub fn intercepts() -> bool {
    // All that locks cost where nothing is explored.
    EXPLORATIONS.load(Ordering::Relaxed) != 0 && takes_part()
}

#[cold]
#[inline(never)]
fn takes_part() -> bool {
    session::running().is_some() || STANDS_FOR.get() != 0
}

/// While the carrier runs setup or invariant it stands for the caller's thread:
/// whose identity is this? 0 ends the exploration.
pub fn stand_for(identity: usize) {
    match identity {
        0 => EXPLORATIONS.fetch_sub(1, Ordering::Relaxed),
        _ => EXPLORATIONS.fetch_add(1, Ordering::Relaxed),
    };
    STANDS_FOR.set(identity);
}

/// Runs setup or invariant where they belong, and the carrier stands for nobody.
#[cfg(Py_GIL_DISABLED)]
pub fn standing_for<T>(identity: usize, work: impl FnOnce() -> T) -> T {
    let before = STANDS_FOR.replace(identity);
    let result = work();
    STANDS_FOR.set(before);
    result
}

/// Setup and invariant wait on the carrier, which no signal reaches: they wait in
/// slices of so many seconds, and look whether the exploration has been ended. Without a
/// GIL they wait on the caller's thread, where a signal that comes between two slices
/// interrupts neither: its handler is looked for.
const SLICE: f64 = 0.05;

/// Waits, at most so many seconds (for ever, if `None`), for what `wait` gives; it is
/// told how long to wait.
fn wait_in_slices<T>(
    seconds: Option<f64>,
    mut wait: impl FnMut(f64) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let began = std::time::Instant::now();
    let mut noted = began;
    loop {
        let left = seconds.map_or(f64::MAX, |seconds| seconds - began.elapsed().as_secs_f64());
        let given = wait(left.clamp(0.0, SLICE))?;
        let now = std::time::Instant::now();
        virtual_time::note_wait(now - std::mem::replace(&mut noted, now));
        if given.is_some() || left <= SLICE {
            return Ok(given);
        }
        error::check_signals()?;
        if session::is_interrupted() {
            // Clean-up is not to be disturbed by the same exception once more.
            error::withdraw_from_thread(ThreadState::current().identity());
            return Err(error::abandoned());
        }
    }
}

/// The identity that code on this OS thread shall see, where it is not the real one.
pub fn shown_identity() -> Option<usize> {
    if session::running().is_some() {
        return Some(ThreadState::current().identity());
    }
    match STANDS_FOR.get() {
        0 => None,
        identity => Some(identity),
    }
}

/// Have those of the interpreter been found?
static FOUND: AtomicBool = AtomicBool::new(false);

/// Finds the primitives that this version has. Idempotent.
pub fn find() -> Result<()> {
    if !FOUND.load(Ordering::Relaxed) {
        for (module, class, functions) in own_table() {
            if let Some(module) = error::if_any(import(module))? {
                find_in(module.borrow(), class, functions)?;
            }
        }
        FOUND.store(true, Ordering::Relaxed);
    }
    greenlets::find()
}

/// Finds functions of a module, or of a class in it.
fn find_in(module: Obj<'_>, class: &CStr, functions: &[(&CStr, &Hook)]) -> Result<()> {
    let owner = match class.is_empty() {
        true => Some(module.own()),
        false => error::if_any(attribute(module, class))?,
    };
    let Some(owner) = owner else { return Ok(()) };
    functions.iter().try_for_each(|(name, hook)| hook.find(owner.borrow(), name).map(drop))
}

/// Redirects the primitives. Idempotent.
pub fn intercept() -> Result<()> {
    find()?;
    hooks().for_each(Hook::redirect);
    Ok(())
}

/// Undoes [`intercept`].
pub fn restore() {
    hooks().for_each(Hook::restore);
}

fn hooks() -> impl Iterator<Item = &'static Hook> {
    table().flat_map(|(_, _, functions)| functions.iter().map(|(_, hook)| *hook))
}

/// What is intercepted on this version: dotted names.
pub fn names() -> Vec<String> {
    let name = |text: &CStr| text.to_string_lossy().into_owned();
    table()
        .flat_map(|(module, class, functions)| {
            functions.iter().filter(|(_, hook)| hook.original.get().is_some()).map(
                move |(function, _)| {
                    let parts = [name(module), name(class), name(function)];
                    parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(".")
                },
            )
        })
        .collect()
}
