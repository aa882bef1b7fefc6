//! What `threading` remembers of workers.

use pyo3_ffi as ffi;

use super::code::{attribute, import};
use super::error;
use super::object::Owned;
use super::thread_state::worker_identity;

/// `threading._active`: a worker that asks for `current_thread()` leaves an
/// entry under its identity, which the next execution must not find.
pub struct ActiveThreads {
    dict: Owned,
    before: ffi::Py_ssize_t,
}

/// The table of known threads, as it is now.
pub fn active() -> Option<ActiveThreads> {
    let threading = import(c"threading").ok();
    let dict = threading.and_then(|module| attribute(module.borrow(), c"_active").ok());
    if dict.is_none() {
        drop(error::take());
    }
    // SAFETY: PyDict_Check and PyDict_Size on a live object.
    dict.filter(|dict| unsafe { ffi::PyDict_Check(dict.borrow().as_ptr()) } != 0).map(|dict| {
        // SAFETY: a dict.
        let before = unsafe { ffi::PyDict_Size(dict.borrow().as_ptr()) };
        ActiveThreads { dict, before }
    })
}

impl ActiveThreads {
    /// Removes what the last execution's workers left.
    pub fn purge(&self, workers: usize) {
        let dict = self.dict.borrow().as_ptr();
        // SAFETY: a dict with ints as keys, whose comparison is C code.
        unsafe {
            if ffi::PyDict_Size(dict) == self.before {
                return;
            }
            for worker in 0..workers {
                let key = Owned::from_new(ffi::PyLong_FromSize_t(worker_identity(worker + 1)));
                if let Some(key) = key
                    && ffi::PyDict_DelItem(dict, key.borrow().as_ptr()) < 0
                {
                    ffi::PyErr_Clear();
                }
            }
        }
    }
}
