//! Looking keys up in the tables of dicts and instances. The search is our own,
//! because CPython's compares keys with `==`, which may be somebody's code.
//!
//! CPython sources: `Include/internal/pycore_dict.h`, `Objects/dictobject.c`
//! (`unicodekeys_lookup_generic`), `pycore_object.h` (managed dicts).

use std::ptr;

use pyo3_ffi as ffi;

use super::containers::{Hash, digest, hash};
use super::error::{Raised, Result};
use super::layout::{PyDictKeysObject, PyDictObject, PyDictValues, PyHeapTypeObject};
use super::object::Obj;

/// What a search found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// The value.
    Value(Obj<'a>),
    /// No such key.
    Missing,
    /// Only somebody's `==` or `hash` could tell.
    Unknown,
}

impl<'a> Found<'a> {
    /// The value, if there is one.
    #[inline]
    pub fn value(self) -> Option<Obj<'a>> {
        match self {
            Found::Value(value) => Some(value),
            Found::Missing | Found::Unknown => None,
        }
    }
}

/// Position in a table of keys.
enum Place {
    At(usize),
    Nowhere,
    Unclear,
}

const GENERAL: u8 = 0;

#[repr(C)]
struct Entry {
    hash: ffi::Py_hash_t,
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
}

#[repr(C)]
struct StrEntry {
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
}

/// `dict.get(key)` of a dict or an instance of a subclass.
pub fn get<'a>(dict: Obj<'a>, key: Obj<'_>) -> Found<'a> {
    // SAFETY: the caller has checked the type; the tables are those of a live dict
    // that nobody changes meanwhile.
    unsafe {
        let raw = &*dict.as_ptr().cast::<PyDictObject>();
        let keys = raw.ma_keys.cast::<PyDictKeysObject>();
        match find(keys, key) {
            Place::Nowhere => Found::Missing,
            Place::Unclear => Found::Unknown,
            Place::At(index) => {
                let value = if raw.ma_values.is_null() {
                    value_at(keys, index)
                } else {
                    (*(*raw.ma_values.cast::<PyDictValues>()).values.as_ptr().add(index)).cast()
                };
                Obj::from_ptr(value).map_or(Found::Missing, Found::Value)
            }
        }
    }
}

/// `dict[key] = value`.
pub fn set(dict: Obj<'_>, key: Obj<'_>, value: Obj<'_>) -> Result<()> {
    // SAFETY: a dict and live objects.
    let failed = unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) } < 0;
    if failed { Err(Raised) } else { Ok(()) }
}

/// A table of so few names is gone through faster than it is searched.
const FEW: usize = 8;

/// # Safety
/// The keys of a live dict or type, that nobody changes meanwhile.
#[inline]
unsafe fn find(keys: *mut PyDictKeysObject, key: Obj<'_>) -> Place {
    // SAFETY: as the caller promises; dk_nentries entries are initialised, and a key that
    // was deleted is null.
    unsafe {
        let count = (*keys).dk_nentries as usize;
        if count <= FEW && (*keys).dk_kind != GENERAL {
            let entries = entries::<StrEntry>(keys);
            for index in 0..count {
                if ptr::eq((*entries.add(index)).key, key.as_ptr()) {
                    return Place::At(index);
                }
            }
        }
    }
    match hash(key) {
        // SAFETY: as the caller promises.
        Hash::Known(hash) => unsafe { probe(keys, key, hash) },
        // SAFETY: as the caller promises.
        Hash::Identity => unsafe { scan(keys, key) },
        Hash::Unknown => Place::Unclear,
    }
}

/// # Safety
/// As [`find`].
#[inline]
unsafe fn probe(keys: *mut PyDictKeysObject, key: Obj<'_>, hash: ffi::Py_hash_t) -> Place {
    // SAFETY: an index table has 2^dk_log2_size entries of a width that its size
    // decides; it always has an empty one, so the search ends.
    unsafe {
        let size = (*keys).dk_log2_size;
        let mask = (1usize << size) - 1;
        let mut perturb = hash as usize;
        let mut at = perturb & mask;
        loop {
            match index_at(keys, size, at) {
                -1 => return Place::Nowhere,
                index if index >= 0 => match compare(keys, index as usize, key, hash) {
                    Some(true) => return Place::At(index as usize),
                    Some(false) => {}
                    None => return Place::Unclear,
                },
                _ => {}
            }
            perturb >>= 5;
            at = at.wrapping_mul(5).wrapping_add(perturb).wrapping_add(1) & mask;
        }
    }
}

/// # Safety
/// As [`find`]; `at` is less than the table's size.
#[inline]
unsafe fn index_at(keys: *mut PyDictKeysObject, size: u8, at: usize) -> i64 {
    // SAFETY: as the caller promises.
    unsafe {
        let table = (&raw const (*keys).dk_indices).cast::<i8>();
        match size {
            0..8 => (*table.add(at)).into(),
            8..16 => (*table.cast::<i16>().add(at)).into(),
            16..32 => (*table.cast::<i32>().add(at)).into(),
            _ => *table.cast::<i64>().add(at),
        }
    }
}

/// # Safety
/// As [`find`].
#[inline]
unsafe fn entries<T>(keys: *mut PyDictKeysObject) -> *const T {
    // SAFETY: the entries follow the index table.
    unsafe {
        let table = (&raw const (*keys).dk_indices).cast::<u8>();
        table.add(1usize << (*keys).dk_log2_index_bytes).cast()
    }
}

/// Is the key at this index equal? `None` where only somebody's `==` can tell.
///
/// # Safety
/// As [`find`]; the index is one of the table's.
#[inline]
unsafe fn compare(
    keys: *mut PyDictKeysObject,
    index: usize,
    key: Obj<'_>,
    hash: ffi::Py_hash_t,
) -> Option<bool> {
    // SAFETY: as the caller promises; a key in use is a live object.
    unsafe {
        let (there, same_hash) = if (*keys).dk_kind == GENERAL {
            let entry = &*entries::<Entry>(keys).add(index);
            (entry.key, entry.hash == hash)
        } else {
            let there = (*entries::<StrEntry>(keys).add(index)).key;
            (there, ptr::eq(there, key.as_ptr()) || ffi::PyObject_Hash(there) == hash)
        };
        if ptr::eq(there, key.as_ptr()) {
            return Some(true);
        }
        if !same_hash {
            return Some(false);
        }
        Some(digest(Obj::from_ptr(there)?)? == digest(key)?)
    }
}

/// Finds a key whose hash is somebody's code, though its equality is not.
///
/// # Safety
/// As [`find`].
unsafe fn scan(keys: *mut PyDictKeysObject, key: Obj<'_>) -> Place {
    // SAFETY: dk_nentries entries are initialised.
    unsafe {
        if (*keys).dk_kind != GENERAL {
            return Place::Nowhere;
        }
        let wanted = digest(key);
        let is_it = |index: &usize| {
            let there = Obj::from_ptr((*entries::<Entry>(keys).add(*index)).key);
            there.is_some_and(|there| there == key || wanted.is_some() && digest(there) == wanted)
        };
        (0..(*keys).dk_nentries as usize).find(is_it).map_or(Place::Nowhere, Place::At)
    }
}

/// # Safety
/// As [`find`]; the index is one of a table that is not split.
#[inline]
unsafe fn value_at(keys: *mut PyDictKeysObject, index: usize) -> *mut ffi::PyObject {
    // SAFETY: as the caller promises.
    unsafe {
        if (*keys).dk_kind == GENERAL {
            (*entries::<Entry>(keys).add(index)).value
        } else {
            (*entries::<StrEntry>(keys).add(index)).value
        }
    }
}

/// Where the attributes of an instance lie.
#[derive(Clone, Copy)]
pub enum Storage<'a> {
    /// In its `__dict__`.
    Dict(Obj<'a>),
    /// In an array beside the instance: nobody has asked for its `__dict__` yet.
    Values(*mut PyDictKeysObject, *mut PyDictValues),
    /// It has none yet.
    Empty,
}

/// How far before an instance the word lies (`MANAGED_DICT_OFFSET`): the garbage
/// collector's header comes between where there is one.
const MANAGED_DICT_WORDS: usize = if cfg!(Py_GIL_DISABLED) { 1 } else { 3 };

const MANAGED_DICT: std::ffi::c_ulong = 1 << 4;

/// Does the type of this object give its instances a `__dict__`?
#[inline]
pub fn has_storage(owner: Obj<'_>) -> bool {
    // SAFETY: a live object's type; reads its flags and offsets.
    unsafe {
        let tp = ffi::Py_TYPE(owner.as_ptr());
        ffi::PyType_HasFeature(tp, MANAGED_DICT) != 0 || (*tp).tp_dictoffset != 0
    }
}

/// The storage of an instance whose type [`has_storage`].
#[inline]
pub fn storage<'a>(owner: Obj<'a>) -> Storage<'a> {
    unsafe extern "C" {
        fn _PyObject_GetDictPtr(object: *mut ffi::PyObject) -> *mut *mut ffi::PyObject;
    }
    // SAFETY: a live object; a type with the flag MANAGED_DICT has the words before
    // its instances that `pycore_object.h` of the version describes. Without the
    // flag, `_PyObject_GetDictPtr` merely computes an address.
    unsafe {
        let object = owner.as_ptr();
        let tp = ffi::Py_TYPE(object);
        if ffi::PyType_HasFeature(tp, MANAGED_DICT) == 0 {
            let at = _PyObject_GetDictPtr(object);
            let dict = if at.is_null() { None } else { Obj::from_ptr(*at) };
            return dict.map_or(Storage::Empty, Storage::Dict);
        }
        let word = object.cast::<usize>().sub(MANAGED_DICT_WORDS).read();
        #[cfg(Py_3_13)]
        let (dict, values) = {
            const INLINE_VALUES: std::ffi::c_ulong = 1 << 2;
            let inline = object.cast::<u8>().add((*tp).tp_basicsize as usize);
            let inline = inline.cast::<PyDictValues>();
            let has_values = ffi::PyType_HasFeature(tp, INLINE_VALUES) != 0 && (*inline).valid != 0;
            (word, if has_values { inline } else { ptr::null_mut() })
        };
        #[cfg(all(Py_3_12, not(Py_3_13)))]
        let (dict, values) = if word & 1 == 1 {
            (0, (word + 1) as *mut PyDictValues)
        } else {
            (word, ptr::null_mut())
        };
        #[cfg(not(Py_3_12))]
        let (dict, values) = (word, object.cast::<*mut PyDictValues>().sub(4).read());
        if let Some(dict) = Obj::from_ptr(dict as *mut ffi::PyObject) {
            return Storage::Dict(dict);
        }
        if values.is_null() {
            return Storage::Empty;
        }
        let keys = (*tp.cast::<PyHeapTypeObject>()).ht_cached_keys;
        if keys.is_null() { Storage::Empty } else { Storage::Values(keys.cast(), values) }
    }
}

impl<'a> Storage<'a> {
    /// The value of an attribute.
    #[inline]
    pub fn get(self, name: Obj<'_>) -> Found<'a> {
        match self {
            Storage::Dict(dict) => get(dict, name),
            Storage::Empty => Found::Missing,
            // SAFETY: made by `storage` of a live instance: the values are as many as
            // the shared keys.
            Storage::Values(keys, values) => unsafe {
                match find(keys, name) {
                    Place::At(index) => {
                        let value = *(*values).values.as_ptr().add(index);
                        Obj::from_ptr(value.cast()).map_or(Found::Missing, Found::Value)
                    }
                    Place::Nowhere => Found::Missing,
                    Place::Unclear => Found::Unknown,
                }
            },
        }
    }

    /// Goes through the attributes.
    pub fn each(self, mut tell: impl FnMut(Obj<'a>, Obj<'a>)) {
        match self {
            Storage::Dict(dict) => {
                super::code::dict_items(dict).for_each(|(name, value)| tell(name, value));
            }
            Storage::Empty => {}
            // SAFETY: made by `storage` of a live instance: shared keys are strings, and
            // the values are as many as they.
            Storage::Values(keys, values) => unsafe {
                for index in 0..(*keys).dk_nentries as usize {
                    let name = Obj::from_ptr((*entries::<StrEntry>(keys).add(index)).key);
                    let value = (*(*values).values.as_ptr().add(index)).cast();
                    if let (Some(name), Some(value)) = (name, Obj::from_ptr(value)) {
                        tell(name, value);
                    }
                }
            },
        }
    }

    /// The `__dict__`, if there is one.
    #[inline]
    pub fn dict(self) -> Option<Obj<'a>> {
        match self {
            Storage::Dict(dict) => Some(dict),
            Storage::Values(..) | Storage::Empty => None,
        }
    }
}
