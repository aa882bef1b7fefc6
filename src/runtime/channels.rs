//! Sockets and pipes, as the scheduler sees them: resources with a token for each
//! message under way. Whoever wants to receive is disabled until there is one.
//!
//! Streams have no messages. A receiver that takes all that is there takes all the
//! tokens; one that leaves something, or finds the end of the stream, none.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use smallvec::{SmallVec, smallvec};

use super::execution::{Accesses, Execution};
use super::resources::{self, ABANDONED, Result, abandoned, locate};
use super::session;
use super::time::Wait;
use crate::interp::descriptors::{self, Descriptor, Kind as Behind};
use crate::interp::thread_state::ThreadState;
use crate::observe::location::Field;
use crate::trace::{Access, Kind, Loc};

/// What was sent on this machine may take the kernel a moment to deliver.
const DELIVERY: Duration = Duration::from_secs(1);

/// Where messages for a descriptor arrive. `None` where nothing can be waited for.
fn incoming(descriptor: Descriptor) -> Option<String> {
    Some(match descriptor.kind() {
        Behind::Pipe(inode) => format!("pipe:{inode}"),
        Behind::Socket(_) if descriptor.is_listening() => {
            format!("socket:{}", descriptor.own_address())
        }
        Behind::Socket(inode) => way(descriptor, inode, true),
        _ => return None,
    })
}

/// A descriptor that the kernel makes ready: when a process ends, when time has passed.
fn foreign(descriptor: Descriptor) -> Option<String> {
    let is_stream = descriptors::is_standard(descriptor.number());
    (!is_stream).then(|| format!("descriptor:{}", descriptor.number()))
}

/// Where messages from a descriptor go.
fn outgoing(descriptor: Descriptor) -> Option<String> {
    Some(match descriptor.kind() {
        Behind::Pipe(inode) => format!("pipe:{inode}"),
        Behind::Socket(inode) => way(descriptor, inode, false),
        _ => return None,
    })
}

/// One of the two ways of a connection.
fn way(descriptor: Descriptor, inode: u64, inwards: bool) -> String {
    let (own, peer) = (descriptor.own_address(), descriptor.peer_address());
    if own.is_empty() && peer.is_empty() {
        // A pair whose making was not seen has one location for both ways.
        let other = descriptors::pair_of(inode);
        let end = if inwards { inode } else { other.unwrap_or(inode) };
        return format!("socketpair:{}", if other.is_some() { end } else { 0 });
    }
    if descriptor.is_datagram() {
        return format!("socket:{}", if inwards { own } else { peer });
    }
    match inwards {
        true => format!("socket:{peer}->{own}"),
        false => format!("socket:{own}->{peer}"),
    }
}

/// The location of what arrives at a descriptor, with as many tokens as are at least
/// there.
fn arriving(execution: &mut Execution, name: &str, descriptor: Descriptor) -> Loc {
    let ready = descriptor.is_readable(Duration::ZERO);
    let loc = locate(execution, name, Field::Whole);
    if ready && execution.resources.get(&loc).is_none_or(|resource| resource.tokens == 0) {
        execution.answered |= descriptors::has_other_end(descriptor);
    }
    session::resource(execution, loc, || ready as u32);
    if ready {
        execution.find_token(loc);
    }
    loc
}

fn departing(execution: &mut Execution, name: &str) -> Loc {
    let loc = locate(execution, name, Field::Whole);
    session::resource(execution, loc, || 0);
    loc
}

/// Waits until something has arrived and takes it: `accept`, or a receive into so many
/// bytes. `keeps`: it only looks at it.
pub fn receive(
    what: &'static str,
    number: c_int,
    bytes: Option<usize>,
    keeps: bool,
    waits: bool,
) -> Result<()> {
    let Some(descriptor) = Descriptor::new(number) else { return Ok(()) };
    let Some(name) = incoming(descriptor) else { return Ok(()) };
    let waits = waits && !descriptor.is_nonblocking();
    if session::is_killed() {
        return unwinding(!waits || descriptor.is_readable(Duration::ZERO));
    }
    let is_message = descriptor.is_listening() || descriptor.is_datagram();
    loop {
        let mut arrived = true;
        resources::step(what, |execution| {
            let loc = arriving(execution, &name, descriptor);
            let tokens = execution.resources[&loc].tokens;
            arrived = waits || tokens > 0;
            let one = Access { loc, kind: Kind::Acquire };
            match tokens {
                0 if !waits => smallvec![Access { loc, kind: Kind::Miss }],
                0 => {
                    execution.wait_for_any(std::iter::once((loc, number)));
                    smallvec![one]
                }
                _ if keeps => smallvec![one, Access { loc, kind: Kind::Release }],
                _ if is_message => smallvec![one],
                _ if takes_all(descriptor, bytes) => SmallVec::from_elem(one, tokens as usize),
                _ => smallvec![one, Access { loc, kind: Kind::Release }],
            }
        })?;
        if !arrived || descriptor.is_readable(DELIVERY) {
            return Ok(());
        }
        // Somebody who is no worker took it.
        session::with(|execution| {
            let loc = locate(execution, &name, Field::Whole);
            execution.lose_tokens(loc);
        });
    }
}

fn takes_all(descriptor: Descriptor, bytes: Option<usize>) -> bool {
    let available = descriptor.available();
    available > 0 && bytes.is_some_and(|bytes| bytes >= available)
}

fn unwinding(can_go_on: bool) -> Result<()> {
    if can_go_on { Ok(()) } else { Err(ABANDONED) }
}

/// Sends something, or ends the stream.
pub fn send(what: &'static str, number: c_int) -> Result<()> {
    let Some(descriptor) = Descriptor::new(number) else { return Ok(()) };
    let Some(name) = outgoing(descriptor) else { return Ok(()) };
    release(what, name)
}

/// Sends something to an address: connects to it, or a message.
pub fn send_to(what: &'static str, address: String) -> Result<()> {
    if address.is_empty() { Ok(()) } else { release(what, format!("socket:{address}")) }
}

fn release(what: &'static str, name: String) -> Result<()> {
    if session::is_killed() {
        return Ok(());
    }
    resources::step(what, |execution| {
        let loc = departing(execution, &name);
        session::access(loc, Kind::Release)
    })
}

/// A descriptor is closed: whoever receives from its other end finds the end.
pub fn close(number: c_int) -> Result<()> {
    let Some(descriptor) = Descriptor::new(number) else { return Ok(()) };
    let is_sender = match descriptor.kind() {
        Behind::Pipe(_) => descriptor.is_for_writing(),
        Behind::Socket(_) => {
            !descriptor.is_listening() && !descriptor.is_datagram() && is_connected(descriptor)
        }
        _ => false,
    };
    if is_sender { send("io.close", number) } else { Ok(()) }
}

fn is_connected(descriptor: Descriptor) -> bool {
    !descriptor.peer_address().is_empty()
        || matches!(descriptor.kind(), Behind::Socket(inode) if descriptors::pair_of(inode).is_some())
        || !descriptor.own_address().is_empty() && descriptor.own_address().contains('/')
}

/// What a call that waits for several descriptors waits for.
pub struct Interest {
    /// The descriptor.
    pub number: c_int,
    /// Waits until it can be read.
    pub read: bool,
    /// Waits until it can be written.
    pub write: bool,
}

/// Waits until one of these is ready, for so many seconds (`None`: for ever).
/// `Ok(false)`: that is not for us to say, the call may be made as it is.
pub fn wait(what: &'static str, interests: &[Interest], timeout: Option<f64>) -> Result<bool> {
    let waited: Vec<(Descriptor, String)> = interests
        .iter()
        .filter(|interest| interest.read)
        .filter_map(|interest| {
            let descriptor = Descriptor::new(interest.number)?;
            Some((descriptor, incoming(descriptor).or_else(|| foreign(descriptor))?))
        })
        .collect();
    let is_ready = |interest: &Interest| {
        Descriptor::new(interest.number).is_none_or(|descriptor| {
            interest.read && descriptor.is_readable(Duration::ZERO)
                || interest.write && descriptor.is_writable()
        })
    };
    if session::is_killed() {
        unwinding(timeout == Some(0.0) || interests.iter().any(is_ready))?;
        return Ok(true);
    }
    if waited.is_empty() {
        let ready = interests.iter().any(is_ready);
        if let (Some(timeout), false) = (timeout, ready) {
            super::time::sleep(timeout).map_err(abandoned)?;
        }
        return Ok(ready || timeout.is_some());
    }
    let wait = Wait::begin(timeout != Some(0.0), timeout);
    let mut delivered = true;
    let timed_out = session::step(what, |execution| {
        let locs: SmallVec<[(Loc, bool); 4]> = waited
            .iter()
            .map(|(descriptor, name)| {
                let loc = arriving(execution, name, *descriptor);
                (loc, execution.resources[&loc].tokens > 0)
            })
            .collect();
        let first = locs.iter().find(|(_, has)| *has);
        delivered = interests.iter().any(is_ready);
        let looks = |kind| locs.iter().map(move |(loc, _)| Access { loc: *loc, kind });
        let mut accesses: Accesses = match first {
            Some(&(loc, _)) => [Kind::Acquire, Kind::Release]
                .map(|kind| Access { loc, kind })
                .into_iter()
                .chain(looks(Kind::Read).filter(|access| access.loc != loc))
                .collect(),
            None if delivered || wait == Wait::No => looks(Kind::Miss).collect(),
            None => {
                let numbers = waited.iter().map(|(descriptor, _)| descriptor.number());
                execution.wait_for_any(locs.iter().map(|(loc, _)| *loc).zip(numbers));
                session::access(locs[0].0, Kind::Acquire)
            }
        };
        accesses.extend(wait.accesses(execution, None, true));
        accesses
    });
    let timed_out = timed_out.map_err(abandoned)?;
    if timed_out {
        let missed: Accesses = session::with(|execution| {
            let loc = |(_, name): &(Descriptor, String)| locate(execution, name, Field::Whole);
            waited.iter().map(loc).map(|loc| Access { loc, kind: Kind::Miss }).collect()
        });
        wait.time_out(what, missed);
    } else if wait != Wait::No && !delivered {
        let mut entries: Vec<_> = waited
            .iter()
            .map(|(descriptor, _)| descriptors::poll_entry(descriptor.number(), libc::POLLIN))
            .collect();
        descriptors::wait(&mut entries, DELIVERY);
    }
    Ok(true)
}

/// So long at a time, so that what the caller asks is noticed.
const SLICE: Duration = Duration::from_millis(20);

/// Nobody can run: waits, in real time, for those who are no workers to send what
/// somebody waits for: other processes, or `threads` of this one. Gives up when the
/// first wait would time out, and after `limit`.
pub fn wait_for_outside(limit: Duration, threads: bool) {
    let (waiting, patience) = session::with(|execution| {
        (execution.descriptors().collect::<Vec<_>>(), execution.patience())
    });
    let mut patience = patience.map_or(limit, |left| limit.min(Duration::from_secs_f64(left)));
    let is_ours = |&(_, number): &(Loc, c_int)| {
        Descriptor::new(number).is_none_or(descriptors::has_other_end)
    };
    let ours: Vec<bool> = waiting.iter().map(is_ours).collect();
    if ours.iter().all(|ours| *ours) {
        // Whoever holds the other end here may be a worker, which cannot run.
        patience = if threads { patience.min(DELIVERY) } else { Duration::ZERO };
    }
    let mut entries: Vec<_> =
        waiting.iter().map(|(_, number)| descriptors::poll_entry(*number, libc::POLLIN)).collect();
    let until = Instant::now() + patience;
    let mut ready = 0;
    while ready == 0 && Instant::now() < until {
        let state = ThreadState::detach();
        ready = descriptors::wait(&mut entries, SLICE.min(until - Instant::now()));
        state.attach();
        session::poll_signals();
        if session::with(|execution| execution.cut.is_some()) {
            return;
        }
    }
    let is_ready = |number| entries.iter().any(|entry| entry.fd == number && entry.revents != 0);
    session::with(|execution| {
        if ready == 0 {
            execution.give_up_outside();
        }
        for (&(loc, number), ours) in waiting.iter().zip(ours) {
            if is_ready(number) {
                execution.answered |= ours;
                execution.find_token(loc);
            }
        }
    });
}
