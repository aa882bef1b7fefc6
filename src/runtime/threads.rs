//! Threads that workers start: they become workers of the same execution. Start
//! and join order events and cause no further executions by themselves.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::execution::{Accesses, Status};
use super::session;
use super::time::Wait;
use crate::explore::{Family, Made};
use crate::interp::error::{self, Result};
use crate::interp::object::{Obj, Owned};
use crate::observe::location::Field;
use crate::trace::{Access, Kind, Worker};

/// What a started thread runs.
pub struct Task {
    /// The function.
    pub function: Owned,
    /// Its positional arguments.
    pub arguments: Vec<Owned>,
    /// Its keyword arguments: a dict.
    pub keywords: Option<Owned>,
    /// What it is joined through (3.13+).
    pub handle: Option<Owned>,
    /// May the execution end without it?
    pub daemon: bool,
}

/// The threads that workers have started.
#[derive(Default)]
pub struct Children {
    family: Family,
    /// How many workers the exploration has of its own.
    own: Worker,
    tasks: FxHashMap<Worker, Task>,
    /// What they were started with in this execution.
    functions: Vec<Owned>,
    /// What threads are joined through, kept alive: an address must not be reused.
    handles: FxHashMap<usize, (Worker, Owned)>,
}

fn with<T>(work: impl FnOnce(&mut Children) -> T) -> T {
    work(&mut session::current().children.borrow_mut())
}

/// A new exploration with so many workers of its own.
pub fn begin_exploration(workers: usize) {
    let own = workers as Worker;
    with(|children| *children = Children { family: Family::new(own), own, ..Children::default() });
}

/// See [`Family::renumber`].
pub fn renumber() -> Option<impl Fn(Worker) -> Worker> {
    with(|children| children.family.renumber())
}

/// What the threads of an execution have left, to be dropped where finalisers may run.
pub struct Left {
    /// What they were started with.
    pub functions: Vec<Owned>,
    _tasks: Vec<Task>,
    _handles: Vec<Owned>,
}

/// A new execution: gives what the last one has left.
#[must_use]
pub fn begin_execution() -> Left {
    with(|children| {
        children.family.begin_execution();
        Left {
            functions: std::mem::take(&mut children.functions),
            _tasks: children.tasks.drain().map(|(_, task)| task).collect(),
            _handles: children.handles.drain().map(|(_, (_, handle))| handle).collect(),
        }
    })
}

/// Starts a thread.
pub fn start(task: Task) -> Result<Worker> {
    let Some(parent) = session::running() else {
        return Err(error::runtime_error("can't start new thread"));
    };
    if session::with(|execution| execution.blocks.is_some()) {
        return Err(error::runtime_error(
            "async workers cannot start threads themselves: frontrun.explore runs what \
             asyncio.to_thread and loop.run_in_executor are given, as one step of its own",
        ));
    }
    let child = with(|children| {
        children.functions.push(task.function.clone());
        let nth = children.family.count(parent, Made::Worker);
        children.family.index(parent, Made::Worker, nth)
    });
    let loc = child.into();
    session::step("thread.start", |_| SmallVec::from_slice(&[Access { loc, kind: Kind::Start }]))?;
    session::with(|execution| execution.add_worker_at(child, task.daemon));
    if let Some(handle) = &task.handle {
        register(handle.borrow(), child);
    }
    with(|children| children.tasks.insert(child, task));
    session::with(|execution| execution.send_off(child));
    session::give_turn_away()?;
    Ok(child)
}

/// This object is what `worker` is joined through.
pub fn register(handle: Obj<'_>, worker: Worker) {
    let kept = (worker, handle.own());
    let old = with(|c| c.handles.insert(handle.address(), kept));
    drop(old);
}

/// What a started worker is to run.
pub fn task(worker: Worker) -> Option<Task> {
    with(|children| children.tasks.remove(&worker))
}

/// Was this worker started as a thread by another one?
pub fn is_thread(worker: Worker) -> bool {
    with(|children| worker >= children.own)
}

/// The worker that this handle joins.
pub fn by_handle(handle: Obj<'_>) -> Option<Worker> {
    with(|children| children.handles.get(&handle.address()).map(|(worker, _)| *worker))
}

/// The location that a thread's end writes and `is_alive` reads.
fn life(handle: Obj<'_>, kind: Kind) -> Accesses {
    session::with(|execution| {
        let loc = execution.locations.of(handle, Field::Whole, None);
        session::access(loc, kind)
    })
}

/// The last step of a thread with a handle.
pub fn end(handle: Obj<'_>) -> Result<()> {
    let accesses = life(handle, Kind::Write);
    session::step("thread.end", |_| accesses.clone()).map(drop)
}

/// Has the thread ended?
pub fn is_done(worker: Worker, handle: Obj<'_>) -> Result<bool> {
    if session::running().is_some() {
        let accesses = life(handle, Kind::Read);
        session::step("thread.is_done", |_| accesses.clone())?;
    }
    Ok(has_ended(worker))
}

fn has_ended(worker: Worker) -> bool {
    session::with(|execution| {
        execution.workers.get(worker as usize).is_none_or(|slot| slot.status == Status::Done)
    })
}

/// Waits for the end of a thread.
pub fn join(worker: Worker, handle: Obj<'_>, timeout: Option<f64>) -> Result<()> {
    if session::running() == Some(worker) {
        return Err(error::runtime_error("Cannot join current thread"));
    }
    if session::running().is_none() {
        return Ok(());
    }
    if timeout == Some(0.0) {
        return is_done(worker, handle).map(drop);
    }
    let wait = Wait::begin(true, timeout);
    let alive = life(handle, Kind::Read)[0];
    let timed_out = session::step("thread.join", |execution| match wait {
        // Never disabled, so no join: it looks whether the thread has ended.
        Wait::Open(_) => wait.accesses(execution, Some(alive), execution.is_over(worker)),
        _ => session::access(worker.into(), Kind::Join),
    })?;
    if timed_out {
        wait.time_out("thread.join", Some(alive));
    }
    Ok(())
}
