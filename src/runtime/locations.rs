//! The locations and objects of one execution: numbered in the order of their
//! first touch, and kept alive until the execution ends, because a reused
//! address would be a false conflict.

use rustc_hash::FxHashMap;

use crate::interp::object::{Obj, Owned};
use crate::observe::location::{Field, Touch};
use crate::trace::Loc;

/// What a location is, for people.
pub struct Place {
    /// The object.
    pub object: Owned,
    /// The part of it.
    pub field: Field,
    /// The attribute's name or the key.
    pub label: Option<Owned>,
}

/// The table.
#[derive(Default)]
pub struct Locations {
    numbers: FxHashMap<(usize, Field), Loc>,
    places: Vec<Place>,
    last: Option<((usize, Field), Loc)>,
    /// The `__dict__`s met so far, and whose they are.
    dicts: FxHashMap<usize, Owned>,
}

impl Locations {
    /// The number of a touch's location.
    #[inline]
    pub fn number(&mut self, touch: &Touch<'_>) -> Loc {
        self.of(touch.object, touch.field, touch.label)
    }

    /// The number of a part of an object.
    #[inline]
    pub fn of(&mut self, object: Obj<'_>, field: Field, label: Option<Obj<'_>>) -> Loc {
        let key = (object.address(), field);
        if let Some((last, loc)) = self.last
            && last == key
        {
            return loc;
        }
        let loc = match self.numbers.get(&key) {
            Some(loc) => *loc,
            None => self.add(object, key, label),
        };
        self.last = Some((key, loc));
        loc
    }

    #[cold]
    fn add(&mut self, object: Obj<'_>, key: (usize, Field), label: Option<Obj<'_>>) -> Loc {
        if !self.dicts.is_empty()
            && self.dicts.contains_key(&key.0)
            && matches!(key.1, Field::Key(_))
        {
            let owner = self.dicts[&key.0].clone();
            return self.of(owner.borrow(), key.1, label);
        }
        let loc = self.places.len() as Loc;
        self.places.push(Place { object: object.own(), field: key.1, label: label.map(Obj::own) });
        self.numbers.insert(key, loc);
        loc
    }

    /// From now on the keys of `dict` are the attributes of `owner`.
    pub fn alias(&mut self, dict: Obj<'_>, owner: Obj<'_>) {
        self.dicts.entry(dict.address()).or_insert_with(|| owner.own());
    }

    /// What a number stands for.
    pub fn place(&self, loc: Loc) -> Option<&Place> {
        self.places.get(loc as usize)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Forgets everything. The references are handed out, to be dropped where
    /// finalisers may run.
    #[must_use]
    pub fn clear(&mut self) -> (Vec<Place>, Vec<Owned>) {
        self.numbers.clear();
        self.last = None;
        let dicts = std::mem::take(&mut self.dicts).into_values().collect();
        (std::mem::take(&mut self.places), dicts)
    }
}
