//! OS threads for workers: each has a C stack and a thread state of its own, as a
//! fiber has. Exactly one of them, or the conductor that resumes them, has the
//! turn and runs; the others are parked without the GIL.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, Thread};

use super::exit::hang_at_exit;
use super::fiber::{Body, STACK_SIZE};
use super::thread_state::ThreadState;
use crate::runtime::session::{self, Session};

/// What a worker's thread and its conductor share.
struct Shared {
    /// Has the worker the turn, or the conductor?
    workers_turn: AtomicBool,
    /// The thread that resumes.
    conductor: Thread,
    /// What is to be run next.
    task: RefCell<Option<Body>>,
    /// Has the last task been finished?
    idle: Cell<bool>,
}

/// Whose turn it is may use what is inside, on whichever OS thread.
struct Handed<T>(T);

// SAFETY: made in this file only, for what one of the OS threads of an exploration
// uses while it has the turn. Passing the turn on releases, taking it acquires.
unsafe impl<T> Send for Handed<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handed<T> {}

/// The thread that runs workers' tasks, one after the other.
pub struct OsThread {
    shared: &'static Handed<Shared>,
    thread: Thread,
    state: ThreadState,
}

thread_local! {
    /// On the thread of a worker: what it shares with its conductor.
    static SHARED: Cell<Option<&'static Handed<Shared>>> = const { Cell::new(None) };
    static POOL: RefCell<Vec<OsThread>> = const { RefCell::new(Vec::new()) };
}

impl Shared {
    fn wait_until(&self, workers_turn: bool) {
        while self.workers_turn.load(Ordering::Acquire) != workers_turn {
            thread::park();
        }
    }

    fn pass_on(&self, workers_turn: bool, to: &Thread) {
        self.workers_turn.store(workers_turn, Ordering::Release);
        to.unpark();
    }
}

impl OsThread {
    /// A thread from the pool of the calling thread, its conductor, or a new one.
    pub fn take() -> std::io::Result<OsThread> {
        if let Some(thread) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(thread);
        }
        // Never freed: the thread lives as long as the process.
        let shared: &'static Handed<Shared> = Box::leak(Box::new(Handed(Shared {
            workers_turn: AtomicBool::new(false),
            conductor: thread::current(),
            task: RefCell::new(None),
            idle: Cell::new(true),
        })));
        let session = Handed(session::current());
        let (sender, receiver) = mpsc::channel();
        let handle = thread::Builder::new()
            .name("frontrun-worker".into())
            .stack_size(STACK_SIZE)
            .spawn(move || {
            let state = ThreadState::new_unattached();
            let made = sender.send(state).is_ok();
            if let (true, Some(state)) = (made, state) {
                live(shared, session, state);
            }
        })?;
        // Making the state may have to stop every thread that has one attached.
        let own = ThreadState::detach();
        let state = receiver.recv().ok().flatten();
        own.attach();
        let state = state.ok_or_else(std::io::Error::last_os_error)?;
        Ok(OsThread { shared, thread: handle.thread().clone(), state })
    }

    /// Gives an idle thread something to run at its next resumption.
    pub fn assign(&mut self, task: Body) {
        let shared = &self.shared.0;
        debug_assert!(shared.idle.get());
        *shared.task.borrow_mut() = Some(task);
        shared.idle.set(false);
    }

    /// Its thread state.
    pub fn state(&self) -> ThreadState {
        self.state
    }

    /// Has it finished its task?
    pub fn is_idle(&self) -> bool {
        self.shared.0.idle.get()
    }

    /// Lets it run until it suspends itself or finishes its task, while the conductor
    /// waits with nothing attached.
    pub fn resume(&mut self) {
        let own = ThreadState::detach();
        self.shared.0.pass_on(true, &self.thread);
        self.shared.0.wait_until(false);
        own.attach();
    }

    /// Puts an idle thread back into the pool; one that is not stays parked for good,
    /// because frames still live there.
    pub fn retire(self) {
        if self.is_idle() {
            POOL.with_borrow_mut(|pool| pool.push(self));
        }
    }
}

/// The whole life of a worker's thread.
fn live(shared: &'static Handed<Shared>, session: Handed<&'static Session>, state: ThreadState) {
    hang_at_exit();
    session::take_part({ session }.0);
    SHARED.set(Some(shared));
    let shared = &shared.0;
    loop {
        shared.wait_until(true);
        state.attach();
        let task = shared.task.take();
        if let Some(task) = task {
            task();
        }
        ThreadState::detach();
        shared.idle.set(true);
        shared.pass_on(false, &shared.conductor);
    }
}

/// Suspends the worker whose thread calls it; returns when it is resumed. False:
/// it is no worker's thread.
pub fn suspend() -> bool {
    let Some(shared) = SHARED.get() else { return false };
    let shared = &shared.0;
    let own = ThreadState::detach();
    shared.pass_on(false, &shared.conductor);
    shared.wait_until(true);
    own.attach();
    true
}
