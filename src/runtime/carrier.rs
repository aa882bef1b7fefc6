//! The carrier: one OS thread on which whole explorations run, with all their
//! fibers, while the caller's thread waits and stays interruptible.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::execution::Cut;
use super::session::Signals;
use crate::interp::error::{self, Result};
use crate::interp::exit::hang_at_exit;
use crate::interp::gil::{self, Standstill};
use crate::interp::object::Owned;
use crate::interp::thread_state::{StackBounds, ThreadState, disown_workers};
use crate::interp::threads;

/// How often the waiting caller looks for signals (Ctrl-C) and stuck workers.
const TICK: Duration = Duration::from_millis(50);

/// The caller's thread state, lent to the carrier for setup and invariant.
pub struct Lent {
    state: ThreadState,
    /// Where the interpreter thinks that the state's C stack is.
    stack: StackBounds,
    /// Held by whoever may attach the state.
    token: Token,
}

impl Lent {
    /// Attaches the caller's state on the carrier, where another one is attached now.
    pub fn switch_to(&self) {
        if self.token.try_take() {
            self.state.switch_to_lent();
        } else {
            // The caller looks for signals right now, and needs the GIL for that.
            ThreadState::detach();
            self.token.take();
            self.state.attach_lent();
        }
    }

    /// Attaches the caller's state on the carrier, where none is attached.
    pub fn attach(&self) {
        self.token.take();
        self.state.attach_lent();
    }

    /// Allows the caller to attach its state, once another one is attached instead.
    pub fn give_back(&self) {
        self.token.give_back();
    }

    /// The last thing the carrier does: nothing is attached any more.
    fn detach(&self) {
        if let Some(own) = ThreadState::of_os_thread() {
            own.switch_to();
        }
        ThreadState::detach();
        self.give_back();
    }

    /// Attaches the state on the caller's thread again. `moved`: another one has
    /// been attached there meanwhile.
    fn attach_at_home(&self, moved: bool) {
        self.state.set_stack_bounds(self.stack);
        self.state.attach_at_home(moved);
    }

    /// The identity of the caller's thread.
    pub fn identity(&self) -> usize {
        self.state.identity()
    }
}

/// A lock without a guard: who has taken it need not be who gives it back.
#[derive(Default)]
struct Token {
    taken: Mutex<bool>,
    given_back: Condvar,
}

impl Token {
    fn try_take(&self) -> bool {
        !std::mem::replace(&mut *self.taken.lock(), true)
    }

    fn take(&self) {
        let mut taken = self.taken.lock();
        self.given_back.wait_while(&mut taken, |taken| *taken);
        *taken = true;
    }

    fn give_back(&self) {
        *self.taken.lock() = false;
        self.given_back.notify_one();
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The carrier's thread.
struct Carrier {
    /// The process that it lives in: a fork does not have it.
    home: u32,
    sender: Sender<Job>,
    watch: &'static gil::Watch,
}

static CARRIER: Mutex<Option<Carrier>> = Mutex::new(None);

struct Slot<T> {
    result: Mutex<Option<T>>,
    done: Condvar,
}

/// Limits that the waiting caller watches over.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// A worker may take so long between two scheduling points.
    pub stuck_after: Duration,
    /// One execution may take so long.
    pub run: Duration,
    /// The whole may take so long.
    pub total: Option<Duration>,
    /// Is a worker that waits in C for another one left behind at once?
    pub falls_back: bool,
}

/// So long such a wait is watched.
const BLOCKS: Duration = Duration::from_millis(100);

/// Runs `job` on the carrier while the calling thread waits. `None` when the
/// carrier is stuck for good and was abandoned.
///
/// # Errors
/// The exception of a signal handler (KeyboardInterrupt), after the exploration
/// was stopped.
pub fn run<T: Send + 'static>(
    signals: &Arc<Signals>,
    watch: Watch,
    job: impl FnOnce(&Lent) -> T + Send + 'static,
) -> Result<Option<T>> {
    let slot = Arc::new(Slot { result: Mutex::new(None), done: Condvar::new() });
    let filled = slot.clone();
    let state = ThreadState::current();
    let stack = state.stack_bounds();
    let lent = Arc::new(Lent { state, stack, token: Token::default() });
    let used = lent.clone();
    ThreadState::detach();
    let thread = post(Box::new(move || {
        used.attach();
        let result = job(&used);
        used.detach();
        *filled.result.lock() = Some(result);
        filled.done.notify_all();
    }));
    let mut watcher = Watcher::new(&lent, signals, watch, thread);
    let result = watcher.wait(&slot);
    let (raised, own) = (watcher.raised.take(), watcher.own.take());
    lent.attach_at_home(own.is_some());
    if let Some(own) = own {
        own.dispose();
    }
    match raised {
        Some(exception) => {
            error::withdraw_from_thread(lent.identity());
            Err(error::restore(exception))
        }
        None => Ok(result),
    }
}

/// Lets the carrier run `job`; what its thread can be watched by.
fn post(job: Job) -> &'static gil::Watch {
    let mut carrier = CARRIER.lock();
    let home = std::process::id();
    let job = match carrier.as_ref() {
        Some(carrier) if carrier.home == home => match carrier.sender.send(job) {
            Ok(()) => return carrier.watch,
            Err(unsent) => unsent.0,
        },
        _ => job,
    };
    let (sender, receiver) = channel::<Job>();
    let (tell, told) = channel();
    std::thread::Builder::new()
        .name("frontrun-carrier".into())
        .stack_size(16 << 20)
        .spawn(move || {
            hang_at_exit();
            if tell.send(gil::Watch::begin(None, || ())).is_ok() {
                receiver.iter().for_each(|job| job());
            }
        })
        .expect("an OS thread can be started");
    let watch = told.recv().expect("the thread has just started");
    sender.send(job).expect("the thread has just started");
    std::mem::forget(carrier.replace(Carrier { home, sender, watch }));
    watch
}

/// What the caller's thread does while it waits.
struct Watcher<'a> {
    lent: &'a Lent,
    signals: &'a Signals,
    watch: Watch,
    /// The carrier's thread.
    thread: &'static gil::Watch,
    started: Instant,
    /// A thread state to run signal handlers with: the other one is lent.
    own: Option<ThreadState>,
    /// What a signal handler raised.
    raised: Option<Owned>,
}

impl<'a> Watcher<'a> {
    fn new(
        lent: &'a Lent,
        signals: &'a Signals,
        watch: Watch,
        thread: &'static gil::Watch,
    ) -> Self {
        Watcher { lent, signals, watch, thread, started: Instant::now(), own: None, raised: None }
    }

    /// Waits for the result; `None` when the carrier had to be left behind.
    fn wait<T>(&mut self, slot: &Slot<T>) -> Option<T> {
        let (mut progress, mut since) = (0, Instant::now());
        let (mut execution, mut begun) = (0, Instant::now());
        let mut raised_at = None::<Instant>;
        let mut standstill = Standstill::default();
        loop {
            let mut result = slot.result.lock();
            if result.is_none() {
                slot.done.wait_for(&mut result, TICK);
            }
            if result.is_some() {
                return result.take();
            }
            drop(result);
            let interrupted = self.run_handlers();
            if self.watch.total.is_some_and(|limit| self.started.elapsed() > limit) {
                self.signals.interrupt(Cut::Interrupted);
            }
            let (now, in_worker) = (Instant::now(), self.signals.in_worker.load(Relaxed) != 0);
            if !in_worker || self.signals.execution.load(Relaxed) != execution {
                (execution, begun) = (self.signals.execution.load(Relaxed), now);
            } else if now - begun > self.watch.run {
                self.signals.interrupt(Cut::RunTime);
            }
            if !in_worker || self.signals.progress.load(Relaxed) != progress {
                (progress, since) = (self.signals.progress.load(Relaxed), now);
                raised_at = None;
            }
            let blocks = standstill.lasts(self.thread) >= BLOCKS && in_worker;
            if self.watch.falls_back
                && blocks
                && self.signals.others.load(Relaxed) > 0
                && self.abandon()
            {
                self.signals.needs_threads.store(true, Relaxed);
                return None;
            }
            if in_worker
                && raised_at.is_none()
                && (interrupted || now - since > self.watch.stuck_after)
            {
                if !interrupted {
                    self.signals.interrupt(Cut::Stuck);
                }
                self.raise_in_worker();
                raised_at = Some(now);
            }
            let patience = Duration::from_secs(1);
            if raised_at.is_some_and(|at| at.elapsed() > patience) && self.abandon() {
                return None;
            }
        }
    }

    /// Runs Python on this thread, with a thread state of its own.
    fn with_python<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let own = *self.own.get_or_insert_with(|| self.lent.state.sibling());
        own.attach_beside();
        let result = work();
        ThreadState::detach();
        self.lent.state.be_found_here();
        result
    }

    /// Runs the handlers of signals that came in meanwhile, on the thread that
    /// Python expects them on. Did one raise?
    fn run_handlers(&mut self) -> bool {
        if self.raised.is_some() {
            return false;
        }
        self.raised = self.with_python(|| match error::check_signals() {
            Ok(()) => None,
            Err(error::Raised) => error::take(),
        });
        if self.raised.is_some() {
            if self.signals.in_worker.load(Relaxed) == 0 {
                let identity = self.lent.identity();
                self.with_python(|| error::raise_in_thread(identity));
            }
            self.signals.interrupt(Cut::Interrupted);
        }
        self.raised.is_some()
    }

    /// Raises in the worker that runs, at its next bytecode.
    fn raise_in_worker(&mut self) {
        let identity = self.signals.identity.load(Relaxed);
        let place = self.with_python(|| {
            let place = threads::place_of(identity);
            error::raise_in_thread(identity);
            place
        });
        *self.signals.stuck_at.lock() = place;
    }

    /// The worker does not even reach the next bytecode: leaves it behind with its
    /// carrier, which can never attach the caller's state again. False if the
    /// carrier has attached it just now.
    fn abandon(&mut self) -> bool {
        if !self.lent.token.try_take() {
            return false;
        }
        *CARRIER.lock() = None;
        let identity = self.signals.identity.load(Relaxed);
        let place = self.with_python(|| {
            let place = threads::place_of(identity);
            error::withdraw_from_thread(identity);
            disown_workers();
            place
        });
        *self.signals.stuck_at.lock() = place;
        true
    }
}
