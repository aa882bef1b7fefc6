//! The carrier: one OS thread on which all fibers live and whole explorations
//! run, while the caller's thread waits and stays interruptible.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RawMutex, lock_api::RawMutex as _};

use super::execution::Cut;
use super::session::Signals;
use crate::interp::error::{self, Result};
use crate::interp::exit::hang_at_exit;
use crate::interp::object::Owned;
use crate::interp::thread_state::ThreadState;
use crate::interp::threads;

/// How often the waiting caller looks for signals (Ctrl-C) and stuck workers.
const TICK: Duration = Duration::from_millis(50);

/// The caller's thread state, lent to the carrier for setup and invariant.
pub struct Lent {
    state: ThreadState,
    /// Held by whoever may attach the state.
    token: RawMutex,
}

impl Lent {
    /// Attaches the caller's state on the carrier, where a fiber's is attached now.
    pub fn switch_to(&self) {
        if self.token.try_lock() {
            self.state.switch_to_lent();
        } else {
            // The caller looks for signals right now, and needs the GIL for that.
            ThreadState::detach();
            self.token.lock();
            self.state.attach_lent();
        }
    }

    /// Attaches the caller's state on the carrier, where none is attached.
    pub fn attach(&self) {
        self.token.lock();
        self.state.attach_lent();
    }

    /// Allows the caller to attach its state, once a fiber's is attached instead.
    pub fn give_back(&self) {
        // SAFETY: the carrier locked it in `switch_to` or `attach`.
        unsafe { self.token.unlock() };
    }

    /// The last thing the carrier does: nothing is attached any more.
    fn detach(&self) {
        if let Some(own) = ThreadState::of_os_thread() {
            own.switch_to();
        }
        ThreadState::detach();
        self.give_back();
    }

    /// The identity of the caller's thread.
    pub fn identity(&self) -> usize {
        self.state.identity()
    }
}

type Job = Box<dyn FnOnce() + Send>;

static CARRIER: Mutex<Option<Sender<Job>>> = Mutex::new(None);

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
}

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
    let lent = Arc::new(Lent { state: ThreadState::current(), token: RawMutex::INIT });
    let used = lent.clone();
    ThreadState::detach();
    post(Box::new(move || {
        used.attach();
        let result = job(&used);
        used.detach();
        *filled.result.lock() = Some(result);
        filled.done.notify_all();
    }));
    let mut raised = None;
    let result = wait(&slot, &lent, signals, watch, &mut raised);
    lent.state.attach_at_home();
    match raised {
        Some(exception) => Err(error::restore(exception)),
        None => Ok(result),
    }
}

fn post(job: Job) {
    let mut carrier = CARRIER.lock();
    let job = match carrier.as_ref() {
        Some(sender) => match sender.send(job) {
            Ok(()) => return,
            Err(unsent) => unsent.0,
        },
        None => job,
    };
    let (sender, receiver) = channel::<Job>();
    std::thread::Builder::new()
        .name("frontrun-carrier".into())
        .stack_size(16 << 20)
        .spawn(move || {
            hang_at_exit();
            receiver.iter().for_each(|job| job());
        })
        .expect("an OS thread can be started");
    sender.send(job).expect("the thread has just started");
    *carrier = Some(sender);
}

fn wait<T>(
    slot: &Slot<T>,
    lent: &Lent,
    signals: &Signals,
    watch: Watch,
    raised: &mut Option<Owned>,
) -> Option<T> {
    use std::sync::atomic::Ordering::Relaxed;
    let started = Instant::now();
    let (mut seen, mut since) = (0, Instant::now());
    let mut asked_at = None::<Instant>;
    let mut running = (0, Instant::now());
    loop {
        let mut result = slot.result.lock();
        if result.is_none() {
            slot.done.wait_for(&mut result, TICK);
        }
        if result.is_some() {
            return result.take();
        }
        drop(result);
        if check_signals(lent, signals, raised) {
            raise_in_worker(lent, signals);
            asked_at.get_or_insert_with(Instant::now);
        }
        let execution = signals.execution.load(Relaxed);
        if execution != running.0 {
            running = (execution, Instant::now());
        } else if running.1.elapsed() > watch.run {
            signals.interrupt(Cut::RunTime);
        }
        if watch.total.is_some_and(|limit| started.elapsed() > limit) {
            signals.interrupt(Cut::Interrupted);
        }
        let progress = signals.progress.load(Relaxed);
        if progress != seen || signals.in_worker.load(Relaxed) == 0 {
            (seen, since, asked_at) = (progress, Instant::now(), None);
        } else if asked_at.is_some() || since.elapsed() > watch.stuck_after {
            match asked_at {
                None => {
                    signals.interrupt(Cut::Stuck);
                    raise_in_worker(lent, signals);
                    asked_at = Some(Instant::now());
                }
                Some(at) if at.elapsed() > Duration::from_secs(1) => {
                    abandon(lent, signals);
                    return None;
                }
                Some(_) => {}
            }
        }
    }
}

/// The worker does not even reach the next bytecode: leaves it behind with its
/// carrier, which can never attach the caller's state again.
fn abandon(lent: &Lent, signals: &Signals) {
    lent.token.lock();
    *CARRIER.lock() = None;
    lent.state.attach_at_home();
    error::withdraw_from_thread(signals.identity.load(std::sync::atomic::Ordering::Relaxed));
    ThreadState::detach();
}

/// Runs the handlers of signals that came in meanwhile, on the thread that
/// Python expects them on. Did one raise?
fn check_signals(lent: &Lent, signals: &Signals, raised: &mut Option<Owned>) -> bool {
    if raised.is_some() || !lent.token.try_lock() {
        return false;
    }
    lent.state.attach_at_home();
    let interrupted = error::check_signals().is_err();
    if interrupted {
        *raised = error::take();
        signals.interrupt(Cut::Interrupted);
    }
    ThreadState::detach();
    lent.give_back();
    interrupted
}

/// Raises in the worker that runs, at its next bytecode.
fn raise_in_worker(lent: &Lent, signals: &Signals) {
    if !lent.token.try_lock() {
        return;
    }
    lent.state.attach_at_home();
    let identity = signals.identity.load(std::sync::atomic::Ordering::Relaxed);
    *signals.stuck_at.lock() = threads::place_of(identity);
    error::raise_in_thread(identity);
    ThreadState::detach();
    lent.give_back();
}
