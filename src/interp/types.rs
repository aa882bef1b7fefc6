//! The builtin types that are told apart, by address.

use std::sync::OnceLock;

use pyo3_ffi as ffi;
use rustc_hash::FxHashMap;

use super::code;
use super::error::{self, Result};
use super::object::{Obj, Owned};

/// Addresses of the types that the observer tells apart.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Types {
    pub int: *mut ffi::PyTypeObject,
    pub bool: *mut ffi::PyTypeObject,
    pub float: *mut ffi::PyTypeObject,
    pub str: *mut ffi::PyTypeObject,
    pub bytes: *mut ffi::PyTypeObject,
    pub none: *mut ffi::PyTypeObject,
    pub tuple: *mut ffi::PyTypeObject,
    pub list: *mut ffi::PyTypeObject,
    pub dict: *mut ffi::PyTypeObject,
    pub ty: *mut ffi::PyTypeObject,
    pub function: *mut ffi::PyTypeObject,
    pub method: *mut ffi::PyTypeObject,
    pub method_descriptor: *mut ffi::PyTypeObject,
    pub member_descriptor: *mut ffi::PyTypeObject,
    pub getset_descriptor: *mut ffi::PyTypeObject,
    pub wrapper_descriptor: *mut ffi::PyTypeObject,
    pub code: *mut ffi::PyTypeObject,
}

// SAFETY: addresses of static types; they are compared, and read with the GIL held.
unsafe impl Send for Types {}
// SAFETY: as above.
unsafe impl Sync for Types {}

static TYPES: Types = Types {
    int: &raw mut ffi::PyLong_Type,
    bool: &raw mut ffi::PyBool_Type,
    float: &raw mut ffi::PyFloat_Type,
    str: &raw mut ffi::PyUnicode_Type,
    bytes: &raw mut ffi::PyBytes_Type,
    none: &raw mut NONE_TYPE,
    tuple: &raw mut ffi::PyTuple_Type,
    list: &raw mut ffi::PyList_Type,
    dict: &raw mut ffi::PyDict_Type,
    ty: &raw mut ffi::PyType_Type,
    function: &raw mut ffi::PyFunction_Type,
    method: &raw mut METHOD_TYPE,
    method_descriptor: &raw mut ffi::PyMethodDescr_Type,
    member_descriptor: &raw mut ffi::PyMemberDescr_Type,
    getset_descriptor: &raw mut ffi::PyGetSetDescr_Type,
    wrapper_descriptor: &raw mut ffi::PyWrapperDescr_Type,
    code: &raw mut ffi::PyCode_Type,
};

unsafe extern "C" {
    #[link_name = "_PyNone_Type"]
    static mut NONE_TYPE: ffi::PyTypeObject;
    #[link_name = "PyMethod_Type"]
    static mut METHOD_TYPE: ffi::PyTypeObject;
}

/// The table.
#[inline]
pub fn types() -> &'static Types {
    &TYPES
}

/// What is special about a type without a place in [`Types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// A deque.
    Deque,
    /// Another mutable sequence, whose size is that of a variable-sized object:
    /// bytearray, array.
    Sequence,
    /// A mutable object that is touched as a whole.
    Opaque,
    /// The iterator of a list, forwards or backwards.
    ListIterator,
    /// The iterator of a dict or of one of its views.
    DictIterator,
    /// The iterator of a set.
    SetIterator,
    /// The iterator of a deque, array or bytearray.
    SequenceIterator,
    /// An iterator with a state of its own, that may draw from others.
    Iterator,
    /// As `Iterator`; one step may draw several elements.
    Greedy,
    /// `itertools.starmap`: as `Iterator`, and its elements are whole lists of arguments.
    Starmap,
    /// `itertools.chain`: as `Iterator`, and its elements are iterated over.
    Chain,
    /// What the iterators of one `itertools.tee` share.
    Tee,
    /// An iterator over what cannot change.
    OwnIterator,
    /// A generator or coroutine.
    Generator,
    /// `keys()`, `values()`, `items()` of a dict; a class's `__dict__`; a memoryview;
    /// a ChainMap.
    View,
    /// A dict that makes the values of missing keys.
    DefaultDict,
    /// What lies between a memoryview and the object that it shows.
    Buffer,
    /// `functools.partial`.
    Partial,
    /// A special method of C code, bound to an object.
    MethodWrapper,
    /// `super()`.
    Super,
    /// A weak proxy.
    Proxy,
    /// A plain object of C code whose `==` and `repr` look at its attributes.
    Namespace,
    /// A function of `functools.lru_cache`.
    Cached,
    /// Whose attributes are a thread's own.
    ThreadLocal,
    /// An open file, whose attributes are methods: what it does shows in its descriptor.
    File,
}

/// One line each: how to get the types of each kind.
const SPECIALS: &[(Special, &std::ffi::CStr)] = &[
    (Special::Deque, c"[__import__('collections').deque]"),
    (Special::Sequence, c"[bytearray, __import__('array').array]"),
    (
        Special::Opaque,
        c"(lambda c, w, i: [c.UserDict, c.UserList, w.WeakKeyDictionary, \
           w.WeakValueDictionary, w.WeakSet, i.StringIO, i.BytesIO, \
           __import__('_random').Random, __import__('os')._Environ])(*map(__import__, ('collections', 'weakref', 'io')))",
    ),
    (Special::ListIterator, c"[type(iter([])), type(reversed([]))]"),
    (
        Special::DictIterator,
        c"[type(iter(v)) for v in ({}, {}.values(), {}.items())] + \
          [type(reversed(v)) for v in ({}, {}.values(), {}.items())]",
    ),
    (Special::SetIterator, c"[type(iter(set()))]"),
    (
        Special::SequenceIterator,
        c"[type(f(t)) for t in (__import__('collections').deque(), bytearray(), \
           __import__('array').array('b')) for f in (iter, reversed)] + [type(iter(memoryview(b'')))]",
    ),
    (
        Special::Greedy,
        c"[filter] + [t for n, t in vars(__import__('itertools')).items() if n in \
           ('batched', 'compress', 'dropwhile', 'filterfalse', 'groupby', '_grouper', 'islice', \
            'pairwise')]",
    ),
    (Special::Chain, c"[__import__('itertools').chain]"),
    (Special::Starmap, c"[__import__('itertools').starmap]"),
    (Special::Tee, c"[__import__('itertools')._tee_dataobject]"),
    (
        Special::OwnIterator,
        c"[type(iter(v)) for v in ((), '', chr(228), b'', range(0), range(2**70))] + \
          [type(__import__('struct').iter_unpack('b', b''))]",
    ),
    (
        Special::Iterator,
        c"[enumerate, zip, map, filter, reversed, type(iter(int, 0)), \
           type(iter(__import__('collections').OrderedDict())), \
           type(__import__('csv').reader([]))] + \
          [t for t in vars(__import__('itertools')).values() \
           if type(t) is type and hasattr(t, '__next__')]",
    ),
    (
        Special::Generator,
        c"[getattr(__import__('types'), n) for n in \
           ('GeneratorType', 'CoroutineType', 'AsyncGeneratorType')]",
    ),
    (
        Special::View,
        c"[type({}.keys()), type({}.values()), type({}.items()), type(vars(int)), memoryview, \
           __import__('collections').ChainMap] + \
          [type(getattr(__import__('collections').OrderedDict(), n)()) \
           for n in ('keys', 'values', 'items')]",
    ),
    (Special::DefaultDict, c"[__import__('collections').defaultdict]"),
    (Special::Buffer, c"[type(r) for r in __import__('gc').get_referents(memoryview(b''))]"),
    (Special::Partial, c"[__import__('functools').partial]"),
    (Special::MethodWrapper, c"[type(None.__repr__)]"),
    (Special::Super, c"[super]"),
    (Special::Proxy, c"list(__import__('weakref').ProxyTypes)"),
    (Special::Namespace, c"[__import__('types').SimpleNamespace]"),
    (Special::Cached, c"[type(__import__('functools').lru_cache(lambda: 0))]"),
    (Special::ThreadLocal, c"[__import__('_thread')._local]"),
    (
        Special::File,
        c"[getattr(__import__('io'), n) for n in ('FileIO', 'BufferedReader', 'BufferedWriter', \
           'BufferedRandom', 'BufferedRWPair', 'TextIOWrapper')]",
    ),
];

static KINDS: OnceLock<FxHashMap<usize, Special>> = OnceLock::new();

/// Looks the types of all kinds up. Called once.
pub fn init() -> Result<()> {
    let mut kinds = FxHashMap::default();
    for (special, expression) in SPECIALS {
        let found = evaluate(expression)?;
        for one in code::list_items(found.borrow()) {
            // Ordinary classes among them live as long as the process.
            std::mem::forget(one.own());
            // `reversed` of an array is plain `reversed`: the first row that names it counts.
            kinds.entry(one.address()).or_insert(*special);
        }
    }
    let _ = KINDS.set(kinds);
    Ok(())
}

/// What is special about this type itself.
#[inline]
pub fn special(tp: *mut ffi::PyTypeObject) -> Option<Special> {
    KINDS.get()?.get(&(tp as usize)).copied()
}

/// Is this what a call of an `async def` function returns?
pub fn is_coroutine(object: Obj<'_>) -> bool {
    object.is_exactly(&raw mut ffi::PyCoro_Type)
}

/// What is special about this type or one of its bases.
#[inline]
pub fn special_base(tp: *mut ffi::PyTypeObject) -> Option<Special> {
    let mut next = tp;
    while !next.is_null() {
        if let Some(special) = special(next) {
            return Some(special);
        }
        // SAFETY: a live type; its bases live as long as it does.
        next = unsafe { (*next).tp_base };
    }
    None
}

/// `eval(expression)`.
pub fn evaluate(expression: &std::ffi::CStr) -> Result<Owned> {
    // SAFETY: NUL-terminated texts and live objects; new references or NULL.
    unsafe {
        let compiled = error::check(ffi::Py_CompileString(
            expression.as_ptr(),
            c"<frontrun>".as_ptr(),
            ffi::Py_eval_input,
        ))?;
        let namespace = error::check(ffi::PyDict_New())?;
        let builtins = code::import(c"builtins")?;
        ffi::PyDict_SetItemString(
            namespace.borrow().as_ptr(),
            c"__builtins__".as_ptr(),
            builtins.borrow().as_ptr(),
        );
        let namespace = namespace.borrow().as_ptr();
        error::check(ffi::PyEval_EvalCode(compiled.borrow().as_ptr(), namespace, namespace))
    }
}
