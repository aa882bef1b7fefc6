//! What a call calls: C functions are known by the address of their definition,
//! however they were reached.

use std::ffi::CStr;

use pyo3_ffi as ffi;

use super::attributes::{in_class, names};
use super::code::{Code, attribute, import};
use super::dict::storage;
use super::error::{Result, if_any};
use super::layout::PyFunctionObject;
use super::object::{Obj, Owned, class_name};
use super::types::{Special, special, types};

/// Where a call leads.
#[derive(Clone, Copy)]
pub enum Callee<'a> {
    /// A C function or method.
    Native {
        /// Address of its `PyMethodDef`, or a number of its `wrapperbase` and class.
        definition: usize,
        /// `self` of a bound method.
        receiver: Option<Obj<'a>>,
    },
    /// A class: its address is its definition.
    Class(Obj<'a>),
    /// A function written in Python, by its code.
    Python {
        /// The code.
        code: Code<'a>,
        /// `self` of a bound method.
        receiver: Option<Obj<'a>>,
    },
    /// `functools.partial`: a callable, and what comes before its arguments.
    Partial {
        /// What it calls.
        callable: Obj<'a>,
        /// A tuple.
        arguments: Obj<'a>,
        /// A dict.
        keywords: Obj<'a>,
    },
    /// A function of `functools.lru_cache`.
    Cached {
        /// The Python function whose results it keeps.
        function: Obj<'a>,
        /// `self` of a bound method.
        receiver: Option<Obj<'a>>,
    },
    /// An instance of another class: its `__call__`.
    Instance(Obj<'a>),
}

/// Resolves a callable: bound methods, descriptors, wrappers.
#[inline]
pub fn resolve<'a>(callable: Obj<'a>) -> Callee<'a> {
    let t = types();
    // SAFETY: each cast follows a check of the type, whose layout is public or noted.
    unsafe {
        let ptr = callable.as_ptr();
        let tp = ffi::Py_TYPE(ptr);
        if tp == t.function {
            let code = (*ptr.cast::<PyFunctionObject>()).func_code;
            return Callee::Python { code: Code::from_ptr(code.cast()), receiver: None };
        }
        if tp == t.method_descriptor {
            let descriptor = ptr.cast::<MethodDescriptor>();
            return Callee::Native { definition: (*descriptor).method as usize, receiver: None };
        }
        if tp == t.wrapper_descriptor {
            let definition = of_wrapper(ptr.cast::<MethodDescriptor>());
            return Callee::Native { definition, receiver: None };
        }
        if ffi::PyCFunction_Check(ptr) != 0 {
            let function = ptr.cast::<ffi::PyCFunctionObject>();
            let receiver = Obj::from_ptr((*function).m_self)
                .filter(|object| ffi::PyModule_Check(object.as_ptr()) == 0);
            return Callee::Native { definition: (*function).m_ml as usize, receiver };
        }
        if ffi::PyType_Check(ptr) != 0 {
            return Callee::Class(callable);
        }
        if tp == t.method {
            let method = &*ptr.cast::<BoundMethod>();
            let receiver = Obj::from_ptr(method.receiver);
            return match resolve(Obj::from_arg(method.function)) {
                Callee::Python { code, .. } => Callee::Python { code, receiver },
                Callee::Native { definition, receiver: None } => {
                    Callee::Native { definition, receiver }
                }
                Callee::Cached { function, .. } => Callee::Cached { function, receiver },
                other => other,
            };
        }
        match special(tp) {
            Some(Special::MethodWrapper) => {
                let wrapper = ptr.cast::<MethodWrapper>();
                return Callee::Native {
                    definition: of_wrapper((*wrapper).descriptor.cast::<MethodDescriptor>()),
                    receiver: Obj::from_ptr((*wrapper).receiver),
                };
            }
            Some(Special::Cached) => {
                if let Some(function) = wrapped(callable) {
                    return Callee::Cached { function, receiver: None };
                }
            }
            Some(Special::Partial) => {
                let partial = &*ptr.cast::<Partial>();
                return Callee::Partial {
                    callable: Obj::from_arg(partial.function),
                    arguments: Obj::from_arg(partial.arguments),
                    keywords: Obj::from_arg(partial.keywords),
                };
            }
            _ => {}
        }
    }
    Callee::Instance(callable.type_of())
}

/// The Python function that `functools.update_wrapper` has noted.
fn wrapped<'a>(wrapper: Obj<'a>) -> Option<Obj<'a>> {
    let function = storage(wrapper).get(names().wrapped.borrow()).value()?;
    function.is_exactly(types().function).then_some(function)
}

/// The code of a Python function.
pub fn code_of<'a>(function: Obj<'a>) -> Option<Code<'a>> {
    match resolve(function) {
        Callee::Python { code, receiver: None } => Some(code),
        _ => None,
    }
}

/// The defaults of the last arguments of a Python function.
pub fn defaults<'a>(function: Obj<'a>) -> impl Iterator<Item = Obj<'a>> {
    surroundings(function)[1].into_iter().flat_map(super::code::list_items)
}

/// Is it a function or a module?
pub fn is_code(object: Obj<'_>) -> bool {
    // SAFETY: a live object; the checks read its type's flags and bases.
    unsafe {
        let ptr = object.as_ptr();
        object.is_exactly(types().function)
            || ffi::PyCFunction_Check(ptr) != 0
            || ffi::PyModule_Check(ptr) != 0
    }
}

/// What a Python function has from where it was made: its cells and the defaults of
/// its arguments, as tuples.
pub fn surroundings<'a>(function: Obj<'a>) -> [Option<Obj<'a>>; 2] {
    if !function.is_exactly(types().function) {
        return [None; 2];
    }
    // SAFETY: the type was checked; the function keeps what it refers to.
    unsafe {
        let function = &*function.as_ptr().cast::<PyFunctionObject>();
        [Obj::from_ptr(function.func_closure.cast()), Obj::from_ptr(function.func_defaults.cast())]
    }
}

/// A special method of C code, told from that of other classes: they share one
/// `wrapperbase` for each name.
///
/// # Safety
/// `descriptor` is a live wrapper descriptor.
unsafe fn of_wrapper(descriptor: *mut MethodDescriptor) -> usize {
    // SAFETY: as the caller promises.
    let (base, class) = unsafe { ((*descriptor).method as usize, (*descriptor).class as usize) };
    base ^ class.rotate_left(16)
}

/// The name of a special method of C code, for which each class has a wrapper.
pub fn special_method(callable: Obj<'_>) -> Option<&'static CStr> {
    let t = types();
    // SAFETY: each cast follows a check of the type; a `wrapperbase` is static, and
    // begins with its name.
    unsafe {
        let ptr = callable.as_ptr();
        let tp = ffi::Py_TYPE(ptr);
        let descriptor = if tp == t.wrapper_descriptor {
            ptr.cast::<MethodDescriptor>()
        } else if special(tp) == Some(Special::MethodWrapper) {
            (*ptr.cast::<MethodWrapper>()).descriptor.cast::<MethodDescriptor>()
        } else {
            return None;
        };
        let name = (*descriptor).method.cast::<*const std::ffi::c_char>().read();
        Some(CStr::from_ptr(name))
    }
}

/// The name of a C function, and of its class if it is a method.
pub fn name(callable: Obj<'_>, receiver: Option<Obj<'_>>) -> String {
    let t = types();
    let descriptor =
        callable.is_exactly(t.method_descriptor) || callable.is_exactly(t.wrapper_descriptor);
    // SAFETY: each cast follows a check of the type; `__name__` of these types is a
    // C getter that runs no Python code.
    let (class, own) = unsafe {
        let class = if descriptor {
            let class = (*callable.as_ptr().cast::<MethodDescriptor>()).class;
            Obj::from_ptr(class.cast()).map(|class| class_name(class).to_owned())
        } else {
            receiver.map(Obj::type_name)
        };
        let is_c = descriptor || ffi::PyCFunction_Check(callable.as_ptr()) != 0;
        let is_class = ffi::PyType_Check(callable.as_ptr()) != 0;
        let own = match (is_c, is_class) {
            (true, _) => {
                let name = names().name.borrow().as_ptr();
                let name = Owned::from_new(ffi::PyObject_GetAttr(callable.as_ptr(), name));
                name.and_then(|name| name.borrow().as_str()).unwrap_or_default()
            }
            (false, true) => class_name(callable).to_owned(),
            (false, false) => callable.type_name(),
        };
        (class, own)
    };
    match class {
        Some(class) => format!("{class}.{own}"),
        None => own,
    }
}

/// The name of a C function.
pub fn plain_name(callable: Obj<'_>) -> String {
    name(callable, None).rsplit('.').next().unwrap_or_default().to_owned()
}

/// The Python function that makes instances of this class, if it is one.
pub fn initialiser<'a>(class: Obj<'a>) -> Option<Obj<'a>> {
    in_class(class, names().init.borrow()).filter(|init| init.is_exactly(types().function))
}

/// The globals of a Python function or of a method that is bound to one.
pub fn globals<'a>(callable: Obj<'a>) -> Option<Obj<'a>> {
    let t = types();
    // SAFETY: each cast follows a check of the exact type; the globals of a function
    // are a dict that it keeps alive.
    unsafe {
        let mut function = callable.as_ptr();
        if callable.is_exactly(t.method) {
            function = (*function.cast::<BoundMethod>()).function;
        }
        if ffi::Py_TYPE(function) != t.function {
            return None;
        }
        Obj::from_ptr((*function.cast::<PyFunctionObject>()).func_globals.cast())
    }
}

/// Is it a C method that has yet to be given its object?
pub fn is_method_descriptor(callable: Obj<'_>) -> bool {
    callable.is_exactly(types().method_descriptor)
        || callable.is_exactly(types().wrapper_descriptor)
}

/// Is it a Python function of a module that looks after its own synchronisation?
pub fn is_thread_safe(callable: Obj<'_>) -> bool {
    const MODULES: &[&str] = &[
        "asyncio",
        "concurrent",
        "contextlib",
        "contextvars",
        "functools",
        "logging",
        "queue",
        "threading",
        "typing",
        "unittest",
        "frontrun",
    ];
    is_of_package(callable, MODULES)
}

/// Is it a Python function of a module whose classes look after their own synchronisation, do
/// not change, or have their state seen in another way?
pub fn is_inert(callable: Obj<'_>) -> bool {
    const MODULES: &[&str] = &[
        "_pydatetime",
        "_pydecimal",
        "_pyio",
        "_pytest",
        "_strptime",
        "abc",
        "ast",
        "codecs",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "hypothesis",
        "importlib",
        "inspect",
        "io",
        "ipaddress",
        "multiprocessing",
        "numbers",
        "os",
        "pathlib",
        "pytest",
        "re",
        "reprlib",
        "selectors",
        "socket",
        "ssl",
        "string",
        "subprocess",
        "tempfile",
        "traceback",
        "types",
        "uuid",
        "warnings",
        "weakref",
        "zoneinfo",
    ];
    is_thread_safe(callable) || is_of_package(callable, MODULES)
}

fn is_of_package(callable: Obj<'_>, packages: &[&str]) -> bool {
    let globals = globals(callable);
    let name = globals.and_then(|globals| super::dict::get(globals, names().name.borrow()).value());
    let name = name.and_then(Obj::as_str).unwrap_or_default();
    packages.contains(&name.split('.').next().unwrap_or_default())
}

/// Is it a lock, or something else that threads wait for each other with?
pub fn synchronises(object: Obj<'_>) -> bool {
    let class = object.type_of();
    let module = match super::attributes::is_of_python_class(object) {
        true => in_class(class, names().module.borrow()).and_then(Obj::as_str),
        false => object.full_type_name().rsplit_once('.').map(|(module, _)| module.to_owned()),
    };
    let is_local = || super::attributes::is_thread_local(object);
    matches!(module.as_deref(), Some("_thread" | "threading" | "asyncio.locks")) && !is_local()
}

/// What is done to an attribute through a descriptor.
#[derive(Clone, Copy)]
pub enum Accessor {
    /// It is read.
    Get,
    /// It is written.
    Set,
    /// It is deleted.
    Delete,
}

/// The function that a descriptor calls: of a property the one that it was given, of another
/// one a method of its class.
pub fn accessor<'a>(descriptor: Obj<'a>, which: Accessor) -> Option<Obj<'a>> {
    /// `propertyobject` (`Objects/descrobject.c`) begins like this.
    #[repr(C)]
    struct Property {
        base: ffi::PyObject,
        functions: [*mut ffi::PyObject; 3],
    }
    let names = names();
    // SAFETY: a live object; the cast follows the check of its type, and a property keeps its
    // functions.
    unsafe {
        let tp = ffi::Py_TYPE(descriptor.as_ptr());
        if ffi::PyType_IsSubtype(tp, &raw mut ffi::PyProperty_Type) != 0 {
            let property = &*descriptor.as_ptr().cast::<Property>();
            return Obj::from_ptr(property.functions[which as usize]);
        }
    }
    let method = match which {
        Accessor::Get => &names.get,
        Accessor::Set => &names.set,
        Accessor::Delete => &names.delete,
    };
    in_class(descriptor.type_of(), method.borrow())
}

/// `PyMethodDescrObject` and `PyWrapperDescrObject` (`descrobject.h`) begin alike.
#[repr(C)]
struct MethodDescriptor {
    base: ffi::PyObject,
    class: *mut ffi::PyTypeObject,
    name: *mut ffi::PyObject,
    qualname: *mut ffi::PyObject,
    method: *mut std::ffi::c_void,
}

/// `wrapperobject` (`Objects/descrobject.c`).
#[repr(C)]
struct MethodWrapper {
    base: ffi::PyObject,
    descriptor: *mut ffi::PyObject,
    receiver: *mut ffi::PyObject,
}

/// `PyMethodObject` (`cpython/classobject.h`).
#[repr(C)]
struct BoundMethod {
    base: ffi::PyObject,
    function: *mut ffi::PyObject,
    receiver: *mut ffi::PyObject,
}

/// `partialobject` (`Modules/_functoolsmodule.c`).
#[repr(C)]
struct Partial {
    base: ffi::PyObject,
    function: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
}

/// The address of the definition behind `module.owner.name` (or `module.name`
/// with an empty owner): of a C function, a class or a Python function's code.
/// `None` where this version has no such function.
pub fn definition(module: &CStr, owner: &CStr, name: &CStr) -> Result<Option<usize>> {
    let Some(mut holder) = if_any(import(module))? else { return Ok(None) };
    if !owner.is_empty() {
        let Some(owner) = if_any(attribute(holder.borrow(), owner))? else { return Ok(None) };
        holder = owner;
    }
    let Some(found) = if_any(attribute(holder.borrow(), name))? else { return Ok(None) };
    Ok(match resolve(found.borrow()) {
        Callee::Native { definition, .. } => Some(definition),
        Callee::Class(class) => Some(class.address()),
        Callee::Python { code, .. } => Some(code.as_obj().address()),
        Callee::Partial { .. } | Callee::Cached { .. } | Callee::Instance(_) => None,
    })
}
