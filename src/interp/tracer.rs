//! Hooking the interpreter: `sys.monitoring` with native callbacks (3.12+), a
//! native trace function (3.11). Both end in [`session::instruction`].
//!
//! CPython sources: `Python/instrumentation.c`, `Python/legacy_tracing.c`,
//! `Python/ceval.c` (3.11).

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use super::code::{self, Code, Instruction, Table};
use super::error::Result;
use super::probe;
use crate::interp::frame::Frame;
use crate::observe::instruction::loaded_global;
use crate::observe::opcodes::Op;
use crate::runtime::execution::Site;
use crate::runtime::session::{Inner, Session, is_traced};
use crate::runtime::{recorder, session, stats};
use crate::trace::Worker;

/// Name of the back end.
pub const BACKEND: &str = if cfg!(Py_3_12) { "monitoring" } else { "settrace" };

/// Decides (once for each selection of files) whether this code is traced.
pub fn traced(code: Code<'_>, table: &Table) -> bool {
    let selection = SELECTION.load(Relaxed);
    if table.selection.get() != selection {
        table.selection.set(selection);
        table.inner.set(session::inner(code));
        table.traced.set(table.inner.get().is_some() || is_traced(code));
    }
    table.traced.get()
}

static SELECTION: AtomicU32 = AtomicU32::new(1);

/// Forgets which code is traced: the selection of files has changed.
pub fn new_selection() {
    SELECTION.fetch_add(1, Relaxed);
}

/// What is told of traced code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Detail {
    /// The instructions that may touch shared state.
    Accesses,
    /// These, and those at which an interpreter with a GIL may switch threads.
    SwitchPoints,
    /// All: each is an event.
    Instructions,
}

/// Known to all threads: one that is no worker must not switch instructions off.
static DETAIL: AtomicU8 = AtomicU8::new(Detail::Accesses as u8);

fn tells(detail: Detail) -> bool {
    DETAIL.load(Relaxed) == detail as u8
}

/// Is every instruction of traced code an event of the exploration that runs?
#[inline]
pub fn every_instruction() -> bool {
    tells(Detail::Instructions)
}

/// Is there nothing to tell of this code unit? (A prefix is no instruction.)
#[inline]
fn is_of_no_interest(instruction: Instruction) -> bool {
    const PREFIX_OR_CACHE: u8 = 0;
    if instruction.op != Op::Irrelevant {
        return false;
    }
    match DETAIL.load(Relaxed) {
        0 => true,
        1 => !code::may_switch(instruction),
        _ => instruction.opcode == PREFIX_OR_CACHE,
    }
}

/// Tells of an instruction of the running worker.
#[inline]
fn tell(
    at_work: (&Session, Worker),
    instruction: Instruction,
    code: Code<'_>,
    table: &Table,
    offset: usize,
    frame: Frame<'_>,
) -> Result<()> {
    let here = || site(table, offset, instruction.opcode);
    match table.inner.get() {
        None => session::instruction(at_work, instruction, code, frame, here)?,
        Some(_) => session::inner_instruction(at_work, instruction, code, frame, here)?,
    }
    after(instruction);
    Ok(())
}

/// Is there nothing to tell of this instruction because of where it stands?
#[inline]
fn is_untold(table: &Table, instruction: Instruction) -> bool {
    let is_call = || matches!(instruction.op, Op::Call | Op::CallKw | Op::CallFunctionEx);
    table.inner.get() == Some(Inner::Calls) && !is_call()
}

/// This instruction of the running worker has been told.
fn after(instruction: Instruction) {
    if tells(Detail::SwitchPoints) && code::may_switch(instruction) {
        session::note_switch_point();
    }
}

/// A function in Python begins to run, or goes on.
fn function_begins(table: &Table) {
    if tells(Detail::SwitchPoints) && table.inner.get() != Some(Inner::Calls) {
        session::note_switch_point();
    }
}

/// From now on functions that start are looked at.
pub fn start(detail: Detail) -> Result<()> {
    DETAIL.store(detail as u8, Relaxed);
    look_at_functions()
}

/// What this code returns matters from now on.
pub fn observe_returns(code: Code<'_>) {
    if let Some(table) = code.table()
        && code.observe_returns(table)
        && is_hooked(code)
    {
        // Without memory they stay unseen.
        if observe_anew(code).is_err() {
            drop(super::error::take());
        }
    }
}

/// Nothing is looked at any more.
pub fn stop() -> Result<()> {
    DETAIL.store(Detail::Accesses as u8, Relaxed);
    look_away()
}

fn site(table: &Table, offset: usize, opcode: u8) -> Site {
    Site { code: table.id, offset: offset as u32, what: code::opcode_name(opcode) }
}

#[cfg(Py_3_12)]
pub use monitoring::*;
#[cfg(Py_3_12)]
mod monitoring {
    use std::ffi::c_int;
    use std::sync::OnceLock;

    use parking_lot::Mutex;
    use pyo3_ffi as ffi;

    use super::*;
    use crate::interp::call::call;
    use crate::interp::error::{self, Raised};
    use crate::interp::object::{Obj, Owned};
    use crate::interp::thread_state::{ThreadState, TraceFunction};

    /// What is needed of `sys.monitoring`.
    struct Monitoring {
        tool: c_int,
        use_tool_id: Owned,
        free_tool_id: Owned,
        disable: Owned,
        set_events: Owned,
        restart_events: Owned,
        set_local_events: Owned,
        py_start: i64,
        instruction: i64,
    }

    static MONITORING: OnceLock<Monitoring> = OnceLock::new();
    /// The selection of files that the last exploration was started with.
    static STARTED_WITH: AtomicU32 = AtomicU32::new(0);

    /// Code objects that have local events, to be cleared at the end.
    static HOOKED: Mutex<Vec<Owned>> = Mutex::new(Vec::new());

    /// Takes a free tool id and registers the callbacks, once.
    ///
    /// # Errors
    /// `RuntimeError` when all six tool ids are taken.
    pub fn install() -> Result<()> {
        if MONITORING.get().is_some() {
            return Ok(());
        }
        let sys = code::import(c"sys")?;
        let monitoring = code::attribute(sys.borrow(), c"monitoring")?;
        let events = code::attribute(monitoring.borrow(), c"events")?;
        let event = |name| -> Result<i64> {
            code::attribute(events.borrow(), name)?.borrow().as_i64().ok_or(Raised)
        };
        let (py_start, instruction) = (event(c"PY_START")?, event(c"INSTRUCTION")?);
        let use_tool_id = code::attribute(monitoring.borrow(), c"use_tool_id")?;
        let Some(tool) = take_tool(&use_tool_id) else {
            return Err(error::runtime_error(
                "frontrun needs a free tool id of sys.monitoring, and all six are taken: \
                 stop another tool (debugger, coverage, profiler)",
            ));
        };
        let register = code::attribute(monitoring.borrow(), c"register_callback")?;
        for (event, definition) in [(py_start, &raw mut START), (instruction, &raw mut STEP)] {
            // SAFETY: static definitions; the callback is a new builtin function.
            unsafe {
                let callback = error::check(ffi::PyCFunction_NewEx(
                    definition.cast::<ffi::PyMethodDef>(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                ))?;
                error::check(ffi::PyObject_CallFunction(
                    register.borrow().as_ptr(),
                    c"iLO".as_ptr(),
                    tool,
                    event,
                    callback.borrow().as_ptr(),
                ))?;
            }
        }
        let _ = MONITORING.set(Monitoring {
            tool,
            use_tool_id,
            free_tool_id: code::attribute(monitoring.borrow(), c"free_tool_id")?,
            disable: code::attribute(monitoring.borrow(), c"DISABLE")?,
            set_events: code::attribute(monitoring.borrow(), c"set_events")?,
            restart_events: code::attribute(monitoring.borrow(), c"restart_events")?,
            set_local_events: code::attribute(monitoring.borrow(), c"set_local_events")?,
            py_start,
            instruction,
        });
        Ok(())
    }

    /// A tool id that nobody else has.
    fn take_tool(use_tool_id: &Owned) -> Option<c_int> {
        // 0, 1, 2 and 5 are meant for debuggers, coverage, profilers, optimisers;
        // Hypothesis wants 3.
        [4, 5, 2, 1, 0, 3].into_iter().find(|tool| {
            // SAFETY: a callable and matching format; a failure is a ValueError.
            let taken = unsafe {
                error::check(ffi::PyObject_CallFunction(
                    use_tool_id.borrow().as_ptr(),
                    c"is".as_ptr(),
                    *tool as c_int,
                    c"frontrun".as_ptr(),
                ))
            };
            if taken.is_err() {
                drop(error::take());
            }
            taken.is_ok()
        })
    }

    impl Monitoring {
        /// Asks for these events of all code.
        fn observe(&self, events: i64) -> Result<()> {
            let function = self.set_events.borrow().as_ptr();
            // SAFETY: a callable and a format that matches the arguments.
            unsafe {
                error::check(ffi::PyObject_CallFunction(
                    function,
                    c"iL".as_ptr(),
                    self.tool,
                    events,
                ))
            }
            .map(drop)
        }

        /// Asks for these events of this code.
        fn observe_code(&self, code: Obj<'_>, events: i64) -> Result<()> {
            self.observe_code_as(self.tool, code, events)
        }

        fn observe_code_as(&self, tool: c_int, code: Obj<'_>, events: i64) -> Result<()> {
            let function = self.set_local_events.borrow().as_ptr();
            // SAFETY: a callable and a format that matches the arguments.
            unsafe {
                error::check(ffi::PyObject_CallFunction(
                    function,
                    c"iOL".as_ptr(),
                    tool,
                    code.as_ptr(),
                    events,
                ))
            }
            .map(drop)
        }

        /// Makes the interpreter note which tools are told of each instruction of this
        /// code, once: two tools do. If it began to only when another tool comes while the
        /// code runs, it would note none (`update_instrumentation_data` in
        /// `Python/instrumentation.c`), and we were told nothing any more.
        fn share(&self, code: Obj<'_>) -> Result<()> {
            let Some(other) = take_tool(&self.use_tool_id) else { return Ok(()) };
            let told = self
                .observe_code_as(other, code, self.instruction)
                .and_then(|()| self.observe_code(code, self.instruction))
                .and_then(|()| self.observe_code_as(other, code, 0));
            let free = self.free_tool_id.borrow().as_ptr();
            // SAFETY: a callable and a format that matches the argument.
            let freed =
                unsafe { error::check(ffi::PyObject_CallFunction(free, c"i".as_ptr(), other)) };
            told.and(freed.map(drop))
        }
    }

    /// Asks for the event that a function starts.
    pub(super) fn look_at_functions() -> Result<()> {
        install()?;
        let monitoring = MONITORING.get().expect("installed");
        // What was not to be traced was switched off for good.
        let selection = SELECTION.load(Relaxed);
        if STARTED_WITH.swap(selection, Relaxed) != selection {
            call(monitoring.restart_events.borrow(), &[])?;
        }
        monitoring.observe(monitoring.py_start)
    }

    /// Removes every event that was asked for.
    pub(super) fn look_away() -> Result<()> {
        let Some(monitoring) = MONITORING.get() else { return Ok(()) };
        let mut result = monitoring.observe(0);
        let hooked = std::mem::take(&mut *HOOKED.lock());
        for code in hooked {
            result = result.and(monitoring.observe_code(code.borrow(), 0));
        }
        result
    }

    /// Lets these code objects report all of their instructions, or none.
    pub fn listen_to<'a>(codes: impl Iterator<Item = Obj<'a>>, on: bool) -> Result<()> {
        install()?;
        let monitoring = MONITORING.get().expect("installed");
        // What was not to be traced was switched off for good.
        let selection = SELECTION.load(Relaxed);
        if STARTED_WITH.swap(selection, Relaxed) != selection {
            call(monitoring.restart_events.borrow(), &[])?;
        }
        for code in codes {
            let events = if on { monitoring.instruction } else { 0 };
            if on {
                monitoring.share(code)?;
            }
            monitoring.observe_code(code, events)?;
        }
        Ok(())
    }

    /// Nothing to do for a single worker: events belong to code objects.
    pub fn enter_worker() {}

    /// As above.
    pub fn leave_worker() {}

    /// As above.
    pub fn enter_thread() {}

    /// As above.
    pub fn leave_thread() {}

    /// Sets the trace function of the attached worker, which does not concern us.
    pub fn chain(function: &TraceFunction) {
        ThreadState::set_trace_function(function);
    }

    /// The trace function of the attached worker.
    pub fn chained() -> TraceFunction {
        ThreadState::current().trace_function()
    }

    static mut START: ffi::PyMethodDef = ffi::PyMethodDef {
        ml_name: c"frontrun_start".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: on_start },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: std::ptr::null(),
    };

    static mut STEP: ffi::PyMethodDef = ffi::PyMethodDef {
        ml_name: c"frontrun_instruction".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: on_instruction },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: std::ptr::null(),
    };

    fn nothing() -> *mut ffi::PyObject {
        Owned::none().into_ptr()
    }

    fn disable() -> *mut ffi::PyObject {
        MONITORING.get().map_or_else(nothing, |m| m.disable.clone().into_ptr())
    }

    /// A function starts: code of traced files gets instruction events, the rest
    /// is never reported again.
    unsafe extern "C" fn on_start(
        _self: *mut ffi::PyObject,
        args: *mut *mut ffi::PyObject,
        _count: ffi::Py_ssize_t,
    ) -> *mut ffi::PyObject {
        // SAFETY: PY_START passes (code, offset), alive for the call.
        let code = unsafe { Code::from_ptr(*args) };
        // Other threads, setup and invariant run the same functions unobserved.
        if session::running().is_none() && !recorder::is_active() {
            return nothing();
        }
        let Some(table) = code.table() else { return disable() };
        if !traced(code, table) {
            return disable();
        }
        if hook(code, table).is_err() {
            return std::ptr::null_mut();
        }
        function_begins(table);
        disable()
    }

    #[cold]
    fn hook(code: Code<'_>, table: &Table) -> Result<()> {
        let monitoring = MONITORING.get().expect("a callback implies it");
        if session::running().is_some() {
            code::remember(code, table.id);
        }
        HOOKED.lock().push(code.as_obj().own());
        #[cfg(Py_3_13)]
        code.forget_opcode_tracing();
        if !table.shared.replace(true) {
            monitoring.share(code.as_obj())?;
        }
        monitoring.observe_code(code.as_obj(), monitoring.instruction)
    }

    /// Does this code report its instructions?
    pub(super) fn is_hooked(code: Code<'_>) -> bool {
        HOOKED.lock().iter().any(|hooked| hooked.borrow() == code.as_obj())
    }

    /// Switches the instructions on again that were switched off for good.
    #[cold]
    pub(super) fn observe_anew(code: Code<'_>) -> Result<()> {
        let monitoring = MONITORING.get().expect("a callback implies it");
        [0, monitoring.instruction]
            .into_iter()
            .try_for_each(|events| monitoring.observe_code(code.as_obj(), events))
    }

    /// An instruction is about to run.
    unsafe extern "C" fn on_instruction(
        _self: *mut ffi::PyObject,
        args: *mut *mut ffi::PyObject,
        _count: ffi::Py_ssize_t,
    ) -> *mut ffi::PyObject {
        // SAFETY: INSTRUCTION passes (code, offset), alive for the call; an offset in bytes
        // is less than 2³⁰.
        let (code, offset) =
            unsafe { (Code::from_ptr(*args), Obj::from_arg(*args.add(1)).as_digit()) };
        stats::SEEN.add(1);
        let Some(table) = code.table() else { return nothing() };
        let Some(instruction) = table.at(offset) else { return nothing() };
        if is_of_no_interest(instruction) && !probe::is_active() {
            return disable();
        }
        let at_work = session::at_work();
        if at_work.is_none() && !recorder::is_active() {
            return probe::told(code, table, offset, Frame::current(code));
        }
        if is_untold(table, instruction) {
            return nothing();
        }
        let Some(frame) = Frame::current(code) else { return nothing() };
        if instruction.op == Op::LoadBuiltin
            && code.learn(table, offset, loaded_global(instruction, code, frame))
            && observe_anew(code).is_err()
        {
            return std::ptr::null_mut();
        }
        let told = match at_work {
            Some(at_work) => tell(at_work, instruction, code, table, offset, frame),
            None => recorder::instruction(instruction, code, table.id, offset, frame),
        };
        if told.is_ok() { nothing() } else { std::ptr::null_mut() }
    }
}

#[cfg(not(Py_3_12))]
pub use settrace::*;
#[cfg(not(Py_3_12))]
mod settrace {
    use std::cell::RefCell;
    use std::ffi::c_int;
    use std::mem::ManuallyDrop;

    use pyo3_ffi as ffi;
    use rustc_hash::FxHashMap;

    use super::*;
    use crate::interp::layout;
    use crate::interp::object::{Obj, Owned};
    use crate::interp::thread_state::{ThreadState, TraceFunction};

    /// Nothing to prepare.
    pub fn install() -> Result<()> {
        Ok(())
    }

    /// All code does that is traced.
    pub(super) fn is_hooked(_code: Code<'_>) -> bool {
        true
    }

    /// No instruction is ever switched off.
    pub(super) fn observe_anew(_code: Code<'_>) -> Result<()> {
        Ok(())
    }

    /// Nothing to do before the workers run.
    pub(super) fn look_at_functions() -> Result<()> {
        Ok(())
    }

    /// The trace functions ended with their workers.
    pub(super) fn look_away() -> Result<()> {
        Ok(())
    }

    /// Lets code objects report all of their instructions, or none: the probe
    /// picks them.
    pub fn listen_to<'a>(_codes: impl Iterator<Item = Obj<'a>>, on: bool) -> Result<()> {
        if on {
            enter_worker()
        } else {
            leave_worker()
        }
        Ok(())
    }

    /// Traces the attached thread state from now on.
    pub fn enter_worker() {
        // SAFETY: a thread state is attached.
        unsafe { ffi::PyEval_SetTrace(Some(on_event), std::ptr::null_mut()) };
    }

    /// Ends the tracing of the attached thread state.
    pub fn leave_worker() {
        let state = ThreadState::current().address();
        CHAINED.with_borrow_mut(|chained| chained.remove(&state));
        // SAFETY: a thread state is attached.
        unsafe { ffi::PyEval_SetTrace(None, std::ptr::null_mut()) };
    }

    thread_local! {
        /// The trace function that this thread had. Never dropped with its thread: the
        /// interpreter is gone by then.
        static OUTER: ManuallyDrop<RefCell<Option<TraceFunction>>> = Default::default();
        /// The trace functions that are called after ours, by address of the thread state.
        static CHAINED: RefCell<FxHashMap<usize, layout::Py_tracefunc>> = RefCell::default();
    }

    /// Traces the calling thread in place of the trace function that it has.
    pub fn enter_thread() {
        OUTER.with(|outer| outer.replace(Some(ThreadState::current().trace_function())));
        enter_worker();
    }

    /// Gives the calling thread its trace function back.
    pub fn leave_thread() {
        if let Some(outer) = OUTER.with(|outer| outer.take()) {
            ThreadState::set_trace_function(&outer);
        }
    }

    /// Lets another trace function of the attached worker be called after ours, without
    /// opcode events. `None` ends it.
    pub fn chain((function, object): &TraceFunction) {
        let state = ThreadState::current().address();
        CHAINED.with_borrow_mut(|chained| match function {
            Some(_) => chained.insert(state, *function),
            None => chained.remove(&state),
        });
        let object =
            object.as_ref().map_or(std::ptr::null_mut(), |object| object.borrow().as_ptr());
        // SAFETY: a thread state is attached, and takes a reference to the object. The
        // frame objects of its stack are alive, and ours to configure.
        unsafe {
            ffi::PyEval_SetTrace(Some(on_event), object);
            let mut frame = Obj::from_ptr(ffi::PyEval_GetFrame().cast()).map(Obj::own);
            while let Some(one) = frame {
                let raw = one.borrow().as_ptr();
                (*raw.cast::<layout::PyFrameObject>()).f_trace_lines = function.is_some() as _;
                frame = Owned::from_new(ffi::PyFrame_GetBack(raw.cast()).cast());
            }
        }
    }

    /// The trace function that is called after ours.
    pub fn chained() -> TraceFunction {
        let state = ThreadState::current();
        let function = CHAINED.with_borrow(|chained| chained.get(&state.address()).copied());
        match function {
            Some(function) => (function, state.trace_object()),
            None => (None, None),
        }
    }

    unsafe extern "C" fn on_event(
        object: *mut ffi::PyObject,
        frame: *mut ffi::PyFrameObject,
        what: c_int,
        argument: *mut ffi::PyObject,
    ) -> c_int {
        ThreadState::current().attend_to_exceptions();
        let chained = !object.is_null();
        // SAFETY: the arguments of this call.
        let told = unsafe { look_at_event(frame, what, chained) };
        if told != 0 || !chained || what == ffi::PyTrace_OPCODE {
            return told;
        }
        // SAFETY: the arguments of this call, for a function that takes the same.
        unsafe { pass_on(frame, what, argument) }
    }

    /// Calls the trace function after ours. What it puts in place of ours comes after ours
    /// from then on.
    unsafe fn pass_on(
        frame: *mut ffi::PyFrameObject,
        what: c_int,
        argument: *mut ffi::PyObject,
    ) -> c_int {
        let (Some(function), Some(object)) = chained() else { return 0 };
        // SAFETY: the arguments of a trace function, and its object, alive for the call.
        let told = unsafe {
            function(object.borrow().as_ptr().cast(), frame.cast(), what, argument.cast())
        };
        let now = ThreadState::current().trace_function();
        if now.0.map(|function| function as *const ()) != Some(on_event as *const ()) {
            // It has failed, which ends it; or it has set another one.
            chain(if told == 0 { &now } else { &(None, None) });
        }
        told
    }

    unsafe fn look_at_event(frame: *mut ffi::PyFrameObject, what: c_int, chained: bool) -> c_int {
        // SAFETY: the frame argument of a trace function is executing, and points to
        // the interpreter's frame and its code.
        let (object, code) = unsafe {
            let object = frame.cast::<layout::PyFrameObject>();
            let raw = (*object).f_frame;
            (object, Code::from_ptr((*raw).f_code.cast()))
        };
        match what {
            ffi::PyTrace_CALL => {
                let Some(table) = code.table() else { return 0 };
                let wanted =
                    if probe::is_active() { probe::wants(code) } else { traced(code, table) };
                if wanted && session::running().is_some() {
                    code::remember(code, table.id);
                    function_begins(table);
                }
                // SAFETY: the frame object is ours to configure, as `f_trace_opcodes`
                // and `f_trace_lines` are from Python.
                unsafe {
                    (*object).f_trace_opcodes = wanted as _;
                    (*object).f_trace_lines = chained as _;
                }
                0
            }
            ffi::PyTrace_OPCODE => {
                stats::SEEN.add(1);
                let Some(table) = code.table() else { return 0 };
                // SAFETY: as above: the frame of a running trace function.
                let Some(running) = (unsafe { Frame::of_object(frame, code) }) else { return 0 };
                let offset = running.offset(code);
                let at_work = session::at_work();
                if at_work.is_none() && !recorder::is_active() {
                    return probe::told(code, table, offset, Some(running));
                }
                let Some(instruction) = table.at(offset) else { return 0 };
                if is_of_no_interest(instruction) || is_untold(table, instruction) {
                    return 0;
                }
                if instruction.op == Op::LoadBuiltin {
                    code.learn(table, offset, loaded_global(instruction, code, running));
                }
                let told = match at_work {
                    Some(at_work) => tell(at_work, instruction, code, table, offset, running),
                    None => recorder::instruction(instruction, code, table.id, offset, running),
                };
                if told.is_ok() { 0 } else { -1 }
            }
            _ => 0,
        }
    }
}
