//! Code objects: decoding, the depth of the operand stack at each instruction,
//! and the static table that hangs on each code object.
//!
//! CPython sources: `Python/compile.c` (stack effects), `Objects/exception_handling_notes.txt`
//! (exception table), `Lib/dis.py` (decoding).

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::OnceLock;

use parking_lot::Mutex;
use pyo3_ffi as ffi;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::error::{self, Raised, Result};
use super::layout::PyCodeObject;
use super::object::{Obj, Owned};
use crate::observe::flow::{self, BUILTINS, Builtin, Extent, Facts, Move, Step, Target, Value};
use crate::observe::opcodes::Op;
use crate::runtime::session::Inner;

/// A live code object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code<'a>(Obj<'a>);

/// What the callback needs to know of one code unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it means; [`Op::Irrelevant`] where nothing is to be observed.
    pub op: Op,
    /// The interpreter's number of it.
    pub opcode: u8,
    /// Number of operands on the stack before it; [`UNKNOWN`] in dead code.
    pub depth: u16,
    /// The whole argument, prefixes included.
    pub arg: u32,
}

/// Flags of code whose frame a generator or coroutine owns (`Include/cpython/code.h`).
const GENERATOR: c_int = 0x20 | 0x80 | 0x200;

/// Depth of an instruction that no path reaches.
pub const UNKNOWN: u16 = u16::MAX;

/// The static table of a code object, made once.
#[derive(Debug)]
pub struct Table {
    /// One entry for each code unit (offset / 2).
    instructions: Vec<Cell<Instruction>>,
    /// The instructions that load what should be a function of `builtins`.
    guards: Vec<Guard>,
    /// Number of fast locals, cells and free variables before the operands.
    pub locals: u16,
    /// Is it traced?
    pub traced: Cell<bool>,
    /// How much of it is traced although its file is not.
    pub inner: Cell<Option<Inner>>,
    /// Which selection of files `traced` was decided for.
    pub selection: Cell<u32>,
    /// Does it only read what is not its own? Decided at the first question.
    looks: Cell<Option<bool>>,
    /// Are its returns observed?
    returns: Cell<bool>,
    /// Can other tools of `sys.monitoring` come and go while the code runs?
    #[cfg_attr(not(Py_3_12), allow(dead_code))]
    pub shared: Cell<bool>,
    /// A number that equal code shares, in the order of discovery.
    pub id: u32,
}

impl Table {
    /// Does the code belong to a file that is traced?
    pub fn is_users(&self) -> bool {
        self.traced.get() && self.inner.get().is_none()
    }
}

/// An instruction that loads a global with the name of a known builtin.
#[derive(Debug)]
struct Guard {
    /// Index of its code unit.
    unit: usize,
    /// What it found so far.
    found: Cell<Loaded>,
}

/// What a guard has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    Nothing,
    Always(Builtin),
    Different,
}

/// Numbers of the running interpreter, read from its `opcode` module.
struct Opcodes {
    ops: [Op; 256],
    moves: [Move; 256],
    names: Vec<String>,
    caches: [u8; 256],
    has_arg: [bool; 256],
    jump: [Jump; 256],
    stops: [bool; 256],
    breaks: [bool; 256],
    extended_arg: u8,
    return_generator: u8,
    precall: Option<u8>,
    call: u8,
    resume: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Jump {
    None,
    Forward,
    Backward,
    Absolute,
}

static OPCODES: OnceLock<Opcodes> = OnceLock::new();
/// The known functions of `builtins`: name, address.
static FUNCTIONS: OnceLock<Vec<(&str, usize, Builtin)>> = OnceLock::new();
static EXTRA_INDEX: OnceLock<ffi::Py_ssize_t> = OnceLock::new();

/// Numbers of code, by digest of its contents, in the whole process.
static IDS: Mutex<Option<FxHashMap<u64, u32>>> = Mutex::new(None);

/// Reads the opcode numbers and reserves the slot of the tables. Called once,
/// at import.
pub fn init() -> Result<()> {
    let opcodes = Opcodes::read()?;
    let _ = OPCODES.set(opcodes);
    let builtins = import(c"builtins")?;
    let mut functions = vec![];
    for (name, builtin) in BUILTINS {
        let terminated = CString::new(*name).map_err(|_| Raised)?;
        let function = attribute(builtins.borrow(), &terminated)?;
        functions.push((*name, function.borrow().address(), *builtin));
    }
    let _ = FUNCTIONS.set(functions);
    // SAFETY: `free_table` frees what `table` stores under this index.
    let index = unsafe { request_extra_index(free_table) };
    if index < 0 {
        return Err(error::runtime_error("no free slot for data on code objects"));
    }
    let _ = EXTRA_INDEX.set(index);
    Ok(())
}

/// Can an interpreter with a GIL go to another thread when this instruction has run,
/// or, if it calls a function in Python, before that one's first?
#[inline]
pub fn may_switch(instruction: Instruction) -> bool {
    let opcodes = OPCODES.get().expect("init has run");
    // A generator is not interrupted where it goes on after `yield from` and `await`.
    const AFTER_YIELD_FROM: u32 = 2;
    let resumes = instruction.opcode == opcodes.resume && instruction.arg & 3 >= AFTER_YIELD_FROM;
    opcodes.breaks[instruction.opcode as usize] && !resumes
}

/// Names of this interpreter's real opcodes, with their number and our meaning;
/// `None` where the table of meanings has no entry.
pub fn opcode_names() -> Vec<(u8, String, Option<Op>)> {
    let opcodes = OPCODES.get().expect("init has run");
    opcodes
        .names
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.is_empty())
        .map(|(number, name)| (number as u8, name.clone(), Op::named(name)))
        .collect()
}

/// The name of an opcode of this interpreter.
pub fn opcode_name(number: u8) -> &'static str {
    &OPCODES.get().expect("init has run").names[number as usize]
}

#[cfg(Py_3_12)]
unsafe fn request_extra_index(free: ffi::freefunc) -> ffi::Py_ssize_t {
    // SAFETY: passed on from the caller.
    unsafe { ffi::PyUnstable_Eval_RequestCodeExtraIndex(free) }
}

#[cfg(not(Py_3_12))]
unsafe fn request_extra_index(free: ffi::freefunc) -> ffi::Py_ssize_t {
    unsafe extern "C" {
        fn _PyEval_RequestCodeExtraIndex(free: ffi::freefunc) -> ffi::Py_ssize_t;
    }
    // SAFETY: exported by 3.11; passed on from the caller.
    unsafe { _PyEval_RequestCodeExtraIndex(free) }
}

unsafe extern "C" {
    #[cfg_attr(not(Py_3_12), link_name = "_PyCode_GetExtra")]
    fn PyUnstable_Code_GetExtra(
        code: *mut ffi::PyObject,
        index: ffi::Py_ssize_t,
        extra: *mut *mut c_void,
    ) -> c_int;
    #[cfg_attr(not(Py_3_12), link_name = "_PyCode_SetExtra")]
    fn PyUnstable_Code_SetExtra(
        code: *mut ffi::PyObject,
        index: ffi::Py_ssize_t,
        extra: *mut c_void,
    ) -> c_int;
    fn PyCode_GetCode(code: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyCompile_OpcodeStackEffectWithJump(opcode: c_int, oparg: c_int, jump: c_int) -> c_int;
}

unsafe extern "C" fn free_table(table: *mut c_void) {
    if !table.is_null() {
        // SAFETY: only `Code::table` stores here, and it stores a leaked Box<Table>.
        drop(unsafe { Box::from_raw(table.cast::<Table>()) });
    }
}

impl Table {
    /// The instruction at this offset in bytes.
    #[inline]
    pub fn at(&self, offset: usize) -> Option<Instruction> {
        self.instructions.get(offset / 2).map(Cell::get)
    }

    /// The same, as if nothing were known about its operands.
    pub fn at_unknown(&self, offset: usize) -> Option<Instruction> {
        let one = self.at(offset)?;
        let op = OPCODES.get()?.ops[one.opcode as usize];
        Some(Instruction { op, ..one })
    }

    /// Does the code change nothing, as far as can be told without following its calls?
    pub fn only_looks(&self) -> bool {
        self.looks.get().unwrap_or_else(|| {
            let looks = self.instructions().all(|one| !one.op.may_write(one.arg));
            self.looks.set(Some(looks));
            looks
        })
    }

    /// All of them, by code unit.
    pub fn instructions(&self) -> impl Iterator<Item = Instruction> {
        self.instructions.iter().map(Cell::get)
    }
}

impl<'a> Code<'a> {
    /// Wraps a code object.
    ///
    /// # Safety
    /// `ptr` points to a code object that stays alive for `'a`.
    #[inline]
    pub unsafe fn from_ptr(ptr: *mut ffi::PyObject) -> Self {
        // SAFETY: as the caller promises.
        Code(unsafe { Obj::from_arg(ptr) })
    }

    /// `object` as a code object, if it is one that Python code was compiled to.
    pub fn from_obj(object: Obj<'a>) -> Option<Self> {
        if !object.is_exactly(super::types::types().code) {
            return None;
        }
        // 3.13+ has frames of static code objects of its own, in read-only memory.
        const NO_MONITORING_EVENTS: c_int = 0x200_0000;
        let code = Code(object);
        (code.raw().co_flags & NO_MONITORING_EVENTS == 0).then_some(code)
    }

    /// The code object as an ordinary object.
    #[inline]
    pub fn as_obj(self) -> Obj<'a> {
        self.0
    }

    #[inline]
    fn raw(self) -> &'a PyCodeObject {
        // SAFETY: `Code` wraps nothing but live code objects, and the layout is
        // that of the running version (checked at import).
        unsafe { &*self.0.as_ptr().cast::<PyCodeObject>() }
    }

    /// Takes back what `frame.f_trace_opcodes` has asked of this code, so that it can be
    /// asked anew: a second tool with instruction events makes the interpreter forget the
    /// first one's (`Python/instrumentation.c`, `update_instrumentation_data`), and not that
    /// it was asked for.
    #[cfg(Py_3_13)]
    pub fn forget_opcode_tracing(self) {
        const TRACE_FUNCTIONS: u8 = 1 << 7;
        const INSTRUCTION: usize = 6;
        // SAFETY: the data belongs to the live code object, and changes with the GIL held.
        unsafe {
            if let Some(data) = self.raw()._co_monitoring.as_mut() {
                data.local_monitors.tools[INSTRUCTION] &= !TRACE_FUNCTIONS;
            }
        }
    }

    /// The n-th of `co_names`.
    #[inline]
    pub fn name(self, index: usize) -> Option<Obj<'a>> {
        // SAFETY: co_names is a tuple that the code object keeps alive.
        unsafe { tuple_item(self.raw().co_names.cast(), index) }
    }

    /// The names of the arguments that the call at this offset gives by keyword, if an
    /// instruction of their own says so (up to 3.12).
    pub fn keyword_names(self, offset: usize) -> Option<Obj<'a>> {
        let table = self.table()?;
        let before = (1..=4).map_while(|back| table.at(offset.checked_sub(2 * back)?));
        let names = before.into_iter().find(|one| opcode_name(one.opcode) == "KW_NAMES")?;
        // SAFETY: co_consts is a tuple that the code object keeps alive.
        unsafe { tuple_item(self.raw().co_consts.cast(), names.arg as usize) }
    }

    /// `co_filename`.
    pub fn filename(self) -> String {
        // SAFETY: co_filename is a str that the code object keeps alive.
        unsafe { Obj::from_arg(self.raw().co_filename.cast()) }.as_str().unwrap_or_default()
    }

    /// Address of `co_filename`: files are decided upon once.
    pub fn filename_obj(self) -> Obj<'a> {
        // SAFETY: co_filename is a str that the code object keeps alive.
        unsafe { Obj::from_arg(self.raw().co_filename.cast()) }
    }

    /// The line of the instruction at an offset in bytes, from 1; 0 where it has none.
    pub fn line(self, offset: u32) -> i32 {
        // SAFETY: a live code object; reads its table of lines.
        let line = unsafe { ffi::PyCode_Addr2Line(self.as_obj().as_ptr().cast(), offset as c_int) };
        line.max(0)
    }

    /// `co_name`, as text.
    pub fn plain_name(self) -> String {
        self.name_obj().as_str().unwrap_or_default()
    }

    /// `co_name`.
    pub fn name_obj(self) -> Obj<'a> {
        // SAFETY: co_name is a str that the code object keeps alive.
        unsafe { Obj::from_arg(self.raw().co_name.cast()) }
    }

    /// Does a call of it only make a generator?
    pub fn makes_generator(self) -> bool {
        const GENERATOR: c_int = 0x20 | 0x200;
        self.raw().co_flags & GENERATOR != 0
    }

    /// Is it a function inside of another one, and no method?
    pub fn is_nested(self) -> bool {
        self.qualified_name().rsplit('.').nth(1) == Some("<locals>")
    }

    /// `co_qualname`, as text.
    pub fn qualified_name(self) -> String {
        // SAFETY: co_qualname is a str that the code object keeps alive.
        unsafe { Obj::from_arg(self.raw().co_qualname.cast()) }.as_str().unwrap_or_default()
    }

    /// The n-th name among locals, cells and free variables.
    pub fn local_name(self, index: usize) -> Option<Obj<'a>> {
        // SAFETY: co_localsplusnames is a tuple that the code object keeps alive.
        unsafe { tuple_item(self.raw().co_localsplusnames.cast(), index) }
    }

    /// Address of the first code unit, for turning instruction pointers into offsets.
    #[inline]
    pub(super) fn first_unit(self) -> usize {
        (&raw const self.raw().co_code_adaptive) as usize
    }

    /// Number of slots before the operand stack of a frame.
    #[inline]
    pub(super) fn locals(self) -> usize {
        self.raw().co_nlocalsplus as usize
    }

    /// How many arguments it takes by position; `None` where it takes others, too.
    pub fn plain_arguments(self) -> Option<usize> {
        const VARIABLE: c_int = 0x4 | 0x8;
        let raw = self.raw();
        let plain = raw.co_flags & VARIABLE == 0 && raw.co_kwonlyargcount == 0;
        plain.then_some(raw.co_argcount as usize)
    }

    /// From now on its returns are observed: what it returns is kept. True when they
    /// were not before.
    pub fn observe_returns(self, table: &Table) -> bool {
        if table.returns.replace(true) || self.raw().co_flags & GENERATOR != 0 {
            return false;
        }
        for cell in &table.instructions {
            let one = cell.get();
            if opcode_name(one.opcode).starts_with("RETURN_") {
                cell.set(Instruction { op: Op::KeepResult, ..one });
            }
        }
        true
    }

    /// The static table; made at the first call. `None` only without memory.
    #[inline]
    pub fn table(self) -> Option<&'a Table> {
        let index = *EXTRA_INDEX.get()?;
        let mut extra = std::ptr::null_mut();
        // SAFETY: a live code object and an index that we requested.
        unsafe { PyUnstable_Code_GetExtra(self.0.as_ptr(), index, &mut extra) };
        if extra.is_null() {
            extra = self.make_table(index)?;
        }
        // SAFETY: stored by `make_table`, freed with the code object.
        Some(unsafe { &*extra.cast::<Table>() })
    }

    /// The number of this code, which is that of equal code: what a worker compiles
    /// itself (`exec`) is a new object in each execution.
    fn id(self, units: &[u8]) -> u32 {
        use std::hash::{Hash, Hasher};
        let mut hasher = rustc_hash::FxHasher::default();
        units.hash(&mut hasher);
        (self.filename(), self.plain_name(), self.raw().co_firstlineno).hash(&mut hasher);
        let mut ids = IDS.lock();
        let ids = ids.get_or_insert_default();
        let next = ids.len() as u32;
        *ids.entry(hasher.finish()).or_insert(next)
    }

    /// Marks the loads of globals whose names are those of known builtins.
    fn find_guards(self, instructions: &mut [Instruction]) -> Vec<Guard> {
        let functions = FUNCTIONS.get().map(Vec::as_slice).unwrap_or_default();
        let mut guards = vec![];
        for (unit, one) in instructions.iter_mut().enumerate() {
            let name = self.name(one.arg as usize >> 1).filter(|_| one.op == Op::LoadGlobal);
            let name = name.and_then(Obj::as_str);
            if functions.iter().any(|(known, ..)| Some(*known) == name.as_deref()) {
                one.op = Op::LoadBuiltin;
                guards.push(Guard { unit, found: Cell::new(Loaded::Nothing) });
            }
        }
        guards
    }

    /// Decides which instructions need no observing, from what the guards have found
    /// so far. True when one that did not need it before does so now.
    #[cold]
    fn silence(self, table: &Table) -> bool {
        let (Some(opcodes), Some(bytecode)) = (OPCODES.get(), self.bytecode()) else {
            return false;
        };
        let names = (0..).map_while(|index| self.name(index)).filter_map(Obj::as_str);
        let introspective = names.into_iter().any(|name| flow::INTROSPECTIVE.contains(&&*name));
        if introspective {
            return false;
        }
        let handlers = self.handlers();
        // SAFETY: a bytes object.
        let analysis = opcodes.analyse(unsafe { bytes_of(bytecode.borrow()) }, &handlers);
        let steps = analysis.steps(&handlers);
        let about = About {
            code: self,
            analysis: &analysis,
            guards: &table.guards,
            keeps_locals: self.raw().co_flags & GENERATOR == 0,
        };
        let mut louder = false;
        for ((one, step), extent) in
            analysis.decoded.iter().zip(&steps).zip(flow::quiet(&steps, &about))
        {
            let Some(cell) = table.instructions.get(Analysis::unit(one)) else { continue };
            let now = cell.get();
            let op = match extent {
                Extent::Nothing => Op::Irrelevant,
                Extent::Elements => Op::CallOnOwn,
                Extent::All => step.op,
            };
            let decided = matches!(now.op, Op::LoadBuiltin) || step.op == Op::Suspend;
            if now.op != op && !decided {
                louder |= now.op == Op::Irrelevant;
                cell.set(Instruction { op, ..now });
            }
        }
        louder
    }

    /// The plain, unspecialised code, as a bytes object.
    fn bytecode(self) -> Option<Owned> {
        // SAFETY: returns a new bytes object.
        unsafe { Owned::from_new(PyCode_GetCode(self.0.as_ptr())) }
    }

    /// The exception table.
    fn handlers(self) -> Vec<Handler> {
        // SAFETY: co_exceptiontable is a bytes object that the code object keeps alive.
        parse_handlers(unsafe { bytes_of(Obj::from_arg(self.raw().co_exceptiontable.cast())) })
    }

    /// The instruction that stands at this offset is about to load this global. True
    /// when further instructions have to be observed from now on.
    pub fn learn(self, table: &Table, offset: usize, found: Option<Obj<'_>>) -> bool {
        let Some(guard) = table.guards.iter().find(|guard| guard.unit == offset / 2) else {
            return false;
        };
        let functions = FUNCTIONS.get().map(Vec::as_slice).unwrap_or_default();
        let address = found.map(Obj::address);
        let builtin = functions.iter().find(|(_, known, _)| Some(*known) == address);
        let before = guard.found.get();
        let now = match (before, builtin) {
            (Loaded::Nothing, Some((_, _, builtin))) => Loaded::Always(*builtin),
            (Loaded::Always(one), Some((_, _, other))) if one == *other => before,
            _ => Loaded::Different,
        };
        guard.found.set(now);
        now != before && self.silence(table)
    }

    #[cold]
    fn make_table(self, index: ffi::Py_ssize_t) -> Option<*mut c_void> {
        let opcodes = OPCODES.get()?;
        let bytecode = self.bytecode()?;
        // SAFETY: a bytes object lends its buffer for as long as it lives.
        let units = unsafe { bytes_of(bytecode.borrow()) };
        let mut instructions = opcodes.analyse(units, &self.handlers()).table(units.len());
        if self.raw().co_flags & GENERATOR == 0 {
            // Only a generator can be left and entered again.
            let left = instructions.iter_mut().filter(|one| one.op == Op::Suspend);
            left.for_each(|one| one.op = Op::Irrelevant);
        }
        let guards = self.find_guards(&mut instructions);
        let table = Box::new(Table {
            instructions: instructions.into_iter().map(Cell::new).collect(),
            guards,
            locals: self.locals() as u16,
            traced: Cell::new(false),
            inner: Cell::new(None),
            selection: Cell::new(0),
            looks: Cell::new(None),
            returns: Cell::new(false),
            shared: Cell::new(false),
            id: self.id(units),
        });
        self.silence(&table);
        let raw = Box::into_raw(table).cast::<c_void>();
        // SAFETY: a live code object, our own index, and a pointer that `free_table` accepts.
        if unsafe { PyUnstable_Code_SetExtra(self.0.as_ptr(), index, raw) } < 0 {
            // SAFETY: the GIL is held, and nobody else has seen `raw`.
            unsafe {
                ffi::PyErr_Clear();
                free_table(raw);
            }
            return None;
        }
        Some(raw)
    }
}

/// The n-th item of a tuple.
///
/// # Safety
/// `tuple` points to a tuple that stays alive for `'a`.
unsafe fn tuple_item<'a>(tuple: *mut ffi::PyObject, index: usize) -> Option<Obj<'a>> {
    // SAFETY: as the caller promises; the index is checked.
    unsafe {
        let len = ffi::PyTuple_GET_SIZE(tuple) as usize;
        if index >= len {
            return None;
        }
        Obj::from_ptr(ffi::PyTuple_GET_ITEM(tuple, index as ffi::Py_ssize_t))
    }
}

/// The buffer of a bytes object.
///
/// # Safety
/// `object` is a bytes object.
unsafe fn bytes_of(object: Obj<'_>) -> &[u8] {
    // SAFETY: as the caller promises; bytes are immutable.
    unsafe {
        let start = ffi::PyBytes_AsString(object.as_ptr()).cast::<u8>();
        std::slice::from_raw_parts(start, ffi::PyBytes_Size(object.as_ptr()) as usize)
    }
}

/// One row of an exception table: offsets in bytes.
struct Handler {
    start: usize,
    end: usize,
    target: usize,
    depth: i32,
    lasti: bool,
}

impl Handler {
    /// How deep the stack is when the handler begins: its own share, the offset of
    /// the instruction where it needs that, the exception.
    fn entry(&self) -> i32 {
        self.depth + self.lasti as i32 + 1
    }
}

fn parse_handlers(table: &[u8]) -> Vec<Handler> {
    let mut bytes = table.iter().copied();
    let mut varint = || -> Option<usize> {
        let mut byte = bytes.next()?;
        let mut value = (byte & 63) as usize;
        while byte & 64 != 0 {
            byte = bytes.next()?;
            value = value << 6 | (byte & 63) as usize;
        }
        Some(value)
    };
    let mut handlers = vec![];
    while let Some(start) = varint() {
        let (Some(length), Some(target), Some(flags)) = (varint(), varint(), varint()) else {
            break;
        };
        handlers.push(Handler {
            start: start * 2,
            end: (start + length) * 2,
            target: target * 2,
            depth: (flags >> 1) as i32,
            lasti: flags & 1 == 1,
        });
    }
    handlers
}

/// A decoded instruction: its prefixes start at `start`, it stands at `offset`.
struct Decoded {
    start: usize,
    offset: usize,
    opcode: u8,
    arg: u32,
    next: usize,
}

impl Opcodes {
    fn read() -> Result<Opcodes> {
        let module = import(c"opcode")?;
        let mut this = Opcodes {
            ops: [Op::Irrelevant; 256],
            moves: [Move::Unknown; 256],
            names: vec![String::new(); 256],
            caches: [0; 256],
            has_arg: [false; 256],
            jump: [Jump::None; 256],
            stops: [false; 256],
            breaks: [false; 256],
            extended_arg: 0,
            return_generator: 0,
            precall: None,
            call: 0,
            resume: 0,
        };
        let opmap = attribute(module.borrow(), c"opmap")?;
        // A frozendict on 3.15: copied into a plain dict first.
        let opmap = as_dict(opmap.borrow())?;
        for (name, number) in dict_items(opmap.borrow()) {
            let (Some(name), Some(number)) = (name.as_str(), number.as_i64()) else { continue };
            // Numbers from 256 on are the compiler's pseudo-instructions.
            let Ok(number) = u8::try_from(number) else { continue };
            let slot = number as usize;
            this.moves[slot] = Move::named(&name);
            this.ops[slot] = Op::named(&name).unwrap_or(Op::Irrelevant);
            match name.as_str() {
                "EXTENDED_ARG" => this.extended_arg = number,
                "RETURN_GENERATOR" => this.return_generator = number,
                "PRECALL" => this.precall = Some(number),
                "CALL" => this.call = number,
                "RESUME" => this.resume = number,
                _ => {}
            }
            this.stops[slot] = matches!(
                name.as_str(),
                "RETURN_VALUE"
                    | "RETURN_CONST"
                    | "RERAISE"
                    | "RAISE_VARARGS"
                    | "JUMP_FORWARD"
                    | "JUMP_BACKWARD"
                    | "JUMP_BACKWARD_NO_INTERRUPT"
                    | "INTERPRETER_EXIT"
            );
            // Those with CHECK_EVAL_BREAKER in Python/ceval.c (3.11), Python/bytecodes.c.
            this.breaks[slot] = matches!(
                name.as_str(),
                "RESUME" | "JUMP_BACKWARD" | "CALL" | "CALL_KW" | "CALL_FUNCTION_EX"
            ) || name.starts_with("POP_JUMP_BACKWARD_IF");
            this.names[slot] = name;
        }
        if this.names[this.call as usize] != "CALL" {
            return Err(error::runtime_error("the module `opcode` does not list the opcodes"));
        }
        this.read_caches(module.borrow())?;
        this.read_jumps(module.borrow())?;
        Ok(this)
    }

    /// `_inline_cache_entries`: a list by number up to 3.12, a dict by name from 3.13 on.
    fn read_caches(&mut self, module: Obj<'_>) -> Result<()> {
        let entries = attribute(module, c"_inline_cache_entries")?;
        let by_name = as_dict(entries.borrow());
        if by_name.is_err() {
            drop(error::take());
        }
        for (name, count) in by_name.iter().flat_map(|dict| dict_items(dict.borrow())) {
            let number = self.names.iter().position(|n| Some(n) == name.as_str().as_ref());
            if let (Some(number), Some(count)) = (number, count.as_i64()) {
                self.caches[number] = count as u8;
            }
        }
        for (number, count) in list_items(entries.borrow()).enumerate().take(256) {
            self.caches[number] = count.as_i64().unwrap_or(0) as u8;
        }
        Ok(())
    }

    fn read_jumps(&mut self, module: Obj<'_>) -> Result<()> {
        let relative = attribute(module, c"hasjrel")?;
        for number in list_items(relative.borrow()).filter_map(Obj::as_i64) {
            let Ok(slot) = usize::try_from(number) else { continue };
            if slot >= 256 || self.names[slot] == "END_ASYNC_FOR" {
                continue;
            }
            let backward = self.names[slot].contains("JUMP_BACKWARD");
            self.jump[slot] = if backward { Jump::Backward } else { Jump::Forward };
        }
        let absolute = attribute(module, c"hasjabs")?;
        for number in list_items(absolute.borrow()).filter_map(Obj::as_i64) {
            if let Some(slot) = self.jump.get_mut(number as usize) {
                *slot = Jump::Absolute;
            }
        }
        if cfg!(Py_3_12) {
            let with_arg = attribute(module, c"hasarg")?;
            for number in list_items(with_arg.borrow()).filter_map(Obj::as_i64) {
                if let Some(slot) = self.has_arg.get_mut(number as usize) {
                    *slot = true;
                }
            }
        } else {
            let first = attribute(module, c"HAVE_ARGUMENT")?.borrow().as_i64().ok_or(Raised)?;
            self.has_arg[first as usize..].fill(true);
        }
        Ok(())
    }

    fn decode(&self, code: &[u8]) -> Vec<Decoded> {
        let mut decoded = Vec::with_capacity(code.len() / 2);
        let (mut at, mut start, mut prefix) = (0, None, 0u32);
        while at + 1 < code.len() {
            let opcode = code[at];
            let arg = prefix | code[at + 1] as u32;
            let first = *start.get_or_insert(at);
            if opcode == self.extended_arg {
                prefix = arg << 8;
                at += 2;
                continue;
            }
            let next = at + 2 + 2 * self.caches[opcode as usize] as usize;
            decoded.push(Decoded { start: first, offset: at, opcode, arg, next });
            (at, start, prefix) = (next, None, 0);
        }
        decoded
    }

    fn stack_effect(&self, opcode: u8, arg: u32, jump: bool) -> i32 {
        if opcode == self.return_generator {
            return 1;
        }
        if let Some(precall) = self.precall {
            // 3.11's numbers speak of the pair PRECALL and CALL.
            if opcode == precall {
                return 0;
            }
            if opcode == self.call {
                return -(arg as i32) - 1;
            }
        }
        let arg = if self.has_arg[opcode as usize] { arg as c_int } else { 0 };
        // SAFETY: a pure function of its arguments.
        unsafe { PyCompile_OpcodeStackEffectWithJump(opcode as c_int, arg, jump as c_int) }
    }

    /// Where an instruction may jump to: an offset in bytes.
    fn jump_target(&self, instruction: &Decoded) -> Option<usize> {
        let (next, distance) = (instruction.next, 2 * instruction.arg as usize);
        match self.jump[instruction.opcode as usize] {
            Jump::None => None,
            Jump::Forward => Some(next + distance),
            Jump::Backward => Some(next.wrapping_sub(distance)),
            Jump::Absolute => Some(distance),
        }
    }

    /// Finds the depth of the stack at each instruction: abstract interpretation
    /// over all jumps and exception handlers.
    fn analyse(&self, code: &[u8], handlers: &[Handler]) -> Analysis {
        let decoded = self.decode(code);
        let mut by_offset = vec![usize::MAX; code.len() / 2 + 1];
        for (index, instruction) in decoded.iter().enumerate() {
            by_offset[instruction.start / 2] = index;
            by_offset[instruction.offset / 2] = index;
        }
        let mut depths = vec![None::<i32>; decoded.len()];
        let mut entered = vec![false; handlers.len()];
        let mut work = vec![(0usize, 0i32)];
        while let Some((at, depth)) = work.pop() {
            let index = by_offset.get(at / 2).copied().unwrap_or(usize::MAX);
            if index == usize::MAX || depths[index].is_some() {
                continue;
            }
            depths[index] = Some(depth);
            let Decoded { offset, opcode, arg, next, .. } = decoded[index];
            for (handler, seen) in handlers.iter().zip(&mut entered) {
                if (handler.start..handler.end).contains(&offset) && !*seen {
                    *seen = true;
                    work.push((handler.target, handler.entry()));
                }
            }
            if let Some(target) = self.jump_target(&decoded[index]) {
                work.push((target, depth + self.stack_effect(opcode, arg, true)));
            }
            if !self.stops[opcode as usize] {
                work.push((next, depth + self.stack_effect(opcode, arg, false)));
            }
        }
        Analysis { decoded, depths, by_offset }
    }
}

/// The instructions of a code object, and how deep the stack is before each.
struct Analysis {
    decoded: Vec<Decoded>,
    depths: Vec<Option<i32>>,
    /// Index of the instruction, by code unit.
    by_offset: Vec<usize>,
}

impl Analysis {
    /// Where an instruction is reported: 3.11 at its first prefix, 3.12+ at itself.
    fn unit(instruction: &Decoded) -> usize {
        (if cfg!(Py_3_12) { instruction.offset } else { instruction.start }) / 2
    }

    /// One entry for each code unit.
    fn table(&self, bytes: usize) -> Vec<Instruction> {
        let opcodes = OPCODES.get().expect("init has run");
        let blank = Instruction { op: Op::Irrelevant, opcode: 0, depth: UNKNOWN, arg: 0 };
        let mut table = vec![blank; bytes / 2];
        for (instruction, depth) in self.decoded.iter().zip(&self.depths) {
            table[Self::unit(instruction)] = Instruction {
                op: opcodes.ops[instruction.opcode as usize],
                opcode: instruction.opcode,
                depth: depth.and_then(|d| u16::try_from(d).ok()).unwrap_or(UNKNOWN),
                arg: instruction.arg,
            };
        }
        table
    }

    /// As the analysis of values wants them.
    fn steps(&self, handlers: &[Handler]) -> Vec<Step> {
        let opcodes = OPCODES.get().expect("init has run");
        let target = |offset: usize, depth: i32| {
            let step = *self.by_offset.get(offset / 2)?;
            let depth = u16::try_from(depth).ok()?;
            (step != usize::MAX).then_some(Target { step, depth })
        };
        let step = |(one, depth): (&Decoded, &Option<i32>)| {
            let (opcode, arg) = (one.opcode, one.arg);
            let after = |jumps| depth.map(|depth| depth + opcodes.stack_effect(opcode, arg, jumps));
            let stops = opcodes.stops[opcode as usize];
            let handler = handlers.iter().find(|it| (it.start..it.end).contains(&one.offset));
            Step {
                op: opcodes.ops[opcode as usize],
                moves: opcodes.moves[opcode as usize],
                arg,
                next: after(false).filter(|_| !stops).and_then(|depth| target(one.next, depth)),
                jump: opcodes.jump_target(one).and_then(|to| target(to, after(true)?)),
                handler: handler
                    .and_then(|it| Some((target(it.target, it.entry())?, it.depth as u16))),
            }
        };
        self.decoded.iter().zip(&self.depths).map(step).collect()
    }
}

/// What the analysis of values may ask about a code object.
struct About<'a> {
    code: Code<'a>,
    analysis: &'a Analysis,
    guards: &'a [Guard],
    keeps_locals: bool,
}

impl Facts for About<'_> {
    fn constant(&self, index: u32) -> Value {
        // SAFETY: co_consts is a tuple that the code object keeps alive.
        let found = unsafe { tuple_item(self.code.raw().co_consts.cast(), index as usize) };
        found.map_or(Value::Any, value_of_constant)
    }

    fn name(&self, index: u32) -> String {
        self.code.name(index as usize).and_then(Obj::as_str).unwrap_or_default()
    }

    fn global(&self, step: usize) -> Value {
        let unit = Analysis::unit(&self.analysis.decoded[step]);
        match self.guards.iter().find(|guard| guard.unit == unit).map(|guard| guard.found.get()) {
            Some(Loaded::Always(builtin)) if self.keeps_locals => Value::Builtin(builtin),
            _ => Value::Any,
        }
    }

    fn keeps_locals(&self) -> bool {
        self.keeps_locals
    }

    fn locals(&self) -> usize {
        self.code.locals()
    }
}

fn value_of_constant(constant: Obj<'_>) -> Value {
    let t = super::types::types();
    let is_one_of =
        |types: &[*mut ffi::PyTypeObject]| types.iter().any(|tp| constant.is_exactly(*tp));
    if is_one_of(&[t.int, t.float, t.bool]) {
        Value::Number
    } else if is_one_of(&[t.str, t.none]) {
        Value::Atom
    } else if constant.is_exactly(t.bytes) {
        Value::Plain
    } else if constant.is_exactly(t.tuple) {
        let plain = |item| value_of_constant(item) != Value::Any;
        if list_items(constant).all(plain) { Value::Plain } else { Value::Any }
    } else {
        Value::Any
    }
}

/// `import name`.
pub fn import(name: &CStr) -> Result<Owned> {
    // SAFETY: a NUL-terminated name; the result is a new reference or NULL.
    unsafe { error::check(ffi::PyImport_ImportModule(name.as_ptr())) }
}

/// `getattr(object, name)`.
pub fn attribute(object: Obj<'_>, name: &CStr) -> Result<Owned> {
    // SAFETY: a live object and a NUL-terminated name.
    unsafe { error::check(ffi::PyObject_GetAttrString(object.as_ptr(), name.as_ptr())) }
}

/// `sys.modules`.
pub fn modules<'a>() -> Option<Obj<'a>> {
    // SAFETY: a borrowed reference that the interpreter keeps.
    unsafe { Obj::from_ptr(ffi::PyImport_GetModuleDict()) }
}

/// A plain dict with the items of any mapping.
fn as_dict(mapping: Obj<'_>) -> Result<Owned> {
    // SAFETY: live objects; PyDict_Update takes any mapping.
    unsafe {
        let dict = error::check(ffi::PyDict_New())?;
        if ffi::PyDict_Update(dict.borrow().as_ptr(), mapping.as_ptr()) < 0 {
            return Err(Raised);
        }
        Ok(dict)
    }
}

/// The items of a dict; nothing for other objects.
pub fn dict_items<'a>(dict: Obj<'a>) -> impl Iterator<Item = (Obj<'a>, Obj<'a>)> {
    let mut position = 0;
    // SAFETY: PyDict_Check only reads the type's flags.
    let is_dict = unsafe { ffi::PyDict_Check(dict.as_ptr()) } != 0;
    std::iter::from_fn(move || {
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a dict that the caller does not change meanwhile.
        let more = is_dict
            && unsafe { ffi::PyDict_Next(dict.as_ptr(), &mut position, &mut key, &mut value) } != 0;
        // SAFETY: both are borrowed from the dict.
        more.then(|| unsafe { (Obj::from_arg(key), Obj::from_arg(value)) })
    })
}

/// The items of a list or tuple; nothing for other objects.
pub fn list_items<'a>(list: Obj<'a>) -> impl Iterator<Item = Obj<'a>> {
    let mut index = 0;
    std::iter::from_fn(move || {
        // SAFETY: the checks read type flags only; the index is checked each time.
        unsafe {
            let ptr = list.as_ptr();
            let item = if ffi::PyList_Check(ptr) != 0 && index < ffi::PyList_GET_SIZE(ptr) {
                ffi::PyList_GET_ITEM(ptr, index)
            } else if ffi::PyTuple_Check(ptr) != 0 && index < ffi::PyTuple_GET_SIZE(ptr) {
                ffi::PyTuple_GET_ITEM(ptr, index)
            } else {
                return None;
            };
            index += 1;
            Obj::from_ptr(item)
        }
    })
}

/// Code objects by the number of their table, kept alive for explanations.
static KNOWN: Mutex<FxHashMap<u32, Owned>> = Mutex::new(FxHashMap::with_hasher(FxBuildHasher));

/// Keeps a code object, to be found by the number of its table.
pub fn remember(code: Code<'_>, id: u32) {
    KNOWN.lock().entry(id).or_insert_with(|| code.as_obj().own());
}

/// The code object whose table has this number, if it was kept.
pub fn known(id: u32) -> Option<Owned> {
    KNOWN.lock().get(&id).cloned()
}

/// Was any code kept?
pub fn any_known() -> bool {
    !KNOWN.lock().is_empty()
}

/// Lets all kept code objects go.
pub fn forget_known() {
    let all = std::mem::take(&mut *KNOWN.lock());
    drop(all);
}
