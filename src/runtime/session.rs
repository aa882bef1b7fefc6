//! The session of a carrier: what the interpreter's callbacks talk to while
//! workers run.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::execution::{Accesses, Chain, Cut, Execution, Resource, Site, Sort, Turn};
use super::locations::Locations;
use super::time::Wait;
use crate::interp::code::{self, Code, Instruction};
use crate::interp::error::{self, Raised, Result};
use crate::interp::frame::Frame;
use crate::interp::object::Obj;
use crate::interp::thread_state::ThreadState;
use crate::interp::{os_thread, primitives, seat, threads, tracer};
use crate::observe::instruction::observe;
use crate::observe::location::{Field, Sink, Touch};
use crate::trace::{Access, Kind, Loc, Trace, Worker};

/// What the caller's thread and the carrier tell each other.
#[derive(Debug, Default)]
pub struct Signals {
    /// Grows whenever a worker reaches a scheduling point.
    pub progress: AtomicU64,
    /// Set by the caller: give up (a [`Cut`], plus one).
    pub interrupt: AtomicU8,
    /// Is a worker running (and not setup or invariant)?
    pub in_worker: AtomicU8,
    /// Identity of the worker that runs.
    pub identity: AtomicUsize,
    /// Index of the worker that runs.
    pub worker: AtomicUsize,
    /// Is it a thread that another worker has started?
    pub in_thread: AtomicBool,
    /// Identity of the worker in which the caller has raised last.
    pub raised: AtomicUsize,
    /// How many other workers have not ended.
    pub others: AtomicUsize,
    /// What a worker did that a fiber cannot do.
    pub needs_threads: Mutex<Option<&'static str>>,
    /// Number of the execution that runs.
    pub execution: AtomicU64,
    /// Where a worker was found stuck.
    pub stuck_at: Mutex<Option<String>>,
}

impl Signals {
    /// Asks the carrier to give the current execution up.
    pub fn interrupt(&self, cut: Cut) {
        let code = match cut {
            Cut::Stuck => 1,
            Cut::RunTime => 2,
            _ => 3,
        };
        self.interrupt.store(code, Ordering::Relaxed);
    }

    /// A new execution: what was asked of the last one does not concern it.
    pub fn begin_execution(&self) {
        self.execution.fetch_add(1, Ordering::Relaxed);
        for code in [1, 2] {
            let _ = self.interrupt.compare_exchange(code, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Why the caller has asked to give up, if it has.
    pub fn asked(&self) -> Option<Cut> {
        match self.interrupt.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Cut::Stuck),
            2 => Some(Cut::RunTime),
            _ => Some(Cut::Interrupted),
        }
    }
}

/// After so many attempts to end it, a worker is left where it is.
const MOST_KILLS: u32 = 50;

/// So many instructions a killed worker may take to clean up, before it is raised at
/// again.
const MOST_TOLERATED: u32 = 4096;

/// What is known of an exploration while it runs. It belongs to a carrier; the OS
/// threads that run its workers share it, and whose turn it is uses it.
#[derive(Default)]
pub struct Session {
    execution: RefCell<Execution>,
    running: Cell<Option<Worker>>,
    roles: RefCell<rustc_hash::FxHashMap<u32, Role>>,
    kills: Cell<u32>,
    tolerated: Cell<u32>,
    events: Cell<u32>,
    signals: RefCell<Arc<Signals>>,
    pub(super) children: RefCell<super::threads::Children>,
    pub(super) tasks: RefCell<super::tasks::Tasks>,
    pub(super) time: super::time::Readings,
    pub(super) resources: super::resources::Resources,
}

thread_local! {
    static SESSION: Cell<Option<&'static Session>> = const { Cell::new(None) };
}

/// The session that this OS thread takes part in: a new one at first use.
#[inline]
pub fn current() -> &'static Session {
    SESSION.get().unwrap_or_else(|| {
        let session: &'static Session = Box::leak(Box::default());
        SESSION.set(Some(session));
        session
    })
}

/// From now on this OS thread takes part in that session, or in none; gives the one
/// before.
pub fn take_part(session: Option<&'static Session>) -> Option<&'static Session> {
    SESSION.replace(session)
}

/// The worker whose code runs on this OS thread now, if any.
#[inline]
pub fn running() -> Option<Worker> {
    Some(at_work()?.1)
}

/// That worker and its session.
#[inline]
pub fn at_work() -> Option<(&'static Session, Worker)> {
    os_thread::await_turn();
    let session = SESSION.get()?;
    Some((session, session.running.get()?))
}

/// Notes which worker's code runs from now on.
pub fn set_running(worker: Option<Worker>) {
    current().running.set(worker);
    current().kills.set(0);
    current().tolerated.set(0);
}

/// The code of the worker that runs has ended: the caller shall raise nothing in it.
pub fn end_worker() {
    current().signals.borrow().in_worker.store(0, Ordering::Relaxed);
}

/// Connects the session to the caller that waits for it.
pub fn set_signals(signals: Arc<Signals>) {
    current().signals.replace(signals);
}

/// What connects the session to the caller.
pub fn signals() -> Arc<Signals> {
    current().signals.borrow().clone()
}

/// The execution of this OS thread.
pub fn with<T>(work: impl FnOnce(&mut Execution) -> T) -> T {
    work(&mut current().execution.borrow_mut())
}

/// Is the execution not in use right now, by ourselves?
pub fn is_free() -> bool {
    current().execution.try_borrow_mut().is_ok()
}

/// Drafts the accesses of one instruction as they are told.
struct Recorder<'a, 'e> {
    locations: &'e mut Locations,
    trace: &'e mut Trace,
    /// What is read and written, where that is asked for.
    values: Option<Vec<Option<Obj<'a>>>>,
}

impl<'a> Sink<'a> for Recorder<'a, '_> {
    #[inline]
    fn touch(&mut self, touch: Touch<'a>) {
        let loc = self.locations.number(&touch);
        self.trace.draft(Access { loc, kind: touch.kind });
        if let Some(values) = &mut self.values {
            values.push(touch.value);
        }
    }
}

/// An instruction of traced code of the worker that runs, [`at_work`], is about to be
/// done. An error means: raise.
#[inline]
pub fn instruction<'a>(
    (session, worker): (&Session, Worker),
    instruction: Instruction,
    code: Code<'a>,
    frame: Frame<'a>,
    site: impl Fn() -> Site,
) -> Result<()> {
    loop {
        let turn = {
            // Taken already: a finaliser runs while the tables are in use.
            let Ok(mut execution) = session.execution.try_borrow_mut() else { return Ok(()) };
            let Execution { locations, trace, values, .. } = &mut *execution;
            let values = values.as_ref().map(|_| vec![]);
            let mut told = Recorder { locations, trace, values };
            observe(instruction, code, frame, &mut told);
            if told.trace.drafted().is_empty() && !tracer::every_instruction() {
                return Ok(());
            }
            let values = told.values;
            if execution.workers[worker as usize].killed {
                execution.trace.discard();
                None
            } else {
                let site = if execution.tells_blocks() { outer(site()) } else { site() };
                let turn = execution.before_instruction(site);
                if let (Turn::Go, Some(values)) = (turn, values) {
                    note_values(&mut execution, values, site);
                }
                Some(turn)
            }
        };
        match turn {
            Some(Turn::Go) => {
                let events = session.events.get().wrapping_add(1);
                session.events.set(events);
                if events % 1024 == 0 {
                    poll_signals();
                }
                return Ok(());
            }
            Some(Turn::Wait) => give_turn_away()?,
            None => return tolerate_or_kill(),
        }
    }
}

/// The same inside of a function of the standard library: what happens is told of the
/// line that called it.
#[cold]
pub fn inner_instruction<'a>(
    at_work: (&Session, Worker),
    inner: Instruction,
    code: Code<'a>,
    frame: Frame<'a>,
    site: impl Fn() -> Site,
) -> Result<()> {
    if is_bookkeeping() {
        return Ok(());
    }
    instruction(at_work, inner, code, frame, || outer(site()))
}

/// Keeps the values of an event, and who called its function.
#[cold]
fn note_values(execution: &mut Execution, values: Vec<Option<Obj<'_>>>, site: Site) {
    let Some(all) = &mut execution.values else { return };
    let at = all.len();
    all.extend(values.into_iter().map(|value| value.map(Obj::safe_repr)));
    execution.chains.insert(at, chain_at(site));
}

/// What led to the function of a site, and from there to what runs now.
#[cold]
fn chain_at(site: Site) -> Chain {
    let mut chain = Chain::default();
    let mut passed = false;
    for (code, _) in crate::interp::frame::stack().take(64) {
        let Some(table) = code.table() else { continue };
        let id = table.id;
        match passed {
            false if id == site.code => passed = true,
            false => {
                code::remember(code, id);
                chain.libraries.push(id);
            }
            true if table.is_users() && chain.callers.len() < Chain::CALLERS => {
                code::remember(code, id);
                chain.callers.push(id);
            }
            true => {}
        }
    }
    chain
}

/// A killed worker may clean up; one that goes on and on is raised at again.
fn tolerate_or_kill() -> Result<()> {
    let tolerated = current().tolerated.get() + 1;
    current().tolerated.set(tolerated);
    if tolerated == MOST_TOLERATED { Err(kill()) } else { Ok(()) }
}

/// Gives the turn away, until the worker is resumed.
pub fn give_turn_away() -> Result<()> {
    let Some(worker) = running() else { return Ok(()) };
    if with(|execution| execution.blocks.is_some() && execution.workers[worker as usize].timed_out)
    {
        return Ok(());
    }
    if notice_end(worker) {
        return Ok(());
    }
    seat::suspend();
    if with(|execution| execution.workers[worker as usize].killed) { Err(kill()) } else { Ok(()) }
}

/// Has the caller's thread just raised in the running worker? Then it is being unwound:
/// it shall not be raised at once more before it has cleaned up.
fn notice_end(worker: Worker) -> bool {
    let state = ThreadState::current();
    let raised = current().signals.borrow().raised.load(Ordering::Relaxed);
    if raised != state.identity() || state.is_to_raise() {
        return false;
    }
    current().signals.borrow().raised.store(0, Ordering::Relaxed);
    poll_signals();
    with(|execution| execution.workers[worker as usize].killed = true);
    true
}

/// Raises the exception that unwinds an abandoned worker.
fn kill() -> Raised {
    // What else was to be raised in it would only disturb its clean-up.
    ThreadState::current().withdraw_exceptions();
    let kills = current().kills.get() + 1;
    current().kills.set(kills);
    current().tolerated.set(0);
    if kills > MOST_KILLS {
        // It swallows every exception: leave it where it is, for good.
        with(|execution| {
            if let Some(worker) = execution.current() {
                execution.finish(worker);
            }
        });
        seat::suspend();
    }
    match running() {
        // `threading` reports every exception that ends a thread but this one.
        Some(worker) if super::threads::is_thread(worker) => error::system_exit(),
        _ => error::abandoned(),
    }
}

/// Does the code that runs now belong to the bookkeeping of `threading` (start,
/// bootstrap, join, current_thread)? Its locks are held for a few instructions
/// that never give the turn away: they order nothing that matters.
pub fn is_bookkeeping() -> bool {
    for (code, _) in crate::interp::frame::stack() {
        match role(code) {
            Role::Bookkeeping => return true,
            Role::Other => return false,
            Role::Primitive | Role::Wait => {}
        }
    }
    false
}

/// Is it `Condition.wait` that acquires a lock now? It waits for one that it has taken
/// itself, and that a notification releases.
fn is_for_notification() -> bool {
    crate::interp::frame::stack().next().is_some_and(|(code, _)| role(code) == Role::Wait)
}

fn role(code: Code<'_>) -> Role {
    let Some(table) = code.table() else { return Role::Other };
    *current().roles.borrow_mut().entry(table.id).or_insert_with(|| Role::of(code))
}

/// What a function of `threading.py` is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Keeping account of threads.
    Bookkeeping,
    /// A Condition, an Event: theirs is the role of their caller.
    Primitive,
    /// `Condition.wait`, which is one of them.
    Wait,
    /// Not in that file, or the body of a thread.
    Other,
}

impl Role {
    fn of(code: Code<'_>) -> Role {
        const BOOKKEEPING: &[&str] = &[
            "start",
            "join",
            "is_alive",
            "current_thread",
            "enumerate",
            "active_count",
            "_bootstrap",
            "_bootstrap_inner",
            "_set_tstate_lock",
            "_wait_for_tstate_lock",
            "_stop",
            "_delete",
            "_maintain_shutdown_locks",
            // Of what notices that a thread without a `Thread` ends (3.13+).
            "__del__",
        ];
        if !code.filename().ends_with("/threading.py") || is_traced(code) {
            return Role::Other;
        }
        match code.plain_name().as_str() {
            "run" => Role::Other,
            name if BOOKKEEPING.contains(&name) => Role::Bookkeeping,
            _ if code.qualified_name() == "Condition.wait" => Role::Wait,
            _ => Role::Primitive,
        }
    }
}

/// A visible step of the running worker that is not an instruction: an
/// intercepted primitive. `accesses` says what it would do now; it is asked
/// again after each wait. `Ok(true)`: the step's wait has timed out.
pub fn step(
    what: &'static str,
    mut accesses: impl FnMut(&mut Execution) -> Accesses,
) -> Result<bool> {
    let Some(worker) = running() else { return Ok(false) };
    let mut site = caller(what);
    let (is_told, is_block) = with(|e| (e.values.is_some(), e.tells_blocks()));
    if is_block {
        site = outer(site);
    }
    let chain = is_told.then(|| chain_at(site));
    loop {
        let turn = with(|execution| {
            let before = execution.values.as_ref().map_or(0, Vec::len);
            let slot = &mut execution.workers[worker as usize];
            if slot.killed {
                return None;
            }
            if let Some(chain) = &chain {
                slot.within.clone_from(&chain.libraries);
            }
            let timed_out = std::mem::take(&mut slot.timed_out);
            let now = accesses(execution);
            if timed_out && !execution.is_possible(&now) {
                execution.end_wait(worker);
                return Some((Turn::Go, true));
            }
            // Whoever waits lets the others run; most such calls let go of a GIL, too.
            execution.workers[worker as usize].may_switch = true;
            let turn = execution.before_step(&now, site);
            if turn == Turn::Go {
                if let Some(chain) = &chain {
                    execution.chains.insert(before, chain.clone());
                }
                execution.workers[worker as usize].may_switch = true;
                execution.end_wait(worker);
            }
            Some((turn, false))
        });
        match turn {
            Some((Turn::Go, timed_out)) => return Ok(timed_out),
            Some((Turn::Wait, _)) => {
                let for_notification = is_for_notification();
                with(|execution| {
                    execution.workers[worker as usize].for_notification = for_notification;
                });
                give_turn_away()?;
            }
            None => return Err(kill()),
        }
    }
}

/// Takes one entry of a schedule of instructions, for a worker that wants to be
/// scheduled here. False: the schedule is used up, or there is none.
pub fn take_turn() -> Result<bool> {
    let Some(worker) = running().filter(|_| tracer::every_instruction()) else { return Ok(false) };
    let site = caller("turn");
    loop {
        let turn = with(|execution| {
            let killed = execution.workers[worker as usize].killed;
            (!killed).then(|| (execution.before_event(&[], site), execution.is_planned()))
        });
        match turn {
            Some((Turn::Go, planned)) => return Ok(planned),
            Some((Turn::Wait, _)) => give_turn_away()?,
            None => return Err(kill()),
        }
    }
}

/// An interpreter with a GIL could go to another thread here.
pub fn note_switch_point() {
    let session = current();
    let Some(worker) = session.running.get() else { return };
    if let Ok(mut execution) = session.execution.try_borrow_mut() {
        execution.workers[worker as usize].may_switch = true;
    }
}

/// Records a step that happens without being chosen: the end of a timed wait.
pub fn record(what: &'static str, accesses: &[Access]) {
    let site = caller(what);
    note_switch_point();
    with(|execution| {
        if execution.blocks.is_none() {
            execution.record_unasked(accesses, site);
        }
    });
    note_switch_point();
}

/// Is this worker a thread that is being unwound?
pub fn ends_thread(worker: Worker) -> bool {
    super::threads::is_thread(worker) && with(|execution| execution.workers[worker as usize].killed)
}

/// The running worker was ended by us. Its execution is not to be judged, unless
/// it is over for another reason already.
pub fn note_abandoned() {
    if running().is_none() {
        return;
    }
    poll_signals();
    with(|execution| {
        execution.cut.get_or_insert(Cut::Stuck);
    });
}

/// Is the running worker being unwound?
pub fn is_killed() -> bool {
    running().is_some_and(|worker| {
        notice_end(worker) || with(|execution| execution.workers[worker as usize].killed)
    })
}

/// Is the running worker a thread that another one has started, and being unwound?
pub fn is_thread_killed() -> bool {
    is_killed() && running().is_some_and(super::threads::is_thread)
}

/// The number of the location that stands for an object as a whole.
pub fn whole(execution: &mut Execution, object: Obj<'_>) -> Loc {
    execution.locations.of(object, Field::Whole, None)
}

/// How many tokens a resource has in reality.
fn real_tokens(sort: Sort, object: Obj<'_>) -> u32 {
    match sort {
        Sort::Lock(kind) => !primitives::locks::is_locked(kind, object) as u32,
        Sort::Queue => primitives::queues::len(object),
        Sort::Other => 0,
    }
}

/// Makes a resource known when it is met for the first time, with the tokens that
/// it has then.
pub fn resource(execution: &mut Execution, loc: Loc, tokens: impl FnOnce() -> u32) {
    if !execution.resources.contains_key(&loc) {
        execution.correct(loc, Sort::Other, tokens());
    }
}

/// The location of a lock or a queue, which is looked at: it may be new, or may have
/// been changed by somebody who is not a worker.
pub fn look_at(execution: &mut Execution, sort: Sort, object: Obj<'_>) -> Loc {
    let loc = whole(execution, object);
    execution.correct(loc, sort, real_tokens(sort, object));
    loc
}

/// The part of somebody who is not a worker in that nobody can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// He has just given what a worker waits for.
    Done,
    /// It is his turn: a worker has woken him, or waits for what no worker holds.
    Due,
    /// There is an item that he may take.
    Open,
    /// None.
    None,
}

/// Looks at what the workers wait for, and what they have left to others.
pub fn part_of_others() -> Part {
    with(|execution| {
        let real = |execution: &Execution, loc, sort| {
            let place = execution.locations.place(loc);
            place.map_or(0, |place| real_tokens(sort, place.object.borrow()))
        };
        let waits: SmallVec<[(Worker, Loc, Resource); 4]> =
            execution.waits().filter(|(_, _, resource)| resource.sort != Sort::Other).collect();
        for &(_, loc, resource) in &waits {
            let tokens = real(execution, loc, resource.sort);
            execution.correct(loc, resource.sort, tokens);
            if tokens > 0 {
                return Part::Done;
            }
        }
        let queues = || execution.resources.iter().filter(|(_, r)| r.sort == Sort::Queue);
        let unheld = |r: &Resource| matches!(r.sort, Sort::Lock(_)) && r.holder.is_none();
        if execution.released_others
            || waits.iter().any(|(_, _, resource)| unheld(resource))
            || queues().any(|(loc, queue)| real(execution, *loc, Sort::Queue) < queue.tokens)
        {
            Part::Due
        } else if queues().any(|(_, queue)| queue.tokens > 0) {
            Part::Open
        } else {
            Part::None
        }
    })
}

/// The step that takes a token of the resource that `locate` finds. False: there
/// was none, or not in time.
pub fn take_token(
    what: &'static str,
    wait: Wait,
    locate: impl Fn(&mut Execution) -> Loc,
) -> Result<bool> {
    let mut can = true;
    let timed_out = step(what, |execution| {
        let loc = locate(execution);
        let free = execution.resources[&loc].tokens > 0;
        can = free || wait != Wait::No;
        let kind = match wait {
            Wait::No if !free => Kind::Miss,
            Wait::No => Kind::TryAcquire,
            // One that can be had now is had: it is disabled only as long as it waits.
            Wait::Open(_) if free => Kind::TryAcquire,
            _ => Kind::Acquire,
        };
        wait.accesses(execution, Some(Access { loc, kind }), true)
    })?;
    if timed_out {
        let loc = with(|execution| locate(execution));
        wait.time_out(what, Some(Access { loc, kind: Kind::Miss }));
    }
    Ok(can && !timed_out)
}

/// One access.
pub fn access(loc: Loc, kind: Kind) -> Accesses {
    SmallVec::from_slice(&[Access { loc, kind }])
}

/// Where the innermost traced frame stands; else the innermost one.
fn caller(what: &'static str) -> Site {
    let mut innermost = None;
    for (code, offset) in crate::interp::frame::stack().take(64) {
        let Some(table) = code.table() else { continue };
        let site = Site { code: table.id, offset: offset as u32, what };
        code::remember(code, table.id);
        if table.is_users() {
            return site;
        }
        innermost.get_or_insert(site);
    }
    innermost.unwrap_or(Site { code: u32::MAX, offset: 0, what })
}

/// Has the caller asked to end the exploration?
pub fn is_interrupted() -> bool {
    current().signals.borrow().asked() == Some(Cut::Interrupted)
}

/// The running worker is about to do what a fiber cannot do: ends the exploration.
pub fn need_threads(what: &'static str) {
    let place = threads::place_of(ThreadState::current().identity());
    let signals = signals();
    signals.needs_threads.lock().get_or_insert(what);
    signals.stuck_at.lock().get_or_insert_with(|| place.unwrap_or_default());
    signals.interrupt(Cut::Interrupted);
    poll_signals();
}

/// Where the innermost frame of the user's own stands, if the instruction is a
/// library's; `what` is then the function of the library that is innermost.
fn outer(site: Site) -> Site {
    let mut what = None;
    for (code, offset) in crate::interp::frame::stack().take(64) {
        if !FILES.lock().is_library(&code.filename()) {
            let (Some(table), Some(what)) = (code.table(), what) else { return site };
            code::remember(code, table.id);
            return Site { code: table.id, offset: offset as u32, what };
        }
        what.get_or_insert_with(|| name_of_ever(code));
    }
    what.map_or(site, |what| Site { what, ..site })
}

/// The name of a function, which has a dot in it, kept for as long as the process lives.
fn name_of_ever(code: Code<'_>) -> &'static str {
    thread_local! {
        static NAMES: RefCell<rustc_hash::FxHashSet<&'static str>> = RefCell::default();
    }
    let mut name = code.qualified_name();
    if !name.contains('.') {
        // A dot tells a function of a library from an instruction.
        name = format!("{}.{name}", module_name(&code.filename()));
    }
    NAMES.with_borrow_mut(|names| match names.get(name.as_str()) {
        Some(known) => *known,
        None => {
            let name: &'static str = Box::leak(name.into_boxed_str());
            names.insert(name);
            name
        }
    })
}

fn module_name(filename: &str) -> &str {
    let file = filename.rsplit('/').next().unwrap_or(filename);
    file.strip_suffix(".py").unwrap_or(file)
}

/// Called at each turn and every so many events: has the caller asked to stop?
pub fn poll_signals() {
    let signals = current().signals.borrow();
    signals.progress.fetch_add(1, Ordering::Relaxed);
    if let Some(cut) = signals.asked() {
        with(|execution| {
            execution.cut.get_or_insert(cut);
        });
    }
}

static FILES: Mutex<Files> =
    Mutex::new(Files { excluded: vec![], packages: vec![], only: None, inner: false });

/// Which files are traced.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Files {
    /// Directories whose files are not (the standard library, site-packages,
    /// frontrun itself).
    pub excluded: Vec<String>,
    /// Patterns of dotted module names that are traced all the same.
    pub packages: Vec<String>,
    /// Patterns of paths: where there are any, nothing else counts.
    pub only: Option<Vec<String>>,
    /// Are the [`INNER`] functions traced?
    pub inner: bool,
}

/// Functions of the standard library that read or write without a lock what their
/// callers share, or that call what they were given: module and qualified name.
const INNER: &[(&str, &str, Inner)] = &[
    ("concurrent.futures.thread", "WorkerContext.run", Inner::Calls),
    ("concurrent.futures.thread", "_WorkItem.run", Inner::Calls),
    ("contextlib", "_BaseExitStack._create_cb_wrapper.<locals>._exit_wrapper", Inner::Calls),
    ("contextlib", "closing.__exit__", Inner::Calls),
    ("functools", "cached_property.__get__", Inner::All),
    ("os", "getenv", Inner::Calls),
    ("threading", "Event.clear", Inner::All),
    ("threading", "Event.is_set", Inner::All),
    ("threading", "Event.set", Inner::All),
    ("threading", "Event.wait", Inner::All),
    ("threading", "Thread.run", Inner::Calls),
    ("threading", "Timer.run", Inner::Calls),
    ("weakref", "finalize.__call__", Inner::Calls),
];

/// What is observed of code that is traced although its file is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// All of it.
    All,
    /// What it calls.
    Calls,
}

impl Files {
    fn is_library(&self, name: &str) -> bool {
        self.excluded.iter().any(|root| name.starts_with(root.as_str()))
    }

    /// The dotted name of a library's module; a package's own ends with `__init__`.
    fn module(&self, name: &str) -> Option<String> {
        let roots = self.excluded.iter().filter(|root| name.starts_with(root.as_str()));
        let root = roots.max_by_key(|root| root.len())?;
        Some(name[root.len()..].trim_end_matches(".py").replace('/', "."))
    }

    fn is_traced(&self, name: &str) -> bool {
        if let Some(only) = &self.only {
            return only.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()));
        }
        let Some(module) = self.module(name) else { return true };
        // `package.*` means the package's own file, too.
        let names = [module.trim_end_matches(".__init__"), &module];
        let wanted = |pattern: &[u8]| names.iter().any(|name| matches(pattern, name.as_bytes()));
        self.packages.iter().any(|pattern| wanted(pattern.as_bytes()))
    }
}

/// Does `text` match a pattern of `fnmatch` with `*` and `?`?
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        Some((b'?', rest)) => !text.is_empty() && matches(rest, &text[1..]),
        Some((byte, rest)) => text.first() == Some(byte) && matches(rest, &text[1..]),
    }
}

/// Is a file in one of the directories whose files are not traced?
pub fn is_excluded(name: &str) -> bool {
    let files = FILES.lock();
    files.excluded.iter().any(|root| name.starts_with(root.as_str()))
}

/// Selects the files to trace from now on.
pub fn select_files(files: Files) {
    let mut now = FILES.lock();
    if *now != files {
        *now = files;
        tracer::new_selection();
    }
}

/// How much of this code is traced although its file is not, if anything is.
pub fn inner(code: Code<'_>) -> Option<Inner> {
    let files = FILES.lock();
    let name = code.qualified_name();
    if !files.inner || !INNER.iter().any(|(_, known, _)| *known == name) {
        return None;
    }
    let file = code.filename();
    let module = match file.strip_prefix("<frozen ") {
        Some(frozen) => Some(frozen.trim_end_matches('>').to_owned()),
        None => files.module(&file).filter(|_| !files.is_traced(&file)),
    };
    let known = INNER
        .iter()
        .find(|(known, function, _)| module.as_deref() == Some(*known) && *function == name);
    known.map(|(.., inner)| *inner)
}

/// Does this code belong to a traced file?
pub fn is_traced(code: Code<'_>) -> bool {
    let name = code.filename();
    if name.starts_with("<frozen") || name == "<__array_function__ internals>" {
        return false;
    }
    FILES.lock().is_traced(&name)
}
