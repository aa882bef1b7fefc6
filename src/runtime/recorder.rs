//! What runs outside explorations, recorded or told as it happens: the accesses
//! of traced files, and if asked for every instruction.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::label::field_text;
use super::locations::{Locations, Place};
use super::session::{self, Files};
use super::stats;
use crate::interp::call::call;
use crate::interp::code::{self, Code, Instruction};
use crate::interp::error::{self, Result};
use crate::interp::frame::Frame;
use crate::interp::object::{Obj, Owned};
use crate::interp::thread_state::ThreadState;
use crate::interp::tracer::{self, Detail};
use crate::interp::value::Value;
use crate::observe::instruction::observe;
use crate::observe::location::Touch;
use crate::trace::{Kind, Loc};

/// An instruction that ran.
#[derive(Clone, Copy)]
struct Step {
    /// Number of the table of its code.
    code: u32,
    offset: u32,
    thread: u16,
    opcode: u8,
}

/// What was recorded. It keeps every object and code object in it alive.
#[derive(Default)]
pub struct Recording {
    accesses: Vec<(Step, Loc, Kind)>,
    instructions: Vec<Step>,
    locations: Locations,
    codes: FxHashMap<u32, Owned>,
}

/// Who is told.
enum Listener {
    Recording(Box<Recording>),
    Callback { callback: Owned, class: Owned },
}

struct Recorder {
    listener: Listener,
    /// Record every instruction as well?
    opcodes: bool,
    /// Identities of the threads that were seen, in that order.
    threads: Vec<usize>,
}

static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);
static ACTIVE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// What is listening to is not listened to itself.
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Is anybody recording?
#[inline]
pub fn is_active() -> bool {
    ACTIVE.load(Relaxed)
}

/// Is somebody told as it happens?
pub fn is_telling() -> bool {
    let recorder = RECORDER.lock();
    recorder.as_ref().is_some_and(|recorder| matches!(recorder.listener, Listener::Callback { .. }))
}

/// Records what code of these files does from now on.
pub fn record(files: Files, opcodes: bool) -> Result<()> {
    start(files, opcodes, Listener::Recording(Box::default()))
}

/// Before each access of code in these files calls `callback(access)`, with what
/// [`Recording::access`] gives.
pub fn tell(files: Files, callback: Obj<'_>, class: Obj<'_>) -> Result<()> {
    start(files, false, Listener::Callback { callback: callback.own(), class: class.own() })
}

fn start(files: Files, opcodes: bool, listener: Listener) -> Result<()> {
    session::select_files(files);
    *RECORDER.lock() = Some(Recorder { listener, opcodes, threads: vec![] });
    ACTIVE.store(true, Relaxed);
    let started = tracer::start(if opcodes { Detail::Instructions } else { Detail::Accesses });
    if started.is_err() {
        // The reason is set, and dropping a listener may run code.
        let reason = error::take();
        let _ = stop();
        reason.map(error::restore);
    }
    started
}

/// Ends it; what was recorded, if that was asked for.
pub fn stop() -> Result<Option<Box<Recording>>> {
    ACTIVE.store(false, Relaxed);
    let recorder = RECORDER.lock().take();
    let stopped = tracer::stop();
    match recorder.map(|recorder| recorder.listener) {
        Some(Listener::Recording(recording)) => stopped.map(|()| Some(recording)),
        Some(Listener::Callback { .. }) | None => stopped.map(|()| None),
    }
}

/// An instruction is about to run outside an exploration.
pub fn instruction<'a>(
    instruction: Instruction,
    code: Code<'a>,
    id: u32,
    offset: usize,
    frame: Frame<'a>,
) -> Result<()> {
    if LISTENING.replace(true) {
        return Ok(());
    }
    let result = listen(instruction, code, id, offset as u32, frame);
    LISTENING.set(false);
    result
}

fn listen<'a>(
    instruction: Instruction,
    code: Code<'a>,
    id: u32,
    offset: u32,
    frame: Frame<'a>,
) -> Result<()> {
    let mut touches: Vec<Touch<'a>> = vec![];
    observe(instruction, code, frame, &mut touches);
    touches.retain(|touch| !matches!(touch.kind, Kind::None | Kind::Unread));
    stats::DELIVERED.add(touches.len() as u64);
    let identity = ThreadState::current().identity();
    let (callback, class, step) = {
        let mut recorder = RECORDER.lock();
        let Some(recorder) = recorder.as_mut() else { return Ok(()) };
        let known = recorder.threads.iter().position(|thread| *thread == identity);
        let thread = known.unwrap_or_else(|| {
            recorder.threads.push(identity);
            recorder.threads.len() - 1
        }) as u16;
        let step = Step { code: id, offset, thread, opcode: instruction.opcode };
        match &mut recorder.listener {
            Listener::Recording(recording) => {
                recording.add(step, code, &touches, recorder.opcodes);
                return Ok(());
            }
            Listener::Callback { callback, class } => (callback.clone(), class.clone(), step),
        }
    };
    for touch in touches {
        let name = field_text(touch.object, touch.field, touch.label, step.is_global());
        let told = [
            Value::Str(kind_name(touch.kind).into()),
            Value::Str(type_name(touch.object, step)),
            Value::Str(name),
            Value::Int(touch.object.address() as i64),
        ];
        let access = call_with(class.borrow(), step.place(code), told)?;
        call(callback.borrow(), &[access.borrow()])?;
    }
    Ok(())
}

fn kind_name(kind: Kind) -> &'static str {
    if kind.is_write() { "write" } else { "read" }
}

fn type_name(object: Obj<'_>, step: Step) -> String {
    if step.is_global() { "global".into() } else { object.type_name() }
}

fn call_with<const N: usize>(
    callable: Obj<'_>,
    place: [Value; 5],
    rest: [Value; N],
) -> Result<Owned> {
    let all: Vec<Owned> =
        place.into_iter().chain(rest).map(Value::into_object).collect::<Result<_>>()?;
    let arguments: Vec<Obj<'_>> = all.iter().map(Owned::borrow).collect();
    call(callable, &arguments)
}

impl Step {
    fn place(self, code: Code<'_>) -> [Value; 5] {
        [
            Value::Int(self.thread.into()),
            code.filename_obj().into(),
            Value::Int(code.line(self.offset).into()),
            Value::Int(self.offset.into()),
            Value::from(code::opcode_name(self.opcode)),
        ]
    }

    fn is_global(self) -> bool {
        let name = code::opcode_name(self.opcode);
        name.ends_with("_GLOBAL") || name.ends_with("_NAME")
    }
}

impl Recording {
    fn add(&mut self, step: Step, code: Code<'_>, touches: &[Touch<'_>], opcodes: bool) {
        if opcodes || !touches.is_empty() {
            self.codes.entry(step.code).or_insert_with(|| code.as_obj().own());
        }
        if opcodes {
            self.instructions.push(step);
        }
        for touch in touches {
            self.accesses.push((step, self.locations.number(touch), touch.kind));
        }
    }

    /// Numbers of accesses and of instructions.
    pub fn counts(&self) -> (usize, usize) {
        (self.accesses.len(), self.instructions.len())
    }

    fn code(&self, step: Step) -> Option<Code<'_>> {
        Code::from_obj(self.codes.get(&step.code)?.borrow())
    }

    /// `class(thread, file, line, offset, opcode, kind, type, name, id)` of an access;
    /// `None` behind the last one.
    pub fn access(&self, index: usize, class: Obj<'_>) -> Result<Option<Owned>> {
        let Some((step, loc, kind)) = self.accesses.get(index).copied() else { return Ok(None) };
        let (Some(code), Some(place)) = (self.code(step), self.locations.place(loc)) else {
            return Ok(None);
        };
        let Place { object, field, label } = place;
        let object = object.borrow();
        let label = label.as_ref().map(Owned::borrow);
        let told = [
            Value::Str(kind_name(kind).into()),
            Value::Str(type_name(object, step)),
            Value::Str(field_text(object, *field, label, step.is_global())),
            Value::Int(object.address() as i64),
        ];
        call_with(class, step.place(code), told).map(Some)
    }

    /// `class(thread, file, line, offset, opcode)` of an instruction; `None` behind the
    /// last one.
    pub fn instruction(&self, index: usize, class: Obj<'_>) -> Result<Option<Owned>> {
        let Some(step) = self.instructions.get(index).copied() else { return Ok(None) };
        let Some(code) = self.code(step) else { return Ok(None) };
        call_with(class, step.place(code), []).map(Some)
    }
}
