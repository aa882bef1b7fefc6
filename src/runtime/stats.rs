//! What this process has done so far, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that only a thread with the GIL changes.
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. No atomic addition is needed, and none is paid for.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $shown:literal),* $(,)?) => {
        $($(#[$doc])* pub static $name: Counter = Counter(AtomicU64::new(0));)*

        /// Name and value of each.
        pub fn all() -> impl Iterator<Item = (&'static str, u64)> {
            [$(($shown, $name.get())),*].into_iter()
        }
    };
}

counters! {
    /// Instructions that the interpreter reported.
    SEEN = "events_seen",
    /// Events that became part of an execution, or that were recorded or told.
    DELIVERED = "events_delivered",
    /// Turns that went from one worker to another.
    SWITCHES = "switches",
    /// Executions.
    EXECUTIONS = "executions",
    /// Nanoseconds in `setup` and `invariant`.
    SETUP = "setup_ns",
    /// Nanoseconds in workers.
    WORKERS = "workers_ns",
    /// Nanoseconds in choosing what to run next.
    ENGINE = "engine_ns",
}
