//! A window for tests: tells a Python function what the reader of frames and the
//! observer see at each instruction of chosen code, outside explorations.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;

use super::call;
use super::code::{self, Code, Table, list_items};
use super::error::{self, Result};
use super::frame::{Frame, Operand};
use super::object::{Obj, Owned};
use super::tracer;
use super::value::Value;
use crate::observe::instruction::observe;
use crate::observe::location::{Field, Touch};
use crate::observe::opcodes::Op;
use crate::trace::Kind;

struct Probe {
    codes: Owned,
    callback: Owned,
    /// Stands for an operand that is no object.
    null: Owned,
}

thread_local! {
    /// Never dropped with its thread: the interpreter is gone by then.
    static PROBE: ManuallyDrop<RefCell<Option<Probe>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// Is anybody listening?
#[inline]
pub fn is_active() -> bool {
    ACTIVE.get()
}

/// Is it code that is listened to?
pub fn wants(code: Code<'_>) -> bool {
    PROBE.with(|probe| {
        let codes = probe.borrow().as_ref().map(|probe| probe.codes.clone());
        codes.is_some_and(|codes| list_items(codes.borrow()).any(|one| one == code.as_obj()))
    })
}

/// From now on calls `callback(code, offset, opcode, depth, saved, operands,
/// accesses, quiet, exact)` before each instruction of the code objects in the list
/// `codes`. `quiet`: in an exploration it is not observed. `exact`: it need not be.
pub fn start(codes: Obj<'_>, callback: Obj<'_>, null: Obj<'_>) -> Result<()> {
    if is_active() {
        return Err(error::runtime_error("somebody listens already"));
    }
    let probe = Probe { codes: codes.own(), callback: callback.own(), null: null.own() };
    PROBE.with(|cell| cell.replace(Some(probe)));
    ACTIVE.set(true);
    tracer::listen_to(list_items(codes), true)
}

/// Ends it.
pub fn stop() -> Result<()> {
    ACTIVE.set(false);
    let Some(probe) = PROBE.with(|cell| cell.take()) else { return Ok(()) };
    tracer::listen_to(list_items(probe.codes.borrow()), false)
}

/// What a callback of the interpreter gives back.
pub trait Told {
    /// Go on.
    fn go_on() -> Self;
    /// An exception is set.
    fn raised() -> Self;
}

impl Told for *mut pyo3_ffi::PyObject {
    fn go_on() -> Self {
        Owned::none().into_ptr()
    }
    fn raised() -> Self {
        std::ptr::null_mut()
    }
}

impl Told for std::ffi::c_int {
    fn go_on() -> Self {
        0
    }
    fn raised() -> Self {
        -1
    }
}

/// An instruction is about to run outside an exploration.
pub fn told<T: Told>(code: Code<'_>, table: &Table, offset: usize, frame: Option<Frame<'_>>) -> T {
    // The callback's own instructions are of no interest.
    if !ACTIVE.replace(false) {
        return T::go_on();
    }
    let result = tell(code, table, offset, frame);
    ACTIVE.set(PROBE.with(|cell| cell.borrow().is_some()));
    if result.is_ok() { T::go_on() } else { T::raised() }
}

fn tell(code: Code<'_>, table: &Table, offset: usize, frame: Option<Frame<'_>>) -> Result<()> {
    let at = table.at_unknown(offset);
    let (Some(at), Some(frame)) = (at, frame) else { return Ok(()) };
    if at.depth == code::UNKNOWN {
        return Ok(());
    }
    let both = PROBE.with(|probe| {
        probe.borrow().as_ref().map(|probe| (probe.callback.clone(), probe.null.clone()))
    });
    let Some((callback, null)) = both else { return Ok(()) };
    let mut touches: Vec<Touch<'_>> = vec![];
    observe(at, code, frame, &mut touches);
    // What need not be observed must concern what nobody else can reach.
    let quiet = table.at(offset).is_some_and(|one| one.op == Op::Irrelevant);
    let private =
        |touch: &Touch<'_>| touch.kind == Kind::None || frame.alone_holds(touch.object, at.depth);
    let exact = !quiet || touches.iter().all(private);
    let operands = frame.operands(at.depth).map(|operand| match operand {
        Operand::Object(object) => object.into(),
        Operand::Null | Operand::Tagged(_) => null.borrow().into(),
    });
    let operands = Value::List(operands.collect()).into_object()?;
    let accesses = touches.iter().map(tell_touch).collect();
    let accesses = Value::List(accesses).into_object()?;
    let saved = Value::maybe(frame.saved_depth(), |depth| Value::Int(depth as i64));
    let arguments = [
        Value::Int(offset as i64).into_object()?,
        Value::from(code::opcode_name(at.opcode)).into_object()?,
        Value::Int(at.depth.into()).into_object()?,
        saved.into_object()?,
        operands,
        accesses,
        Value::Bool(quiet).into_object()?,
        Value::Bool(exact).into_object()?,
    ];
    let mut all = vec![code.as_obj()];
    all.extend(arguments.iter().map(Owned::borrow));
    call::call(callback.borrow(), &all).map(drop)
}

/// Kind, object, field, key or index, value.
fn tell_touch(touch: &Touch<'_>) -> Value {
    let kind = match touch.kind {
        Kind::None | Kind::Unread => "none",
        Kind::Read => "read",
        Kind::Miss => "miss",
        Kind::Hit => "hit",
        _ => "write",
    };
    let (field, key) = match touch.field {
        Field::Key(_) => ("key", Value::maybe(touch.label, Value::from)),
        Field::Index(index) => ("index", Value::Int(index)),
        Field::Structure => ("structure", Value::None),
        Field::Order => ("order", Value::None),
        Field::Unknown => ("unknown", Value::None),
        Field::Clock(_) => ("clock", Value::None),
        Field::Whole => ("whole", Value::maybe(touch.label, Value::from)),
        Field::Entry => ("entry", Value::None),
        Field::Listing => ("listing", Value::None),
        Field::Lock => ("lock", Value::None),
    };
    let value = Value::maybe(touch.value, Value::from);
    Value::Tuple(vec![kind.into(), touch.object.into(), field.into(), key, value])
}
