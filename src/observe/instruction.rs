//! The accesses of one instruction, from its operands.

use super::calls;
use super::foreign;
use super::location::{Field, Sink, Touch};
use super::opcodes::{FIRST_IN_PLACE, LAST_IN_PLACE, Op};
use crate::interp::attributes::{self, Home, Names, names};
use crate::interp::code::{self, Code, Instruction, UNKNOWN, dict_items, list_items};
use crate::interp::containers::{self, Shape, Sight, Step};
use crate::interp::dict::Found;
use crate::interp::frame::{Frame, Operand};
use crate::interp::futures;
use crate::interp::object::Obj;
use crate::interp::version;
use crate::trace::Kind;

/// What the instruction that `frame` stands at is about to do. Adds nothing
/// when it touches nothing that could be shared.
#[inline]
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
                if futures::is_future(owner) && name.as_str().is_some_and(|n| n.starts_with('_')) {
                    // `_fut_waiter` and the like: what every step of a task may change.
                    sink.touch(Touch::new(owner, Field::Whole, Kind::Read));
                    sink.touch(Touch::new(owner, Field::Structure, Kind::Read));
                }
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
            if let (Some(owner), Some(class), Some(name)) =
                (operand(1), operand(2), code.name(arg >> 2))
            {
                // In a class method the owner is a class itself.
                let inherits = containers::is_class(owner) && attributes::inherits(owner, class);
                let start = if inherits { owner } else { owner.type_of() };
                class_attribute(start, name, Kind::Read, sink);
            }
        }
        Op::LoadGlobal | Op::LoadBuiltin => load_global(code.name(arg >> 1), frame, sink),
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
        Op::LoadName => load_name(frame.locals_mapping(), code.name(arg), frame, sink),
        Op::LoadFromDictOrGlobals => load_name(operand(1), code.name(arg), frame, sink),
        Op::StoreName | Op::DeleteName => {
            let (Some(locals), Some(name)) = (frame.locals_mapping(), code.name(arg)) else {
                return;
            };
            if containers::shape(locals) == Shape::Dict {
                match instruction.op {
                    Op::StoreName => store_key(locals, name, operand(1), sink),
                    _ => delete_key(locals, name, sink),
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
            let mut touch = Touch::new(cell, Field::Whole, kind).with_value(value);
            touch.label = code.local_name(arg);
            sink.touch(touch);
        }
        Op::BinarySubscr => subscript(operand(2), operand(1), sink),
        Op::StoreSubscr => store_subscript(operand(2), operand(1), operand(3), sink),
        Op::DeleteSubscr => delete_subscript(operand(2), operand(1), sink),
        Op::BinarySlice => each(operand(3), sink, read_all),
        Op::StoreSlice => {
            each(operand(3), sink, write_all);
            each(operand(4), sink, consume);
        }
        Op::BinaryOp => binary_op(arg, operand(2), operand(1), sink),
        Op::Contains => {
            if let (Some(element), Some(container)) = (operand(2), operand(1)) {
                contains(container, element, sink);
            }
        }
        Op::Compare => compare(operand(2), operand(1), sink),
        Op::GetAwaitable => {
            if let Some(future) = operand(1).filter(|object| futures::is_future(*object)) {
                sink.touch(Touch::new(future, Field::Whole, Kind::Read));
            }
        }
        Op::GetIter => each(operand(1), sink, start_iteration),
        Op::ForIter => for_iter(instruction, frame, sink),
        Op::Send => {
            let receiver = operand(if version::VIRTUAL_ITERATORS { 3 } else { 2 });
            each(receiver.filter(|it| !containers::is_private(*it)), sink, iteration_step);
        }
        Op::Suspend => {
            let shared = frame.generator().filter(|it| !containers::is_private(*it));
            each(shared, sink, |it, sink| {
                sink.touch(Touch::new(it, Field::Whole, Kind::Write));
            });
        }
        Op::Call | Op::CallKw | Op::CallFunctionEx => {
            calls::observe(instruction, code, frame, sink)
        }
        Op::CallOnOwn => calls::observe_elements(instruction, frame, sink),
        Op::Consume => each(operand(1), sink, consume),
        Op::KeepResult => calls::keep_result(code, frame, sink),
        Op::Merge | Op::Unary => each(operand(1), sink, read_all),
        Op::Unpack => each(operand(1), sink, |source, sink| unpack(source, arg as i64, sink)),
        Op::Format => {
            let spec = version::FORMAT_SPEC_IN_ARGUMENT && arg & 4 == 4;
            each(operand(1 + spec as usize), sink, read_deep);
        }
        Op::FormatWithSpec => each(operand(2), sink, read_deep),
        Op::Length | Op::Truth => each(operand(1), sink, read_structure),
        Op::MatchKeys => {
            let keys = operand(1).into_iter().flat_map(list_items);
            keys.for_each(|key| subscript(operand(2), Some(key), sink));
        }
        Op::MatchClass => match_class(operand(3), operand(2), operand(1), arg, sink),
        Op::ImportName => {
            let name = code.name(arg >> version::IMPORT_NAME_SHIFT);
            if let (Some(modules), Some(name)) = (code::modules(), name) {
                load_key(modules, name, sink);
            }
        }
        Op::ImportFrom => {
            if let (Some(module), Some(name)) = (operand(1), code.name(arg)) {
                load_attribute(module, name, sink);
            }
        }
        Op::Intrinsic => {
            const IMPORT_STAR: usize = 2;
            const UNARY_POSITIVE: usize = 5;
            match arg {
                IMPORT_STAR => import_star(operand(1), frame, sink),
                UNARY_POSITIVE => each(operand(1), sink, read_all),
                _ => {}
            }
        }
        Op::ImportStar => import_star(operand(1), frame, sink),
        Op::Enter => each(operand(1), sink, |manager, sink| {
            let method = attributes::in_class(manager.type_of(), names().enter.borrow());
            each(method, sink, |method, sink| calls::call_special(method, Some(manager), sink));
        }),
        Op::Exit => {
            // 3.14+: `__exit__` and its object; before: a bound method.
            let (method, manager) = match version::EXIT_WITH_OBJECT {
                true => (operand(5), operand(4)),
                false => (operand(4), None),
            };
            each(method, sink, |method, sink| calls::call_special(method, manager, sink));
        }
    }
}

#[inline]
fn each<'a, S: Sink<'a>>(object: Option<Obj<'a>>, sink: &mut S, what: impl Fn(Obj<'a>, &mut S)) {
    if let Some(object) = object {
        what(object, sink);
    }
}

#[inline]
fn attribute_index(arg: usize) -> usize {
    if version::ATTRIBUTE_HAS_METHOD_BIT { arg >> 1 } else { arg }
}

/// `owner.name`.
#[inline]
pub fn load_attribute<'a>(owner: Obj<'a>, name: Obj<'a>, sink: &mut impl Sink<'a>) {
    match attributes::home(owner, name) {
        Home::Slot(value) => {
            sink.touch(Touch::keyed(owner, name, Kind::Read).with_value(value));
        }
        Home::Instance { found, dict, class, in_class } => {
            sink.touch(attribute(owner, name, dict, Kind::Read).with_value(found.value()));
            // A default in the class counts as looked at even where the instance has its
            // own value: an instruction has equally many accesses whatever it finds.
            match found.value().is_some() {
                false if class => class_attribute(owner.type_of(), name, Kind::Read, sink),
                true if class && in_class => {
                    class_attribute(owner.type_of(), name, Kind::Unread, sink);
                }
                _ => {}
            }
            if class && !in_class && found == Found::Missing {
                foreign::load_attribute(owner, name, sink);
            }
        }
        Home::Class => {
            class_attribute(owner.type_of(), name, Kind::Read, sink);
            foreign::load_attribute(owner, name, sink);
        }
        Home::OwnClass => {
            class_attribute(owner, name, Kind::Read, sink);
            let known = attributes::in_class(owner, name).is_some();
            let kind = if known { Kind::Unread } else { Kind::Read };
            class_attribute(owner.type_of(), name, kind, sink);
        }
        Home::Cell => sink.touch(Touch::new(owner, Field::Whole, Kind::Read)),
        Home::Super(class) => class_attribute(class, name, Kind::Read, sink),
        Home::Module(dict) => load_key(dict, name, sink),
        Home::Dict => ask_for_dict(owner, sink),
        Home::Behind(referent) => load_attribute(referent, name, sink),
        Home::Nowhere => foreign::load_attribute(owner, name, sink),
    }
}

/// A touch of an attribute in the instance.
#[inline]
fn attribute<'a>(owner: Obj<'a>, name: Obj<'a>, dict: Option<Obj<'a>>, kind: Kind) -> Touch<'a> {
    let mut touch = Touch::keyed(owner, name, kind).stored_in(dict);
    if dict.is_none()
        && let Field::Key(digest) = touch.field
        && containers::is_dict(owner)
    {
        // A dict with attributes: its keys are other locations.
        touch.field = Field::Key(!digest);
    }
    touch
}

/// From here on the object's dict may be used in place of its attributes.
pub fn ask_for_dict<'a>(owner: Obj<'a>, sink: &mut impl Sink<'a>) {
    if let Some(dict) = attributes::instance_dict(owner) {
        sink.touch(Touch::new(owner, Field::Whole, Kind::None).stored_in(Some(dict)));
    }
}

/// `owner.name = value`, or its deletion without a value.
#[inline]
pub fn store_attribute<'a>(
    owner: Obj<'a>,
    name: Obj<'a>,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    match attributes::home_of_store(owner, name) {
        Home::Behind(referent) => store_attribute(referent, name, value, sink),
        Home::Nowhere => foreign::store_attribute(owner, name, value, sink),
        home => store_at(home, owner, name, value, sink),
    }
}

/// `object.__setattr__(owner, name, value)`, and so on.
pub fn store_attribute_plainly<'a>(
    owner: Obj<'a>,
    name: Obj<'a>,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    if !attributes::is_thread_local(owner) {
        store_at(attributes::home_of_plain_store(owner, name), owner, name, value, sink);
    }
}

#[inline]
fn store_at<'a>(
    home: Home<'a>,
    owner: Obj<'a>,
    name: Obj<'a>,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    match home {
        Home::Slot(_) => {
            sink.touch(Touch::keyed(owner, name, Kind::Write).with_value(value));
            if name.is(names().class.borrow()) {
                each(value, sink, |class, sink| change_class(owner, class, sink));
            }
        }
        Home::OwnClass => {
            let dict = attributes::class_dict(owner);
            let known = dict.and_then(|dict| containers::dict_get(dict, name).value()).is_some();
            let changes = known != value.is_some();
            let touch = Touch::keyed(owner, name, Kind::Write).stored_in(dict);
            sink.touch(touch.with_value(value));
            let structure = if changes { Kind::Hit } else { Kind::None };
            sink.touch(Touch::new(owner, Field::Structure, structure).stored_in(dict));
        }
        Home::Cell => sink.touch(Touch::new(owner, Field::Whole, Kind::Write).with_value(value)),
        Home::Instance { found, dict, .. } => {
            let there = found.value().is_some();
            // Deleting what is not there changes nothing.
            let (kind, structure) = match (value.is_some(), there) {
                (true, true) => (Kind::Write, Kind::None),
                (true, false) => (Kind::Write, Kind::Hit),
                (false, true) => (Kind::Hit, Kind::Hit),
                (false, false) => (Kind::Miss, Kind::None),
            };
            sink.touch(attribute(owner, name, dict, kind).with_value(value));
            sink.touch(Touch::new(owner, Field::Structure, structure).stored_in(dict));
        }
        Home::Module(dict) => match value {
            Some(value) => store_key(dict, name, Some(value), sink),
            None => delete_key(dict, name, sink),
        },
        Home::Dict => {
            each(attributes::instance_dict(owner), sink, write_all);
            each(value, sink, write_all);
        }
        Home::Class | Home::Super(_) | Home::Behind(_) | Home::Nowhere => {}
    }
}

fn class_attribute<'a>(class: Obj<'a>, name: Obj<'a>, kind: Kind, sink: &mut impl Sink<'a>) {
    for base in attributes::mutable_bases(class) {
        sink.touch(Touch::keyed(base, name, kind).stored_in(attributes::class_dict(base)));
    }
}

/// `owner.__class__ = class`: all that the old and the new class give the object.
fn change_class<'a>(owner: Obj<'a>, class: Obj<'a>, sink: &mut impl Sink<'a>) {
    if !containers::is_class(class) {
        return;
    }
    let dict = attributes::dict_if_any(owner);
    for base in attributes::mutable_bases(owner.type_of()).chain(attributes::mutable_bases(class)) {
        for (name, _) in attributes::class_dict(base).into_iter().flat_map(dict_items) {
            sink.touch(attribute(owner, name, dict, Kind::Write));
        }
    }
}

/// What a `LOAD_GLOBAL` is about to load.
pub fn loaded_global<'a>(
    instruction: Instruction,
    code: Code<'a>,
    frame: Frame<'a>,
) -> Option<Obj<'a>> {
    let name = code.name(instruction.arg as usize >> 1)?;
    let spaces = [frame.globals(), frame.builtins()].into_iter().flatten();
    let spaces = spaces.filter(|space| containers::is_dict(*space));
    spaces.filter_map(|space| containers::dict_get(space, name).value()).next()
}

#[inline]
fn load_global<'a>(name: Option<Obj<'a>>, frame: Frame<'a>, sink: &mut impl Sink<'a>) {
    if let (Some(globals), Some(name)) = (frame.globals(), name) {
        let value = containers::dict_get(globals, name).value();
        sink.touch(Touch::keyed(globals, name, Kind::Read).with_value(value));
        if let (None, Some(builtins)) = (value, frame.builtins()) {
            sink.touch(Touch::keyed(builtins, name, Kind::Read));
        }
    }
}

/// A name of a module, a class body or `exec`.
fn load_name<'a>(
    locals: Option<Obj<'a>>,
    name: Option<Obj<'a>>,
    frame: Frame<'a>,
    sink: &mut impl Sink<'a>,
) {
    let locals = locals.filter(|locals| Some(*locals) != frame.globals());
    let locals = locals.filter(|locals| containers::shape(*locals) == Shape::Dict);
    if let (Some(locals), Some(name)) = (locals, name) {
        load_key(locals, name, sink);
        if containers::dict_get(locals, name).value().is_some() {
            return;
        }
    }
    load_global(name, frame, sink);
}

fn import_star<'a>(module: Option<Obj<'a>>, frame: Frame<'a>, sink: &mut impl Sink<'a>) {
    each(module.and_then(module_dict), sink, read_all);
    each(frame.locals_mapping(), sink, write_all);
}

fn module_dict<'a>(module: Obj<'a>) -> Option<Obj<'a>> {
    match attributes::home(module, names().name.borrow()) {
        Home::Module(dict) => Some(dict),
        _ => None,
    }
}

/// Reading one key of a dict.
#[inline]
pub fn load_key<'a>(dict: Obj<'a>, key: Obj<'a>, sink: &mut impl Sink<'a>) {
    let found = containers::dict_get(dict, key);
    if found == Found::Unknown && containers::is_number(key) {
        return read_all(dict, sink);
    }
    sink.touch(Touch::keyed(dict, key, Kind::Read).with_value(found.value()));
    let missing = if found.value().is_some() { Kind::Unread } else { Kind::Read };
    sink.touch(Touch::new(dict, Field::Unknown, missing));
    sink.touch(Touch::new(dict, Field::Order, Kind::Read));
}

/// Writing one key of a dict: a new key changes its structure too.
#[inline]
pub fn store_key<'a>(
    dict: Obj<'a>,
    key: Obj<'a>,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    let found = containers::dict_get(dict, key);
    if found == Found::Unknown && containers::is_number(key) {
        return write_all(dict, sink);
    }
    sink.touch(Touch::keyed(dict, key, Kind::Write).with_value(value));
    let structure = if found.value().is_some() { Kind::None } else { Kind::Hit };
    sink.touch(Touch::new(dict, Field::Structure, structure));
    sink.touch(Touch::new(dict, Field::Order, Kind::Read));
    if found == Found::Unknown {
        sink.touch(Touch::new(dict, Field::Unknown, Kind::Write));
    }
}

/// Deleting one key of a dict.
pub fn delete_key<'a>(dict: Obj<'a>, key: Obj<'a>, sink: &mut impl Sink<'a>) {
    let found = containers::dict_get(dict, key);
    if found == Found::Unknown && containers::is_number(key) {
        return write_all(dict, sink);
    }
    let known = found != Found::Missing;
    let kind = if known { Kind::Hit } else { Kind::Miss };
    sink.touch(Touch::keyed(dict, key, kind));
    sink.touch(Touch::new(dict, Field::Structure, if known { Kind::Hit } else { Kind::None }));
    sink.touch(Touch::new(dict, Field::Order, Kind::Read));
}

/// `container[key]`.
pub fn subscript<'a>(container: Option<Obj<'a>>, key: Option<Obj<'a>>, sink: &mut impl Sink<'a>) {
    let (Some(container), Some(key)) = (container, key) else { return };
    let shape = containers::shape(container);
    match (shape, key.as_i64()) {
        (Shape::Other, _) => {
            foreign::operate(container, &[&names().getitem], Kind::Read, sink);
        }
        (Shape::Opaque, _) => read_all(container, sink),
        (Shape::View, _) => view_subscript(container, key, Kind::Read, sink),
        _ if !calls::is_plain(container, &names().getitem) => {
            if calls::is_unseen(container, &names().getitem) {
                read_all(container, sink);
            }
        }
        (Shape::Dict, _) => {
            if containers::makes_missing_keys(container)
                && containers::dict_get(container, key).value().is_none()
            {
                // A defaultdict: reading inserts.
                set_default(container, key, None, sink);
            } else {
                load_key(container, key, sink);
            }
        }
        (Shape::List | Shape::Sequence, Some(index)) => load_index(container, index, sink),
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
    match (shape, key.as_i64()) {
        (Shape::Other, _) => {
            foreign::operate(container, &[&names().setitem], Kind::Write, sink);
        }
        (Shape::Opaque, _) => write_all(container, sink),
        (Shape::View, _) => view_subscript(container, key, Kind::Write, sink),
        _ if !calls::is_plain(container, &names().setitem) => {
            if calls::is_unseen(container, &names().setitem) {
                write_all(container, sink);
            }
        }
        (Shape::Dict, _) => store_key(container, key, value, sink),
        (Shape::List | Shape::Sequence, Some(index)) => store_index(container, index, value, sink),
        _ => {
            write_all(container, sink);
            each(value, sink, consume);
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
    match shape {
        Shape::Other => {
            foreign::operate(container, &[&names().delitem], Kind::Write, sink);
        }
        Shape::Opaque | Shape::View => write_all(container, sink),
        _ if !calls::is_plain(container, &names().delitem) => {
            if calls::is_unseen(container, &names().delitem) {
                write_all(container, sink);
            }
        }
        Shape::Dict => delete_key(container, key, sink),
        _ => write_all(container, sink),
    }
}

/// `view[key]` of a mapping proxy, a ChainMap or a memoryview.
fn view_subscript<'a>(view: Obj<'a>, key: Obj<'a>, kind: Kind, sink: &mut impl Sink<'a>) {
    if containers::is_memoryview(view) {
        // It may be released.
        sink.touch(Touch::new(view, Field::Whole, Kind::Read));
    }
    for base in bases_of_view(view) {
        match (containers::shape(base), kind) {
            (Shape::Dict, Kind::Read) => load_key(base, key, sink),
            // The `maps` of a ChainMap, which writes to the first of them.
            (Shape::List, _) => read_all(base, sink),
            (Shape::Dict, _) => return store_key(base, key, None, sink),
            (Shape::Sequence, Kind::Read) if containers::covers(view, base) => {
                subscript(Some(base), Some(key), sink);
            }
            (Shape::Sequence, _) if containers::covers(view, base) => {
                store_subscript(Some(base), Some(key), None, sink);
            }
            _ => all(base, kind, sink),
        }
    }
}

/// The containers that a view shows, the first one first.
fn bases_of_view<'a>(view: Obj<'a>) -> Vec<Obj<'a>> {
    let (mut found, mut open) = (vec![], containers::referents(view));
    open.reverse();
    for _ in 0..64 {
        let Some(next) = open.pop() else { break };
        match containers::shape(next) {
            Shape::View => open.extend(containers::referents(next)),
            // The `maps` of a ChainMap.
            Shape::List => {
                found.push(next);
                let maps: Vec<_> = list_items(next).collect();
                open.extend(maps.into_iter().rev());
            }
            // Between a memoryview and what it shows there is one further object.
            Shape::Other if containers::is_buffer(next) => {
                open.extend(containers::referents(next));
            }
            Shape::Other => {}
            _ => found.push(next),
        }
    }
    found
}

/// Reading one element of a sequence.
#[inline]
pub fn load_index<'a>(list: Obj<'a>, index: i64, sink: &mut impl Sink<'a>) {
    let len = containers::len(list);
    let at = if index < 0 { index + len } else { index };
    let inside = (0..len).contains(&at);
    // From the end, or out of range: the length matters too.
    let structure = if index < 0 || !inside { Kind::Read } else { Kind::Unread };
    let kind = if inside { Kind::Read } else { Kind::Unread };
    sink.touch(Touch::index(list, at, kind).with_value(containers::list_get(list, at)));
    sink.touch(Touch::new(list, Field::Order, Kind::Read));
    sink.touch(Touch::new(list, Field::Structure, structure));
}

/// Writing one element of a sequence.
#[inline]
pub fn store_index<'a>(
    list: Obj<'a>,
    index: i64,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    let len = containers::len(list);
    let at = if index < 0 { index + len } else { index };
    let inside = (0..len).contains(&at);
    let structure = if index < 0 || !inside { Kind::Read } else { Kind::Unread };
    let kind = if inside { Kind::Write } else { Kind::None };
    sink.touch(Touch::index(list, at, kind).with_value(value));
    sink.touch(Touch::new(list, Field::Order, Kind::Read));
    sink.touch(Touch::new(list, Field::Structure, structure));
}

/// A read that writes when there is no such key: `setdefault`, a defaultdict's subscript.
pub fn set_default<'a>(
    dict: Obj<'a>,
    key: Obj<'a>,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    let found = containers::dict_get(dict, key);
    let known = found.value().is_some();
    if let Some(factory) = containers::factory(dict).filter(|_| !known && value.is_none()) {
        calls::observe_hidden_call(factory, sink);
    }
    let (kind, structure) = if known { (Kind::Miss, Kind::None) } else { (Kind::Hit, Kind::Hit) };
    sink.touch(Touch::keyed(dict, key, kind).with_value(found.value().or(value)));
    sink.touch(Touch::new(dict, Field::Structure, structure));
    sink.touch(Touch::new(dict, Field::Order, Kind::Read));
    if found == Found::Unknown {
        sink.touch(Touch::new(dict, Field::Unknown, Kind::Write));
    }
}

/// `element in container`.
pub fn contains<'a>(container: Obj<'a>, element: Obj<'a>, sink: &mut impl Sink<'a>) {
    let missing = match containers::shape(container) {
        Shape::Dict | Shape::Set if !calls::is_plain(container, &names().contains) => {
            if calls::is_unseen(container, &names().contains) {
                read_all(container, sink);
            }
            return;
        }
        Shape::Dict => containers::dict_get(container, element).value().is_none(),
        Shape::Set => containers::set_contains(container, element) != Some(true),
        Shape::View if containers::shows_keys(container) => {
            let base = bases_of_view(container).into_iter().find(|base| containers::is_dict(*base));
            return each(base, sink, |base, sink| contains(base, element, sink));
        }
        Shape::Other => {
            let Names { contains, iter, getitem, .. } = names();
            let looked = foreign::operate(container, &[contains], Kind::Read, sink);
            if !looked && attributes::in_class(container.type_of(), contains.borrow()).is_none() {
                foreign::operate(container, &[iter, getitem], Kind::Read, sink);
            }
            return match looked {
                true => read_deep(element, sink),
                false => find(container, element, sink),
            };
        }
        _ => return find(container, element, sink),
    };
    sink.touch(Touch::keyed(container, element, Kind::Read));
    let unknown = if missing { Kind::Read } else { Kind::Unread };
    sink.touch(Touch::new(container, Field::Unknown, unknown));
    sink.touch(Touch::new(container, Field::Order, Kind::Read));
}

/// `element in list`, `list.index(element)`: compares it with the elements.
pub fn find<'a>(container: Obj<'a>, element: Obj<'a>, sink: &mut impl Sink<'a>) {
    match containers::may_contain(element) {
        true if containers::may_contain(container) => {
            read_deep(container, sink);
            read_deep(element, sink);
        }
        _ => consume(container, sink),
    }
}

/// `left == right`, `left < right`: containers of one kind look into each other.
fn compare<'a>(left: Option<Obj<'a>>, right: Option<Obj<'a>>, sink: &mut impl Sink<'a>) {
    let (Some(left), Some(right)) = (left, right) else { return };
    if containers::holds_nothing(left) && containers::holds_nothing(right) {
        return;
    }
    let looks_inside = |object, other| {
        containers::may_contain(object)
            && (containers::may_contain(other) || containers::is_bytes(other))
    };
    if looks_inside(left, right) || looks_inside(right, left) {
        read_deep(left, sink);
        read_deep(right, sink);
    } else {
        for one in [left, right] {
            if foreign::is_foreign(one) {
                foreign::touch(one, Kind::Read, sink);
            }
        }
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
    const REMAINDER: usize = 6;
    const IN_PLACE_ADD: usize = 13;
    const IN_PLACE_OR: usize = 20;
    const SUBSCRIPT: usize = 26;
    if arg == SUBSCRIPT {
        return subscript(left, right, sink);
    }
    let (Some(left), Some(right)) = (left, right) else { return };
    if containers::holds_nothing(left) && containers::holds_nothing(right) {
        return;
    }
    match arg {
        IN_PLACE_ADD if containers::shape(left) != Shape::Other => extend(left, Some(right), sink),
        IN_PLACE_OR if attributes::is_c_method(left, &names().ior) => {
            calls::update(left, &[right], sink);
        }
        FIRST_IN_PLACE..=LAST_IN_PLACE => {
            let method = &names().in_place[arg - FIRST_IN_PLACE];
            match containers::shape(left) {
                Shape::Other if foreign::operate(left, &[method], Kind::Write, sink) => {}
                Shape::Other => read_all(left, sink),
                _ => write_all(left, sink),
            }
            read_all(right, sink);
        }
        REMAINDER if containers::shape(left) == Shape::Other => read_deep(right, sink),
        _ => {
            read_all(left, sink);
            read_all(right, sink);
        }
    }
}

/// `list.extend(iterable)`: writes behind the end.
pub fn extend<'a>(list: Obj<'a>, iterable: Option<Obj<'a>>, sink: &mut impl Sink<'a>) {
    match containers::shape(list) {
        Shape::List | Shape::Sequence => {
            sink.touch(Touch::index(list, containers::len(list), Kind::Write));
            sink.touch(Touch::new(list, Field::Structure, Kind::Write));
            // The first elements of a deque may have to go.
            let order = if containers::is_bounded(list) { Kind::Write } else { Kind::None };
            sink.touch(Touch::new(list, Field::Order, order));
        }
        _ => write_all(list, sink),
    }
    each(iterable, sink, consume);
}

/// `iter(container)`.
pub fn start_iteration<'a>(container: Obj<'a>, sink: &mut impl Sink<'a>) {
    match containers::shape(container) {
        // These iterators note the size, and refuse to go on when it has changed.
        Shape::Dict | Shape::Set | Shape::View => read_structure(container, sink),
        Shape::Opaque => read_all(container, sink),
        Shape::Other => {
            let Names { iter, getitem, .. } = names();
            foreign::operate(container, &[iter, getitem], Kind::Read, sink);
        }
        Shape::List | Shape::Sequence => {}
    }
}

/// One step of `for`.
#[inline]
fn for_iter<'a>(instruction: Instruction, frame: Frame<'a>, sink: &mut impl Sink<'a>) {
    if !version::VIRTUAL_ITERATORS {
        let iterator = frame.operand(instruction.depth, 1).object();
        return each(iterator, sink, iteration_step);
    }
    // 3.15 goes over lists and tuples with an index of its own.
    let below = frame.operand(instruction.depth, 2).object();
    match (below, frame.operand(instruction.depth, 1)) {
        (Some(list), Operand::Tagged(index)) => {
            if containers::shape(list) == Shape::List {
                step_over_list(list, index, sink);
            }
        }
        (iterator, _) => each(iterator, sink, iteration_step),
    }
}

#[inline]
fn step_over_list<'a>(list: Obj<'a>, index: i64, sink: &mut impl Sink<'a>) {
    let inside = (0..containers::len(list)).contains(&index);
    let (kind, structure) =
        if inside { (Kind::Read, Kind::Unread) } else { (Kind::Unread, Kind::Read) };
    let value = containers::list_get(list, index);
    sink.touch(Touch::index(list, index, kind).with_value(value));
    sink.touch(Touch::new(list, Field::Order, Kind::Read));
    sink.touch(Touch::new(list, Field::Structure, structure));
}

/// `next(iterator)`.
pub fn iteration_step<'a>(iterator: Obj<'a>, sink: &mut impl Sink<'a>) {
    step(iterator, false, 4, sink);
}

/// One step of an iterator, or all that are left.
fn step<'a>(iterator: Obj<'a>, to_the_end: bool, depth: u8, sink: &mut impl Sink<'a>) {
    let step_kind = containers::step(iterator);
    if !matches!(step_kind, Step::Harmless) && !containers::is_private(iterator) {
        sink.touch(Touch::new(iterator, Field::Whole, Kind::Write));
    }
    match step_kind {
        Step::Key(dict, _) if containers::sight(iterator) == Sight::Keys => match to_the_end {
            true => read_keys(dict, sink),
            false => sink.touch(Touch::new(dict, Field::Structure, Kind::Read)),
        },
        Step::Index(container, _) | Step::Key(container, _) | Step::Element(container, _)
            if to_the_end =>
        {
            read_all(container, sink);
        }
        Step::Index(list, index) => step_over_list(list, index, sink),
        Step::Key(container, key) | Step::Element(container, key) => {
            sink.touch(match key {
                Some(key) => Touch::keyed(container, key, Kind::Read),
                None => Touch::new(container, Field::Whole, Kind::None),
            });
            // Each step makes sure that the size is still the same.
            sink.touch(Touch::new(container, Field::Structure, Kind::Read));
        }
        Step::Opaque | Step::Greedy if depth > 0 => {
            let to_the_end = to_the_end || matches!(step_kind, Step::Greedy);
            draw_all(iterator, to_the_end, depth - 1, sink);
        }
        Step::Generator if depth > 0 && calls::is_suspended_unseen(iterator) => {
            draw_all(iterator, true, depth - 1, sink);
        }
        Step::Exhausted(parts) => {
            // As many accesses as before, for the engine.
            let nothing = Touch::new(iterator, Field::Whole, Kind::None);
            (0..parts).for_each(|_| sink.touch(nothing));
        }
        // A file in memory is its own iterator.
        Step::Harmless if containers::shape(iterator) == Shape::Opaque => {
            write_all(iterator, sink);
        }
        Step::Harmless => {
            let Names { iter, next, getitem, .. } = names();
            if !foreign::operate(iterator, &[next], Kind::Write, sink) && to_the_end {
                foreign::operate(iterator, &[iter, getitem], Kind::Read, sink);
            }
        }
        Step::Opaque | Step::Greedy | Step::Own | Step::Generator => {}
    }
}

/// What an iterator of C code does with all that it refers to.
fn draw_all<'a>(iterator: Obj<'a>, to_the_end: bool, depth: u8, sink: &mut impl Sink<'a>) {
    let sources = containers::referents(iterator);
    calls::observe_calls_of_iterator(iterator, &sources, to_the_end, sink);
    for source in &sources {
        draw(*source, to_the_end, depth, sink);
    }
    if containers::goes_into_elements(iterator) {
        // The first one is under way.
        let under_way = |source: &Obj<'a>| match containers::step(*source) {
            Step::Index(list, index) => (0..containers::len(list)).contains(&index),
            _ => false,
        };
        if to_the_end || !sources.iter().any(under_way) || sources.len() == 1 {
            for source in sources {
                let upcoming = elements(source, to_the_end, 2);
                upcoming.into_iter().for_each(|element| draw(element, to_the_end, depth, sink));
            }
        }
    }
}

/// What an iterator draws from: further iterators, containers, functions.
fn draw<'a>(source: Obj<'a>, to_the_end: bool, depth: u8, sink: &mut impl Sink<'a>) {
    if containers::is_tuple(source) {
        for item in list_items(source) {
            draw(item, to_the_end, depth, sink);
        }
        return;
    }
    match containers::shape(source) {
        Shape::Other if containers::is_shared_by_tee(source) && depth > 0 => {
            for inner in containers::referents(source) {
                draw(inner, to_the_end, depth - 1, sink);
            }
        }
        Shape::Other => {
            calls::observe_hidden_call(source, sink);
            step(source, to_the_end, depth, sink);
            if foreign::is_foreign(source) {
                foreign::touch(source, Kind::Read, sink);
            }
        }
        // What only the iterator has is part of the iterator.
        _ if containers::is_private(source) => {}
        _ => read_all(source, sink),
    }
}

/// The elements that iterating over an object gives, or the next one: as many as can be
/// told without doing it, or more.
pub fn elements<'a>(iterable: Obj<'a>, all: bool, depth: u8) -> Vec<Obj<'a>> {
    let most = if all { usize::MAX } else { 1 };
    if containers::is_tuple(iterable) || containers::shape(iterable) == Shape::List {
        return list_items(iterable).take(most).collect();
    }
    let of_dict = |dict: Obj<'a>, keys: bool, from: Option<Obj<'a>>| -> Vec<Obj<'a>> {
        dict_items(dict)
            .skip_while(|(key, _)| from.is_some_and(|from| from != *key))
            .take(most)
            .map(|(key, value)| if keys { key } else { value })
            .collect()
    };
    if containers::is_any_set(iterable) {
        return containers::set_items(iterable).take(most).collect();
    }
    match containers::shape(iterable) {
        Shape::Dict => return of_dict(iterable, true, None),
        Shape::View => {
            let sight = containers::sight(iterable);
            let bases = containers::referents(iterable).into_iter();
            let dicts = bases.filter(|base| containers::is_dict(*base));
            let shown = dicts.flat_map(|dict| of_dict(dict, sight == Sight::Keys, None));
            return if sight == Sight::All { vec![] } else { shown.collect() };
        }
        Shape::Sequence if containers::is_deque(iterable) => {
            let class = iterable.type_of();
            let inside = containers::referents(iterable).into_iter();
            return inside.filter(|one| *one != class).collect();
        }
        Shape::Other => {}
        _ => return vec![],
    }
    match containers::step(iterable) {
        // Backwards they are those before.
        Step::Index(list, index) => match containers::goes_backwards(iterable) {
            false => list_items(list).skip(index.max(0) as usize).take(most).collect(),
            true => list_items(list).take(index as usize + 1).collect(),
        },
        Step::Key(dict, from) => of_dict(dict, containers::sight(iterable) == Sight::Keys, from),
        Step::Element(set, from) => match all {
            true => containers::set_items(set).collect(),
            false => from.into_iter().collect(),
        },
        Step::Own | Step::Opaque | Step::Greedy if depth > 0 => {
            let sources = containers::referents(iterable).into_iter();
            sources.flat_map(|source| elements(source, all, depth - 1)).collect()
        }
        _ => vec![],
    }
}

/// Everything that iterating over an object reads.
pub fn consume<'a>(iterable: Obj<'a>, sink: &mut impl Sink<'a>) {
    match containers::shape(iterable) {
        Shape::Other => step(iterable, true, 4, sink),
        Shape::Dict => read_keys(iterable, sink),
        Shape::View if containers::sight(iterable) == Sight::Keys => {
            bases_of_view(iterable).into_iter().for_each(|base| read_keys(base, sink));
        }
        _ => read_all(iterable, sink),
    }
}

/// How much an iterator has left: what it iterates over may have grown.
pub fn consume_lengths<'a>(iterator: Obj<'a>, sink: &mut impl Sink<'a>) {
    if let Step::Index(container, _) | Step::Key(container, _) | Step::Element(container, _) =
        containers::step(iterator)
    {
        sink.touch(Touch::new(container, Field::Structure, Kind::Read));
    }
}

/// Everything in a mapping, or all that iterating over something else gives.
pub fn take<'a>(argument: Obj<'a>, sink: &mut impl Sink<'a>) {
    match containers::shape(argument) {
        Shape::Dict => read_all(argument, sink),
        _ => consume(argument, sink),
    }
}

/// The keys of a dict, in their order.
fn read_keys<'a>(dict: Obj<'a>, sink: &mut impl Sink<'a>) {
    sink.touch(Touch::new(dict, Field::Structure, Kind::Read));
    sink.touch(Touch::new(dict, Field::Unknown, Kind::Read));
    sink.touch(Touch::new(dict, Field::Order, Kind::Read));
}

/// `a, b = iterable`: one element more tells whether there are too many.
fn unpack<'a>(iterable: Obj<'a>, count: i64, sink: &mut impl Sink<'a>) {
    if containers::shape(iterable) != Shape::List {
        return consume(iterable, sink);
    }
    sink.touch(Touch::new(iterable, Field::Structure, Kind::Read));
    sink.touch(Touch::new(iterable, Field::Order, Kind::Read));
    let reached = containers::len(iterable).min(count + 1);
    (0..reached).for_each(|index| sink.touch(Touch::index(iterable, index, Kind::Read)));
}

/// `case Class(a, b, name=c)`: the attributes that the pattern names.
fn match_class<'a>(
    subject: Option<Obj<'a>>,
    class: Option<Obj<'a>>,
    keywords: Option<Obj<'a>>,
    positional: usize,
    sink: &mut impl Sink<'a>,
) {
    let (Some(subject), Some(class)) = (subject, class) else { return };
    if !containers::is_class(class) {
        return;
    }
    let positions = attributes::in_class(class, names().match_args.borrow())
        .into_iter()
        .flat_map(list_items)
        .take(positional);
    for name in positions.chain(keywords.into_iter().flat_map(list_items)) {
        if name.as_str().is_some() {
            load_attribute(subject, name, sink);
        }
    }
}

/// `len(container)`, its truth value.
#[inline]
pub fn read_structure<'a>(container: Obj<'a>, sink: &mut impl Sink<'a>) {
    match containers::shape(container) {
        Shape::Other => {
            let Names { bool, len, .. } = names();
            foreign::operate(container, &[bool, len], Kind::Read, sink);
        }
        Shape::View => bases_of_view(container)
            .into_iter()
            .for_each(|base| sink.touch(Touch::new(base, Field::Structure, Kind::Read))),
        Shape::Opaque => read_all(container, sink),
        _ => sink.touch(Touch::new(container, Field::Structure, Kind::Read)),
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

/// Everything in a container is read, and in the containers in it: `==`, `repr`.
pub fn read_deep<'a>(container: Obj<'a>, sink: &mut impl Sink<'a>) {
    let (mut open, mut seen) = (vec![container], rustc_hash::FxHashSet::default());
    let looks_inside = |object| containers::may_contain(object) || foreign::is_foreign(object);
    while let Some(next) = open.pop() {
        if !looks_inside(next) || !seen.insert(next.address()) {
            continue;
        }
        if containers::is_namespace(next) {
            open.extend(read_attributes(next, sink));
            continue;
        }
        read_all(next, sink);
        open.extend(list_items(next).filter(|item| looks_inside(*item)));
        let values = dict_items(next).map(|(_, value)| value);
        open.extend(values.filter(|value| looks_inside(*value)));
    }
}

/// Reads or writes an object that is touched as a whole. If its class is Python code, its
/// attributes are its state.
pub fn touch_state<'a>(object: Obj<'a>, kind: Kind, sink: &mut impl Sink<'a>) {
    sink.touch(Touch::new(object, Field::Whole, kind));
    if containers::is_opaque_by_python_code(object) {
        touch_attributes(object, kind, sink);
    }
}

/// Reads or writes each attribute of an instance.
pub fn touch_attributes<'a>(owner: Obj<'a>, kind: Kind, sink: &mut impl Sink<'a>) {
    if attributes::has_attributes(owner) {
        let dict = attributes::dict_if_any(owner);
        attributes::each_attribute(owner, |name, value| {
            sink.touch(attribute(owner, name, dict, kind).with_value(Some(value)));
        });
        sink.touch(Touch::new(owner, Field::Structure, kind).stored_in(dict));
    }
    let names = match attributes::is_of_python_class(owner) {
        true => attributes::slot_names(owner),
        false => attributes::settable_names(owner),
    };
    names.into_iter().for_each(|name| sink.touch(Touch::keyed(owner, name, kind)));
}

/// All attributes of an instance, in its dict and its slots: their values.
pub fn read_attributes<'a>(owner: Obj<'a>, sink: &mut impl Sink<'a>) -> Vec<Obj<'a>> {
    let mut values = vec![];
    if attributes::has_attributes(owner) {
        let dict = attributes::dict_if_any(owner);
        attributes::each_attribute(owner, |name, value| {
            sink.touch(attribute(owner, name, dict, Kind::Read).with_value(Some(value)));
            values.push(value);
        });
        sink.touch(Touch::new(owner, Field::Structure, Kind::Read).stored_in(dict));
    }
    for name in attributes::slot_names(owner) {
        load_attribute(owner, name, sink);
        values.extend(attributes::value_of(owner, name));
    }
    values
}

/// An object and all that can be reached from it through containers and attributes:
/// `copy.deepcopy`, `pickle.dumps`.
pub fn read_graph<'a>(object: Obj<'a>, sink: &mut impl Sink<'a>) {
    const MOST: usize = 10_000;
    let (mut open, mut seen) = (vec![object], rustc_hash::FxHashSet::default());
    while let Some(next) = open.pop() {
        let contains = containers::may_contain(next);
        if !(contains || attributes::is_of_python_class(next)) || !seen.insert(next.address()) {
            continue;
        }
        if seen.len() > MOST || containers::is_class(next) {
            continue;
        }
        if contains {
            read_all(next, sink);
            open.extend(elements(next, true, 2));
            open.extend(dict_items(next).map(|(_, value)| value));
        }
        open.extend(read_attributes(next, sink));
    }
}

fn all<'a>(container: Obj<'a>, kind: Kind, sink: &mut impl Sink<'a>) {
    match containers::shape(container) {
        Shape::Dict => {
            sink.touch(Touch::new(container, Field::Structure, kind));
            sink.touch(Touch::new(container, Field::Unknown, kind));
            sink.touch(Touch::new(container, Field::Order, kind));
            for (key, _) in dict_items(container) {
                sink.touch(Touch::keyed(container, key, kind));
            }
        }
        Shape::Set => {
            sink.touch(Touch::new(container, Field::Structure, kind));
            sink.touch(Touch::new(container, Field::Unknown, kind));
            sink.touch(Touch::new(container, Field::Order, kind));
            for key in containers::set_items(container) {
                sink.touch(Touch::keyed(container, key, kind));
            }
        }
        Shape::List | Shape::Sequence => {
            sink.touch(Touch::new(container, Field::Structure, kind));
            sink.touch(Touch::new(container, Field::Order, kind));
            if kind == Kind::Read {
                for index in 0..containers::len(container) {
                    sink.touch(Touch::index(container, index, kind));
                }
            }
        }
        Shape::Opaque => touch_state(container, kind, sink),
        Shape::View => {
            for base in bases_of_view(container) {
                all(base, kind, sink);
            }
        }
        Shape::Other if foreign::is_foreign(container) => foreign::touch(container, kind, sink),
        Shape::Other => {}
    }
}
