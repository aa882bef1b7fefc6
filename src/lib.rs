//! The native core of frontrun. `docs/how-it-works.md` is the guided tour.
//!
//! Without the `python` feature this crate is the engine alone: safe Rust that
//! knows nothing of CPython.

pub mod dpor;
pub mod explore;
pub mod strategy;
pub mod trace;

#[cfg(feature = "python")]
pub mod interp;
#[cfg(feature = "python")]
pub mod observe;
#[cfg(feature = "python")]
pub mod runtime;
