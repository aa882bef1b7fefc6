//! Automatic garbage collection: it would run finalisers wherever enough objects
//! happen to have been made, which differs from execution to execution.

use pyo3_ffi as ffi;

/// While it lives, garbage is collected on request only.
pub struct Pause {
    was_on: bool,
}

impl Pause {
    /// Switches automatic collection off.
    pub fn begin() -> Pause {
        // SAFETY: a thread state is attached; sets a flag.
        Pause { was_on: unsafe { ffi::PyGC_Disable() } == 1 }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if self.was_on {
            // SAFETY: as above.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}
