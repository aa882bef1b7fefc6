//! What known C functions do to their arguments: one table.
//!
//! A C function that the table does not know is taken to write every mutable
//! container that it is given.

use std::ffi::CStr;
use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use super::instruction as on;
use super::location::{Field, Sink, Touch};
use super::opcodes::Op;
use crate::interp::callables::{self, Callee};
use crate::interp::code::{self, Instruction};
use crate::interp::containers::{self, Shape};
use crate::interp::error::Result;
use crate::interp::frame::Frame;
use crate::interp::object::Obj;
use crate::trace::Kind;

/// What a C function does to its arguments (a method's object is the first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Touches nothing shared, or is observed in another way.
    Nothing,
    /// Reads the length of the first.
    ReadLength,
    /// Reads all of every argument.
    ReadAll,
    /// Writes all of the first, reads all of the others.
    WriteFirst,
    /// `list.append`.
    Append,
    /// `list.pop`.
    ListPop,
    /// `dict.get`.
    GetKey,
    /// `dict.setdefault`.
    SetDefault,
    /// `dict.__setitem__`, `list.__setitem__`, `operator.setitem`.
    SetItem,
    /// `dict.__getitem__`, `operator.getitem`.
    GetItem,
    /// `dict.pop`, `dict.__delitem__`.
    DeleteKey,
    /// `x.__contains__`, `operator.contains`.
    Contains,
    /// `set.add`.
    AddElement,
    /// `set.remove`, `set.discard`.
    RemoveElement,
    /// `getattr`, `hasattr`, `object.__getattribute__`.
    GetAttribute,
    /// `setattr`, `object.__setattr__`.
    SetAttribute,
    /// `delattr`, `object.__delattr__`.
    DeleteAttribute,
    /// `next`.
    Next,
}

type Row = (&'static CStr, &'static CStr, &'static [(&'static CStr, Effect)]);

/// Module, class (or nothing), and what its functions do.
const TABLE: &[Row] = {
    use Effect::*;
    &[
        (
            c"builtins",
            c"",
            &[
                (c"len", ReadLength),
                (c"bool", ReadLength),
                (c"sorted", ReadAll),
                (c"sum", ReadAll),
                (c"min", ReadAll),
                (c"max", ReadAll),
                (c"any", ReadAll),
                (c"all", ReadAll),
                (c"list", ReadAll),
                (c"tuple", ReadAll),
                (c"set", ReadAll),
                (c"frozenset", ReadAll),
                (c"dict", ReadAll),
                (c"repr", ReadAll),
                (c"str", ReadAll),
                (c"print", ReadAll),
                (c"bytes", ReadAll),
                (c"bytearray", ReadAll),
                (c"iter", Nothing),
                (c"enumerate", Nothing),
                (c"zip", Nothing),
                (c"map", Nothing),
                (c"filter", Nothing),
                (c"reversed", Nothing),
                (c"id", Nothing),
                (c"type", Nothing),
                (c"isinstance", Nothing),
                (c"issubclass", Nothing),
                (c"callable", Nothing),
                (c"hash", Nothing),
                (c"getattr", GetAttribute),
                (c"hasattr", GetAttribute),
                (c"setattr", SetAttribute),
                (c"delattr", DeleteAttribute),
                (c"next", Next),
            ],
        ),
        (
            c"builtins",
            c"object",
            &[
                (c"__getattribute__", GetAttribute),
                (c"__setattr__", SetAttribute),
                (c"__delattr__", DeleteAttribute),
            ],
        ),
        (
            c"builtins",
            c"list",
            &[
                (c"append", Append),
                (c"pop", ListPop),
                (c"extend", WriteFirst),
                (c"insert", WriteFirst),
                (c"remove", WriteFirst),
                (c"clear", WriteFirst),
                (c"sort", WriteFirst),
                (c"reverse", WriteFirst),
                (c"index", ReadAll),
                (c"count", ReadAll),
                (c"copy", ReadAll),
                (c"__len__", ReadLength),
                (c"__contains__", ReadAll),
                (c"__getitem__", GetItem),
                (c"__setitem__", SetItem),
                (c"__delitem__", WriteFirst),
                (c"__iadd__", WriteFirst),
                (c"__iter__", Nothing),
                (c"__reversed__", Nothing),
            ],
        ),
        (
            c"builtins",
            c"dict",
            &[
                (c"get", GetKey),
                (c"setdefault", SetDefault),
                (c"pop", DeleteKey),
                (c"popitem", WriteFirst),
                (c"clear", WriteFirst),
                (c"update", WriteFirst),
                (c"copy", ReadAll),
                (c"keys", Nothing),
                (c"values", Nothing),
                (c"items", Nothing),
                (c"__len__", ReadLength),
                (c"__contains__", Contains),
                (c"__getitem__", GetItem),
                (c"__setitem__", SetItem),
                (c"__delitem__", DeleteKey),
                (c"__iter__", Nothing),
            ],
        ),
        (
            c"builtins",
            c"set",
            &[
                (c"add", AddElement),
                (c"discard", RemoveElement),
                (c"remove", RemoveElement),
                (c"pop", WriteFirst),
                (c"clear", WriteFirst),
                (c"update", WriteFirst),
                (c"difference_update", WriteFirst),
                (c"intersection_update", WriteFirst),
                (c"symmetric_difference_update", WriteFirst),
                (c"copy", ReadAll),
                (c"union", ReadAll),
                (c"intersection", ReadAll),
                (c"difference", ReadAll),
                (c"symmetric_difference", ReadAll),
                (c"isdisjoint", ReadAll),
                (c"issubset", ReadAll),
                (c"issuperset", ReadAll),
                (c"__len__", ReadLength),
                (c"__contains__", Contains),
                (c"__iter__", Nothing),
            ],
        ),
        (c"builtins", c"str", &[(c"join", ReadAll), (c"format", ReadAll)]),
    ]
};

static EFFECTS: OnceLock<FxHashMap<usize, Effect>> = OnceLock::new();

/// Looks the functions of the table up. Called once, at import.
pub fn init() -> Result<()> {
    let mut effects = FxHashMap::default();
    for (module, owner, functions) in TABLE {
        for (name, effect) in *functions {
            if let Some(address) = callables::definition(module, owner, name)? {
                effects.insert(address, *effect);
            }
        }
    }
    let _ = EFFECTS.set(effects);
    Ok(())
}

/// At most this many arguments of a call are looked at.
const MOST_ARGUMENTS: usize = 16;

/// The accesses of a call instruction.
pub fn observe<'a>(instruction: Instruction, frame: Frame<'a>, sink: &mut impl Sink<'a>) {
    let depth = instruction.depth;
    let count = instruction.arg as usize;
    let operand = |from_top| frame.operand(depth, from_top).object();
    let mut arguments = [None::<Obj<'a>>; MOST_ARGUMENTS];
    let mut len = 0;
    let mut push = |object: Option<Obj<'a>>| {
        if len < MOST_ARGUMENTS && object.is_some() {
            arguments[len] = object;
            len += 1;
        }
    };
    let callable = match instruction.op {
        Op::CallFunctionEx => {
            let keywords = if cfg!(Py_3_14) { 1 } else { count & 1 };
            let positional = operand(1 + keywords);
            positional.into_iter().flat_map(code::list_items).for_each(|item| push(Some(item)));
            if cfg!(Py_3_13) { operand(3 + keywords) } else { operand(2 + keywords) }
        }
        _ => {
            // 3.13+: callable, self or NULL, arguments; before: NULL, callable or
            // method, self.
            let names = (instruction.op == Op::CallKw) as usize;
            let (below, above) = (operand(count + 2 + names), operand(count + 1 + names));
            let (callable, receiver) = match (below, above) {
                (Some(callable), receiver) => (Some(callable), receiver),
                (None, callable) => (callable, None),
            };
            push(receiver);
            (1..=count).rev().for_each(|from_top| push(operand(from_top + names)));
            callable
        }
    };
    let Some(callable) = callable else { return };
    let (key, receiver) = match callables::resolve(callable) {
        Callee::Native { definition, receiver } => (definition, receiver),
        Callee::Class(class) => (class.address(), None),
        Callee::Python | Callee::Other => return,
    };
    let all: smallvec::SmallVec<[Obj<'a>; MOST_ARGUMENTS]> =
        receiver.into_iter().chain(arguments[..len].iter().copied().flatten()).collect();
    let effect = EFFECTS.get().and_then(|effects| effects.get(&key)).copied();
    match effect {
        Some(effect) => apply(effect, &all, sink),
        None => all.iter().for_each(|argument| on::write_all(*argument, sink)),
    }
}

fn apply<'a>(effect: Effect, arguments: &[Obj<'a>], sink: &mut impl Sink<'a>) {
    let Some(&first) = arguments.first() else { return };
    let second = arguments.get(1).copied();
    let third = arguments.get(2).copied();
    match effect {
        Effect::Nothing => {}
        Effect::ReadLength => on::read_structure(first, sink),
        Effect::ReadAll => arguments.iter().for_each(|argument| on::read_all(*argument, sink)),
        Effect::WriteFirst => {
            on::write_all(first, sink);
            arguments[1..].iter().for_each(|argument| on::read_all(*argument, sink));
        }
        Effect::Append => {
            let len = containers::list_len(first);
            sink.touch(Touch::index(first, len, Kind::Write).with_value(second));
            sink.touch(Touch::new(first, Field::Structure, Kind::Write));
        }
        Effect::ListPop => {
            let len = containers::list_len(first);
            match second.map(Obj::as_i64) {
                None | Some(Some(-1)) => {
                    let kind = if len > 0 { Kind::Hit } else { Kind::None };
                    sink.touch(Touch::index(first, len - 1, kind));
                    sink.touch(Touch::new(first, Field::Order, Kind::Read));
                    let structure = if len > 0 { Kind::Hit } else { Kind::Miss };
                    sink.touch(Touch::new(first, Field::Structure, structure));
                }
                _ => on::write_all(first, sink),
            }
        }
        Effect::GetKey => {
            if let Some(key) = second {
                on::load_key(first, key, sink);
            }
        }
        Effect::SetDefault => {
            if let Some(key) = second {
                let known = containers::dict_get(first, key).is_some();
                let kind = if known { Kind::Miss } else { Kind::Hit };
                sink.touch(Touch::keyed(first, key, kind).with_value(third));
                let structure = if known { Kind::None } else { Kind::Hit };
                sink.touch(Touch::new(first, Field::Structure, structure));
            }
        }
        Effect::GetItem => on::subscript(Some(first), second, sink),
        Effect::SetItem => on::store_subscript(Some(first), second, third, sink),
        Effect::DeleteKey => {
            if let Some(key) = second {
                on::delete_key(first, key, sink);
            }
        }
        Effect::Contains => {
            if let Some(element) = second {
                on::contains(first, element, sink);
            }
        }
        Effect::AddElement => {
            if let Some(element) = second {
                let known = containers::set_contains(first, element);
                let kind = if known { Kind::Miss } else { Kind::Hit };
                sink.touch(Touch::keyed(first, element, kind));
                let structure = if known { Kind::None } else { Kind::Hit };
                sink.touch(Touch::new(first, Field::Structure, structure));
                if containers::digest(element).is_none() {
                    sink.touch(Touch::new(first, Field::Unknown, Kind::Write));
                }
            }
        }
        Effect::RemoveElement => {
            if let Some(element) = second {
                let known = containers::set_contains(first, element)
                    || containers::digest(element).is_none();
                let kind = if known { Kind::Hit } else { Kind::Miss };
                sink.touch(Touch::keyed(first, element, kind));
                let structure = if known { Kind::Hit } else { Kind::None };
                sink.touch(Touch::new(first, Field::Structure, structure));
            }
        }
        Effect::GetAttribute => {
            if let Some(name) = second.filter(|name| name.as_str().is_some()) {
                on::load_attribute(first, name, sink);
            }
        }
        Effect::SetAttribute => {
            if let Some(name) = second.filter(|name| name.as_str().is_some()) {
                on::store_attribute(first, name, third, sink);
            }
        }
        Effect::DeleteAttribute => {
            if let Some(name) = second.filter(|name| name.as_str().is_some()) {
                on::store_attribute(first, name, None, sink);
            }
        }
        Effect::Next => {
            if containers::shape(first) == Shape::Other {
                on::iteration_step(first, sink);
            }
        }
    }
}
