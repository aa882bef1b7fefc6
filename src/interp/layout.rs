//! CPython's internal structs, as bindgen read them from the headers of the
//! version that the extension is built for (`include/cpython_layout.h`).
#![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals, dead_code)]
#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes
)]

include!(concat!(env!("OUT_DIR"), "/layout.rs"));
