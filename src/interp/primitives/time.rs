//! Sleeping and the readings of clocks. CPython source: `Modules/timemodule.c`,
//! `Modules/_datetimemodule.c`.

use pyo3_ffi as ffi;

use super::{Row, wait_in_slices};
use crate::hook;
use crate::interp::error::{self, Result};
use crate::interp::object::{Obj, Owned};
use crate::interp::redirect::{Arguments, Hook, seconds};
use crate::interp::value::Value;
use crate::runtime::session;
use crate::runtime::time::{self, Clock};

hook!(SLEEP => sleep);
hook!(TIME => |hook, module, _| read(hook, module, Clock::Wall));
hook!(MONOTONIC => |hook, module, _| read(hook, module, Clock::Monotonic));
hook!(PERF_COUNTER => |hook, module, _| read(hook, module, Clock::Monotonic));
hook!(TIME_NS => |hook, module, _| read_ns(hook, module, Clock::Wall));
hook!(MONOTONIC_NS => |hook, module, _| read_ns(hook, module, Clock::Monotonic));
hook!(PERF_COUNTER_NS => |hook, module, _| read_ns(hook, module, Clock::Monotonic));
hook!(DATETIME_NOW => now);
hook!(DATETIME_UTCNOW => |hook, class, arguments| at(hook, class, arguments, c"utcfromtimestamp"));
hook!(DATE_TODAY => |hook, class, arguments| at(hook, class, arguments, c"fromtimestamp"));

/// Functions about time.
pub(super) const TABLE: &[Row] = &[
    (
        c"time",
        c"",
        &[
            (c"sleep", &SLEEP),
            (c"time", &TIME),
            (c"time_ns", &TIME_NS),
            (c"monotonic", &MONOTONIC),
            (c"monotonic_ns", &MONOTONIC_NS),
            (c"perf_counter", &PERF_COUNTER),
            (c"perf_counter_ns", &PERF_COUNTER_NS),
        ],
    ),
    (c"_datetime", c"datetime", &[(c"now", &DATETIME_NOW), (c"utcnow", &DATETIME_UTCNOW)]),
    (c"_datetime", c"date", &[(c"today", &DATE_TODAY)]),
];

fn sleep(hook: &Hook, module: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    let Some(&argument) = arguments.positional().first() else {
        return hook.pass_on(module, arguments);
    };
    if session::running().is_none() {
        let duration = seconds(argument)?;
        if duration.is_nan() || duration <= 0.0 {
            return hook.call(module, &[argument]);
        }
        wait_in_slices(Some(duration), |slice| {
            hook.call(module, &[Owned::from_float(slice)?.borrow()]).map(|_| None::<()>)
        })?;
        return Ok(Owned::none());
    }
    let duration = seconds(argument)?;
    if duration.is_nan() || duration < 0.0 {
        return Err(error::value_error("sleep length must be non-negative"));
    }
    time::sleep(duration)?;
    Ok(Owned::none())
}

fn read(hook: &Hook, module: Obj<'_>, clock: Clock) -> Result<Owned> {
    match time::read(clock)? {
        Some(reading) => Owned::from_float(reading),
        None => hook.call(module, &[]),
    }
}

fn read_ns(hook: &Hook, module: Obj<'_>, clock: Clock) -> Result<Owned> {
    match time::read(clock)? {
        Some(reading) => Value::Int((reading * 1e9) as i64).into_object(),
        None => hook.call(module, &[]),
    }
}

/// `datetime.now(tz=None)`.
fn now(hook: &Hook, class: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    let zone = arguments.get(0, "tz").filter(|zone| !zone.is_none());
    let Some(zone) = zone else { return at(hook, class, arguments, c"fromtimestamp") };
    match time::read(Clock::Wall)? {
        // SAFETY: a live class and zone, and a format that matches.
        Some(reading) => unsafe {
            error::check(ffi::PyObject_CallMethod(
                class.as_ptr(),
                c"fromtimestamp".as_ptr(),
                c"dO".as_ptr(),
                reading,
                zone.as_ptr(),
            ))
        },
        None => hook.pass_on(class, arguments),
    }
}

fn at(
    hook: &Hook,
    class: Obj<'_>,
    arguments: &Arguments<'_>,
    method: &std::ffi::CStr,
) -> Result<Owned> {
    match time::read(Clock::Wall)? {
        // SAFETY: a live class, and a format that matches.
        Some(reading) => unsafe {
            error::check(ffi::PyObject_CallMethod(
                class.as_ptr(),
                method.as_ptr(),
                c"d".as_ptr(),
                reading,
            ))
        },
        None => hook.pass_on(class, arguments),
    }
}
