//! Tasks: workers that an event loop runs, in one fiber. The loop asks here which
//! of the callbacks that are ready comes next, and says which ones become ready.
//!
//! Who makes a callback ready happens before it. Callbacks that one block makes
//! ready run in that order, as `asyncio` promises; else the order is free.

use std::hash::BuildHasher;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::execution::{Cut, Status};
use super::session;
use crate::explore::{Family, Made};
use crate::interp::code::list_items;
use crate::interp::error::Result;
use crate::interp::futures;
use crate::interp::object::{Obj, Owned};
use crate::observe::calls::observe_hidden_call;
use crate::observe::location::Field;
use crate::trace::{Kind, Loc, Trait, Worker};

/// What the event loop shall do.
pub enum Next {
    /// Run this callback.
    Callback(Owned),
    /// Let time pass.
    Time,
    /// Nothing is ready.
    Nothing,
}

/// Who runs a callback.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    /// It is the next step of this task.
    Task(Obj<'a>),
    /// It is the timer that this worker set as its n-th.
    Timer(Worker, u32),
    /// It runs after the other callbacks of its kind.
    Queue,
}

/// A callback that is ready, or will be when those before it have run.
struct Ready {
    handle: Owned,
    worker: Worker,
    /// What has to be taken before it runs, if a block has made it ready.
    token: Option<Loc>,
    /// Its number, and that of the one that has to run before it.
    number: u32,
    after: Option<u32>,
    /// Can it be cancelled without its task?
    alone: bool,
}

/// The block that runs.
struct Running {
    number: u32,
    task: Option<Owned>,
    /// The last callback that it made ready, unless their order is free.
    last: Option<u32>,
}

/// The tasks and callbacks of an exploration.
#[derive(Default)]
pub struct Tasks {
    /// Who makes which tasks and timers.
    family: Family,
    /// How many workers the exploration has of its own.
    own: Worker,
    /// The tasks of this execution, by address.
    tasks: FxHashMap<usize, (Worker, Owned)>,
    ready: Vec<Ready>,
    made: u32,
    /// How many callbacks of each worker became ready.
    handles: FxHashMap<Worker, u32>,
    running: Option<Running>,
    /// What each worker's task waits for.
    waits: FxHashMap<Worker, Loc>,
    /// The queue of callbacks that belong to no task.
    queue: Option<Loc>,
}

fn with<T>(work: impl FnOnce(&mut Tasks) -> T) -> T {
    work(&mut session::current().tasks.borrow_mut())
}

/// A new exploration with so many workers of its own.
pub fn begin_exploration(workers: usize) {
    let own = workers as Worker;
    let family = Family::new(own + 2);
    drop(with(|tasks| std::mem::replace(tasks, Tasks { own, family, ..Tasks::default() })));
}

/// See [`Family::renumber`].
pub fn renumber() -> Option<impl Fn(Worker) -> Worker> {
    with(|tasks| tasks.family.renumber())
}

impl Tasks {
    /// The worker that lets time pass.
    fn clock(&self) -> Worker {
        self.own
    }

    /// The worker that runs the callbacks that belong to no task.
    fn queue(&self) -> Worker {
        self.own + 1
    }

    /// The worker of a task. New ones are children of the worker that makes them;
    /// before the first block come the exploration's own, then those that setup left.
    fn adopt(&mut self, task: Obj<'_>, parent: Option<Worker>) -> Worker {
        if let Some((worker, _)) = self.tasks.get(&task.address()) {
            return *worker;
        }
        let own = self.tasks.len() as Worker;
        let worker = match parent {
            None if own < self.own => own,
            _ => {
                let parent = parent.unwrap_or(self.clock());
                let nth = self.family.count(parent, Made::Worker);
                self.family.index(parent, Made::Worker, nth)
            }
        };
        self.tasks.insert(task.address(), (worker, task.own()));
        worker
    }

    /// Is nobody before this callback, that has to be?
    fn is_free(&self, ready: &Ready) -> bool {
        let before = |other: &Ready| {
            Some(other.number) == ready.after
                || (ready.worker == other.worker && other.number < ready.number)
        };
        !self.ready.iter().any(before)
    }
}

/// A new execution. What the last one has left is handed out, to be dropped where
/// finalisers may run.
#[must_use]
pub fn begin_execution() -> Vec<Owned> {
    with(|tasks| {
        tasks.family.begin_execution();
        tasks.waits.clear();
        tasks.handles.clear();
        tasks.queue = None;
        tasks.made = 0;
        let mut left: Vec<Owned> = tasks.tasks.drain().map(|(_, (_, task))| task).collect();
        left.extend(tasks.ready.drain(..).map(|ready| ready.handle));
        left.extend(tasks.running.take().and_then(|running| running.task));
        left
    })
}

/// Numbers a timer that the running block sets, or setup has set.
pub fn timer() -> (Worker, u32) {
    with(|tasks| {
        let current = session::running().filter(|_| tasks.running.is_some());
        let worker = current.unwrap_or(tasks.clock());
        (worker, tasks.family.count(worker, Made::Timer))
    })
}

/// Makes a task known before the first block.
pub fn adopt(task: Obj<'_>) -> Worker {
    with(|tasks| tasks.adopt(task, None))
}

/// A callback becomes ready. Returns whose it is.
pub fn make_ready(handle: Obj<'_>, owner: Owner<'_>, queue: Obj<'_>) -> Worker {
    let current = session::running().unwrap_or_default();
    with(|tasks| {
        session::with(|execution| {
            let in_block = tasks.running.is_some();
            let worker = match owner {
                Owner::Queue => tasks.queue(),
                Owner::Timer(parent, n) => tasks.family.index(parent, Made::Timer, n),
                Owner::Task(task) => tasks.adopt(task, in_block.then_some(current)),
            };
            if execution.workers.len() <= worker as usize {
                execution.add_worker_at(worker, false);
            }
            let (number, is_time) = (tasks.made, current == tasks.clock());
            tasks.made += 1;
            let (mut token, mut after) = (None, None);
            if let Some(running) = &mut tasks.running {
                let nth = tasks.handles.entry(worker).or_default();
                *nth += 1;
                // Which callback of the queue is the n-th one depends on the schedule.
                let part = match owner {
                    Owner::Queue => 0,
                    _ => FxBuildHasher.hash_one(("ready", *nth)) | 1,
                };
                let object = FxBuildHasher.hash_one(("worker", worker)) | 1;
                let loc = execution.locations.fresh(handle, Trait { object, part });
                execution.trace.set_tokens(loc, 0);
                token = Some(loc);
                if !is_time {
                    after = running.last.replace(number);
                }
                let wait = tasks.waits.remove(&worker);
                let queue_loc = matches!(owner, Owner::Queue)
                    .then(|| execution.locations.of(queue, Field::Whole, None));
                if let Some(blocks) = &mut execution.blocks {
                    [wait, queue_loc]
                        .iter()
                        .flatten()
                        .for_each(|loc| blocks.touch(*loc, Kind::Write));
                    if after.is_none() {
                        blocks.token(loc, Kind::Release);
                    }
                }
            }
            let alone = !matches!(owner, Owner::Task(_));
            let ready = Ready { handle: handle.own(), worker, token, number, after, alone };
            tasks.ready.push(ready);
            worker
        })
    })
}

/// Takes in what the event loop returns: None, True if tasks wait for good, or a
/// worker and its exception.
pub fn note_end(end: Obj<'_>, ends: &mut Vec<(Worker, Owned)>) {
    if end.is_none() {
        return;
    }
    let parts: Vec<Obj<'_>> = list_items(end).collect();
    match parts[..] {
        [worker, exception] => {
            ends.push((worker.as_i64().unwrap_or(0) as Worker, exception.own()));
        }
        _ => session::with(|execution| {
            execution.cut.get_or_insert(Cut::Deadlock);
        }),
    }
}

/// Notes that a callback is cancelled, or asked whether it is.
pub fn touch_handle(handle: Obj<'_>, kind: Kind) {
    session::with(|execution| {
        let loc = execution.locations.of(handle, Field::Unknown, None);
        if let Some(blocks) = &mut execution.blocks {
            blocks.touch(loc, kind);
        }
    });
}

/// The running block is over, and somebody decides which one is next. `can_wait`:
/// time may pass if nobody is ready.
pub fn next(can_wait: bool) -> Result<Next> {
    end_block()?;
    session::poll_signals();
    loop {
        let ready = with(|tasks| {
            session::with(|execution| {
                let unfinished = execution.workers.iter_mut();
                unfinished
                    .filter(|slot| slot.status != Status::Absent)
                    .for_each(|slot| slot.status = Status::Waiting);
                for ready in tasks.ready.iter().filter(|ready| tasks.is_free(ready)) {
                    let slot = &mut execution.workers[ready.worker as usize];
                    slot.status = Status::Paused;
                    slot.pending.clear();
                }
                if !tasks.ready.is_empty() {
                    return true;
                }
                if can_wait {
                    execution.add_worker_at(tasks.clock(), false);
                    execution.workers[tasks.clock() as usize].status = Status::Paused;
                }
                can_wait
            })
        });
        if !ready {
            return Ok(Next::Nothing);
        }
        if !session::with(|execution| execution.goes_on()) {
            session::give_turn_away()?;
            continue_after_decision();
        }
        if let Some(next) = begin_block() {
            return Ok(next);
        }
    }
}

/// The decision that was made is the first block of its budget.
fn continue_after_decision() {
    session::with(|execution| {
        if let Some(blocks) = &mut execution.blocks {
            blocks.budget = blocks.budget.saturating_sub(1);
        }
    });
}

/// Begins the block of whoever was chosen.
fn begin_block() -> Option<Next> {
    with(|tasks| {
        session::with(|execution| {
            let worker = execution.current()?;
            if worker == tasks.clock() {
                let blocks = execution.blocks.as_mut()?;
                blocks.open();
                blocks.touch(0, Kind::Advance);
                tasks.running = Some(Running { number: u32::MAX, task: None, last: None });
                return Some(Next::Time);
            }
            let at = tasks.ready.iter().position(|r| r.worker == worker && tasks.is_free(r))?;
            let ready = tasks.ready.remove(at);
            let cancelled = ready
                .alone
                .then(|| execution.locations.of(ready.handle.borrow(), Field::Unknown, None));
            let mut touches = vec![];
            let callback = ready.alone.then(|| futures::callback_of(ready.handle.borrow()));
            if let Some(Some(callback)) = &callback {
                observe_hidden_call(callback.borrow(), &mut touches);
            }
            let hidden: Vec<(Loc, Kind)> =
                touches.iter().map(|t| (execution.locations.number(t), t.kind)).collect();
            drop(touches);
            let task = tasks.tasks.values().find(|(of, _)| !ready.alone && *of == worker);
            let task = task.map(|(_, task)| task.clone());
            // Whether it is cancelled it reads; what it waits for it changes.
            let of_task = |field| task.as_ref().map(|task| (task.borrow(), field));
            let state = of_task(Field::Whole).map(|(t, f)| execution.locations.of(t, f, None));
            let steps = of_task(Field::Structure).map(|(t, f)| execution.locations.of(t, f, None));
            let blocks = execution.blocks.as_mut()?;
            blocks.open();
            if let Some(token) = ready.token {
                blocks.token(token, Kind::Acquire);
            }
            cancelled.iter().chain(&state).for_each(|loc| blocks.touch(*loc, Kind::Read));
            steps.iter().for_each(|loc| blocks.touch(*loc, Kind::Write));
            hidden.iter().for_each(|(loc, kind)| blocks.touch(*loc, *kind));
            tasks.running = Some(Running { number: ready.number, task, last: None });
            Some(Next::Callback(ready.handle))
        })
    })
}

/// Ends the block that runs, if one does.
fn end_block() -> Result<()> {
    let Some(running) = with(|tasks| tasks.running.take()) else { return Ok(()) };
    let current = session::running().unwrap_or_default();
    let (mut ended, mut waits_for) = (false, None);
    if let Some(task) = &running.task {
        (ended, waits_for) = futures::state_of(task.borrow())?;
    }
    with(|tasks| {
        session::with(|execution| {
            let task = running.task.as_ref().filter(|_| ended);
            let own = task.map(|task| execution.locations.of(task.borrow(), Field::Whole, None));
            let wait =
                waits_for.map(|future| execution.locations.of(future.borrow(), Field::Whole, None));
            if let Some(wait) = wait {
                tasks.waits.insert(current, wait);
            }
            let Some(blocks) = execution.blocks.as_mut() else { return };
            own.iter().chain(&wait).for_each(|loc| blocks.touch(*loc, Kind::Write));
            for next in &mut tasks.ready {
                if next.after == Some(running.number) {
                    next.after = None;
                    next.token.into_iter().for_each(|loc| blocks.token(loc, Kind::Release));
                }
            }
            if let Some((site, accesses)) = blocks.close() {
                execution.end_block(&accesses, site);
            }
        });
    });
    Ok(())
}
