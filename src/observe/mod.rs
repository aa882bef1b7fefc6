//! What an instruction means: opcode and operands in, accesses to shared
//! locations out. Reads live objects, never runs code of theirs.

pub mod calls;
pub mod flow;
pub mod foreign;
pub mod instruction;
pub mod location;
pub mod opcodes;
