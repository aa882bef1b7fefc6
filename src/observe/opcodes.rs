//! Every opcode of CPython 3.11 to 3.15, named once, with what is observed at it.
//!
//! The list is checked against the running interpreter by a test: an opcode
//! without an entry fails it, so that a new version cannot slip in silently.

/// What is observed at an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Works on locals, constants and the stack only, or runs code that is
    /// observed by itself.
    Irrelevant,
    /// Reads an attribute of the top.
    LoadAttr,
    /// Writes an attribute of the top.
    StoreAttr,
    /// Deletes an attribute of the top.
    DeleteAttr,
    /// Reads an attribute through `super()`.
    LoadSuperAttr,
    /// Reads a global or a builtin.
    LoadGlobal,
    /// The same, and what it finds decides what is observed further on.
    LoadBuiltin,
    /// Writes a global.
    StoreGlobal,
    /// Deletes a global.
    DeleteGlobal,
    /// Reads a name of a module, class body or `exec`.
    LoadName,
    /// Writes such a name.
    StoreName,
    /// Deletes such a name.
    DeleteName,
    /// Reads a closure cell.
    LoadDeref,
    /// Writes a closure cell.
    StoreDeref,
    /// Empties a closure cell.
    DeleteDeref,
    /// Reads a name of a class body, else a global.
    LoadFromDictOrGlobals,
    /// `a[b]`.
    BinarySubscr,
    /// `a[b:c]`.
    BinarySlice,
    /// `a[b] = v`.
    StoreSubscr,
    /// `a[b:c] = v`.
    StoreSlice,
    /// `del a[b]`.
    DeleteSubscr,
    /// A binary or in-place operator (and `a[b]` on 3.14+).
    BinaryOp,
    /// `a in b`.
    Contains,
    /// A comparison.
    Compare,
    /// `iter(a)`.
    GetIter,
    /// What `await` waits for.
    GetAwaitable,
    /// One step of an iteration.
    ForIter,
    /// A call with positional arguments (and keywords, up to 3.12).
    Call,
    /// A call with keywords (3.13+).
    CallKw,
    /// A call with `*args`.
    CallFunctionEx,
    /// A call of a builtin function with a container that only this frame has.
    CallOnOwn,
    /// Iterates over the top to its end.
    Consume,
    /// Reads all of the mapping on top.
    Merge,
    /// `-a`, `+a`, `~a`.
    Unary,
    /// Returns what a cache is going to keep.
    KeepResult,
    /// Looks a module up.
    ImportName,
    /// Iterates over the top until one more than the argument says.
    Unpack,
    /// Formats a value (with a specification on top of it, up to 3.12).
    Format,
    /// Formats the value below the specification on top.
    FormatWithSpec,
    /// Resumes a generator.
    Send,
    /// Leaves a generator, for now or for good.
    Suspend,
    /// `len` of the top, for a pattern.
    Length,
    /// Reads the keys of a mapping pattern.
    MatchKeys,
    /// The truth value of the top.
    Truth,
    /// Reads an attribute of a module.
    ImportFrom,
    /// Reads the attributes of a class pattern.
    MatchClass,
    /// `from module import *`.
    ImportStar,
    /// An intrinsic function of the top.
    Intrinsic,
    /// Enters the context manager on top.
    Enter,
    /// Leaves a context manager with an exception.
    Exit,
}

/// The first and last in-place operator among the arguments of `BINARY_OP`.
pub const FIRST_IN_PLACE: usize = 13;
/// As above.
pub const LAST_IN_PLACE: usize = 25;

/// Opcodes at which something is observed.
const OBSERVED: &[(&str, Op)] = &[
    ("BEFORE_WITH", Op::Enter),
    ("BINARY_OP", Op::BinaryOp),
    ("BINARY_SLICE", Op::BinarySlice),
    ("BINARY_SUBSCR", Op::BinarySubscr),
    ("CALL", Op::Call),
    ("CALL_FUNCTION_EX", Op::CallFunctionEx),
    ("CALL_INTRINSIC_1", Op::Intrinsic),
    ("CALL_KW", Op::CallKw),
    ("COMPARE_OP", Op::Compare),
    ("CONTAINS_OP", Op::Contains),
    ("CONVERT_VALUE", Op::Format),
    ("DELETE_ATTR", Op::DeleteAttr),
    ("DELETE_DEREF", Op::DeleteDeref),
    ("DELETE_GLOBAL", Op::DeleteGlobal),
    ("DELETE_NAME", Op::DeleteName),
    ("DELETE_SUBSCR", Op::DeleteSubscr),
    ("DICT_MERGE", Op::Merge),
    ("DICT_UPDATE", Op::Merge),
    ("FORMAT_SIMPLE", Op::Format),
    ("FORMAT_VALUE", Op::Format),
    ("FORMAT_WITH_SPEC", Op::FormatWithSpec),
    ("FOR_ITER", Op::ForIter),
    ("GET_ITER", Op::GetIter),
    ("GET_AWAITABLE", Op::GetAwaitable),
    ("GET_LEN", Op::Length),
    ("GET_YIELD_FROM_ITER", Op::GetIter),
    ("IMPORT_FROM", Op::ImportFrom),
    ("IMPORT_NAME", Op::ImportName),
    ("IMPORT_STAR", Op::ImportStar),
    ("JUMP_IF_FALSE_OR_POP", Op::Truth),
    ("JUMP_IF_TRUE_OR_POP", Op::Truth),
    ("LIST_EXTEND", Op::Consume),
    ("LOAD_ATTR", Op::LoadAttr),
    ("LOAD_CLASSDEREF", Op::LoadDeref),
    ("LOAD_DEREF", Op::LoadDeref),
    ("LOAD_FROM_DICT_OR_DEREF", Op::LoadDeref),
    ("LOAD_FROM_DICT_OR_GLOBALS", Op::LoadFromDictOrGlobals),
    ("LOAD_GLOBAL", Op::LoadGlobal),
    ("LOAD_METHOD", Op::LoadAttr),
    ("LOAD_NAME", Op::LoadName),
    ("LOAD_SUPER_ATTR", Op::LoadSuperAttr),
    ("MATCH_CLASS", Op::MatchClass),
    ("MATCH_KEYS", Op::MatchKeys),
    ("POP_JUMP_BACKWARD_IF_FALSE", Op::Truth),
    ("POP_JUMP_BACKWARD_IF_TRUE", Op::Truth),
    ("POP_JUMP_FORWARD_IF_FALSE", Op::Truth),
    ("POP_JUMP_FORWARD_IF_TRUE", Op::Truth),
    ("POP_JUMP_IF_FALSE", Op::Truth),
    ("POP_JUMP_IF_TRUE", Op::Truth),
    ("RETURN_CONST", Op::Suspend),
    ("RETURN_VALUE", Op::Suspend),
    ("SEND", Op::Send),
    ("SET_UPDATE", Op::Consume),
    ("STORE_ATTR", Op::StoreAttr),
    ("STORE_DEREF", Op::StoreDeref),
    ("STORE_GLOBAL", Op::StoreGlobal),
    ("STORE_NAME", Op::StoreName),
    ("STORE_SLICE", Op::StoreSlice),
    ("STORE_SUBSCR", Op::StoreSubscr),
    ("TO_BOOL", Op::Truth),
    ("UNARY_INVERT", Op::Unary),
    ("UNARY_NEGATIVE", Op::Unary),
    ("UNARY_NOT", Op::Truth),
    ("UNARY_POSITIVE", Op::Unary),
    ("UNPACK_EX", Op::Consume),
    ("UNPACK_SEQUENCE", Op::Unpack),
    ("WITH_EXCEPT_START", Op::Exit),
    ("YIELD_VALUE", Op::Suspend),
];

/// Opcodes that touch nothing shared.
const IRRELEVANT: &[&str] = &[
    "ASYNC_GEN_WRAP",
    "BEFORE_ASYNC_WITH",
    "BUILD_CONST_KEY_MAP",
    "BUILD_INTERPOLATION",
    "BUILD_LIST",
    "BUILD_MAP",
    "BUILD_SET",
    "BUILD_SLICE",
    "BUILD_STRING",
    "BUILD_TEMPLATE",
    "BUILD_TUPLE",
    "CACHE",
    "CALL_INTRINSIC_2",
    "CHECK_EG_MATCH",
    "CHECK_EXC_MATCH",
    "CLEANUP_THROW",
    "COPY",
    "COPY_FREE_VARS",
    "DELETE_FAST",
    "END_ASYNC_FOR",
    "END_FOR",
    "END_SEND",
    "ENTER_EXECUTOR",
    "EXIT_INIT_CHECK",
    "EXTENDED_ARG",
    "GET_AITER",
    "GET_ANEXT",
    "INSTRUMENTED_CALL",
    "INSTRUMENTED_CALL_FUNCTION_EX",
    "INSTRUMENTED_CALL_KW",
    "INSTRUMENTED_END_ASYNC_FOR",
    "INSTRUMENTED_END_FOR",
    "INSTRUMENTED_END_SEND",
    "INSTRUMENTED_FOR_ITER",
    "INSTRUMENTED_INSTRUCTION",
    "INSTRUMENTED_JUMP_BACKWARD",
    "INSTRUMENTED_JUMP_FORWARD",
    "INSTRUMENTED_LINE",
    "INSTRUMENTED_LOAD_SUPER_ATTR",
    "INSTRUMENTED_NOT_TAKEN",
    "INSTRUMENTED_POP_ITER",
    "INSTRUMENTED_POP_JUMP_IF_FALSE",
    "INSTRUMENTED_POP_JUMP_IF_NONE",
    "INSTRUMENTED_POP_JUMP_IF_NOT_NONE",
    "INSTRUMENTED_POP_JUMP_IF_TRUE",
    "INSTRUMENTED_RESUME",
    "INSTRUMENTED_RETURN_CONST",
    "INSTRUMENTED_RETURN_VALUE",
    "INSTRUMENTED_YIELD_VALUE",
    "INTERPRETER_EXIT",
    "IS_OP",
    "JUMP_BACKWARD",
    "JUMP_BACKWARD_NO_INTERRUPT",
    "JUMP_FORWARD",
    "KW_NAMES",
    "LIST_APPEND",
    "LIST_TO_TUPLE",
    "LOAD_ASSERTION_ERROR",
    "LOAD_BUILD_CLASS",
    "LOAD_CLOSURE",
    "LOAD_COMMON_CONSTANT",
    "LOAD_CONST",
    "LOAD_FAST",
    "LOAD_FAST_AND_CLEAR",
    "LOAD_FAST_BORROW",
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW",
    "LOAD_FAST_CHECK",
    "LOAD_FAST_LOAD_FAST",
    "LOAD_LOCALS",
    "LOAD_SMALL_INT",
    "LOAD_SPECIAL",
    "MAKE_CELL",
    "MAKE_FUNCTION",
    "MAP_ADD",
    "MATCH_MAPPING",
    "MATCH_SEQUENCE",
    "NOP",
    "NOT_TAKEN",
    "POP_EXCEPT",
    "POP_ITER",
    "POP_JUMP_BACKWARD_IF_NONE",
    "POP_JUMP_BACKWARD_IF_NOT_NONE",
    "POP_JUMP_FORWARD_IF_NONE",
    "POP_JUMP_FORWARD_IF_NOT_NONE",
    "POP_JUMP_IF_NONE",
    "POP_JUMP_IF_NOT_NONE",
    "POP_TOP",
    "PRECALL",
    "PREP_RERAISE_STAR",
    "PRINT_EXPR",
    "PUSH_EXC_INFO",
    "PUSH_NULL",
    "RAISE_VARARGS",
    "RERAISE",
    "RESERVED",
    "RESUME",
    "RETURN_GENERATOR",
    "SETUP_ANNOTATIONS",
    "SET_ADD",
    "SET_FUNCTION_ATTRIBUTE",
    "STORE_FAST",
    "STORE_FAST_LOAD_FAST",
    "STORE_FAST_STORE_FAST",
    "SWAP",
    "TRACE_RECORD",
];

impl Op {
    /// Could the instruction change anything that is not its frame's own?
    pub fn may_write(self, arg: u32) -> bool {
        use Op::*;
        match self {
            BinaryOp => (FIRST_IN_PLACE..=LAST_IN_PLACE).contains(&(arg as usize)),
            StoreAttr | DeleteAttr | StoreGlobal | DeleteGlobal | StoreName | DeleteName
            | StoreDeref | DeleteDeref | StoreSubscr | StoreSlice | DeleteSubscr | ForIter
            | Call | CallKw | CallFunctionEx | CallOnOwn | Consume | Unpack | Enter | Exit
            | Send | Suspend | ImportName | ImportStar => true,
            _ => false,
        }
    }

    /// The meaning of the opcode of this name, `None` for one that no supported
    /// version has.
    pub fn named(name: &str) -> Option<Op> {
        if let Some((_, op)) = OBSERVED.iter().find(|(known, _)| *known == name) {
            return Some(*op);
        }
        IRRELEVANT.contains(&name).then_some(Op::Irrelevant)
    }
}

/// Every opcode is named once: checked when this is compiled.
const _: () = {
    let mut i = 0;
    while i < OBSERVED.len() + IRRELEVANT.len() {
        let mut j = 0;
        while j < i {
            let (a, b) = (name(i), name(j));
            let same = common_prefix(a, b);
            assert!(same < a.len() || same < b.len(), "an opcode is named twice");
            j += 1;
        }
        i += 1;
    }
};

const fn name(index: usize) -> &'static [u8] {
    match index < OBSERVED.len() {
        true => OBSERVED[index].0.as_bytes(),
        false => IRRELEVANT[index - OBSERVED.len()].as_bytes(),
    }
}

/// How many bytes two names begin with alike.
pub const fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    while same < a.len() && same < b.len() && a[same] == b[same] {
        same += 1;
    }
    same
}
