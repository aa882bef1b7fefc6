//! Virtual time: it stands still while anybody can run, and jumps to the
//! earliest deadline when nobody can; or, where it is explored, a wait may time
//! out whenever it is chosen. Nothing really sleeps.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::execution::{Accesses, Execution};
use super::session;
use crate::interp::error::Result;
use crate::interp::object::Owned;
use crate::interp::thread_state::ThreadState;
use crate::observe::location::Field;
use crate::trace::{Access, Kind, Worker};

/// What time is to the workers of an exploration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody really waits, and readings are left alone.
    Real,
    /// It passes when nobody can run.
    Virtual,
    /// It may pass at any moment: so many waits of each worker may time out although
    /// others can run.
    Explored {
        /// A loop that waits again and again would go on for ever without a limit.
        timeouts: u32,
    },
}

/// Which clock is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Seconds since 1970.
    Wall,
    /// Seconds since some moment.
    Monotonic,
}

#[derive(Clone, Copy, Default)]
struct Epoch {
    wall: f64,
    monotonic: f64,
    /// Are readings virtual?
    shown: bool,
}

/// What clocks show in an exploration.
#[derive(Default)]
pub struct Readings {
    epoch: Cell<Epoch>,
    count: Cell<u64>,
    /// Seconds that setup and invariant have waited in earnest.
    waited: Cell<f64>,
    /// Does setup or invariant run? It reads the clock that the workers read.
    beside: Cell<bool>,
    /// The worker whose child process goes on.
    parent: Cell<Option<Worker>>,
}

/// Each reading moves the reader's clock on by so many seconds, so that a loop
/// that waits for time to pass comes to an end.
const TICK: f64 = 1e-6;

/// A child process is waited for at most so many seconds at a time.
const LOOK: f64 = 0.05;

/// A new exploration: its time begins now.
pub fn begin_exploration(mode: Mode) {
    let shown = mode != Mode::Real;
    let open_waits = if let Mode::Explored { timeouts } = mode { timeouts } else { 0 };
    session::with(|execution| execution.open_waits = open_waits);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let monotonic = crate::interp::clock::monotonic();
    session::current().time.epoch.set(Epoch { wall, monotonic, shown });
}

/// A new execution, before its setup: the same time again.
pub fn begin_execution() {
    let readings = &session::current().time;
    readings.count.set(0);
    readings.waited.set(0.0);
    session::with(|execution| execution.clock = 0.0);
}

/// Runs setup or invariant, which read the clock that the workers read.
pub fn beside_workers<T>(work: impl FnOnce() -> T) -> T {
    let beside = &session::current().time.beside;
    beside.set(true);
    let result = work();
    beside.set(false);
    result
}

/// Setup or invariant has waited in earnest.
pub fn note_wait(waited: Duration) {
    let all = &session::current().time.waited;
    all.set(all.get() + waited.as_secs_f64());
}

/// The virtual reading for the worker that runs, or for setup or invariant; `None`
/// where the real one is to be given.
pub fn read(clock: Clock) -> Result<Option<f64>> {
    let Readings { epoch, count, waited, beside, .. } = &session::current().time;
    let (epoch, in_worker) = (epoch.get(), session::running().is_some());
    if !epoch.shown || !(in_worker || beside.get()) {
        return Ok(None);
    }
    if in_worker && session::with(|execution| execution.open_waits) > 0 && !session::is_killed() {
        session::step("time.time", |execution| {
            (0..CLOCKS).map(|part| clock_part(execution, part, Kind::Read)).collect()
        })?;
    }
    count.set(count.get() + 1);
    let passed = session::with(|execution| execution.clock) + waited.get();
    let passed = passed + count.get() as f64 * TICK;
    Ok(Some(passed + if clock == Clock::Wall { epoch.wall } else { epoch.monotonic }))
}

/// Time that passes is told from readings by location, and is the same whichever
/// of two waits ends first: so that waits do not conflict with each other, each
/// worker moves a part of the clock of its own (unless there are very many).
const CLOCKS: u16 = 8;

fn clock_part(execution: &mut Execution, worker: Worker, kind: Kind) -> Access {
    let part = Field::Clock(worker % CLOCKS);
    Access { loc: execution.locations.of(Owned::none().borrow(), part, None), kind }
}

/// How a step waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wait {
    /// Not at all.
    No,
    /// As long as it takes.
    ForGood,
    /// Until nobody can run, and its deadline is the earliest.
    Timed,
    /// Until it is chosen, at any moment; then so many seconds have passed. It is
    /// never disabled: with nothing to be had it times out.
    Open(f64),
}

impl Wait {
    /// The running worker is about to wait, for so many seconds at most.
    pub fn begin(blocking: bool, timeout: Option<f64>) -> Wait {
        match timeout {
            _ if !blocking => Wait::No,
            Some(0.0) => Wait::No,
            None => Wait::ForGood,
            Some(timeout) => match session::with(|execution| execution.begin_wait(timeout)) {
                true => Wait::Open(timeout),
                false => Wait::Timed,
            },
        }
    }

    /// The accesses of a step of the running worker that does `access` when its wait
    /// is over. `can`: nothing but that access may keep it waiting.
    pub fn accesses(
        self,
        execution: &mut Execution,
        access: Option<Access>,
        can: bool,
    ) -> Accesses {
        let mut accesses: Accesses = access.into_iter().collect();
        let kind = if can { Kind::None } else { Kind::Advance };
        match (self, execution.current()) {
            (Wait::Open(_), Some(worker)) => accesses.push(clock_part(execution, worker, kind)),
            _ if can => {}
            _ => accesses.push(Access { loc: 0, kind }),
        }
        accesses
    }

    /// Records that the running worker's wait has timed out, and that it did `accesses`.
    pub fn time_out(self, what: &'static str, accesses: impl IntoIterator<Item = Access>) {
        let mut accesses: Accesses = accesses.into_iter().collect();
        session::with(|execution| {
            let Some(worker) = execution.current() else { return };
            execution.workers[worker as usize].timeouts += 1;
            if let Wait::Open(seconds) = self {
                execution.clock += seconds;
                accesses.push(clock_part(execution, worker, Kind::Hit));
            } else {
                accesses.insert(0, Access { loc: 0, kind: Kind::Advance });
            }
        });
        session::record(what, &accesses);
    }
}

/// The running worker has seen whether a child process goes on. If it sleeps before
/// it looks again, it waits for another program, which takes real time.
pub fn note_child(goes_on: bool) {
    session::current().time.parent.set(session::running().filter(|_| goes_on));
}

/// Moves virtual time on to so many seconds after the beginning, and reads it.
pub fn move_on(now: f64) -> f64 {
    if session::running().is_none() {
        return now;
    }
    session::with(|execution| {
        execution.clock = execution.clock.max(now);
        execution.clock
    })
}

/// `time.sleep(duration)`.
pub fn sleep(duration: f64) -> Result<()> {
    if duration == 0.0 || session::is_killed() {
        return Ok(());
    }
    let wait = Wait::begin(true, Some(duration));
    session::step("time.sleep", |execution| wait.accesses(execution, None, false))?;
    wait.time_out("time.sleep", None);
    let parent = session::current().time.parent.take();
    if parent.is_some() && parent == session::running() {
        let own = ThreadState::detach();
        std::thread::sleep(Duration::from_secs_f64(duration.min(LOOK)));
        own.attach();
    }
    Ok(())
}
