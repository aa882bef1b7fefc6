//! Objects whose class is code that is not seen: Python code that is not traced, or unknown C
//! code. What that code does to them is one step that may concern anything in them: it reads or
//! writes the object as a whole, and each of its attributes, which traced code may use as well.

use super::calls;
use super::instruction as on;
use super::location::{Field, Sink, Touch};
use crate::interp::attributes::{self, Names, in_class, names, value_of};
use crate::interp::callables::{self, Accessor};
use crate::interp::code::Code;
use crate::interp::containers::{self, Shape};
use crate::interp::object::{Obj, Owned};
use crate::trace::Kind;

/// Methods that only read a container, whatever else they do.
const READERS: &[&str] =
    &["copy", "count", "get", "has_key", "index", "items", "keys", "most_common", "values"];

/// The same of objects of C code, which may be buffers, tables, digests or documents.
const NATIVE_READERS: &[&str] = &[
    "all",
    "any",
    "astype",
    "digest",
    "find",
    "findall",
    "hexdigest",
    "iter",
    "max",
    "mean",
    "min",
    "sum",
    "tobytes",
    "tolist",
];

/// Methods of loggers, for which the order of messages is no state.
const REPORTS: &[&str] =
    &["critical", "debug", "error", "exception", "info", "log", "trace", "warn", "warning"];

/// Special methods that only read.
const SPECIAL_READERS: &[&str] = &[
    "__bool__",
    "__bytes__",
    "__contains__",
    "__copy__",
    "__deepcopy__",
    "__dir__",
    "__eq__",
    "__format__",
    "__ge__",
    "__getattr__",
    "__getattribute__",
    "__getitem__",
    "__getstate__",
    "__gt__",
    "__hash__",
    "__index__",
    "__int__",
    "__iter__",
    "__le__",
    "__len__",
    "__lt__",
    "__ne__",
    "__or__",
    "__reduce__",
    "__reduce_ex__",
    "__repr__",
    "__reversed__",
    "__str__",
];

/// Reads or writes all of an object.
pub fn touch<'a>(object: Obj<'a>, kind: Kind, sink: &mut impl Sink<'a>) {
    if containers::is_private(object) {
        return;
    }
    match (containers::shape(object), kind) {
        (Shape::Other, _) => sink.touch(Touch::new(object, Field::Whole, kind)),
        (_, Kind::Read) => on::read_all(object, sink),
        _ => on::write_all(object, sink),
    }
    on::touch_attributes(object, kind, sink);
}

/// An operator or a builtin function calls one of these special methods, if the object's class
/// has it. Is it one that is not traced? Then it reads or writes the object.
#[inline]
pub fn operate<'a>(
    object: Obj<'a>,
    methods: &[&Owned],
    kind: Kind,
    sink: &mut impl Sink<'a>,
) -> bool {
    let is_python = || attributes::is_of_python_class(object);
    let unseen = is_python() && methods.iter().any(|method| is_unseen(object, method))
        || containers::is_native_container(object);
    if unseen {
        touch(object, kind, sink);
    }
    unseen
}

fn is_unseen(object: Obj<'_>, method: &Owned) -> bool {
    let method = in_class(object.type_of(), method.borrow());
    method.is_some_and(|method| calls::is_untraced(method) && !callables::is_inert(method))
}

/// Is its class one that is not seen, by the code that makes its instances or looks into them?
#[inline]
pub fn is_foreign(object: Obj<'_>) -> bool {
    if !attributes::is_of_python_class(object) {
        return containers::is_native_container(object);
    }
    let Names { init, getitem, iter, next, .. } = names();
    !containers::is_class(object)
        && ([init, getitem, iter, next].into_iter().any(|method| is_unseen(object, method))
            || containers::is_native_container(object))
}

/// A call of a method of C code that is not known: is its object of a type that is not, either?
pub fn call_native<'a>(name: &str, receiver: Obj<'a>, sink: &mut impl Sink<'a>) -> bool {
    let is_native = containers::is_native(receiver);
    if is_native {
        let reads = [READERS, NATIVE_READERS, SPECIAL_READERS].iter().any(|l| l.contains(&name));
        touch(receiver, if reads { Kind::Read } else { Kind::Write }, sink);
    }
    is_native
}

/// A call of a method that is not traced.
pub fn call<'a>(callable: Obj<'a>, code: Code<'a>, receiver: Obj<'a>, sink: &mut impl Sink<'a>) {
    if containers::is_private(receiver) || !has_state(receiver) || callables::is_inert(callable) {
        return;
    }
    // A wrapper of a method is code of another class than the object's.
    if code.is_nested() && !is_foreign(receiver) {
        return;
    }
    if !is_synchronised(code, receiver) {
        touch(receiver, kind_of(code, receiver), sink);
    }
}

/// Is this function a method of its first argument's class?
pub fn is_method(code: Code<'_>, first: Obj<'_>) -> bool {
    attributes::is_of_python_class(first)
        && in_class(first.type_of(), code.name_obj())
            .and_then(callables::code_of)
            .is_some_and(|own| own.as_obj() == code.as_obj())
}

/// Can a method change the object?
fn has_state(object: Obj<'_>) -> bool {
    attributes::is_of_python_class(object)
        && !containers::is_class(object)
        && (attributes::has_attributes(object)
            || containers::shape(object) != Shape::Other
            || !attributes::slot_names(object).is_empty())
}

/// Does the method use a lock that the object has?
fn is_synchronised(code: Code<'_>, receiver: Obj<'_>) -> bool {
    let names = (0..).map_while(|index| code.name(index));
    names.filter_map(|name| value_of(receiver, name)).any(callables::synchronises)
}

fn kind_of(code: Code<'_>, receiver: Obj<'_>) -> Kind {
    let name = code.plain_name();
    let is_one_of = |list: &[&str]| list.contains(&&*name);
    let is_container = || in_class(receiver.type_of(), names().getitem.borrow()).is_some();
    let reads = is_one_of(SPECIAL_READERS)
        || is_one_of(REPORTS)
        || is_one_of(READERS) && is_container()
        || code.makes_generator()
        || code.table().is_some_and(|table| table.only_looks());
    if reads { Kind::Read } else { Kind::Write }
}

/// `object.name`, where the class says how: a property, `__getattr__`.
#[inline]
pub fn load_attribute<'a>(object: Obj<'a>, name: Obj<'a>, sink: &mut impl Sink<'a>) {
    if attributes::is_of_python_class(object) && !containers::is_class(object) {
        load_by_class(object, name, sink);
    }
}

fn load_by_class<'a>(object: Obj<'a>, name: Obj<'a>, sink: &mut impl Sink<'a>) {
    let Names { getattr, getattribute, .. } = names();
    match in_class(object.type_of(), name) {
        Some(descriptor) if is_unseen_accessor(descriptor, Accessor::Get) => {
            touch(object, Kind::Read, sink);
        }
        Some(_) => drop(operate(object, &[getattribute], Kind::Read, sink)),
        None => drop(operate(object, &[getattr, getattribute], Kind::Read, sink)),
    }
}

/// `object.name = value` (or its deletion), where the class says how.
pub fn store_attribute<'a>(
    object: Obj<'a>,
    name: Obj<'a>,
    value: Option<Obj<'a>>,
    sink: &mut impl Sink<'a>,
) {
    if !attributes::is_of_python_class(object) || containers::is_class(object) {
        return;
    }
    let Names { setattr, delattr, .. } = names();
    let (accessor, method) =
        if value.is_some() { (Accessor::Set, setattr) } else { (Accessor::Delete, delattr) };
    let descriptor = in_class(object.type_of(), name);
    if descriptor.is_some_and(|descriptor| is_unseen_accessor(descriptor, accessor)) {
        touch(object, Kind::Write, sink);
    } else if calls::is_unseen(object, method) {
        // As a rule it does some more, and then what `object.__setattr__` does.
        match attributes::is_in_instance(object, name) {
            true => on::store_attribute_plainly(object, name, value, sink),
            false => drop(operate(object, &[method], Kind::Write, sink)),
        }
    }
}

fn is_unseen_accessor(descriptor: Obj<'_>, accessor: Accessor) -> bool {
    callables::accessor(descriptor, accessor)
        .is_some_and(|one| calls::is_untraced(one) && !callables::is_inert(one))
}
