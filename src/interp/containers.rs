//! Looking into builtin containers, without running code of keys or elements.

use pyo3_ffi as ffi;

use super::object::Obj;
use super::types::types;

/// A digest under which keys that are equal for Python are equal; `None` for
/// keys whose equality is code of their own.
pub fn digest(key: Obj<'_>) -> Option<u64> {
    let t = types();
    if key.is_exactly(t.str) || key.is_exactly(t.bytes) || key.is_exactly(t.float) {
        return hash(key);
    }
    if key.is_exactly(t.int) || key.is_exactly(t.bool) {
        // -1 and -2 have one hash; a small int is its own best digest, as long as
        // floats and big ints of equal value get the same.
        return match key.as_i64() {
            Some(value @ (-1 | -2)) => Some(value as u64 ^ 0x5bd1_e995_0000_0000),
            _ => hash(key),
        };
    }
    if key.is_none() {
        return Some(0x6e6f_6e65);
    }
    if key.is_exactly(t.tuple) {
        let mut all = 0x7475_706c_6500_0000u64;
        for item in super::code::list_items(key) {
            all = all.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ digest(item)?;
        }
        return Some(all);
    }
    has_identity_equality(key).then(|| (key.address() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn hash(key: Obj<'_>) -> Option<u64> {
    // SAFETY: hashing these exact builtin types is C code that cannot fail.
    Some(unsafe { ffi::PyObject_Hash(key.as_ptr()) } as u64)
}

/// Do `==` and `hash` of this object mean identity?
fn has_identity_equality(key: Obj<'_>) -> bool {
    // SAFETY: reads slots of a live type and of the static type `object`.
    unsafe {
        let tp = ffi::Py_TYPE(key.as_ptr());
        let object = &raw mut ffi::PyBaseObject_Type;
        (*tp).tp_richcompare.map(|f| f as usize) == (*object).tp_richcompare.map(|f| f as usize)
            && (*tp).tp_hash.map(|f| f as usize) == (*object).tp_hash.map(|f| f as usize)
            || tp == types().ty
            || tp == types().function
    }
}

/// Length of an exact or derived list.
pub fn list_len(list: Obj<'_>) -> i64 {
    // SAFETY: the caller has checked the type.
    unsafe { ffi::PyList_Size(list.as_ptr()) as i64 }
}

/// The element of a list, if the index is in range.
pub fn list_get<'a>(list: Obj<'a>, index: i64) -> Option<Obj<'a>> {
    if !(0..list_len(list)).contains(&index) {
        return None;
    }
    // SAFETY: a list, and the index is in range.
    unsafe { Obj::from_ptr(ffi::PyList_GET_ITEM(list.as_ptr(), index as ffi::Py_ssize_t)) }
}

/// The value under a key that has a [`digest`]; `None` when it is not there.
pub fn dict_get<'a>(dict: Obj<'a>, key: Obj<'a>) -> Option<Obj<'a>> {
    digest(key)?;
    // SAFETY: a dict and a key whose hash and equality are C code.
    unsafe {
        let value = ffi::PyDict_GetItemWithError(dict.as_ptr(), key.as_ptr());
        if value.is_null() && !ffi::PyErr_Occurred().is_null() {
            ffi::PyErr_Clear();
        }
        Obj::from_ptr(value)
    }
}

/// Is the key, which has a [`digest`], in the set?
pub fn set_contains(set: Obj<'_>, key: Obj<'_>) -> bool {
    if digest(key).is_none() {
        return false;
    }
    // SAFETY: a set and a key whose hash and equality are C code.
    let found = unsafe { ffi::PySet_Contains(set.as_ptr(), key.as_ptr()) };
    if found < 0 {
        // SAFETY: the GIL is held; the error is ours to drop.
        unsafe { ffi::PyErr_Clear() };
    }
    found == 1
}

/// The elements of a set or frozenset.
pub fn set_items<'a>(set: Obj<'a>) -> Vec<Obj<'a>> {
    unsafe extern "C" {
        fn _PySet_NextEntry(
            set: *mut ffi::PyObject,
            position: *mut ffi::Py_ssize_t,
            key: *mut *mut ffi::PyObject,
            hash: *mut ffi::Py_hash_t,
        ) -> std::ffi::c_int;
    }
    let (mut items, mut position, mut key, mut hash) = (vec![], 0, std::ptr::null_mut(), 0);
    // SAFETY: a set that nobody changes meanwhile; the keys are borrowed from it.
    unsafe {
        while _PySet_NextEntry(set.as_ptr(), &mut position, &mut key, &mut hash) != 0 {
            items.extend(Obj::from_ptr(key));
        }
    }
    items
}

/// What subscripts of this type mean, as its slot says: a subclass that keeps
/// the C implementation counts as its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A list, or a subclass.
    List,
    /// A dict, or a subclass.
    Dict,
    /// A set, or a subclass.
    Set,
    /// A mutable sequence of another type (bytearray, array, deque).
    Sequence,
    /// Nothing that can change or be looked into.
    Other,
}

/// The shape of an object's type, by inheritance.
#[inline]
pub fn shape(object: Obj<'_>) -> Shape {
    let t = types();
    // SAFETY: the checks read type flags only.
    unsafe {
        let ptr = object.as_ptr();
        if ffi::PyDict_Check(ptr) != 0 {
            Shape::Dict
        } else if ffi::PyList_Check(ptr) != 0 {
            Shape::List
        } else if object.is_exactly(t.set) || ffi::PySet_Check(ptr) != 0 {
            Shape::Set
        } else if ffi::PyByteArray_Check(ptr) != 0 {
            Shape::Sequence
        } else {
            Shape::Other
        }
    }
}

/// Is `object[key]` C code of the builtin base (no Python `__getitem__`)?
pub fn subscript_is_builtin(object: Obj<'_>, shape: Shape) -> bool {
    let t = types();
    let base = match shape {
        Shape::List => t.list,
        Shape::Dict => t.dict,
        _ => return true,
    };
    // SAFETY: both types have mapping methods (they are list or dict types).
    unsafe {
        let tp = ffi::Py_TYPE(object.as_ptr());
        if tp == base {
            return true;
        }
        let (own, builtin) = ((*tp).tp_as_mapping, (*base).tp_as_mapping);
        !own.is_null()
            && (*own).mp_subscript.map(|f| f as usize)
                == (*builtin).mp_subscript.map(|f| f as usize)
    }
}

/// Is `object[key] = value` C code of the builtin base?
pub fn store_is_builtin(object: Obj<'_>, shape: Shape) -> bool {
    let t = types();
    let base = match shape {
        Shape::List => t.list,
        Shape::Dict => t.dict,
        _ => return true,
    };
    // SAFETY: both types have mapping methods (they are list or dict types).
    unsafe {
        let tp = ffi::Py_TYPE(object.as_ptr());
        if tp == base {
            return true;
        }
        let (own, builtin) = ((*tp).tp_as_mapping, (*base).tp_as_mapping);
        !own.is_null()
            && (*own).mp_ass_subscript.map(|f| f as usize)
                == (*builtin).mp_ass_subscript.map(|f| f as usize)
    }
}

/// Object and position of a list iterator; the object is gone when exhausted.
pub fn list_iterator_state<'a>(iterator: Obj<'a>) -> Option<(Obj<'a>, i64)> {
    #[repr(C)]
    struct ListIterator {
        base: ffi::PyObject,
        index: ffi::Py_ssize_t,
        list: *mut ffi::PyObject,
    }
    if !iterator.is_exactly(types().list_iterator) {
        return None;
    }
    // SAFETY: `_PyListIterObject` (pycore_list.h) has had this layout since 3.0.
    unsafe {
        let state = iterator.as_ptr().cast::<ListIterator>();
        Some((Obj::from_ptr((*state).list)?, (*state).index as i64))
    }
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
