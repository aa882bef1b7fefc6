//! The locations and objects of one execution: numbered in the order of their
//! first touch, and kept alive until the execution ends, because a reused
//! address would be a false conflict.

use std::hash::BuildHasher;

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::interp::containers::stable_digest;
use crate::interp::heap::Heap;
use crate::interp::object::{Obj, Owned};
use crate::observe::location::{Field, Touch};
use crate::trace::{Kind, Loc, Trait};

/// What a location is, for people.
pub struct Place {
    /// The object.
    pub object: Owned,
    /// The part of it.
    pub field: Field,
    /// The attribute's name or the key.
    pub label: Option<Owned>,
}

/// Address of the object (or of the dict with its attributes), number of the part.
type Key = (usize, u64);

/// As many are found without hashing.
const RECENT: usize = 32;

/// The slot of a location among the recent ones.
#[inline]
fn slot(key: Key) -> usize {
    ((key.0 >> 4) ^ key.1 as usize) % RECENT
}

/// The table.
#[derive(Default)]
pub struct Locations {
    numbers: FxHashMap<Key, Loc>,
    places: Vec<Place>,
    /// The locations that were touched last, by a few bits of their address.
    recent: [(Key, Loc); RECENT],
    /// The `__dict__`s met so far, by address, and whose they are.
    dicts: FxHashMap<usize, (Owned, Owned)>,
    /// Locations met since they were last asked for, with what is the same about
    /// them in every execution.
    fresh: Vec<(Loc, Trait)>,
    /// What setup has built for this execution.
    pub built: Heap,
    /// What the workers and their globals have in every execution.
    pub lasting: Heap,
}

impl Locations {
    /// The number of a touch's location. An attribute's is that of the key of the
    /// dict that holds it, if there is one.
    #[inline]
    pub fn number(&mut self, touch: &Touch<'_>) -> Loc {
        let key = (touch.store.unwrap_or(touch.object).address(), touch.field.number());
        self.find(key).unwrap_or_else(|| self.add(touch, key))
    }

    /// The number of a part of an object.
    #[inline]
    pub fn of(&mut self, object: Obj<'_>, field: Field, label: Option<Obj<'_>>) -> Loc {
        let mut touch = Touch::new(object, field, Kind::None);
        touch.label = label;
        self.number(&touch)
    }

    #[inline]
    fn find(&mut self, key: Key) -> Option<Loc> {
        let (last, loc) = self.recent[slot(key)];
        if last == key {
            return Some(loc);
        }
        let loc = *self.numbers.get(&key)?;
        self.recent[slot(key)] = (key, loc);
        Some(loc)
    }

    #[cold]
    fn add(&mut self, touch: &Touch<'_>, key: Key) -> Loc {
        if let Some(dict) = touch.store {
            let pair = || (dict.own(), touch.object.own());
            self.dicts.entry(dict.address()).or_insert_with(pair);
        }
        // The attribute may have been met before its object got a dict.
        let owner = self.dicts.get(&key.0).map(|(_, owner)| owner.borrow().address());
        let before = owner.and_then(|owner| self.numbers.get(&(owner, key.1))).copied();
        let loc = before.unwrap_or_else(|| {
            let label = touch.label.map(Obj::own);
            self.places.push(Place { object: touch.object.own(), field: touch.field, label });
            let loc = self.places.len() as Loc - 1;
            let object = self.built.name_of(touch.object);
            let object = object.or_else(|| self.lasting.name_of(touch.object));
            self.fresh.push((loc, Trait { object: object.unwrap_or(0), part: part_of(touch) }));
            loc
        });
        self.numbers.insert(key, loc);
        self.recent[slot(key)] = (key, loc);
        loc
    }

    /// Were locations met since they were last taken?
    #[inline]
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Locations that were met since the last call, each with what is the same about
    /// it in every execution.
    #[inline]
    pub fn take_fresh(&mut self) -> impl Iterator<Item = (Loc, Trait)> {
        self.fresh.drain(..)
    }

    /// A new location that only its number names, with what is the same about it.
    pub fn fresh(&mut self, object: Obj<'_>, known: Trait) -> Loc {
        self.places.push(Place { object: object.own(), field: Field::Whole, label: None });
        let loc = self.places.len() as Loc - 1;
        self.fresh.push((loc, known));
        loc
    }

    /// What a number stands for.
    pub fn place(&self, loc: Loc) -> Option<&Place> {
        self.places.get(loc as usize)
    }

    /// Forgets everything. The references are handed out, to be dropped where
    /// finalisers may run.
    #[must_use]
    pub fn clear(&mut self) -> (Vec<Place>, Vec<(Owned, Owned)>, Vec<Owned>) {
        self.numbers.clear();
        self.recent = Default::default();
        let dicts = std::mem::take(&mut self.dicts).into_values().collect();
        (std::mem::take(&mut self.places), dicts, self.built.clear())
    }
}

/// A hash of the part of its object that a touch concerns; 0 if it is another one
/// in every execution, or goes by several names.
fn part_of(touch: &Touch<'_>) -> u64 {
    match (touch.field, touch.label) {
        (Field::Key(_), Some(key)) => match stable_digest(key) {
            Some(digest) => FxBuildHasher.hash_one(Field::Key(digest)) | 1,
            None => 0,
        },
        (Field::Key(_), None) => 0,
        (field, _) => FxBuildHasher.hash_one(field) | 1,
    }
}
