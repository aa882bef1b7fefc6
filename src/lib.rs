//! The native core of frontrun. `docs/how-it-works.md` is the guided tour.
//!
//! Without the `python` feature this crate is the engine alone: safe Rust that
//! knows nothing of CPython.

pub mod dpor;
pub mod strategy;
pub mod trace;
