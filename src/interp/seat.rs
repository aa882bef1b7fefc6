//! What a worker's code runs on, a fiber or an OS thread: a C stack and a thread
//! state that belong together. Workers cannot tell which it is.

use super::fiber::{self, Body, Fiber};
pub use super::os_thread::Stop;
use super::os_thread::{self, OsThread};
use super::thread_state::ThreadState;

/// The two kinds of carriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// All workers are fibers of one OS thread.
    Fibers,
    /// Every worker has an OS thread.
    Threads,
}

/// A place to run a worker on. It runs one task after the other, and is never freed
/// while one is unfinished.
pub enum Seat {
    /// On the OS thread of the carrier itself.
    Fiber(Fiber),
    /// On an OS thread of its own.
    Thread(OsThread),
}

impl Seat {
    /// A seat from the pool of this carrier, or a new one.
    pub fn take(carrier: Carrier) -> std::io::Result<Seat> {
        Ok(match carrier {
            Carrier::Fibers => Seat::Fiber(Fiber::take()?),
            Carrier::Threads => Seat::Thread(OsThread::take()?),
        })
    }

    /// Gives an idle seat something to run at its next resumption.
    pub fn assign(&mut self, task: Body) {
        match self {
            Seat::Fiber(fiber) => fiber.assign(task),
            Seat::Thread(thread) => thread.assign(task),
        }
    }

    /// Its thread state.
    pub fn state(&self) -> ThreadState {
        match self {
            Seat::Fiber(fiber) => fiber.state(),
            Seat::Thread(thread) => thread.state(),
        }
    }

    /// Has it finished its task?
    pub fn is_idle(&self) -> bool {
        match self {
            Seat::Fiber(fiber) => fiber.is_idle(),
            Seat::Thread(thread) => thread.is_idle(),
        }
    }

    /// Attaches a state other than the one that is attached now, which belongs to
    /// somebody else: the one that the next worker needs, or the carrier's own.
    pub fn attach(&self) {
        match self {
            Seat::Fiber(fiber) => fiber.state().switch_to(),
            Seat::Thread(_) => {
                if let Some(own) = ThreadState::of_os_thread().filter(|own| !own.is_attached()) {
                    own.switch_to();
                }
            }
        }
    }

    /// Lets the worker run until it suspends itself or finishes its task; on an OS
    /// thread and if it `may_leave`, until it blocks in C.
    pub fn resume(&mut self, may_leave: impl FnOnce() -> bool) -> Stop {
        match self {
            Seat::Fiber(fiber) => {
                fiber.resume();
                Stop::Suspended
            }
            Seat::Thread(thread) => thread.resume(may_leave()),
        }
    }

    /// Has the call ended for which a worker was [away](Stop::Away)?
    pub fn is_back(&self) -> bool {
        matches!(self, Seat::Thread(thread) if thread.is_back())
    }

    /// Leaves a worker behind that is away.
    pub fn exile(self) {
        match self {
            Seat::Fiber(fiber) => fiber.retire(),
            Seat::Thread(thread) => thread.exile(),
        }
    }

    /// Makes an idle seat available again; one that is not is leaked with all that
    /// lives there.
    pub fn retire(self) {
        if self.is_idle() {
            // An identity is looked up among all states: this one has none now.
            self.state().set_identity(self.state().address());
            // Nobody may use it for long.
            self.state().withdraw_exceptions();
        }
        match self {
            Seat::Fiber(fiber) => fiber.retire(),
            Seat::Thread(thread) => thread.retire(),
        }
    }
}

/// An execution is over, and what it has used has been dropped.
pub fn free_idle() {
    OsThread::free_idle();
}

/// So many seats are kept for the next exploration: more than most need.
const MOST_IDLE: usize = 16;

/// An exploration is over: ends seats of this carrier's that are hardly needed again.
pub fn end_idle() {
    Fiber::end_idle(MOST_IDLE);
    OsThread::end_idle(MOST_IDLE);
}

/// Lets some time pass, or less if a worker comes back.
pub fn wait_for_return() {
    let own = ThreadState::detach();
    std::thread::park_timeout(std::time::Duration::from_millis(10));
    own.attach();
}

/// Does the worker that calls it have an OS thread of its own?
pub fn has_os_thread() -> bool {
    os_thread::is_workers()
}

/// Suspends the worker that calls it; returns when it is resumed.
pub fn suspend() {
    if !os_thread::suspend() {
        fiber::suspend();
    }
}
