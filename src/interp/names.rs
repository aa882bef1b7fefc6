//! Interned names that lookups are made with.

use std::sync::OnceLock;

use pyo3_ffi as ffi;

use super::object::Owned;

/// The names.
pub struct Names {
    /// `"__getattribute__"`.
    pub getattribute: Owned,
}

// SAFETY: immortal interned strings, read with the GIL held.
unsafe impl Sync for Names {}

static NAMES: OnceLock<Names> = OnceLock::new();

/// The table; made at first use.
pub fn names() -> &'static Names {
    NAMES.get_or_init(|| {
        // SAFETY: a NUL-terminated literal; the result is a new reference.
        let intern = |text: &std::ffi::CStr| unsafe {
            Owned::from_new(ffi::PyUnicode_InternFromString(text.as_ptr())).expect("memory")
        };
        Names { getattribute: intern(c"__getattribute__") }
    })
}
