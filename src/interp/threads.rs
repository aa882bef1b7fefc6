//! What `threading` remembers of workers.

use pyo3_ffi as ffi;

use super::call::call;
use super::code::{attribute, dict_items, import};
use super::error;
use super::instead::Instead;
use super::object::{Obj, Owned};
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

/// While that lives, nothing reports exceptions that end threads: they are ours. Silences
/// `threading`, and `concurrent.futures` where it has been imported.
pub fn hush() -> Instead {
    let mut hush = Instead::default();
    if silence(&mut hush).is_err() {
        drop(error::take());
    }
    hush
}

fn silence(hush: &mut Instead) -> error::Result<()> {
    let silent = attribute(import(c"builtins")?.borrow(), c"id")?;
    hush.put(import(c"threading")?, c"excepthook", silent)?;
    let modules = attribute(import(c"sys")?.borrow(), c"modules")?;
    let is_pools = |key: Obj<'_>| key.as_str().as_deref() == Some("concurrent.futures._base");
    let pools = dict_items(modules.borrow()).find(|(key, _)| is_pools(*key));
    if let Some((_, pools)) = pools {
        let logger = attribute(pools, c"LOGGER")?;
        hush.put(logger, c"disabled", Owned::from_bool(true))?;
    }
    Ok(())
}

/// Lets `threading` forget threads whose start was given up: they would be listed for
/// ever. `functions` are what threads have been started with.
pub fn forget_starts<'a>(functions: impl Iterator<Item = Obj<'a>>) {
    for function in functions {
        if forget_start(function).is_err() {
            drop(error::take());
        }
    }
}

fn forget_start(function: Obj<'_>) -> error::Result<()> {
    let limbo = attribute(import(c"threading")?.borrow(), c"_limbo")?;
    let limbo = limbo.borrow().as_ptr();
    // SAFETY: PyDict_Check on a live object; then a dict.
    if unsafe { ffi::PyDict_Check(limbo) == 0 || ffi::PyDict_Size(limbo) == 0 } {
        return Ok(());
    }
    let thread = attribute(function, c"__self__")?;
    // SAFETY: a dict whose keys are threads; a key that is missing is a KeyError.
    let failed = unsafe { ffi::PyDict_DelItem(limbo, thread.borrow().as_ptr()) } < 0;
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
