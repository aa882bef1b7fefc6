//! The extension module `frontrun._native`: thin functions over the runtime.

use std::ffi::{CStr, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pyo3_ffi as ffi;

use super::capsule;
use super::code::{self, dict_items, list_items};
use super::error::{self, Raised, Result};
use super::exit;
use super::instead::Instead;
use super::object::{Obj, Owned};
use super::probe;
use super::seat::Carrier;
use super::thread_state::ThreadState;
use super::value::Value;
use crate::dpor::Order;
use crate::observe::calls;
use crate::runtime::carrier::{self, Watch};
use crate::runtime::execution::Cut;
use crate::runtime::exploration::{
    self, Blocked, Divergence, Failure, Job, Outcome, Search, Told, Violation,
};
use crate::runtime::label::{Deed, Label, kind_name};
use crate::runtime::recorder::{self, Recording};
use crate::runtime::script::Script;
use crate::runtime::session::{self, Files, Signals};
use crate::runtime::stats;
use crate::runtime::tasks::{self, Owner};
use crate::runtime::time::Mode;
use crate::strategy::{Pct, Portfolio, Pos, Random, Replay, Surw, Walk, random};
use crate::trace::{Kind, Worker};

/// The options of an exploration, as Python hands them over: a dict.
struct Options<'a>(Obj<'a>);

impl<'a> Options<'a> {
    fn get(&self, name: &str) -> Option<Obj<'a>> {
        dict_items(self.0)
            .find(|(key, _)| key.as_str().as_deref() == Some(name))
            .map(|(_, value)| value)
            .filter(|value| !value.is_none())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_i64().and_then(|value| u64::try_from(value).ok())
    }

    fn seconds(&self, name: &str) -> Result<Option<Duration>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let value = super::redirect::seconds(value)?;
        // Clocks overflow somewhere: nobody waits for ten years.
        const LONGEST: f64 = 10.0 * 365.0 * 86400.0;
        Ok(Some(Duration::from_secs_f64(value.clamp(0.0, LONGEST))))
    }

    fn truth(&self, name: &str) -> Result<bool> {
        self.get(name).map_or(Ok(false), super::redirect::is_true)
    }

    fn text(&self, name: &str) -> String {
        self.get(name).and_then(Obj::as_str).unwrap_or_default()
    }

    fn workers(&self, name: &str) -> impl Iterator<Item = Worker> {
        let numbers = self.get(name).into_iter().flat_map(list_items).filter_map(Obj::as_i64);
        numbers.filter_map(|number| Worker::try_from(number).ok())
    }

    fn strings(&self, name: &str) -> Vec<String> {
        self.get(name).into_iter().flat_map(list_items).filter_map(Obj::as_str).collect()
    }
}

/// `explore(setup, workers, invariant, options)`.
fn explore(arguments: &[Obj<'_>]) -> Result<Value> {
    let [setup, workers, invariant, options] = arguments else {
        return Err(error::runtime_error("explore takes four arguments"));
    };
    if error::is_finalizing() {
        return Err(error::runtime_error("the interpreter is ending: too late for an exploration"));
    }
    if exit::is_announced_to(ThreadState::current().identity()) {
        return Err(error::system_exit());
    }
    if session::running().is_some() || !BUSY.begin() {
        return Err(busy());
    }
    let options = Options(*options);
    let result = prepare().and_then(|()| {
        let _instead = instead(&options)?;
        explore_alone(*setup, *workers, *invariant, options)
    });
    BUSY.end();
    result
}

/// `end_explorations()`: the calling thread is about to end the interpreter. Waits until what
/// another thread explores has been ended, but not for a worker that cannot be.
fn end_explorations(_arguments: &[Obj<'_>]) -> Result<Value> {
    const MOST: Duration = Duration::from_secs(3);
    let own = ThreadState::detach();
    exit::announce(own.identity());
    let start = Instant::now();
    while BUSY.is_set() && !recorder::is_active() && start.elapsed() < MOST {
        std::thread::sleep(Duration::from_millis(1));
    }
    own.attach();
    Ok(Value::None)
}

/// What is another while an exploration runs.
fn instead(options: &Options<'_>) -> Result<Instead> {
    let mut instead = Instead::default();
    instead.report_less()?;
    if let Some(class) = options.get("dummy_thread") {
        instead.put(code::import(c"threading")?, c"_DummyThread", class.own())?;
    }
    Ok(instead)
}

fn busy() -> Raised {
    error::runtime_error(if recorder::is_active() {
        "accesses are being recorded in this process: explorations and recordings can neither be \
         nested nor run side by side in threads"
    } else {
        "an exploration runs already in this process: explorations can neither be nested \
         nor run side by side in threads"
    })
}

/// The process in which an exploration runs; 0 for none. A fork during one does
/// not go on with it.
struct Busy(AtomicU32);

impl Busy {
    fn begin(&self) -> bool {
        let process = std::process::id();
        self.0.swap(process, Ordering::Acquire) != process
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) == std::process::id()
    }

    fn end(&self) {
        self.0.store(0, Ordering::Release);
    }
}

static BUSY: Busy = Busy(AtomicU32::new(0));

fn explore_alone(
    setup: Obj<'_>,
    workers: Obj<'_>,
    invariant: Obj<'_>,
    options: Options<'_>,
) -> Result<Value> {
    let by_instruction = matches!(options.text("strategy").as_str(), "random" | "instructions");
    let job = Job {
        setup: setup.own(),
        workers: list_items(workers).map(Obj::own).collect(),
        invariant: invariant.own(),
        tasks: options.number("tasks").map(|count| count as usize),
        files: Files {
            excluded: options.strings("excluded"),
            packages: options.strings("trace_packages"),
            only: None,
            inner: !by_instruction,
        },
        carrier: match options.get("carrier").and_then(Obj::as_str).as_deref() {
            Some("threads") => Carrier::Threads,
            _ => Carrier::Fibers,
        },
        max_executions: options.number("max_executions"),
        max_events: options.number("max_branches").map_or(usize::MAX, |most| most as usize),
        patience: options.seconds("deadlock_timeout")?.unwrap_or(Duration::from_secs(5)),
        total_time: options.seconds("total_timeout")?,
        stop_on_first: options.truth("stop_on_first")?,
        time: match options.get("clock").and_then(Obj::as_str).as_deref() {
            Some("real") => Mode::Real,
            Some("explored") => {
                Mode::Explored { timeouts: options.number("max_timeouts").unwrap_or(0) as u32 }
            }
            _ => Mode::Virtual,
        },
        detect_io: options.truth("detect_io")?,
        on_progress: options.get("on_progress").map(Obj::own),
        reproductions: options.number("reproduce_on_failure").unwrap_or(0) as u32,
        // Tasks take turns at the same points with a GIL and without.
        with_gil: options.number("tasks").is_none()
            && options.get("granularity").and_then(Obj::as_str).as_deref() == Some("gil"),
        by_instruction,
        tells_events: options.truth("tells_events")?,
    };
    if job.tasks.is_some() {
        super::futures::learn()?;
    }
    let mut search = pick(&options, job.workers.len())?;
    let watch = Watch {
        run: options.seconds("timeout_per_run")?.unwrap_or(Duration::from_secs(5)),
        stuck_after: job.patience,
        total: job.total_time,
        falls_back: job.carrier == Carrier::Fibers && options.truth("may_fall_back")?,
    };
    let signals = Arc::new(Signals::default());
    let theirs = signals.clone();
    let done = carrier::run(&signals, watch, move |lent| {
        let outcome = exploration::explore(&job, &mut search, lent, &theirs);
        let told = match tell(outcome) {
            Ok(value) => value.into_object(),
            Err(Raised) => Err(Raised),
        };
        drop(job);
        super::futures::forget();
        code::forget_known();
        told.map_err(|Raised| error::take())
    });
    let done = match done {
        Ok(done) => done,
        Err(Raised) => {
            // The carrier may have been left behind before it removed its hooks.
            let raised = error::take();
            let stopped = super::tracer::stop();
            return Err(raised.map_or_else(|| stopped.err().unwrap_or(Raised), error::restore));
        }
    };
    let stuck_at = signals.stuck_at.lock().take();
    let worker = signals.worker.load(Ordering::Relaxed);
    let needs_threads = *signals.needs_threads.lock();
    let told = match done {
        Some(Ok(told)) => Value::Object(told),
        Some(Err(Some(exception))) => return Err(error::restore(exception)),
        Some(Err(None)) => {
            return Err(error::runtime_error("the exploration failed without a reason"));
        }
        None => {
            super::tracer::stop()?;
            Value::Dict(vec![
                ("executions", Value::Int(0)),
                match signals.asked() {
                    Some(Cut::RunTime) => ("inconclusive", "timeout_per_run".into()),
                    Some(Cut::Interrupted) => ("limit", "total_timeout".into()),
                    _ => ("inconclusive", "deadlock_timeout".into()),
                },
                ("abandoned", Value::Bool(true)),
            ])
        }
    };
    Ok(Value::Tuple(vec![
        told,
        Value::maybe(stuck_at, Value::Str),
        Value::Int(worker as i64),
        Value::maybe(needs_threads, Value::from),
    ]))
}

/// The strategy that the options name.
fn pick(options: &Options<'_>, workers: usize) -> Result<Search> {
    let seed = options.number("seed").unwrap_or(0);
    let name = options.text("strategy");
    Ok(match name.as_str() {
        "dpor" => {
            let order = match options.text("search").as_str() {
                "diverse" => Order::Diverse,
                "few-preemptions" => Order::FewPreemptions,
                _ => Order::DepthFirst,
            };
            Search::Dpor(options.number("preemption_bound").map(|bound| bound as u32), order)
        }
        "walk" => Search::Sample(Box::new(Walk::new(seed))),
        "pct" => {
            let depth = options.number("depth").unwrap_or(3) as u32;
            Search::Sample(Box::new(Pct::new(seed, depth)))
        }
        "pos" => Search::Sample(Box::new(Pos::new(seed))),
        "portfolio" => Search::Sample(Box::new(Portfolio::new(seed))),
        "surw" => Search::Sample(Box::new(Surw::new(seed))),
        "random" => {
            let length = options.number("max_ops").unwrap_or(0) as usize;
            Search::Sample(Box::new(Random::new(seed, workers, length)))
        }
        "instructions" => {
            let schedule = crate::explore::segments(options.workers("schedule"));
            Search::Sample(Box::new(Replay::new(schedule)))
        }
        "follow" => Search::Follow(script(options)),
        _ => return Err(error::value_error(&format!("there is no strategy {name:?}"))),
    })
}

/// The steps to follow: (worker, function, [(kind, location)...]) each, and the names
/// of the locations that matter.
fn script(options: &Options<'_>) -> Script {
    let text = |item: Option<Obj<'_>>| item.and_then(Obj::as_str).unwrap_or_default();
    let step = |step: Obj<'_>| {
        let mut parts = list_items(step);
        let worker = parts.next().and_then(Obj::as_i64).unwrap_or(0) as u16;
        let function = text(parts.next());
        let accesses = parts.next().into_iter().flat_map(list_items).map(|pair| {
            let mut pair = list_items(pair);
            Deed { kind: text(pair.next()), name: text(pair.next()), loc: 0, end_of: None }
        });
        (worker, Label { function, accesses: accesses.collect() })
    };
    let steps = options.get("steps").into_iter().flat_map(list_items).map(step).collect();
    Script::new(steps, options.strings("names").into_iter().collect())
}

fn tell_divergence(divergence: Divergence) -> Value {
    let site = divergence.site;
    Value::Dict(vec![
        ("index", Value::Int(divergence.index as i64)),
        ("worker", Value::Int(divergence.worker.into())),
        ("code", Value::maybe(site, |site| code_of(site.code))),
        ("offset", Value::maybe(site, |site| Value::Int(site.offset.into()))),
    ])
}

fn tell(outcome: Outcome) -> Result<Value> {
    if let Some(exception) = outcome.raised {
        return Err(error::restore(exception));
    }
    let schedule = |schedule: &[u16]| {
        Value::List(schedule.iter().map(|worker| Value::Int((*worker).into())).collect())
    };
    let failures = outcome
        .failures
        .iter()
        .map(|(number, plan)| Value::Tuple(vec![Value::Int(*number as i64), schedule(plan)]));
    let [around, workers, engine] = outcome.nanoseconds.map(|ns| Value::Int(ns as i64));
    Ok(Value::Dict(vec![
        ("executions", Value::Int(outcome.executions as i64)),
        ("failures", Value::List(failures.collect())),
        ("failure", Value::maybe(outcome.failure, tell_failure)),
        ("exhaustive", Value::Bool(outcome.exhaustive)),
        ("limit", Value::maybe(outcome.limit, Value::from)),
        ("inconclusive", Value::maybe(outcome.inconclusive, Value::from)),
        ("attempts", Value::Int(outcome.reproduced.0.into())),
        ("successes", Value::Int(outcome.reproduced.1.into())),
        ("diverged", Value::maybe(outcome.diverged, tell_divergence)),
        (
            "difference",
            Value::maybe(outcome.difference, |d| {
                Value::Tuple(vec![Value::Int(d.index as i64), Value::Str(d.found)])
            }),
        ),
        ("reachable", Value::maybe(outcome.reachable, Value::Bool)),
        ("traces", Value::maybe(outcome.traces, |traces| Value::Int(traces as i64))),
        ("orderings", Value::Int(outcome.orderings as i64)),
        ("traced", Value::Bool(outcome.traced)),
        (
            "events",
            Value::maybe(outcome.told, |all| {
                Value::List(all.into_iter().map(tell_event).collect())
            }),
        ),
        (
            "stats",
            Value::Dict(vec![
                ("executions", Value::Int(outcome.executions as i64)),
                ("events", Value::Int(outcome.events as i64)),
                ("sleep_set_blocked", Value::Int(outcome.redundant as i64)),
                ("minimising", Value::Int(outcome.minimising as i64)),
                ("restarts", Value::Int(outcome.restarts.into())),
                ("estimated_total", Value::maybe(outcome.estimate, |e| Value::Float(e.total))),
                ("estimated_low", Value::maybe(outcome.estimate, |e| Value::Float(e.low))),
                ("estimated_high", Value::maybe(outcome.estimate, |e| Value::Float(e.high))),
                ("setup_ns", around),
                ("workers_ns", workers),
                ("engine_ns", engine),
            ]),
        ),
    ]))
}

fn tell_failure(failure: Failure) -> Value {
    let kind = failure.violation.name();
    let (mut exception, mut error, mut blocked) = (Value::None, Value::None, vec![]);
    let mut answer = String::new();
    match failure.violation {
        Violation::Invariant(returned) => answer = returned,
        Violation::InvariantError(raised) => error = Value::Object(raised),
        Violation::Exception(worker, raised) => {
            exception = Value::Tuple(vec![Value::Int(worker.into()), Value::Object(raised)]);
        }
        Violation::Deadlock(all) => blocked = all,
    }
    let schedule = failure.schedule.iter().map(|worker| Value::Int((*worker).into())).collect();
    let labels = failure.events.iter().map(|told| tell_label(&told.label)).collect();
    let codes = |ids: &[u32]| Value::List(ids.iter().map(|&id| code_of(id)).collect());
    let callers = failure.events.iter().map(|told| codes(&told.chain.callers)).collect();
    let within = failure.events.iter().map(|told| codes(&told.chain.libraries)).collect();
    let told_block = |told: Told| {
        let label = tell_label(&told.label);
        Value::Tuple(vec![tell_event(told), label])
    };
    let blocks = Value::maybe(failure.blocks, |blocks| {
        Value::List(blocks.into_iter().map(told_block).collect())
    });
    Value::Dict(vec![
        ("kind", kind.into()),
        ("blocks", blocks),
        ("labels", Value::List(labels)),
        ("callers", Value::List(callers)),
        ("within", Value::List(within)),
        ("execution", Value::Int(failure.execution as i64)),
        ("schedule", Value::List(schedule)),
        ("events", Value::List(failure.events.into_iter().map(tell_event).collect())),
        ("exception", exception),
        ("error", error),
        ("answer", Value::Str(answer)),
        ("blocked", Value::List(blocked.into_iter().map(tell_blocked).collect())),
    ])
}

fn tell_label(label: &Label) -> Value {
    let accesses = label.accesses.iter().map(|deed| {
        let (kind, name) = (deed.kind.clone(), deed.name.clone());
        Value::Tuple(vec![Value::Str(kind), Value::Str(name), Value::Int(deed.loc.into())])
    });
    Value::Tuple(vec![Value::Str(label.function.clone()), Value::List(accesses.collect())])
}

fn code_of(id: u32) -> Value {
    Value::maybe(code::known(id), Value::Object)
}

fn tell_event(told: Told) -> Value {
    let accesses = told
        .accesses
        .into_iter()
        .filter(|access| !matches!(access.kind, Kind::None | Kind::Unread | Kind::Advance))
        .map(|access| {
            Value::Tuple(vec![
                kind_name(access.kind, told.site.what).into(),
                Value::Int(access.loc.into()),
                Value::Str(access.type_name),
                Value::Str(access.field),
                Value::maybe(access.value, Value::Str),
            ])
        })
        .collect();
    Value::Tuple(vec![
        Value::Int(told.worker.into()),
        code_of(told.site.code),
        Value::Int(told.site.offset.into()),
        told.site.what.into(),
        Value::List(accesses),
    ])
}

fn tell_blocked(blocked: Blocked) -> Value {
    Value::Dict(vec![
        ("worker", Value::Int(blocked.worker.into())),
        ("waits_for", blocked.waits_for.into()),
        ("loc", Value::Int(blocked.loc.into())),
        ("type_name", Value::Str(blocked.type_name)),
        ("holder", Value::maybe(blocked.holder, |worker| Value::Int(worker.into()))),
        ("code", code_of(blocked.site.code)),
        ("offset", Value::Int(blocked.site.offset.into())),
        ("within", Value::List(blocked.within.into_iter().map(code_of).collect())),
        ("holds", Value::List(blocked.holds.iter().map(|l| Value::Int((*l).into())).collect())),
    ])
}

/// `random_schedule(seed, execution, workers, length)`: see [`random::schedule`].
fn random_schedule(arguments: &[Obj<'_>]) -> Result<Value> {
    let numbers: Vec<i64> = arguments.iter().filter_map(|number| number.as_i64()).collect();
    let [seed, execution, workers, length] = numbers[..] else {
        return Err(error::runtime_error("random_schedule takes four numbers"));
    };
    let drawn = random::schedule(seed as u64, execution as u64, workers as u32, length as usize);
    Ok(Value::List(drawn.map(|worker| Value::Int(worker.into())).collect()))
}

/// `turn()`: one entry of the schedule for the worker that calls, without any
/// instruction of traced code. False: the schedule is used up.
fn turn(_arguments: &[Obj<'_>]) -> Result<Value> {
    session::take_turn().map(Value::Bool)
}

/// `opcodes()`: (number, name, is it known) of this interpreter's opcodes.
fn opcodes(_arguments: &[Obj<'_>]) -> Result<Value> {
    let rows = code::opcode_names().into_iter().map(|(number, name, op)| {
        Value::Tuple(vec![Value::Int(number.into()), Value::Str(name), Value::Bool(op.is_some())])
    });
    Ok(Value::List(rows.collect()))
}

/// `depths(code)`: the static stack depth at each code unit, `None` in dead code.
fn depths(arguments: &[Obj<'_>]) -> Result<Value> {
    let code = arguments.first().copied().and_then(code::Code::from_obj);
    let table = code.and_then(code::Code::table);
    let Some(table) = table else {
        return Err(error::value_error("depths takes a code object"));
    };
    let depths = table.instructions().map(|instruction| match instruction.depth {
        code::UNKNOWN => Value::None,
        depth => Value::Int(depth.into()),
    });
    Ok(Value::List(depths.collect()))
}

/// `intercept(on)`: redirects the primitives that block, or restores them.
fn intercept(arguments: &[Obj<'_>]) -> Result<Value> {
    let on = arguments.first().map_or(Ok(true), |on| super::redirect::is_true(*on))?;
    if on {
        super::primitives::intercept()?;
    } else if BUSY.is_set() {
        return Err(error::runtime_error("an exploration runs, and needs the interception"));
    } else {
        super::primitives::restore();
    }
    Ok(Value::None)
}

/// `backend()`: what hooks the interpreter, and what is intercepted on it.
fn backend(_arguments: &[Obj<'_>]) -> Result<Value> {
    super::primitives::find()?;
    Ok(Value::Dict(vec![
        ("name", super::tracer::BACKEND.into()),
        (
            "intercepted",
            Value::List(super::primitives::names().into_iter().map(Value::Str).collect()),
        ),
        (
            "intercepted_in_c",
            Value::List(super::primitives::c_functions::names().map(Value::Str).collect()),
        ),
    ]))
}

/// `unknown_calls(forget=True)`: calls since they were last forgotten, by name, of
/// functions whose effect is not known, with a container among the arguments.
fn unknown_calls(arguments: &[Obj<'_>]) -> Result<Value> {
    let forget = arguments.first().map_or(Ok(true), |one| super::redirect::is_true(*one))?;
    let dict = Value::Dict(vec![]).into_object()?;
    for (name, count) in calls::unknown_calls(forget) {
        let (name, count) = (Value::Str(name).into_object()?, Value::Int(count as i64));
        super::dict::set(dict.borrow(), name.borrow(), count.into_object()?.borrow())?;
    }
    Ok(Value::Object(dict))
}

/// `listen(codes, callback, null)`: see [`probe`].
fn listen(arguments: &[Obj<'_>]) -> Result<Value> {
    let [codes, callback, null] = arguments else {
        return Err(error::runtime_error("listen takes three arguments"));
    };
    prepare()?;
    probe::start(*codes, *callback, *null)?;
    Ok(Value::None)
}

/// Which files a recording is about: `excluded` directories, or `only` these paths.
fn files_of(excluded: Obj<'_>, only: Obj<'_>) -> Files {
    let strings = |list| list_items(list).filter_map(Obj::as_str).collect();
    let only = (!only.is_none()).then(|| strings(only));
    Files { excluded: strings(excluded), packages: vec![], only, inner: false }
}

/// Begins a recording, alone in this process.
fn begin_recording(start: impl FnOnce() -> Result<()>) -> Result<()> {
    if session::running().is_some() || !BUSY.begin() {
        return Err(busy());
    }
    prepare().and_then(|()| start()).inspect_err(|Raised| BUSY.end())
}

/// `record(function, excluded, only, opcodes)`: the function's result and the recording.
fn record(arguments: &[Obj<'_>]) -> Result<Value> {
    let [function, excluded, only, opcodes] = arguments else {
        return Err(error::runtime_error("record takes four arguments"));
    };
    let opcodes = super::redirect::is_true(*opcodes)?;
    begin_recording(|| recorder::record(files_of(*excluded, *only), opcodes))?;
    super::tracer::enter_thread();
    let result = super::call::call(*function, &[]).map_err(|Raised| error::take());
    super::tracer::leave_thread();
    let recording = recorder::stop();
    BUSY.end();
    let result = result.map_err(|raised| raised.map_or(Raised, error::restore))?;
    let recording = recording?.ok_or_else(|| error::runtime_error("the recording was ended"))?;
    Ok(Value::Tuple(vec![Value::Object(result), Value::Object(capsule::wrap(recording)?)]))
}

/// The recording that an argument is.
fn recording<'a>(argument: Option<&Obj<'a>>) -> Result<&'a Recording> {
    let recording = argument.and_then(|argument| capsule::unwrap(*argument));
    recording.ok_or_else(|| error::value_error("the first argument must be a recording"))
}

/// `recorded_counts(recording)`: how many accesses and instructions it has.
fn recorded_counts(arguments: &[Obj<'_>]) -> Result<Value> {
    let (accesses, instructions) = recording(arguments.first())?.counts();
    Ok(Value::Tuple(vec![Value::Int(accesses as i64), Value::Int(instructions as i64)]))
}

fn recorded(
    arguments: &[Obj<'_>],
    get: fn(&Recording, usize, Obj<'_>) -> Result<Option<Owned>>,
) -> Result<Value> {
    let [first, index, class] = arguments else {
        return Err(error::runtime_error("three arguments are needed"));
    };
    let index = index.as_i64().and_then(|index| usize::try_from(index).ok());
    let found = match index {
        Some(index) => get(recording(Some(first))?, index, *class)?,
        None => None,
    };
    found.map(Value::Object).ok_or_else(|| error::index_error("behind the end of the recording"))
}

/// `recorded_access(recording, index, class)`: see [`Recording::access`].
fn recorded_access(arguments: &[Obj<'_>]) -> Result<Value> {
    recorded(arguments, Recording::access)
}

/// `recorded_instruction(recording, index, class)`: see [`Recording::instruction`].
fn recorded_instruction(arguments: &[Obj<'_>]) -> Result<Value> {
    recorded(arguments, Recording::instruction)
}

/// `tell_accesses(callback, class, excluded, only)`: see [`recorder::tell`].
fn tell_accesses(arguments: &[Obj<'_>]) -> Result<Value> {
    let [callback, class, excluded, only] = arguments else {
        return Err(error::runtime_error("tell_accesses takes four arguments"));
    };
    begin_recording(|| recorder::tell(files_of(*excluded, *only), *callback, *class))?;
    super::tracer::enter_thread();
    Ok(Value::None)
}

/// `tell_no_accesses()`: ends what `tell_accesses` began.
fn tell_no_accesses(_arguments: &[Obj<'_>]) -> Result<Value> {
    if recorder::is_telling() {
        super::tracer::leave_thread();
        recorder::stop()?;
        BUSY.end();
    }
    Ok(Value::None)
}

/// `trace_thread(frame, event, argument)`: a trace function that lets its thread be
/// recorded (3.11; later versions record all threads).
fn trace_thread(_arguments: &[Obj<'_>]) -> Result<Value> {
    if recorder::is_active() {
        super::tracer::enter_worker();
    }
    Ok(Value::None)
}

/// `settrace(function)`: see [`super::trace_function`].
fn settrace(arguments: &[Obj<'_>]) -> Result<Value> {
    let [function] = arguments else {
        return Err(error::runtime_error("settrace takes one argument"));
    };
    super::trace_function::set(*function)?;
    Ok(Value::None)
}

/// `gettrace()`: the trace function of this thread, or None.
fn gettrace(_arguments: &[Obj<'_>]) -> Result<Value> {
    Ok(Value::maybe(super::trace_function::get(), Value::Object))
}

/// `stats()`: what this process has done so far.
fn stats(_arguments: &[Obj<'_>]) -> Result<Value> {
    Ok(Value::Dict(stats::all().map(|(name, value)| (name, Value::Int(value as i64))).collect()))
}

/// `unlisten()`: ends what `listen` began.
fn unlisten(_arguments: &[Obj<'_>]) -> Result<Value> {
    probe::stop()?;
    Ok(Value::None)
}

/// `trace_markers(look, reached)`: see [`super::marker_events`].
fn trace_markers(arguments: &[Obj<'_>]) -> Result<Value> {
    let [look, reached] = arguments else {
        return Err(error::runtime_error("trace_markers takes two arguments"));
    };
    super::marker_events::trace(*look, *reached)?;
    Ok(Value::None)
}

/// `loop_ready(handle, owner, queue) -> int`: a callback of the event loop becomes
/// ready; `owner` is its task, what `loop_timer` returned, or None. Whose it is.
fn loop_ready(arguments: &[Obj<'_>]) -> Result<Value> {
    let [handle, owner, queue] = arguments else {
        return Err(error::runtime_error("loop_ready takes three arguments"));
    };
    let timer: Vec<i64> = match owner.is_exactly(&raw mut ffi::PyTuple_Type) {
        true => list_items(*owner).filter_map(Obj::as_i64).collect(),
        false => vec![],
    };
    let owner = match timer[..] {
        [worker, n] => Owner::Timer(worker as u16, n as u32),
        _ if owner.is_none() => Owner::Queue,
        _ => Owner::Task(*owner),
    };
    Ok(Value::Int(tasks::make_ready(*handle, owner, *queue).into()))
}

/// `loop_timer() -> (int, int)`: names a timer that is set now.
fn loop_timer(_arguments: &[Obj<'_>]) -> Result<Value> {
    let (worker, n) = tasks::timer();
    Ok(Value::Tuple(vec![Value::Int(worker.into()), Value::Int(n.into())]))
}

/// `loop_next(can_wait)`: the next callback, True where time shall pass, None where
/// nothing is ready.
fn loop_next(arguments: &[Obj<'_>]) -> Result<Value> {
    let can_wait = match arguments.first() {
        Some(can_wait) => super::redirect::is_true(*can_wait)?,
        None => false,
    };
    Ok(match tasks::next(can_wait)? {
        tasks::Next::Callback(handle) => Value::Object(handle),
        tasks::Next::Time => Value::Bool(true),
        tasks::Next::Nothing => Value::None,
    })
}

/// `loop_cancel(handle)`: the block that runs cancels this callback.
fn loop_cancel(arguments: &[Obj<'_>]) -> Result<Value> {
    if let [handle] = arguments
        && crate::runtime::session::running().is_some()
    {
        tasks::touch_handle(*handle, Kind::Write);
    }
    Ok(Value::None)
}

/// `loop_clock(now) -> float`: moves virtual time on to `now`, and reads it.
fn loop_clock(arguments: &[Obj<'_>]) -> Result<Value> {
    let [now] = arguments else {
        return Err(error::runtime_error("loop_clock takes one argument"));
    };
    let now = super::redirect::seconds(*now)?;
    Ok(Value::Float(crate::runtime::time::move_on(now)))
}

/// `loop_adopt(task) -> int`: makes a task known before the first block.
fn loop_adopt(arguments: &[Obj<'_>]) -> Result<Value> {
    let [task] = arguments else {
        return Err(error::runtime_error("loop_adopt takes one argument"));
    };
    Ok(Value::Int(tasks::adopt(*task).into()))
}

/// `loop_worker() -> int`: whose block runs.
fn loop_worker(_arguments: &[Obj<'_>]) -> Result<Value> {
    Ok(Value::maybe(crate::runtime::session::running(), |worker| Value::Int(worker.into())))
}

type Function = fn(&[Obj<'_>]) -> Result<Value>;

unsafe fn dispatch(
    function: Function,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    let arguments: Vec<Obj<'_>> = (0..count as usize)
        // SAFETY: a METH_FASTCALL call passes `count` live arguments.
        .map(|index| unsafe { Obj::from_arg(*args.add(index)) })
        .collect();
    match function(&arguments).and_then(Value::into_object) {
        Ok(object) => object.into_ptr(),
        Err(Raised) => std::ptr::null_mut(),
    }
}

macro_rules! functions {
    ($($name:ident: $doc:literal),* $(,)?) => {
        static mut METHODS: [ffi::PyMethodDef; { [$($doc),*].len() + 1 }] = [
            $({
                unsafe extern "C" fn entry(
                    _module: *mut ffi::PyObject,
                    args: *mut *mut ffi::PyObject,
                    count: ffi::Py_ssize_t,
                ) -> *mut ffi::PyObject {
                    // SAFETY: the arguments of this call.
                    unsafe { dispatch($name, args, count) }
                }
                const NAME: &CStr = match CStr::from_bytes_with_nul(
                    concat!(stringify!($name), "\0").as_bytes(),
                ) {
                    Ok(name) => name,
                    Err(_) => panic!("a name without NUL"),
                };
                const DOC: &CStr = match CStr::from_bytes_with_nul(concat!($doc, "\0").as_bytes()) {
                    Ok(doc) => doc,
                    Err(_) => panic!("a text without NUL"),
                };
                ffi::PyMethodDef {
                    ml_name: NAME.as_ptr(),
                    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: entry },
                    ml_flags: ffi::METH_FASTCALL,
                    ml_doc: DOC.as_ptr(),
                }
            },)*
            ffi::PyMethodDef::zeroed(),
        ];
    };
}

functions! {
    end_explorations: "end_explorations(): ends what other threads explore, before all ends.",
    explore: "explore(setup, workers, invariant, options) -> dict: explores executions.",
    random_schedule: "random_schedule(seed, execution, workers, length) -> list: entries.",
    turn: "turn() -> bool: takes an entry of the schedule; is there any left?",
    opcodes: "opcodes() -> list: number, name and whether it is known, of each opcode.",
    depths: "depths(code) -> list: the static stack depth before each code unit.",
    listen: "listen(codes, callback, null): tells what is observed at their instructions.",
    unknown_calls: "unknown_calls(forget=True) -> dict: how often functions of unknown effect were called.",
    record: "record(function, excluded, only, opcodes) -> (result, recording)",
    recorded_counts: "recorded_counts(recording) -> (accesses, instructions)",
    recorded_access: "recorded_access(recording, index, class): the access as a class(...)",
    recorded_instruction: "recorded_instruction(recording, index, class): as a class(...)",
    tell_accesses: "tell_accesses(callback, class, excluded, only): calls it before each access.",
    tell_no_accesses: "tell_no_accesses(): ends what tell_accesses began.",
    trace_thread: "trace_thread(frame, event, argument): lets this thread be recorded (3.11).",
    settrace: "settrace(function): sets the trace function of this thread.",
    gettrace: "gettrace(): the trace function of this thread, or None.",
    stats: "stats() -> dict: what this process has done so far.",
    unlisten: "unlisten(): ends what listen began.",
    trace_markers: "trace_markers(look, reached): reports the gates of this thread (3.11).",
    intercept: "intercept(on): redirects the primitives that block, or restores them.",
    backend: "backend() -> dict: what hooks the interpreter.",
    loop_ready: "loop_ready(handle, owner, queue) -> int: a callback becomes ready.",
    loop_timer: "loop_timer() -> tuple: names a timer that is set now.",
    loop_next: "loop_next(can_wait): the next callback, True for time, or None.",
    loop_cancel: "loop_cancel(handle): a callback is cancelled.",
    loop_clock: "loop_clock(now) -> float: moves virtual time on, and reads it.",
    loop_adopt: "loop_adopt(task) -> int: makes a task known before the first block.",
    loop_worker: "loop_worker() -> int: whose block runs.",
}

unsafe extern "C" fn execute(module: *mut ffi::PyObject) -> c_int {
    // SAFETY: the module that is being made.
    let module = unsafe { Obj::from_arg(module) };
    match set_up(module) {
        Ok(()) => 0,
        Err(Raised) => -1,
    }
}

fn set_up(module: Obj<'_>) -> Result<()> {
    let built_for = if cfg!(Py_3_15) {
        15
    } else if cfg!(Py_3_14) {
        14
    } else if cfg!(Py_3_13) {
        13
    } else if cfg!(Py_3_12) {
        12
    } else {
        11
    };
    let info = code::attribute(code::import(c"sys")?.borrow(), c"version_info")?;
    let runs: Vec<i64> = list_items(info.borrow()).take(2).filter_map(Obj::as_i64).collect();
    if runs != [3, built_for] {
        let text = format!(
            "frontrun was built for CPython 3.{built_for} and cannot be used with {runs:?}: \
             install it again with this Python"
        );
        return Err(error::import_error(&text));
    }
    if !error::is_main_interpreter() {
        return Err(error::import_error("frontrun works in the main interpreter only"));
    }
    code::init()?;
    super::frame::check_layout()?;
    let version = Value::from(env!("CARGO_PKG_VERSION")).into_object()?;
    add(module, c"__version__", version)?;
    let abandoned = error::init()?;
    add(module, c"Abandoned", abandoned)
}

/// Learns the types and functions of the standard library that the observer knows.
/// It imports their modules, which a process that only imports frontrun is spared.
fn prepare() -> Result<()> {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    if !PREPARED.load(Ordering::Relaxed) {
        super::types::init()?;
        calls::init()?;
        PREPARED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn add(module: Obj<'_>, name: &CStr, value: Owned) -> Result<()> {
    // SAFETY: a module under construction; PyModule_AddObjectRef takes its own reference.
    let failed = unsafe {
        ffi::PyModule_AddObjectRef(module.as_ptr(), name.as_ptr(), value.borrow().as_ptr()) < 0
    };
    if failed { Err(Raised) } else { Ok(()) }
}

static mut SLOTS: [ffi::PyModuleDef_Slot; 2 + cfg!(Py_3_13) as usize] = [
    ffi::PyModuleDef_Slot { slot: ffi::Py_mod_exec, value: execute as *mut c_void },
    // Importing it does not switch the GIL on where there is none.
    #[cfg(Py_3_13)]
    ffi::PyModuleDef_Slot { slot: ffi::Py_mod_gil, value: ffi::Py_MOD_GIL_NOT_USED },
    ffi::PyModuleDef_Slot { slot: 0, value: std::ptr::null_mut() },
];

static mut MODULE: ffi::PyModuleDef = ffi::PyModuleDef {
    m_base: ffi::PyModuleDef_HEAD_INIT,
    m_name: c"_native".as_ptr(),
    m_doc: c"The native core of frontrun.".as_ptr(),
    m_size: 0,
    m_methods: (&raw mut METHODS).cast(),
    m_slots: (&raw mut SLOTS).cast(),
    m_traverse: None,
    m_clear: None,
    m_free: None,
};

/// The module's entry point.
///
/// # Safety
/// Called by the import system.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit__native() -> *mut ffi::PyObject {
    // SAFETY: a static definition; multi-phase initialisation returns it.
    unsafe { ffi::PyModuleDef_Init(&raw mut MODULE) }
}
