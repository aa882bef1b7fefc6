//! The carrier: one OS thread on which whole explorations run, with all their
//! fibers, while the caller's thread waits and stays interruptible.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::execution::Cut;
use super::session::Signals;
use crate::interp::error::{self, Result};
use crate::interp::exit::hang_at_exit;
use crate::interp::gil::{self, Standstill};
use crate::interp::lent::Lent;
use crate::interp::object::Owned;
use crate::interp::thread_state::disown_workers;
use crate::interp::threads;

/// How often the waiting caller looks for signals (Ctrl-C) and stuck workers.
const TICK: Duration = Duration::from_millis(50);

type Job = Box<dyn FnOnce() + Send>;

/// The carrier's thread.
struct Carrier {
    /// The process that it lives in: a fork does not have it.
    home: u32,
    sender: Sender<Job>,
    watch: &'static gil::Watch,
}

static CARRIER: Mutex<Option<Carrier>> = Mutex::new(None);

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
    let slot = Arc::new(Mutex::new(None));
    let filled = slot.clone();
    let lent = Arc::new(Lent::by_caller());
    let used = lent.clone();
    let thread = post(Box::new(move || {
        used.attach();
        let result = job(&used);
        used.detach();
        *filled.lock() = Some(result);
        used.finish();
    }));
    let mut watcher = Watcher::new(&lent, signals, watch, thread);
    watcher.wait();
    let raised = watcher.raised.take();
    lent.return_home();
    // Whatever comes of it, it is dropped here, where Python can run.
    let result = slot.lock().take();
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
        Watcher { lent, signals, watch, thread, started: Instant::now(), raised: None }
    }

    /// Waits until the carrier has finished, or has to be left behind.
    fn wait(&mut self) {
        let (mut progress, mut since) = (0, Instant::now());
        let (mut execution, mut begun) = (0, Instant::now());
        let mut raised_at = None::<Instant>;
        let mut standstill = Standstill::default();
        loop {
            if self.lent.wait(TICK) {
                return;
            }
            let asked = Instant::now();
            let mut ends = self.run_handlers().then_some(Cut::Interrupted);
            if asked.elapsed() > self.watch.stuck_after {
                // A worker kept the GIL all the time.
                ends = ends.or(Some(Cut::Stuck));
            }
            if self.watch.total.is_some_and(|limit| self.started.elapsed() > limit) {
                ends = ends.or(Some(Cut::Interrupted));
            }
            let (now, in_worker) = (Instant::now(), self.signals.in_worker.load(Relaxed) != 0);
            if ends == Some(Cut::Interrupted) && !in_worker {
                self.signals.interrupt(Cut::Interrupted);
            }
            if !in_worker || self.signals.execution.load(Relaxed) != execution {
                (execution, begun) = (self.signals.execution.load(Relaxed), now);
            } else if now - begun > self.watch.run {
                ends = ends.or(Some(Cut::RunTime));
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
                let what = "waited for another one in a call that frontrun does not know";
                self.signals.needs_threads.lock().get_or_insert(what);
                return;
            }
            if now - since > self.watch.stuck_after {
                ends = ends.or(Some(Cut::Stuck));
            }
            if let Some(cut) = ends.filter(|_| in_worker && raised_at.is_none()) {
                self.end_worker(cut);
                raised_at = Some(now);
            }
            let patience = Duration::from_secs(1);
            if raised_at.is_some_and(|at| at.elapsed() > patience) && self.abandon() {
                return;
            }
        }
    }

    /// Runs the handlers of signals that came in meanwhile, on the thread that
    /// Python expects them on. Did one raise?
    fn run_handlers(&mut self) -> bool {
        if self.raised.is_some() {
            return false;
        }
        self.raised = self.lent.with_python(|| match error::check_signals() {
            Ok(()) => None,
            Err(error::Raised) => error::take(),
        });
        if self.raised.is_some() {
            if self.signals.in_worker.load(Relaxed) == 0 {
                let identity = self.lent.identity();
                self.lent.with_python(|| error::raise_in_thread(identity));
            }
            self.signals.interrupt(Cut::Interrupted);
        }
        self.raised.is_some()
    }

    /// Raises in the worker that runs, at its next bytecode, and notes where that was.
    fn end_worker(&mut self, cut: Cut) {
        let signals = self.signals;
        let place = self.lent.with_python(|| {
            let identity = signals.identity.load(Relaxed);
            let place = threads::place_of(identity);
            signals.interrupt(cut);
            // It may have ended before this thread could run Python.
            if signals.in_worker.load(Relaxed) != 0 {
                error::raise_in_thread(identity);
            }
            place
        });
        *self.signals.stuck_at.lock() = place;
    }

    /// The worker does not even reach the next bytecode: leaves it behind with its
    /// carrier, which can never attach the caller's state again. False if the
    /// carrier has attached it just now.
    fn abandon(&mut self) -> bool {
        if !self.lent.try_keep() {
            return false;
        }
        *CARRIER.lock() = None;
        let identity = self.signals.identity.load(Relaxed);
        let place = self.lent.with_python(|| {
            let place = threads::place_of(identity);
            error::withdraw_from_thread(identity);
            disown_workers();
            place
        });
        *self.signals.stuck_at.lock() = place;
        true
    }
}
