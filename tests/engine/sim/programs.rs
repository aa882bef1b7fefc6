//! The programs of the literature, as in `mazur.py`.

use super::Op::*;
use super::{At, Op, Program, Val, at};
use Val::*;

const X: i64 = 0;

pub fn readers(n: usize) -> Program {
    let mut workers = vec![vec![Write(at(X), C(42))]];
    workers.extend((0..n).map(|_| vec![Read(0, at(X))]));
    Program::new(workers)
}

pub fn lastzero(n: i64) -> Program {
    // r0 = i; while x[r0] != 0: r0 -= 1
    let reader =
        vec![Set(0, C(n)), Read(1, At(0, Some(0))), JumpIfZero(1, 5), Set(0, Add(0, -1)), Jump(1)];
    let mut workers = vec![reader];
    workers.extend((1..=n).map(|j| vec![Read(0, at(j - 1)), Write(at(j), Add(0, 1))]));
    Program::new(workers)
}

pub fn indexer(n: i64) -> Program {
    let worker = |tid: i64| -> Vec<Op> {
        let mut ops = Vec::new();
        for m in 1..=4i64 {
            let w = m * 11 + tid;
            let base = ops.len();
            // The table has 128 entries; probing does not wrap for these sizes.
            ops.push(Set(0, C((w * 7) % 128)));
            ops.push(Acquire(At(0, Some(0)))); // base+1
            ops.push(Read(1, At(0, Some(0))));
            ops.push(JumpIfNot(1, base + 7));
            ops.push(Write(At(0, Some(0)), C(w)));
            ops.push(Release(At(0, Some(0))));
            ops.push(Jump(base + 10));
            ops.push(Release(At(0, Some(0)))); // base+7
            ops.push(Set(0, Add(0, 1)));
            ops.push(Jump(base + 1));
        }
        ops
    };
    Program::new((0..n).map(worker).collect())
}

pub fn filesystem(n: i64) -> Program {
    const LOCKB: i64 = 1000;
    const BUSY: i64 = 1000;
    let worker = |tid: i64| -> Vec<Op> {
        let i = tid % 32;
        vec![
            Acquire(at(i)),
            Read(0, at(i)),
            JumpIfNot(0, 13),
            Set(1, C((i * 2) % 26)),
            Acquire(At(LOCKB, Some(1))), // 4
            Read(2, At(BUSY, Some(1))),
            JumpIfNot(2, 11),
            Write(At(BUSY, Some(1)), C(1)),
            Write(at(i), Add(1, 1)),
            Release(At(LOCKB, Some(1))),
            Jump(13),
            Release(At(LOCKB, Some(1))), // 11
            Jump(14),
            Jump(16),          // 13
            Set(1, Add(1, 1)), // 14
            Jump(4),
            Release(at(i)), // 16
        ]
    };
    Program::new((0..n).map(worker).collect())
}

pub fn counter(n: usize, k: usize) -> Program {
    let inc = [Read(0, at(X)), Write(at(X), Add(0, 1))].repeat(k);
    Program::new(vec![inc; n])
}

pub fn locked_counter(n: usize, k: usize) -> Program {
    let inc = [Acquire(at(0)), Read(0, at(X)), Write(at(X), Add(0, 1)), Release(at(0))].repeat(k);
    Program::new(vec![inc; n])
}

pub fn writers_a_reader(n: i64) -> Program {
    let mut workers: Vec<Vec<Op>> = (0..n).map(|i| vec![Write(at(X), C(i))]).collect();
    workers.push(vec![Read(0, at(X))]);
    Program::new(workers)
}

pub fn ainc(n: usize) -> Program {
    Program::new(vec![vec![Rmw(0, at(X), 1)]; n])
}

pub fn cinc(n: usize) -> Program {
    // three independent-looking atomic increments of three variables
    Program::new(vec![vec![Rmw(0, at(0), 1), Rmw(0, at(1), 1), Rmw(0, at(2), 1)]; n])
}

pub fn casrot(n: i64) -> Program {
    Program::new((1..=n).map(|i| vec![Cas(0, at(X), C(i - 1), C(i))]).collect())
}

pub fn cas(n: i64) -> Program {
    Program::new((1..=n).map(|i| vec![Cas(0, at(X), C(0), C(i))]).collect())
}

pub fn casw(n: i64) -> Program {
    Program::new((0..n).map(|i| vec![Cas(0, at(X), C(0), C(1)), Write(at(X), C(i + 3))]).collect())
}

pub fn fib(k: usize, observer: bool) -> Program {
    let body = |mine| [Read(0, at(0)), Read(1, at(1)), Write(at(mine), Sum(0, 1))].repeat(k);
    let mut workers = vec![body(0), body(1)];
    if observer {
        workers.push(vec![Read(0, at(0)), Read(1, at(1))]);
    }
    Program::new(workers).with(0, 1).with(1, 1)
}

pub fn coa(n: i64) -> Program {
    let mut workers = vec![
        vec![Write(at(0), C(1)), Read(0, at(1)), Read(1, at(0))],
        vec![Write(at(0), C(2)), Read(0, at(2)), Read(1, at(0))],
    ];
    workers.extend((0..n - 1).map(|i| vec![Write(at(1), C(i)), Write(at(2), C(i))]));
    Program::new(workers)
}

pub fn store_buffer(n: i64) -> Program {
    Program::new((0..n).map(|i| vec![Write(at(i), C(1)), Read(0, at((i + 1) % n))]).collect())
}

pub fn philosophers(n: i64) -> Program {
    let worker = |i: i64| {
        let j = (i + 1) % n;
        vec![Acquire(at(i)), Acquire(at(j)), Release(at(j)), Release(at(i))]
    };
    Program::new((0..n).map(worker).collect())
}

pub fn lock_order(n: i64) -> Program {
    let worker = |i: i64| {
        let (a, b) = if i % 2 == 0 { (0, 1) } else { (1, 0) };
        vec![Acquire(at(a)), Acquire(at(b)), Release(at(b)), Release(at(a))]
    };
    Program::new((0..n).map(worker).collect())
}

pub fn account(n: usize) -> Program {
    let worker = vec![Read(0, at(X)), JumpIfZero(0, 4), Read(0, at(X)), Write(at(X), Add(0, -1))];
    // The balance can become negative, which also counts as too little.
    let worker = worker
        .into_iter()
        .map(|op| if let JumpIfZero(r, t) = op { super::Op::JumpIfLess(r, 1, t) } else { op })
        .collect::<Vec<_>>();
    Program::new(vec![worker; n]).with(X, 1)
}

pub fn message_passing() -> Program {
    Program::new(vec![
        vec![Write(at(0), C(1)), Write(at(1), C(1))],
        vec![Read(0, at(1)), JumpIfZero(0, 3), Read(0, at(0))],
    ])
}

/// Each worker's step touches more the earlier it comes.
pub fn sweepers(n: usize) -> Program {
    Program::new(vec![vec![Sweep(at(X))]; n]).with(X, n as i64)
}

/// Of two tokens; one worker is never started in some executions.
pub fn late_worker() -> Program {
    let mut program = Program::new(vec![
        vec![Acquire(at(1)), Read(0, at(0)), Release(at(1)), Start(2)],
        vec![Write(at(2), C(0)), super::Op::AcquireAndWrite(at(1), at(0))],
        vec![Acquire(at(0))],
        vec![Acquire(at(1)), Read(0, at(2))],
    ]);
    program.tokens.insert(1, 2);
    program
}

/// SCTBench twostage: so many write in two locked sections and read in between, so many
/// look whether both are done.
pub fn twostage(writers: usize, readers: usize) -> Program {
    let write = vec![
        Acquire(at(0)),
        Write(at(0), C(1)),
        Release(at(0)),
        Acquire(at(1)),
        Read(0, at(0)),
        Write(at(1), Add(0, 1)),
        Release(at(1)),
    ];
    let read = vec![
        Acquire(at(0)),
        Read(0, at(0)),
        Release(at(0)),
        JumpIfZero(0, 7),
        Acquire(at(1)),
        Read(1, at(1)),
        Release(at(1)),
    ];
    Program::new([vec![write; writers], vec![read; readers]].concat())
}

/// SCTBench wronglock: one increments under a lock and checks it, the others increment
/// under another lock.
pub fn wronglock(others: usize) -> Program {
    let mut workers = vec![vec![
        Acquire(at(0)),
        Read(0, at(X)),
        Read(1, at(X)),
        Write(at(X), Add(1, 1)),
        Read(2, at(X)),
        Release(at(0)),
    ]];
    let other = vec![Acquire(at(1)), Read(0, at(X)), Write(at(X), Add(0, 1)), Release(at(1))];
    workers.extend(vec![other; others]);
    Program::new(workers)
}

/// SCTBench reorder: n-1 setters, one checker.
pub fn reorder(n: usize) -> Program {
    let mut workers = vec![vec![Write(at(0), C(1)), Write(at(1), C(-1))]; n - 1];
    workers.push(vec![Read(0, at(0)), Read(1, at(1))]);
    Program::new(workers)
}
