//! When an OS thread runs without the GIL: what a call that blocks can be told by.
//! A thread that takes or drops the GIL locks the GIL's mutex, and this call of the
//! interpreter's is [redirected](super::relocations). A free-threaded interpreter
//! notes in the thread state whether it is attached.
//!
//! CPython source: `Python/ceval_gil.c`.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::thread_state::ThreadState;

/// An OS thread that is watched.
#[cfg_attr(Py_GIL_DISABLED, allow(dead_code))]
pub struct Watch {
    /// Does it run without the GIL?
    outside: AtomicBool,
    /// How often it has left it.
    times: AtomicU32,
    /// Counts the time that a core has spent on it.
    clock: libc::clockid_t,
    /// What the kernel calls it.
    thread: libc::pid_t,
    /// Called before it takes the GIL.
    before_return: fn(),
    /// The one state that it attaches, where there is only one.
    #[cfg_attr(not(Py_GIL_DISABLED), allow(dead_code))]
    state: Option<ThreadState>,
}

/// A thread stands still that has not run for so long.
const HARDLY: Duration = Duration::from_millis(1);

impl Watch {
    /// Watches the calling OS thread for the rest of its life. It has no thread state
    /// attached now; `before_return` is called whenever it is about to take the GIL.
    pub fn begin(state: Option<ThreadState>, before_return: fn()) -> &'static Watch {
        let mut clock = 0;
        // SAFETY: the clock of the calling thread; it ends with the thread.
        unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
        let watch = Watch {
            outside: AtomicBool::new(true),
            times: AtomicU32::new(0),
            clock,
            // SAFETY: a plain call.
            thread: unsafe { libc::gettid() },
            before_return,
            state,
        };
        let watch: &'static Watch = Box::leak(Box::new(watch));
        #[cfg(not(Py_GIL_DISABLED))]
        hooked::watch(watch);
        watch
    }

    /// Does it run without the GIL now?
    pub fn is_outside(&self) -> bool {
        #[cfg(Py_GIL_DISABLED)]
        return self.state.is_some_and(ThreadState::is_detached);
        #[cfg(not(Py_GIL_DISABLED))]
        self.outside.load(SeqCst)
    }

    /// Does it wait for something that may take for ever? Not if it waits for a disk, or for
    /// a core.
    fn is_asleep(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", self.thread));
        let stat = stat.unwrap_or_default();
        // After the name, which may have parentheses in it.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
    }

    fn cpu_time(&self) -> Duration {
        // SAFETY: a plain call; the clock of a thread that has ended gives an error.
        let now = unsafe {
            let mut now = std::mem::zeroed::<libc::timespec>();
            libc::clock_gettime(self.clock, &mut now);
            now
        };
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }
}

/// For how long a thread has slept without the GIL.
#[derive(Default)]
pub struct Standstill(Option<(Instant, u32, Duration)>);

impl Standstill {
    /// Looks once more; zero where the thread has moved since it was looked at last.
    pub fn lasts(&mut self, watch: &Watch) -> Duration {
        let (times, cpu) = (watch.times.load(SeqCst), watch.cpu_time());
        if let Some((since, before, spent)) = self.0
            && watch.is_outside()
            && before == times
            && cpu < spent + HARDLY
            && watch.is_asleep()
        {
            return since.elapsed();
        }
        self.0 = watch.is_outside().then(|| (Instant::now(), times, cpu));
        Duration::ZERO
    }
}

#[cfg(not(Py_GIL_DISABLED))]
mod hooked {
    use std::cell::Cell;
    use std::ffi::c_int;
    use std::sync::Once;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

    use super::Watch;
    use crate::interp::layout;
    use crate::interp::relocations::{Objects, redirect};

    thread_local! {
        static WATCH: Cell<Option<&'static Watch>> = const { Cell::new(None) };
    }

    /// Address of the GIL's mutex.
    static MUTEX: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn watch(watch: &'static Watch) {
        static PATCH: Once = Once::new();
        PATCH.call_once(|| {
            MUTEX.store(mutex(), Relaxed);
            let interpreter = pyo3_ffi::PyEval_SaveThread as *const () as usize;
            let target = lock as *const ();
            redirect(Objects::Containing(interpreter), &[(c"pthread_mutex_lock", target)]);
        });
        WATCH.set(Some(watch));
    }

    #[cfg(Py_3_12)]
    fn mutex() -> usize {
        // SAFETY: the main interpreter lives as long as the process, and its GIL, too.
        unsafe {
            let interpreter = pyo3_ffi::PyInterpreterState_Main();
            let gil = (*interpreter.cast::<layout::PyInterpreterState>()).ceval.gil;
            &raw const (*gil).mutex as usize
        }
    }

    #[cfg(not(Py_3_12))]
    fn mutex() -> usize {
        unsafe extern "C" {
            static mut _PyRuntime: layout::_PyRuntimeState;
        }
        // SAFETY: only the address is taken.
        unsafe { &raw const _PyRuntime.ceval.gil.mutex as usize }
    }

    unsafe extern "C" fn lock(mutex: *mut libc::pthread_mutex_t) -> c_int {
        if let Some(watch) = WATCH.get()
            && mutex as usize == MUTEX.load(Relaxed)
        {
            // Taking and dropping take turns, each locks the mutex once.
            if watch.outside.load(Relaxed) {
                watch.outside.store(false, SeqCst);
                (watch.before_return)();
            } else {
                watch.times.fetch_add(1, SeqCst);
                watch.outside.store(true, SeqCst);
            }
        }
        // SAFETY: passed on from the interpreter.
        unsafe { libc::pthread_mutex_lock(mutex) }
    }
}
