//! Things outside the program that its workers share: files, directories,
//! sockets, pipes. Each is a location, known by its name.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::execution::{Accesses, Execution};
use super::locations::Place;
use super::session;
use crate::interp::error;
use crate::interp::frame;
use crate::interp::object::{Obj, Owned};
use crate::interp::primitives::c_functions;
use crate::interp::value::Value;
use crate::observe::location::Field;
use crate::trace::{Access, Kind, Loc, Worker};

/// A call failed because its worker is being unwound: what it tells the program.
pub const ABANDONED: i32 = libc::ECANCELED;

/// What is said to the program when a step could not be made: an error number.
pub type Result<T> = std::result::Result<T, i32>;

/// What a session knows of them.
#[derive(Default)]
pub struct Resources {
    watched: Cell<bool>,
    names: RefCell<FxHashMap<String, Owned>>,
    /// Descriptors that hold an advisory lock in this execution.
    pub(super) locked: RefCell<FxHashSet<c_int>>,
    /// Who is inside a call that is one step.
    opaque: RefCell<Vec<Worker>>,
    /// What was found out about objects of this execution, by address.
    objects: RefCell<FxHashMap<usize, (Owned, String)>>,
    /// Who is inside a call of which buffered file, by address.
    pub(super) inside: RefCell<Vec<(Worker, usize)>>,
}

fn known() -> &'static Resources {
    &session::current().resources
}

/// A new exploration, which is to notice these things or not.
pub fn begin_exploration(watched: bool) {
    if watched {
        c_functions::intercept();
    }
    known().watched.set(watched);
    drop(known().names.take());
}

/// A new execution: what the last one has locked is its own affair.
pub fn begin_execution() {
    known().locked.borrow_mut().clear();
    known().inside.borrow_mut().clear();
    known().opaque.borrow_mut().clear();
    drop(known().objects.take());
}

/// Is the code of a worker running on this OS thread, whose use of files and sockets
/// is to be noticed?
#[inline]
pub fn are_watched() -> bool {
    session::running().is_some_and(|worker| {
        let known = known();
        known.watched.get() && !known.opaque.borrow().contains(&worker)
    })
}

/// The same, also inside a call that is one step.
pub fn are_used() -> bool {
    session::running().is_some() && known().watched.get()
}

/// Does what is a part of a step that has been made: nothing in it is noticed, but
/// that it sleeps.
pub fn inside_step<T>(work: impl FnOnce() -> T) -> T {
    let Some(worker) = session::running() else { return work() };
    known().opaque.borrow_mut().push(worker);
    let result = work();
    let mut opaque = known().opaque.borrow_mut();
    if let Some(at) = opaque.iter().rposition(|inside| *inside == worker) {
        opaque.remove(at);
    }
    result
}

/// What is known of an object, found out once an execution. The object is kept alive
/// until that ends.
pub fn remembered(
    object: Obj<'_>,
    find: impl FnOnce() -> error::Result<String>,
) -> error::Result<String> {
    if let Some((_, text)) = known().objects.borrow().get(&object.address()) {
        return Ok(text.clone());
    }
    let text = find()?;
    known().objects.borrow_mut().insert(object.address(), (object.own(), text.clone()));
    Ok(text)
}

/// A step that reads or writes a resource as a whole.
pub fn touch(what: &'static str, name: &str, kind: Kind) -> error::Result<()> {
    session::step(what, |execution| {
        SmallVec::from_elem(access(execution, name, Field::Whole, kind), 1)
    })
    .map(drop)
}

/// The same of an object that stands for one that has no name.
pub fn touch_object(what: &'static str, object: Obj<'_>, kind: Kind) -> error::Result<()> {
    session::step(what, |execution| {
        let loc = execution.locations.of(object, Field::Whole, None);
        SmallVec::from_elem(Access { loc, kind }, 1)
    })
    .map(drop)
}

/// Is this the moment for a step? Not while tables are in use, where finalisers may
/// close files, and not in imports, which fill caches.
pub fn can_step() -> bool {
    session::is_free() && !is_importing()
}

fn is_importing() -> bool {
    let innermost = frame::stack().next();
    innermost.is_some_and(|(code, _)| code.filename().starts_with("<frozen importlib"))
}

/// The location of a part of a resource.
pub fn locate(execution: &mut Execution, name: &str, field: Field) -> Loc {
    let mut names = known().names.borrow_mut();
    let object = names.entry(name.to_string()).or_insert_with(|| {
        let made = Value::Str(name.to_string()).into_object();
        made.unwrap_or_else(|_| {
            drop(error::take());
            Owned::none()
        })
    });
    execution.locations.of(object.borrow(), field, None)
}

/// A step with these accesses, asked for again after each wait.
pub fn step(what: &'static str, accesses: impl FnMut(&mut Execution) -> Accesses) -> Result<()> {
    session::step(what, accesses).map(drop).map_err(abandoned)
}

/// The exception that unwinds a worker cannot pass through a C function: the next step
/// raises it again.
pub fn abandoned(_: error::Raised) -> i32 {
    drop(error::take());
    ABANDONED
}

/// One access of a part of a resource.
pub fn access(execution: &mut Execution, name: &str, field: Field, kind: Kind) -> Access {
    Access { loc: locate(execution, name, field), kind }
}

/// The name of a place that is a part of a resource.
pub fn text(place: &Place) -> Option<String> {
    let name = || place.object.borrow().as_str();
    match place.field {
        Field::Entry => Some(format!("existence of {}", name()?)),
        Field::Listing => Some(format!("entries of {}", name()?)),
        Field::Lock => Some(format!("lock of {}", name()?)),
        Field::Whole if place.label.is_none() => name(),
        _ => None,
    }
}

/// The part of such a name that is the same in another run: directories for temporary
/// files, and ports, are not.
pub fn lasting_name(text: &str) -> &str {
    match text.split_once(':') {
        Some((_, path)) if path.starts_with('/') => path.rsplit('/').next().unwrap_or(path),
        Some((kind, _)) => kind,
        None => text,
    }
}
