//! Buffered files. CPython source: `Modules/_io/bufferedio.c`.
//!
//! Such a file has a lock of its own that knows OS threads only: a worker that gave
//! its turn away inside would leave all others an error ("reentrant call"). So it is
//! taken and given back where the scheduler sees it.

use super::Row;
use crate::hook;
use crate::interp::code::{attribute, import};
use crate::interp::descriptors;
use crate::interp::error::{self, Result};
use crate::interp::object::{Obj, Owned};
use crate::interp::redirect::{Arguments, Hook};
use crate::runtime::{buffers, resources};

macro_rules! methods {
    ($class:literal, $table:ident: $($hook:ident = $name:literal),*) => {
        $(hook!($hook => call);)*
        const $table: Row = (c"_io", $class, &[$(($name, &$hook)),*]);
    };
}

methods!(c"BufferedReader", READER:
    READER_READ = c"read", READER_READ1 = c"read1", READER_PEEK = c"peek",
    READER_READINTO = c"readinto", READER_READINTO1 = c"readinto1",
    READER_READLINE = c"readline", READER_SEEK = c"seek", READER_TELL = c"tell",
    READER_TRUNCATE = c"truncate", READER_FLUSH = c"flush", READER_CLOSE = c"close",
    READER_DETACH = c"detach");
methods!(c"BufferedWriter", WRITER:
    WRITER_WRITE = c"write", WRITER_SEEK = c"seek", WRITER_TELL = c"tell",
    WRITER_TRUNCATE = c"truncate", WRITER_FLUSH = c"flush", WRITER_CLOSE = c"close",
    WRITER_DETACH = c"detach");
methods!(c"BufferedRandom", RANDOM:
    RANDOM_READ = c"read", RANDOM_READ1 = c"read1", RANDOM_PEEK = c"peek",
    RANDOM_READINTO = c"readinto", RANDOM_READINTO1 = c"readinto1",
    RANDOM_READLINE = c"readline", RANDOM_WRITE = c"write", RANDOM_SEEK = c"seek",
    RANDOM_TELL = c"tell", RANDOM_TRUNCATE = c"truncate", RANDOM_FLUSH = c"flush",
    RANDOM_CLOSE = c"close", RANDOM_DETACH = c"detach");

/// The methods of buffered files.
pub(super) const TABLE: &[Row] = &[READER, WRITER, RANDOM];

fn call(hook: &Hook, file: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    let seen = resources::are_watched() && resources::can_step() && !is_standard(file);
    if !seen || !buffers::enter(file)? {
        return hook.pass_on(file, arguments);
    }
    let result = hook.pass_on(file, arguments);
    let raised = if result.is_err() { error::take() } else { None };
    buffers::leave(file)?;
    match raised {
        Some(exception) => Err(error::restore(exception)),
        None => result,
    }
}

/// Is it one of the standard streams, whose use is not noticed?
fn is_standard(file: Obj<'_>) -> bool {
    let number = attribute(file, c"raw").ok().filter(is_file_io).and_then(|raw| {
        // SAFETY: a live object, whose `fileno` is the builtin one.
        let number = unsafe { pyo3_ffi::PyObject_AsFileDescriptor(raw.borrow().as_ptr()) };
        (number >= 0).then_some(number)
    });
    if number.is_none() {
        // It is closed, was never opened, or is none of a descriptor.
        drop(error::take());
    }
    number.is_some_and(descriptors::is_standard)
}

fn is_file_io(raw: &Owned) -> bool {
    let class = import(c"_io").and_then(|module| attribute(module.borrow(), c"FileIO"));
    class.is_ok_and(|class| raw.borrow().type_of().is(class.borrow()))
}
