//! One exploration: executions of Python workers, their verdicts, and what is
//! told of a failure.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustc_hash::{FxBuildHasher, FxHashSet};

use super::blocks::Blocks;
use super::execution::{Chain, Cut, Execution, Next, Site, Sort};
use super::label::{self, Label};
use super::locks::LockKind;
use super::script::{Difference, Script};
use super::session::{self, Files, Part, Signals};
use super::{channels, resources, stats, tasks, threads, time};
use crate::dpor::{Dpor, Order};
use crate::explore::{self as exploration, Budget, End, Estimate, Limits, Progress};
use crate::interp::call::{self, call};
use crate::interp::callables;
use crate::interp::code;
use crate::interp::error::{self, Raised};
use crate::interp::garbage::Pause;
use crate::interp::lent::Lent;
use crate::interp::object::{Obj, Owned};
use crate::interp::seat::{self, Carrier, Seat, Stop};
use crate::interp::thread_state::{ThreadState, worker_identity};
use crate::interp::trace_function::ThreadHooks;
use crate::interp::tracer::Detail;
use crate::interp::{primitives, threads as known_threads, tracer};
use crate::strategy::{Plan, Replay, Segment, Strategy};
use crate::trace::{Access, Event, Kind, Loc, Trace, Worker};

/// What is explored, and within which limits.
pub struct Job {
    /// Makes the state of one execution.
    pub setup: Owned,
    /// The workers; each gets the state.
    pub workers: Vec<Owned>,
    /// Of how many tasks the one worker runs the event loop, if it does.
    pub tasks: Option<usize>,
    /// Is the final state right?
    pub invariant: Owned,
    /// Which files are traced.
    pub files: Files,
    /// What the workers run on.
    pub carrier: Carrier,
    /// At most so many executions.
    pub max_executions: Option<u64>,
    /// At most so many events in one execution.
    pub max_events: usize,
    /// When nobody can run, a thread outside gets so long to change that.
    pub patience: Duration,
    /// The whole may take so long.
    pub total_time: Option<Duration>,
    /// End at the first failure?
    pub stop_on_first: bool,
    /// Do workers switch only where threads of an interpreter with a GIL do?
    pub with_gil: bool,
    /// How often the first failure is replayed.
    pub reproductions: u32,
    /// What time is to the workers.
    pub time: time::Mode,
    /// Is each instruction of traced code an event, or those that may touch shared
    /// state?
    pub by_instruction: bool,
    /// Are the events of the last execution told, whatever came of it?
    pub tells_events: bool,
    /// Are files and sockets shared state?
    pub detect_io: bool,
    /// Called now and then: executions, estimate, seconds, failures.
    pub on_progress: Option<Owned>,
}

impl Job {
    fn detail(&self) -> Detail {
        match (self.by_instruction, self.with_gil) {
            (true, _) => Detail::Instructions,
            (false, true) => Detail::SwitchPoints,
            (false, false) => Detail::Accesses,
        }
    }
}

/// How one execution ended.
pub enum Verdict {
    /// The invariant held.
    Holds,
    /// Something was wrong.
    Fails(Violation),
    /// It was cut off, and is not judged.
    Cut(Cut),
    /// Setup raised, or something that is not about the workers: the exploration ends.
    Broken(Owned),
}

/// What was wrong.
pub enum Violation {
    /// The invariant returned something false: this, as text.
    Invariant(String),
    /// The invariant raised.
    InvariantError(Owned),
    /// A worker raised.
    Exception(Worker, Owned),
    /// Nobody could run.
    Deadlock(Vec<Blocked>),
}

impl Violation {
    /// Is this the same trouble?
    fn is_like(&self, other: &Violation) -> bool {
        use Violation::{Exception, InvariantError};
        match (self, other) {
            (Exception(_, one), Exception(_, two)) | (InvariantError(one), InvariantError(two)) => {
                one.borrow().type_name() == two.borrow().type_name()
            }
            _ => self.name() == other.name(),
        }
    }

    /// Its name in what Python is told.
    pub fn name(&self) -> &'static str {
        match self {
            Violation::Invariant(_) => "invariant",
            Violation::InvariantError(_) => "invariant_error",
            Violation::Exception(..) => "exception",
            Violation::Deadlock(_) => "deadlock",
        }
    }
}

/// A worker of a deadlock.
pub struct Blocked {
    /// Who waits.
    pub worker: Worker,
    /// For what: "lock", "notification", "join", "data".
    pub waits_for: &'static str,
    /// The location, or the worker that is joined.
    pub loc: Loc,
    /// Its type.
    pub type_name: String,
    /// Who holds it.
    pub holder: Option<Worker>,
    /// Where it waits.
    pub site: Site,
    /// The functions of libraries that it has called there, innermost first.
    pub within: Vec<u32>,
    /// What it holds itself.
    pub holds: Vec<Loc>,
}

/// An event of a failing execution, as people are told of it.
pub struct Told {
    /// Who.
    pub worker: Worker,
    /// Where.
    pub site: Site,
    /// What.
    pub accesses: Vec<ToldAccess>,
    /// The same in words that last.
    pub label: Label,
    /// What led there.
    pub chain: Chain,
}

/// An access of such an event.
pub struct ToldAccess {
    /// What was done.
    pub kind: Kind,
    /// To which location.
    pub loc: Loc,
    /// Type of the object.
    pub type_name: String,
    /// Which part of it.
    pub field: String,
    /// The value, where it is known.
    pub value: Option<String>,
}

/// A failing execution.
pub struct Failure {
    /// What was wrong.
    pub violation: Violation,
    /// Number of the execution, from 1.
    pub execution: u64,
    /// The worker of each event.
    pub schedule: Vec<Worker>,
    /// The events; of blocks the steps in them.
    pub events: Vec<Told>,
    /// The blocks, where there are any: what the user's own code does in each.
    pub blocks: Option<Vec<Told>>,
}

/// What an exploration found.
#[derive(Default)]
pub struct Outcome {
    /// Executions that were played to their end.
    pub executions: u64,
    /// Number and schedule of every failing execution that was met.
    pub failures: Vec<(u64, Vec<Worker>)>,
    /// The first of them.
    pub failure: Option<Failure>,
    /// Was the whole space covered?
    pub exhaustive: bool,
    /// The limit that ended the search.
    pub limit: Option<&'static str>,
    /// Why an execution could not be judged.
    pub inconclusive: Option<&'static str>,
    /// Can the first failure happen to threads of an interpreter with a GIL? None: that
    /// was not decided.
    pub reachable: Option<bool>,
    /// Executions that it took to minimise the first failure.
    pub minimising: u64,
    /// Replays of the first failure, and how many failed again.
    pub reproduced: (u32, u32),
    /// An exception of setup, to be raised again.
    pub raised: Option<Owned>,
    /// All events of all executions.
    pub events: u64,
    /// Events of traced code that were seen in the first execution.
    pub traced: bool,
    /// Did a worker wait in C for something that is not seen?
    pub unseen: bool,
    /// Has a thread outside the exploration sent a worker something?
    pub answered: bool,
    /// Where two executions of one prefix differed.
    pub diverged: Option<Divergence>,
    /// Where the program did not follow the script.
    pub difference: Option<Difference>,
    /// How often the exploration began anew because of that.
    pub restarts: u32,
    /// Executions that were found to be covered by others.
    pub redundant: u64,
    /// Different traces among the executions, where that is another number.
    pub traces: Option<u64>,
    /// Different schedules among the executions of a sample.
    pub orderings: u64,
    /// How many executions there are in all.
    pub estimate: Option<Estimate>,
    /// The events of the last execution, when asked for.
    pub told: Option<Vec<Told>>,
    /// Nanoseconds in setup and invariant, in workers, in the engine.
    pub nanoseconds: [u64; 3],
}

/// Where an execution went another way than one before.
#[derive(Clone, Copy, Debug)]
pub struct Divergence {
    /// Number of the event, from 0.
    pub index: usize,
    /// Where the event happened this time, if there is one.
    pub site: Option<Site>,
    /// Whose it was, or whose turn it was.
    pub worker: Worker,
}

/// What the workers that have run run on, by index.
type Seats = Vec<Option<Seat>>;

/// The exceptions that ended workers.
type Ends = Rc<RefCell<Vec<(Worker, Owned)>>>;

/// What picks the executions.
pub enum Search {
    /// Every meaningfully different one, with at most so many preemptions.
    Dpor(Option<u32>, Order),
    /// A sample.
    Sample(Box<dyn Strategy + Send>),
    /// One, by a script.
    Follow(Script),
}

/// So often an exploration begins anew when an execution goes another way than
/// before: caches and imports that the first one filled are the usual reason.
const MOST_RESTARTS: u32 = 2;

/// Explores `job`, on the carrier, where the caller's thread state is attached.
pub fn explore(job: &Job, search: &mut Search, lent: &Lent, signals: &Arc<Signals>) -> Outcome {
    session::set_signals(signals.clone());
    session::select_files(job.files.clone());
    primitives::stand_for(lent.identity());
    let indices = usize::from(Worker::MAX);
    threads::begin_exploration(job.tasks.map_or(job.workers.len(), |_| indices));
    tasks::begin_exploration(job.tasks.unwrap_or(0));
    session::with(|execution| execution.blocks = job.tasks.map(|_| Blocks::default()));
    time::begin_exploration(job.time);
    resources::begin_exploration(job.detect_io);
    let mut outcome = Outcome::default();
    match primitives::intercept().and_then(|()| tracer::start(job.detail())) {
        Ok(()) => loop {
            let restarts = outcome.restarts;
            outcome = Explorer::new(job, lent, signals).search(search);
            account_for(&outcome);
            outcome.restarts = restarts;
            let again = outcome.diverged.is_some() && outcome.failure.is_none();
            if !again || restarts == MOST_RESTARTS || outcome.raised.is_some() {
                break;
            }
            outcome.restarts += 1;
        },
        Err(Raised) => outcome.raised = error::take(),
    }
    if tracer::stop().is_err() && outcome.raised.is_none() {
        outcome.raised = error::take();
    }
    session::with(|execution| execution.blocks = None);
    primitives::stand_for(0);
    seat::end_idle();
    outcome
}

fn account_for(outcome: &Outcome) {
    let [around, workers, engine] = outcome.nanoseconds;
    stats::DELIVERED.add(outcome.events);
    stats::EXECUTIONS.add(outcome.executions);
    stats::SETUP.add(around);
    stats::WORKERS.add(workers);
    stats::ENGINE.add(engine);
}

struct Explorer<'a> {
    job: &'a Job,
    lent: &'a Lent,
    signals: &'a Arc<Signals>,
    active: Option<known_threads::ActiveThreads>,
    /// What traces every new thread.
    hooks: Option<Rc<ThreadHooks>>,
    /// How many threads outside there were when the exploration began.
    threads_before: usize,
    /// Has a thread outside the exploration changed what a worker waited for?
    helped: Cell<bool>,
    outcome: Outcome,
    /// Is the strategy one that may run an ordering more than once?
    samples: bool,
    orderings: FxHashSet<u64>,
    /// When the progress was told last.
    told: Instant,
    goes_on: bool,
}

/// So often it is looked whether a thread outside has done something.
const GLANCE: Duration = Duration::from_millis(1);

/// Within so long a thread outside that waits for an item takes one that is there.
const GRACE: Duration = Duration::from_millis(50);

/// So long a call that blocks in C may take where it holds something else up.
const RETURN: Duration = Duration::from_millis(100);

/// So often the progress is told.
const PROGRESS: Duration = Duration::from_millis(50);

impl<'a> Explorer<'a> {
    fn new(job: &'a Job, lent: &'a Lent, signals: &'a Arc<Signals>) -> Self {
        let active = known_threads::active();
        Explorer {
            job,
            lent,
            signals,
            threads_before: active.as_ref().map_or(0, |a| a.others(lent.identity())),
            active,
            hooks: ThreadHooks::find(),
            helped: Cell::new(false),
            outcome: Outcome::default(),
            samples: false,
            orderings: FxHashSet::default(),
            told: Instant::now(),
            goes_on: true,
        }
    }

    fn search(mut self, search: &mut Search) -> Outcome {
        let workers = self.job.workers.iter().map(Owned::borrow);
        let globals = workers.clone().filter_map(callables::globals);
        let roots = workers.chain(globals).map(Obj::own);
        session::with(|execution| {
            execution.max_events = self.job.max_events;
            execution.by_instruction = self.job.by_instruction;
            execution.with_gil = self.job.with_gil;
            execution.values = self.job.tells_events.then(Vec::new);
            execution.locations.lasting.name(roots);
        });
        let limits = Limits {
            max_executions: self.job.max_executions,
            total_time: self.job.total_time,
            stop_on_first: self.job.stop_on_first,
        };
        self.samples = matches!(search, Search::Sample(_));
        let began = Instant::now();
        let summary = match search {
            Search::Dpor(bound, order) => {
                let mut dpor = Dpor::with_bound(*bound).in_order(*order);
                let summary = exploration::explore(&mut dpor, &mut self, &limits);
                let stats = dpor.stats();
                self.outcome.redundant = stats.blocked;
                self.outcome.traces = self.job.tasks.map(|_| stats.distinct);
                if let Some(divergence) = dpor.divergence() {
                    self.note_divergence(divergence.index, divergence.worker);
                }
                summary
            }
            Search::Sample(strategy) => exploration::explore(&mut **strategy, &mut self, &limits),
            Search::Follow(script) => {
                session::with(|execution| execution.script = Some(std::mem::take(script)));
                let mut once = Replay::new(Vec::new());
                let summary = exploration::explore(&mut once, &mut self, &limits);
                let script = session::with(|execution| execution.script.take());
                self.outcome.difference = script.and_then(|script| script.difference());
                self.outcome.diverged = None;
                summary
            }
        };
        let outcome = &mut self.outcome;
        let spent = began.elapsed().as_nanos() as u64;
        outcome.nanoseconds[2] = spent - outcome.nanoseconds[0] - outcome.nanoseconds[1];
        // What a thread outside does is not ours to repeat.
        let repeats = outcome.diverged.is_none()
            && !self.helped.get()
            && !outcome.answered
            && !outcome.unseen;
        outcome.exhaustive = summary.exhaustive() && matches!(search, Search::Dpor(..)) && repeats;
        outcome.limit = match summary.end {
            End::Executions => Some("max_executions"),
            End::Time => Some("total_timeout"),
            End::Exhausted | End::Failure | End::Stopped => outcome.limit,
        };
        outcome.estimate = summary.estimate;
        outcome.orderings = self.orderings.len() as u64;
        session::with(|execution| execution.values = None);
        if let Some(mut failure) = self.outcome.failure.take() {
            if self.outcome.raised.is_none() {
                let kept = (self.outcome.events, self.outcome.diverged.take());
                if !matches!(search, Search::Follow(_)) {
                    self.minimise(&mut failure);
                    self.renumber(&mut failure);
                }
                self.reproduce(&mut failure);
                if !matches!(search, Search::Follow(_)) && self.job.tasks.is_none() {
                    self.outcome.reachable = self.find_with_gil(&failure);
                }
                (self.outcome.events, self.outcome.diverged) = kept;
            }
            self.outcome.failure = Some(failure);
        }
        drop(session::with(|execution| execution.locations.lasting.clear()));
        self.outcome
    }

    /// The event at which the last execution went another way than before.
    fn note_divergence(&mut self, index: usize, worker: Worker) {
        self.outcome.diverged.get_or_insert_with(|| {
            let site = session::with(|execution| execution.sites.get(index).copied());
            Divergence { index, site, worker }
        });
    }

    fn worker_count(&self) -> usize {
        self.job.tasks.unwrap_or(self.job.workers.len())
    }

    /// Books a verdict.
    fn judge(&mut self, verdict: Verdict) -> exploration::Verdict {
        let outcome = &mut self.outcome;
        match verdict {
            Verdict::Holds => {
                outcome.executions += 1;
                exploration::Verdict::Pass
            }
            Verdict::Fails(violation) => {
                outcome.executions += 1;
                let schedule = session::with(|execution| execution.schedule());
                outcome.failures.push((outcome.executions, schedule.clone()));
                if outcome.failure.is_none() {
                    let execution = outcome.executions;
                    let (events, blocks) = (told(false), told_blocks());
                    outcome.failure =
                        Some(Failure { violation, execution, schedule, events, blocks });
                }
                exploration::Verdict::Fail
            }
            Verdict::Cut(Cut::Redundant | Cut::Stalled) => exploration::Verdict::Pass,
            Verdict::Cut(cut) => {
                match cut {
                    Cut::Branches => outcome.inconclusive = Some("max_branches"),
                    Cut::RunTime => outcome.inconclusive = Some("timeout_per_run"),
                    Cut::Stuck => outcome.inconclusive = Some("deadlock_timeout"),
                    Cut::Outside => outcome.inconclusive = Some("outside"),
                    _ => outcome.limit = Some("total_timeout"),
                }
                self.goes_on = false;
                exploration::Verdict::Inconclusive
            }
            Verdict::Broken(exception) => {
                outcome.raised = Some(exception);
                self.goes_on = false;
                exploration::Verdict::Inconclusive
            }
        }
    }

    /// One execution by plan.
    fn execute(&mut self, plan: &Plan, strategy: &mut dyn Strategy) -> Verdict {
        let since = Instant::now();
        time::begin_execution();
        let setup = || call(self.job.setup.borrow(), &[]).map_err(|Raised| error::take());
        let state = match self.lent.with(|| time::beside_workers(setup)) {
            Ok(state) => state,
            Err(exception) => return broken(exception),
        };
        let prepared = Instant::now();
        self.signals.begin_execution();
        let ends: Ends = Rc::default();
        resources::begin_execution();
        let chooses = strategy.chooses();
        session::with(|execution| {
            let compares = !chooses || strategy.compares();
            if compares && self.names_objects(execution.workers.len()) {
                execution.locations.built.name(std::iter::once(state.clone()));
            }
            execution.begin(plan, self.worker_count(), chooses);
        });
        let mut seats = Seats::new();
        let pause = Pause::begin();
        let ran = self.play(&state, &ends, strategy, &mut seats);
        drop(pause);
        let played = Instant::now();
        let answered = session::with(|execution| execution.answered) && self.threads() > 0;
        let outcome = &mut self.outcome;
        outcome.nanoseconds[0] += (prepared - since).as_nanos() as u64;
        outcome.nanoseconds[1] += (played - prepared).as_nanos() as u64;
        let (cut, events, diverged) = session::with(|execution| {
            (execution.cut, execution.trace.len() as u64, execution.diverged)
        });
        outcome.events += events;
        outcome.unseen |= session::with(|execution| execution.blocked);
        outcome.answered |= answered;
        outcome.traced |= code::any_known();
        if let Some((index, worker)) = diverged {
            self.note_divergence(index, worker);
        }
        if let Err(problem) = ran {
            seats.into_iter().flatten().for_each(Seat::retire);
            error::runtime_error(&format!("no stack for a worker: {problem}"));
            return broken(error::take());
        }
        let verdict = match session::with(|execution| is_out_of_reach(execution)) {
            true => Verdict::Cut(Cut::Redundant),
            false => self.verdict(cut, &state, &ends),
        };
        if cut == Some(Cut::Daemons) {
            // Daemon threads are ended when they can no longer spoil the final state.
            let _ = self.play(&state, &ends, strategy, &mut seats);
        }
        seats.into_iter().flatten().for_each(Seat::retire);
        self.lent.with(|| drop(state));
        self.outcome.nanoseconds[0] += played.elapsed().as_nanos() as u64;
        verdict
    }

    /// Does the engine need to know which object is which of another execution? With
    /// two workers it never has to compare steps that did not meet. How many there
    /// are besides the job's own, the execution before has shown.
    fn names_objects(&self, before: usize) -> bool {
        self.outcome.executions == 0 || before.max(self.job.workers.len()) > 2
    }

    fn verdict(&self, cut: Option<Cut>, state: &Owned, ends: &Ends) -> Verdict {
        match cut {
            Some(Cut::Deadlock) => return Verdict::Fails(Violation::Deadlock(blocked())),
            Some(Cut::Daemons) => {}
            Some(cut) => return Verdict::Cut(cut),
            None => {}
        }
        let mut ends = ends.take();
        ends.sort_by_key(|(worker, _)| *worker);
        if let Some((worker, exception)) = ends.into_iter().next() {
            return Verdict::Fails(Violation::Exception(worker, exception));
        }
        let falsehood = || {
            call(self.job.invariant.borrow(), &[state.borrow()])
                .and_then(|answer| {
                    let holds = crate::interp::redirect::is_true(answer.borrow())?;
                    Ok((!holds).then(|| answer.borrow().safe_repr()))
                })
                .map_err(|Raised| error::take())
        };
        match self.lent.with(|| time::beside_workers(falsehood)) {
            Ok(None) => Verdict::Holds,
            Err(Some(exception)) if error::is_abandoned(exception.borrow()) => {
                Verdict::Cut(Cut::Interrupted)
            }
            Err(Some(exception)) if is_of_signal(exception.borrow()) => Verdict::Broken(exception),
            Err(Some(exception)) => Verdict::Fails(Violation::InvariantError(exception)),
            Ok(Some(answer)) => Verdict::Fails(Violation::Invariant(answer)),
            Err(None) => Verdict::Fails(Violation::Invariant(String::new())),
        }
    }

    /// Lets the workers run until all have ended.
    fn play(
        &self,
        state: &Owned,
        ends: &Ends,
        strategy: &mut dyn Strategy,
        seats: &mut Seats,
    ) -> std::io::Result<()> {
        let mut lent = true;
        let mut problem = Ok(());
        let mut hush = None;
        loop {
            session::poll_signals();
            let worker = match session::with(|execution| execution.next(strategy)) {
                Next::Run(worker) => worker,
                Next::Outside => {
                    channels::wait_for_outside(self.job.patience, self.threads() > 0);
                    continue;
                }
                Next::Look => {
                    self.look_outside();
                    continue;
                }
                Next::Await => {
                    self.await_return(seats);
                    continue;
                }
                Next::End => break,
            };
            let index = self.seat_of(worker);
            if hush.is_none() && session::ends_thread(worker) {
                hush = Some(ThreadState::current().on_os_stack(known_threads::hush));
            }
            if seats.len() <= index {
                seats.resize_with(index + 1, || None);
            }
            if seats[index].is_none() {
                match self.start(worker, state, ends) {
                    Ok(seat) => seats[index] = Some(seat),
                    Err(error) => {
                        problem = Err(error);
                        session::with(|execution| {
                            execution.finish(worker);
                            execution.cut.get_or_insert(Cut::Interrupted);
                        });
                        continue;
                    }
                }
            }
            let Some(seat) = seats[index].as_mut() else { continue };
            self.signals.identity.store(seat.state().identity(), Relaxed);
            self.signals.worker.store(worker.into(), Relaxed);
            self.signals.in_thread.store(threads::is_thread(worker), Relaxed);
            let is_loop = self.job.tasks.is_some();
            let others = session::with(|e| if is_loop { 0 } else { e.unfinished_but(worker) });
            self.signals.others.store(others, Relaxed);
            self.signals.in_worker.store(1, Relaxed);
            session::set_running(Some(worker));
            if std::mem::take(&mut lent) {
                seat.attach();
                self.lent.give_back();
            }
            let may_leave =
                || !is_loop && session::with(|execution| execution.others_can_run(worker));
            let stop = seat.resume(may_leave);
            session::set_running(None);
            if stop == Stop::Away {
                session::with(|execution| execution.leave());
            } else if seat.is_idle() {
                session::with(|execution| match self.job.tasks {
                    Some(_) => execution.finish_all(),
                    None => execution.finish(worker),
                });
            }
        }
        ThreadState::current().on_os_stack(|| drop(hush));
        self.signals.in_worker.store(0, Relaxed);
        if !lent {
            self.lent.switch_to();
        }
        problem
    }

    /// Nobody can run. A thread outside the exploration may have changed that, or may
    /// be about to: it gets as long as it would have in reality, within limits.
    fn look_outside(&self) {
        let began = Instant::now();
        let deadline = session::with(|execution| execution.patience());
        let deadline = deadline.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
        let timed = deadline.is_some_and(|deadline| deadline <= self.job.patience);
        loop {
            let part = session::part_of_others();
            if part == Part::Done {
                self.helped.set(true);
                return;
            }
            let due = part == Part::Due || self.helped.get() || self.has_new_threads();
            let wait = match part {
                _ if self.threads() == 0 => Duration::ZERO,
                _ if due => deadline.unwrap_or(self.job.patience).min(self.job.patience),
                Part::Open => self.job.patience.min(GRACE),
                _ => Duration::ZERO,
            };
            if began.elapsed() >= wait {
                if wait.is_zero() || timed || !due {
                    session::with(|execution| execution.alone = true);
                } else {
                    self.tell_who_waits();
                    session::with(|execution| execution.cut = Some(Cut::Outside));
                }
                return;
            }
            self.signals.in_worker.store(0, Relaxed);
            let own = ThreadState::detach();
            std::thread::sleep(GLANCE);
            own.attach();
            self.signals.in_worker.store(1, Relaxed);
            session::poll_signals();
            if session::with(|execution| execution.cut.is_some()) {
                return;
            }
        }
    }

    /// Nobody can run but workers that block in C: waits until one of their calls has
    /// ended.
    fn await_return(&self, seats: &mut Seats) {
        self.signals.in_worker.store(0, Relaxed);
        let (cut, others, has_deadline) = session::with(|execution| {
            (execution.cut, execution.others_can_run(Worker::MAX), execution.has_deadline())
        });
        let patience = match (cut, others || has_deadline) {
            (None, false) => self.job.patience,
            _ => RETURN,
        };
        let since = Instant::now();
        while since.elapsed() < patience && session::with(|execution| execution.cut) == cut {
            let back = seats.iter().position(|seat| seat.as_ref().is_some_and(Seat::is_back));
            if let Some(worker) = back {
                session::with(|execution| execution.come_back(worker as Worker));
                if let (Some(_), Some(seat)) = (cut, &seats[worker]) {
                    let is_thread = threads::is_thread(worker as Worker);
                    error::raise_in_thread(seat.state().identity(), is_thread);
                }
                return;
            }
            seat::wait_for_return();
            session::poll_signals();
        }
        let blocking = session::with(|execution| execution.blocking());
        match cut {
            _ if session::with(|execution| execution.cut) != cut => {}
            None if others => session::with(|execution| {
                execution.cut = Some(Cut::Stalled);
                execution.trace.stalled = true;
            }),
            None if has_deadline => session::with(|execution| execution.hurries = true),
            None => {
                let stuck = blocking.first().and_then(|w| Some((*w, seats[*w as usize].as_ref()?)));
                if let Some((worker, seat)) = stuck {
                    *self.signals.stuck_at.lock() =
                        known_threads::place_of(seat.state().identity());
                    self.signals.worker.store(worker as usize, Relaxed);
                }
                session::with(|execution| execution.cut = Some(Cut::Stuck));
            }
            Some(_) => {
                for worker in blocking {
                    if let Some(seat) = seats[worker as usize].take() {
                        seat.exile();
                    }
                    session::with(|execution| execution.finish(worker));
                }
            }
        }
    }

    /// How many threads there are that are neither workers nor the caller's.
    fn threads(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.others(self.lent.identity()))
    }

    fn has_new_threads(&self) -> bool {
        self.threads() > self.threads_before
    }

    /// Notes a worker that waits, and where, for the report.
    fn tell_who_waits(&self) {
        let Some((worker, loc, resource)) = session::with(|execution| execution.waits().next())
        else {
            return;
        };
        let lock =
            || session::with(|execution| Some(execution.locations.place(loc)?.object.clone()));
        let owner = match resource.sort {
            Sort::Lock(LockKind::Reentrant) => lock().map(|l| primitives::locks::owner(l.borrow())),
            _ => None,
        };
        let place = ThreadState::current().on_os_stack(|| {
            let place = known_threads::place_of(worker_identity(worker as usize + 1));
            let owner = owner.and_then(known_threads::name_of);
            let held = owner.map_or_else(String::new, |name| format!(", held by thread {name:?}"));
            place.map(|place| place + &held)
        });
        self.signals.worker.store(worker.into(), Relaxed);
        *self.signals.stuck_at.lock() = place;
    }

    /// Which seat a worker has: an event loop's tasks share one.
    fn seat_of(&self, worker: Worker) -> usize {
        if self.job.tasks.is_some() { 0 } else { worker.into() }
    }

    fn start(&self, worker: Worker, state: &Owned, ends: &Ends) -> std::io::Result<Seat> {
        let mut seat = Seat::take(self.job.carrier)?;
        seat.state().set_identity(worker_identity(worker as usize + 1));
        let thread = seat.state();
        if let Some(task) = threads::task(worker) {
            seat.assign(Box::new(move || run_thread(task, thread)));
            return Ok(seat);
        }
        let (callable, state) = (self.job.workers[self.seat_of(worker)].clone(), state.clone());
        let (ends, hooks) = (ends.clone(), self.hooks.clone());
        let is_tasks = self.job.tasks.is_some();
        seat.assign(Box::new(move || {
            // Somebody may have raised in the thread state while it was idle.
            thread.reset();
            tracer::enter_worker();
            let hooked = hooks.as_ref().map_or(Ok(()), |hooks| hooks.enter(worker));
            let result = hooked.and_then(|()| call(callable.borrow(), &[state.borrow()]));
            hooks.inspect(|hooks| hooks.leave(worker));
            tracer::leave_worker();
            match result {
                Ok(end) if is_tasks => tasks::note_end(end.borrow(), &mut ends.borrow_mut()),
                Ok(end) => {
                    let unfit = refuse_coroutine(end.borrow());
                    ends.borrow_mut().extend(unfit.map(|exception| (worker, exception)));
                }
                Err(Raised) => match error::take() {
                    Some(exception) if error::is_abandoned(exception.borrow()) => {
                        session::note_abandoned();
                    }
                    Some(exception) => ends.borrow_mut().push((worker, exception)),
                    None => {}
                },
            }
            drop((callable, state, ends));
            session::end_worker();
            thread.reset();
        }));
        Ok(seat)
    }

    /// Drops what an execution has kept, and the threads it pretended to be.
    fn clean_up(&self) {
        let kept = session::with(|execution| execution.locations.clear());
        let (threads, tasks) = (threads::begin_execution(), tasks::begin_execution());
        self.lent.with(|| {
            known_threads::forget_starts(threads.functions.iter().map(Owned::borrow));
            drop((kept, threads, tasks));
        });
        seat::free_idle();
        if let Some(active) = &self.active {
            active.purge(session::with(|execution| execution.workers.len()));
        }
    }

    /// Puts the simplest schedule that fails alike in place of the failing one.
    fn minimise(&mut self, failure: &mut Failure) {
        let schedule = exploration::segments(failure.schedule.iter().copied());
        let mut again = Again { explorer: self, violation: &failure.violation };
        // What is tried is made up, and must not let time pass while somebody can run.
        session::with(|execution| execution.keeps_time = true);
        let found = exploration::minimise(schedule, &mut again, MINIMISING);
        session::with(|execution| execution.keeps_time = false);
        let workers = |s: Segment| std::iter::repeat_n(s.worker, s.events as usize);
        failure.schedule = found.schedule.into_iter().flat_map(workers).collect();
        self.outcome.minimising = found.executions;
    }

    /// Numbers threads and tasks that workers make as an execution on its own does, so
    /// that the schedule means the same to it.
    fn renumber(&mut self, failure: &mut Failure) {
        let made = self.worker_count() + if self.job.tasks.is_some() { 2 } else { 0 };
        if failure.schedule.iter().all(|&worker| usize::from(worker) < made) {
            return;
        }
        let schedule = exploration::segments(failure.schedule.iter().copied());
        let mut replay = Replay::new(schedule.clone());
        let verdict = self.execute(&Plan::of(schedule), &mut replay);
        if matches!(verdict, Verdict::Fails(again) if again.is_like(&failure.violation)) {
            let schedule = &mut failure.schedule;
            if let Some(renumbered) = threads::renumber() {
                schedule.iter_mut().for_each(|worker| *worker = renumbered(*worker));
            }
            if let Some(renumbered) = tasks::renumber() {
                schedule.iter_mut().for_each(|worker| *worker = renumbered(*worker));
            }
        }
        self.clean_up();
    }

    /// Is there a failure alike in which workers switch only where threads do?
    fn find_with_gil(&mut self, failure: &Failure) -> Option<bool> {
        if self.job.with_gil {
            return Some(true);
        }
        if tracer::stop().and_then(|()| tracer::start(Detail::SwitchPoints)).is_err() {
            drop(error::take());
            return None;
        }
        session::with(|execution| {
            execution.with_gil = true;
            execution.by_instruction = false;
        });
        let found = self.search_with_gil(failure);
        session::with(|execution| execution.with_gil = false);
        found
    }

    fn search_with_gil(&mut self, failure: &Failure) -> Option<bool> {
        let began = Instant::now();
        let mut left = REACHING.executions;
        // Few preemptions do in most cases; only a search without bound tells "never".
        for bound in [Some(1), None] {
            let mut again = Again { explorer: self, violation: &failure.violation };
            let limits = Limits {
                max_executions: Some(left),
                total_time: Some(REACHING.time.saturating_sub(began.elapsed())),
                stop_on_first: true,
            };
            let mut dpor = Dpor::with_bound(bound);
            let summary = exploration::explore(&mut dpor, &mut again, &limits);
            left = left.saturating_sub(summary.executions);
            if !summary.failures.is_empty() {
                return Some(true);
            }
            if bound.is_none() && summary.exhaustive() && dpor.divergence().is_none() {
                return Some(false);
            }
        }
        None
    }

    /// Replays the failure, the first time with values.
    fn reproduce(&mut self, failure: &mut Failure) {
        let schedule = exploration::segments(failure.schedule.iter().copied());
        let mut replay = Replay::new(schedule.clone());
        let plan = Plan::of(schedule);
        for attempt in 0..self.job.reproductions.max(1) {
            session::with(|execution| execution.values = (attempt == 0).then(Vec::new));
            let verdict = self.execute(&plan, &mut replay);
            let same = match verdict {
                Verdict::Fails(violation) if violation.is_like(&failure.violation) => {
                    if attempt == 0 {
                        (failure.events, failure.blocks) = (told(false), told_blocks());
                        failure.violation = violation;
                    }
                    true
                }
                _ => false,
            };
            if attempt < self.job.reproductions {
                self.outcome.reproduced.0 += 1;
                self.outcome.reproduced.1 += same as u32;
            }
            self.clean_up();
            session::with(|execution| execution.values = None);
        }
    }
}

/// What may be spent on finding out whether a failure can happen with a GIL.
const REACHING: Budget = Budget { executions: 1000, time: Duration::from_secs(1) };

/// What may be spent on making a counterexample simpler.
const MINIMISING: Budget = Budget { executions: 500, time: Duration::from_secs(1) };

/// Executes plans to see whether they fail in a certain way.
struct Again<'a, 'b> {
    explorer: &'a mut Explorer<'b>,
    violation: &'a Violation,
}

impl exploration::Runner for Again<'_, '_> {
    fn run(
        &mut self,
        plan: &Plan,
        strategy: &mut dyn Strategy,
        trace: &mut Trace,
    ) -> exploration::Verdict {
        let verdict = match self.explorer.execute(plan, strategy) {
            Verdict::Fails(violation) if violation.is_like(self.violation) => {
                exploration::Verdict::Fail
            }
            Verdict::Fails(_) | Verdict::Holds | Verdict::Cut(Cut::Redundant | Cut::Stalled) => {
                exploration::Verdict::Pass
            }
            Verdict::Cut(_) | Verdict::Broken(_) => exploration::Verdict::Inconclusive,
        };
        session::with(|execution| std::mem::swap(&mut execution.trace, trace));
        self.explorer.clean_up();
        verdict
    }
}

impl exploration::Runner for Explorer<'_> {
    fn run(
        &mut self,
        plan: &Plan,
        strategy: &mut dyn Strategy,
        trace: &mut Trace,
    ) -> exploration::Verdict {
        let verdict = self.execute(plan, strategy);
        let verdict = self.judge(verdict);
        if self.samples {
            let ordering = session::with(|execution| execution.ordering());
            self.orderings.insert(FxBuildHasher.hash_one(ordering));
        }
        if self.job.tells_events {
            self.outcome.told = Some(told(true));
        }
        session::with(|execution| std::mem::swap(&mut execution.trace, trace));
        self.clean_up();
        verdict
    }

    fn progress(&mut self, progress: &Progress<'_>) -> bool {
        if let Some(callback) = &self.job.on_progress
            && self.goes_on
            && self.told.elapsed() >= PROGRESS
        {
            self.told = Instant::now();
            let tell = || tell_progress(callback, progress).map_err(|Raised| error::take());
            if let Err(exception) = self.lent.with(tell) {
                self.judge(broken(exception));
            }
        }
        self.goes_on
    }
}

fn tell_progress(callback: &Owned, progress: &Progress<'_>) -> error::Result<()> {
    let number = |value: Option<f64>| match value {
        Some(value) => Owned::from_float(value),
        None => Ok(Owned::none()),
    };
    let estimate = progress.estimate();
    let all = [
        number(Some(progress.executions as f64))?,
        number(estimate.map(|e| e.total))?,
        number(Some(progress.elapsed.as_secs_f64()))?,
        number(Some(progress.failures as f64))?,
        number(estimate.map(|e| e.low))?,
        number(estimate.map(|e| e.high))?,
    ];
    let arguments: Vec<Obj<'_>> = all.iter().map(Owned::borrow).collect();
    call(callback.borrow(), &arguments).map(drop)
}

/// The whole life of a thread that a worker started.
fn run_thread(task: threads::Task, thread: ThreadState) {
    thread.reset();
    tracer::enter_worker();
    let result = primitives::threads::run(&task);
    tracer::leave_worker();
    if let (Err(Raised), Some(exception)) = (result, error::take()) {
        if error::is_abandoned(exception.borrow()) {
            session::note_abandoned();
        } else if !session::is_thread_killed() {
            // What ends a thread may find `threading` in the midst of something.
            primitives::threads::report_unraisable(exception, task.function.borrow());
        }
    }
    let ended = match &task.handle {
        Some(handle) => threads::end(handle.borrow()),
        None => match thread.end_sentinel() {
            Some(lock) => threads::end(lock.borrow()),
            None => Ok(()),
        },
    };
    if ended.is_err() {
        drop(error::take());
    }
    drop(task);
    session::end_worker();
    thread.reset();
}

/// The error of a worker that returns a coroutine, which nobody would await.
fn refuse_coroutine(result: Obj<'_>) -> Option<Owned> {
    if !call::close_coroutine(result) {
        return None;
    }
    error::type_error(
        "the worker returned a coroutine, which nobody awaits: write it as async def, or as a \
         functools.partial of one",
    );
    error::take()
}

/// Of an exception outside the workers.
fn broken(exception: Option<Owned>) -> Verdict {
    match exception {
        Some(exception) if error::is_abandoned(exception.borrow()) => {
            Verdict::Cut(Cut::Interrupted)
        }
        exception => Verdict::Broken(exception.unwrap_or_else(Owned::none)),
    }
}

/// Is it no fault of the program's? Without a GIL invariant runs where signal handlers do.
fn is_of_signal(exception: Obj<'_>) -> bool {
    error::is_keyboard_interrupt(exception) || error::is_of_handler(exception)
}

/// Could threads of an interpreter with a GIL not have run like this, where that is
/// asked for?
fn is_out_of_reach(execution: &Execution) -> bool {
    execution.with_gil
        && !exploration::has_uninterrupted_order(&execution.trace, &execution.within_block)
}

/// The workers that wait for good.
fn blocked() -> Vec<Blocked> {
    session::with(|execution| {
        let held = |worker| {
            let mut held: Vec<Loc> = execution
                .resources
                .iter()
                .filter(|(_, r)| r.holder == Some(worker) && r.sort != Sort::Queue)
                .map(|(loc, _)| *loc)
                .collect();
            held.sort_unstable();
            held
        };
        let mut blocked = vec![];
        for pending in &execution.trace.pending {
            let slot = &execution.workers[pending.worker as usize];
            let wanted = pending
                .accesses
                .iter()
                .find(|access| matches!(access.kind, Kind::Acquire | Kind::Join));
            let Some(wanted) = wanted else { continue };
            let join = wanted.kind == Kind::Join;
            let place = execution.locations.place(wanted.loc).filter(|_| !join);
            let holder = execution.resources.get(&wanted.loc).and_then(|r| r.holder);
            blocked.push(Blocked {
                worker: pending.worker,
                waits_for: match (join, place.and_then(resources::text)) {
                    (true, _) => "join",
                    (_, Some(text)) if !text.starts_with("file:") => "data",
                    _ if slot.for_notification => "notification",
                    _ => "lock",
                },
                loc: wanted.loc,
                type_name: place.map_or_else(String::new, |p| {
                    resources::text(p).unwrap_or_else(|| p.object.borrow().type_name())
                }),
                holder: holder.filter(|_| !slot.for_notification),
                site: slot.site,
                within: slot.within.clone(),
                holds: held(pending.worker),
            });
        }
        blocked
    })
}

/// The events of the last execution, told: each as a whole, or the steps that it
/// consists of, which leaves out instructions that touched nothing.
fn told(whole: bool) -> Vec<Told> {
    session::with(|execution| {
        let mut next_value = 0;
        if let Some(blocks) = &execution.blocks {
            let details = blocks.details.iter();
            return details
                .map(|d| tell(execution, d.worker, d.site, &d.accesses, d.values))
                .collect();
        }
        let mut joined = execution.joined.iter().peekable();
        let mut all = vec![];
        for (index, event) in execution.trace.events().iter().enumerate() {
            let accesses = execution.trace.accesses_of(event);
            let mut steps = vec![(0, execution.sites[index])];
            while let Some(step) = joined.next_if(|step| step.event == index) {
                steps.extend((!whole).then_some((step.first, step.site)));
            }
            for (nth, &(first, site)) in steps.iter().enumerate() {
                let end = steps.get(nth + 1).map_or(accesses.len(), |next| next.0);
                let accesses = &accesses[first..end];
                if whole || !accesses.is_empty() {
                    all.push(tell(execution, event.worker, site, accesses, next_value));
                }
                next_value += accesses.len();
            }
        }
        all
    })
}

/// The blocks of the last execution, if it had any.
fn told_blocks() -> Option<Vec<Told>> {
    session::with(|execution| {
        let mut details = execution.blocks.as_ref()?.details.iter().peekable();
        let tell = |(block, event): (usize, &Event)| {
            let (mut site, mut label) = (execution.sites[block], Label::default());
            while let Some(detail) = details.next_if(|detail| detail.block == block) {
                if detail.is_own() {
                    if label.accesses.is_empty() {
                        site = detail.site;
                    }
                    label.join(Label::of(execution, &detail.accesses, detail.site));
                }
            }
            Told { worker: event.worker, site, accesses: vec![], label, chain: Chain::default() }
        };
        Some(execution.trace.events().iter().enumerate().map(tell).collect())
    })
}

fn tell(
    execution: &Execution,
    worker: Worker,
    site: Site,
    accesses: &[Access],
    first_value: usize,
) -> Told {
    let label = Label::of(execution, accesses, site);
    let values = execution.values.as_deref().unwrap_or_default();
    let tell = |(nth, access): (usize, &Access)| {
        let (type_name, field) = label::told_parts(execution, access, site);
        let value = values.get(first_value + nth).cloned().flatten();
        ToldAccess { kind: access.kind, loc: access.loc, type_name, field, value }
    };
    let accesses = accesses.iter().enumerate().map(tell).collect();
    let chain = execution.chains.get(&first_value).cloned().unwrap_or_default();
    Told { worker, site, accesses, label, chain }
}
