//! The clock behind `time.monotonic` (`Python/pytime.c`).

/// Its reading, in seconds.
pub fn monotonic() -> f64 {
    // SAFETY: a plain call, which fills the struct.
    let now = unsafe {
        let mut now = std::mem::zeroed::<libc::timespec>();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
        now
    };
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}
