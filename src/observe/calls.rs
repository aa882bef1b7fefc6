//! What known C functions do to their arguments: one table.
//!
//! A C function that the table does not know is taken to write every mutable
//! container that it is given. So is a function in Python code that is not traced.

use std::ffi::CStr;
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::foreign;
use super::instruction as on;
use super::location::{Field, Sink, Touch};
use super::opcodes::Op;
use crate::interp::attributes::{self, value_of};
use crate::interp::callables::{self, Callee};
use crate::interp::code::{self, Code, Instruction};
use crate::interp::containers::{self, Shape};
use crate::interp::error::Result;
use crate::interp::frame::{self, Frame};
use crate::interp::futures;
use crate::interp::object::{Obj, Owned};
use crate::interp::types::types;
use crate::interp::version;
use crate::trace::Kind;

/// What a function does to its arguments (a method's object is the first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Touches nothing shared, or is observed in another way.
    Nothing,
    /// Reads the length of the first.
    ReadLength,
    /// Reads all of every argument.
    ReadAll,
    /// Reads all of every argument, and of the containers in it: `==`, `repr`.
    ReadDeep,
    /// Formats all of its arguments, and writes the file among them.
    Print,
    /// Iterates over every argument to its end.
    Consume,
    /// As `Consume`; some of the arguments are called with the elements, which are
    /// compared otherwise.
    CallEach,
    /// `functools.reduce`.
    Reduce,
    /// Calls its first argument with the others.
    CallFirst,
    /// Calls its second argument with those after it.
    CallSecond,
    /// `any`, `all`: asks for the truth of the elements.
    TestEach,
    /// `sum`, `bytes.join`: reads all of the elements.
    AddUp,
    /// `dict`: mappings, or iterables of pairs.
    Pairs,
    /// `type`, `isinstance`.
    GetClass,
    /// `str.format`.
    FormatFields,
    /// Writes all of the first, iterates over the others.
    WriteFirst,
    /// `list.sort`, `bisect.insort`: as `CallEach`, and writes the first.
    Sort,
    /// `list.index`: compares the second with what is in the first.
    Find,
    /// `list.remove`: the same, and writes the first.
    RemoveFound,
    /// `dict.update`.
    Update,
    /// `list.append`.
    Append,
    /// `list.extend`.
    Extend,
    /// `deque.appendleft`.
    Prepend,
    /// `list.pop`.
    PopLast,
    /// `deque.popleft`.
    PopFirst,
    /// `dict.get`.
    GetKey,
    /// `dict.setdefault`.
    SetDefault,
    /// `x[key]`.
    GetItem,
    /// `x[key] = value`.
    SetItem,
    /// `del x[key]`.
    DeleteItem,
    /// `dict.pop`.
    PopKey,
    /// `element in x`.
    Contains,
    /// `set.add`.
    AddElement,
    /// `set.remove`, `set.discard`.
    RemoveElement,
    /// `getattr`, `hasattr`, `object.__getattribute__`.
    GetAttribute,
    /// `setattr`.
    SetAttribute,
    /// `delattr`.
    DeleteAttribute,
    /// `object.__setattr__`.
    SetPlainAttribute,
    /// `object.__delattr__`.
    DeletePlainAttribute,
    /// `operator.attrgetter(…)(x)`.
    GetAttributes,
    /// `operator.itemgetter(…)(x)`.
    GetItems,
    /// `operator.methodcaller(…)(x)`.
    CallMethod,
    /// Reads all attributes of the first: `copy.copy`.
    ReadAttributes,
    /// Reads all that can be reached from the first: `copy.deepcopy`.
    ReadGraph,
    /// `vars`.
    Vars,
    /// Reads which attributes there are: `dir`.
    ListAttributes,
    /// `iter`.
    Iterate,
    /// `next`.
    Next,
    /// `generator.send`.
    Resume,
    /// Reads an object that is touched as a whole.
    ReadState,
    /// Writes an object that is touched as a whole, iterates over the others.
    WriteState,
    /// The same, and writes the others.
    WriteAll,
    /// `cache_clear`.
    Forget,
    /// `cache_info`: what each call counts.
    Count,
    /// `operator.length_hint`: how much of an iteration is left.
    LengthHint,
    /// `BaseException.add_note`.
    AddNote,
    /// `Logger.info`: asks a logger and those above it for their levels and handlers.
    Log,
    /// `Logger.setLevel`.
    SetLevel,
    /// `Logger.addHandler`.
    ChangeHandlers,
    /// `ChainMap.new_child`.
    ReadMaps,
    /// Reads where a task stands.
    ReadSteps,
    /// `Task.cancel`, `Future.cancel`.
    Cancel,
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
                (c"enumerate", Nothing),
                (c"zip", Nothing),
                (c"map", Nothing),
                (c"filter", Nothing),
                (c"reversed", Nothing),
                (c"id", Nothing),
                (c"type", GetClass),
                (c"isinstance", GetClass),
                (c"issubclass", Nothing),
                (c"callable", Nothing),
                (c"hash", Nothing),
                (c"super", Nothing),
                (c"object", Nothing),
                (c"staticmethod", Nothing),
                (c"classmethod", Nothing),
                (c"property", Nothing),
                (c"range", Nothing),
                (c"slice", Nothing),
                (c"memoryview", Nothing),
                (c"globals", Nothing),
                (c"locals", Nothing),
                (c"format", Nothing),
                (c"ascii", Nothing),
                (c"breakpoint", Nothing),
                (c"chr", Nothing),
                (c"ord", Nothing),
                (c"bin", Nothing),
                (c"hex", Nothing),
                (c"oct", Nothing),
                (c"open", Nothing),
                (c"input", Nothing),
                (c"compile", Nothing),
                (c"eval", Nothing),
                (c"exec", Nothing),
                (c"__import__", Nothing),
                (c"__build_class__", Nothing),
                (c"abs", Nothing),
                (c"round", Nothing),
                (c"pow", Nothing),
                (c"divmod", Nothing),
                (c"len", ReadLength),
                (c"bool", ReadLength),
                (c"iter", Iterate),
                (c"aiter", Iterate),
                (c"sum", AddUp),
                (c"any", TestEach),
                (c"all", TestEach),
                (c"list", Consume),
                (c"tuple", Consume),
                (c"set", Consume),
                (c"frozenset", Consume),
                (c"dict", Pairs),
                (c"bytes", Consume),
                (c"bytearray", Consume),
                (c"sorted", CallEach),
                (c"min", CallEach),
                (c"max", CallEach),
                (c"repr", ReadDeep),
                (c"str", ReadDeep),
                (c"print", Print),
                (c"getattr", GetAttribute),
                (c"hasattr", GetAttribute),
                (c"setattr", SetAttribute),
                (c"delattr", DeleteAttribute),
                (c"vars", Vars),
                (c"dir", ListAttributes),
                (c"next", Next),
                (c"anext", Next),
            ],
        ),
        (
            c"builtins",
            c"object",
            &[
                (c"__getattribute__", GetAttribute),
                (c"__setattr__", SetPlainAttribute),
                (c"__delattr__", DeletePlainAttribute),
                (c"__init__", Nothing),
                (c"__new__", Nothing),
                (c"__hash__", Nothing),
                (c"__init_subclass__", Nothing),
                (c"__reduce_ex__", Nothing),
                (c"__eq__", ReadAll),
                (c"__ne__", ReadAll),
            ],
        ),
        (
            c"builtins",
            c"type",
            &[
                (c"__getattribute__", GetAttribute),
                (c"__setattr__", SetAttribute),
                (c"__delattr__", DeleteAttribute),
                (c"__call__", Nothing),
                (c"__new__", Nothing),
                (c"__init__", Nothing),
                (c"mro", Nothing),
            ],
        ),
        (c"types", c"ModuleType", &[(c"__getattribute__", GetAttribute)]),
        (
            c"builtins",
            c"list",
            &[
                (c"append", Append),
                (c"pop", PopLast),
                (c"extend", Extend),
                (c"__iadd__", Extend),
                (c"insert", WriteFirst),
                (c"remove", RemoveFound),
                (c"clear", WriteFirst),
                (c"sort", Sort),
                (c"reverse", WriteFirst),
                (c"__init__", WriteFirst),
                (c"__imul__", WriteFirst),
                (c"index", Find),
                (c"count", Find),
                (c"copy", ReadAll),
                (c"__add__", ReadAll),
                (c"__mul__", ReadAll),
                (c"__rmul__", ReadAll),
                (c"__len__", ReadLength),
                (c"__contains__", Find),
                (c"__getitem__", GetItem),
                (c"__setitem__", SetItem),
                (c"__delitem__", DeleteItem),
                (c"__new__", Nothing),
                (c"__reversed__", Nothing),
                (c"__iter__", Iterate),
                (c"__eq__", ReadDeep),
                (c"__ne__", ReadDeep),
                (c"__lt__", ReadDeep),
                (c"__le__", ReadDeep),
                (c"__gt__", ReadDeep),
                (c"__ge__", ReadDeep),
                (c"__repr__", ReadDeep),
            ],
        ),
        (
            c"builtins",
            c"dict",
            &[
                (c"get", GetKey),
                (c"setdefault", SetDefault),
                (c"pop", PopKey),
                (c"popitem", WriteFirst),
                (c"clear", WriteFirst),
                (c"update", Update),
                (c"__init__", WriteFirst),
                (c"__ior__", Update),
                (c"copy", ReadAll),
                (c"__or__", ReadAll),
                (c"__ror__", ReadAll),
                (c"keys", Nothing),
                (c"values", Nothing),
                (c"items", Nothing),
                (c"__new__", Nothing),
                (c"fromkeys", Consume),
                (c"__len__", ReadLength),
                (c"__contains__", Contains),
                (c"__getitem__", GetItem),
                (c"__setitem__", SetItem),
                (c"__delitem__", DeleteItem),
                (c"__iter__", Iterate),
                (c"__reversed__", Iterate),
                (c"__eq__", ReadDeep),
                (c"__ne__", ReadDeep),
                (c"__repr__", ReadDeep),
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
                (c"__init__", WriteFirst),
                (c"__ior__", WriteFirst),
                (c"__iand__", WriteFirst),
                (c"__isub__", WriteFirst),
                (c"__ixor__", WriteFirst),
                (c"copy", Consume),
                (c"union", Consume),
                (c"intersection", Consume),
                (c"difference", Consume),
                (c"symmetric_difference", Consume),
                (c"isdisjoint", Consume),
                (c"issubset", Consume),
                (c"issuperset", Consume),
                (c"__or__", Consume),
                (c"__and__", Consume),
                (c"__sub__", Consume),
                (c"__xor__", Consume),
                (c"__len__", ReadLength),
                (c"__contains__", Contains),
                (c"__iter__", Iterate),
                (c"__eq__", ReadAll),
                (c"__ne__", ReadAll),
                (c"__lt__", ReadAll),
                (c"__le__", ReadAll),
                (c"__gt__", ReadAll),
                (c"__ge__", ReadAll),
                (c"__repr__", ReadAll),
            ],
        ),
        (
            c"builtins",
            c"str",
            &[
                (c"join", Consume),
                (c"format", FormatFields),
                (c"format_map", ReadDeep),
                (c"__mod__", ReadDeep),
            ],
        ),
        (c"builtins", c"bytes", &[(c"join", AddUp)]),
        (c"builtins", c"tuple", &[(c"index", Find), (c"count", Find), (c"__contains__", Find)]),
        (
            c"builtins",
            c"BaseException",
            &[(c"__init__", Nothing), (c"add_note", AddNote), (c"with_traceback", Nothing)],
        ),
        (
            c"builtins",
            c"bytearray",
            &[
                (c"append", Append),
                (c"pop", PopLast),
                (c"extend", Extend),
                (c"__iadd__", Extend),
                (c"insert", WriteFirst),
                (c"remove", WriteFirst),
                (c"clear", WriteFirst),
                (c"reverse", WriteFirst),
                (c"__imul__", WriteFirst),
                (c"__init__", WriteFirst),
                (c"copy", ReadAll),
                (c"count", ReadAll),
                (c"find", ReadAll),
                (c"index", ReadAll),
                (c"rfind", ReadAll),
                (c"rindex", ReadAll),
                (c"decode", ReadAll),
                (c"hex", ReadAll),
                (c"join", AddUp),
                (c"startswith", ReadAll),
                (c"endswith", ReadAll),
                (c"split", ReadAll),
                (c"rsplit", ReadAll),
                (c"strip", ReadAll),
                (c"lstrip", ReadAll),
                (c"rstrip", ReadAll),
                (c"replace", ReadAll),
                (c"translate", ReadAll),
                (c"partition", ReadAll),
                (c"rpartition", ReadAll),
                (c"upper", ReadAll),
                (c"lower", ReadAll),
                (c"title", ReadAll),
                (c"capitalize", ReadAll),
                (c"swapcase", ReadAll),
                (c"isalnum", ReadAll),
                (c"isalpha", ReadAll),
                (c"isdigit", ReadAll),
                (c"islower", ReadAll),
                (c"isupper", ReadAll),
                (c"isspace", ReadAll),
                (c"center", ReadAll),
                (c"ljust", ReadAll),
                (c"rjust", ReadAll),
                (c"zfill", ReadAll),
                (c"expandtabs", ReadAll),
                (c"splitlines", ReadAll),
                (c"__add__", ReadAll),
                (c"__mul__", ReadAll),
                (c"__eq__", ReadAll),
                (c"__ne__", ReadAll),
                (c"__lt__", ReadAll),
                (c"__le__", ReadAll),
                (c"__gt__", ReadAll),
                (c"__ge__", ReadAll),
                (c"__contains__", ReadAll),
                (c"__repr__", ReadAll),
                (c"__str__", ReadAll),
                (c"__len__", ReadLength),
                (c"__getitem__", GetItem),
                (c"__setitem__", SetItem),
                (c"__delitem__", DeleteItem),
                (c"__iter__", Nothing),
            ],
        ),
        (
            c"builtins",
            c"memoryview",
            &[
                (c"tobytes", ReadAll),
                (c"tolist", ReadAll),
                (c"hex", ReadAll),
                (c"__eq__", ReadAll),
                (c"__ne__", ReadAll),
                (c"__len__", Nothing),
                (c"release", WriteState),
                (c"cast", Nothing),
                (c"toreadonly", Nothing),
                (c"__enter__", Nothing),
                (c"__exit__", Nothing),
                (c"__getitem__", GetItem),
                (c"__setitem__", SetItem),
            ],
        ),
        (c"builtins", c"enumerate", &[(c"__next__", Next)]),
        (c"builtins", c"zip", &[(c"__next__", Next)]),
        (c"builtins", c"map", &[(c"__next__", Next)]),
        (c"builtins", c"filter", &[(c"__next__", Next)]),
        (c"builtins", c"reversed", &[(c"__next__", Next)]),
        (
            c"types",
            c"GeneratorType",
            &[(c"send", Resume), (c"throw", Resume), (c"close", Resume), (c"__next__", Resume)],
        ),
        (c"types", c"CoroutineType", &[(c"send", Resume), (c"throw", Resume), (c"close", Resume)]),
        (
            c"types",
            c"MappingProxyType",
            &[
                (c"get", GetKey),
                (c"__getitem__", GetItem),
                (c"copy", ReadAll),
                (c"keys", Nothing),
                (c"values", Nothing),
                (c"items", Nothing),
            ],
        ),
        (
            c"collections",
            c"deque",
            &[
                (c"append", Append),
                (c"appendleft", Prepend),
                (c"extendleft", Prepend),
                (c"pop", PopLast),
                (c"popleft", PopFirst),
                (c"extend", Extend),
                (c"__iadd__", Extend),
                (c"insert", WriteFirst),
                (c"remove", WriteFirst),
                (c"clear", WriteFirst),
                (c"reverse", WriteFirst),
                (c"rotate", WriteFirst),
                (c"__init__", WriteFirst),
                (c"__imul__", WriteFirst),
                (c"index", ReadAll),
                (c"count", ReadAll),
                (c"copy", ReadAll),
                (c"__copy__", ReadAll),
                (c"__add__", ReadAll),
                (c"__mul__", ReadAll),
                (c"__eq__", ReadAll),
                (c"__ne__", ReadAll),
                (c"__lt__", ReadAll),
                (c"__le__", ReadAll),
                (c"__gt__", ReadAll),
                (c"__ge__", ReadAll),
                (c"__repr__", ReadAll),
                (c"__len__", ReadLength),
                (c"__contains__", Consume),
                (c"__getitem__", GetItem),
                (c"__setitem__", SetItem),
                (c"__delitem__", DeleteItem),
                (c"__iter__", Iterate),
                (c"__reversed__", Iterate),
            ],
        ),
        (
            c"collections",
            c"OrderedDict",
            &[
                (c"setdefault", SetDefault),
                (c"pop", PopKey),
                (c"popitem", WriteFirst),
                (c"clear", WriteFirst),
                (c"update", WriteFirst),
                (c"move_to_end", WriteFirst),
                (c"__init__", WriteFirst),
                (c"__ior__", WriteFirst),
                (c"copy", ReadAll),
                (c"__or__", ReadAll),
                (c"__ror__", ReadAll),
                (c"keys", Nothing),
                (c"values", Nothing),
                (c"items", Nothing),
                (c"__setitem__", SetItem),
                (c"__delitem__", DeleteItem),
                (c"__iter__", Iterate),
                (c"__reversed__", Iterate),
                (c"__eq__", ReadDeep),
                (c"__ne__", ReadDeep),
                (c"__repr__", ReadDeep),
            ],
        ),
        (
            c"collections",
            c"defaultdict",
            &[
                (c"copy", ReadAll),
                (c"__copy__", ReadAll),
                (c"__or__", ReadAll),
                (c"__ror__", ReadAll),
                (c"__missing__", SetDefault),
                (c"__init__", WriteFirst),
                (c"__ior__", WriteFirst),
                (c"__repr__", ReadDeep),
            ],
        ),
        (
            c"collections",
            c"Counter",
            &[
                (c"update", WriteFirst),
                (c"subtract", WriteFirst),
                (c"__init__", WriteFirst),
                (c"__iadd__", WriteFirst),
                (c"__isub__", WriteFirst),
                (c"__iand__", WriteFirst),
                (c"__ior__", WriteFirst),
                (c"most_common", ReadAll),
                (c"elements", ReadAll),
                (c"total", ReadAll),
                (c"copy", ReadAll),
                (c"__add__", ReadAll),
                (c"__sub__", ReadAll),
                (c"__and__", ReadAll),
                (c"__or__", ReadAll),
                (c"__eq__", ReadAll),
                (c"__ne__", ReadAll),
                (c"__repr__", ReadAll),
                (c"__delitem__", DeleteItem),
                (c"__missing__", Nothing),
                (c"__new__", Nothing),
            ],
        ),
        (
            c"collections",
            c"ChainMap",
            &[
                (c"__len__", ReadAll),
                (c"__iter__", ReadAll),
                (c"__contains__", ReadAll),
                (c"__bool__", ReadAll),
                (c"copy", ReadAll),
                (c"__copy__", ReadAll),
                (c"new_child", ReadMaps),
                (c"keys", ReadAll),
                (c"values", ReadAll),
                (c"items", ReadAll),
                (c"get", GetKey),
                (c"__getitem__", GetItem),
                (c"__setitem__", SetItem),
                (c"pop", WriteFirst),
                (c"popitem", WriteFirst),
                (c"clear", WriteFirst),
                (c"update", WriteFirst),
                (c"setdefault", WriteFirst),
                (c"__delitem__", WriteFirst),
                (c"__init__", Nothing),
            ],
        ),
        (
            c"collections.abc",
            c"MutableMapping",
            &[
                (c"pop", WriteFirst),
                (c"popitem", WriteFirst),
                (c"clear", WriteFirst),
                (c"update", WriteFirst),
                (c"setdefault", WriteFirst),
            ],
        ),
        (
            c"collections.abc",
            c"Mapping",
            &[
                (c"get", GetKey),
                (c"keys", ReadAll),
                (c"values", ReadAll),
                (c"items", ReadAll),
                (c"__contains__", ReadAll),
                (c"__eq__", ReadAll),
            ],
        ),
        (
            c"collections",
            c"UserDict",
            &[
                (c"__len__", ReadState),
                (c"__getitem__", ReadState),
                (c"__contains__", ReadState),
                (c"__iter__", ReadState),
                (c"copy", ReadState),
                (c"get", ReadState),
                (c"__setitem__", WriteState),
                (c"__delitem__", WriteState),
                (c"__init__", Nothing),
            ],
        ),
        (
            c"collections",
            c"UserList",
            &[
                (c"__len__", ReadState),
                (c"__getitem__", ReadState),
                (c"__contains__", ReadState),
                (c"count", ReadState),
                (c"index", ReadState),
                (c"copy", ReadState),
                (c"append", WriteState),
                (c"extend", WriteState),
                (c"insert", WriteState),
                (c"pop", WriteState),
                (c"remove", WriteState),
                (c"clear", WriteState),
                (c"sort", WriteState),
                (c"reverse", WriteState),
                (c"__setitem__", WriteState),
                (c"__delitem__", WriteState),
                (c"__iadd__", WriteState),
                (c"__init__", Nothing),
            ],
        ),
        (
            c"weakref",
            c"WeakValueDictionary",
            &[
                (c"get", ReadState),
                (c"__getitem__", ReadState),
                (c"__contains__", ReadState),
                (c"__len__", ReadState),
                (c"keys", ReadState),
                (c"values", ReadState),
                (c"items", ReadState),
                (c"copy", ReadState),
                (c"valuerefs", ReadState),
                (c"itervaluerefs", ReadState),
                (c"__setitem__", WriteState),
                (c"__delitem__", WriteState),
                (c"pop", WriteState),
                (c"popitem", WriteState),
                (c"setdefault", WriteState),
                (c"update", WriteState),
                (c"__init__", Nothing),
            ],
        ),
        (
            c"weakref",
            c"WeakKeyDictionary",
            &[
                (c"get", ReadState),
                (c"__getitem__", ReadState),
                (c"__contains__", ReadState),
                (c"__len__", ReadState),
                (c"keys", ReadState),
                (c"values", ReadState),
                (c"items", ReadState),
                (c"copy", ReadState),
                (c"keyrefs", ReadState),
                (c"__setitem__", WriteState),
                (c"__delitem__", WriteState),
                (c"pop", WriteState),
                (c"popitem", WriteState),
                (c"setdefault", WriteState),
                (c"update", WriteState),
                (c"__init__", Nothing),
            ],
        ),
        (
            c"weakref",
            c"WeakSet",
            &[
                (c"__contains__", ReadState),
                (c"__len__", ReadState),
                (c"copy", ReadState),
                (c"union", ReadState),
                (c"difference", ReadState),
                (c"intersection", ReadState),
                (c"issubset", ReadState),
                (c"issuperset", ReadState),
                (c"isdisjoint", ReadState),
                (c"add", WriteState),
                (c"discard", WriteState),
                (c"remove", WriteState),
                (c"pop", WriteState),
                (c"clear", WriteState),
                (c"update", WriteState),
                (c"difference_update", WriteState),
                (c"intersection_update", WriteState),
                (c"symmetric_difference_update", WriteState),
                (c"__init__", Nothing),
            ],
        ),
        (
            c"weakref",
            c"",
            &[
                (c"ref", Nothing),
                (c"proxy", Nothing),
                (c"getweakrefcount", Nothing),
                (c"getweakrefs", Nothing),
            ],
        ),
        (
            c"array",
            c"array",
            &[
                (c"append", Append),
                (c"pop", PopLast),
                (c"extend", Extend),
                (c"__iadd__", Extend),
                (c"fromlist", Extend),
                (c"frombytes", Extend),
                (c"insert", WriteFirst),
                (c"remove", WriteFirst),
                (c"reverse", WriteFirst),
                (c"byteswap", WriteFirst),
                (c"fromfile", WriteFirst),
                (c"fromunicode", WriteFirst),
                (c"__imul__", WriteFirst),
                (c"clear", WriteFirst),
                (c"index", ReadAll),
                (c"count", ReadAll),
                (c"tolist", ReadAll),
                (c"tobytes", ReadAll),
                (c"tounicode", ReadAll),
                (c"tofile", ReadAll),
                (c"buffer_info", ReadAll),
                (c"__copy__", ReadAll),
                (c"__deepcopy__", ReadAll),
                (c"__add__", ReadAll),
                (c"__mul__", ReadAll),
                (c"__eq__", ReadAll),
                (c"__ne__", ReadAll),
                (c"__lt__", ReadAll),
                (c"__le__", ReadAll),
                (c"__gt__", ReadAll),
                (c"__ge__", ReadAll),
                (c"__repr__", ReadAll),
                (c"__len__", ReadLength),
                (c"__contains__", Consume),
                (c"__getitem__", GetItem),
                (c"__setitem__", SetItem),
                (c"__delitem__", DeleteItem),
                (c"__iter__", Nothing),
            ],
        ),
        (
            c"io",
            c"StringIO",
            &[
                (c"getvalue", ReadState),
                (c"tell", ReadState),
                (c"closed", ReadState),
                (c"readable", ReadState),
                (c"writable", ReadState),
                (c"seekable", ReadState),
                (c"write", WriteState),
                (c"writelines", WriteState),
                (c"read", WriteState),
                (c"readline", WriteState),
                (c"readlines", WriteState),
                (c"seek", WriteState),
                (c"truncate", WriteState),
                (c"close", WriteState),
                (c"__next__", WriteState),
            ],
        ),
        (
            c"io",
            c"BytesIO",
            &[
                (c"getvalue", ReadState),
                (c"tell", ReadState),
                (c"readable", ReadState),
                (c"writable", ReadState),
                (c"seekable", ReadState),
                (c"getbuffer", ReadState),
                (c"write", WriteState),
                (c"writelines", WriteState),
                (c"read", WriteState),
                (c"read1", WriteState),
                (c"readinto", WriteAll),
                (c"readline", WriteState),
                (c"readlines", WriteState),
                (c"seek", WriteState),
                (c"truncate", WriteState),
                (c"close", WriteState),
                (c"__next__", WriteState),
            ],
        ),
        (
            c"_random",
            c"Random",
            &[
                (c"random", WriteState),
                (c"seed", WriteState),
                (c"getrandbits", WriteState),
                (c"setstate", WriteState),
                (c"getstate", ReadState),
            ],
        ),
        (
            c"functools",
            c"",
            &[
                (c"reduce", Reduce),
                (c"partial", Nothing),
                (c"cmp_to_key", Nothing),
                (c"wraps", Nothing),
                (c"update_wrapper", Nothing),
                (c"lru_cache", Nothing),
                (c"cache", Nothing),
                (c"cached_property", Nothing),
            ],
        ),
        (
            c"_operator",
            c"",
            &[
                (c"call", CallFirst),
                (c"getitem", GetItem),
                (c"setitem", SetItem),
                (c"delitem", DeleteItem),
                (c"contains", Contains),
                (c"truth", ReadLength),
                (c"not_", ReadLength),
                (c"length_hint", LengthHint),
                (c"iadd", Extend),
                (c"iconcat", Extend),
                (c"ior", WriteFirst),
                (c"iand", WriteFirst),
                (c"ixor", WriteFirst),
                (c"isub", WriteFirst),
                (c"imul", WriteFirst),
                (c"eq", ReadDeep),
                (c"ne", ReadDeep),
                (c"lt", ReadDeep),
                (c"le", ReadDeep),
                (c"gt", ReadDeep),
                (c"ge", ReadDeep),
                (c"add", ReadAll),
                (c"concat", ReadAll),
                (c"mul", ReadAll),
                (c"or_", ReadAll),
                (c"and_", ReadAll),
                (c"xor", ReadAll),
                (c"sub", ReadAll),
                (c"mod", ReadAll),
                (c"countOf", Find),
                (c"indexOf", Find),
                (c"is_", Nothing),
                (c"is_not", Nothing),
                (c"itemgetter", Nothing),
                (c"attrgetter", Nothing),
                (c"methodcaller", Nothing),
                (c"index", Nothing),
                (c"ifloordiv", Nothing),
                (c"itruediv", Nothing),
                (c"ipow", Nothing),
                (c"ilshift", Nothing),
                (c"irshift", Nothing),
                (c"imod", Nothing),
                (c"imatmul", Nothing),
            ],
        ),
        (
            c"heapq",
            c"",
            &[
                (c"heappush", WriteFirst),
                (c"heappop", WriteFirst),
                (c"heapify", WriteFirst),
                (c"heapreplace", WriteFirst),
                (c"heappushpop", WriteFirst),
                (c"heappush_max", WriteFirst),
                (c"heappop_max", WriteFirst),
                (c"heapify_max", WriteFirst),
                (c"heapreplace_max", WriteFirst),
                (c"heappushpop_max", WriteFirst),
                (c"_heappop_max", WriteFirst),
                (c"_heapify_max", WriteFirst),
                (c"_heapreplace_max", WriteFirst),
                (c"nlargest", CallEach),
                (c"nsmallest", CallEach),
                (c"merge", Nothing),
            ],
        ),
        (
            c"bisect",
            c"",
            &[
                (c"bisect", CallEach),
                (c"bisect_left", CallEach),
                (c"bisect_right", CallEach),
                (c"insort", Sort),
                (c"insort_left", Sort),
                (c"insort_right", Sort),
            ],
        ),
        (
            c"copy",
            c"",
            &[(c"copy", ReadAttributes), (c"deepcopy", ReadGraph), (c"replace", ReadAttributes)],
        ),
        (c"json", c"", &[(c"dumps", ReadDeep), (c"dump", ReadDeep)]),
        (c"pprint", c"", &[(c"pformat", ReadDeep), (c"pprint", ReadDeep)]),
        (c"pickle", c"", &[(c"dumps", ReadGraph)]),
        (
            c"dataclasses",
            c"",
            &[
                (c"asdict", ReadGraph),
                (c"astuple", ReadGraph),
                (c"replace", ReadAttributes),
                (c"fields", Nothing),
                (c"is_dataclass", Nothing),
            ],
        ),
        (
            c"statistics",
            c"",
            &[
                (c"mean", Consume),
                (c"fmean", Consume),
                (c"median", Consume),
                (c"mode", Consume),
                (c"stdev", Consume),
                (c"pstdev", Consume),
                (c"variance", Consume),
                (c"pvariance", Consume),
            ],
        ),
        (
            c"math",
            c"",
            &[(c"fsum", Consume), (c"prod", Consume), (c"dist", Consume), (c"sumprod", Consume)],
        ),
        (
            c"_thread",
            c"",
            &[
                (c"start_new_thread", Nothing),
                (c"start_joinable_thread", Nothing),
                (c"get_ident", Nothing),
                (c"allocate_lock", Nothing),
            ],
        ),
        (c"_collections", c"", &[(c"_count_elements", WriteFirst)]),
        (
            c"gc",
            c"",
            &[
                (c"collect", Nothing),
                (c"get_referents", Nothing),
                (c"get_referrers", Nothing),
                (c"is_tracked", Nothing),
            ],
        ),
        (
            c"sys",
            c"",
            &[
                (c"getrefcount", Nothing),
                (c"getsizeof", Nothing),
                (c"_getframe", Nothing),
                (c"intern", Nothing),
            ],
        ),
        (
            c"inspect",
            c"",
            &[
                (c"signature", Nothing),
                (c"isfunction", Nothing),
                (c"isclass", Nothing),
                (c"ismethod", Nothing),
                (c"iscoroutinefunction", Nothing),
                (c"getsource", Nothing),
            ],
        ),
        (
            c"itertools",
            c"",
            &[
                (c"accumulate", Nothing),
                (c"batched", Nothing),
                (c"chain", Nothing),
                (c"combinations", Consume),
                (c"combinations_with_replacement", Consume),
                (c"compress", Nothing),
                (c"count", Nothing),
                (c"cycle", Nothing),
                (c"dropwhile", Nothing),
                (c"filterfalse", Nothing),
                (c"groupby", Nothing),
                (c"islice", Nothing),
                (c"pairwise", Nothing),
                (c"permutations", Consume),
                (c"product", Consume),
                (c"repeat", Nothing),
                (c"starmap", Nothing),
                (c"takewhile", Nothing),
                (c"zip_longest", Nothing),
            ],
        ),
        (c"itertools", c"accumulate", &[(c"__next__", Next)]),
        (c"itertools", c"batched", &[(c"__next__", Next)]),
        (c"itertools", c"chain", &[(c"__next__", Next)]),
        (c"itertools", c"combinations", &[(c"__next__", Next)]),
        (c"itertools", c"combinations_with_replacement", &[(c"__next__", Next)]),
        (c"itertools", c"compress", &[(c"__next__", Next)]),
        (c"itertools", c"count", &[(c"__next__", Next)]),
        (c"itertools", c"cycle", &[(c"__next__", Next)]),
        (c"itertools", c"dropwhile", &[(c"__next__", Next)]),
        (c"itertools", c"filterfalse", &[(c"__next__", Next)]),
        (c"itertools", c"groupby", &[(c"__next__", Next)]),
        (c"itertools", c"islice", &[(c"__next__", Next)]),
        (c"itertools", c"pairwise", &[(c"__next__", Next)]),
        (c"itertools", c"permutations", &[(c"__next__", Next)]),
        (c"itertools", c"product", &[(c"__next__", Next)]),
        (c"itertools", c"repeat", &[(c"__next__", Next)]),
        (c"itertools", c"starmap", &[(c"__next__", Next)]),
        (c"itertools", c"takewhile", &[(c"__next__", Next)]),
        (c"itertools", c"zip_longest", &[(c"__next__", Next)]),
        (c"itertools", c"tee", &[(c"__next__", Next)]),
        (
            c"random",
            c"Random",
            &[
                (c"shuffle", WriteAll),
                (c"choice", WriteState),
                (c"choices", WriteState),
                (c"sample", WriteState),
                (c"randint", WriteState),
                (c"randrange", WriteState),
                (c"uniform", WriteState),
                (c"gauss", WriteState),
            ],
        ),
        (c"collections", c"", &[(c"deque", Consume), (c"OrderedDict", Pairs), (c"Counter", Pairs)]),
        (c"contextvars", c"Context", &[(c"run", CallSecond)]),
        (c"functools", c"_lru_cache_wrapper", &[(c"cache_clear", Forget), (c"cache_info", Count)]),
        (
            c"logging",
            c"Logger",
            &[
                (c"debug", Log),
                (c"info", Log),
                (c"warning", Log),
                (c"error", Log),
                (c"exception", Log),
                (c"critical", Log),
                (c"log", Log),
                (c"isEnabledFor", Log),
                (c"getEffectiveLevel", Log),
                (c"hasHandlers", Log),
                (c"setLevel", SetLevel),
                (c"addHandler", ChangeHandlers),
                (c"removeHandler", ChangeHandlers),
            ],
        ),
        (
            c"_struct",
            c"",
            &[
                (c"calcsize", Nothing),
                (c"pack", Nothing),
                (c"unpack", ReadAll),
                (c"unpack_from", ReadAll),
                (c"iter_unpack", ReadAll),
            ],
        ),
        (
            c"os",
            c"_Environ",
            &[
                (c"get", ReadState),
                (c"__getitem__", ReadState),
                (c"__contains__", ReadState),
                (c"__iter__", ReadState),
                (c"__len__", ReadState),
                (c"copy", ReadState),
                (c"keys", ReadState),
                (c"values", ReadState),
                (c"items", ReadState),
                (c"__setitem__", WriteState),
                (c"__delitem__", WriteState),
                (c"setdefault", WriteState),
            ],
        ),
    ]
};

/// Classes of `operator` whose instances are called.
const INSTANCES: &[(&CStr, Effect)] = &[
    (c"itemgetter", Effect::GetItems),
    (c"attrgetter", Effect::GetAttributes),
    (c"methodcaller", Effect::CallMethod),
];

/// What special methods of C code do that the table has no row for.
const SPECIAL_METHODS: &[(&CStr, Effect)] = &[
    (c"__call__", Effect::CallFirst),
    (c"__contains__", Effect::Contains),
    (c"__delattr__", Effect::DeleteAttribute),
    (c"__delitem__", Effect::DeleteItem),
    (c"__eq__", Effect::ReadDeep),
    (c"__ge__", Effect::ReadDeep),
    (c"__getattribute__", Effect::GetAttribute),
    (c"__getitem__", Effect::GetItem),
    (c"__gt__", Effect::ReadDeep),
    (c"__hash__", Effect::Nothing),
    (c"__iter__", Effect::Iterate),
    (c"__le__", Effect::ReadDeep),
    (c"__len__", Effect::ReadLength),
    (c"__lt__", Effect::ReadDeep),
    (c"__ne__", Effect::ReadDeep),
    (c"__next__", Effect::Next),
    (c"__repr__", Effect::ReadDeep),
    (c"__setattr__", Effect::SetAttribute),
    (c"__setitem__", Effect::SetItem),
    (c"__str__", Effect::ReadDeep),
];

/// Tells the calls of an instance from those of its class.
const INSTANCE: usize = 1;

static EFFECTS: OnceLock<FxHashMap<usize, Effect>> = OnceLock::new();

/// Functions that the table does not know, and that were given a container: how
/// often, by address.
static UNKNOWN: LazyLock<Mutex<FxHashMap<usize, (String, u64)>>> = LazyLock::new(Mutex::default);

/// What the last call of a function of `functools.lru_cache` has done to what is kept for
/// other arguments, by address: its return does the same.
static CACHES: LazyLock<Mutex<FxHashMap<usize, Kind>>> = LazyLock::new(Mutex::default);

/// Looks the functions of the table up. Called once.
pub fn init() -> Result<()> {
    let mut effects = FxHashMap::default();
    for (module, owner, functions) in TABLE {
        for (name, effect) in *functions {
            if let Some(address) = callables::definition(module, owner, name)? {
                effects.insert(address, *effect);
            }
        }
    }
    for (class, effect) in INSTANCES {
        if let Some(address) = callables::definition(c"operator", c"", class)? {
            effects.insert(address ^ INSTANCE, *effect);
        }
    }
    let _ = EFFECTS.set(effects);
    Ok(())
}

/// What methods of futures and tasks do, of which tasks of an event loop need to know.
const FUTURES: &[(&CStr, Effect)] = {
    use Effect::{Cancel, Nothing, ReadState, ReadSteps, WriteState};
    &[
        (c"done", ReadState),
        (c"cancelled", ReadState),
        (c"result", ReadState),
        (c"exception", ReadState),
        (c"cancelling", ReadState),
        (c"set_result", WriteState),
        (c"set_exception", WriteState),
        (c"cancel", Cancel),
        (c"uncancel", WriteState),
        (c"add_done_callback", WriteState),
        (c"remove_done_callback", WriteState),
        (c"get_loop", Nothing),
        // Whoever asks for the coroutine looks at its state.
        (c"get_coro", ReadSteps),
        (c"get_stack", ReadSteps),
        (c"get_name", Nothing),
        (c"get_context", Nothing),
    ]
};

static FUTURE_EFFECTS: OnceLock<FxHashMap<usize, Effect>> = OnceLock::new();

/// Looks the methods of futures up. Called when `asyncio` is imported anyway.
pub fn learn_futures() -> Result<()> {
    let mut effects = FxHashMap::default();
    for class in [c"Future", c"Task"] {
        for (name, effect) in FUTURES {
            if let Some(address) = callables::definition(c"_asyncio", class, name)? {
                effects.insert(address, *effect);
            }
        }
    }
    let _ = FUTURE_EFFECTS.set(effects);
    Ok(())
}

fn effect_of(definition: usize) -> Option<Effect> {
    let known = EFFECTS.get().and_then(|effects| effects.get(&definition));
    known.or_else(|| FUTURE_EFFECTS.get()?.get(&definition)).copied()
}

/// What this C function does, where that is known.
fn effect_of_native(callable: Obj<'_>, definition: usize) -> Option<Effect> {
    effect_of(definition).or_else(|| {
        let name = callables::special_method(callable)?;
        SPECIAL_METHODS.iter().find(|(known, _)| *known == name).map(|(_, effect)| *effect)
    })
}

/// Calls of functions that the table does not know, with a container among the
/// arguments: each was taken to write it. Names and numbers.
pub fn unknown_calls(forget: bool) -> Vec<(String, u64)> {
    let mut all = UNKNOWN.lock();
    let told = all.values().cloned().collect();
    if forget {
        all.clear();
    }
    told
}

/// The positional and other arguments of a call, first to last.
type Arguments<'a> = SmallVec<[Obj<'a>; 8]>;

/// The accesses of a call instruction.
pub fn observe<'a>(
    instruction: Instruction,
    code: Code<'a>,
    frame: Frame<'a>,
    sink: &mut impl Sink<'a>,
) {
    let (depth, count) = (instruction.depth, instruction.arg as usize);
    let operand = |from_top| frame.operand(depth, from_top).object();
    if instruction.op == Op::CallFunctionEx {
        // 3.14+ always has room for keywords, 3.13+ the NULL above the callable.
        let keywords = if version::CALL_EX_ALWAYS_KEYWORDS { 1 } else { count & 1 };
        let callable = operand(if version::CALL_EX_CALLABLE_FIRST { 3 } else { 2 } + keywords);
        let Some(callable) = callable else { return };
        let positional = operand(1 + keywords);
        // `f(*iterable)` iterates over it here.
        positional.into_iter().for_each(|one| on::consume(one, sink));
        let positional = positional.into_iter().flat_map(code::list_items);
        let keywords = || (keywords == 1).then(|| operand(1)).flatten().into_iter();
        let keywords = || keywords().flat_map(code::dict_items);
        let named = keywords().map(|(_, value)| value);
        let names = || keywords().map(|(name, _)| name).collect();
        return call(callable, None, positional.chain(named), &names, sink);
    }
    let names = (instruction.op == Op::CallKw) as usize;
    let keywords = || -> Arguments<'a> {
        let keywords = match names {
            0 => code.keyword_names(frame.offset(code)),
            _ => operand(1),
        };
        keywords.into_iter().flat_map(code::list_items).collect()
    };
    // 3.13+: callable, self or NULL, arguments; before: NULL, callable or method, self.
    let (callable, receiver) = match (operand(count + 2 + names), operand(count + 1 + names)) {
        (Some(callable), receiver) => (callable, receiver),
        (None, Some(callable)) => (callable, None),
        (None, None) => return,
    };
    let arguments = (1..=count).rev().filter_map(|from_top| operand(from_top + names));
    call(callable, receiver, arguments, &keywords, sink);
}

/// What such a call of a builtin function asks the elements of its argument.
pub fn observe_elements<'a>(instruction: Instruction, frame: Frame<'a>, sink: &mut impl Sink<'a>) {
    let operand = |from_top| frame.operand(instruction.depth, from_top).object();
    let (Some(own), Some(callable)) = (operand(1), operand(3).or_else(|| operand(2))) else {
        return;
    };
    let ask = match callables::resolve(callable) {
        Callee::Native { definition, .. } => match effect_of(definition) {
            Some(Effect::TestEach) => on::read_structure,
            Some(Effect::AddUp) => on::read_all,
            Some(Effect::CallEach) => on::read_deep,
            _ => return,
        },
        _ => return,
    };
    on::elements(own, true, 2).into_iter().for_each(|element| ask(element, sink));
}

/// A call of `callable`, which may be a method with its object beside it.
#[inline]
fn call<'a>(
    callable: Obj<'a>,
    receiver: Option<Obj<'a>>,
    arguments: impl Iterator<Item = Obj<'a>>,
    keywords: &dyn Fn() -> Arguments<'a>,
    sink: &mut impl Sink<'a>,
) {
    let (definition, bound) = match callables::resolve(callable) {
        Callee::Native { definition, receiver } => (definition, receiver),
        // Its own instructions are observed.
        Callee::Python { code, .. } if is_traced(code) => return,
        Callee::Python { code, receiver } => (code.as_obj().address(), receiver),
        Callee::Class(class) => (class.address(), None),
        Callee::Instance(class) => (class.address() ^ INSTANCE, Some(callable)),
        Callee::Cached { function, receiver: bound } => {
            let all = bound.into_iter().chain(receiver).chain(arguments).collect();
            return call_cached(callable, function, all, sink);
        }
        Callee::Partial { .. } => {
            return call_dynamic(callable, receiver.into_iter().chain(arguments).collect(), sink);
        }
    };
    let effect = effect_of_native(callable, definition);
    if effect == Some(Effect::Nothing) {
        return;
    }
    if effect.is_none() && definition & INSTANCE == INSTANCE {
        return call_instance(callable, sink);
    }
    let all: Arguments<'a> = bound.into_iter().chain(receiver).chain(arguments).collect();
    match effect {
        Some(Effect::Update) => update_with_keywords(&all, &keywords(), sink),
        Some(effect) => apply(effect, &all, sink),
        None => unknown(callable, definition, bound.or(receiver), &all, sink),
    }
}

/// The same with arguments that have been collected: what C code calls itself.
#[cold]
fn call_dynamic<'a>(callable: Obj<'a>, arguments: Arguments<'a>, sink: &mut impl Sink<'a>) {
    let (mut callable, mut all) = (callable, arguments);
    for _ in 0..8 {
        let (definition, receiver) = match callables::resolve(callable) {
            Callee::Partial { callable: inner, arguments, keywords } => {
                let named = code::dict_items(keywords).map(|(_, value)| value);
                all = code::list_items(arguments).chain(all).chain(named).collect();
                callable = inner;
                continue;
            }
            Callee::Native { definition, receiver } => (definition, receiver),
            Callee::Class(class) => (class.address(), None),
            Callee::Cached { function, receiver } => {
                let all = receiver.into_iter().chain(all).collect();
                return call_cached(callable, function, all, sink);
            }
            Callee::Python { code, .. } if is_traced(code) => return,
            Callee::Python { code, receiver } => (code.as_obj().address(), receiver),
            Callee::Instance(class) => (class.address() ^ INSTANCE, Some(callable)),
        };
        let effect = effect_of_native(callable, definition);
        let all: Arguments<'a> = receiver.into_iter().chain(all).collect();
        return match effect {
            Some(effect) => apply(effect, &all, sink),
            None if definition & INSTANCE == INSTANCE => call_instance(callable, sink),
            None => unknown(callable, definition, receiver, &all, sink),
        };
    }
}

/// A call of an instance whose class is not known.
fn call_instance<'a>(instance: Obj<'a>, sink: &mut impl Sink<'a>) {
    let method = attributes::in_class(instance.type_of(), attributes::names().call.borrow());
    each(method, sink, |method, sink| call_special(method, Some(instance), sink));
}

/// The interpreter calls a special method of an object, or one that is bound to it.
pub fn call_special<'a>(method: Obj<'a>, object: Option<Obj<'a>>, sink: &mut impl Sink<'a>) {
    if let Callee::Python { code, receiver } = callables::resolve(method)
        && !is_traced(code)
        && let Some(object) = receiver.or(object)
    {
        foreign::call(method, code, object, sink);
    }
}

/// A call of a function of `functools.lru_cache`: looks its result up. (It is kept when
/// the function returns.)
fn call_cached<'a>(
    cached: Obj<'a>,
    function: Obj<'a>,
    mut arguments: Arguments<'a>,
    sink: &mut impl Sink<'a>,
) {
    let Some(code) = callables::code_of(function).filter(|code| is_traced(*code)) else { return };
    if let Some(count) = code.plain_arguments() {
        let missing = count.saturating_sub(arguments.len());
        let defaults: Arguments<'a> = callables::defaults(function).collect();
        arguments.extend(defaults.into_iter().rev().take(missing).rev());
    }
    sink.touch(Touch::new(function, result_of(code, arguments), Kind::Read));
    // One that is full forgets another result, and may forget this one the next time.
    let order = match containers::cache_is_full(cached) {
        Some(true) => Kind::Hit,
        Some(false) => Kind::Miss,
        None => Kind::Read,
    };
    CACHES.lock().insert(function.address(), order);
    sink.touch(Touch::new(function, Field::Order, order));
    crate::interp::tracer::observe_returns(code);
}

/// Such a function is about to return.
pub fn keep_result<'a>(code: Code<'a>, frame: Frame<'a>, sink: &mut impl Sink<'a>) {
    let Some(function) = frame.function() else { return };
    let count = code.plain_arguments().unwrap_or(0);
    let arguments = (0..count).filter_map(|index| frame.local(index));
    let arguments = arguments.map(|one| containers::cell_value(one).unwrap_or(one)).collect();
    sink.touch(Touch::new(function, result_of(code, arguments), Kind::Write));
    let order = CACHES.lock().get(&function.address()).copied();
    sink.touch(Touch::new(function, Field::Order, order.unwrap_or(Kind::Read)));
}

/// Where the result for these arguments is kept.
fn result_of(code: Code<'_>, arguments: Arguments<'_>) -> Field {
    if code.plain_arguments() != Some(arguments.len()) {
        return Field::Whole;
    }
    let digest = |one: Obj<'_>| containers::digest(one).unwrap_or(one.address() as u64);
    let all = arguments.into_iter().map(digest);
    let mix = |all: u64, one: u64| (all.rotate_left(7) ^ one).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Field::Key(all.fold(0, mix))
}

/// Is this special method of a container C code, or code that is not traced and does the
/// same?
#[inline]
pub fn is_plain(container: Obj<'_>, name: &Owned) -> bool {
    let types = types();
    let is_builtin = container.is_exactly(types.dict) || container.is_exactly(types.list);
    is_builtin || attributes::is_c_method(container, name) || is_like_c_method(container, name)
}

fn is_like_c_method(container: Obj<'_>, name: &Owned) -> bool {
    let method = attributes::in_class(container.type_of(), name.borrow());
    method.is_some_and(|method| match callables::resolve(method) {
        Callee::Python { code, .. } => effect_of(code.as_obj().address()).is_some(),
        _ => false,
    })
}

/// Is this special method written in Python, in a file that is not traced?
pub fn is_unseen(container: Obj<'_>, name: &Owned) -> bool {
    attributes::in_class(container.type_of(), name.borrow()).is_some_and(is_untraced)
}

/// Is it a generator that is not running, of a file that is not traced?
pub fn is_suspended_unseen(generator: Obj<'_>) -> bool {
    frame::code_of_suspended(generator).is_some_and(|code| !is_traced(code))
}

/// Does C code that is given this call it?
fn is_function(object: Obj<'_>) -> bool {
    match callables::resolve(object) {
        Callee::Instance(class) => effect_of(class.address() ^ INSTANCE).is_some(),
        _ => true,
    }
}

/// C code calls a function with elements of these: one of each, or all that there are.
fn call_with_elements<'a>(
    callable: Obj<'a>,
    iterables: &[Obj<'a>],
    all: bool,
    spread: bool,
    sink: &mut impl Sink<'a>,
) {
    match callables::resolve(callable) {
        // Its own instructions are observed.
        Callee::Python { code, .. } if is_traced(code) => return,
        // Seen as a whole.
        Callee::Native { receiver: Some(receiver), .. } if !containers::is_immutable(receiver) => {
            return;
        }
        _ => {}
    }
    let columns: Vec<_> = iterables.iter().map(|one| on::elements(*one, all, 2)).collect();
    let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
    for row in 0..rows {
        let elements = columns.iter().filter_map(|column| column.get(row).copied());
        let arguments: Arguments<'a> = match spread {
            true => elements.flat_map(code::list_items).collect(),
            false => elements.collect(),
        };
        call_dynamic(callable, arguments, sink);
    }
}

/// The functions among what an iterator refers to are called with what it draws.
pub fn observe_calls_of_iterator<'a>(
    iterator: Obj<'a>,
    sources: &[Obj<'a>],
    all: bool,
    sink: &mut impl Sink<'a>,
) {
    // `map` keeps its iterators in a tuple.
    let inside = |source: &Obj<'a>| match containers::is_tuple(*source) {
        true => code::list_items(*source).collect::<Arguments<'a>>(),
        false => Arguments::from_iter([*source]),
    };
    let iterators: Arguments<'a> =
        sources.iter().flat_map(inside).filter(|one| containers::is_iterator(*one)).collect();
    let spread = containers::spreads_elements(iterator);
    for source in sources {
        if source.is_none() && containers::is_filter(iterator) {
            for element in iterators.iter().flat_map(|one| on::elements(*one, all, 2)) {
                on::read_structure(element, sink);
            }
        } else if !containers::is_iterator(*source) && is_function(*source) {
            call_with_elements(*source, &iterators, all, spread, sink);
        }
    }
}

/// `sorted`, `max`: the functions among the arguments are called with the elements of the
/// others, which are compared with each other otherwise.
fn call_each<'a>(arguments: &[Obj<'a>], sink: &mut impl Sink<'a>) {
    let mut has_key = false;
    for argument in arguments {
        if is_function(*argument) {
            has_key = true;
            observe_hidden_call(*argument, sink);
            for other in arguments.iter().filter(|other| *other != argument) {
                call_with_elements(*argument, &[*other], true, false, sink);
            }
            // With several arguments these are the elements.
            let others = arguments.iter().filter(|other| containers::may_contain(**other));
            if arguments.len() > 2 {
                others.for_each(|other| {
                    call_dynamic(*argument, Arguments::from_iter([*other]), sink);
                });
            }
        }
    }
    for argument in arguments {
        on::consume(*argument, sink);
        if !has_key {
            let elements = on::elements(*argument, true, 2).into_iter();
            elements.for_each(|element| on::read_deep(element, sink));
        }
    }
}

/// `functools.reduce(function, iterable, start)`.
fn reduce<'a>(arguments: &[Obj<'a>], sink: &mut impl Sink<'a>) {
    let [function, iterable, ..] = arguments else { return };
    let start = arguments.get(2).copied();
    observe_hidden_call(*function, sink);
    on::consume(*iterable, sink);
    let mut elements = on::elements(*iterable, true, 2).into_iter();
    let effect = match callables::resolve(*function) {
        Callee::Native { definition, .. } => effect_of_native(*function, definition),
        _ => None,
    };
    let Some(mut sum) = start.or_else(|| elements.next()) else { return };
    for element in elements {
        call_dynamic(*function, Arguments::from_iter([sum, element]), sink);
        // Paths can be followed without running anything.
        let next = match effect {
            Some(Effect::GetItem) => containers::item(sum, element),
            Some(Effect::GetAttribute) => named(Some(element)).and_then(|name| value_of(sum, name)),
            _ => Some(sum),
        };
        let Some(next) = next else { return };
        sum = next;
    }
}

/// `operator.attrgetter("a.b")`: attributes of attributes.
fn get_attributes<'a>(getter: Obj<'a>, owner: Obj<'a>, sink: &mut impl Sink<'a>) {
    let paths = containers::referents(getter).into_iter();
    for path in paths.filter(|one| containers::is_tuple(*one)).flat_map(code::list_items) {
        let names: Arguments<'a> = match containers::is_tuple(path) {
            true => code::list_items(path).collect(),
            false => Arguments::from_iter([path]),
        };
        let mut next = Some(owner);
        for name in names.into_iter().filter(|name| containers::is_plain_str(*name)) {
            let Some(owner) = next else { break };
            on::load_attribute(owner, name, sink);
            next = value_of(owner, name);
        }
    }
}

/// `operator.itemgetter(key, …)`.
fn get_items<'a>(getter: Obj<'a>, container: Obj<'a>, sink: &mut impl Sink<'a>) {
    let class = getter.type_of();
    let keys = containers::referents(getter).into_iter().filter(|one| *one != class);
    for key in keys {
        on::subscript(Some(container), Some(key), sink);
        // Several keys, or one that is a tuple.
        code::list_items(key).for_each(|key| on::subscript(Some(container), Some(key), sink));
    }
}

/// `operator.methodcaller(name, …)`.
fn call_method<'a>(caller: Obj<'a>, owner: Obj<'a>, sink: &mut impl Sink<'a>) {
    let parts = containers::referents(caller);
    let Some(name) = parts.iter().copied().find(|part| containers::is_plain_str(*part)) else {
        return;
    };
    let Some(method) = attributes::in_class(owner.type_of(), name) else { return };
    let given = parts.iter().find(|part| containers::is_tuple(**part));
    let given = given.into_iter().flat_map(|given| code::list_items(*given));
    let named = parts.iter().find(|part| containers::is_dict(**part));
    let named = named.into_iter().flat_map(|named| code::dict_items(*named));
    let named = named.map(|(_, value)| value);
    let arguments = std::iter::once(owner).chain(given.filter(|one| *one != name)).chain(named);
    call_dynamic(method, arguments.collect(), sink);
}

/// `format.format(…)`: what the names in its fields lead to.
fn format_fields<'a>(arguments: &[Obj<'a>], sink: &mut impl Sink<'a>) {
    arguments.iter().for_each(|argument| on::read_deep(*argument, sink));
    let Some(text) = arguments.first().and_then(|format| format.as_str()) else { return };
    for field in text.split('{').skip(1) {
        let name = field.split(['}', '!', ':']).next().unwrap_or_default();
        let mut steps = name.split(['.', '[']);
        let first = steps.next().unwrap_or_default();
        let path: Vec<&str> = steps.collect();
        if path.is_empty() {
            continue;
        }
        // Names of arguments are not at hand: it may be any of them.
        let candidates = match first.parse::<usize>() {
            Ok(index) => arguments.get(index + 1..index + 2).unwrap_or_default(),
            Err(_) => &arguments[1..],
        };
        for candidate in candidates {
            let mut next = Some(*candidate);
            for step in &path {
                let Some(owner) = next else { break };
                if step.ends_with(']') {
                    on::read_deep(owner, sink);
                    break;
                }
                let Some(name) = attributes::name_like(owner, step) else { break };
                on::load_attribute(owner, name, sink);
                next = value_of(owner, name);
            }
        }
    }
}

/// `dict.update(other, key=value)`: the last arguments are those by keyword.
fn update_with_keywords<'a>(arguments: &[Obj<'a>], names: &[Obj<'a>], sink: &mut impl Sink<'a>) {
    let Some((&dict, arguments)) = arguments.split_first() else { return };
    if names.is_empty() || containers::shape(dict) != Shape::Dict {
        return update(dict, arguments, sink);
    }
    let (positional, values) = arguments.split_at(arguments.len().saturating_sub(names.len()));
    if !positional.is_empty() {
        update(dict, positional, sink);
    }
    for (name, value) in names.iter().zip(values) {
        on::store_key(dict, *name, Some(*value), sink);
    }
}

/// `dict.update`: key by key, where the argument is a dict or a list of pairs.
pub fn update<'a>(dict: Obj<'a>, arguments: &[Obj<'a>], sink: &mut impl Sink<'a>) {
    match arguments {
        [other]
            if containers::shape(dict) == Shape::Dict
                && containers::shape(*other) == Shape::Dict =>
        {
            on::read_all(*other, sink);
            for (key, value) in code::dict_items(*other) {
                on::store_key(dict, key, Some(value), sink);
            }
        }
        [pairs]
            if containers::shape(dict) == Shape::Dict
                && code::list_items(*pairs).next().is_some()
                && code::list_items(*pairs).all(|pair| code::list_items(pair).count() == 2) =>
        {
            on::consume(*pairs, sink);
            for pair in code::list_items(*pairs) {
                on::consume(pair, sink);
                let mut pair = code::list_items(pair);
                if let (Some(key), value) = (pair.next(), pair.next()) {
                    on::store_key(dict, key, value, sink);
                }
            }
        }
        _ => {
            on::write_all(dict, sink);
            arguments.iter().for_each(|argument| on::take(*argument, sink));
        }
    }
}

/// Is it a Python function whose file is not traced?
pub fn is_untraced(callable: Obj<'_>) -> bool {
    match callables::resolve(callable) {
        Callee::Python { code, .. } => !is_traced(code),
        _ => false,
    }
}

fn is_traced(code: Code<'_>) -> bool {
    code.table().is_none_or(|table| crate::interp::tracer::traced(code, table))
}

/// A function that the table does not know: taken to write the containers that
/// it is given. Methods of immutable objects and classes only read.
#[cold]
fn unknown<'a>(
    callable: Obj<'a>,
    definition: usize,
    bound: Option<Obj<'a>>,
    arguments: &[Obj<'a>],
    sink: &mut impl Sink<'a>,
) {
    if containers::is_class(callable) {
        if callables::initialiser(callable).is_none_or(is_untraced) {
            arguments.iter().for_each(|argument| on::take(*argument, sink));
        }
        return;
    }
    let is_method = bound.is_some() || callables::is_method_descriptor(callable);
    if is_method && arguments.first().is_some_and(|first| containers::is_immutable(*first)) {
        return arguments.iter().for_each(|argument| on::read_deep(*argument, sink));
    }
    if callables::is_thread_safe(callable) {
        return;
    }
    let mut given = arguments;
    if let Some((first, rest)) = arguments.split_first() {
        let is_seen = match callables::resolve(callable) {
            Callee::Python { code, .. } if bound.is_some() || foreign::is_method(code, *first) => {
                foreign::call(callable, code, *first, sink);
                true
            }
            Callee::Native { .. } if is_method => {
                foreign::call_native(&callables::plain_name(callable), *first, sink)
            }
            _ => false,
        };
        if is_seen {
            given = rest;
        }
    }
    for argument in given {
        observe_hidden_call(*argument, sink);
        if containers::is_iterator(*argument) {
            on::consume(*argument, sink);
        }
    }
    let mut count = 0;
    for argument in given {
        if containers::shape(*argument) != Shape::Other {
            on::write_all(*argument, sink);
            count += 1;
        } else if foreign::is_foreign(*argument) {
            foreign::touch(*argument, Kind::Write, sink);
        }
    }
    if count > 0 {
        let mut known = UNKNOWN.lock();
        let entry = known.entry(definition);
        entry.or_insert_with(|| (callables::name(callable, bound), 0)).1 += 1;
    }
}

/// A callable that C code is going to call, with arguments that cannot be seen
/// here (`map(shared.append, …)`).
pub fn observe_hidden_call<'a>(callable: Obj<'a>, sink: &mut impl Sink<'a>) {
    let (definition, receiver) = match callables::resolve(callable) {
        Callee::Native { definition, receiver: Some(receiver) } => (definition, receiver),
        Callee::Python { code, receiver: Some(receiver) } if !is_traced(code) => {
            return foreign::call(callable, code, receiver, sink);
        }
        _ => return,
    };
    if containers::is_immutable(receiver) {
        return;
    }
    match effect_of_native(callable, definition) {
        Some(Effect::Nothing) => {}
        Some(
            effect @ (Effect::ReadState
            | Effect::WriteState
            | Effect::Cancel
            | Effect::Next
            | Effect::Resume),
        ) => apply(effect, &[receiver], sink),
        Some(effect) if effect.only_reads() => on::read_all(receiver, sink),
        _ => on::write_all(receiver, sink),
    }
}

impl Effect {
    fn only_reads(self) -> bool {
        use Effect::*;
        matches!(
            self,
            Nothing
                | ReadLength
                | ReadAll
                | ReadDeep
                | Consume
                | GetKey
                | GetItem
                | Contains
                | GetAttribute
                | Vars
                | Iterate
                | Find
                | TestEach
                | AddUp
                | Pairs
                | GetClass
                | GetItems
                | GetAttributes
        )
    }
}

fn apply<'a>(effect: Effect, arguments: &[Obj<'a>], sink: &mut impl Sink<'a>) {
    let second = arguments.get(1).copied();
    let third = arguments.get(2).copied();
    let Some(&first) = arguments.first() else { return };
    let rest = &arguments[1..];
    match effect {
        Effect::Nothing => {}
        Effect::ReadLength => on::read_structure(first, sink),
        Effect::ReadAll => arguments.iter().for_each(|argument| on::read_all(*argument, sink)),
        Effect::ReadDeep => arguments.iter().for_each(|argument| on::read_deep(*argument, sink)),
        Effect::Print => arguments.iter().for_each(|one| match containers::shape(*one) {
            Shape::Opaque => on::write_all(*one, sink),
            _ => on::read_deep(*one, sink),
        }),
        Effect::Consume => arguments.iter().for_each(|argument| on::consume(*argument, sink)),
        Effect::CallEach => call_each(arguments, sink),
        Effect::Reduce => reduce(arguments, sink),
        Effect::CallFirst => call_dynamic(first, Arguments::from_slice(rest), sink),
        Effect::CallSecond => {
            if let [function, rest @ ..] = rest {
                call_dynamic(*function, Arguments::from_slice(rest), sink);
            }
        }
        Effect::TestEach => {
            on::consume(first, sink);
            on::elements(first, true, 2).into_iter().for_each(|one| on::read_structure(one, sink));
        }
        Effect::AddUp => {
            for argument in arguments {
                on::consume(*argument, sink);
                let elements = on::elements(*argument, true, 2).into_iter();
                elements.for_each(|one| on::read_all(one, sink));
            }
        }
        Effect::Pairs => {
            for argument in arguments {
                on::take(*argument, sink);
                code::list_items(*argument).for_each(|pair| on::consume(pair, sink));
            }
        }
        Effect::GetClass => {
            if arguments.len() > 2 {
                arguments.iter().for_each(|argument| on::read_all(*argument, sink));
            } else if attributes::is_of_python_class(first) {
                on::load_attribute(first, attributes::names().class.borrow(), sink);
            }
        }
        Effect::FormatFields => format_fields(arguments, sink),
        Effect::WriteFirst => {
            on::write_all(first, sink);
            rest.iter().for_each(|argument| on::take(*argument, sink));
        }
        Effect::Sort => {
            call_each(arguments, sink);
            on::write_all(first, sink);
        }
        Effect::Find | Effect::RemoveFound => {
            each(second, sink, |element, sink| on::find(first, element, sink));
            if effect == Effect::RemoveFound {
                on::write_all(first, sink);
            }
        }
        Effect::Update => update(first, rest, sink),
        Effect::Append => append(first, second, sink),
        Effect::Extend => on::extend(first, second, sink),
        Effect::Prepend => {
            sink.touch(Touch::new(first, Field::Structure, Kind::Write));
            sink.touch(Touch::new(first, Field::Order, Kind::Write));
            second.into_iter().for_each(|argument| on::consume(argument, sink));
        }
        Effect::PopLast => pop_last(first, second, sink),
        Effect::PopFirst => {
            let there = containers::len(first) > 0;
            let kind = if there { Kind::Hit } else { Kind::Miss };
            sink.touch(Touch::new(first, Field::Structure, kind));
            sink.touch(Touch::new(first, Field::Order, if there { Kind::Hit } else { Kind::None }));
        }
        Effect::GetKey => {
            if let Some(key) = second {
                look_up(first, key, sink);
            }
        }
        Effect::SetDefault => {
            if let Some(key) = second {
                match containers::shape(first) {
                    Shape::Dict => on::set_default(first, key, third, sink),
                    _ => on::write_all(first, sink),
                }
            }
        }
        Effect::GetItem => on::subscript(Some(first), second, sink),
        Effect::SetItem => on::store_subscript(Some(first), second, third, sink),
        Effect::PopKey => {
            if let Some(key) = second {
                match containers::shape(first) {
                    Shape::Dict => on::delete_key(first, key, sink),
                    _ => on::write_all(first, sink),
                }
            }
        }
        Effect::DeleteItem => on::delete_subscript(Some(first), second, sink),
        Effect::Contains => {
            if let Some(element) = second {
                on::contains(first, element, sink);
            }
        }
        Effect::AddElement => {
            if let Some(element) = second {
                let there = containers::set_contains(first, element);
                let known = there == Some(true);
                sink.touch(Touch::keyed(
                    first,
                    element,
                    if known { Kind::Miss } else { Kind::Hit },
                ));
                let structure = if known { Kind::None } else { Kind::Hit };
                sink.touch(Touch::new(first, Field::Structure, structure));
                sink.touch(Touch::new(first, Field::Order, Kind::Read));
                if there.is_none() {
                    sink.touch(Touch::new(first, Field::Unknown, Kind::Write));
                }
            }
        }
        Effect::RemoveElement => {
            if let Some(element) = second {
                let known = containers::set_contains(first, element) != Some(false);
                sink.touch(Touch::keyed(
                    first,
                    element,
                    if known { Kind::Hit } else { Kind::Miss },
                ));
                let structure = if known { Kind::Hit } else { Kind::None };
                sink.touch(Touch::new(first, Field::Structure, structure));
                sink.touch(Touch::new(first, Field::Order, Kind::Read));
            }
        }
        Effect::GetAttribute => {
            if let Some(name) = named(second) {
                on::load_attribute(first, name, sink);
            }
        }
        Effect::SetAttribute => {
            if let Some(name) = named(second) {
                on::store_attribute(first, name, third, sink);
            }
        }
        Effect::DeleteAttribute => {
            if let Some(name) = named(second) {
                on::store_attribute(first, name, None, sink);
            }
        }
        Effect::SetPlainAttribute => {
            if let Some(name) = named(second) {
                on::store_attribute_plainly(first, name, third, sink);
            }
        }
        Effect::DeletePlainAttribute => {
            if let Some(name) = named(second) {
                on::store_attribute_plainly(first, name, None, sink);
            }
        }
        Effect::GetAttributes => {
            rest.iter().for_each(|owner| get_attributes(first, *owner, sink));
        }
        Effect::GetItems => rest.iter().for_each(|one| get_items(first, *one, sink)),
        Effect::CallMethod => rest.iter().for_each(|owner| call_method(first, *owner, sink)),
        Effect::ReadAttributes => {
            if containers::is_iterator(first) {
                sink.touch(Touch::new(first, Field::Whole, Kind::Read));
            }
            on::read_all(first, sink);
            on::read_attributes(first, sink);
        }
        Effect::ReadGraph => on::read_graph(first, sink),
        Effect::Vars => on::ask_for_dict(first, sink),
        Effect::ListAttributes => {
            if let Some(dict) = attributes::instance_dict(first) {
                on::ask_for_dict(first, sink);
                sink.touch(Touch::new(first, Field::Structure, Kind::Read).stored_in(Some(dict)));
            }
        }
        Effect::Iterate => on::start_iteration(first, sink),
        Effect::Next => on::iteration_step(first, sink),
        Effect::Resume => {
            if !containers::is_private(first) {
                sink.touch(Touch::new(first, Field::Whole, Kind::Write));
            }
        }
        Effect::Cancel => {
            // A task passes it on to what it waits for; what is done already stays as it is.
            let mut next = Some(first);
            while let Some(future) = next {
                next = futures::waiter_of(future);
                let kind =
                    if next.is_some() || future.is(first) { Kind::Write } else { Kind::Read };
                sink.touch(Touch::new(future, Field::Whole, kind));
            }
        }
        Effect::Count => {
            if let Callee::Cached { function, .. } = callables::resolve(first) {
                // Calls count without getting in each other's way.
                sink.touch(Touch::new(function, Field::Order, Kind::Write));
            }
        }
        Effect::LengthHint => {
            on::read_structure(first, sink);
            if containers::is_iterator(first) {
                sink.touch(Touch::new(first, Field::Whole, Kind::Read));
                on::consume_lengths(first, sink);
            }
        }
        Effect::AddNote => {
            let name = attributes::names().notes.borrow();
            match value_of(first, name) {
                Some(notes) if containers::shape(notes) == Shape::List => {
                    on::load_attribute(first, name, sink);
                    append(notes, second, sink);
                }
                _ => on::store_attribute(first, name, second, sink),
            }
        }
        Effect::Log => {
            let names = attributes::names();
            let mut next = Some(first);
            for _ in 0..16 {
                let Some(logger) = next.filter(|logger| !logger.is_none()) else { break };
                on::touch_attributes(logger, Kind::Read, sink);
                let handlers = value_of(logger, names.handlers.borrow());
                each(handlers, sink, on::read_all);
                next = value_of(logger, names.parent.borrow());
            }
        }
        Effect::SetLevel => {
            on::store_attribute(first, attributes::names().level.borrow(), second, sink);
        }
        Effect::ChangeHandlers => {
            each(value_of(first, attributes::names().handlers.borrow()), sink, on::write_all);
        }
        Effect::ReadMaps => {
            each(value_of(first, attributes::names().maps.borrow()), sink, on::read_all);
        }
        Effect::ReadSteps => sink.touch(Touch::new(first, Field::Structure, Kind::Read)),
        Effect::ReadState => on::touch_state(first, Kind::Read, sink),
        Effect::WriteState => {
            on::touch_state(first, Kind::Write, sink);
            rest.iter().for_each(|argument| on::consume(*argument, sink));
        }
        Effect::Forget => {
            if let Callee::Cached { function, .. } = callables::resolve(first) {
                sink.touch(Touch::new(function, Field::Order, Kind::Write));
                sink.touch(Touch::new(function, Field::Whole, Kind::Write));
            }
        }
        Effect::WriteAll => {
            on::touch_state(first, Kind::Write, sink);
            rest.iter().for_each(|argument| on::write_all(*argument, sink));
        }
    }
}

/// A name whose hash and equality are those of `str`.
fn named(name: Option<Obj<'_>>) -> Option<Obj<'_>> {
    name.filter(|name| containers::is_plain_str(*name))
}

fn each<'a, S: Sink<'a>>(object: Option<Obj<'a>>, sink: &mut S, what: impl Fn(Obj<'a>, &mut S)) {
    if let Some(object) = object {
        what(object, sink);
    }
}

/// `mapping.get(key)`.
fn look_up<'a>(mapping: Obj<'a>, key: Obj<'a>, sink: &mut impl Sink<'a>) {
    match containers::shape(mapping) {
        Shape::Dict => on::load_key(mapping, key, sink),
        Shape::View => on::subscript(Some(mapping), Some(key), sink),
        _ => on::read_all(mapping, sink),
    }
}

fn append<'a>(sequence: Obj<'a>, value: Option<Obj<'a>>, sink: &mut impl Sink<'a>) {
    match containers::shape(sequence) {
        Shape::List | Shape::Sequence => {
            let end = containers::len(sequence);
            sink.touch(Touch::index(sequence, end, Kind::Write).with_value(value));
            sink.touch(Touch::new(sequence, Field::Structure, Kind::Write));
            if containers::drops_the_first(sequence) {
                sink.touch(Touch::new(sequence, Field::Order, Kind::Write));
            }
        }
        _ => on::write_all(sequence, sink),
    }
}

fn pop_last<'a>(sequence: Obj<'a>, index: Option<Obj<'a>>, sink: &mut impl Sink<'a>) {
    if index.is_some_and(|index| index.as_i64() != Some(-1))
        || containers::shape(sequence) == Shape::Other
    {
        return on::write_all(sequence, sink);
    }
    let len = containers::len(sequence);
    let kind = if len > 0 { Kind::Hit } else { Kind::None };
    sink.touch(Touch::index(sequence, len - 1, kind));
    sink.touch(Touch::new(sequence, Field::Order, Kind::Read));
    let structure = if len > 0 { Kind::Hit } else { Kind::Miss };
    sink.touch(Touch::new(sequence, Field::Structure, structure));
}
