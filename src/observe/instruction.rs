//! The accesses of one instruction, from its operands.

use super::calls;
use super::location::{Field, Sink, Touch};
use super::opcodes::Op;
use crate::interp::attributes::{self, Home};
use crate::interp::code::{Code, Instruction, UNKNOWN};
use crate::interp::containers::{self, Shape};
use crate::interp::frame::Frame;
use crate::interp::object::Obj;
use crate::trace::Kind;

/// What the instruction that `frame` stands at is about to do. Adds nothing
/// when it touches nothing that could be shared.
pub fn observe<'a>(
    instruction: Instruction,
    code: Code<'a>,
    frame: Frame<'a>,
    sink: &mut impl Sink<'a>,
) {
    if instruction.depth == UNKNOWN {
        return;
    }
    let arg = instruction.arg as usize;
    let operand = |from_top| frame.operand(instruction.depth, from_top).object();
    match instruction.op {
        Op::Irrelevant => {}
        Op::LoadAttr => {
            if let (Some(owner), Some(name)) = (operand(1), code.name(attribute_index(arg))) {
                load_attribute(owner, name, sink);
            }
        }
        Op::StoreAttr => {
            if let (Some(owner), Some(name)) = (operand(1), code.name(arg)) {
                store_attribute(owner, name, operand(2), sink);
            }
        }
        Op::DeleteAttr => {
            if let (Some(owner), Some(name)) = (operand(1), code.name(arg)) {
                store_attribute(owner, name, None, sink);
            }
        }
        Op::LoadSuperAttr => {
            if let (Some(owner), Some(name)) = (operand(1), code.name(arg >> 2)) {
                class_attribute(owner.type_of(), name, Kind::Read, sink);
            }
        }
        Op::LoadGlobal => {
            let index = arg >> 1;
            load_global(code.name(index), frame, sink);
        }
        Op::StoreGlobal => {
            if let (Some(globals), Some(name)) = (frame.globals(), code.name(arg)) {
                store_key(globals, name, operand(1), sink);
            }
        }
        Op::DeleteGlobal => {
            if let (Some(globals), Some(name)) = (frame.globals(), code.name(arg)) {
                delete_key(globals, name, sink);
            }
        }
        Op::LoadName | Op::LoadFromDictOrGlobals => {
            let Some(name) = code.name(arg) else { return };
            match frame.locals_mapping().filter(|locals| Some(*locals) != frame.globals()) {
                Some(locals) if containers::shape(locals) == Shape::Dict => {
                    load_key(locals, name, sink);
                    if containers::dict_get(locals, name).is_none() {
                        load_global(Some(name), frame, sink);
                    }
                }
                _ => load_global(Some(name), frame, sink),
            }
        }
        Op::StoreName | Op::DeleteName => {
            let (Some(locals), Some(name)) = (frame.locals_mapping(), code.name(arg)) else {
                return;
            };
            if containers::shape(locals) == Shape::Dict {
                if instruction.op == Op::StoreName {
                    store_key(locals, name, operand(1), sink);
                } else {
                    delete_key(locals, name, sink);
                }
            }
        }
        Op::LoadDeref | Op::StoreDeref | Op::DeleteDeref => {
            let Some(cell) = frame.local(arg) else { return };
            let (kind, value) = match instruction.op {
                Op::LoadDeref => (Kind::Read, containers::cell_value(cell)),
                Op::StoreDeref => (Kind::Write, operand(1)),
                _ => (Kind::Write, None),
            };
            let label = code.local_name(arg);
            sink.touch(Touch { object: cell, field: Field::Whole, kind, label, value });
        }
        Op::BinarySubscr => subscript(operand(2), operand(1), sink),
        Op::StoreSubscr => store_subscript(operand(2), operand(1), operand(3), sink),
        Op::DeleteSubscr => delete_subscript(operand(2), operand(1), sink),
        Op::BinarySlice => {
            if let Some(container) = operand(3) {
                read_all(container, sink);
            }
        }
        Op::StoreSlice => {
            if let Some(container) = operand(3) {
                write_all(container, sink);
            }
            if let Some(value) = operand(4) {
                read_all(value, sink);
            }
        }
        Op::BinaryOp => binary_op(arg, operand(2), operand(1), sink),
        Op::Contains => {
            if let (Some(element), Some(container)) = (operand(2), operand(1)) {
                contains(container, element, sink);
            }
        }
        Op::Compare => {
            for side in [operand(2), operand(1)].into_iter().flatten() {
                read_all(side, sink);
            }
        }
        Op::GetIter => {}
        Op::ForIter => {
            let top = if cfg!(Py_3_15) { operand(2) } else { operand(1) };
            if let Some(iterator) = top {
                iteration_step(iterator, sink);
            }
        }
        Op::Call | Op::CallKw | Op::CallFunctionEx => {
            calls::observe(instruction, frame, sink);
        }
        Op::ConsumeTop | Op::Intrinsic1 => {
            if let Some(container) = operand(1) {
                read_all(container, sink);
            }
        }
        Op::Length | Op::Truth => {
            if let Some(container) = operand(1) {
                read_structure(container, sink);
            }
        }
        Op::MatchKeys => {
            if let (Some(mapping), Some(keys)) = (operand(2), operand(1)) {
                for key in crate::interp::code::list_items(keys) {
                    load_key(mapping, key, sink);
                }
            }
        }
        Op::ImportFrom => {
            if let (Some(module), Some(name)) = (operand(1), code.name(arg)) {
                load_attribute(module, name, sink);
            }
        }
    }
}

fn attribute_index(arg: usize) -> usize {
    if cfg!(Py_3_12) { arg >> 1 } else { arg }
}

/// `owner.name`.
pub fn load_attribute<'a>(owner: Obj<'a>, name: Obj<'a>, sink: &mut impl Sink<'a>) {
    match attributes::home(owner, name) {
        Home::Instance => {
            let value = attributes::plain_value(owner, name);
            sink.touch(Touch::keyed(owner, name, Kind::Read).with_value(value));
        }
        Home::InstanceOrClass => {
            sink.touch(Touch::keyed(owner, name, Kind::Read));
            class_attribute(owner.type_of(), name, Kind::Read, sink);
        }
        Home::Class => class_attribute(owner.type_of(), name, Kind::Read, sink),
        Home::OwnClass => class_attribute(owner, name, Kind::Read, sink),
        Home::Module(dict) => load_key(dict, name, sink),
        Home::Dict | Home::Nowhere => {}
    }
}

/// `owner.name = value`, or its deletion without a value.
pub fn store_attribute<'a>(
    owner: Obj<'a>,
    name: Obj<'a>,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    match attributes::home_of_store(owner, name) {
        Home::Instance | Home::OwnClass => {
            sink.touch(Touch::keyed(owner, name, Kind::Write).with_value(value));
        }
        Home::Module(dict) => match value {
            Some(value) => store_key(dict, name, Some(value), sink),
            None => delete_key(dict, name, sink),
        },
        Home::InstanceOrClass | Home::Class | Home::Dict | Home::Nowhere => {}
    }
}

fn class_attribute<'a>(class: Obj<'a>, name: Obj<'a>, kind: Kind, sink: &mut impl Sink<'a>) {
    for base in attributes::mutable_bases(class) {
        sink.touch(Touch::keyed(base, name, kind));
    }
}

fn load_global<'a>(name: Option<Obj<'a>>, frame: Frame<'a>, sink: &mut impl Sink<'a>) {
    if let (Some(globals), Some(name)) = (frame.globals(), name) {
        let value = containers::dict_get(globals, name);
        sink.touch(Touch::keyed(globals, name, Kind::Read).with_value(value));
    }
}

/// Reading one key of a dict.
pub fn load_key<'a>(dict: Obj<'a>, key: Obj<'a>, sink: &mut impl Sink<'a>) {
    let value = containers::dict_get(dict, key);
    let missing = if value.is_some() { Kind::None } else { Kind::Read };
    sink.touch(Touch::keyed(dict, key, Kind::Read).with_value(value));
    sink.touch(Touch::new(dict, Field::Unknown, missing));
}

/// Writing one key of a dict: a new key changes its structure too.
pub fn store_key<'a>(
    dict: Obj<'a>,
    key: Obj<'a>,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    let known = containers::dict_get(dict, key).is_some();
    sink.touch(Touch::keyed(dict, key, Kind::Write).with_value(value));
    let structure = if known { Kind::None } else { Kind::Hit };
    sink.touch(Touch::new(dict, Field::Structure, structure));
    if containers::digest(key).is_none() {
        sink.touch(Touch::new(dict, Field::Unknown, Kind::Write));
    }
}

/// Deleting one key of a dict.
pub fn delete_key<'a>(dict: Obj<'a>, key: Obj<'a>, sink: &mut impl Sink<'a>) {
    let known = containers::dict_get(dict, key).is_some() || containers::digest(key).is_none();
    let kind = if known { Kind::Hit } else { Kind::Miss };
    sink.touch(Touch::keyed(dict, key, kind));
    sink.touch(Touch::new(dict, Field::Structure, if known { Kind::Hit } else { Kind::None }));
}

/// `container[key]`.
pub fn subscript<'a>(container: Option<Obj<'a>>, key: Option<Obj<'a>>, sink: &mut impl Sink<'a>) {
    let (Some(container), Some(key)) = (container, key) else { return };
    let shape = containers::shape(container);
    if !containers::subscript_is_builtin(container, shape) {
        return;
    }
    match (shape, key.as_i64()) {
        (Shape::Dict, _) => load_key(container, key, sink),
        (Shape::List, Some(index)) => load_index(container, index, sink),
        (Shape::Other, _) => {}
        _ => read_all(container, sink),
    }
}

/// `container[key] = value`.
pub fn store_subscript<'a>(
    container: Option<Obj<'a>>,
    key: Option<Obj<'a>>,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    let (Some(container), Some(key)) = (container, key) else { return };
    let shape = containers::shape(container);
    if !containers::store_is_builtin(container, shape) {
        return;
    }
    match (shape, key.as_i64()) {
        (Shape::Dict, _) => store_key(container, key, value, sink),
        (Shape::List, Some(index)) => store_index(container, index, value, sink),
        (Shape::Other, _) => {}
        _ => {
            write_all(container, sink);
            if let Some(value) = value {
                read_all(value, sink);
            }
        }
    }
}

/// `del container[key]`.
pub fn delete_subscript<'a>(
    container: Option<Obj<'a>>,
    key: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    let (Some(container), Some(key)) = (container, key) else { return };
    let shape = containers::shape(container);
    if !containers::store_is_builtin(container, shape) {
        return;
    }
    match shape {
        Shape::Dict => delete_key(container, key, sink),
        Shape::Other => {}
        _ => write_all(container, sink),
    }
}

/// Reading one element of a list.
pub fn load_index<'a>(list: Obj<'a>, index: i64, sink: &mut impl Sink<'a>) {
    let len = containers::list_len(list);
    let at = if index < 0 { index + len } else { index };
    let value = containers::list_get(list, at);
    // From the end, or out of range: the length matters too.
    let structure = if index < 0 || value.is_none() { Kind::Read } else { Kind::None };
    sink.touch(Touch::index(list, at, Kind::Read).with_value(value));
    sink.touch(Touch::new(list, Field::Order, Kind::Read));
    sink.touch(Touch::new(list, Field::Structure, structure));
}

/// Writing one element of a list.
pub fn store_index<'a>(
    list: Obj<'a>,
    index: i64,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    let len = containers::list_len(list);
    let at = if index < 0 { index + len } else { index };
    let inside = (0..len).contains(&at);
    let structure = if index < 0 || !inside { Kind::Read } else { Kind::None };
    let kind = if inside { Kind::Hit } else { Kind::None };
    sink.touch(Touch::index(list, at, kind).with_value(value));
    sink.touch(Touch::new(list, Field::Order, Kind::Read));
    sink.touch(Touch::new(list, Field::Structure, structure));
}

/// `element in container`.
pub fn contains<'a>(container: Obj<'a>, element: Obj<'a>, sink: &mut impl Sink<'a>) {
    match containers::shape(container) {
        Shape::Dict => {
            let missing = containers::dict_get(container, element).is_none();
            sink.touch(Touch::keyed(container, element, Kind::Read));
            let unknown = if missing { Kind::Read } else { Kind::None };
            sink.touch(Touch::new(container, Field::Unknown, unknown));
        }
        Shape::Set => {
            let missing = !containers::set_contains(container, element);
            sink.touch(Touch::keyed(container, element, Kind::Read));
            let unknown = if missing { Kind::Read } else { Kind::None };
            sink.touch(Touch::new(container, Field::Unknown, unknown));
        }
        _ => read_all(container, sink),
    }
}

/// The number of an in-place or binary operator is the index in this list
/// (`Include/opcode.h`, NB_*); only what touches containers matters.
fn binary_op<'a>(
    arg: usize,
    left: Option<Obj<'a>>,
    right: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    const FIRST_IN_PLACE: usize = 13;
    const LAST_IN_PLACE: usize = 25;
    const SUBSCRIPT: usize = 26;
    if arg == SUBSCRIPT {
        return subscript(left, right, sink);
    }
    let (Some(left), Some(right)) = (left, right) else { return };
    if (FIRST_IN_PLACE..=LAST_IN_PLACE).contains(&arg) {
        write_all(left, sink);
    } else {
        read_all(left, sink);
    }
    read_all(right, sink);
}

/// One step of `for`.
pub fn iteration_step<'a>(iterator: Obj<'a>, sink: &mut impl Sink<'a>) {
    if let Some((list, index)) = containers::list_iterator_state(iterator) {
        let value = containers::list_get(list, index);
        let structure = if value.is_none() { Kind::Read } else { Kind::None };
        sink.touch(Touch::new(iterator, Field::Whole, Kind::Write));
        sink.touch(Touch::index(list, index, Kind::Read).with_value(value));
        sink.touch(Touch::new(list, Field::Order, Kind::Read));
        sink.touch(Touch::new(list, Field::Structure, structure));
    }
}

/// `len(container)`, its truth value.
pub fn read_structure<'a>(container: Obj<'a>, sink: &mut impl Sink<'a>) {
    if containers::shape(container) != Shape::Other {
        sink.touch(Touch::new(container, Field::Structure, Kind::Read));
    }
}

/// Everything in a container is read.
pub fn read_all<'a>(container: Obj<'a>, sink: &mut impl Sink<'a>) {
    all(container, Kind::Read, sink);
}

/// Everything in a container may be written.
pub fn write_all<'a>(container: Obj<'a>, sink: &mut impl Sink<'a>) {
    all(container, Kind::Write, sink);
}

fn all<'a>(container: Obj<'a>, kind: Kind, sink: &mut impl Sink<'a>) {
    match containers::shape(container) {
        Shape::Dict => {
            sink.touch(Touch::new(container, Field::Structure, kind));
            sink.touch(Touch::new(container, Field::Unknown, kind));
            for (key, _) in crate::interp::code::dict_items(container) {
                sink.touch(Touch::keyed(container, key, kind));
            }
        }
        Shape::Set => {
            sink.touch(Touch::new(container, Field::Structure, kind));
            sink.touch(Touch::new(container, Field::Unknown, kind));
            for key in containers::set_items(container) {
                sink.touch(Touch::keyed(container, key, kind));
            }
        }
        Shape::List => {
            sink.touch(Touch::new(container, Field::Structure, kind));
            sink.touch(Touch::new(container, Field::Order, kind));
            if kind == Kind::Read {
                for index in 0..containers::list_len(container) {
                    sink.touch(Touch::index(container, index, kind));
                }
            }
        }
        Shape::Sequence => {
            sink.touch(Touch::new(container, Field::Structure, kind));
            sink.touch(Touch::new(container, Field::Order, kind));
        }
        Shape::Other => {}
    }
}
