//! The caller's world, in which setup and invariant run: thread-locals, context
//! variables, the current thread.
//!
//! With a GIL the caller's thread state is lent to the carrier while the caller
//! waits. Without one, memory and reference counts belong to the OS thread that
//! made them (`Python/pystate.c`, `tstate_mimalloc_bind`; `Python/brc.c`), so the
//! state stays at home, and the caller runs errands for the carrier. He takes its place
//! in the session meanwhile, and it keeps his watch.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::error;
#[cfg(Py_GIL_DISABLED)]
use super::primitives;
use super::thread_state::{StackBounds, ThreadState};
#[cfg(Py_GIL_DISABLED)]
use crate::runtime::{execution::Cut, session};

/// How often the carrier looks whether an errand takes too long.
#[cfg(Py_GIL_DISABLED)]
const TICK: Duration = Duration::from_millis(50);

/// The caller's thread state.
#[cfg_attr(Py_GIL_DISABLED, allow(dead_code))]
pub struct Lent {
    state: ThreadState,
    /// Where the interpreter thinks that the state's C stack is.
    stack: StackBounds,
    /// Held by whoever may attach the state.
    token: Token,
    /// A state to run Python with on the caller's thread while the other one is lent.
    own: Option<ThreadState>,
    /// When the whole job has to be done.
    deadline: Option<Instant>,
    mail: Mutex<Mail>,
    arrived: Condvar,
}

/// What the carrier tells the caller.
#[derive(Default)]
struct Mail {
    /// The whole job is done.
    finished: bool,
    /// To be run on the caller's thread.
    errand: Option<Errand>,
    /// Have all errands been run?
    answered: bool,
    /// Has the carrier raised in the errand?
    raised: bool,
}

/// Something to run on the thread of a caller who is waited for.
struct Errand(Box<dyn FnOnce()>);

// SAFETY: who hands it over waits until it has been run.
unsafe impl Send for Errand {}

impl Lent {
    /// Of the calling thread, where it is no longer attached from now on.
    pub fn by_caller(deadline: Option<Instant>) -> Lent {
        let state = ThreadState::current();
        let stack = state.stack_bounds();
        let own = cfg!(not(Py_GIL_DISABLED)).then(|| state.sibling());
        // PyGILState_Ensure on this thread shall find the other one no more: it is bound to
        // the carrier now, and a state is bound to one thread at a time (3.12+).
        own.inspect(|own| own.switch_to());
        ThreadState::detach();
        Lent {
            state,
            stack,
            token: Token::default(),
            own,
            deadline,
            mail: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    /// The identity of the caller's thread.
    pub fn identity(&self) -> usize {
        self.state.identity()
    }

    /// Has the job taken too long?
    pub fn is_overdue(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// On the carrier, the last thing of all: nothing is attached any more.
    pub fn finish(&self) {
        self.mail.lock().finished = true;
        self.arrived.notify_all();
    }

    /// On the caller's thread: waits until the carrier has finished, or so long. Has it?
    pub fn wait(&self, most: Duration) -> bool {
        let mut mail = self.mail.lock();
        if !mail.finished && mail.errand.is_none() {
            self.arrived.wait_for(&mut mail, most);
        }
        if let Some(errand) = mail.errand.take() {
            MutexGuard::unlocked(&mut mail, || self.run(errand.0));
            if std::mem::take(&mut mail.raised) {
                // It may have been over before it noticed.
                self.run(Box::new(|| ThreadState::current().withdraw_exceptions()));
            }
            mail.answered = true;
            self.arrived.notify_all();
        }
        mail.finished
    }

    fn run(&self, errand: Box<dyn FnOnce()>) {
        self.state.attach();
        errand();
        ThreadState::detach();
    }
}

#[cfg(not(Py_GIL_DISABLED))]
impl Lent {
    /// On the carrier: attaches the caller's state, where none is attached.
    pub fn attach(&self) {
        self.token.take();
        self.state.attach_lent();
    }

    /// On the carrier: attaches the caller's state, where another one is attached.
    pub fn switch_to(&self) {
        if self.token.try_take() {
            self.state.switch_to_lent();
        } else {
            // The caller looks for signals right now, and needs the GIL for that.
            ThreadState::detach();
            self.token.take();
            self.state.attach_lent();
        }
    }

    /// On the carrier: allows the caller to attach its state, once another one is
    /// attached instead.
    pub fn give_back(&self) {
        self.token.give_back();
    }

    /// On the carrier: nothing is attached any more.
    pub fn detach(&self) {
        if let Some(own) = ThreadState::of_os_thread() {
            own.switch_to();
        }
        ThreadState::detach();
        self.give_back();
    }

    /// On the carrier: runs `work` in the caller's world, whose state is attached.
    pub fn with<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    /// On the caller's thread: keeps the state from the carrier for good. False if it
    /// is attached there.
    pub fn try_keep(&self) -> bool {
        self.token.try_take()
    }

    /// Runs Python on the caller's thread, with a thread state of its own.
    pub fn with_python<T>(&self, work: impl FnOnce() -> T) -> T {
        self.own.inspect(|own| own.attach());
        let result = work();
        ThreadState::detach();
        result
    }

    /// Raises in setup or invariant, at the next bytecode.
    pub fn raise_on_carrier(&self) {
        error::raise_in_thread(self.identity(), false);
    }

    /// Attaches the state on the caller's thread again.
    pub fn return_home(&self) {
        self.state.set_stack_bounds(self.stack);
        self.state.attach_at_home();
        self.own.inspect(|own| own.dispose());
    }
}

#[cfg(Py_GIL_DISABLED)]
impl Lent {
    /// On the carrier: attaches its own state.
    pub fn attach(&self) {
        if let Some(own) = ThreadState::of_os_thread() {
            own.attach();
        }
    }

    /// On the carrier, whose own state is attached: nothing to do.
    pub fn switch_to(&self) {}

    /// As above.
    pub fn give_back(&self) {}

    /// On the carrier: nothing is attached any more.
    pub fn detach(&self) {
        ThreadState::detach();
    }

    /// On the carrier: runs `work` in the caller's world, on the caller's thread.
    pub fn with<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut result = None;
        let (session, signals) = (session::current(), session::signals());
        let errand: Box<dyn FnOnce() + '_> = Box::new(|| {
            let before = session::take_part(Some(session));
            if signals.asked() == Some(Cut::Interrupted) {
                // The handler of a signal has raised since the last errand.
                error::raise_in_thread(self.identity(), false);
            }
            result = Some(primitives::standing_for(self.identity(), work));
            session::take_part(before);
            ThreadState::current().withdraw_exceptions();
        });
        // SAFETY: what it borrows lives until this function returns, which waits for
        // the errand to have been run.
        let errand =
            unsafe { std::mem::transmute::<Box<dyn FnOnce() + '_>, Box<dyn FnOnce()>>(errand) };
        let own = ThreadState::detach();
        let mut mail = self.mail.lock();
        mail.errand = Some(Errand(errand));
        mail.answered = false;
        self.arrived.notify_all();
        let mut ended = false;
        while !mail.answered {
            self.arrived.wait_for(&mut mail, TICK);
            if self.is_overdue() && !mail.answered && !std::mem::replace(&mut ended, true) {
                own.attach();
                error::raise_in_thread(self.identity(), false);
                ThreadState::detach();
                signals.interrupt(Cut::Interrupted);
                mail.raised = true;
            }
        }
        drop(mail);
        own.attach();
        result.expect("the errand was run")
    }

    /// On the caller's thread: keeps the state from the carrier for good.
    pub fn try_keep(&self) -> bool {
        true
    }

    /// Runs Python on the caller's thread.
    pub fn with_python<T>(&self, work: impl FnOnce() -> T) -> T {
        self.state.attach();
        let result = work();
        ThreadState::detach();
        result
    }

    /// Nothing runs there: it raises in the next errand.
    pub fn raise_on_carrier(&self) {}

    /// Attaches the state on the caller's thread again.
    pub fn return_home(&self) {
        self.state.attach();
    }
}

/// A lock without a guard: who has taken it need not be who gives it back.
#[derive(Default)]
#[cfg_attr(Py_GIL_DISABLED, allow(dead_code))]
struct Token {
    taken: Mutex<bool>,
    given_back: Condvar,
}

#[cfg(not(Py_GIL_DISABLED))]
impl Token {
    fn try_take(&self) -> bool {
        !std::mem::replace(&mut *self.taken.lock(), true)
    }

    fn take(&self) {
        let mut taken = self.taken.lock();
        self.given_back.wait_while(&mut taken, |taken| *taken);
        *taken = true;
    }

    fn give_back(&self) {
        *self.taken.lock() = false;
        self.given_back.notify_one();
    }
}
