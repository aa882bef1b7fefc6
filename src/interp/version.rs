//! What instructions look like on the version that the extension is built for,
//! by meaning: for those who read operands.

/// `LOAD_ATTR` has the method form in the lowest bit of its argument (3.12+).
pub const ATTRIBUTE_HAS_METHOD_BIT: bool = cfg!(Py_3_12);

/// The name's index in the argument of `IMPORT_NAME` is above bits of its own (3.15+).
pub const IMPORT_NAME_SHIFT: u32 = if cfg!(Py_3_15) { 2 } else { 0 };

/// `FORMAT_VALUE` says in its argument whether there is a format spec (up to 3.12;
/// later there are two instructions).
pub const FORMAT_SPEC_IN_ARGUMENT: bool = cfg!(not(Py_3_13));

/// `CALL_FUNCTION_EX` has the callable below the NULL (3.13+), not above it.
pub const CALL_EX_CALLABLE_FIRST: bool = cfg!(Py_3_13);

/// `CALL_FUNCTION_EX` always has a slot for keywords, if only a NULL (3.14+).
pub const CALL_EX_ALWAYS_KEYWORDS: bool = cfg!(Py_3_14);

/// An iterated list or tuple stands on the stack itself, with an index above it
/// (3.15+), instead of an iterator.
pub const VIRTUAL_ITERATORS: bool = cfg!(Py_3_15);

/// A call of a function has a NULL above the callable (3.13+), not below it.
pub const NULL_ABOVE_CALLABLE: bool = cfg!(Py_3_13);

/// Bit 4 of a comparison's argument: the result is made a bool (3.13+).
pub const COMPARISON_MAY_GIVE_BOOL: bool = cfg!(Py_3_13);

/// `WITH_EXCEPT_START` finds `__exit__` and its object (3.14+), not a bound method.
pub const EXIT_WITH_OBJECT: bool = cfg!(Py_3_14);
