//! What `threading` remembers of workers.

use pyo3_ffi as ffi;

use super::call::call;
use super::code::{attribute, dict_items, import};
use super::error;
use super::object::Owned;
use super::thread_state::{is_worker_identity, worker_identity};

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

/// The name of the thread of this identity.
pub fn name_of(identity: usize) -> Option<String> {
    let active = active()?;
    let thread = dict_items(active.dict.borrow())
        .find(|(key, _)| key.as_i64() == Some(identity as i64))
        .map(|(_, thread)| thread.own())?;
    match attribute(thread.borrow(), c"name") {
        Ok(name) => name.borrow().as_str(),
        Err(error::Raised) => {
            drop(error::take());
            None
        }
    }
}

/// "file:line in function" of the thread of this identity, if it runs Python.
pub fn place_of(identity: usize) -> Option<String> {
    let place = || -> error::Result<Option<String>> {
        let frames = call(attribute(import(c"sys")?.borrow(), c"_current_frames")?.borrow(), &[])?;
        let frame = dict_items(frames.borrow())
            .find(|(key, _)| key.as_i64() == Some(identity as i64))
            .map(|(_, frame)| frame.own());
        let Some(frame) = frame else { return Ok(None) };
        let line = attribute(frame.borrow(), c"f_lineno")?.borrow().as_i64().unwrap_or(0);
        let code = attribute(frame.borrow(), c"f_code")?;
        let text = |name| -> error::Result<String> {
            Ok(attribute(code.borrow(), name)?.borrow().as_str().unwrap_or_default())
        };
        Ok(Some(format!("{}:{line} in {}", text(c"co_filename")?, text(c"co_name")?)))
    };
    place().unwrap_or_else(|error::Raised| {
        drop(error::take());
        None
    })
}

/// While it lives, exceptions that end threads are not reported: they are ours.
pub struct Hush {
    module: Owned,
    hook: Owned,
}

impl Hush {
    /// Silences `threading.excepthook`.
    pub fn begin() -> Option<Hush> {
        let hush = || -> error::Result<Hush> {
            let module = import(c"threading")?;
            let hook = attribute(module.borrow(), c"excepthook")?;
            let silent = attribute(import(c"builtins")?.borrow(), c"id")?;
            set_hook(&module, &silent)?;
            Ok(Hush { module, hook })
        };
        hush().map_err(|error::Raised| drop(error::take())).ok()
    }
}

impl Drop for Hush {
    fn drop(&mut self) {
        if set_hook(&self.module, &self.hook).is_err() {
            drop(error::take());
        }
    }
}

fn set_hook(module: &Owned, hook: &Owned) -> error::Result<()> {
    let (module, hook) = (module.borrow().as_ptr(), hook.borrow().as_ptr());
    // SAFETY: a live module and a live callable.
    let failed = unsafe { ffi::PyObject_SetAttrString(module, c"excepthook".as_ptr(), hook) } < 0;
    if failed { Err(error::Raised) } else { Ok(()) }
}

impl ActiveThreads {
    /// How many threads there are besides workers and the one of this identity.
    pub fn others(&self, identity: usize) -> usize {
        let is_other = |key: i64| key as usize != identity && !is_worker_identity(key as usize);
        dict_items(self.dict.borrow()).filter(|(key, _)| key.as_i64().is_some_and(is_other)).count()
    }

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
