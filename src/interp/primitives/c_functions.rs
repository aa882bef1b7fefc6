//! Functions of the C library that use files and sockets, intercepted in all
//! objects that call them: the interpreter, its extensions, anybody's.
//!
//! They are called with the GIL or without it. A step of the scheduler needs it, so
//! it is taken for that time.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{mode_t, off_t, size_t, ssize_t};

use crate::interp::descriptors::{self, Descriptor};
use crate::interp::relocations::{self, Objects, Redirection};
use crate::interp::thread_state::ThreadState;
use crate::runtime::channels::{self, Interest};
use crate::runtime::files::{self, Named};
use crate::runtime::resources::{self, Result};
use crate::runtime::time;

/// Intercepts the functions in the objects that have been loaded since the last time.
pub fn intercept() {
    static DONE: AtomicU64 = AtomicU64::new(0);
    let generation = relocations::generation();
    if DONE.swap(generation, Ordering::Relaxed) != generation {
        for functions in [FUNCTIONS, WAITING] {
            // What we call ourselves may lead through the program that is redirected.
            relocations::bind_to_libc(functions.iter().map(|(name, _)| *name));
            relocations::redirect(Objects::Users, functions);
        }
    }
}

/// The names of the functions that the C library documents.
pub fn names() -> impl Iterator<Item = String> {
    let all = FUNCTIONS.iter().chain(WAITING).map(|(name, _)| name.to_string_lossy());
    all.filter(|name| !name.starts_with('_') && !name.contains("64")).map(Into::into)
}

/// Makes the step before a call, with the GIL.
fn step(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let Some(state) = ThreadState::of_this_thread() else { return Ok(()) };
    let detached = !state.is_attached();
    if detached {
        state.attach();
    }
    let result = if resources::can_step() { work() } else { Ok(()) };
    if detached {
        ThreadState::detach();
    }
    result
}

/// What a C function returns when it fails.
trait Failure {
    fn failure() -> Self;
}

impl Failure for c_int {
    fn failure() -> Self {
        -1
    }
}

impl Failure for ssize_t {
    fn failure() -> Self {
        -1
    }
}

impl Failure for off_t {
    fn failure() -> Self {
        -1
    }
}

impl<T> Failure for *mut T {
    fn failure() -> Self {
        std::ptr::null_mut()
    }
}

fn fail<T: Failure>(number: i32) -> T {
    // SAFETY: the address of this thread's own word.
    unsafe { *libc::__errno_location() = number };
    T::failure()
}

/// Declares replacements: `fn name(arguments) -> result, symbols => step [; call]`.
macro_rules! replacements {
    ($(
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty,
        $($symbol:literal)|+ => $step:expr, $call:expr;
    )*) => {
        $(
            // SAFETY of the function: it has the signature of the one that it replaces,
            // and passes on what it is given.
            unsafe extern "C" fn $name($($argument: $type),*) -> $result {
                if resources::are_watched() && let Err(number) = step(|| $step) {
                    return fail(number);
                }
                // SAFETY: the very call that came in.
                unsafe { $call }
            }
        )*

        const FUNCTIONS: &[Redirection] = &[$($(($symbol, $name as *const ())),+),*];
    };
}

/// A path in an argument.
fn path<'a>(text: *const c_char) -> &'a Path {
    if text.is_null() {
        return Path::new("");
    }
    // SAFETY: C functions take paths that end with NUL; it is used during the call.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes()))
}

fn at(directory: c_int, text: *const c_char, follow: bool) -> Option<Named> {
    Named::new(directory, path(text), follow)
}

fn here(text: *const c_char, follow: bool) -> Option<Named> {
    at(libc::AT_FDCWD, text, follow)
}

/// What a descriptor is read from: a file, or somebody who sends.
fn reading(number: c_int, bytes: usize) -> Result<()> {
    match Named::open(number) {
        Some(file) => files::read(Some(file)),
        None => channels::receive("io.read", number, Some(bytes), false, true),
    }
}

fn writing(number: c_int) -> Result<()> {
    match Named::open(number) {
        Some(file) => files::write(Some(file)),
        None => channels::send("io.write", number),
    }
}

fn closing(number: c_int) -> Result<()> {
    if let Some(descriptor) = Descriptor::new(number) {
        files::unlock(descriptor)?;
    }
    channels::close(number)
}

fn receiving(number: c_int, bytes: usize, flags: c_int) -> Result<()> {
    let (keeps, waits) = (flags & libc::MSG_PEEK != 0, flags & libc::MSG_DONTWAIT == 0);
    channels::receive("io.recv", number, Some(bytes), keeps, waits)
}

fn sending(number: c_int, to: *const libc::sockaddr, len: libc::socklen_t) -> Result<()> {
    match to.is_null() {
        true => channels::send("io.send", number),
        // SAFETY: the caller's address, of that length.
        false => channels::send_to("io.sendto", unsafe { descriptors::address_text(to, len) }),
    }
}

fn mapping(number: c_int, protection: c_int, flags: c_int) -> Result<()> {
    let shared = flags & libc::MAP_SHARED != 0 && protection & libc::PROT_WRITE != 0;
    let file = Named::open(number);
    if shared { files::write(file) } else { files::read(file) }
}

fn seconds(milliseconds: c_int) -> Option<f64> {
    (milliseconds >= 0).then(|| f64::from(milliseconds) / 1000.0)
}

fn seconds_of(time: *const libc::timespec) -> Option<f64> {
    // SAFETY: the caller's time, or NULL.
    unsafe { time.as_ref() }.map(|time| time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// The entries of a `poll` as a slice.
fn interests(entries: *const libc::pollfd, count: libc::nfds_t) -> Vec<Interest> {
    if entries.is_null() {
        return vec![];
    }
    // SAFETY: the caller's array, of that length.
    let entries = unsafe { std::slice::from_raw_parts(entries, count as usize) };
    let interest = |entry: &libc::pollfd| Interest {
        number: entry.fd,
        read: entry.events & (libc::POLLIN | libc::POLLRDHUP | libc::POLLPRI) != 0,
        write: entry.events & libc::POLLOUT != 0,
    };
    entries.iter().filter(|entry| entry.fd >= 0).map(interest).collect()
}

fn chosen(count: c_int, read: *mut libc::fd_set, write: *mut libc::fd_set) -> Vec<Interest> {
    // SAFETY: the caller's sets, or NULL; numbers below `count` are within them.
    let is_in =
        |number, set: *mut libc::fd_set| unsafe { !set.is_null() && libc::FD_ISSET(number, set) };
    (0..count.min(libc::FD_SETSIZE as c_int))
        .map(|number| Interest { number, read: is_in(number, read), write: is_in(number, write) })
        .filter(|interest| interest.read || interest.write)
        .collect()
}

/// Waits in virtual time. Then the call itself need not wait: what it waited for is
/// there, or it has timed out. The time that the call shall wait itself.
fn waiting(
    what: &'static str,
    interests: impl FnOnce() -> Vec<Interest>,
    timeout: Option<f64>,
) -> std::result::Result<bool, i32> {
    let mut over = false;
    if resources::are_watched() {
        step(|| {
            over = channels::wait(what, &interests(), timeout)?;
            Ok(())
        })?;
    }
    Ok(over)
}

unsafe extern "C" fn poll(
    entries: *mut libc::pollfd,
    count: libc::nfds_t,
    timeout: c_int,
) -> c_int {
    match waiting("io.poll", || interests(entries, count), seconds(timeout)) {
        // SAFETY: the call that came in, whose waiting is over.
        Ok(over) => unsafe { libc::poll(entries, count, if over { 0 } else { timeout }) },
        Err(number) => fail(number),
    }
}

unsafe extern "C" fn poll_checked(
    entries: *mut libc::pollfd,
    count: libc::nfds_t,
    timeout: c_int,
    _size: size_t,
) -> c_int {
    // SAFETY: the call that came in, without its check.
    unsafe { poll(entries, count, timeout) }
}

unsafe extern "C" fn ppoll(
    entries: *mut libc::pollfd,
    count: libc::nfds_t,
    timeout: *const libc::timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    match waiting("poll", || interests(entries, count), seconds_of(timeout)) {
        Ok(over) => {
            let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let timeout = if over { &raw const none } else { timeout };
            // SAFETY: the call that came in, whose waiting is over.
            unsafe { libc::ppoll(entries, count, timeout, mask) }
        }
        Err(number) => fail(number),
    }
}

unsafe extern "C" fn select(
    count: c_int,
    read: *mut libc::fd_set,
    write: *mut libc::fd_set,
    except: *mut libc::fd_set,
    timeout: *mut libc::timeval,
) -> c_int {
    // SAFETY: the caller's time, or NULL.
    let limit =
        unsafe { timeout.as_ref() }.map(|time| time.tv_sec as f64 + time.tv_usec as f64 / 1e6);
    match waiting("io.select", || chosen(count, read, write), limit) {
        Ok(over) => {
            let mut none = libc::timeval { tv_sec: 0, tv_usec: 0 };
            let timeout = if over { &raw mut none } else { timeout };
            // SAFETY: the call that came in, whose waiting is over.
            unsafe { libc::select(count, read, write, except, timeout) }
        }
        Err(number) => fail(number),
    }
}

/// What each `epoll` descriptor waits for. The kernel does not tell.
static EPOLLS: parking_lot::Mutex<Vec<(c_int, c_int, u32)>> = parking_lot::Mutex::new(Vec::new());

unsafe extern "C" fn epoll_ctl(
    epoll: c_int,
    operation: c_int,
    number: c_int,
    event: *mut libc::epoll_event,
) -> c_int {
    // SAFETY: the very call that came in.
    let answer = unsafe { libc::epoll_ctl(epoll, operation, number, event) };
    if answer == 0 {
        let mut known = EPOLLS.lock();
        known.retain(|(e, n, _)| (*e, *n) != (epoll, number));
        if operation != libc::EPOLL_CTL_DEL {
            // SAFETY: the kernel has just read it.
            known.push((epoll, number, unsafe { (*event).events }));
        }
    }
    answer
}

fn registered(epoll: c_int) -> Vec<Interest> {
    let known = EPOLLS.lock();
    let mine = known.iter().filter(|(e, _, _)| *e == epoll);
    mine.map(|&(_, number, events)| Interest {
        number,
        read: events & libc::EPOLLIN as u32 != 0,
        write: events & libc::EPOLLOUT as u32 != 0,
    })
    .collect()
}

unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut libc::epoll_event,
    most: c_int,
    timeout: c_int,
) -> c_int {
    match waiting("io.epoll", || registered(epoll), seconds(timeout)) {
        // SAFETY: the call that came in, whose waiting is over.
        Ok(over) => unsafe {
            libc::epoll_wait(epoll, events, most, if over { 0 } else { timeout })
        },
        Err(number) => fail(number),
    }
}

/// Sleeps in virtual time: `Ok(false)` where that is not for us to do.
fn sleep(seconds: f64) -> std::result::Result<bool, i32> {
    if !resources::are_used() {
        return Ok(false);
    }
    step(|| time::sleep(seconds).map_err(resources::abandoned))?;
    Ok(true)
}

unsafe extern "C" fn usleep(microseconds: libc::useconds_t) -> c_int {
    match sleep(f64::from(microseconds) / 1e6) {
        Ok(true) => 0,
        // SAFETY: the very call that came in.
        Ok(false) => unsafe { libc::usleep(microseconds) },
        Err(number) => fail(number),
    }
}

unsafe extern "C" fn nanosleep(wanted: *const libc::timespec, rest: *mut libc::timespec) -> c_int {
    match sleep(seconds_of(wanted).unwrap_or(0.0)) {
        Ok(true) => 0,
        // SAFETY: the very call that came in.
        Ok(false) => unsafe { libc::nanosleep(wanted, rest) },
        Err(number) => fail(number),
    }
}

unsafe extern "C" fn socketpair(
    domain: c_int,
    kind: c_int,
    protocol: c_int,
    pair: *mut c_int,
) -> c_int {
    // SAFETY: the very call that came in; the kernel has filled in two numbers.
    unsafe {
        let answer = libc::socketpair(domain, kind, protocol, pair);
        if answer == 0 {
            descriptors::note_pair(*pair, *pair.add(1));
        }
        answer
    }
}

unsafe extern "C" fn flock(number: c_int, operation: c_int) -> c_int {
    let mut got = true;
    let mut locks = || {
        if let Some(descriptor) = Descriptor::new(number) {
            got = files::lock(descriptor, operation)?;
        }
        Ok(())
    };
    if resources::are_watched()
        && let Err(error) = step(&mut locks)
    {
        return fail(error);
    }
    if !got {
        return fail(libc::EWOULDBLOCK);
    }
    // SAFETY: the very call that came in.
    unsafe { libc::flock(number, operation) }
}

unsafe extern "C" fn mmap(
    address: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    number: c_int,
    offset: off_t,
) -> *mut c_void {
    if number >= 0 && resources::are_watched() {
        // A worker that is being unwound maps what it wants.
        let _ = step(|| mapping(number, protection, flags));
    }
    // SAFETY: the very call that came in.
    unsafe { libc::mmap(address, len, protection, flags, number, offset) }
}

/// Functions that wait, or that do more than pass the call on.
const WAITING: &[Redirection] = &[
    (c"poll", poll as *const ()),
    (c"__poll_chk", poll_checked as *const ()),
    (c"ppoll", ppoll as *const ()),
    (c"select", select as *const ()),
    (c"epoll_ctl", epoll_ctl as *const ()),
    (c"epoll_wait", epoll_wait as *const ()),
    (c"socketpair", socketpair as *const ()),
    (c"flock", flock as *const ()),
    (c"usleep", usleep as *const ()),
    (c"nanosleep", nanosleep as *const ()),
    (c"mmap", mmap as *const ()),
    (c"mmap64", mmap as *const ()),
];

type Path8 = *const c_char;
type Iov = *const libc::iovec;

replacements! {
    fn open(name: Path8, flags: c_int, mode: mode_t) -> c_int, c"open" | c"open64"
        => files::open(here(name, true), flags), libc::open(name, flags, mode);
    fn open_2(name: Path8, flags: c_int) -> c_int, c"__open_2" | c"__open64_2"
        => files::open(here(name, true), flags), libc::open(name, flags);
    fn openat(directory: c_int, name: Path8, flags: c_int, mode: mode_t) -> c_int,
        c"openat" | c"openat64"
        => files::open(at(directory, name, true), flags),
        libc::openat(directory, name, flags, mode);
    fn creat(name: Path8, mode: mode_t) -> c_int, c"creat" | c"creat64"
        => files::open(here(name, true), libc::O_CREAT | libc::O_TRUNC), libc::creat(name, mode);
    fn fopen(name: Path8, mode: Path8) -> *mut libc::FILE, c"fopen" | c"fopen64"
        => files::open(here(name, true), mode_flags(mode)), libc::fopen(name, mode);
    fn read(number: c_int, to: *mut c_void, count: size_t) -> ssize_t, c"read"
        => reading(number, count), libc::read(number, to, count);
    fn read_chk(number: c_int, to: *mut c_void, count: size_t, _size: size_t) -> ssize_t,
        c"__read_chk" => reading(number, count), libc::read(number, to, count);
    fn readv(number: c_int, to: Iov, count: c_int) -> ssize_t, c"readv"
        => reading(number, usize::MAX), libc::readv(number, to, count);
    fn pread(number: c_int, to: *mut c_void, count: size_t, offset: off_t) -> ssize_t,
        c"pread" | c"pread64" => reading(number, count), libc::pread(number, to, count, offset);
    fn pread_chk(number: c_int, to: *mut c_void, count: size_t, offset: off_t, _size: size_t)
        -> ssize_t, c"__pread_chk" | c"__pread64_chk"
        => reading(number, count), libc::pread(number, to, count, offset);
    fn preadv(number: c_int, to: Iov, count: c_int, offset: off_t) -> ssize_t,
        c"preadv" | c"preadv64" | c"preadv2" | c"preadv64v2"
        => reading(number, usize::MAX), libc::preadv(number, to, count, offset);
    fn write(number: c_int, from: *const c_void, count: size_t) -> ssize_t, c"write"
        => writing(number), libc::write(number, from, count);
    fn writev(number: c_int, from: Iov, count: c_int) -> ssize_t, c"writev"
        => writing(number), libc::writev(number, from, count);
    fn pwrite(number: c_int, from: *const c_void, count: size_t, offset: off_t) -> ssize_t,
        c"pwrite" | c"pwrite64" => writing(number), libc::pwrite(number, from, count, offset);
    fn pwritev(number: c_int, from: Iov, count: c_int, offset: off_t) -> ssize_t,
        c"pwritev" | c"pwritev64" | c"pwritev2" | c"pwritev64v2"
        => writing(number), libc::pwritev(number, from, count, offset);
    fn lseek(number: c_int, offset: off_t, whence: c_int) -> off_t, c"lseek" | c"lseek64"
        => if whence == libc::SEEK_END { files::read(Named::open(number)) } else { Ok(()) },
        libc::lseek(number, offset, whence);
    fn ftruncate(number: c_int, len: off_t) -> c_int, c"ftruncate" | c"ftruncate64"
        => files::write(Named::open(number)), libc::ftruncate(number, len);
    fn truncate(name: Path8, len: off_t) -> c_int, c"truncate" | c"truncate64"
        => files::write(here(name, true)), libc::truncate(name, len);
    fn fallocate(number: c_int, mode: c_int, offset: off_t, len: off_t) -> c_int,
        c"fallocate" | c"fallocate64"
        => files::write(Named::open(number)), libc::fallocate(number, mode, offset, len);
    fn chmod(name: Path8, mode: mode_t) -> c_int, c"chmod"
        => files::write(here(name, true)), libc::chmod(name, mode);
    fn fchmod(number: c_int, mode: mode_t) -> c_int, c"fchmod"
        => files::write(Named::open(number)), libc::fchmod(number, mode);
    fn fchmodat(directory: c_int, name: Path8, mode: mode_t, flags: c_int) -> c_int, c"fchmodat"
        => files::write(at(directory, name, true)),
        libc::fchmodat(directory, name, mode, flags);
    fn utimensat(directory: c_int, name: Path8, times: *const libc::timespec, flags: c_int)
        -> c_int, c"utimensat"
        => files::write(at(directory, name, flags & libc::AT_SYMLINK_NOFOLLOW == 0)),
        libc::utimensat(directory, name, times, flags);
    fn futimens(number: c_int, times: *const libc::timespec) -> c_int, c"futimens"
        => files::write(Named::open(number)), libc::futimens(number, times);
    fn sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t,
        c"sendfile" | c"sendfile64"
        => reading(from, count).and_then(|()| writing(to)),
        libc::sendfile(to, from, offset, count);
    fn copy_file_range(from: c_int, start: *mut off_t, to: c_int, at: *mut off_t, count: size_t,
        flags: u32) -> ssize_t, c"copy_file_range"
        => reading(from, count).and_then(|()| writing(to)),
        libc::copy_file_range(from, start.cast(), to, at.cast(), count, flags);
    fn stat(name: Path8, to: *mut libc::stat) -> c_int, c"stat" | c"stat64"
        => files::look(here(name, true)), libc::stat(name, to);
    fn lstat(name: Path8, to: *mut libc::stat) -> c_int, c"lstat" | c"lstat64"
        => files::look(here(name, false)), libc::lstat(name, to);
    fn fstatat(directory: c_int, name: Path8, to: *mut libc::stat, flags: c_int) -> c_int,
        c"fstatat" | c"fstatat64"
        => files::look(at(directory, name, flags & libc::AT_SYMLINK_NOFOLLOW == 0)),
        libc::fstatat(directory, name, to, flags);
    fn statx(directory: c_int, name: Path8, flags: c_int, mask: u32, to: *mut libc::statx)
        -> c_int, c"statx"
        => files::look(at(directory, name, flags & libc::AT_SYMLINK_NOFOLLOW == 0)),
        libc::statx(directory, name, flags, mask, to);
    fn access(name: Path8, mode: c_int) -> c_int, c"access"
        => files::check(here(name, true)), libc::access(name, mode);
    fn faccessat(directory: c_int, name: Path8, mode: c_int, flags: c_int) -> c_int, c"faccessat"
        => files::check(at(directory, name, true)),
        libc::faccessat(directory, name, mode, flags);
    fn readlink(name: Path8, to: *mut c_char, size: size_t) -> ssize_t, c"readlink"
        => files::check(here(name, false)), libc::readlink(name, to, size);
    fn readlinkat(directory: c_int, name: Path8, to: *mut c_char, size: size_t) -> ssize_t,
        c"readlinkat"
        => files::check(at(directory, name, false)), libc::readlinkat(directory, name, to, size);
    fn mkdir(name: Path8, mode: mode_t) -> c_int, c"mkdir"
        => files::create(here(name, false)), libc::mkdir(name, mode);
    fn mkdirat(directory: c_int, name: Path8, mode: mode_t) -> c_int, c"mkdirat"
        => files::create(at(directory, name, false)), libc::mkdirat(directory, name, mode);
    fn mkfifo(name: Path8, mode: mode_t) -> c_int, c"mkfifo"
        => files::create(here(name, false)), libc::mkfifo(name, mode);
    fn mknod(name: Path8, mode: mode_t, device: libc::dev_t) -> c_int, c"mknod"
        => files::create(here(name, false)), libc::mknod(name, mode, device);
    fn symlink(target: Path8, name: Path8) -> c_int, c"symlink"
        => files::create(here(name, false)), libc::symlink(target, name);
    fn symlinkat(target: Path8, directory: c_int, name: Path8) -> c_int, c"symlinkat"
        => files::create(at(directory, name, false)), libc::symlinkat(target, directory, name);
    fn unlink(name: Path8) -> c_int, c"unlink"
        => files::remove(here(name, false)), libc::unlink(name);
    fn unlinkat(directory: c_int, name: Path8, flags: c_int) -> c_int, c"unlinkat"
        => files::remove(at(directory, name, false)), libc::unlinkat(directory, name, flags);
    fn remove(name: Path8) -> c_int, c"remove"
        => files::remove(here(name, false)), libc::remove(name);
    fn rmdir(name: Path8) -> c_int, c"rmdir"
        => files::remove(here(name, false)), libc::rmdir(name);
    fn rename(from: Path8, to: Path8) -> c_int, c"rename"
        => files::rename(here(from, false), here(to, false), true), libc::rename(from, to);
    fn renameat(from_in: c_int, from: Path8, to_in: c_int, to: Path8) -> c_int, c"renameat"
        => files::rename(at(from_in, from, false), at(to_in, to, false), true),
        libc::renameat(from_in, from, to_in, to);
    fn renameat2(from_in: c_int, from: Path8, to_in: c_int, to: Path8, flags: u32) -> c_int,
        c"renameat2"
        => files::rename(at(from_in, from, false), at(to_in, to, false), true),
        libc::renameat2(from_in, from, to_in, to, flags);
    fn link(from: Path8, to: Path8) -> c_int, c"link"
        => files::rename(here(from, false), here(to, false), false), libc::link(from, to);
    fn linkat(from_in: c_int, from: Path8, to_in: c_int, to: Path8, flags: c_int) -> c_int,
        c"linkat"
        => files::rename(at(from_in, from, false), at(to_in, to, false), false),
        libc::linkat(from_in, from, to_in, to, flags);
    fn opendir(name: Path8) -> *mut libc::DIR, c"opendir"
        => files::list(here(name, true)), libc::opendir(name);
    fn fdopendir(number: c_int) -> *mut libc::DIR, c"fdopendir"
        => files::list(at(number, c".".as_ptr(), true)), libc::fdopendir(number);
    fn close(number: c_int) -> c_int, c"close" => closing(number), libc::close(number);
    fn connect(number: c_int, to: *const libc::sockaddr, len: libc::socklen_t) -> c_int,
        c"connect"
        // SAFETY: the caller's address, of that length.
        => channels::send_to("io.connect", unsafe { descriptors::address_text(to, len) }),
        libc::connect(number, to, len);
    fn accept(number: c_int, from: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int,
        c"accept"
        => channels::receive("io.accept", number, None, false, true),
        libc::accept(number, from, len);
    fn accept4(number: c_int, from: *mut libc::sockaddr, len: *mut libc::socklen_t,
        flags: c_int) -> c_int, c"accept4"
        => channels::receive("io.accept", number, None, false, true),
        libc::accept4(number, from, len, flags);
    fn recv(number: c_int, to: *mut c_void, count: size_t, flags: c_int) -> ssize_t, c"recv"
        => receiving(number, count, flags), libc::recv(number, to, count, flags);
    fn recv_chk(number: c_int, to: *mut c_void, count: size_t, _size: size_t, flags: c_int)
        -> ssize_t, c"__recv_chk"
        => receiving(number, count, flags), libc::recv(number, to, count, flags);
    fn recvfrom(number: c_int, to: *mut c_void, count: size_t, flags: c_int,
        from: *mut libc::sockaddr, len: *mut libc::socklen_t) -> ssize_t, c"recvfrom"
        => receiving(number, count, flags),
        libc::recvfrom(number, to, count, flags, from, len);
    fn recvfrom_chk(number: c_int, to: *mut c_void, count: size_t, _size: size_t, flags: c_int,
        from: *mut libc::sockaddr, len: *mut libc::socklen_t) -> ssize_t, c"__recvfrom_chk"
        => receiving(number, count, flags),
        libc::recvfrom(number, to, count, flags, from, len);
    fn recvmsg(number: c_int, to: *mut libc::msghdr, flags: c_int) -> ssize_t, c"recvmsg"
        => receiving(number, usize::MAX, flags), libc::recvmsg(number, to, flags);
    fn send(number: c_int, from: *const c_void, count: size_t, flags: c_int) -> ssize_t, c"send"
        => channels::send("io.send", number), libc::send(number, from, count, flags);
    fn sendto(number: c_int, from: *const c_void, count: size_t, flags: c_int,
        to: *const libc::sockaddr, len: libc::socklen_t) -> ssize_t, c"sendto"
        => sending(number, to, len), libc::sendto(number, from, count, flags, to, len);
    fn sendmsg(number: c_int, from: *const libc::msghdr, flags: c_int) -> ssize_t, c"sendmsg"
        => channels::send("io.sendmsg", number), libc::sendmsg(number, from, flags);
    fn shutdown(number: c_int, how: c_int) -> c_int, c"shutdown"
        => if how == libc::SHUT_RD { Ok(()) } else { channels::send("io.shutdown", number) },
        libc::shutdown(number, how);
}

/// The flags of `open` for a mode of `fopen`.
fn mode_flags(mode: *const c_char) -> c_int {
    match path(mode).as_os_str().as_bytes().first() {
        Some(b'w') => libc::O_CREAT | libc::O_TRUNC,
        Some(b'a') => libc::O_CREAT,
        _ => 0,
    }
}
