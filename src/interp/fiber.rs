//! Fibers: a C stack and a thread state that belong together. All fibers of an
//! OS thread take turns on it; switching costs tens of nanoseconds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corosensei::stack::{DefaultStack, Stack};
use corosensei::{Coroutine, Yielder};

use super::thread_state::{StackBounds, ThreadState};

/// Size of a fiber's C stack: what the main thread usually has. Only touched
/// pages take memory.
pub(super) const STACK_SIZE: usize = 8 << 20;

/// What a worker runs.
pub(super) type Body = Box<dyn FnOnce()>;

struct Shared {
    task: RefCell<Option<Body>>,
    yielder: Cell<*const Yielder<(), ()>>,
    idle: Cell<bool>,
}

/// A fiber. It runs one task after the other, and is never freed while one is
/// unfinished.
pub struct Fiber {
    coroutine: Coroutine<(), (), ()>,
    shared: Rc<Shared>,
    state: ThreadState,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Shared>>> = const { RefCell::new(None) };
    static POOL: RefCell<Vec<Fiber>> = const { RefCell::new(Vec::new()) };
}

impl Fiber {
    /// A fiber from the pool of this OS thread, or a new one.
    pub fn take() -> std::io::Result<Fiber> {
        if let Some(fiber) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(fiber);
        }
        let stack = DefaultStack::new(STACK_SIZE)?;
        let (top, lowest) = (stack.base().get(), stack.limit().get());
        let state = ThreadState::new().ok_or_else(std::io::Error::last_os_error)?;
        state.set_stack_bounds(StackBounds::of(lowest, top - lowest));
        let shared = Rc::new(Shared {
            task: RefCell::new(None),
            yielder: Cell::new(std::ptr::null()),
            idle: Cell::new(true),
        });
        let inner = shared.clone();
        let coroutine = Coroutine::with_stack(stack, move |yielder, ()| {
            inner.yielder.set(yielder);
            // Without a task it ends.
            while let Some(task) = { inner.task.take() } {
                task();
                inner.idle.set(true);
                yielder.suspend(());
            }
        });
        Ok(Fiber { coroutine, shared, state })
    }

    /// Gives an idle fiber something to run at its next resumption.
    pub fn assign(&mut self, task: Body) {
        debug_assert!(self.shared.idle.get());
        *self.shared.task.borrow_mut() = Some(task);
        self.shared.idle.set(false);
    }

    /// Its thread state.
    pub fn state(&self) -> ThreadState {
        self.state
    }

    /// Has it finished its task?
    pub fn is_idle(&self) -> bool {
        self.shared.idle.get()
    }

    /// Runs it until it suspends itself or finishes its task, with its thread
    /// state attached.
    pub fn resume(&mut self) {
        if ThreadState::current() != self.state {
            self.state.switch_to();
        }
        let outer = CURRENT.replace(Some(self.shared.clone()));
        self.coroutine.resume(());
        CURRENT.set(outer);
    }

    /// Ends all idle fibers of this OS thread but so many.
    pub fn end_idle(but: usize) {
        let ended = POOL.with_borrow_mut(|pool| pool.split_off(but.min(pool.len())));
        for mut fiber in ended {
            fiber.coroutine.resume(());
            fiber.state.dispose();
        }
    }

    /// Puts an idle fiber back into the pool; one that is not is leaked, with its
    /// stack and its thread state, because frames still live there.
    pub fn retire(self) {
        if self.is_idle() {
            POOL.with_borrow_mut(|pool| pool.push(self));
        } else {
            std::mem::forget(self);
        }
    }
}

/// Suspends the fiber that calls it; returns when it is resumed.
pub fn suspend() {
    let yielder =
        CURRENT.with_borrow(|current| current.as_ref().map(|shared| shared.yielder.get()));
    if let Some(yielder) = yielder {
        // SAFETY: the yielder lives on the stack of the fiber that runs now.
        unsafe { (*yielder).suspend(()) };
    }
}
