//! What is kept of an execution while branches that were found in it wait.
//!
//! A branch may have to be compared with later executions, in which locations
//! have other numbers. What does mean the same everywhere is *the i-th access
//! of the step that worker w makes after the past p*: programs are
//! deterministic, so equal pasts lead to the same object. A past is an event
//! with all that happens before it, named by a hash. Two executions that share
//! such an access thereby agree on a location. Where the runner can tell what is
//! the same about a location in every execution ([`Trait`]), that decides first.

use std::cell::OnceCell;
use std::rc::Rc;

use super::history::{History, Runs, SlotAccess};
use crate::trace::{Kind, Trait, Worker};

/// Names the i-th access of a step by the step's past.
type Name = u64;

/// The accesses of one execution, by worker and step.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// For each worker, where the accesses of each of its steps start.
    first: Vec<Vec<u32>>,
    accesses: Vec<SlotAccess>,
    /// For each access.
    names: Vec<Name>,
    pub runs: Runs,
    /// For each slot, what was told of it.
    known: Vec<Trait>,
    by_name: OnceCell<Vec<(Name, u32)>>,
    by_slot: OnceCell<Vec<(u32, Name)>>,
    by_trait: OnceCell<Vec<(Trait, u32)>>,
}

impl Record {
    pub fn of(h: &History) -> Self {
        let known = h.slots.iter().map(|slot| slot.known).collect();
        let mut record = Self { known, runs: h.runs.clone(), ..Self::default() };
        let mut pasts = Pasts::new(h);
        let mut named = Vec::with_capacity(h.steps() as usize);
        for step in 0..h.steps() {
            named.push(record.names.len());
            pasts.step(h, step, &mut record.names);
        }
        let names = std::mem::take(&mut record.names);
        for worker in 0..h.workers as Worker {
            let mut first = vec![record.accesses.len() as u32];
            while let Some(step) = h.nth(worker, first.len() as u32 - 1) {
                let accesses = h.accesses(step);
                let at = named[step as usize];
                record.accesses.extend_from_slice(accesses);
                record.names.extend_from_slice(&names[at..at + accesses.len()]);
                first.push(record.accesses.len() as u32);
            }
            record.first.push(first);
        }
        record
    }

    /// The accesses of the n-th step of a worker.
    pub fn get(&self, worker: Worker, n: u32) -> &[SlotAccess] {
        let first = &self.first[worker as usize];
        &self.accesses[first[n as usize] as usize..first[n as usize + 1] as usize]
    }

    fn places(&self) -> impl Iterator<Item = (u32, Name)> + '_ {
        let named = self.accesses.iter().zip(&self.names);
        named.filter(|(a, _)| !a.names_no_location()).map(|(a, &name)| (a.slot, name))
    }

    fn slot_named(&self, name: Name) -> Option<u32> {
        let sorted = self.by_name.get_or_init(|| {
            let mut list: Vec<_> = self.places().map(|(slot, name)| (name, slot)).collect();
            list.sort_unstable();
            list
        });
        let at = sorted.partition_point(|&(n, _)| n < name);
        sorted.get(at).filter(|found| found.0 == name).map(|found| found.1)
    }

    fn names_of(&self, slot: u32) -> impl Iterator<Item = Name> + '_ {
        let sorted = self.by_slot.get_or_init(|| {
            let mut list: Vec<_> = self.places().collect();
            list.sort_unstable();
            list
        });
        let at = sorted.partition_point(|&(s, _)| s < slot);
        sorted[at..].iter().take_while(move |&&(s, _)| s == slot).map(|&(_, name)| name)
    }

    /// Could a slot of `self` and one of `other` be the same location?
    pub fn could_be(&self, slot: u32, other: &Record, other_slot: u32) -> bool {
        let (a, b) = (self.known[slot as usize], other.known[other_slot as usize]);
        a.fits(b) && self.translate(other, other_slot).is_none_or(|s| s == slot)
    }

    /// The slot of `self` that is the same location as a slot of `other`.
    pub fn translate(&self, other: &Record, slot: u32) -> Option<u32> {
        let known = other.known[slot as usize];
        if known.is_unique()
            && let Some(same) = self.slot_known_as(known)
        {
            return Some(same);
        }
        other.names_of(slot).find_map(|name| self.slot_named(name))
    }

    fn slot_known_as(&self, known: Trait) -> Option<u32> {
        let sorted = self.by_trait.get_or_init(|| {
            let slots = (0..).zip(&self.known).filter(|(_, known)| known.is_unique());
            let mut list: Vec<_> = slots.map(|(slot, &known)| (known, slot)).collect();
            list.sort_unstable();
            list
        });
        let at = sorted.partition_point(|&(k, _)| k < known);
        sorted.get(at).filter(|found| found.0 == known).map(|found| found.1)
    }
}

/// Do accesses of a recorded execution conflict with steps of the execution at hand?
/// `None`: they may, and it is not known whether two locations are one.
pub(super) fn conflicts<'h>(
    h: &History,
    now: &LazyRecord,
    record: &Record,
    accesses: &[SlotAccess],
    steps: impl Iterator<Item = &'h [SlotAccess]> + Clone,
) -> Option<bool> {
    let now = now.get(h);
    let mut conflict = Some(false);
    for access in accesses.iter().filter(|a| a.kind.is_memory()) {
        let same = now.translate(record, access.slot);
        let is_here = |slot| match same {
            Some(same) => same == slot,
            None => record.could_be(access.slot, now, slot),
        };
        let meets = |a: &SlotAccess| a.kind.conflicts(access.kind) && is_here(a.slot);
        if steps.clone().any(|step| step.iter().any(meets)) {
            if same.is_some() {
                return Some(true);
            }
            conflict = None;
        }
    }
    conflict
}

/// Makes the record of the execution at hand, once, if anybody asks.
#[derive(Debug, Default)]
pub(super) struct LazyRecord(OnceCell<Rc<Record>>);

impl LazyRecord {
    pub fn get(&self, h: &History) -> &Rc<Record> {
        self.0.get_or_init(|| Rc::new(Record::of(h)))
    }
}

/// A hash under which executions of one trace are equal, and no others.
pub(super) fn fingerprint(h: &History) -> u64 {
    let mut pasts = Pasts::new(h);
    let mut names = Vec::new();
    for step in 0..h.events {
        pasts.step(h, step, &mut names);
    }
    let ends = (0..).zip(&pasts.worker);
    ends.fold(0, |all, (worker, &past)| mix(mix(all, past), u64::from(h.executed(worker))))
}

/// The hashes of pasts, while going through an execution.
struct Pasts {
    worker: Vec<u64>,
    /// For each slot, the latest write, and the reads since.
    writes: Vec<u64>,
    reads: Vec<u64>,
}

impl Pasts {
    fn new(h: &History) -> Self {
        let slots = h.slots.len();
        Self { worker: vec![0; h.workers], writes: vec![0; slots], reads: vec![0; slots] }
    }

    /// What a block accesses depends also on what it has read so far.
    fn name_block(&self, start: u64, accesses: &[SlotAccess], names: &mut Vec<Name>) {
        let mut past = start;
        for (i, a) in (1..).zip(accesses) {
            names.push(mix(past, i));
            if a.kind.is_memory() {
                past = mix(past, self.writes[a.slot as usize]);
            }
        }
    }

    /// Names the accesses of a step, and takes it in.
    fn step(&mut self, h: &History, step: u32, names: &mut Vec<Name>) {
        let worker = h.worker(step) as usize;
        let start = mix(mix(self.worker[worker], worker as u64), u64::from(h.ordinal(step)));
        let accesses = h.accesses(step);
        if h.blocks {
            self.name_block(start, accesses, names);
        } else {
            names.extend((1..=accesses.len() as u64).map(|i| mix(start, i)));
        }
        let mut past = start;
        if h.advances(step) {
            past = self.worker.iter().fold(past, |p, &w| mix(p, w));
        }
        for a in accesses {
            let slot = a.slot as usize;
            past = match a.kind {
                Kind::None | Kind::Unread => mix(past, 1),
                Kind::Start => mix(past, 2),
                Kind::Join => mix(past, self.worker[slot]),
                kind if kind.is_write() => {
                    mix(mix(mix(past, kind as u64), self.writes[slot]), self.reads[slot])
                }
                kind => mix(mix(past, kind as u64), self.writes[slot]),
            };
        }
        for a in accesses {
            let slot = a.slot as usize;
            match a.kind {
                Kind::Start => self.worker[slot] = mix(past, 3),
                kind if kind.is_write() => (self.writes[slot], self.reads[slot]) = (past, 0),
                kind if kind.is_memory() => {
                    self.reads[slot] = self.reads[slot].wrapping_add(past);
                }
                _ => {}
            }
        }
        self.worker[worker] = past;
    }
}

fn mix(a: u64, b: u64) -> u64 {
    let mut x = (a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x632b_e59b_d9b4_e019);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
