//! Threads at the end of the interpreter.
//!
//! Up to 3.13 a thread that asks for the GIL while the interpreter ends is
//! ended by `pthread_exit`, which unwinds its stack. Nothing can be unwound on
//! a carrier: there are frames of C and Rust on stacks of our own. So the call
//! is [redirected](super::relocations) in the object that holds the interpreter, and
//! puts a carrier to sleep instead, as 3.14+ does.

//!
//! Nor may a carrier be put to sleep just anywhere: without a GIL it may stop the world,
//! and hold the mutex for that, which the thread that ends the interpreter then waits for.
//! (`stop_the_world` in `Python/pystate.c` waits while it holds `stw->mutex`.) So what
//! daemon threads explore is ended before.

use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(not(Py_3_14))]
pub use patched::hang_at_exit;

/// The identity of the thread that ends the interpreter; 0 as long as none does.
static ENDED_BY: AtomicUsize = AtomicUsize::new(0);

/// The thread of this identity is about to end the interpreter.
pub fn announce(identity: usize) {
    ENDED_BY.store(identity, Ordering::SeqCst);
}

/// Is another thread than that of this identity about to end the interpreter?
pub fn is_announced_to(identity: usize) -> bool {
    let ended_by = ENDED_BY.load(Ordering::SeqCst);
    ended_by != 0 && ended_by != identity
}

/// 3.14+ puts such threads to sleep itself.
#[cfg(Py_3_14)]
pub fn hang_at_exit() {}

#[cfg(not(Py_3_14))]
mod patched {
    use std::cell::Cell;
    use std::ffi::c_void;
    use std::sync::Once;

    use crate::interp::relocations::{Objects, redirect};

    thread_local! {
        static IS_CARRIER: Cell<bool> = const { Cell::new(false) };
    }

    /// The calling OS thread sleeps for ever where the interpreter would end it.
    pub fn hang_at_exit() {
        IS_CARRIER.set(true);
        static PATCH: Once = Once::new();
        PATCH.call_once(|| {
            let interpreter = pyo3_ffi::PyEval_SaveThread as *const () as usize;
            let target = exit_thread as *const ();
            redirect(Objects::Containing(interpreter), &[(c"pthread_exit", target)]);
        });
    }

    unsafe extern "C" fn exit_thread(value: *mut c_void) -> ! {
        if IS_CARRIER.get() {
            loop {
                // SAFETY: waits for a signal, whose handler may run here.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: passed on from the caller.
        unsafe { libc::pthread_exit(value) }
    }
}
