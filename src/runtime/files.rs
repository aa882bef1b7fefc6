//! Files and directories, as the scheduler sees them.
//!
//! A file has two locations: its contents, and its entry, which says whether it
//! exists. A directory has a third one, its listing, that changes whenever an entry
//! of it comes or goes. Paths are resolved, so that two names of one file are one.

use std::cell::RefCell;
use std::ffi::c_int;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;
use smallvec::smallvec;

use super::execution::{Accesses, Execution};
use super::resources::{self, Result, abandoned, access, locate};
use super::session;
use super::time::Wait;
use crate::interp::descriptors::{self, Descriptor};
use crate::observe::location::Field;
use crate::trace::Kind;

/// What a path names.
pub struct Named(String);

impl Named {
    /// The file that a call means by a path. `None` where it is none of the program's
    /// own: devices, the kernel's, the standard library's. `follow`: is a symbolic
    /// link at its end followed?
    pub fn new(directory: c_int, path: &Path, follow: bool) -> Option<Named> {
        let base = match (path.is_absolute(), directory) {
            (true, _) => PathBuf::new(),
            (false, libc::AT_FDCWD) => std::env::current_dir().ok()?,
            (false, directory) => descriptors::path(directory)?,
        };
        let full = base.join(path);
        let resolved = match full.canonicalize() {
            Ok(resolved) if follow => resolved,
            _ => full
                .parent()?
                .canonicalize()
                .unwrap_or(full.parent()?.into())
                .join(full.file_name()?),
        };
        Named::resolved(&resolved)
    }

    fn resolved(path: &Path) -> Option<Named> {
        let outside = ["/proc", "/sys", "/dev"].iter().any(|root| path.starts_with(root));
        let name = path.to_string_lossy();
        (!outside && !session::is_excluded(&name)).then(|| Named(format!("file:{name}")))
    }

    /// The file behind a descriptor, if it is a regular one and none of the standard
    /// streams.
    pub fn open(descriptor: c_int) -> Option<Named> {
        Named::resolved(&descriptors::file_path(descriptor)?)
    }

    fn exists(&self) -> bool {
        Path::new(&self.0["file:".len()..]).symlink_metadata().is_ok()
    }

    fn directory(&self) -> String {
        let path = Path::new(&self.0["file:".len()..]);
        format!("file:{}", path.parent().unwrap_or(path).display())
    }

    fn at(&self, execution: &mut Execution, field: Field, kind: Kind) -> crate::trace::Access {
        access(execution, &self.0, field, kind)
    }

    /// The entry of the file, which comes into being or not, with what that means for
    /// its directory.
    fn entry(&self, execution: &mut Execution, changes: bool, otherwise: Kind) -> Accesses {
        let (entry, listing) = match changes {
            true => (Kind::Hit, Kind::Hit),
            false => (otherwise, Kind::None),
        };
        smallvec![
            self.at(execution, Field::Entry, entry),
            access(execution, &self.directory(), Field::Listing, listing),
        ]
    }
}

/// `open(path, flags)`.
pub fn open(file: Option<Named>, flags: c_int) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    resources::step("open", |execution| {
        let exists = file.exists();
        let creates = flags & libc::O_CREAT != 0;
        let mut accesses = match creates {
            true => file.entry(execution, !exists, Kind::Miss),
            false => smallvec![file.at(execution, Field::Entry, Kind::Read)],
        };
        if flags & libc::O_TRUNC != 0 {
            let kind = if exists { Kind::Write } else { Kind::None };
            accesses.push(file.at(execution, Field::Whole, kind));
        }
        accesses
    })
}

/// `stat` and its like: does it exist, how long is it?
pub fn look(file: Option<Named>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    resources::step("stat", |execution| {
        smallvec![
            file.at(execution, Field::Entry, Kind::Read),
            file.at(execution, Field::Whole, Kind::Read),
        ]
    })
}

/// `access`: does it exist?
pub fn check(file: Option<Named>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    resources::step("access", |execution| smallvec![file.at(execution, Field::Entry, Kind::Read)])
}

/// `mkdir` and its like: it shall exist.
pub fn create(file: Option<Named>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    resources::step("create", |execution| file.entry(execution, !file.exists(), Kind::Miss))
}

/// `unlink` and its like: it shall not.
pub fn remove(file: Option<Named>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    resources::step("remove", |execution| {
        let mut accesses = file.entry(execution, file.exists(), Kind::Miss);
        // A directory is removed only while it is empty.
        accesses.push(file.at(execution, Field::Listing, Kind::Read));
        accesses
    })
}

/// `rename(from, to)`, and `link` with `from` left alone.
pub fn rename(from: Option<Named>, to: Option<Named>, moves: bool) -> Result<()> {
    let (Some(from), Some(to)) = (from, to) else { return Ok(()) };
    resources::step("rename", |execution| {
        let exists = from.exists();
        let mut accesses = from.entry(execution, exists && moves, Kind::Miss);
        accesses.extend(to.entry(execution, exists, Kind::Miss));
        accesses.push(to.at(execution, Field::Whole, if exists { Kind::Hit } else { Kind::None }));
        accesses
    })
}

/// `opendir`: which entries are there?
pub fn list(directory: Option<Named>) -> Result<()> {
    let Some(directory) = directory else { return Ok(()) };
    resources::step("listdir", |execution| {
        smallvec![directory.at(execution, Field::Listing, Kind::Read)]
    })
}

/// Reads the contents.
pub fn read(file: Option<Named>) -> Result<()> {
    contents("read", file, Kind::Read)
}

/// Writes the contents.
pub fn write(file: Option<Named>) -> Result<()> {
    contents("write", file, Kind::Write)
}

fn contents(what: &'static str, file: Option<Named>, kind: Kind) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    resources::step(what, |execution| smallvec![file.at(execution, Field::Whole, kind)])
}

fn locked() -> &'static RefCell<FxHashSet<c_int>> {
    &session::current().resources.locked
}

/// `flock(descriptor, operation)`; `Ok(false)` where it would block. A shared lock is
/// taken like an exclusive one.
pub fn lock(descriptor: Descriptor, operation: c_int) -> Result<bool> {
    let Some(file) = Named::open(descriptor.number()) else { return Ok(true) };
    let holds = locked().borrow().contains(&descriptor.number());
    if operation & libc::LOCK_UN != 0 {
        return unlock(descriptor).map(|()| true);
    }
    if holds {
        return Ok(true);
    }
    let waits = if operation & libc::LOCK_NB == 0 { Wait::ForGood } else { Wait::No };
    let locate = |execution: &mut Execution| {
        let loc = locate(execution, &file.0, Field::Lock);
        session::resource(execution, loc, || descriptor.can_lock() as u32);
        loc
    };
    let got = session::take_token("flock", waits, locate).map_err(abandoned)?;
    if got {
        locked().borrow_mut().insert(descriptor.number());
    }
    Ok(got)
}

/// `flock(descriptor, LOCK_UN)`, or the end of a descriptor.
pub fn unlock(descriptor: Descriptor) -> Result<()> {
    if !locked().borrow_mut().remove(&descriptor.number()) {
        return Ok(());
    }
    let Some(file) = Named::open(descriptor.number()) else { return Ok(()) };
    resources::step("unlock", |execution| {
        let loc = locate(execution, &file.0, Field::Lock);
        session::access(loc, Kind::Release)
    })
}
