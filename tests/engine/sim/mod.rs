//! Simulated programs: a tiny language of visible operations with registers, a
//! runner that executes plans, and a brute-force oracle of their traces.
#![allow(dead_code, missing_docs)]

pub mod programs;
pub mod random;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};

use frontrun_native::strategy::{Candidate, Plan, Segment, Sleeper, Strategy};
use frontrun_native::trace::{Access, Kind, Pending, Trace, Trait, Worker};

/// A value: a constant, a register, or sums of them.
#[derive(Clone, Copy, Debug)]
pub enum Val {
    C(i64),
    R(usize),
    Add(usize, i64),
    Sum(usize, usize),
}

/// A variable or lock, possibly computed: base + register.
#[derive(Clone, Copy)]
pub struct At(pub i64, pub Option<usize>);

impl std::fmt::Debug for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            None => write!(f, "{}", self.0),
            Some(r) => write!(f, "{}+r{r}", self.0),
        }
    }
}

pub fn at(base: i64) -> At {
    At(base, None)
}

/// Operations. Those above the line are visible, one event each.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Read(usize, At),
    Write(At, Val),
    /// register := old, variable += n
    Rmw(usize, At, i64),
    /// Takes one of the variable, after a look at as many variables after it as it says
    Sweep(At),
    /// register := did it succeed
    Cas(usize, At, Val, Val),
    Acquire(At),
    Release(At),
    Try(usize, At),
    Start(Worker),
    Join(Worker),
    /// Releases one resource and acquires nothing, and writes a variable too.
    AcquireAndWrite(At, At),
    /// Waits until virtual time has passed.
    Sleep(u32),
    /// Waits for a token, but not longer; register := did it get one
    AcquireWithin(usize, At, u32),
    // ---------------------------------------------------------------- local
    Set(usize, Val),
    /// Jumps to the operation of that index if the register is (not) zero.
    JumpIfZero(usize, usize),
    JumpIfNot(usize, usize),
    /// Jumps if the register is less than the constant.
    JumpIfLess(usize, i64, usize),
    Jump(usize),
    /// A private event: visible to the engine, shared with nobody.
    Private,
}

#[derive(Clone, Default)]
pub struct Program {
    pub workers: Vec<Vec<Op>>,
    pub init: BTreeMap<i64, i64>,
    /// Initial tokens of locks that do not start with one.
    pub tokens: BTreeMap<i64, i64>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "init {:?} tokens {:?}", self.init, self.tokens)?;
        self.workers.iter().enumerate().try_for_each(|(w, ops)| writeln!(f, "  {w}: {ops:?}"))
    }
}

impl Program {
    pub fn new(workers: Vec<Vec<Op>>) -> Self {
        Self { workers, ..Self::default() }
    }

    pub fn with(mut self, var: i64, value: i64) -> Self {
        self.init.insert(var, value);
        self
    }
}

/// A location: its space (0 variables, 1 locks, 2.. private) and number.
pub type Key = (i64, i64);

#[derive(Clone, Debug)]
struct Thread {
    pc: usize,
    regs: [i64; 6],
    count: u32,
    started: bool,
    /// When it came to its next operation.
    since: u32,
}

#[derive(Clone, Debug)]
pub struct State<'p> {
    program: &'p Program,
    threads: Vec<Thread>,
    mem: BTreeMap<i64, i64>,
    tokens: BTreeMap<i64, i64>,
    now: u32,
}

impl<'p> State<'p> {
    pub fn new(program: &'p Program) -> Self {
        let started_by_other = |w: usize| {
            program
                .workers
                .iter()
                .flatten()
                .any(|op| matches!(op, Op::Start(t) if *t as usize == w))
        };
        let threads = (0..program.workers.len())
            .map(|w| Thread {
                pc: 0,
                regs: [0; 6],
                count: 0,
                started: !started_by_other(w),
                since: 0,
            })
            .collect();
        let mut state = Self {
            program,
            threads,
            mem: program.init.clone(),
            tokens: program.tokens.clone(),
            now: 0,
        };
        (0..program.workers.len()).for_each(|w| state.settle(w));
        state
    }

    /// Executes local operations until a visible one is next.
    fn settle(&mut self, w: usize) {
        let thread = &mut self.threads[w];
        while let Some(op) = self.program.workers[w].get(thread.pc) {
            let target = match *op {
                Op::Set(r, v) => {
                    thread.regs[r] = eval(&thread.regs, v);
                    None
                }
                Op::JumpIfZero(r, t) => (thread.regs[r] == 0).then_some(t),
                Op::JumpIfNot(r, t) => (thread.regs[r] != 0).then_some(t),
                Op::JumpIfLess(r, c, t) => (thread.regs[r] < c).then_some(t),
                Op::Jump(t) => Some(t),
                _ => return,
            };
            thread.pc = target.unwrap_or(thread.pc + 1);
        }
    }

    pub fn workers(&self) -> usize {
        self.threads.len()
    }

    pub fn next_op(&self, w: usize) -> Option<Op> {
        self.program.workers[w].get(self.threads[w].pc).copied()
    }

    fn address(&self, w: usize, at: At) -> i64 {
        at.0 + at.1.map_or(0, |r| self.threads[w].regs[r])
    }

    fn tokens(&self, lock: i64) -> i64 {
        self.tokens.get(&lock).copied().unwrap_or(1)
    }

    pub fn ended(&self, w: usize) -> bool {
        self.next_op(w).is_none()
    }

    /// Who can run. If nobody can, time jumps to the earliest deadline.
    pub fn runnable(&self) -> Vec<usize> {
        let enabled: Vec<usize> = (0..self.workers()).filter(|&w| self.enabled(w)).collect();
        if enabled.is_empty() {
            let waiting = (0..self.workers()).filter_map(|w| Some((self.deadline(w)?, w)));
            return waiting.min().map(|(_, w)| w).into_iter().collect();
        }
        enabled
    }

    fn deadline(&self, w: usize) -> Option<u32> {
        match self.next_op(w)? {
            Op::Sleep(n) | Op::AcquireWithin(_, _, n) if self.threads[w].started => {
                Some(self.threads[w].since + n)
            }
            _ => None,
        }
    }

    /// Does the worker's next event need time to jump?
    fn times_out(&self, w: usize) -> bool {
        self.deadline(w).is_some() && !self.enabled(w)
    }

    fn enabled(&self, w: usize) -> bool {
        self.threads[w].started
            && match self.next_op(w) {
                None => false,
                Some(Op::Sleep(_)) => false,
                Some(Op::Acquire(l) | Op::AcquireAndWrite(l, _) | Op::AcquireWithin(_, l, _)) => {
                    self.tokens(self.address(w, l)) > 0
                }
                Some(Op::Join(t)) => self.threads[t as usize].started && self.ended(t as usize),
                Some(_) => true,
            }
    }

    /// The accesses of a worker's next event, as if it were executed now (a
    /// disabled acquire: as it waits).
    pub fn next(&self, w: usize) -> Vec<(Key, Kind)> {
        // Only who is alone is waited for by time.
        let running = self.runnable() == [w];
        let var = |at| (0, self.address(w, at));
        let lock = |at| (1, self.address(w, at));
        let regs = &self.threads[w].regs;
        match self.next_op(w).expect("worker has ended") {
            Op::Read(_, x) => vec![(var(x), Kind::Read)],
            Op::Write(x, _) | Op::Rmw(_, x, _) => vec![(var(x), Kind::Write)],
            Op::Sweep(x) => {
                let (space, first) = var(x);
                let count = self.mem.get(&first).copied().unwrap_or(0);
                let looks = (1..=count).map(|i| ((space, first + i), Kind::Read));
                std::iter::once(((space, first), Kind::Write)).chain(looks).collect()
            }
            Op::Cas(_, x, old, _) => {
                let now = self.mem.get(&var(x).1).copied().unwrap_or(0);
                let hit = now == eval(regs, old);
                vec![(var(x), if hit { Kind::Hit } else { Kind::Miss })]
            }
            Op::Acquire(l) => vec![(lock(l), Kind::Acquire)],
            Op::Sleep(_) => vec![((-1, 0), Kind::Advance)],
            Op::AcquireWithin(_, l, _) if self.times_out(w) && !running => {
                vec![(lock(l), Kind::Acquire)]
            }
            Op::AcquireWithin(_, l, _) if self.times_out(w) => {
                vec![((-1, 0), Kind::Advance), (lock(l), Kind::Miss)]
            }
            Op::AcquireWithin(_, l, _) => vec![(lock(l), Kind::Acquire)],
            Op::Release(l) => vec![(lock(l), Kind::Release)],
            Op::Try(_, l) => {
                let free = self.tokens(lock(l).1) > 0;
                vec![(lock(l), if free { Kind::TryAcquire } else { Kind::Miss })]
            }
            Op::Start(t) => vec![((-1, t as i64), Kind::Start)],
            Op::Join(t) => vec![((-1, t as i64), Kind::Join)],
            Op::AcquireAndWrite(l, x) => {
                vec![(lock(l), Kind::Acquire), (var(x), Kind::Write)]
            }
            Op::Private => vec![((2, w as i64), Kind::Write)],
            op => unreachable!("{op:?} is local"),
        }
    }

    /// Executes a block: up to the next [`Op::Private`], or until it has to wait.
    /// Returns its accesses; a location counts once, as written if it ever is.
    pub fn block(&mut self, w: usize) -> Vec<(Key, Kind)> {
        let mut all: Vec<(Key, Kind)> = Vec::new();
        loop {
            let yields = matches!(self.next_op(w), Some(Op::Private));
            for (key, kind) in self.next(w).into_iter().filter(|_| !yields) {
                let kind = match kind {
                    Kind::Read | Kind::Miss => Kind::Read,
                    Kind::Acquire | Kind::Release => kind,
                    _ => Kind::Write,
                };
                match all.iter_mut().find(|(k, _)| *k == key && key.0 == 0) {
                    Some((_, known)) if kind == Kind::Write => *known = kind,
                    Some(_) => {}
                    None => all.push((key, kind)),
                }
            }
            self.step(w);
            if yields || matches!(self.next_op(w), None | Some(Op::Acquire(_))) {
                return all;
            }
        }
    }

    pub fn step(&mut self, w: usize) {
        let op = self.next_op(w).expect("worker has ended");
        let mut result = None;
        let times_out = self.times_out(w);
        if let Some(deadline) = self.deadline(w).filter(|_| times_out) {
            self.now = self.now.max(deadline);
        }
        let address = |at| self.address(w, at);
        match op {
            Op::Read(r, x) => {
                result = Some((r, self.mem.get(&address(x)).copied().unwrap_or(0)));
            }
            Op::Write(x, v) => {
                let (x, v) = (address(x), eval(&self.threads[w].regs, v));
                self.mem.insert(x, v);
            }
            Op::Rmw(r, x, n) => {
                let x = address(x);
                let old = self.mem.get(&x).copied().unwrap_or(0);
                self.mem.insert(x, old + n);
                result = Some((r, old));
            }
            Op::Sweep(x) => {
                let x = address(x);
                *self.mem.entry(x).or_insert(0) -= 1;
            }
            Op::Cas(r, x, old, new) => {
                let x = address(x);
                let regs = &self.threads[w].regs;
                let (old, new) = (eval(regs, old), eval(regs, new));
                let hit = self.mem.get(&x).copied().unwrap_or(0) == old;
                if hit {
                    self.mem.insert(x, new);
                }
                result = Some((r, hit as i64));
            }
            Op::Acquire(l) => {
                let l = address(l);
                *self.tokens.entry(l).or_insert(1) -= 1;
            }
            Op::Sleep(_) => {}
            Op::AcquireWithin(r, l, _) => {
                let l = address(l);
                if !times_out {
                    *self.tokens.entry(l).or_insert(1) -= 1;
                }
                result = Some((r, !times_out as i64));
            }
            Op::AcquireAndWrite(l, x) => {
                let (l, x) = (address(l), address(x));
                *self.tokens.entry(l).or_insert(1) -= 1;
                *self.mem.entry(x).or_insert(0) += 1 + 2 * w as i64;
            }
            Op::Release(l) => {
                let l = address(l);
                *self.tokens.entry(l).or_insert(1) += 1;
            }
            Op::Try(r, l) => {
                let l = address(l);
                let free = self.tokens(l) > 0;
                if free {
                    *self.tokens.entry(l).or_insert(1) -= 1;
                }
                result = Some((r, free as i64));
            }
            Op::Start(t) => {
                self.threads[t as usize].started = true;
                self.threads[t as usize].since = self.now;
            }
            Op::Join(_) | Op::Private => {}
            _ => unreachable!(),
        }
        let thread = &mut self.threads[w];
        if let Some((r, value)) = result {
            thread.regs[r] = value;
        }
        thread.pc += 1;
        thread.count += 1;
        thread.since = self.now;
        self.settle(w);
    }

    /// Started, not ended, and nobody enabled.
    pub fn is_deadlock(&self) -> bool {
        (0..self.workers()).any(|w| self.threads[w].started && !self.ended(w))
    }
}

fn eval(regs: &[i64; 6], v: Val) -> i64 {
    match v {
        Val::C(c) => c,
        Val::R(r) => regs[r],
        Val::Add(r, c) => regs[r] + c,
        Val::Sum(a, b) => regs[a] + regs[b],
    }
}

// ------------------------------------------------------------------- traces

/// Read sets and single writes, as (is it a write, events).
type Log = Vec<(bool, Vec<(Worker, u32)>)>;

/// The order of conflicting accesses of each location: writes, and sets of
/// reads in between. Equal for two interleavings iff they are one Mazurkiewicz
/// trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Canon {
    counts: Vec<u32>,
    logs: BTreeMap<Key, Log>,
}

impl Canon {
    pub fn new(workers: usize) -> Self {
        Self { counts: vec![0; workers], logs: BTreeMap::new() }
    }

    pub fn add(&mut self, w: usize, accesses: &[(Key, Kind)]) {
        let me = (w as Worker, self.counts[w]);
        self.counts[w] += 1;
        for &(key, kind) in accesses {
            if kind == Kind::Advance {
                // After everything until now, and before everything later.
                let all = (0..).zip(&self.counts).map(|(w, &n)| (w, n)).collect();
                self.logs.entry((-2, 0)).or_default().push((true, all));
            }
            if !kind.is_memory() || key.0 == 2 {
                continue;
            }
            let log = self.logs.entry(key).or_default();
            match log.last_mut() {
                Some((false, reads)) if !kind.is_write() => {
                    let at = reads.partition_point(|r| *r < me);
                    reads.insert(at, me);
                }
                _ => log.push((kind.is_write(), vec![me])),
            }
        }
    }
}

/// What a maximal trace ends in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub mem: BTreeMap<i64, i64>,
    pub deadlock: bool,
    /// It was not played to its end.
    pub cut: bool,
}

/// All maximal traces, by breadth-first search over trace prefixes, without any
/// reduction theory. `None` if there are more than `limit` prefixes.
pub fn brute(program: &Program, limit: usize) -> Option<BTreeMap<Canon, Outcome>> {
    brute_with(program, limit, |state, w| {
        let accesses = state.next(w);
        state.step(w);
        accesses
    })
}

/// The same, where a step executes an event of any size and returns its accesses.
pub fn brute_with(
    program: &Program,
    limit: usize,
    step: impl Fn(&mut State<'_>, usize) -> Vec<(Key, Kind)>,
) -> Option<BTreeMap<Canon, Outcome>> {
    let start = State::new(program);
    let mut level = HashMap::new();
    level.insert(Canon::new(start.workers()), start);
    let mut all = BTreeMap::new();
    let mut prefixes = 0;
    while !level.is_empty() {
        prefixes += level.len();
        if prefixes > limit {
            return None;
        }
        let mut next: HashMap<Canon, State> = HashMap::new();
        for (canon, state) in level {
            let mut maximal = true;
            for w in state.runnable() {
                maximal = false;
                let mut longer = canon.clone();
                let mut after = state.clone();
                longer.add(w, &step(&mut after, w));
                next.entry(longer).or_insert(after);
            }
            if maximal {
                let deadlock = state.is_deadlock();
                all.insert(canon, Outcome { mem: state.mem, deadlock, cut: false });
            }
        }
        level = next;
    }
    Some(all)
}

/// Fewest preemptions (leaving a worker that is still enabled) over the
/// linearisations of each trace: 0-1 breadth-first search.
pub fn preemptions(program: &Program) -> BTreeMap<Canon, u32> {
    let start = State::new(program);
    let canon = Canon::new(start.workers());
    let mut best: BTreeMap<Canon, u32> = BTreeMap::new();
    let mut distance: HashMap<(Canon, Option<usize>), u32> = HashMap::new();
    let mut queue = VecDeque::new();
    distance.insert((canon.clone(), None), 0);
    queue.push_back((0, canon, None, start));
    while let Some((d, canon, last, state)) = queue.pop_front() {
        let key = (canon, last);
        if distance[&key] < d {
            continue;
        }
        let canon = key.0;
        let enabled = state.runnable();
        if enabled.is_empty() {
            let b = best.entry(canon).or_insert(u32::MAX);
            *b = (*b).min(d);
            continue;
        }
        for &w in &enabled {
            let preempts = last.is_some_and(|l| l != w && enabled.contains(&l));
            let cost = d + preempts as u32;
            let mut longer = canon.clone();
            longer.add(w, &state.next(w));
            let key = (longer, Some(w));
            if distance.get(&key).is_none_or(|&known| cost < known) {
                distance.insert(key.clone(), cost);
                let mut after = state.clone();
                after.step(w);
                let entry = (cost, key.0, Some(w), after);
                if preempts { queue.push_back(entry) } else { queue.push_front(entry) }
            }
        }
    }
    best
}

// ------------------------------------------------------------------- runner

/// What a runner tells of locations, see [`Trait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    /// Whether it is a variable or a lock.
    Part,
    /// Everything, but of every other location only.
    Some,
    /// Everything.
    All,
}

/// Executes plans. Locations get other numbers in every execution.
pub struct Runner<'p> {
    pub program: &'p Program,
    pub seed: u64,
    /// In the free run, who goes first among the enabled.
    pub order: u64,
    /// What is told of locations?
    pub told: Told,
    /// Leave a plan where it cannot be followed?
    pub lenient: bool,
    /// Are events blocks? See [`State::block`].
    pub blocks: bool,
}

impl<'p> Runner<'p> {
    pub fn new(program: &'p Program, seed: u64) -> Self {
        Self { program, seed, order: 0, told: Told::All, lenient: false, blocks: false }
    }

    fn random(&mut self) -> u64 {
        // splitmix64
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn run(&mut self, plan: &Plan, trace: &mut Trace) -> (Canon, Outcome) {
        self.run_choosing(plan, None, trace)
    }

    /// Executes a plan; where it leaves a choice, the strategy makes it.
    pub fn run_choosing(
        &mut self,
        plan: &Plan,
        mut strategy: Option<&mut dyn Strategy>,
        trace: &mut Trace,
    ) -> (Canon, Outcome) {
        trace.clear();
        trace.blocks = self.blocks;
        let blocks = self.blocks;
        let sparse = self.random() % 4 == 0;
        let salt = self.random() as u32 >> if sparse { 1 } else { 26 };
        let mut locs: HashMap<Key, u32> = HashMap::new();
        let flip = self.random() % 64;
        let locs_of = RefCell::new(&mut locs);
        let number = RefCell::new(|key: Key| -> u32 {
            if key.0 == -1 {
                return key.1 as u32;
            }
            let mut locs = locs_of.borrow_mut();
            let n = locs.len() as u32;
            *locs.entry(key).or_insert_with(|| salt + (n ^ flip as u32))
        });
        let mut state = State::new(self.program);
        for (&lock, &tokens) in &self.program.tokens {
            trace.set_tokens(number.borrow_mut()((1, lock)), tokens as u32);
        }
        let mut canon = Canon::new(state.workers());
        let workers = state.workers();
        let mut run = |state: &mut State, w: usize, trace: &mut Trace| -> Vec<(Key, Kind)> {
            let pc = state.threads[w].pc as u32;
            let accesses = if blocks { state.block(w) } else { state.next(w) };
            let list: Vec<Access> = accesses
                .iter()
                .map(|&(k, kind)| Access { loc: number.borrow_mut()(k), kind })
                .collect();
            trace.push(w as Worker, pc, &list);
            canon.add(w, &accesses);
            if !blocks {
                state.step(w);
            }
            accesses
        };
        let mut current = None;
        let of = |s: &Segment| std::iter::repeat_n(s.worker as usize, s.events as usize);
        let mut planned: VecDeque<usize> = plan.segments.iter().flat_map(of).collect();
        let mut sleep: Vec<Sleeper> = Vec::new();
        let mut cut;
        loop {
            if !blocks && !plan.sleep.is_empty() && trace.len() == plan.sleep_from as usize {
                sleep.clone_from(&plan.sleep);
            }
            let asleep = |w: usize| sleep.iter().any(|s| s.worker as usize == w);
            let enabled = state.runnable();
            if self.lenient && planned.front().is_some_and(|w| !enabled.contains(w)) {
                planned.clear();
            }
            let w = if let Some(w) = planned.pop_front() {
                assert!(enabled.contains(&w), "planned worker {w} is disabled: {plan:?}");
                cut = asleep(w);
                w
            } else {
                let pool: Vec<usize> = enabled.iter().copied().filter(|&w| !asleep(w)).collect();
                cut = pool.is_empty() && !enabled.is_empty();
                if pool.is_empty() {
                    break;
                }
                let next: Vec<(usize, Vec<Access>)> = match &strategy {
                    Some(s) if s.chooses() => pool
                        .iter()
                        .map(|&w| {
                            let next = state.next(w).into_iter();
                            let access = |(k, kind)| Access { loc: number.borrow_mut()(k), kind };
                            (w, next.map(access).collect())
                        })
                        .collect(),
                    _ => Vec::new(),
                };
                let candidates: Vec<Candidate<'_>> =
                    next.iter().map(|(w, next)| Candidate { worker: *w as Worker, next }).collect();
                match current {
                    _ if !candidates.is_empty() => {
                        let current = current.map(|w| w as Worker);
                        strategy.as_mut().expect("chooses").choose(current, &candidates) as usize
                    }
                    Some(w) if pool.contains(&w) && self.order == 0 => w,
                    _ => pool[self.order as usize % pool.len()],
                }
            };
            if cut {
                break;
            }
            let before: Vec<Vec<(Key, Kind)>> = sleep
                .iter()
                .map(|s| {
                    let next = state.next(s.worker as usize);
                    next.iter().zip(&s.kinds).map(|(a, &k)| (a.0, k)).collect()
                })
                .collect();
            let done = run(&mut state, w, trace);
            current = Some(w);
            let mut i = 0;
            sleep.retain(|_| {
                let list = &before[i];
                i += 1;
                !list.iter().any(|a| done.iter().any(|b| a.0 == b.0 && a.1.conflicts(b.1)))
            });
        }
        for w in 0..workers {
            if state.threads[w].started && !state.ended(w) && !blocks {
                let accesses = state
                    .next(w)
                    .iter()
                    .map(|&(k, kind)| Access { loc: number.borrow_mut()(k), kind })
                    .collect();
                trace.pending.push(Pending { worker: w as Worker, accesses });
            }
        }
        for (&(space, n), &loc) in locs_of.borrow().iter() {
            let (space, n) = (space as u64 + 1, n as u64 + 1);
            match self.told {
                Told::All => trace.set_trait(loc, Trait { object: space, part: n }),
                Told::Part => trace.set_trait(loc, Trait { object: 0, part: space }),
                Told::Some if n % 2 == 0 => trace.set_trait(loc, Trait { object: space, part: n }),
                Told::Some | Told::Nothing => {}
            }
        }
        let deadlock = state.is_deadlock();
        (canon, Outcome { mem: state.mem, deadlock, cut })
    }
}

/// Explores a program. Returns the trace of every execution that was not cut off,
/// in order.
pub fn explore(
    program: &Program,
    strategy: &mut dyn Strategy,
    seed: u64,
    limit: usize,
) -> Vec<(Canon, Outcome)> {
    explore_with(Runner::new(program, seed), strategy, limit)
}

pub fn explore_with(
    mut runner: Runner<'_>,
    strategy: &mut dyn Strategy,
    limit: usize,
) -> Vec<(Canon, Outcome)> {
    let mut trace = Trace::new();
    let mut all = Vec::new();
    let mut plan = strategy.next_plan(None).cloned();
    while let Some(p) = plan {
        let (canon, outcome) = runner.run_choosing(&p, Some(strategy), &mut trace);
        if !outcome.cut {
            all.push((canon, outcome));
        }
        if all.len() >= limit {
            break;
        }
        plan = strategy.next_plan(Some(&trace)).cloned();
    }
    all
}
