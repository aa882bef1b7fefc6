//! The caller's world, in which setup and invariant run: thread-locals, context
//! variables, the current thread.
//!
//! With a GIL the caller's thread state is lent to the carrier while the caller
//! waits. Without one, memory and reference counts belong to the OS thread that
//! made them (`Python/pystate.c`, `tstate_mimalloc_bind`; `Python/brc.c`), so the
//! state stays at home, and the caller runs errands for the carrier.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::thread_state::{StackBounds, ThreadState};

/// The caller's thread state.
#[cfg_attr(Py_GIL_DISABLED, allow(dead_code))]
pub struct Lent {
    state: ThreadState,
    /// Where the interpreter thinks that the state's C stack is.
    stack: StackBounds,
    /// Held by whoever may attach the state.
    token: Token,
    /// A state to run Python with on the caller's thread while the other one is lent.
    own: Mutex<Option<ThreadState>>,
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
}

/// Something to run on the thread of a caller who is waited for.
struct Errand(Box<dyn FnOnce()>);

// SAFETY: who hands it over waits until it has been run.
unsafe impl Send for Errand {}

impl Lent {
    /// Of the calling thread, where it is no longer attached from now on.
    pub fn by_caller() -> Lent {
        let state = ThreadState::current();
        let stack = state.stack_bounds();
        ThreadState::detach();
        Lent {
            state,
            stack,
            token: Token::default(),
            own: Mutex::default(),
            mail: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    /// The identity of the caller's thread.
    pub fn identity(&self) -> usize {
        self.state.identity()
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
            MutexGuard::unlocked(&mut mail, || self.run(errand));
            mail.answered = true;
            self.arrived.notify_all();
        }
        mail.finished
    }

    fn run(&self, errand: Errand) {
        self.state.attach();
        (errand.0)();
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
        let own = *self.own.lock().get_or_insert_with(|| self.state.sibling());
        own.attach_beside();
        let result = work();
        ThreadState::detach();
        self.state.be_found_here();
        result
    }

    /// Attaches the state on the caller's thread again.
    pub fn return_home(&self) {
        let own = self.own.lock().take();
        self.state.set_stack_bounds(self.stack);
        self.state.attach_at_home(own.is_some());
        if let Some(own) = own {
            own.dispose();
        }
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
        let errand: Box<dyn FnOnce() + '_> = Box::new(|| result = Some(work()));
        // SAFETY: what it borrows lives until this function returns, which waits for
        // the errand to have been run.
        let errand =
            unsafe { std::mem::transmute::<Box<dyn FnOnce() + '_>, Box<dyn FnOnce()>>(errand) };
        let own = ThreadState::detach();
        let mut mail = self.mail.lock();
        mail.errand = Some(Errand(errand));
        mail.answered = false;
        self.arrived.notify_all();
        self.arrived.wait_while(&mut mail, |mail| !mail.answered);
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
