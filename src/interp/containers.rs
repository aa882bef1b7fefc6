//! Looking into builtin containers, without running code of keys or elements.

use std::ptr;

use pyo3_ffi as ffi;

use super::dict::{self, Found};
use super::layout::PySetObject;
use super::object::Obj;
use super::types::{Special, special, special_base, types};

/// Tells keys of one kind from the others: strings and bytes never equal numbers.
const TEXT: u64 = 0x7465_7874_0000_0001;
const BYTES: u64 = 0x6279_7465_0000_0001;
/// The same for numbers that are not real.
const COMPLEX: u64 = 0x636f_6d70_0000_0001;

/// How `==` and `hash` of a key work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Equality {
    Text,
    Bytes,
    Int,
    Float,
    Complex,
    None,
    Tuple,
    /// By identity, with the hash of `object`.
    Identity,
    /// By identity, with a hash that is somebody's code (an enum's members).
    IdentityOwnHash,
    /// Somebody's code.
    Own,
}

#[inline]
fn equality(key: Obj<'_>) -> Equality {
    let t = types();
    // SAFETY: a live object's type; only its slots are read.
    let tp = unsafe { ffi::Py_TYPE(key.as_ptr()) };
    if tp == t.str {
        Equality::Text
    } else if tp == t.int || tp == t.bool {
        Equality::Int
    } else {
        equality_of_type(tp)
    }
}

/// By the slots, so that a subclass that keeps them counts as its base.
fn equality_of_type(tp: *mut ffi::PyTypeObject) -> Equality {
    let t = types();
    if tp == t.none {
        return Equality::None;
    }
    // SAFETY: live types; only their slots are read.
    let same = |base: *mut ffi::PyTypeObject| unsafe {
        let (own, base) = (&*tp, &*base);
        (
            own.tp_richcompare.map(|f| f as usize) == base.tp_richcompare.map(|f| f as usize),
            own.tp_hash.map(|f| f as usize) == base.tp_hash.map(|f| f as usize),
        )
    };
    let kinds = [
        (t.str, Equality::Text),
        (t.bytes, Equality::Bytes),
        (t.int, Equality::Int),
        (t.float, Equality::Float),
        (&raw mut ffi::PyComplex_Type, Equality::Complex),
        (t.tuple, Equality::Tuple),
    ];
    for (base, equality) in kinds {
        if same(base) == (true, true) {
            return equality;
        }
    }
    match same(&raw mut ffi::PyBaseObject_Type) {
        (true, true) => Equality::Identity,
        (true, false) if tp == t.ty || tp == t.function => Equality::Identity,
        (true, false) => Equality::IdentityOwnHash,
        _ => Equality::Own,
    }
}

/// A digest under which keys that are equal for Python are equal; `None` for
/// keys whose equality is code of their own.
#[inline]
pub fn digest(key: Obj<'_>) -> Option<u64> {
    if key.is_exactly(types().str) {
        return Some(text_hash(key) as u64 ^ TEXT);
    }
    digest_of_any(key)
}

fn digest_of_any(key: Obj<'_>) -> Option<u64> {
    match equality(key) {
        Equality::Text => Some(text_hash(key) as u64 ^ TEXT),
        Equality::Bytes => Some(c_hash(key) as u64 ^ BYTES),
        Equality::Int => match c_hash(key) {
            // The hash of -1 is -2; the other numbers of this hash are told apart here.
            -2 if key_is_minus_one(key) => Some(u64::MAX),
            hash => Some(hash as u64),
        },
        // SAFETY: a float or an instance of a subclass.
        Equality::Float if unsafe { ffi::PyFloat_AS_DOUBLE(key.as_ptr()) } == -1.0 => {
            Some(u64::MAX)
        }
        Equality::Float => Some(c_hash(key) as u64),
        // SAFETY: a complex number or an instance of a subclass.
        Equality::Complex => match unsafe { ffi::PyComplex_AsCComplex(key.as_ptr()) } {
            number if number.imag != 0.0 => Some(c_hash(key) as u64 ^ COMPLEX),
            number if number.real == -1.0 => Some(u64::MAX),
            _ => Some(c_hash(key) as u64),
        },
        Equality::None => Some(0x6e6f_6e65),
        Equality::Tuple => {
            super::code::list_items(key).try_fold(0x7475_706c_6500, |all: u64, item| {
                Some(all.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ digest(item)?)
            })
        }
        Equality::Identity | Equality::IdentityOwnHash => {
            Some((key.address() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        }
        Equality::Own => None,
    }
}

/// The [`digest`] of a key for which it is the same in every execution: not by address.
pub fn stable_digest(key: Obj<'_>) -> Option<u64> {
    let stable = match equality(key) {
        Equality::Text
        | Equality::Bytes
        | Equality::Int
        | Equality::Float
        | Equality::Complex
        | Equality::None => true,
        Equality::Tuple => super::code::list_items(key).all(|item| stable_digest(item).is_some()),
        Equality::Identity | Equality::IdentityOwnHash | Equality::Own => false,
    };
    if stable { digest(key) } else { None }
}

fn key_is_minus_one(key: Obj<'_>) -> bool {
    let mut overflow = 0;
    // SAFETY: an int or an instance of a subclass; the conversion runs no Python code.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(key.as_ptr(), &mut overflow) };
    value == -1 && overflow == 0
}

/// What `hash(key)` is, as far as C code alone can tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// This.
    Known(ffi::Py_hash_t),
    /// Unknown, but equality is known by [`digest`].
    Identity,
    /// Unknown.
    Unknown,
}

/// The hash of a key, without running anybody's code.
#[inline]
pub fn hash(key: Obj<'_>) -> Hash {
    if key.is_exactly(types().str) {
        return Hash::Known(text_hash(key));
    }
    hash_of_any(key)
}

fn hash_of_any(key: Obj<'_>) -> Hash {
    match equality(key) {
        Equality::Text => Hash::Known(text_hash(key)),
        Equality::Own => Hash::Unknown,
        Equality::IdentityOwnHash => Hash::Identity,
        Equality::Tuple => {
            let plain = |item| matches!(hash(item), Hash::Known(_));
            if super::code::list_items(key).all(plain) {
                Hash::Known(c_hash(key))
            } else if digest(key).is_some() {
                Hash::Identity
            } else {
                Hash::Unknown
            }
        }
        _ => Hash::Known(c_hash(key)),
    }
}

#[inline]
fn c_hash(key: Obj<'_>) -> ffi::Py_hash_t {
    // SAFETY: hashing builtin types is C code that cannot fail.
    unsafe { ffi::PyObject_Hash(key.as_ptr()) }
}

/// The hash of a str, which it keeps once it is known.
#[inline]
fn text_hash(key: Obj<'_>) -> ffi::Py_hash_t {
    // SAFETY: an instance of str; all of its layouts begin with this one.
    match unsafe { (*key.as_ptr().cast::<ffi::PyASCIIObject>()).hash } {
        -1 => c_hash(key),
        known => known,
    }
}

/// Length of a list, or of another sequence of [`Shape::Sequence`].
#[inline]
pub fn len(sequence: Obj<'_>) -> i64 {
    // SAFETY: the caller has checked the type: list, deque, bytearray and array are
    // variable-sized objects whose size is their length.
    unsafe { ffi::Py_SIZE(sequence.as_ptr()) as i64 }
}

/// The element of a list, if the index is in range; `None` for other sequences.
#[inline]
pub fn list_get<'a>(list: Obj<'a>, index: i64) -> Option<Obj<'a>> {
    // SAFETY: a list (checked), and the index is in range.
    unsafe {
        let inside = (0..len(list)).contains(&index);
        if !inside || ffi::PyList_Check(list.as_ptr()) == 0 {
            return None;
        }
        Obj::from_ptr(ffi::PyList_GET_ITEM(list.as_ptr(), index as ffi::Py_ssize_t))
    }
}

/// `dict.get(key)`.
#[inline]
pub fn dict_get<'a>(dict: Obj<'a>, key: Obj<'_>) -> Found<'a> {
    dict::get(dict, key)
}

/// `key in set`: the search of `Objects/setobject.c` (`set_lookkey`), without its
/// calls of `==`. `None` where only those could tell.
pub fn set_contains(set: Obj<'_>, key: Obj<'_>) -> Option<bool> {
    const LINEAR_PROBES: usize = 9;
    let hash = match hash(key) {
        Hash::Known(hash) => hash,
        Hash::Identity => {
            let wanted = digest(key);
            let is_it = |item| item == key || wanted.is_some() && digest(item) == wanted;
            return Some(set_items(set).any(is_it));
        }
        Hash::Unknown => return None,
    };
    // SAFETY: a set (checked by the caller) that nobody changes meanwhile: a table
    // of mask + 1 entries, one of which at least is empty.
    unsafe {
        let raw = &*set.as_ptr().cast::<PySetObject>();
        let mask = raw.mask as usize;
        let (mut perturb, mut at) = (hash as usize, hash as usize & mask);
        loop {
            let probes = if at + LINEAR_PROBES <= mask { LINEAR_PROBES } else { 0 };
            for entry in at..=at + probes {
                let entry = &*raw.table.add(entry);
                let Some(there) = Obj::from_ptr(entry.key.cast()) else {
                    if entry.hash == 0 {
                        return Some(false);
                    } else {
                        continue;
                    };
                };
                if there == key {
                    return Some(true);
                }
                // A removed entry has a dummy for its key, and the hash -1.
                if entry.hash == hash && digest(there)? == digest(key)? {
                    return Some(true);
                }
            }
            perturb >>= 5;
            at = at.wrapping_mul(5).wrapping_add(1).wrapping_add(perturb) & mask;
        }
    }
}

/// The elements of a set or frozenset.
pub fn set_items<'a>(set: Obj<'a>) -> impl Iterator<Item = Obj<'a>> {
    let mut position = 0;
    std::iter::from_fn(move || set_next(set, &mut position))
}

fn set_next<'a>(set: Obj<'a>, position: &mut ffi::Py_ssize_t) -> Option<Obj<'a>> {
    unsafe extern "C" {
        fn _PySet_NextEntry(
            set: *mut ffi::PyObject,
            position: *mut ffi::Py_ssize_t,
            key: *mut *mut ffi::PyObject,
            hash: *mut ffi::Py_hash_t,
        ) -> std::ffi::c_int;
    }
    let (mut key, mut hash) = (ptr::null_mut(), 0);
    // SAFETY: a set that nobody changes meanwhile; the key is borrowed from it.
    unsafe {
        let more = _PySet_NextEntry(set.as_ptr(), position, &mut key, &mut hash) != 0;
        if more { Obj::from_ptr(key) } else { None }
    }
}

/// How the parts of an object are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A list, or a subclass: by index.
    List,
    /// A dict, or a subclass: by key.
    Dict,
    /// A set, or a subclass: by element.
    Set,
    /// A mutable sequence of another type (bytearray, array, deque): by index.
    Sequence,
    /// Not at all: one part.
    Opaque,
    /// A view of other objects.
    View,
    /// Nothing that can change or be looked into.
    Other,
}

/// The shape of an object's type, by inheritance.
#[inline]
pub fn shape(object: Obj<'_>) -> Shape {
    // SAFETY: a live object; the checks read type flags only.
    unsafe {
        let object = object.as_ptr();
        let tp = ffi::Py_TYPE(object);
        if ffi::PyDict_Check(object) != 0 {
            return Shape::Dict;
        }
        if ffi::PyList_Check(object) != 0 {
            return Shape::List;
        }
        if ffi::PySet_Check(object) != 0 {
            return Shape::Set;
        }
        let t = types();
        if tp == t.int || tp == t.str || tp == t.none || tp == t.bool || tp == t.tuple {
            return Shape::Other;
        }
        match special_base(tp) {
            Some(Special::Deque | Special::Sequence) => Shape::Sequence,
            Some(Special::Opaque) => Shape::Opaque,
            Some(Special::View) => Shape::View,
            _ => Shape::Other,
        }
    }
}

/// Can elements of this object of an unknown type of C code be set?
#[inline]
pub fn is_native_container(object: Obj<'_>) -> bool {
    // SAFETY: a live object's type; only its slots are read.
    let settable = unsafe {
        let tp = &*ffi::Py_TYPE(object.as_ptr());
        tp.tp_as_mapping.as_ref().is_some_and(|slots| slots.mp_ass_subscript.is_some())
            || tp.tp_as_sequence.as_ref().is_some_and(|slots| slots.sq_ass_item.is_some())
    };
    settable && {
        let names = super::attributes::names();
        super::attributes::is_c_method(object, &names.setitem) && shape(object) == Shape::Other
    }
}

/// Is it of an unknown type of C code, whose methods may change it?
pub fn is_native(object: Obj<'_>) -> bool {
    /// Modules whose types do not change, or whose state is seen in another way.
    const MODULES: &[&str] = &[
        "_abc",
        "_asyncio",
        "_contextvars",
        "_functools",
        "_io",
        "_multiprocessing",
        "_queue",
        "_socket",
        "_sre",
        "_ssl",
        "_struct",
        "_thread",
        "_weakref",
        "collections",
        "contextvars",
        "datetime",
        "functools",
        "greenlet",
        "io",
        "itertools",
        "operator",
        "os",
        "posix",
        "re",
        "select",
        "socket",
        "ssl",
        "sys",
        "time",
        "types",
        "typing",
        "weakref",
        "zoneinfo",
    ];
    // Those of builtin types and of classes that Python code has made have no dot.
    let name = object.full_type_name();
    let package = name.split_once('.').map(|(package, _)| package);
    package.is_some_and(|package| !MODULES.contains(&package))
        && name != "decimal.Decimal"
        && shape(object) == Shape::Other
        && !is_iterator(object)
}

/// Is it touched as a whole because of a class that is Python code?
pub fn is_opaque_by_python_code(object: Obj<'_>) -> bool {
    let mut next = Some(object.type_of());
    while let Some(class) = next {
        if special(class.as_ptr().cast()) == Some(Special::Opaque) {
            return super::attributes::is_made_in_python(class);
        }
        // SAFETY: a live type; its bases live as long as it does.
        next = unsafe {
            let base = (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_base;
            Obj::from_ptr(base.cast())
        };
    }
    false
}

/// Could `==` and `repr` look into the object: is it a container or a tuple?
pub fn may_contain(object: Obj<'_>) -> bool {
    is_tuple(object) || shape(object) != Shape::Other || is_namespace(object)
}

/// Is it an instance of str?
pub fn is_str(object: Obj<'_>) -> bool {
    // SAFETY: only reads the type's flags.
    unsafe { ffi::PyUnicode_Check(object.as_ptr()) != 0 }
}

/// Is it a str whose hash and equality are no code of its own?
pub fn is_plain_str(object: Obj<'_>) -> bool {
    is_str(object) && equality(object) == Equality::Text
}

/// What a subscript of a list, tuple or dict gives, as far as no code is needed.
pub fn item<'a>(container: Obj<'a>, key: Obj<'a>) -> Option<Obj<'a>> {
    match (shape(container), key.as_i64()) {
        (Shape::Dict, _) => dict_get(container, key).value(),
        (Shape::List, Some(index)) if index < 0 => list_get(container, index + len(container)),
        (Shape::List, Some(index)) => list_get(container, index),
        (_, Some(index)) if is_tuple(container) && index >= 0 => {
            super::code::list_items(container).nth(index as usize)
        }
        _ => None,
    }
}

/// Is it of a builtin type whose methods change nothing?
pub fn is_immutable(object: Obj<'_>) -> bool {
    let t = types();
    [t.str, t.bytes, t.int, t.float, t.bool, t.tuple, t.none, t.ty]
        .iter()
        .any(|tp| object.is_exactly(*tp))
}

/// Is it a number or a text, in which nothing else is, and which nothing can change?
#[inline]
pub fn holds_nothing(object: Obj<'_>) -> bool {
    let t = types();
    [t.int, t.str, t.float, t.bool].iter().any(|tp| object.is_exactly(*tp))
}

/// Does appending to this deque drop its first element?
pub fn drops_the_first(sequence: Obj<'_>) -> bool {
    is_bounded(sequence) && len(sequence) >= most(sequence) as i64
}

/// Is it a dict, or an instance of a subclass?
#[inline]
pub fn is_dict(object: Obj<'_>) -> bool {
    // SAFETY: only reads the type's flags.
    unsafe { ffi::PyDict_Check(object.as_ptr()) != 0 }
}

/// Is it a tuple?
pub fn is_tuple(object: Obj<'_>) -> bool {
    // SAFETY: only reads the type's flags.
    unsafe { ffi::PyTuple_Check(object.as_ptr()) != 0 }
}

/// Is it a class?
pub fn is_class(object: Obj<'_>) -> bool {
    // SAFETY: only reads the type's flags.
    unsafe { ffi::PyType_Check(object.as_ptr()) != 0 }
}

/// Does it lie between a memoryview and what that shows?
pub fn is_buffer(object: Obj<'_>) -> bool {
    // SAFETY: a live object's type.
    special(unsafe { ffi::Py_TYPE(object.as_ptr()) }) == Some(Special::Buffer)
}

/// Does reading a missing key of this dict insert it?
pub fn makes_missing_keys(dict: Obj<'_>) -> bool {
    factory(dict).is_some()
}

/// What a defaultdict calls to make the values of missing keys.
pub fn factory<'a>(dict: Obj<'a>) -> Option<Obj<'a>> {
    /// `defdictobject` (`Modules/_collectionsmodule.c`).
    #[repr(C)]
    struct DefaultDict {
        dict: super::layout::PyDictObject,
        factory: *mut ffi::PyObject,
    }
    // SAFETY: a live dict; the cast follows the check of its type.
    unsafe {
        let tp = ffi::Py_TYPE(dict.as_ptr());
        if tp == &raw mut ffi::PyDict_Type || special_base(tp) != Some(Special::DefaultDict) {
            return None;
        }
        let factory = (*dict.as_ptr().cast::<DefaultDict>()).factory;
        Obj::from_ptr(factory).filter(|factory| !factory.is_none())
    }
}

/// Has each element of a view the same index in the bytearray that it shows?
pub fn covers(view: Obj<'_>, base: Obj<'_>) -> bool {
    // SAFETY: a memoryview lends its buffer without running Python code, and gets it
    // back at once; the base is checked to be a bytearray.
    unsafe {
        let (view, base) = (view.as_ptr(), base.as_ptr());
        if ffi::PyMemoryView_Check(view) == 0 || ffi::PyByteArray_Check(base) == 0 {
            return false;
        }
        let mut buffer = std::mem::zeroed::<ffi::Py_buffer>();
        if ffi::PyObject_GetBuffer(view, &mut buffer, ffi::PyBUF_SIMPLE) < 0 {
            ffi::PyErr_Clear();
            return false;
        }
        let same = ptr::eq(buffer.buf.cast(), ffi::PyByteArray_AsString(base))
            && buffer.itemsize == 1
            && buffer.len == ffi::PyByteArray_Size(base);
        ffi::PyBuffer_Release(&mut buffer);
        same
    }
}

/// Has anybody but this frame a reference to the object?
pub fn is_private(object: Obj<'_>) -> bool {
    references(object) == 1
}

/// How many references there are to the object.
#[inline]
pub fn references(object: Obj<'_>) -> usize {
    // SAFETY: a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) as usize }
}

/// Is it the iterator or a view of a builtin container?
pub fn looks_into_another(object: Obj<'_>) -> bool {
    use Special::{DictIterator, ListIterator, SetIterator, View};
    // SAFETY: a live object's type.
    let special = special(unsafe { ffi::Py_TYPE(object.as_ptr()) });
    matches!(special, Some(DictIterator | ListIterator | SetIterator | View))
}

/// A step of an iterator, about to be made.
pub enum Step<'a> {
    /// Of a list: this index.
    Index(Obj<'a>, i64),
    /// Of a dict: this key, or its end.
    Key(Obj<'a>, Option<Obj<'a>>),
    /// Of a set: this element, or its end.
    Element(Obj<'a>, Option<Obj<'a>>),
    /// Of something that draws one element from each of others.
    Opaque,
    /// Of something that draws as many elements from others as it likes.
    Greedy,
    /// Of something that only has its own position.
    Own,
    /// Of a generator.
    Generator,
    /// Of an iterator that is exhausted, and that would touch so many parts of a
    /// container otherwise.
    Exhausted(usize),
    /// Of nothing that could change, or of no iterator of C code.
    Harmless,
}

/// What the next step of an iterator touches.
pub fn step<'a>(iterator: Obj<'a>) -> Step<'a> {
    /// `_PyListIterObject` and `listreviterobject` (`Objects/listobject.c`).
    #[repr(C)]
    struct OfList {
        base: ffi::PyObject,
        index: ffi::Py_ssize_t,
        list: *mut ffi::PyObject,
    }
    /// `dictiterobject` (`Objects/dictobject.c`), `setiterobject` (`Objects/setobject.c`).
    #[repr(C)]
    struct OfTable {
        base: ffi::PyObject,
        table: *mut ffi::PyObject,
        used: ffi::Py_ssize_t,
        position: ffi::Py_ssize_t,
    }
    // SAFETY: the layouts belong to the exact types, and have not changed from 3.11
    // to 3.15; what they refer to they keep alive, and NULL means exhausted.
    unsafe {
        match special(ffi::Py_TYPE(iterator.as_ptr())) {
            Some(Special::ListIterator) => {
                let state = &*iterator.as_ptr().cast::<OfList>();
                match Obj::from_ptr(state.list) {
                    Some(list) => Step::Index(list, state.index as i64),
                    None => Step::Exhausted(3),
                }
            }
            Some(Special::DictIterator) => {
                let state = &*iterator.as_ptr().cast::<OfTable>();
                let Some(dict) = Obj::from_ptr(state.table) else { return Step::Exhausted(2) };
                let (mut position, mut key) = (state.position, ptr::null_mut());
                // One that notices another size looks no further.
                let next = ffi::PyDict_Check(dict.as_ptr()) != 0
                    && ffi::PyDict_Size(dict.as_ptr()) == state.used
                    && ffi::PyDict_Next(dict.as_ptr(), &mut position, &mut key, ptr::null_mut())
                        != 0;
                Step::Key(dict, if next { Obj::from_ptr(key) } else { None })
            }
            Some(Special::SetIterator) => {
                let state = &*iterator.as_ptr().cast::<OfTable>();
                let Some(set) = Obj::from_ptr(state.table) else { return Step::Exhausted(2) };
                let mut position = state.position;
                let same_size = ffi::PySet_Size(set.as_ptr()) == state.used;
                let next = if same_size { set_next(set, &mut position) } else { None };
                Step::Element(set, next)
            }
            Some(
                Special::Iterator | Special::Chain | Special::Starmap | Special::SequenceIterator,
            ) => Step::Opaque,
            Some(Special::Greedy) => Step::Greedy,
            Some(Special::OwnIterator) => Step::Own,
            Some(Special::Generator) => Step::Generator,
            _ => Step::Harmless,
        }
    }
}

/// Is it what several iterators of one `tee` share?
pub fn is_shared_by_tee(object: Obj<'_>) -> bool {
    // SAFETY: a live object's type.
    special(unsafe { ffi::Py_TYPE(object.as_ptr()) }) == Some(Special::Tee)
}

/// Does the iterator call its function with the elements spread out?
pub fn spreads_elements(iterator: Obj<'_>) -> bool {
    // SAFETY: a live object's type.
    special(unsafe { ffi::Py_TYPE(iterator.as_ptr()) }) == Some(Special::Starmap)
}

/// Does the iterator iterate over each element that it draws?
pub fn goes_into_elements(iterator: Obj<'_>) -> bool {
    // SAFETY: a live object's type.
    special(unsafe { ffi::Py_TYPE(iterator.as_ptr()) }) == Some(Special::Chain)
}

/// Does it let elements through that are true?
pub fn is_filter(iterator: Obj<'_>) -> bool {
    iterator.is_exactly(&raw mut ffi::PyFilter_Type)
}

/// Is it a set or frozenset?
pub fn is_any_set(object: Obj<'_>) -> bool {
    // SAFETY: only reads the type's flags.
    unsafe { ffi::PyAnySet_Check(object.as_ptr()) != 0 }
}

/// Is it a memoryview?
pub fn is_memoryview(object: Obj<'_>) -> bool {
    // SAFETY: only reads the type.
    unsafe { ffi::PyMemoryView_Check(object.as_ptr()) != 0 }
}

/// Is it a closure cell?
pub fn is_cell(object: Obj<'_>) -> bool {
    // SAFETY: only reads the type.
    unsafe { ffi::PyCell_Check(object.as_ptr()) != 0 }
}

/// Is it a deque?
pub fn is_deque(object: Obj<'_>) -> bool {
    // SAFETY: a live object's type.
    special_base(unsafe { ffi::Py_TYPE(object.as_ptr()) }) == Some(Special::Deque)
}

/// Is it a `types.SimpleNamespace`?
pub fn is_namespace(object: Obj<'_>) -> bool {
    // SAFETY: a live object's type.
    special(unsafe { ffi::Py_TYPE(object.as_ptr()) }) == Some(Special::Namespace)
}

/// Is it a function that remembers its results (`functools.lru_cache`)?
pub fn is_cached_function(object: Obj<'_>) -> bool {
    // SAFETY: a live object's type.
    special(unsafe { ffi::Py_TYPE(object.as_ptr()) }) == Some(Special::Cached)
}

/// Has a function of `functools.lru_cache` nearly as many results as it keeps, so that those
/// which workers are about to add may be too many? `None` where it keeps all of them.
pub fn cache_is_full(cached: Obj<'_>) -> Option<bool> {
    /// `lru_cache_object` (`Modules/_functoolsmodule.c`).
    #[repr(C)]
    struct Cached {
        base: ffi::PyObject,
        links: [usize; 2],
        hash: ffi::Py_hash_t,
        key_and_result: [usize; 2],
        wrapper: usize,
        typed: std::ffi::c_int,
        results: *mut ffi::PyObject,
        hits: ffi::Py_ssize_t,
        function: *mut ffi::PyObject,
        most: ffi::Py_ssize_t,
    }
    const ABOUT_TO_BE_ADDED: ffi::Py_ssize_t = 8;
    // A method of such a function.
    let cached = match is_cached_function(cached) {
        true => cached,
        false => referents(cached).into_iter().find(|one| is_cached_function(*one))?,
    };
    // SAFETY: the type was checked; the layout has not changed from 3.11 to 3.15. The results
    // are in a dict, where there are any to be.
    unsafe {
        let cached = &*cached.as_ptr().cast::<Cached>();
        let results = Obj::from_ptr(cached.results).filter(|results| is_dict(*results))?;
        let bounded = cached.most > 0;
        bounded.then(|| ffi::PyDict_Size(results.as_ptr()) + ABOUT_TO_BE_ADDED >= cached.most)
    }
}

/// Has it a place of its own in an iteration, whatever it iterates over?
pub fn is_iterator(object: Obj<'_>) -> bool {
    !matches!(step(object), Step::Harmless)
}

/// What a view shows of a dict.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The keys.
    Keys,
    /// The values.
    Values,
    /// More than one of them, or something else.
    All,
}

/// What a view, or the iterator of a dict or of a view, shows of the dict.
pub fn sight(object: Obj<'_>) -> Sight {
    unsafe extern "C" {
        static mut PyDictKeys_Type: ffi::PyTypeObject;
        static mut PyDictValues_Type: ffi::PyTypeObject;
        static mut PyDictIterKey_Type: ffi::PyTypeObject;
        static mut PyDictIterValue_Type: ffi::PyTypeObject;
        static mut PyDictRevIterKey_Type: ffi::PyTypeObject;
        static mut PyDictRevIterValue_Type: ffi::PyTypeObject;
        static mut PyODictKeys_Type: ffi::PyTypeObject;
        static mut PyODictValues_Type: ffi::PyTypeObject;
    }
    let keys = [
        &raw mut PyDictKeys_Type,
        &raw mut PyDictIterKey_Type,
        &raw mut PyDictRevIterKey_Type,
        &raw mut PyODictKeys_Type,
    ];
    let values = [
        &raw mut PyDictValues_Type,
        &raw mut PyDictIterValue_Type,
        &raw mut PyDictRevIterValue_Type,
        &raw mut PyODictValues_Type,
    ];
    if keys.into_iter().any(|tp| object.is_exactly(tp)) {
        Sight::Keys
    } else if values.into_iter().any(|tp| object.is_exactly(tp)) {
        Sight::Values
    } else {
        Sight::All
    }
}

/// Does it show a mapping, of which `in` asks for the keys?
pub fn shows_keys(view: Obj<'_>) -> bool {
    unsafe extern "C" {
        static mut PyDictProxy_Type: ffi::PyTypeObject;
    }
    sight(view) == Sight::Keys || view.is_exactly(&raw mut PyDictProxy_Type)
}

/// Is it the iterator of a list that begins at the end?
pub fn goes_backwards(iterator: Obj<'_>) -> bool {
    unsafe extern "C" {
        static mut PyListRevIter_Type: ffi::PyTypeObject;
    }
    iterator.is_exactly(&raw mut PyListRevIter_Type)
}

/// Is it `bytes`?
pub fn is_bytes(object: Obj<'_>) -> bool {
    object.is_exactly(types().bytes)
}

/// Could an equal key be a number?
pub fn is_number(key: Obj<'_>) -> bool {
    // SAFETY: a live object's type; only its slots are read.
    unsafe {
        let numbers = (*ffi::Py_TYPE(key.as_ptr())).tp_as_number.as_ref();
        ffi::PyComplex_Check(key.as_ptr()) != 0
            || numbers.is_some_and(|numbers| numbers.nb_float.is_some())
    }
}

/// Has the sequence a length that it never exceeds?
pub fn is_bounded(sequence: Obj<'_>) -> bool {
    is_deque(sequence) && most(sequence) >= 0
}

/// `maxlen` of a deque, -1 for none.
fn most(deque: Obj<'_>) -> ffi::Py_ssize_t {
    /// `dequeobject` (`Modules/_collectionsmodule.c`).
    #[repr(C)]
    struct Deque {
        base: ffi::PyVarObject,
        blocks: [usize; 2],
        indices: [ffi::Py_ssize_t; 2],
        state: usize,
        max_len: ffi::Py_ssize_t,
    }
    // SAFETY: the caller has a deque; the layout has not changed from 3.11 to 3.15.
    unsafe { (*deque.as_ptr().cast::<Deque>()).max_len }
}

/// The objects that an iterator, view or wrapper of C code refers to, as the
/// garbage collector sees them.
pub fn referents<'a>(object: Obj<'a>) -> Vec<Obj<'a>> {
    unsafe extern "C" fn visit(found: *mut ffi::PyObject, all: *mut std::ffi::c_void) -> i32 {
        // SAFETY: `all` is the Vec below; a visited object is alive.
        unsafe { (*all.cast::<Vec<Obj<'_>>>()).extend(Obj::from_ptr(found)) };
        0
    }
    let mut all: Vec<Obj<'a>> = vec![];
    // SAFETY: tp_traverse of a live object only visits; it runs no Python code.
    unsafe {
        if let Some(traverse) = (*ffi::Py_TYPE(object.as_ptr())).tp_traverse {
            traverse(object.as_ptr(), visit, (&raw mut all).cast());
        }
    }
    all
}

/// The contents of a closure cell.
pub fn cell_value<'a>(cell: Obj<'a>) -> Option<Obj<'a>> {
    // SAFETY: checked to be a cell; its contents live while it is not written.
    unsafe {
        if ffi::PyCell_Check(cell.as_ptr()) == 0 {
            return None;
        }
        let value = ffi::PyCell_Get(cell.as_ptr());
        if value.is_null() {
            return None;
        }
        ffi::Py_DECREF(value);
        Obj::from_ptr(value)
    }
}
