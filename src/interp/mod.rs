//! Everything that knows CPython: layouts, frames, code objects, hooks, thread
//! states. All `unsafe` code and all differences between versions live in this
//! folder; what it exports is safe to use while the GIL is held. Without a GIL
//! (free-threaded builds) whose turn it is holds it, as far as workers and their
//! conductor go: exactly one of them runs.
//!
//! The one assumption of the folder: its functions are called with an attached
//! thread state. The only ways in are a callback from the interpreter and a
//! function of the extension module, and both guarantee it.

pub mod attributes;
pub mod call;
pub mod callables;
pub mod capsule;
pub mod clock;
pub mod code;
pub mod containers;
pub mod descriptors;
pub mod dict;
pub mod error;
pub mod exit;
pub mod fiber;
pub mod frame;
pub mod futures;
pub mod garbage;
pub mod gil;
pub mod heap;
pub mod instead;
pub mod layout;
pub mod lent;
pub mod marker_events;
pub mod module;
pub mod object;
pub mod os_thread;
pub mod primitives;
pub mod probe;
pub mod redirect;
pub mod relocations;
pub mod seat;
pub mod thread_state;
pub mod threads;
pub mod trace_function;
pub mod tracer;
pub mod types;
pub mod value;
pub mod version;
