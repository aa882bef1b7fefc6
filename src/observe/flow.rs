//! What can be told about the operands of a code object before it runs: which
//! are numbers, and which containers nobody but the frame can reach. Abstract
//! interpretation over all jumps and exception handlers, to a fixed point.
//!
//! An instruction with such operands is *quiet*: it touches nothing that another
//! worker could touch in the other order, and need not be observed. A container
//! that is published later stays exact: before another worker can touch it, it
//! must have read the place where it was published, so that no race can reverse
//! what was done before.

use super::opcodes::{Op, common_prefix};
use crate::interp::version;

/// What is known about a value, whichever path led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Any,
    /// The NULL that some call instructions push.
    Null,
    /// It is immutable, of a builtin type, and so is all that is in it.
    Plain,
    /// As `Plain`, and equal to no container: a str, None.
    Atom,
    /// As `Plain`: an int, a float, a complex number, a bool.
    Number,
    /// As `Plain`: a range.
    Range,
    /// An iterator over something `Plain`, on the stack of this frame only.
    Iterator,
    /// An iterator over a range, on the stack of this frame only.
    RangeIterator,
    /// A container that was made by the step of this number, and that only this
    /// frame refers to.
    Own(u32, Shape),
    /// A method of the container of the frame's own that lies above it.
    Method(Method),
    /// A function of the module `builtins`.
    Builtin(Builtin),
}

/// Of a container of the frame's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shape {
    List,
    Dict,
    Set,
    /// `keys()`, `values()`, `items()`.
    View,
    Iterator,
}

/// What a method of a container touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The container only.
    Inside,
    /// The arguments, too.
    Arguments,
    /// Nothing yet: it gives a view of the container.
    View,
}

/// What a builtin function does with its arguments, and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// `len`.
    Length,
    /// `range`.
    Range,
    /// Gives numbers for numbers, and something plain for what is plain.
    Numeric,
    /// Gives something plain for what is plain.
    Pure,
    /// Iterates over its argument.
    Fold,
    /// Makes a container of the elements of its argument.
    Make(Shape),
}

/// The functions whose results are known.
pub const BUILTINS: &[(&str, Builtin)] = &[
    ("dict", Builtin::Make(Shape::Dict)),
    ("list", Builtin::Make(Shape::List)),
    ("set", Builtin::Make(Shape::Set)),
    ("sorted", Builtin::Make(Shape::List)),
    ("all", Builtin::Fold),
    ("any", Builtin::Fold),
    ("sum", Builtin::Fold),
    ("len", Builtin::Length),
    ("range", Builtin::Range),
    ("abs", Builtin::Numeric),
    ("float", Builtin::Numeric),
    ("int", Builtin::Numeric),
    ("max", Builtin::Numeric),
    ("min", Builtin::Numeric),
    ("pow", Builtin::Numeric),
    ("round", Builtin::Numeric),
    ("bool", Builtin::Pure),
    ("chr", Builtin::Pure),
    ("divmod", Builtin::Pure),
    ("hex", Builtin::Pure),
    ("ord", Builtin::Pure),
    ("str", Builtin::Pure),
];

/// Code that uses one of these names may look at the locals of a frame.
pub const INTROSPECTIVE: &[&str] =
    &["locals", "vars", "dir", "eval", "exec", "_getframe", "currentframe", "f_locals"];

/// What an instruction does to the stack and the locals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Move {
    /// Nothing.
    Nothing,
    /// Pushes what nothing is known of, or pops.
    Plainly,
    /// Pops, and lets others reach what it popped.
    Publish,
    /// Takes at most so many operands, and pushes what nothing is known of.
    Mix(u8),
    /// Does anything with the whole stack.
    Unknown,
    LoadConst,
    LoadSmallInt,
    LoadFast,
    LoadFastLoadFast,
    LoadFastAndClear,
    StoreFast,
    StoreFastLoadFast,
    StoreFastStoreFast,
    ForgetLocal,
    PushNull,
    Copy,
    Swap,
    LoadGlobal,
    LoadAttr,
    LoadMethod,
    KeywordNames,
    Call,
    CallKw,
    MakeList,
    MakeSet,
    MakeMap,
    MakeConstKeyMap,
    MakeTuple,
    MakeString,
    Unary,
    Not,
    Test,
    Binary,
    Compare,
    Answer,
    Contains,
    Truth,
    Format,
    Subscript,
    Slice,
    StoreSubscript,
    StoreSlice,
    DeleteSubscript,
    Add,
    Extend,
    Unpack,
    GetIter,
    ForIter,
}

/// What each opcode does; one that is missing is `Unknown`, which is always right.
const MOVES: &[(&str, Move)] = &[
    ("BEFORE_WITH", Move::Mix(1)),
    ("BINARY_OP", Move::Binary),
    ("BINARY_SLICE", Move::Slice),
    ("BINARY_SUBSCR", Move::Subscript),
    ("BUILD_CONST_KEY_MAP", Move::MakeConstKeyMap),
    ("BUILD_LIST", Move::MakeList),
    ("BUILD_MAP", Move::MakeMap),
    ("BUILD_SET", Move::MakeSet),
    ("BUILD_SLICE", Move::Mix(3)),
    ("BUILD_STRING", Move::MakeString),
    ("BUILD_TUPLE", Move::MakeTuple),
    ("CACHE", Move::Nothing),
    ("CALL", Move::Call),
    ("CALL_FUNCTION_EX", Move::Mix(4)),
    ("CALL_INTRINSIC_1", Move::Mix(1)),
    ("CALL_KW", Move::CallKw),
    ("CHECK_EXC_MATCH", Move::Mix(2)),
    ("COMPARE_OP", Move::Compare),
    ("CONTAINS_OP", Move::Contains),
    ("CONVERT_VALUE", Move::Format),
    ("COPY", Move::Copy),
    ("COPY_FREE_VARS", Move::Nothing),
    ("DELETE_DEREF", Move::Nothing),
    ("DELETE_FAST", Move::ForgetLocal),
    ("DELETE_SUBSCR", Move::DeleteSubscript),
    ("DICT_MERGE", Move::Extend),
    ("DICT_UPDATE", Move::Extend),
    ("END_FOR", Move::Plainly),
    ("FORMAT_SIMPLE", Move::Format),
    ("FORMAT_VALUE", Move::Format),
    ("FORMAT_WITH_SPEC", Move::Format),
    ("FOR_ITER", Move::ForIter),
    ("GET_ITER", Move::GetIter),
    ("IMPORT_FROM", Move::Plainly),
    ("IMPORT_NAME", Move::Mix(2)),
    ("IS_OP", Move::Answer),
    ("JUMP_BACKWARD", Move::Nothing),
    ("JUMP_BACKWARD_NO_INTERRUPT", Move::Nothing),
    ("JUMP_FORWARD", Move::Nothing),
    ("JUMP_IF_FALSE_OR_POP", Move::Test),
    ("JUMP_IF_TRUE_OR_POP", Move::Test),
    ("KW_NAMES", Move::KeywordNames),
    ("LIST_APPEND", Move::Add),
    ("LIST_EXTEND", Move::Extend),
    ("LOAD_ASSERTION_ERROR", Move::Plainly),
    ("LOAD_ATTR", Move::LoadAttr),
    ("LOAD_BUILD_CLASS", Move::Plainly),
    ("LOAD_CLOSURE", Move::Plainly),
    ("LOAD_COMMON_CONSTANT", Move::Plainly),
    ("LOAD_CONST", Move::LoadConst),
    ("LOAD_DEREF", Move::Plainly),
    ("LOAD_FAST", Move::LoadFast),
    ("LOAD_FAST_AND_CLEAR", Move::LoadFastAndClear),
    ("LOAD_FAST_BORROW", Move::LoadFast),
    ("LOAD_FAST_BORROW_LOAD_FAST_BORROW", Move::LoadFastLoadFast),
    ("LOAD_FAST_CHECK", Move::LoadFast),
    ("LOAD_FAST_LOAD_FAST", Move::LoadFastLoadFast),
    ("LOAD_GLOBAL", Move::LoadGlobal),
    ("LOAD_METHOD", Move::LoadMethod),
    ("LOAD_NAME", Move::Plainly),
    ("LOAD_SMALL_INT", Move::LoadSmallInt),
    ("LOAD_SPECIAL", Move::Mix(1)),
    ("LOAD_SUPER_ATTR", Move::Mix(3)),
    ("MAKE_CELL", Move::ForgetLocal),
    ("MAKE_FUNCTION", Move::Mix(5)),
    ("MAP_ADD", Move::Add),
    ("NOP", Move::Nothing),
    ("NOT_TAKEN", Move::Nothing),
    ("POP_EXCEPT", Move::Plainly),
    ("POP_ITER", Move::Plainly),
    ("POP_JUMP_BACKWARD_IF_FALSE", Move::Truth),
    ("POP_JUMP_BACKWARD_IF_NONE", Move::Plainly),
    ("POP_JUMP_BACKWARD_IF_NOT_NONE", Move::Plainly),
    ("POP_JUMP_BACKWARD_IF_TRUE", Move::Truth),
    ("POP_JUMP_FORWARD_IF_FALSE", Move::Truth),
    ("POP_JUMP_FORWARD_IF_NONE", Move::Plainly),
    ("POP_JUMP_FORWARD_IF_NOT_NONE", Move::Plainly),
    ("POP_JUMP_FORWARD_IF_TRUE", Move::Truth),
    ("POP_JUMP_IF_FALSE", Move::Truth),
    ("POP_JUMP_IF_NONE", Move::Plainly),
    ("POP_JUMP_IF_NOT_NONE", Move::Plainly),
    ("POP_JUMP_IF_TRUE", Move::Truth),
    ("POP_TOP", Move::Plainly),
    ("PRECALL", Move::Nothing),
    ("PUSH_EXC_INFO", Move::Mix(1)),
    ("PUSH_NULL", Move::PushNull),
    ("RESUME", Move::Nothing),
    ("RETURN_CONST", Move::Nothing),
    ("RETURN_VALUE", Move::Plainly),
    ("SET_ADD", Move::Add),
    ("SET_FUNCTION_ATTRIBUTE", Move::Mix(2)),
    ("SET_UPDATE", Move::Extend),
    ("STORE_ATTR", Move::Publish),
    ("STORE_DEREF", Move::Publish),
    ("STORE_FAST", Move::StoreFast),
    ("STORE_FAST_LOAD_FAST", Move::StoreFastLoadFast),
    ("STORE_FAST_STORE_FAST", Move::StoreFastStoreFast),
    ("STORE_GLOBAL", Move::Publish),
    ("STORE_NAME", Move::Publish),
    ("STORE_SLICE", Move::StoreSlice),
    ("STORE_SUBSCR", Move::StoreSubscript),
    ("SWAP", Move::Swap),
    ("TO_BOOL", Move::Not),
    ("UNARY_INVERT", Move::Unary),
    ("UNARY_NEGATIVE", Move::Unary),
    ("UNARY_NOT", Move::Not),
    ("UNARY_POSITIVE", Move::Unary),
    ("UNPACK_SEQUENCE", Move::Unpack),
];

/// They are sorted, as the search for one takes for granted: checked when this is compiled.
const _: () = {
    let mut i = 1;
    while i < MOVES.len() {
        let (before, name) = (MOVES[i - 1].0.as_bytes(), MOVES[i].0.as_bytes());
        let same = common_prefix(before, name);
        assert!(same < name.len() && (same == before.len() || before[same] < name[same]));
        i += 1;
    }
};

impl Move {
    /// Of the opcode of this name.
    pub fn named(name: &str) -> Move {
        let found = MOVES.binary_search_by_key(&name, |(known, _)| known);
        found.map_or(Move::Unknown, |index| MOVES[index].1)
    }
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What is observed at it.
    pub op: Op,
    /// What it does to the stack.
    pub moves: Move,
    /// Its whole argument.
    pub arg: u32,
    /// What comes after it, and how deep the stack is there.
    pub next: Option<Target>,
    /// Where it may jump to.
    pub jump: Option<Target>,
    /// Who handles its exceptions. So much of the stack is kept.
    pub handler: Option<(Target, u16)>,
}

/// A step, by number, and the depth of the stack before it.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Target {
    pub step: usize,
    pub depth: u16,
}

/// What the analysis asks about the code object.
pub trait Facts {
    /// A constant.
    fn constant(&self, index: u32) -> Value;
    /// The n-th name.
    fn name(&self, index: u32) -> String;
    /// What the global that the step of this number loads is.
    fn global(&self, step: usize) -> Value;
    /// Can only this frame reach its locals, and only while it runs?
    fn keeps_locals(&self) -> bool;
    /// Number of locals, cells and free variables.
    fn locals(&self) -> usize;
}

/// How much of a step is to be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    All,
    /// What a builtin function asks the elements of the frame's own container.
    Elements,
    /// Nothing.
    Nothing,
}

/// Which of the steps are quiet.
pub fn quiet(steps: &[Step], facts: &impl Facts) -> Vec<Extent> {
    let mut before: Vec<Option<State>> = vec![None; steps.len()];
    let start = State { locals: vec![Value::Any; facts.locals()], stack: vec![] };
    let mut work = vec![0];
    if let Some(first) = before.first_mut() {
        *first = Some(start);
    }
    while let Some(at) = work.pop() {
        let (step, Some(state)) = (&steps[at], before[at].clone()) else { continue };
        let mut join = |target: Target, state: State| {
            let slot = &mut before[target.step];
            let joined = match slot {
                None => Some(state),
                Some(old) => old.join(state),
            };
            if let Some(joined) = joined {
                *slot = Some(joined);
                work.push(target.step);
            }
        };
        let mut after = state.clone();
        let answers = after.step(at, step, facts);
        if let Some((target, kept)) = step.handler {
            // The exception may come before or after the effect.
            for mut raised in [state, after.clone()] {
                raised.stack.truncate(kept as usize);
                join(target, raised.fit(target.depth));
            }
        }
        if let Some(target) = step.jump {
            let mut jumping = after.clone();
            match step.moves {
                // The operand is popped only where it goes on.
                Move::Test => {}
                Move::ForIter => drop(jumping.stack.pop()),
                _ => {}
            }
            join(target, jumping.fit(target.depth));
        }
        if let Some(target) = step.next {
            join(target, after.fit(target.depth));
        }
        let _ = answers;
    }
    let judge = |(at, (step, state)): (usize, (&Step, Option<State>))| {
        let Some(mut state) = state else { return Extent::All };
        let elements = state.goes_into_elements(step);
        match (state.step(at, step, facts), elements) {
            (false, _) => Extent::All,
            (true, true) => Extent::Elements,
            (true, false) => Extent::Nothing,
        }
    };
    steps.iter().zip(before).enumerate().map(judge).collect()
}

/// What is known before a step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    locals: Vec<Value>,
    stack: Vec<Value>,
}

impl Value {
    fn is_plain(self) -> bool {
        matches!(self, Value::Plain | Value::Atom | Value::Number | Value::Range)
    }

    fn is_own(self) -> bool {
        matches!(self, Value::Own(..))
    }

    /// What holds for both.
    fn join(self, other: Value) -> Value {
        let iterates = |value| matches!(value, Value::Iterator | Value::RangeIterator);
        match (self, other) {
            _ if self == other => self,
            _ if self.is_plain() && other.is_plain() => Value::Plain,
            _ if iterates(self) && iterates(other) => Value::Iterator,
            _ => Value::Any,
        }
    }

    /// What iterating over it gives.
    fn element(self) -> Value {
        match self {
            Value::Range | Value::RangeIterator => Value::Number,
            Value::Iterator => Value::Plain,
            value if value.is_plain() => Value::Plain,
            _ => Value::Any,
        }
    }
}

impl State {
    /// What holds in both states, if that is less than in this one.
    fn join(&self, other: State) -> Option<State> {
        let mut joined = self.clone();
        let mut lost = vec![];
        let theirs = other.locals.iter().chain(&other.stack);
        for (mine, theirs) in joined.locals.iter_mut().chain(&mut joined.stack).zip(theirs) {
            let both = mine.join(*theirs);
            // From here on the container is known under another name.
            lost.extend([*mine, *theirs].into_iter().filter(|one| *one != both && one.is_own()));
            *mine = both;
        }
        lost.into_iter().for_each(|one| joined.publish(one));
        (joined != *self).then_some(joined)
    }

    /// Brings the stack to a depth.
    fn fit(mut self, depth: u16) -> State {
        self.stack.resize(depth as usize, Value::Any);
        self
    }

    /// Others may reach this container from now on.
    fn publish(&mut self, value: Value) {
        let Value::Own(lost, _) = value else { return };
        for one in self.locals.iter_mut().chain(&mut self.stack) {
            if matches!(one, Value::Own(site, _) if *site == lost) {
                *one = Value::Any;
            }
        }
    }

    /// The operand so far from the top (1 is the top).
    fn top(&self, from_top: usize) -> Value {
        let index = self.stack.len().checked_sub(from_top);
        index.map_or(Value::Any, |index| self.stack[index])
    }

    fn pop(&mut self) -> Value {
        self.stack.pop().unwrap_or(Value::Any)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    /// Pops so many, which others may reach from now on.
    fn give_away(&mut self, count: usize) {
        for _ in 0..count {
            let value = self.pop();
            self.publish(value);
        }
    }

    fn pop_all_plain(&mut self, count: usize) -> bool {
        let plain = (1..=count).all(|from_top| self.top(from_top).is_plain());
        self.give_away(count);
        plain
    }

    fn local(&self, index: u32) -> Value {
        self.locals.get(index as usize).copied().unwrap_or(Value::Any)
    }

    fn set_local(&mut self, index: u32, value: Value) {
        if let Some(local) = self.locals.get_mut(index as usize) {
            *local = value;
        }
    }

    fn make(&mut self, at: usize, operands: usize, shape: Shape, facts: &impl Facts) {
        self.give_away(operands);
        let own = facts.keeps_locals();
        if own {
            // What an earlier pass of a loop made here has another owner.
            self.publish(Value::Own(at as u32, shape));
        }
        self.push(if own { Value::Own(at as u32, shape) } else { Value::Any });
    }

    /// Takes the step. Is it quiet?
    fn step(&mut self, at: usize, step: &Step, facts: &impl Facts) -> bool {
        let arg = step.arg;
        let count = arg as usize;
        let fast = (arg >> 4, arg & 15);
        match step.moves {
            Move::Nothing | Move::Plainly => return false,
            Move::Publish => {
                let depth = step.next.map_or(0, |next| next.depth as usize);
                self.give_away(self.stack.len().saturating_sub(depth));
            }
            Move::Mix(most) => self.give_away((most as usize).min(self.stack.len())),
            Move::Unknown => self.give_away(self.stack.len()),
            Move::LoadConst => self.push(facts.constant(arg)),
            Move::LoadSmallInt => self.push(Value::Number),
            Move::LoadFast => self.push(self.local(arg)),
            Move::LoadFastLoadFast => {
                self.push(self.local(fast.0));
                self.push(self.local(fast.1));
            }
            Move::LoadFastAndClear => {
                self.push(self.local(arg));
                self.set_local(arg, Value::Any);
            }
            Move::StoreFast => {
                let value = self.pop();
                self.set_local(arg, value);
            }
            Move::StoreFastLoadFast => {
                let value = self.pop();
                self.set_local(fast.0, value);
                self.push(self.local(fast.1));
            }
            Move::StoreFastStoreFast => {
                let value = self.pop();
                self.set_local(fast.0, value);
                let value = self.pop();
                self.set_local(fast.1, value);
            }
            Move::ForgetLocal => self.set_local(arg, Value::Any),
            Move::PushNull => self.push(Value::Null),
            Move::Copy => self.push(self.top(count)),
            Move::Swap => {
                let len = self.stack.len();
                if count > 0 && count <= len {
                    self.stack.swap(len - 1, len - count);
                }
            }
            Move::LoadGlobal => {
                let value = facts.global(at);
                match (arg & 1 == 1, version::NULL_ABOVE_CALLABLE) {
                    (false, _) => self.push(value),
                    (true, true) => self.stack.extend([value, Value::Null]),
                    (true, false) => self.stack.extend([Value::Null, value]),
                }
            }
            Move::LoadAttr => {
                let (name, method) = match version::ATTRIBUTE_HAS_METHOD_BIT {
                    true => (arg >> 1, arg & 1 == 1),
                    false => (arg, false),
                };
                return self.load_attribute(name, method, facts);
            }
            Move::LoadMethod => return self.load_attribute(arg, true, facts),
            Move::KeywordNames => {
                for one in &mut self.stack {
                    if matches!(one, Value::Method(_) | Value::Builtin(_)) {
                        *one = Value::Any;
                    }
                }
            }
            Move::Call => return self.call(at, count, facts),
            Move::CallKw => self.give_away(count + 3),
            Move::MakeList => self.make(at, count, Shape::List, facts),
            Move::MakeSet => self.make(at, count, Shape::Set, facts),
            Move::MakeMap => self.make(at, 2 * count, Shape::Dict, facts),
            Move::MakeConstKeyMap => self.make(at, count + 1, Shape::Dict, facts),
            Move::MakeTuple => {
                let plain = self.pop_all_plain(count);
                self.push(if plain { Value::Plain } else { Value::Any });
            }
            Move::MakeString => {
                self.give_away(count);
                self.push(Value::Atom);
            }
            Move::Unary => {
                let operand = self.pop();
                self.publish(operand);
                self.push(if operand.is_plain() { operand } else { Value::Any });
                return operand.is_plain() || operand.is_own();
            }
            Move::Not => {
                let operand = self.pop();
                self.push(Value::Number);
                return operand.is_plain() || operand.is_own();
            }
            Move::Truth => {
                let operand = self.pop();
                return operand.is_plain() || operand.is_own();
            }
            Move::Test => {
                let operand = self.top(1);
                return operand.is_plain() || operand.is_own();
            }
            Move::Answer => {
                self.pop();
                self.pop();
                self.push(Value::Number);
            }
            Move::Binary => return self.binary(count),
            Move::Compare => return self.compare(arg),
            Move::Contains => {
                let container = self.pop();
                let element = self.pop();
                self.publish(element);
                self.push(Value::Number);
                return container.is_plain() || container.is_own();
            }
            Move::Format => {
                // With a specification there is one more.
                let depth = step.next.map_or(1, |next| next.depth as usize);
                let taken = (self.stack.len() + 1).saturating_sub(depth);
                let plain = self.pop_all_plain(taken);
                self.push(if plain { Value::Atom } else { Value::Any });
                return plain;
            }
            Move::Subscript => return self.subscript(),
            Move::Slice => {
                self.give_away(2);
                let container = self.pop();
                self.push(if container.is_plain() { container } else { Value::Any });
                return container.is_plain() || container.is_own();
            }
            Move::StoreSubscript => {
                let (key, container) = (self.pop(), self.pop());
                let value = self.pop();
                self.publish(key);
                self.publish(value);
                return match container {
                    Value::Own(_, Shape::Dict) => true,
                    // Slices read what they are given.
                    Value::Own(..) => key == Value::Number || value.is_plain(),
                    _ => false,
                };
            }
            Move::StoreSlice => {
                self.give_away(2);
                let (container, value) = (self.pop(), self.pop());
                self.publish(value);
                return container.is_own() && value.is_plain();
            }
            Move::DeleteSubscript => {
                let (key, container) = (self.pop(), self.pop());
                self.publish(key);
                return container.is_own();
            }
            Move::Add => {
                let depth = step.next.map_or(0, |next| next.depth as usize);
                self.give_away(self.stack.len().saturating_sub(depth));
            }
            Move::Extend => {
                let source = self.pop();
                return source.is_plain() || source.is_own();
            }
            Move::Unpack => {
                let source = self.pop();
                (0..count).for_each(|_| self.push(source.element()));
                return source.is_plain() || source.is_own();
            }
            Move::GetIter => {
                let source = self.pop();
                let iterator = match source {
                    Value::Range => Value::RangeIterator,
                    Value::Own(site, _) => Value::Own(site, Shape::Iterator),
                    value if value.is_plain() => Value::Iterator,
                    _ => Value::Any,
                };
                self.push(iterator);
                if version::VIRTUAL_ITERATORS {
                    self.push(Value::Null);
                }
                return iterator != Value::Any;
            }
            Move::ForIter => {
                let iterator = self.top(1 + version::VIRTUAL_ITERATORS as usize);
                self.push(iterator.element());
                let quiet = matches!(iterator, Value::Iterator | Value::RangeIterator);
                return quiet || iterator.is_own();
            }
        }
        false
    }

    /// Is it a call of a builtin function with one container of the frame's own?
    fn goes_into_elements(&self, step: &Step) -> bool {
        let is_builtin = |value| {
            use Builtin::{Fold, Make, Numeric};
            matches!(value, Value::Builtin(Fold | Numeric | Make(_)))
        };
        step.moves == Move::Call
            && step.arg == 1
            && self.top(1).is_own()
            && (is_builtin(self.top(2)) || is_builtin(self.top(3)))
    }

    fn load_attribute(&mut self, name: u32, method: bool, facts: &impl Facts) -> bool {
        let owner = self.pop();
        let known = match owner {
            Value::Own(_, shape) if method => method_of(shape, &facts.name(name)),
            _ => None,
        };
        match (known, method) {
            (Some(known), _) => self.stack.extend([Value::Method(known), owner]),
            (None, method) => {
                self.publish(owner);
                self.push(Value::Any);
                if method {
                    self.push(Value::Any);
                }
            }
        }
        owner.is_plain() || owner.is_own()
    }

    fn call(&mut self, at: usize, count: usize, facts: &impl Facts) -> bool {
        let arguments: Vec<Value> = (1..=count).rev().map(|from_top| self.top(from_top)).collect();
        let plain = arguments.iter().all(|argument| argument.is_plain());
        let callee = (self.top(count + 2), self.top(count + 1));
        let (result, quiet) = match callee {
            (Value::Method(method), receiver @ Value::Own(site, _)) => {
                for argument in &arguments {
                    self.publish(*argument);
                }
                match method {
                    // One of the arguments is the receiver itself.
                    _ if !self.top(count + 1).is_own() => (Value::Any, false),
                    Method::Inside => (Value::Any, true),
                    Method::Arguments => (Value::Any, plain),
                    Method::View if receiver.is_own() => (Value::Own(site, Shape::View), true),
                    Method::View => (Value::Any, false),
                }
            }
            (Value::Builtin(function), Value::Null) | (Value::Null, Value::Builtin(function)) => {
                match (function, arguments.as_slice()) {
                    (Builtin::Length, [one]) => (Value::Number, one.is_plain() || one.is_own()),
                    (Builtin::Range, _) => (Value::Range, true),
                    (Builtin::Numeric, all) if all.iter().all(|one| *one == Value::Number) => {
                        (Value::Number, true)
                    }
                    (Builtin::Numeric | Builtin::Pure, _) if plain => (Value::Plain, true),
                    (Builtin::Numeric | Builtin::Fold, [one]) if one.is_own() => (Value::Any, true),
                    (Builtin::Make(shape), [] | [_]) => {
                        let quiet = arguments.iter().all(|one| one.is_plain() || one.is_own());
                        self.stack.truncate(self.stack.len().saturating_sub(count + 2));
                        self.make(at, 0, shape, facts);
                        return quiet;
                    }
                    _ => {
                        arguments.iter().for_each(|argument| self.publish(*argument));
                        (Value::Any, false)
                    }
                }
            }
            _ => {
                self.give_away(count + 2);
                self.push(Value::Any);
                return false;
            }
        };
        self.stack.truncate(self.stack.len().saturating_sub(count + 2));
        self.push(result);
        quiet
    }

    /// The number of an operator is its index in `Include/opcode.h`, NB_*.
    fn binary(&mut self, operator: usize) -> bool {
        const IN_PLACE: std::ops::RangeInclusive<usize> = 13..=25;
        const SUBSCRIPT: usize = 26;
        if operator == SUBSCRIPT {
            return self.subscript();
        }
        let (right, left) = (self.pop(), self.pop());
        match (left, right) {
            (Value::Number, Value::Number) => self.push(Value::Number),
            _ if left.is_plain() && right.is_plain() => self.push(Value::Plain),
            (Value::Own(..), _) if IN_PLACE.contains(&operator) && right.is_plain() => {
                // `list += …` gives the list itself, and so on.
                self.push(left);
            }
            _ => {
                self.publish(left);
                self.publish(right);
                self.push(Value::Any);
                return false;
            }
        }
        true
    }

    fn compare(&mut self, arg: u32) -> bool {
        let (right, left) = (self.pop(), self.pop());
        let plain = left.is_plain() && right.is_plain();
        if !plain {
            self.publish(left);
            self.publish(right);
        }
        let is_bool = plain || version::COMPARISON_MAY_GIVE_BOOL && arg & 16 == 16;
        self.push(if is_bool { Value::Number } else { Value::Any });
        plain
    }

    fn subscript(&mut self) -> bool {
        let (key, container) = (self.pop(), self.pop());
        self.publish(key);
        let inside = container.is_plain();
        self.push(if inside { Value::Plain } else { Value::Any });
        inside || container.is_own()
    }
}

fn method_of(shape: Shape, name: &str) -> Option<Method> {
    let (inside, arguments, views): (&[&str], &[&str], &[&str]) = match shape {
        Shape::List => (
            &["append", "clear", "copy", "pop", "reverse"],
            &["count", "extend", "index", "insert", "remove", "sort"],
            &[],
        ),
        Shape::Dict => (
            &["clear", "copy", "get", "pop", "popitem", "setdefault"],
            &["update"],
            &["items", "keys", "values"],
        ),
        Shape::Set => (
            &["add", "clear", "copy", "discard", "pop", "remove"],
            &["difference", "intersection", "isdisjoint", "issubset", "union", "update"],
            &[],
        ),
        Shape::View | Shape::Iterator => (&[], &[], &[]),
    };
    let kinds = [(inside, Method::Inside), (arguments, Method::Arguments), (views, Method::View)];
    kinds.into_iter().find(|(names, _)| names.contains(&name)).map(|(_, method)| method)
}
