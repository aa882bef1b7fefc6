//! Thread states: making, switching, resetting and lending them.
//!
//! CPython sources: `Python/pystate.c`, `Python/ceval_gil.c`.

use std::ptr::NonNull;

use pyo3_ffi as ffi;

use super::layout::{self, PyThreadState};
use super::object::{Obj, Owned};

unsafe extern "C" {
    #[cfg_attr(not(Py_3_13), link_name = "_PyThreadState_UncheckedGet")]
    fn PyThreadState_GetUnchecked() -> *mut PyThreadState;
}

/// A trace function of the interpreter, and what it is called with.
pub type TraceFunction = (layout::Py_tracefunc, Option<Owned>);

/// A thread state of this interpreter that lives as long as the process, or
/// that its owner keeps alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadState(NonNull<PyThreadState>);

// SAFETY: a handle only; every use requires the GIL or that no thread has the
// state attached, as stated at each function.
unsafe impl Send for ThreadState {}
// SAFETY: as above.
unsafe impl Sync for ThreadState {}

impl ThreadState {
    /// A new thread state, bound to the calling OS thread, where none need be attached.
    pub fn new() -> Option<ThreadState> {
        sleep_at_exit();
        // SAFETY: the main interpreter outlives every exploration; making a state
        // takes the lock on the list of states and needs no GIL.
        let raw = unsafe { ffi::PyThreadState_New(ffi::PyInterpreterState_Main()) };
        NonNull::new(raw.cast()).map(ThreadState)
    }

    /// The attached one.
    pub fn current() -> ThreadState {
        // SAFETY: a thread state is attached, so it is not NULL.
        ThreadState(unsafe { NonNull::new_unchecked(ffi::PyThreadState_Get().cast()) })
    }

    /// The one of the calling OS thread, attached or not. To be called with the GIL or
    /// without it.
    pub fn of_this_thread() -> Option<ThreadState> {
        // SAFETY: reads a thread-local word.
        let raw = unsafe { ffi::PyGILState_GetThisThreadState() };
        NonNull::new(raw.cast()).map(ThreadState)
    }

    /// Is it attached? To be asked on its own OS thread only.
    pub fn is_attached(self) -> bool {
        // SAFETY: reads a word: a state that is attached elsewhere is another one.
        unsafe { PyThreadState_GetUnchecked() == self.raw() }
    }

    #[inline]
    fn raw(self) -> *mut PyThreadState {
        self.0.as_ptr()
    }

    /// Makes this the attached state of the calling OS thread, in place of
    /// another one that is attached now. The GIL stays with the thread, or is
    /// dropped and taken again (3.12+).
    #[inline]
    pub fn switch_to(self) {
        self.be_found_here();
        // SAFETY: an OS thread that holds the GIL swaps a state that is attached
        // nowhere in.
        unsafe { ffi::PyThreadState_Swap(self.raw().cast()) };
        self.attend_to_exceptions();
    }

    /// Detaches the attached state and lets other threads run Python.
    pub fn detach() -> ThreadState {
        // SAFETY: a state is attached; it is returned.
        ThreadState(unsafe { NonNull::new_unchecked(ffi::PyEval_SaveThread().cast()) })
    }

    /// Attaches a state of the calling OS thread, where none is attached; waits for
    /// the GIL.
    pub fn attach(self) {
        sleep_at_exit();
        // SAFETY: made by this OS thread, and attached nowhere.
        unsafe { ffi::PyEval_RestoreThread(self.raw().cast()) }
        self.attend_to_exceptions();
    }

    /// Is it attached nowhere? Anybody may ask.
    #[cfg(Py_GIL_DISABLED)]
    pub fn is_detached(self) -> bool {
        use std::sync::atomic::{AtomicI32, Ordering};
        // SAFETY: a live state, whose word is written atomically (`tstate_try_attach`).
        unsafe { AtomicI32::from_ptr(&raw mut (*self.raw()).state) }.load(Ordering::SeqCst) == 0
    }

    /// Are there objects of its own for it to free? Without a GIL only their thread does
    /// that, when it runs Python (`Python/brc.c`). Anybody may ask.
    #[cfg(Py_GIL_DISABLED)]
    pub fn has_to_free(self) -> bool {
        use std::sync::atomic::{AtomicUsize, Ordering};
        const EXPLICIT_MERGE: usize = 1 << 6;
        // SAFETY: a live state, whose word is written atomically.
        let asked = unsafe { AtomicUsize::from_ptr(&raw mut (*self.raw()).eval_breaker) };
        asked.load(Ordering::SeqCst) & EXPLICIT_MERGE != 0
    }

    /// Ends the attached state of the calling OS thread, which ends, too.
    pub fn end(self) {
        // SAFETY: attached here, and nobody else uses it.
        unsafe {
            ffi::PyThreadState_Clear(self.raw().cast());
            ffi::PyThreadState_DeleteCurrent();
        }
    }

    /// A further state for the calling OS thread, which has lent this one. Its
    /// identity is its own, so that exceptions for this thread reach this state.
    pub fn sibling(self) -> ThreadState {
        sleep_at_exit();
        // SAFETY: a live state of a live interpreter; the GIL is not needed.
        let raw = unsafe { ffi::PyThreadState_New((*self.raw()).interp.cast()) };
        let sibling = ThreadState(NonNull::new(raw.cast()).expect("memory for a thread state"));
        sibling.set_identity(sibling.address());
        sibling
    }

    /// Ends a state that is attached nowhere, while another one is attached here. No
    /// frame runs in it, and nobody else uses it.
    pub fn dispose(self) {
        // SAFETY: as said above.
        unsafe {
            ffi::PyThreadState_Clear(self.raw().cast());
            ffi::PyThreadState_Delete(self.raw().cast());
        }
    }

    /// Attaches the state again on the OS thread that made it, where another one has been
    /// attached meanwhile; waits for the GIL.
    pub fn attach_at_home(self) {
        sleep_at_exit();
        self.note_binding(false);
        self.be_found_here();
        // SAFETY: the state is attached nowhere.
        unsafe { ffi::PyEval_RestoreThread(self.raw().cast()) }
    }

    /// PyGILState_Ensure on this OS thread shall find this state (up to 3.11; later
    /// versions follow what is attached).
    fn be_found_here(self) {
        #[cfg(not(Py_3_12))]
        // SAFETY: the key is initialised as long as the interpreter lives.
        unsafe {
            ffi::PyThread_tss_set(gilstate_key(), self.raw().cast());
        }
    }

    /// Attaches a state that another OS thread lends; waits for the GIL.
    pub fn attach_lent(self) {
        sleep_at_exit();
        self.note_binding(false);
        self.set_stack_bounds(os_stack());
        self.be_found_here();
        // SAFETY: the owner of the state waits and does not use it.
        unsafe { ffi::PyEval_RestoreThread(self.raw().cast()) };
        self.attend_to_exceptions();
    }

    /// Switches to a state that another OS thread lends.
    pub fn switch_to_lent(self) {
        self.note_binding(false);
        self.set_stack_bounds(os_stack());
        self.switch_to();
    }

    /// Lets `work` run Python on the OS thread's own stack, with the state of a fiber
    /// attached.
    pub fn on_os_stack<T>(self, work: impl FnOnce() -> T) -> T {
        let own = self.stack_bounds();
        self.set_stack_bounds(os_stack());
        let result = work();
        self.set_stack_bounds(own);
        result
    }

    /// 3.12+ remembers whether a state is the one that PyGILState_Ensure finds on
    /// "its" thread; a state that moves between threads has to say so.
    fn note_binding(self, _bound: bool) {
        #[cfg(Py_3_12)]
        // SAFETY: the state is attached nowhere, so nobody else touches its status.
        unsafe {
            (*self.raw())._status.set_bound_gilstate(_bound as u32);
        }
    }

    /// A state of the calling OS thread itself, which it makes at first use: what
    /// PyGILState_Ensure finds there while nothing else is attached.
    pub fn of_os_thread() -> Option<ThreadState> {
        thread_local!(static OWN: std::cell::Cell<Option<ThreadState>> = const { std::cell::Cell::new(None) });
        if OWN.get().is_none() {
            OWN.set(ThreadState::new());
        }
        OWN.get()
    }

    /// What `get_ident` shall say while this state is attached. The value must be
    /// the address of readable zeroed memory: faulthandler follows it (3.14).
    pub fn set_identity(self, ident: usize) {
        // SAFETY: only this thread uses the state.
        unsafe { (*self.raw()).thread_id = ident as _ };
    }

    /// An identity that nothing else has.
    pub fn address(self) -> usize {
        self.raw() as usize
    }

    /// The identity.
    pub fn identity(self) -> usize {
        // SAFETY: reads a word of a live state.
        unsafe { (*self.raw()).thread_id as usize }
    }

    /// The object of its trace function.
    pub fn trace_object(self) -> Option<Owned> {
        // SAFETY: the attached state keeps the object alive.
        unsafe { Obj::from_ptr((*self.raw()).c_traceobj.cast()) }.map(Obj::own)
    }

    /// Does a trace or profile function run in it?
    #[inline]
    pub fn is_tracing(self) -> bool {
        // SAFETY: reads a word of a live state.
        unsafe { (*self.raw()).tracing > 0 }
    }

    /// Its trace function and that function's object.
    pub fn trace_function(self) -> TraceFunction {
        // SAFETY: reads a word of a live state.
        (unsafe { (*self.raw()).c_tracefunc }, self.trace_object())
    }

    /// Sets the trace function of the attached state.
    pub fn set_trace_function((function, object): &TraceFunction) {
        let object =
            object.as_ref().map_or(std::ptr::null_mut(), |object| object.borrow().as_ptr());
        // SAFETY: a trace function with its object, of which the state takes a reference;
        // the two declarations of its type differ in name only.
        unsafe {
            let function =
                function.map(|function| std::mem::transmute::<_, ffi::Py_tracefunc>(function));
            ffi::PyEval_SetTrace(function, object);
        }
    }

    /// Tells the interpreter where this state's C stack lies (3.14+), so that deep
    /// recursion raises RecursionError in time.
    pub fn set_stack_bounds(self, _bounds: StackBounds) {
        #[cfg(Py_3_14)]
        // SAFETY: the impl struct begins with the state, and nobody runs on it now.
        unsafe {
            let state = self.raw().cast::<layout::_PyThreadStateImpl>();
            (*state).c_stack_top = _bounds.top;
            (*state).c_stack_soft_limit = _bounds.soft_limit;
            (*state).c_stack_hard_limit = _bounds.hard_limit;
        }
    }

    /// Where the interpreter thinks that this state's C stack lies.
    pub fn stack_bounds(self) -> StackBounds {
        #[cfg(Py_3_14)]
        // SAFETY: the impl struct begins with the state.
        unsafe {
            let state = self.raw().cast::<layout::_PyThreadStateImpl>();
            StackBounds {
                top: (*state).c_stack_top,
                soft_limit: (*state).c_stack_soft_limit,
                hard_limit: (*state).c_stack_hard_limit,
            }
        }
        #[cfg(not(Py_3_14))]
        StackBounds::default()
    }

    /// The lock that 3.11 and 3.12 release when a thread of `threading` ends.
    pub fn end_sentinel(self) -> Option<super::object::Owned> {
        #[cfg(Py_3_13)]
        return None;
        #[cfg(not(Py_3_13))]
        // SAFETY: on_delete_data of `_set_sentinel` is a weak reference to the lock.
        unsafe {
            let data: *mut ffi::PyObject = (*self.raw()).on_delete_data.cast();
            if (*self.raw()).on_delete.is_none() || data.is_null() {
                return None;
            }
            let lock = ffi::PyWeakref_GetObject(data);
            super::object::Obj::from_ptr(lock).filter(|o| !o.is_none()).map(super::object::Obj::own)
        }
    }

    /// Is something to be raised in it that has not been raised yet?
    pub fn is_to_raise(self) -> bool {
        // SAFETY: reads a word of a live state.
        unsafe { !(*self.raw()).async_exc.is_null() }
    }

    /// Takes back what was to be raised in it. To be called with some state attached.
    pub fn withdraw_exceptions(self) {
        // SAFETY: the field owns its reference, and is cleared before that is dropped.
        if unsafe { clear(&raw mut (*self.raw()).async_exc) } {
            ThreadState::current().attend_to_exceptions();
        }
    }

    /// Up to 3.11 the interpreter looks for what is to be raised in any thread until one
    /// raises, and meanwhile enters no function that is traced (`DO_TRACING` in
    /// `Python/ceval.c` goes round and round). This state is attached: it shall look only
    /// for what is to be raised in this one. Another thread's makes it look again when it
    /// takes the GIL (`take_gil`).
    #[inline]
    pub fn attend_to_exceptions(self) {
        #[cfg(not(Py_3_12))]
        // SAFETY: a live state of a live interpreter; with the GIL held nobody else writes
        // the flag.
        unsafe {
            let looks = &raw mut (*(*self.raw()).interp).ceval.pending.async_exc;
            while (*looks != 0) != self.is_to_raise() {
                *looks = self.is_to_raise().into();
                // Whoever takes the GIL works out anew what there is to look for.
                ffi::PyEval_RestoreThread(ffi::PyEval_SaveThread());
            }
        }
    }

    /// Makes the state look like that of a new thread, for the next worker: no
    /// thread-locals, an empty context, no hooks, no event loop. To be called with
    /// the state attached; may run finalisers.
    pub fn reset(self) {
        self.withdraw_exceptions();
        let state = self.raw();
        // SAFETY: the state is attached and no frame runs in it; each field owns its
        // reference, and is cleared before the reference is dropped.
        unsafe {
            #[cfg(not(Py_3_13))]
            if let Some(on_delete) = (*state).on_delete.take() {
                let data = (*state).on_delete_data;
                (*state).on_delete_data = std::ptr::null_mut();
                on_delete(data);
            }
            #[cfg(Py_3_13)]
            {
                clear(&raw mut (*state).threading_local_key);
                clear(&raw mut (*state).threading_local_sentinel);
                let state = state.cast::<layout::_PyThreadStateImpl>();
                clear(&raw mut (*state).asyncio_running_loop);
                #[cfg(Py_3_14)]
                clear(&raw mut (*state).asyncio_running_task);
            }
            if (*state).c_profilefunc.is_some() {
                ffi::PyEval_SetProfile(None, std::ptr::null_mut());
            }
            if (*state).c_tracefunc.is_some() {
                ffi::PyEval_SetTrace(None, std::ptr::null_mut());
            }
            clear(&raw mut (*state).dict);
            clear(&raw mut (*state).async_gen_firstiter);
            clear(&raw mut (*state).async_gen_finalizer);
            clear(&raw mut (*state).context);
            (*state).context_ver += 1;
        }
    }
}

/// Never returns once the interpreter ends: it frees all states, and a thread that
/// comes for its own may come too late.
fn sleep_at_exit() {
    while super::error::is_finalizing() {
        std::thread::park();
    }
}

/// The bounds of a C stack, as 3.14+ keeps them for each thread state.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(Py_3_14), allow(dead_code))]
pub struct StackBounds {
    top: usize,
    soft_limit: usize,
    hard_limit: usize,
}

impl StackBounds {
    /// Of a stack that begins at `lowest`. The margins are those of
    /// `_Py_InitializeRecursionLimits` (Python/ceval.c).
    pub fn of(lowest: usize, size: usize) -> Self {
        const MARGIN: usize = 32 * 1024;
        let (hard_limit, soft_limit) = (lowest + MARGIN, lowest + 2 * MARGIN);
        StackBounds { top: lowest + size, soft_limit, hard_limit }
    }
}

/// The stack of the calling OS thread.
fn os_stack() -> StackBounds {
    thread_local!(static OWN: std::cell::Cell<Option<StackBounds>> = const { std::cell::Cell::new(None) });
    if let Some(known) = OWN.get() {
        return known;
    }
    // SAFETY: plain calls on the calling thread; the attributes are destroyed again.
    let bounds = unsafe {
        let mut attributes = std::mem::zeroed();
        let (mut lowest, mut size) = (std::ptr::null_mut(), 0);
        libc::pthread_getattr_np(libc::pthread_self(), &mut attributes);
        libc::pthread_attr_getstack(&attributes, &mut lowest, &mut size);
        libc::pthread_attr_destroy(&mut attributes);
        StackBounds::of(lowest as usize, size)
    };
    OWN.set(Some(bounds));
    bounds
}

/// Was there anything?
unsafe fn clear(field: *mut *mut layout::PyObject) -> bool {
    // SAFETY: the caller passes a field that owns its reference.
    unsafe {
        let old = std::mem::replace(&mut *field, std::ptr::null_mut());
        ffi::Py_XDECREF(old.cast());
        !old.is_null()
    }
}

#[cfg(not(Py_3_12))]
fn gilstate_key() -> *mut ffi::Py_tss_t {
    unsafe extern "C" {
        static mut _PyRuntime: layout::_PyRuntimeState;
    }
    // SAFETY: `_PyRuntime` is exported by every version; only the address is taken.
    unsafe { (&raw mut _PyRuntime.gilstate.autoTSSkey).cast() }
}

/// Takes the identities of workers from all states that have one: their carrier is
/// left behind, and the workers of the next one shall not be taken for them.
pub fn disown_workers() {
    let identities = worker_identity(0)..worker_identity(0) + 4096 * IDENTITIES;
    // SAFETY: with the GIL held the list of states does not change while it is walked.
    unsafe {
        let mut next = ffi::PyInterpreterState_ThreadHead(ffi::PyInterpreterState_Get());
        while let Some(raw) = NonNull::new(next) {
            let state = ThreadState(raw.cast());
            if identities.contains(&state.identity()) {
                state.set_identity(state.address());
            }
            next = ffi::PyThreadState_Next(next);
        }
    }
}

/// Number of distinct identities.
const IDENTITIES: usize = 1 << 16;

/// The n-th identity for workers: deterministic, distinct from every real
/// thread's, and the address of a readable zeroed page.
pub fn worker_identity(n: usize) -> usize {
    identities() + PAGE * (n % IDENTITIES)
}

/// Is this one of those?
pub fn is_worker_identity(identity: usize) -> bool {
    (identities()..identities() + PAGE * IDENTITIES).contains(&identity)
}

const PAGE: usize = 4096;

fn identities() -> usize {
    use std::sync::OnceLock;
    static PAGES: OnceLock<usize> = OnceLock::new();
    *PAGES.get_or_init(|| {
        const WANTED: usize = 0x5f00_0000_0000;
        // SAFETY: a fresh anonymous mapping that is never unmapped or written.
        let at = unsafe {
            libc::mmap(
                WANTED as *mut _,
                (IDENTITIES + 1) * PAGE,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED { WANTED } else { at as usize }
    })
}
