//! Virtual time: it stands still while anybody can run, and jumps to the
//! earliest deadline when nobody can. Nothing really sleeps.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::execution::Accesses;
use super::session;
use crate::interp::error::Result;
use crate::trace::{Access, Kind};

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
}

/// Each reading moves the reader's clock on by so many seconds, so that a loop
/// that waits for time to pass comes to an end.
const TICK: f64 = 1e-6;

/// A new exploration: its time begins now. `shown`: do readings follow it?
pub fn begin_exploration(shown: bool) {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let monotonic = 1000.0 + START.elapsed().as_secs_f64();
    session::current().time.epoch.set(Epoch { wall, monotonic, shown });
}

/// A new execution: the same time again.
pub fn begin_execution() {
    session::current().time.count.set(0);
}

/// The virtual reading for the worker that runs; `None` where the real one is
/// to be given.
pub fn read(clock: Clock) -> Option<f64> {
    let Readings { epoch, count } = &session::current().time;
    let epoch = epoch.get();
    if !epoch.shown || session::running().is_none() {
        return None;
    }
    count.set(count.get() + 1);
    let passed = session::with(|execution| execution.clock) + count.get() as f64 * TICK;
    Some(passed + if clock == Clock::Wall { epoch.wall } else { epoch.monotonic })
}

/// `time.sleep(duration)`.
pub fn sleep(duration: f64) -> Result<()> {
    if duration == 0.0 || session::is_killed() {
        return Ok(());
    }
    session::set_deadline(duration);
    session::set_sleeping(true);
    let timed_out = session::step("time.sleep", |_| Accesses::new())?;
    session::set_sleeping(false);
    if timed_out {
        session::record("time.sleep", &[Access { loc: 0, kind: Kind::Advance }]);
    }
    Ok(())
}
