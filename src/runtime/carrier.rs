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
use crate::interp::exit::{self, hang_at_exit};
use crate::interp::gil::{self, Standstill};
use crate::interp::instead::Instead;
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
    let deadline = watch.total.map(|total| Instant::now() + total);
    let lent = Arc::new(Lent::by_caller(deadline));
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
    let (raised, ended_host) = (watcher.raised.take(), watcher.ended_host);
    let hush = watcher.hush.take();
    lent.return_home();
    drop(hush);
    if ended_host {
        error::withdraw_from_thread(lent.identity());
    }
    // Whatever comes of it, it is dropped here, where Python can run.
    let result = slot.lock().take();
    match raised {
        Some(exception) => Err(error::restore(exception)),
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

/// A worker that does nothing more is left behind so long after it was to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// One that goes on doing nothing that is seen has swallowed what was raised in it, and
/// is raised at again after so long.
const AGAIN: Duration = Duration::from_millis(300);

/// What was seen of an execution.
struct Seen {
    execution: u64,
    /// When it began.
    begun: Instant,
    progress: u64,
    /// When a worker reached a scheduling point last.
    progressed: Instant,
    /// Why it is given up, since when, and when that was raised in a worker last.
    given_up: Option<(Cut, Instant, Instant)>,
}

impl Seen {
    fn new() -> Seen {
        let now = Instant::now();
        Seen { execution: 0, begun: now, progress: 0, progressed: now, given_up: None }
    }

    /// Looks once more. Does a worker run?
    fn look(&mut self, signals: &Signals) -> bool {
        let in_worker = signals.in_worker.load(Relaxed) != 0;
        let execution = signals.execution.load(Relaxed);
        let progress = signals.progress.load(Relaxed);
        if !in_worker || execution != self.execution {
            *self = Seen { execution, progress, ..Seen::new() };
        } else if progress != self.progress {
            (self.progress, self.progressed) = (progress, Instant::now());
        }
        in_worker
    }

    /// Does a worker of the same execution still run?
    fn is_up_to_date(&self, signals: &Signals) -> bool {
        signals.in_worker.load(Relaxed) != 0 && signals.execution.load(Relaxed) == self.execution
    }

    /// Has nothing been seen for so long after this?
    fn is_quiet(&self, after: Instant, time: Duration) -> bool {
        after.max(self.progressed).elapsed() >= time
    }
}

/// What the caller's thread does while it waits.
struct Watcher<'a> {
    lent: &'a Lent,
    signals: &'a Signals,
    watch: Watch,
    /// The carrier's thread.
    thread: &'static gil::Watch,
    /// What a signal handler raised.
    raised: Option<Owned>,
    /// Was raised in setup or invariant?
    ended_host: bool,
    /// What is raised in a worker's thread is reported by nobody.
    hush: Option<Instead>,
}

impl<'a> Watcher<'a> {
    fn new(
        lent: &'a Lent,
        signals: &'a Signals,
        watch: Watch,
        thread: &'static gil::Watch,
    ) -> Self {
        Watcher { lent, signals, watch, thread, raised: None, ended_host: false, hush: None }
    }

    /// Waits until the carrier has finished, or has to be left behind.
    fn wait(&mut self) {
        let mut seen = Seen::new();
        let mut standstill = Standstill::default();
        loop {
            if self.lent.wait(TICK) {
                return;
            }
            let asked = Instant::now();
            self.run_handlers();
            let kept_gil = asked.elapsed() > self.watch.stuck_after;
            let in_worker = seen.look(self.signals);
            let cut = if self.lent.is_overdue() || self.raised.is_some() {
                Some(Cut::Interrupted)
            } else if kept_gil {
                Some(Cut::Stuck)
            } else if seen.begun.elapsed() > self.watch.run {
                Some(Cut::RunTime)
            } else if seen.progressed.elapsed() > self.watch.stuck_after {
                Some(Cut::Stuck)
            } else {
                None
            };
            if !in_worker {
                if cut == Some(Cut::Interrupted) {
                    self.end_host();
                }
                continue;
            }
            let blocks = standstill.lasts(self.thread) >= BLOCKS;
            if self.watch.falls_back
                && blocks
                && self.signals.others.load(Relaxed) > 0
                && self.abandon()
            {
                let what = "waited for another one in a call that frontrun does not know";
                self.signals.needs_threads.lock().get_or_insert(what);
                return;
            }
            match seen.given_up {
                Some((_, first, _)) if seen.is_quiet(first, PATIENCE) && self.abandon() => return,
                Some((cut, _, last)) if seen.is_quiet(last, AGAIN) => {
                    self.end_worker(cut, &mut seen);
                }
                Some(_) => {}
                None => cut.into_iter().for_each(|cut| self.end_worker(cut, &mut seen)),
            }
        }
    }

    /// Runs the handlers of signals that came in meanwhile, on the thread that
    /// Python expects them on, until one raises. So does the end of the interpreter.
    fn run_handlers(&mut self) {
        if self.raised.is_none() {
            let ends = exit::is_announced_to(self.lent.identity());
            self.raised = self.lent.with_python(|| {
                let done = if ends { Err(error::system_exit()) } else { error::check_signals() };
                done.err().and_then(|error::Raised| error::take())
            });
        }
    }

    /// Raises in setup or invariant, once.
    fn end_host(&mut self) {
        if !std::mem::replace(&mut self.ended_host, true) {
            let lent = self.lent;
            lent.with_python(|| {
                // Neither is seen without the other: a wait that ends takes the exception
                // back, lest it disturb the clean-up.
                lent.raise_on_carrier();
                self.signals.interrupt(Cut::Interrupted);
            });
        }
    }

    /// Raises in the worker that runs, at its next bytecode, and notes where that was.
    fn end_worker(&mut self, cut: Cut, seen: &mut Seen) {
        let signals = self.signals;
        let place = self.lent.with_python(|| {
            // It may have ended before this thread could run Python.
            if !seen.is_up_to_date(signals) {
                return None;
            }
            self.hush.get_or_insert_with(threads::hush);
            let identity = signals.identity.load(Relaxed);
            let place = threads::place_of(identity);
            signals.interrupt(cut);
            signals.raised.store(identity, Relaxed);
            error::raise_in_thread(identity, signals.in_thread.load(Relaxed));
            Some(place)
        });
        let Some(place) = place else { return };
        let now = Instant::now();
        if seen.given_up.is_none() {
            *self.signals.stuck_at.lock() = place;
        }
        let first = seen.given_up.map_or(now, |(_, first, _)| first);
        seen.given_up = Some((cut, first, now));
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
