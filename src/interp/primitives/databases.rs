//! SQLite databases: each statement is a step, which reads or writes the database's
//! file. What the library does with that file meanwhile is a part of it.
//! CPython source: `Modules/_sqlite/`.

use super::Row;
use crate::hook;
use crate::interp::call::call;
use crate::interp::code::{attribute, list_items};
use crate::interp::error::{self, Result};
use crate::interp::object::{Obj, Owned};
use crate::interp::redirect::{Arguments, Hook};
use crate::interp::value::Value;
use crate::runtime::resources;
use crate::trace::Kind;

hook!(EXECUTE => |hook, cursor, arguments| {
    statement(hook, cursor, CURSOR, arguments, "sqlite3.execute", kind(arguments))
});
hook!(EXECUTEMANY => several);
hook!(EXECUTESCRIPT => several);
// Those of a connection make a cursor, and call no method of it.
hook!(EXECUTE_AT_ONCE => |hook, connection, arguments| {
    statement(hook, connection, None, arguments, "sqlite3.execute", kind(arguments))
});
hook!(EXECUTEMANY_AT_ONCE => several_at_once);
hook!(EXECUTESCRIPT_AT_ONCE => several_at_once);
hook!(FETCHONE => fetch);
hook!(FETCHMANY => fetch);
hook!(FETCHALL => fetch);
hook!(COMMIT => end);
hook!(ROLLBACK => end);
hook!(EXIT => end);

/// The methods of connections and cursors.
pub(super) const TABLE: &[Row] = &[
    (
        c"_sqlite3",
        c"Cursor",
        &[
            (c"execute", &EXECUTE),
            (c"executemany", &EXECUTEMANY),
            (c"executescript", &EXECUTESCRIPT),
            (c"fetchone", &FETCHONE),
            (c"fetchmany", &FETCHMANY),
            (c"fetchall", &FETCHALL),
        ],
    ),
    (
        c"_sqlite3",
        c"Connection",
        &[
            (c"execute", &EXECUTE_AT_ONCE),
            (c"executemany", &EXECUTEMANY_AT_ONCE),
            (c"executescript", &EXECUTESCRIPT_AT_ONCE),
            (c"commit", &COMMIT),
            (c"rollback", &ROLLBACK),
            (c"__exit__", &EXIT),
        ],
    ),
];

/// Where a cursor has its connection.
const CURSOR: Option<&std::ffi::CStr> = Some(c"connection");

/// What a statement does to the database, by its first word.
fn kind(arguments: &Arguments<'_>) -> Kind {
    let Some(sql) = arguments.get(0, "sql").and_then(Obj::as_str) else { return Kind::Write };
    let word = sql.trim_start().split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    match word.to_ascii_uppercase().as_str() {
        "SELECT" | "PRAGMA" | "EXPLAIN" | "VALUES" | "BEGIN" => Kind::Read,
        _ => Kind::Write,
    }
}

fn several(hook: &Hook, cursor: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    statement(hook, cursor, CURSOR, arguments, "sqlite3.execute", Kind::Write)
}

fn several_at_once(hook: &Hook, this: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    statement(hook, this, None, arguments, "sqlite3.execute", Kind::Write)
}

fn fetch(hook: &Hook, cursor: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    statement(hook, cursor, CURSOR, arguments, "sqlite3.fetch", Kind::Read)
}

fn end(hook: &Hook, connection: Obj<'_>, arguments: &Arguments<'_>) -> Result<Owned> {
    statement(hook, connection, None, arguments, "sqlite3.commit", Kind::Write)
}

fn statement(
    hook: &Hook,
    this: Obj<'_>,
    connection: Option<&std::ffi::CStr>,
    arguments: &Arguments<'_>,
    what: &'static str,
    kind: Kind,
) -> Result<Owned> {
    if !resources::are_watched() || !resources::can_step() {
        return hook.pass_on(this, arguments);
    }
    let connection = match connection {
        Some(name) => attribute(this, name),
        None => Ok(this.own()),
    };
    let database = connection.and_then(|connection| {
        let file = file_of(connection.borrow())?;
        Ok((connection, file))
    });
    match database {
        Ok((_, Some(name))) => resources::touch(what, &name, kind)?,
        // One in memory is the connection's own.
        Ok((connection, None)) => resources::touch_object(what, connection.borrow(), kind)?,
        // Closed, or not a connection: the call itself says so.
        Err(_) => drop(error::take()),
    }
    resources::inside_step(|| hook.pass_on(this, arguments))
}

/// The name of a connection's file; `None` for a database in memory.
fn file_of(connection: Obj<'_>) -> Result<Option<String>> {
    let path = resources::remembered(connection, || {
        resources::inside_step(|| {
            let execute = attribute(connection, c"execute")?;
            let sql = Value::Str("PRAGMA database_list".into()).into_object()?;
            let rows = call(execute.borrow(), &[sql.borrow()])?;
            let row = call(attribute(rows.borrow(), c"fetchone")?.borrow(), &[])?;
            Ok(list_items(row.borrow()).nth(2).and_then(Obj::as_str).unwrap_or_default())
        })
    })?;
    Ok((!path.is_empty()).then(|| format!("file:{path}")))
}
