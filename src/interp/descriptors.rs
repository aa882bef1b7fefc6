//! File descriptors: what is behind them, and whether they would block. All is asked
//! of the kernel; nothing here knows Python.

use std::ffi::{c_int, c_short};
use std::mem::{MaybeUninit, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

/// A descriptor that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor(c_int);

/// What a descriptor stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with contents.
    File,
    /// One end of a pipe, by its inode.
    Pipe(u64),
    /// A socket, by its inode.
    Socket(u64),
    /// Something else.
    Other,
}

impl Descriptor {
    /// `None` when it is closed.
    pub fn new(number: c_int) -> Option<Descriptor> {
        status(number).map(|_| Descriptor(number))
    }

    /// Its number.
    pub fn number(self) -> c_int {
        self.0
    }

    /// What it stands for.
    pub fn kind(self) -> Kind {
        match status(self.0) {
            Some(status) if is_stream(&status) => Kind::Other,
            Some(status) => match status.st_mode & libc::S_IFMT {
                libc::S_IFREG => Kind::File,
                libc::S_IFIFO => Kind::Pipe(status.st_ino),
                libc::S_IFSOCK => Kind::Socket(status.st_ino),
                _ => Kind::Other,
            },
            None => Kind::Other,
        }
    }

    /// Does a call on it return at once where it would have to wait?
    pub fn is_nonblocking(self) -> bool {
        self.flags() & libc::O_NONBLOCK != 0
    }

    /// Can it be written to only? (The writing end of a pipe.)
    pub fn is_for_writing(self) -> bool {
        self.flags() & libc::O_ACCMODE != libc::O_RDONLY
    }

    fn flags(self) -> c_int {
        // SAFETY: asks the kernel about a number.
        unsafe { libc::fcntl(self.0, libc::F_GETFL) }.max(0)
    }

    /// Number of bytes that can be read now.
    pub fn available(self) -> usize {
        let mut bytes: c_int = 0;
        // SAFETY: the kernel writes an int.
        let answer = unsafe { libc::ioctl(self.0, libc::FIONREAD, &raw mut bytes) };
        if answer == 0 { bytes.max(0) as usize } else { 0 }
    }

    /// Would a read (or accept) return at once? Waits so long for it.
    pub fn is_readable(self, patience: Duration) -> bool {
        wait(&mut [poll_entry(self.0, libc::POLLIN)], patience) > 0
    }

    /// Would a write return at once?
    pub fn is_writable(self) -> bool {
        wait(&mut [poll_entry(self.0, libc::POLLOUT)], Duration::ZERO) > 0
    }

    /// Has the other side hung up, so that nothing comes any more?
    pub fn is_at_end(self) -> bool {
        self.available() == 0 && self.is_readable(Duration::ZERO) && !self.is_listening()
    }

    /// Is it a socket that accepts connections?
    pub fn is_listening(self) -> bool {
        self.option(libc::SO_ACCEPTCONN) == Some(1)
    }

    /// Is it a socket without a stream?
    pub fn is_datagram(self) -> bool {
        self.option(libc::SO_TYPE).is_some_and(|kind| kind != libc::SOCK_STREAM)
    }

    fn option(self, name: c_int) -> Option<c_int> {
        let mut value: c_int = 0;
        let mut len = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: the kernel writes an int of that length.
        let answer = unsafe {
            let value = (&raw mut value).cast();
            libc::getsockopt(self.0, libc::SOL_SOCKET, name, value, &raw mut len)
        };
        (answer == 0).then_some(value)
    }

    /// A socket's own address, as `host:port` or a path; empty when it has none.
    pub fn own_address(self) -> String {
        self.address_by(libc::getsockname)
    }

    /// The address of the other side; empty when there is none, or it has none.
    pub fn peer_address(self) -> String {
        self.address_by(libc::getpeername)
    }

    fn address_by(
        self,
        ask: unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int,
    ) -> String {
        // SAFETY: zeroes are a valid address of no family.
        let mut address: libc::sockaddr_storage = unsafe { zeroed() };
        let mut len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes.
        if unsafe { ask(self.0, (&raw mut address).cast(), &raw mut len) } != 0 {
            return String::new();
        }
        // SAFETY: the kernel has filled it in.
        unsafe { address_text((&raw const address).cast(), len) }
    }

    /// Could its file be locked now? (If it could, it is not locked afterwards.)
    pub fn can_lock(self) -> bool {
        // SAFETY: asks the kernel.
        unsafe {
            let got = libc::flock(self.0, libc::LOCK_EX | libc::LOCK_NB) == 0;
            if got {
                libc::flock(self.0, libc::LOCK_UN);
            }
            got
        }
    }
}

/// An address as text: `host:port`, or the path of a local one.
///
/// # Safety
/// `address` has `len` bytes that can be read.
pub unsafe fn address_text(address: *const libc::sockaddr, len: libc::socklen_t) -> String {
    if address.is_null() || (len as usize) < size_of::<libc::sa_family_t>() {
        return String::new();
    }
    // SAFETY: each family has its own layout, and its length is checked.
    unsafe {
        match c_int::from((*address).sa_family) {
            libc::AF_INET if len as usize >= size_of::<libc::sockaddr_in>() => {
                let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                let host = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                format!("{host}:{}", u16::from_be(address.sin_port))
            }
            libc::AF_INET6 if len as usize >= size_of::<libc::sockaddr_in6>() => {
                let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                let host = Ipv6Addr::from(address.sin6_addr.s6_addr);
                format!("[{host}]:{}", u16::from_be(address.sin6_port))
            }
            libc::AF_UNIX => {
                let skip = size_of::<libc::sa_family_t>();
                let bytes =
                    std::slice::from_raw_parts(address.cast::<u8>().add(skip), len as usize - skip);
                let text = String::from_utf8_lossy(bytes);
                text.trim_end_matches('\0').replace('\0', "@")
            }
            _ => String::new(),
        }
    }
}

fn status(number: c_int) -> Option<libc::stat> {
    let mut status = MaybeUninit::uninit();
    // SAFETY: the kernel fills it in when it answers 0.
    unsafe { (libc::fstat(number, status.as_mut_ptr()) == 0).then(|| status.assume_init()) }
}

/// Where a descriptor's file or directory is.
pub fn path(number: c_int) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{number}")).ok()
}

/// Is this what one of the standard streams goes to?
fn is_stream(own: &libc::stat) -> bool {
    [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO].into_iter().any(|stream| {
        status(stream).is_some_and(|it| (it.st_dev, it.st_ino) == (own.st_dev, own.st_ino))
    })
}

/// Does a descriptor lead where one of the standard streams goes?
pub fn is_standard(number: c_int) -> bool {
    status(number).is_some_and(|own| is_stream(&own))
}

/// Where a descriptor's regular file is; `None` when it is none, or where the standard
/// streams go.
pub fn file_path(number: c_int) -> Option<PathBuf> {
    let status_of = status;
    let own = status_of(number)?;
    let regular = own.st_mode & libc::S_IFMT == libc::S_IFREG;
    let is_stream = [libc::STDOUT_FILENO, libc::STDERR_FILENO].into_iter().any(|stream| {
        number == stream
            || status_of(stream)
                .is_some_and(|it| (it.st_dev, it.st_ino) == (own.st_dev, own.st_ino))
    });
    let path = path(number).filter(|_| regular && !is_stream)?;
    match own.st_nlink {
        // Its name may be somebody else's by now.
        0 => Some(format!("/deleted/{}:{}", own.st_dev, own.st_ino).into()),
        _ => Some(path),
    }
}

/// The pairs of sockets that were made, by inode. They have no addresses.
static PAIRS: parking_lot::Mutex<Vec<(u64, u64)>> = parking_lot::Mutex::new(Vec::new());

/// Notes that two sockets are the ends of one pair.
pub fn note_pair(one: c_int, other: c_int) {
    if let (Some(one), Some(other)) = (status(one), status(other)) {
        let (one, other) = (one.st_ino, other.st_ino);
        let mut pairs = PAIRS.lock();
        // Inodes are used again, and few pairs are in use at a time.
        pairs.retain(|(a, b)| ![*a, *b].iter().any(|inode| [one, other].contains(inode)));
        if pairs.len() >= 4096 {
            pairs.drain(..2048);
        }
        pairs.push((one, other));
    }
}

/// The other end of a pair, by inode.
pub fn pair_of(inode: u64) -> Option<u64> {
    PAIRS.lock().iter().rev().find_map(|&(one, other)| match inode {
        it if it == one => Some(other),
        it if it == other => Some(one),
        _ => None,
    })
}

/// An entry for [`wait`].
pub fn poll_entry(number: c_int, events: c_short) -> libc::pollfd {
    libc::pollfd { fd: number, events, revents: 0 }
}

/// Waits until one of these is ready; how many are.
pub fn wait(entries: &mut [libc::pollfd], patience: Duration) -> usize {
    let patience = patience.as_millis().min(i32::MAX as u128) as c_int;
    // SAFETY: the kernel reads and writes the entries of the slice.
    let ready =
        unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, patience) };
    ready.max(0) as usize
}

/// Does this process hold the other end of this socket or pipe? Whoever connects to a
/// listening socket is taken to be in it.
pub fn has_other_end(descriptor: Descriptor) -> bool {
    if descriptor.is_listening() {
        return true;
    }
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return true };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let kind = descriptor.kind();
    let (own, peer) = (descriptor.own_address(), descriptor.peer_address());
    numbers.filter(|number| *number != descriptor.0).filter_map(Descriptor::new).any(
        |other| match (&kind, other.kind()) {
            (Kind::Pipe(inode), Kind::Pipe(its)) => *inode == its && other.is_for_writing(),
            (Kind::Socket(_), Kind::Socket(_)) if peer.is_empty() => other.peer_address() == own,
            (Kind::Socket(_), Kind::Socket(_)) => other.own_address() == peer,
            _ => false,
        },
    )
}
