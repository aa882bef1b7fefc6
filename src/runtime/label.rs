//! What an event does, in words: for people, and to find it again in another
//! execution, another version of the program or another CPython. Lines and
//! addresses do not last, and are no part of it.

use super::execution::{Execution, Site, Slot, Status};
use super::locations::Place;
use super::{resources, threads};
use crate::interp::attributes::namespace_name;
use crate::interp::code::{self, Code};
use crate::interp::containers::{Shape, shape};
use crate::interp::object::{Obj, Owned};
use crate::observe::location::Field;
use crate::trace::{Access, Kind, Loc, Worker};

/// An event in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The function, with its class and the functions around it.
    pub function: String,
    /// What was done to which locations.
    pub accesses: Vec<Deed>,
}

/// What a timed wait does to what it waits for. It orders nothing, because it ends when
/// nobody can run; but what others do to that location matters to it.
const WAIT: &str = "wait";

/// What was done to a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// What.
    pub kind: String,
    /// The name of the location.
    pub name: String,
    /// The location in its execution.
    pub loc: Loc,
    /// The thread whose end it asks for or waits for.
    pub end_of: Option<Worker>,
}

impl Deed {
    /// Does it ask for or wait for the end of a thread that has ended?
    pub fn is_past(&self, workers: &[Slot]) -> bool {
        self.end_of.is_some_and(|worker| {
            workers.get(worker as usize).is_some_and(|slot| slot.status == Status::Done)
        })
    }
}

impl Label {
    /// Of an event that the execution at hand has made or is about to make.
    pub fn of(execution: &Execution, accesses: &[Access], site: Site) -> Self {
        // A timed wait ends by itself, when nobody can run.
        let jumps = |access: &Access| access.kind == Kind::Advance && access.loc == 0;
        let waits = accesses.iter().any(jumps);
        let deed = |access: &Access| {
            let (owner, field) = parts(execution, access, site);
            let of_io = owner == "IO";
            let name = if is_of_worker(access) {
                format!("worker {}", access.loc)
            } else if of_io {
                resources::lasting_name(&field).to_owned()
            } else {
                let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
                without_addresses(&format!("{owner}{dot}{field}"))
            };
            let kind = match access.kind {
                _ if waits => WAIT,
                kind if of_io => kind_name(kind, site.what),
                // What an attempt or a conditional write comes to depends on the moment.
                Kind::TryAcquire => "acquire",
                Kind::Miss if execution.resources.contains_key(&access.loc) => "acquire",
                Kind::Hit | Kind::Miss | Kind::None | Kind::Advance => "update",
                kind => kind_name(kind.strongest(), site.what),
            };
            let end_of = match access.kind {
                Kind::Join => Some(access.loc as Worker),
                Kind::Read => ending(execution, access),
                _ => None,
            };
            Deed { kind: kind.to_owned(), name, loc: access.loc, end_of }
        };
        let deeds = accesses.iter().filter(|access| !jumps(access)).map(deed);
        Label { function: function(site), accesses: deeds.collect() }
    }

    /// Adds what another event does that this one does not.
    pub fn join(&mut self, other: Label) {
        if self.accesses.is_empty() {
            self.function = other.function;
        }
        for deed in other.accesses {
            let known = |d: &Deed| d.kind == deed.kind && d.name == deed.name && d.loc == deed.loc;
            if !self.accesses.iter().any(known) {
                self.accesses.push(deed);
            }
        }
    }

    /// The event as far as these deeds are concerned, if it is.
    pub fn about(&self, concerned: impl Fn(&Deed) -> bool) -> Option<String> {
        let accesses = self.accesses.iter().filter(|deed| deed.kind != WAIT && concerned(deed));
        let parts: Vec<String> =
            accesses.map(|deed| format!("{} {}", deed.kind, deed.name)).collect();
        let place =
            if self.function.is_empty() { String::new() } else { format!(" in {}", self.function) };
        (!parts.is_empty()).then(|| format!("{}{place}", parts.join(", ")))
    }
}

/// What a kind of access is called.
pub fn kind_name(kind: Kind, what: &str) -> &'static str {
    match kind {
        // Of locks: an attempt that failed.
        Kind::Miss if what.ends_with(".acquire") => "tryacquire",
        Kind::Acquire | Kind::TryAcquire if what.starts_with("io.") => "receive",
        Kind::Release if what.starts_with("io.") => "send",
        Kind::None | Kind::Unread => "none",
        Kind::Read | Kind::Miss => "read",
        Kind::Write | Kind::Hit => "write",
        Kind::Acquire | Kind::TryAcquire => "acquire",
        Kind::Release => "release",
        Kind::Start => "start",
        Kind::Join => "join",
        Kind::Advance => "advance",
    }
}

/// The thread whose end an access concerns.
fn ending(execution: &Execution, access: &Access) -> Option<Worker> {
    let place = location(execution, access)?;
    threads::by_handle(place.object.borrow())
}

/// Does it concern a worker and no location?
fn is_of_worker(access: &Access) -> bool {
    matches!(access.kind, Kind::Start | Kind::Join)
}

fn location<'a>(execution: &'a Execution, access: &Access) -> Option<&'a Place> {
    if is_of_worker(access) { None } else { execution.locations.place(access.loc) }
}

/// The type and the part of it that an access concerns.
fn parts(execution: &Execution, access: &Access, site: Site) -> (String, String) {
    let Some(place) = location(execution, access) else { return Default::default() };
    if let Some(worker) = ending(execution, access) {
        return ("IO".into(), format!("end of worker {worker}"));
    }
    let global = site.what.ends_with("_GLOBAL") || site.what.ends_with("_NAME");
    if let Some(text) = resources::text(place) {
        return ("IO".into(), text);
    }
    let object = place.object.borrow();
    let label = place.label.as_ref().map(Owned::borrow);
    let owner = match place.field {
        Field::Clock(_) => "clock".into(),
        _ if global => "global".into(),
        _ => object.type_name(),
    };
    (owner, field_text(object, place.field, label, global))
}

/// The same for people: attributes of a class and of a module go by its name, and what
/// is no object by a text.
pub fn told_parts(execution: &Execution, access: &Access, site: Site) -> (String, String) {
    let (owner, field) = parts(execution, access, site);
    let Some(place) = location(execution, access) else { return (owner, field) };
    let is_attribute = site.what.ends_with("_ATTR") || site.what == "LOAD_METHOD";
    let name = is_attribute.then(|| namespace_name(place.object.borrow())).flatten();
    match (name, place.label.as_ref().and_then(|label| label.borrow().as_str())) {
        (Some(name), Some(attribute)) => (name, attribute),
        _ => (owner, field),
    }
}

/// The part of an object, as people are told of it.
pub fn field_text(object: Obj<'_>, field: Field, label: Option<Obj<'_>>, global: bool) -> String {
    match field {
        Field::Key(_) if global => label.and_then(Obj::as_str).unwrap_or_default(),
        Field::Key(_) => match (shape(object), label) {
            (Shape::Other, Some(name)) => name.as_str().unwrap_or_default(),
            (_, Some(key)) => format!("[{}]", key.safe_repr()),
            (_, None) => "[?]".into(),
        },
        Field::Index(index) => format!("[{index}]"),
        Field::Structure | Field::Order | Field::Unknown => "<structure>".into(),
        Field::Clock(_) => "time".into(),
        Field::Whole => label.and_then(Obj::as_str).unwrap_or_default(),
        Field::Entry | Field::Listing | Field::Lock => String::new(),
    }
}

/// The function of a site. Comprehensions are part of the function around them:
/// 3.12 and newer inline them.
fn function(site: Site) -> String {
    let known = code::known(site.code);
    let mut name = known
        .as_ref()
        .and_then(|k| Code::from_obj(k.borrow()))
        .map_or_else(String::new, Code::qualified_name);
    const INLINED: [&str; 3] =
        [".<locals>.<listcomp>", ".<locals>.<setcomp>", ".<locals>.<dictcomp>"];
    while let Some(end) = INLINED.iter().find_map(|suffix| name.strip_suffix(suffix)) {
        name.truncate(end.len());
    }
    name
}

/// `<Key object at 0x7f…>` without the number.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split(" at 0x");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    result
}
