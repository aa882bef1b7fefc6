//! Plain data for Python.

use pyo3_ffi as ffi;

use super::error::{self, Result};
use super::object::{Obj, Owned};

/// What the extension's functions return.
pub enum Value {
    /// `None`.
    None,
    /// A bool.
    Bool(bool),
    /// An int.
    Int(i64),
    /// A float.
    Float(f64),
    /// A str.
    Str(String),
    /// Any object.
    Object(Owned),
    /// A list.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A dict with str keys.
    Dict(Vec<(&'static str, Value)>),
}

impl Value {
    /// `None`, or what the option holds.
    pub fn maybe<T>(value: Option<T>, make: impl FnOnce(T) -> Value) -> Value {
        value.map_or(Value::None, make)
    }

    /// As a Python object.
    pub fn into_object(self) -> Result<Owned> {
        // SAFETY: each constructor returns a new reference or NULL with an
        // exception; containers take over the references that they are given.
        unsafe {
            match self {
                Value::None => Ok(Owned::none()),
                Value::Bool(truth) => Ok(Owned::from_bool(truth)),
                Value::Int(value) => error::check(ffi::PyLong_FromLongLong(value)),
                Value::Float(value) => Owned::from_float(value),
                Value::Str(text) => error::check(ffi::PyUnicode_FromStringAndSize(
                    text.as_ptr().cast(),
                    text.len() as ffi::Py_ssize_t,
                )),
                Value::Object(object) => Ok(object),
                Value::List(items) => {
                    let list = error::check(ffi::PyList_New(items.len() as ffi::Py_ssize_t))?;
                    for (index, item) in items.into_iter().enumerate() {
                        let item = item.into_object()?.into_ptr();
                        let index = index as ffi::Py_ssize_t;
                        ffi::PyList_SetItem(list.borrow().as_ptr(), index, item);
                    }
                    Ok(list)
                }
                Value::Tuple(items) => {
                    let tuple = error::check(ffi::PyTuple_New(items.len() as ffi::Py_ssize_t))?;
                    for (index, item) in items.into_iter().enumerate() {
                        let item = item.into_object()?.into_ptr();
                        let index = index as ffi::Py_ssize_t;
                        ffi::PyTuple_SetItem(tuple.borrow().as_ptr(), index, item);
                    }
                    Ok(tuple)
                }
                Value::Dict(items) => {
                    let dict = error::check(ffi::PyDict_New())?;
                    for (key, value) in items {
                        let (key, value) =
                            (Value::Str(key.into()).into_object()?, value.into_object()?);
                        let (key, value) = (key.borrow().as_ptr(), value.borrow().as_ptr());
                        if ffi::PyDict_SetItem(dict.borrow().as_ptr(), key, value) < 0 {
                            return Err(error::Raised);
                        }
                    }
                    Ok(dict)
                }
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Str(text.to_owned())
    }
}

impl From<Obj<'_>> for Value {
    fn from(object: Obj<'_>) -> Self {
        Value::Object(object.own())
    }
}
