//! Virtual time: it stands still while anybody can run, and jumps to the
//! earliest deadline when nobody can. Nothing really sleeps.

use std::cell::Cell;
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

#[derive(Clone, Copy)]
struct Epoch {
    wall: f64,
    monotonic: f64,
    /// Are readings virtual?
    shown: bool,
}

thread_local! {
    static EPOCH: Cell<Epoch> =
        const { Cell::new(Epoch { wall: 0.0, monotonic: 0.0, shown: false }) };
    static READINGS: Cell<u64> = const { Cell::new(0) };
}

/// Each reading moves the reader's clock on by so many seconds, so that a loop
/// that waits for time to pass comes to an end.
const TICK: f64 = 1e-6;

/// A new exploration: its time begins now. `shown`: do readings follow it?
pub fn begin_exploration(shown: bool) {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    thread_local!(static START: Instant = Instant::now());
    let monotonic = 1000.0 + START.with(Instant::elapsed).as_secs_f64();
    EPOCH.set(Epoch { wall, monotonic, shown });
}

/// A new execution: the same time again.
pub fn begin_execution() {
    READINGS.set(0);
}

/// The virtual reading for the worker that runs; `None` where the real one is
/// to be given.
pub fn read(clock: Clock) -> Option<f64> {
    let epoch = EPOCH.get();
    if !epoch.shown || session::running().is_none() {
        return None;
    }
    READINGS.set(READINGS.get() + 1);
    let passed = session::with(|execution| execution.clock) + READINGS.get() as f64 * TICK;
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
