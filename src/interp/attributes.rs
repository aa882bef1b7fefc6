//! Where an attribute lives, found without running anybody's code.
//!
//! CPython source: `Objects/object.c` (`_PyObject_GenericGetAttrWithDict`),
//! `Objects/typeobject.c` (`_PyType_Lookup`).

use std::ffi::CStr;
use std::sync::OnceLock;

use pyo3_ffi as ffi;

use super::containers::dict_get;
use super::containers::{is_cell, is_native};
use super::dict::{Found, has_storage, storage};
use super::object::{Obj, Owned, class_name};
use super::types::{Special, special, special_base, types};

/// Where looking an attribute up ends.
#[derive(Clone, Copy)]
pub enum Home<'a> {
    /// In a slot of the instance, with its value where that is an object.
    Slot(Option<Obj<'a>>),
    /// In the instance's dict, or in the class if it has no such attribute (and the
    /// class can change).
    Instance {
        /// What the instance's dict says.
        found: Found<'a>,
        /// The dict itself, if anybody has asked for it yet.
        dict: Option<Obj<'a>>,
        /// Is the class looked into too?
        class: bool,
        /// Has it such an attribute?
        in_class: bool,
    },
    /// In the class of the instance: a property or another data descriptor.
    Class,
    /// In a class that was asked for it itself, or in one of its bases.
    OwnClass,
    /// In a module: its dict.
    Module(Obj<'a>),
    /// The instance's own `__dict__`.
    Dict,
    /// In a class after the one that `super()` names: the object's class.
    Super(Obj<'a>),
    /// In the object that a weak proxy stands for.
    Behind(Obj<'a>),
    /// In a closure cell: its contents.
    Cell,
    /// Nowhere that two workers could conflict: an immutable type's method, a
    /// thread-local, an object whose attributes are Python code.
    Nowhere,
}

unsafe extern "C" {
    fn _PyType_Lookup(tp: *mut ffi::PyTypeObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// What a class or one of its bases holds under a name.
pub fn in_class<'a>(class: Obj<'a>, name: Obj<'_>) -> Option<Obj<'a>> {
    // SAFETY: the caller has a type; with a str, the lookup runs no Python code.
    unsafe { Obj::from_ptr(_PyType_Lookup(class.as_ptr().cast(), name.as_ptr())) }
}

/// Where `owner.name` is looked up.
#[inline]
pub fn home<'a>(owner: Obj<'a>, name: Obj<'a>) -> Home<'a> {
    let t = types();
    // SAFETY: a live object's type; reading slots runs nothing.
    unsafe {
        let tp = ffi::Py_TYPE(owner.as_ptr());
        if !has_generic_getattr(tp) {
            return match special_home(owner, tp) {
                Home::Nowhere => native_home(owner, tp, name),
                home => home,
            };
        }
        let found = _PyType_Lookup(tp, name.as_ptr());
        if found.is_null() {
            return match has_storage(owner) {
                true => instance(owner, name, is_mutable_type(tp), false),
                false => Home::Nowhere,
            };
        }
        let kind = ffi::Py_TYPE(found);
        if kind == t.member_descriptor {
            return Home::Slot(slot(owner, found));
        }
        if kind == t.getset_descriptor {
            return match name.is(names().dict.borrow()) {
                true => Home::Dict,
                false if name.is(names().class.borrow()) => match is_mutable_type(tp) {
                    true => Home::Slot(None),
                    false => Home::Nowhere,
                },
                false if is_file(tp) => Home::Nowhere,
                false if is_mutable_type(tp) || has_storage(owner) => Home::Slot(None),
                false if is_cell(owner) => Home::Cell,
                false if is_settable(found) && is_native(owner) => Home::Slot(None),
                false => Home::Nowhere,
            };
        }
        if (*kind).tp_descr_set.is_some() {
            return if is_native_descriptor(kind) { Home::Slot(None) } else { Home::Class };
        }
        match (has_storage(owner), is_mutable_type(tp)) {
            // Such a touch would keep the file open that `open(path, "w").write(text)` leaves.
            (true, false) if is_file(tp) => Home::Nowhere,
            (true, mutable) => instance(owner, name, mutable, true),
            (false, true) => Home::Class,
            (false, false) => Home::Nowhere,
        }
    }
}

/// An attribute of a type of C code with rules of its own.
unsafe fn native_home<'a>(owner: Obj<'a>, tp: *mut ffi::PyTypeObject, name: Obj<'a>) -> Home<'a> {
    // SAFETY: a live object and its type; with a str, the lookup runs no Python code.
    unsafe {
        if is_mutable_type(tp) || !is_native(owner) {
            return Home::Nowhere;
        }
        let found = _PyType_Lookup(tp, name.as_ptr());
        let settable = !found.is_null()
            && ffi::Py_TYPE(found) == types().getset_descriptor
            && is_settable(found);
        if settable { Home::Slot(None) } else { Home::Nowhere }
    }
}

/// Can an attribute that C code gives an object be set?
///
/// # Safety
/// `descriptor` is a getset descriptor.
unsafe fn is_settable(descriptor: *mut ffi::PyObject) -> bool {
    /// `PyGetSetDescrObject` (`descrobject.h`).
    #[repr(C)]
    struct GetSetDescriptor {
        base: ffi::PyObject,
        class: *mut ffi::PyTypeObject,
        name: *mut ffi::PyObject,
        qualname: *mut ffi::PyObject,
        getset: *const ffi::PyGetSetDef,
    }
    // SAFETY: as the caller promises; the definition is static.
    unsafe { (*(*descriptor.cast::<GetSetDescriptor>()).getset).set.is_some() }
}

/// Is it a kind of data descriptor of C code (a field of a ctypes structure)?
unsafe fn is_native_descriptor(kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live type.
    unsafe {
        !is_mutable_type(kind) && ffi::PyType_IsSubtype(kind, &raw mut ffi::PyProperty_Type) == 0
    }
}

/// The names of the attributes of an object of a type of C code that can be set.
pub fn settable_names<'a>(owner: Obj<'a>) -> Vec<Obj<'a>> {
    // SAFETY: a live object's type; its MRO is a tuple of types that it keeps alive.
    let mro = unsafe { Obj::from_ptr((*ffi::Py_TYPE(owner.as_ptr())).tp_mro) };
    mro.into_iter()
        .flat_map(super::code::list_items)
        .filter(|base| !base.is(owner.type_of()) || !is_made_in_python(*base))
        .filter_map(class_dict)
        .flat_map(super::code::dict_items)
        .filter(|(name, value)| {
            // SAFETY: the type of the descriptor is checked first.
            value.is_exactly(types().getset_descriptor)
                && unsafe { is_settable(value.as_ptr()) }
                && !name.is(names().class.borrow())
        })
        .map(|(name, _)| name)
        .collect()
}

#[inline]
unsafe fn is_file(tp: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live type.
    unsafe { !is_mutable_type(tp) && special(tp) == Some(Special::File) }
}

/// Where types with a lookup of their own look.
unsafe fn special_home<'a>(owner: Obj<'a>, tp: *mut ffi::PyTypeObject) -> Home<'a> {
    // SAFETY: a live object and its type; each cast follows a check of the type.
    unsafe {
        let ptr = owner.as_ptr();
        if ffi::PyModule_Check(ptr) != 0 {
            // A borrowed reference to a dict that lives as long as the module.
            return Obj::from_ptr(ffi::PyModule_GetDict(ptr)).map_or(Home::Nowhere, Home::Module);
        }
        if ffi::PyType_Check(ptr) != 0 {
            return if is_mutable_type(ptr.cast()) { Home::OwnClass } else { Home::Nowhere };
        }
        match special_base(tp) {
            Some(Special::Proxy) => {
                /// `PyWeakReference` (`cpython/weakrefobject.h`) begins like this.
                #[repr(C)]
                struct WeakReference {
                    base: ffi::PyObject,
                    referent: *mut ffi::PyObject,
                }
                let referent = Obj::from_ptr((*ptr.cast::<WeakReference>()).referent);
                referent.map_or(Home::Nowhere, Home::Behind)
            }
            Some(Special::Super) => {
                /// `superobject` (`Objects/typeobject.c`).
                #[repr(C)]
                struct Super {
                    base: ffi::PyObject,
                    class: *mut ffi::PyTypeObject,
                    object: *mut ffi::PyObject,
                    object_class: *mut ffi::PyTypeObject,
                }
                let class = (*ptr.cast::<Super>()).object_class;
                Obj::from_ptr(class.cast()).map_or(Home::Nowhere, Home::Super)
            }
            _ => Home::Nowhere,
        }
    }
}

#[inline]
fn instance<'a>(owner: Obj<'a>, name: Obj<'a>, class: bool, in_class: bool) -> Home<'a> {
    let storage = storage(owner);
    Home::Instance { found: storage.get(name), dict: storage.dict(), class, in_class }
}

/// The object in a slot (`__slots__`).
///
/// # Safety
/// `descriptor` is a member descriptor of a class of `owner`.
unsafe fn slot<'a>(owner: Obj<'a>, descriptor: *mut ffi::PyObject) -> Option<Obj<'a>> {
    /// `PyMemberDescrObject` (`descrobject.h`).
    #[repr(C)]
    struct MemberDescriptor {
        base: ffi::PyObject,
        class: *mut ffi::PyTypeObject,
        name: *mut ffi::PyObject,
        qualname: *mut ffi::PyObject,
        member: *const ffi::PyMemberDef,
    }
    // SAFETY: as the caller promises.
    unsafe { member_value(owner, &*(*descriptor.cast::<MemberDescriptor>()).member) }
}

const RELATIVE_OFFSET: i32 = 8;

/// Is the class of this object one that Python code has made?
pub fn is_of_python_class(object: Obj<'_>) -> bool {
    // SAFETY: a live object's type.
    unsafe { is_mutable_type(ffi::Py_TYPE(object.as_ptr())) }
}

/// The same of a class.
pub fn is_made_in_python(class: Obj<'_>) -> bool {
    // SAFETY: the caller has a type.
    unsafe { is_mutable_type(class.as_ptr().cast()) }
}

/// Has it a dict of its own for attributes?
pub fn has_attributes(owner: Obj<'_>) -> bool {
    has_storage(owner)
}

/// The dict with its attributes, if anybody has asked for it yet.
pub fn dict_if_any<'a>(owner: Obj<'a>) -> Option<Obj<'a>> {
    if has_storage(owner) { storage(owner).dict() } else { None }
}

/// Goes through the attributes in the instance's dict.
pub fn each_attribute<'a>(owner: Obj<'a>, tell: impl FnMut(Obj<'a>, Obj<'a>)) {
    if has_storage(owner) {
        storage(owner).each(tell);
    }
}

/// Is there such an attribute in the instance's dict?
pub fn is_in_instance(owner: Obj<'_>, name: Obj<'_>) -> bool {
    has_storage(owner) && storage(owner).get(name).value().is_some()
}

/// The value of an attribute that is in the instance, as far as no code is needed.
pub fn value_of<'a>(owner: Obj<'a>, name: Obj<'a>) -> Option<Obj<'a>> {
    match home(owner, name) {
        Home::Slot(value) => value,
        Home::Instance { found, .. } => found.value().or_else(|| in_class(owner.type_of(), name)),
        Home::Class => in_class(owner.type_of(), name),
        Home::OwnClass => in_class(owner, name),
        Home::Module(dict) => super::dict::get(dict, name).value(),
        _ => None,
    }
}

/// The name of this text among the attributes of an object and of its class.
pub fn name_like<'a>(owner: Obj<'a>, text: &str) -> Option<Obj<'a>> {
    let mut found = None;
    let is_it = |name: Obj<'a>| name.as_str().is_some_and(|name| name == text);
    each_attribute(owner, |name, _| {
        if is_it(name) {
            found = Some(name);
        }
    });
    found.or_else(|| {
        let dicts = mutable_bases(owner.type_of()).filter_map(class_dict);
        dicts.flat_map(super::code::dict_items).map(|(name, _)| name).find(|name| is_it(*name))
    })
}

/// The names of the slots (`__slots__`) of an instance of a Python class.
pub fn slot_names<'a>(owner: Obj<'a>) -> Vec<Obj<'a>> {
    let member = types().member_descriptor;
    mutable_bases(owner.type_of())
        .filter_map(class_dict)
        .flat_map(super::code::dict_items)
        .filter(|(_, value)| value.is_exactly(member))
        .map(|(name, _)| name)
        .collect()
}

/// The objects in the slots (`__slots__`) of an instance of a Python class, with
/// the offset of each.
pub fn slots<'a>(owner: Obj<'a>, mut tell: impl FnMut(u64, Obj<'a>)) {
    // SAFETY: a live object and its types; the members of a class that Python code
    // has made are its slots, and their table ends with one without a name.
    unsafe {
        let mut class = ffi::Py_TYPE(owner.as_ptr());
        while !class.is_null() && is_mutable_type(class) {
            let mut member = (*class).tp_members;
            while !member.is_null() && !(*member).name.is_null() {
                if let Some(value) = member_value(owner, &*member) {
                    tell((*member).offset as u64, value);
                }
                member = member.add(1);
            }
            class = (*class).tp_base;
        }
    }
}

/// # Safety
/// `member` is one of a class of `owner`.
unsafe fn member_value<'a>(owner: Obj<'a>, member: &ffi::PyMemberDef) -> Option<Obj<'a>> {
    const OBJECT: i32 = 6;
    const OBJECT_OR_ERROR: i32 = 16;
    let is_object = matches!(member.type_code, OBJECT | OBJECT_OR_ERROR);
    if !is_object || member.flags & RELATIVE_OFFSET != 0 {
        return None;
    }
    // SAFETY: as the caller promises; only a member that is an object is read as one.
    unsafe {
        let at = owner.as_ptr().cast::<u8>().offset(member.offset);
        Obj::from_ptr(at.cast::<*mut ffi::PyObject>().read())
    }
}

/// Where `owner.name = value` and `del owner.name` end. Types with a Python
/// `__setattr__` are `Nowhere`: that method is observed itself.
#[inline]
pub fn home_of_store<'a>(owner: Obj<'a>, name: Obj<'a>) -> Home<'a> {
    // SAFETY: a live object's type; reading slots runs nothing.
    unsafe {
        let tp = ffi::Py_TYPE(owner.as_ptr());
        if (*tp).tp_setattro.map(|f| f as usize) == object().tp_setattro.map(|f| f as usize) {
            return home_of_plain_store(owner, name);
        }
        match special_home(owner, tp) {
            home @ (Home::Module(_) | Home::OwnClass | Home::Behind(_)) => home,
            _ => native_home(owner, tp, name),
        }
    }
}

/// Are the attributes of this object each thread's own?
pub fn is_thread_local(owner: Obj<'_>) -> bool {
    // SAFETY: a live object's type.
    special_base(unsafe { ffi::Py_TYPE(owner.as_ptr()) }) == Some(Special::ThreadLocal)
}

/// Where `object.__setattr__(owner, name, value)` ends, of an object whose
/// attributes are not each thread's own.
#[inline]
pub fn home_of_plain_store<'a>(owner: Obj<'a>, name: Obj<'a>) -> Home<'a> {
    // SAFETY: a live object's type; reading slots runs nothing.
    unsafe {
        let tp = ffi::Py_TYPE(owner.as_ptr());
        let found = _PyType_Lookup(tp, name.as_ptr());
        if !found.is_null() {
            let kind = ffi::Py_TYPE(found);
            if kind == types().member_descriptor {
                return Home::Slot(slot(owner, found));
            }
            if kind == types().getset_descriptor {
                return match name.is(names().dict.borrow()) {
                    true => Home::Dict,
                    false if is_cell(owner) => Home::Cell,
                    false => Home::Slot(None),
                };
            }
            if (*kind).tp_descr_set.is_some() {
                return if is_native_descriptor(kind) { Home::Slot(None) } else { Home::Nowhere };
            }
        }
        if has_storage(owner) { instance(owner, name, false, false) } else { Home::Nowhere }
    }
}

/// What a class is called, or the module whose dict this is.
pub fn namespace_name(object: Obj<'_>) -> Option<String> {
    // SAFETY: only reads the type's flags.
    if unsafe { ffi::PyType_Check(object.as_ptr()) } != 0 {
        return Some(format!("class {}", class_name(object)));
    }
    if !object.is_exactly(types().dict) || dict_get(object, names().spec.borrow()).value().is_none()
    {
        return None;
    }
    dict_get(object, names().name.borrow()).value()?.as_str()
}

/// The classes in which an attribute of `class` may live: its MRO, without the
/// immutable ones.
pub fn mutable_bases<'a>(class: Obj<'a>) -> impl Iterator<Item = Obj<'a>> {
    // SAFETY: `class` is a type; its MRO is a tuple that it keeps alive.
    let mro = unsafe { Obj::from_ptr((*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_mro) };
    mro.into_iter()
        .flat_map(super::code::list_items)
        // SAFETY: the items of an MRO are types.
        .filter(|base| unsafe { is_mutable_type(base.as_ptr().cast()) })
}

/// The dict of a class that Python code has made: what its `__dict__` shows.
pub fn class_dict<'a>(class: Obj<'a>) -> Option<Obj<'a>> {
    // SAFETY: the caller has such a class, whose dict is in its structure and lives as
    // long as it does.
    unsafe { Obj::from_ptr((*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_dict) }
}

/// Is `class` the same as `base`, or does it inherit from it?
pub fn inherits(class: Obj<'_>, base: Obj<'_>) -> bool {
    // SAFETY: `class` is a type; its MRO is a tuple that it keeps alive.
    let mro = unsafe { Obj::from_ptr((*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_mro) };
    mro.into_iter().flat_map(super::code::list_items).any(|one| one == base)
}

/// The instance's `__dict__`, made now if it has to be: only for instructions
/// that ask for it themselves.
pub fn instance_dict<'a>(owner: Obj<'a>) -> Option<Obj<'a>> {
    // SAFETY: the type has a dict, so this runs no code but the allocation; the
    // owner keeps the dict alive after our reference is gone.
    unsafe {
        if !has_storage(owner) {
            return None;
        }
        let dict = ffi::PyObject_GenericGetDict(owner.as_ptr(), std::ptr::null_mut());
        if dict.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        ffi::Py_DECREF(dict);
        Obj::from_ptr(dict)
    }
}

/// Is this special method of the object's class C code?
pub fn is_c_method(object: Obj<'_>, name: &Owned) -> bool {
    let t = types();
    in_class(object.type_of(), name.borrow()).is_some_and(|method| {
        method.is_exactly(t.wrapper_descriptor) || method.is_exactly(t.method_descriptor)
    })
}

/// Does reading attributes of `tp` follow the generic rules, at least at first?
#[inline]
unsafe fn has_generic_getattr(tp: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live type; reading slots runs nothing.
    unsafe {
        if (*tp).tp_getattro.map(|f| f as usize) == object().tp_getattro.map(|f| f as usize) {
            return true;
        }
        if !is_mutable_type(tp) {
            return false;
        }
        // A Python `__getattr__` replaces the slot, and is asked last only.
        let found = _PyType_Lookup(tp, names().getattribute.borrow().as_ptr());
        !found.is_null() && is_generic(found)
    }
}

/// Does this `__getattribute__` of a builtin class follow the generic rules?
unsafe fn is_generic(descriptor: *mut ffi::PyObject) -> bool {
    /// `PyWrapperDescrObject` (`descrobject.h`).
    #[repr(C)]
    struct WrapperDescriptor {
        base: ffi::PyObject,
        class: *mut ffi::PyTypeObject,
        name: *mut ffi::PyObject,
        qualname: *mut ffi::PyObject,
        wrapper: *mut std::ffi::c_void,
        wrapped: *mut std::ffi::c_void,
    }
    // SAFETY: a live object; the cast follows the check of its type.
    unsafe {
        ffi::Py_TYPE(descriptor) == types().wrapper_descriptor
            && (*descriptor.cast::<WrapperDescriptor>()).wrapped as usize
                == object().tp_getattro.map_or(0, |f| f as usize)
    }
}

/// The slots of `object`: the generic ones.
fn object() -> &'static ffi::PyTypeObject {
    // SAFETY: a static type, whose slots never change.
    unsafe { (&raw const ffi::PyBaseObject_Type).as_ref().expect("a static") }
}

#[inline]
unsafe fn is_mutable_type(tp: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live type; reads its flags.
    unsafe {
        ffi::PyType_HasFeature(tp, ffi::Py_TPFLAGS_HEAPTYPE) != 0
            && ffi::PyType_HasFeature(tp, IMMUTABLE_TYPE) == 0
    }
}

const IMMUTABLE_TYPE: std::ffi::c_ulong = 1 << 8;

/// Interned names that lookups are made with.
#[allow(missing_docs)]
pub struct Names {
    pub getattr: Owned,
    pub getattribute: Owned,
    pub setattr: Owned,
    pub delattr: Owned,
    pub get: Owned,
    pub set: Owned,
    pub delete: Owned,
    pub getitem: Owned,
    pub setitem: Owned,
    pub delitem: Owned,
    pub contains: Owned,
    pub len: Owned,
    pub bool: Owned,
    pub iter: Owned,
    pub next: Owned,
    pub call: Owned,
    pub enter: Owned,
    pub in_place: [Owned; 13],
    pub ior: Owned,
    pub wrapped: Owned,
    pub init: Owned,
    pub dict: Owned,
    pub class: Owned,
    pub name: Owned,
    pub module: Owned,
    pub notes: Owned,
    pub level: Owned,
    pub handlers: Owned,
    pub parent: Owned,
    pub maps: Owned,
    pub match_args: Owned,
    pub default_factory: Owned,
    pub builtins: Owned,
    pub loader: Owned,
    pub spec: Owned,
}

/// The methods of in-place operators, in the order of `Include/opcode.h` (NB_INPLACE_*).
const IN_PLACE: [&CStr; 13] = [
    c"__iadd__",
    c"__iand__",
    c"__ifloordiv__",
    c"__ilshift__",
    c"__imatmul__",
    c"__imul__",
    c"__imod__",
    c"__ior__",
    c"__ipow__",
    c"__irshift__",
    c"__isub__",
    c"__itruediv__",
    c"__ixor__",
];

static NAMES: OnceLock<Names> = OnceLock::new();

/// The table; made at first use.
#[inline]
pub fn names() -> &'static Names {
    NAMES.get_or_init(|| {
        // SAFETY: a NUL-terminated literal; the result is a new reference.
        let intern = |text: &std::ffi::CStr| unsafe {
            Owned::from_new(ffi::PyUnicode_InternFromString(text.as_ptr())).expect("memory")
        };
        Names {
            getattr: intern(c"__getattr__"),
            getattribute: intern(c"__getattribute__"),
            setattr: intern(c"__setattr__"),
            delattr: intern(c"__delattr__"),
            get: intern(c"__get__"),
            set: intern(c"__set__"),
            delete: intern(c"__delete__"),
            getitem: intern(c"__getitem__"),
            setitem: intern(c"__setitem__"),
            delitem: intern(c"__delitem__"),
            contains: intern(c"__contains__"),
            len: intern(c"__len__"),
            bool: intern(c"__bool__"),
            iter: intern(c"__iter__"),
            next: intern(c"__next__"),
            call: intern(c"__call__"),
            enter: intern(c"__enter__"),
            in_place: IN_PLACE.map(intern),
            ior: intern(c"__ior__"),
            wrapped: intern(c"__wrapped__"),
            init: intern(c"__init__"),
            dict: intern(c"__dict__"),
            class: intern(c"__class__"),
            name: intern(c"__name__"),
            module: intern(c"__module__"),
            notes: intern(c"__notes__"),
            level: intern(c"level"),
            handlers: intern(c"handlers"),
            parent: intern(c"parent"),
            maps: intern(c"maps"),
            match_args: intern(c"__match_args__"),
            default_factory: intern(c"default_factory"),
            builtins: intern(c"__builtins__"),
            loader: intern(c"__loader__"),
            spec: intern(c"__spec__"),
        }
    })
}
