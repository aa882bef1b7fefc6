//! OS threads for workers: each has a C stack and a thread state of its own, as a
//! fiber has. Exactly one of them, or the conductor that resumes them, has the
//! turn and runs; the others are parked without the GIL.
//!
//! A worker that blocks in C, where only somebody else can end the wait, loses its
//! turn: it is away, and waits for its next turn before it takes the GIL again.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use super::exit::hang_at_exit;
use super::fiber::{Body, STACK_SIZE};
use super::gil::{Standstill, Watch};
use super::thread_state::ThreadState;
use crate::runtime::session::{self, Session};

/// The conductor has the turn, and the worker is suspended.
const CONDUCTORS: u8 = 0;
/// The worker has got the turn, and is about to take it up or to pass it on.
const PASSING: u8 = 1;
/// The worker has the turn.
const WORKERS: u8 = 2;
/// The conductor has taken the turn from the worker, which blocks in C.
const AWAY: u8 = 3;
/// That call has ended, and the worker waits for its turn.
const BACK: u8 = 4;
/// It shall never have the turn again.
const EXILED: u8 = 5;

/// A worker that stands still for so long without the GIL blocks.
const BLOCKS: Duration = Duration::from_millis(50);
/// How often that is looked at.
const TICK: Duration = Duration::from_millis(10);

/// What a worker's thread and its conductor share.
struct Shared {
    turn: AtomicU8,
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
    thread: JoinHandle<()>,
    state: ThreadState,
    watch: &'static Watch,
}

/// Why a resumption ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The worker has suspended itself, or finished its task.
    Suspended,
    /// It blocks in C.
    Away,
}

thread_local! {
    /// On the thread of a worker: what it shares with its conductor.
    static SHARED: Cell<Option<&'static Handed<Shared>>> = const { Cell::new(None) };
    static POOL: RefCell<Vec<OsThread>> = const { RefCell::new(Vec::new()) };
}

impl Shared {
    /// The worker waits for its turn with nothing attached, and takes it up. False: it
    /// shall end.
    fn take_up(&self, state: ThreadState) -> bool {
        let turn = loop {
            match self.turn.load(SeqCst) {
                turn @ (PASSING | EXILED) => break turn,
                _ => thread::park(),
            }
        };
        state.attach();
        // Who is exiled keeps no turn.
        turn == PASSING && {
            self.turn.store(WORKERS, SeqCst);
            true
        }
    }

    /// The worker gives its turn up.
    fn give_up(&self) -> ThreadState {
        self.turn.store(PASSING, SeqCst);
        let state = ThreadState::detach();
        self.pass_on(CONDUCTORS, &self.conductor);
        state
    }

    fn pass_on(&self, turn: u8, to: &Thread) {
        self.turn.store(turn, SeqCst);
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
            turn: AtomicU8::new(CONDUCTORS),
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
            let Some(state) = ThreadState::new() else { return };
            let watch = Watch::begin(Some(state), come_back);
            if sender.send((state, watch)).is_ok() {
                live(shared, session, state);
            }
        })?;
        // Making the state may have to stop every thread that has one attached.
        let own = ThreadState::detach();
        let made = receiver.recv();
        own.attach();
        let (state, watch) = made.map_err(std::io::Error::other)?;
        Ok(OsThread { shared, thread: handle, state, watch })
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
        self.shared.0.turn.load(SeqCst) == CONDUCTORS && self.shared.0.idle.get()
    }

    /// Lets it run until it suspends itself or finishes its task, while the conductor
    /// waits with nothing attached. Until it blocks, if it `may_leave`.
    pub fn resume(&mut self, may_leave: bool) -> Stop {
        let own = ThreadState::detach();
        self.shared.0.pass_on(PASSING, self.thread.thread());
        let stop = self.wait(may_leave);
        own.attach();
        stop
    }

    fn wait(&self, may_leave: bool) -> Stop {
        let mut standstill = Standstill::default();
        while self.shared.0.turn.load(SeqCst) != CONDUCTORS {
            if !may_leave {
                thread::park();
                continue;
            }
            thread::park_timeout(TICK);
            if standstill.lasts(self.watch) >= BLOCKS && self.take_turn_away() {
                return Stop::Away;
            }
        }
        Stop::Suspended
    }

    /// False: the worker has moved again.
    fn take_turn_away(&self) -> bool {
        let turn = &self.shared.0.turn;
        if turn.compare_exchange(WORKERS, AWAY, SeqCst, SeqCst).is_err() {
            return false;
        }
        // Either it sees that it is away when it returns, or that it has returned is
        // seen here.
        let away = self.watch.is_outside();
        if !away {
            self.shared.0.pass_on(WORKERS, self.thread.thread());
        }
        away
    }

    /// Has the call ended in which it was away?
    pub fn is_back(&self) -> bool {
        self.shared.0.turn.load(SeqCst) == BACK
    }

    /// It is away for good. If it ever comes back, it runs as a thread that is no
    /// worker's, and ends.
    pub fn exile(self) {
        // An identity is looked up among all states: a worker has it now.
        self.state.set_identity(self.state.address());
        self.shared.0.pass_on(EXILED, self.thread.thread());
    }

    /// Lets idle threads of the calling thread's free what is theirs to free: finalisers
    /// shall run now, not in the midst of what these threads run next.
    pub fn free_idle() {
        #[cfg(Py_GIL_DISABLED)]
        POOL.with_borrow_mut(|pool| {
            // What one frees may be the last that held another's.
            for _ in 0..2 {
                for thread in pool.iter_mut().filter(|thread| thread.state.has_to_free()) {
                    thread.assign(Box::new(run_some_python));
                    thread.resume(false);
                }
            }
        });
    }

    /// Ends all idle threads of the calling thread's but so many.
    pub fn end_idle(but: usize) {
        let ended = POOL.with_borrow_mut(|pool| pool.split_off(but.min(pool.len())));
        if !ended.is_empty() {
            let own = ThreadState::detach();
            for OsThread { shared, thread, .. } in ended {
                shared.0.pass_on(EXILED, thread.thread());
                let _ = thread.join();
            }
            own.attach();
        }
    }

    /// Puts an idle thread back into the pool; one that is not stays parked for good,
    /// because frames still live there.
    pub fn retire(self) {
        if self.is_idle() {
            POOL.with_borrow_mut(|pool| pool.push(self));
        }
    }
}

/// A thread looks for what it has to do where a function of Python's begins.
#[cfg(Py_GIL_DISABLED)]
fn run_some_python() {
    use super::code::{attribute, import};
    let function = import(c"threading").and_then(|m| attribute(m.borrow(), c"main_thread"));
    if function.and_then(|function| super::call::call(function.borrow(), &[])).is_err() {
        drop(super::error::take());
    }
}

/// The whole life of a worker's thread.
fn live(shared: &'static Handed<Shared>, session: Handed<&'static Session>, state: ThreadState) {
    hang_at_exit();
    session::take_part(Some({ session }.0));
    SHARED.set(Some(shared));
    let shared = &shared.0;
    while shared.take_up(state) {
        let task = shared.task.take();
        if let Some(task) = task {
            task();
        }
        if SHARED.get().is_none() {
            break;
        }
        shared.idle.set(true);
        shared.give_up();
    }
    state.end();
}

/// Is the calling thread a worker's?
pub fn is_workers() -> bool {
    SHARED.get().is_some()
}

/// Suspends the worker whose thread calls it; returns when it is resumed. False:
/// it is no worker's thread.
pub fn suspend() -> bool {
    let Some(shared) = SHARED.get() else { return false };
    let state = shared.0.give_up();
    shared.0.take_up(state);
    true
}

/// The calling thread is about to run Python again: not before its turn, if it was
/// taken away meanwhile.
fn come_back() {
    let Some(shared) = SHARED.get() else { return };
    let turn = &shared.0.turn;
    if turn.compare_exchange(AWAY, BACK, SeqCst, SeqCst).is_err() && turn.load(SeqCst) != EXILED {
        return;
    }
    shared.0.conductor.unpark();
    while turn.load(SeqCst) == BACK {
        thread::park();
    }
    // The conductor has passed the turn on; or it has seen the return in time.
    let _ = turn.compare_exchange(PASSING, WORKERS, SeqCst, SeqCst);
    if turn.load(SeqCst) == EXILED {
        session::take_part(None);
        SHARED.set(None);
    }
}

/// Makes sure that the calling thread has its turn, if it is a worker's. With a GIL
/// it cannot run Python without.
#[inline]
pub fn await_turn() {
    #[cfg(Py_GIL_DISABLED)]
    if let Some(shared) = SHARED.get()
        && !matches!(shared.0.turn.load(SeqCst), WORKERS | PASSING)
    {
        let state = ThreadState::detach();
        come_back();
        state.attach();
    }
}
