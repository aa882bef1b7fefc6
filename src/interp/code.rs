//! Code objects: decoding, the depth of the operand stack at each instruction,
//! and the static table that hangs on each code object.
//!
//! CPython sources: `Python/compile.c` (stack effects), `Objects/exception_handling_notes.txt`
//! (exception table), `Lib/dis.py` (decoding).

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;

use parking_lot::Mutex;
use pyo3_ffi as ffi;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::error::{self, Raised, Result};
use super::layout::PyCodeObject;
use super::object::{Obj, Owned};
use crate::observe::opcodes::Op;

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
    pub instructions: Vec<Instruction>,
    /// Number of fast locals, cells and free variables before the operands.
    pub locals: u16,
    /// Is the file one that is traced?
    pub traced: Cell<bool>,
    /// Which selection of files `traced` was decided for.
    pub selection: Cell<u32>,
    /// A number that equal code shares, in the order of discovery.
    pub id: u32,
}

/// Numbers of the running interpreter, read from its `opcode` module.
struct Opcodes {
    ops: [Op; 256],
    names: Vec<String>,
    caches: [u8; 256],
    has_arg: [bool; 256],
    jump: [Jump; 256],
    stops: [bool; 256],
    extended_arg: u8,
    return_generator: u8,
    precall: Option<u8>,
    call: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Jump {
    None,
    Forward,
    Backward,
    Absolute,
}

static OPCODES: OnceLock<Opcodes> = OnceLock::new();
static EXTRA_INDEX: OnceLock<ffi::Py_ssize_t> = OnceLock::new();

/// Numbers of code, by digest of its contents, in the whole process.
static IDS: Mutex<Option<FxHashMap<u64, u32>>> = Mutex::new(None);

/// Reads the opcode numbers and reserves the slot of the tables. Called once,
/// at import.
pub fn init() -> Result<()> {
    let opcodes = Opcodes::read()?;
    let _ = OPCODES.set(opcodes);
    // SAFETY: `free_table` frees what `table` stores under this index.
    let index = unsafe { request_extra_index(free_table) };
    if index < 0 {
        return Err(error::runtime_error("no free slot for data on code objects"));
    }
    let _ = EXTRA_INDEX.set(index);
    Ok(())
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

    /// The n-th of `co_names`.
    #[inline]
    pub fn name(self, index: usize) -> Option<Obj<'a>> {
        // SAFETY: co_names is a tuple that the code object keeps alive.
        unsafe { tuple_item(self.raw().co_names.cast(), index) }
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

    /// `co_name`, as text.
    pub fn plain_name(self) -> String {
        // SAFETY: co_name is a str that the code object keeps alive.
        unsafe { Obj::from_arg(self.raw().co_name.cast()) }.as_str().unwrap_or_default()
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

    #[cold]
    fn make_table(self, index: ffi::Py_ssize_t) -> Option<*mut c_void> {
        let opcodes = OPCODES.get()?;
        // SAFETY: returns a new bytes object with the plain, unspecialised code.
        let bytecode = unsafe { Owned::from_new(PyCode_GetCode(self.0.as_ptr())) }?;
        // SAFETY: a bytes object lends its buffer for as long as it lives.
        let units = unsafe { bytes_of(bytecode.borrow()) };
        // SAFETY: co_exceptiontable is a bytes object that the code object keeps alive.
        let handlers = unsafe { bytes_of(Obj::from_arg(self.raw().co_exceptiontable.cast())) };
        let mut instructions = opcodes.analyse(units, &parse_handlers(handlers));
        if self.raw().co_flags & GENERATOR == 0 {
            // Only a generator can be left and entered again.
            let left = instructions.iter_mut().filter(|one| one.op == Op::Suspend);
            left.for_each(|one| one.op = Op::Irrelevant);
        }
        let table = Box::new(Table {
            instructions,
            locals: self.locals() as u16,
            traced: Cell::new(false),
            selection: Cell::new(0),
            id: self.id(units),
        });
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
            names: vec![String::new(); 256],
            caches: [0; 256],
            has_arg: [false; 256],
            jump: [Jump::None; 256],
            stops: [false; 256],
            extended_arg: 0,
            return_generator: 0,
            precall: None,
            call: 0,
        };
        let opmap = attribute(module.borrow(), c"opmap")?;
        // A frozendict on 3.15: copied into a plain dict first.
        let opmap = as_dict(opmap.borrow())?;
        for (name, number) in dict_items(opmap.borrow()) {
            let (Some(name), Some(number)) = (name.as_str(), number.as_i64()) else { continue };
            // Numbers from 256 on are the compiler's pseudo-instructions.
            let Ok(number) = u8::try_from(number) else { continue };
            let slot = number as usize;
            this.ops[slot] = Op::named(&name).unwrap_or(Op::Irrelevant);
            match name.as_str() {
                "EXTENDED_ARG" => this.extended_arg = number,
                "RETURN_GENERATOR" => this.return_generator = number,
                "PRECALL" => this.precall = Some(number),
                "CALL" => this.call = number,
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

    /// The table of a code object: abstract interpretation of the stack's depth
    /// over all jumps and exception handlers.
    fn analyse(&self, code: &[u8], handlers: &[Handler]) -> Vec<Instruction> {
        let blank = Instruction { op: Op::Irrelevant, opcode: 0, depth: UNKNOWN, arg: 0 };
        let mut table = vec![blank; code.len() / 2];
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
                    work.push((handler.target, handler.depth + handler.lasti as i32 + 1));
                }
            }
            let target = match self.jump[opcode as usize] {
                Jump::None => None,
                Jump::Forward => Some(next + 2 * arg as usize),
                Jump::Backward => Some(next.wrapping_sub(2 * arg as usize)),
                Jump::Absolute => Some(2 * arg as usize),
            };
            if let Some(target) = target {
                work.push((target, depth + self.stack_effect(opcode, arg, true)));
            }
            if !self.stops[opcode as usize] {
                work.push((next, depth + self.stack_effect(opcode, arg, false)));
            }
        }
        for (instruction, depth) in decoded.iter().zip(depths) {
            // 3.11 reports an instruction at its first prefix, 3.12+ at itself.
            let at = if cfg!(Py_3_12) { instruction.offset } else { instruction.start };
            table[at / 2] = Instruction {
                op: self.ops[instruction.opcode as usize],
                opcode: instruction.opcode,
                depth: depth.and_then(|d| u16::try_from(d).ok()).unwrap_or(UNKNOWN),
                arg: instruction.arg,
            };
        }
        table
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
