//! Locations: which part of which object an access concerns.

use crate::interp::containers::digest;
use crate::interp::object::Obj;
use crate::trace::Kind;

/// A part of an object. Two accesses concern one location when object and
/// field are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// An attribute, a dict's value or a set's element, by digest of its name
    /// or key.
    Key(u64),
    /// An element of a sequence.
    Index(i64),
    /// What `len` and iteration depend on: the set of keys, the length.
    Structure,
    /// The arrangement as a whole: written by what moves elements or does more
    /// than can be told beforehand, read by every access by index or key.
    Order,
    /// All keys whose equality is somebody's code: written where such a key is
    /// stored, read by lookups that fail.
    Unknown,
    /// The clock, as far as some workers move it; it is not a part of any object.
    Clock(u16),
    /// The object as a whole: a closure cell, a lock, the state of an iterator.
    Whole,
    /// Whether a file exists.
    Entry,
    /// Which entries a directory has.
    Listing,
    /// The advisory lock of a file.
    Lock,
}

impl Field {
    /// A number of its own, as surely as the digests of keys are.
    #[inline]
    pub fn number(self) -> u64 {
        const INDEX: u64 = 0x8b7a_1c65_f04e_93d1;
        const CLOCK: u64 = 0x51c6_3f2b_9a80_77e4;
        match self {
            Field::Key(digest) => digest,
            Field::Index(index) => INDEX ^ index as u64,
            Field::Structure => 0x3d94_e0b7_5612_8a2f,
            Field::Order => 0xe62f_07ab_d18c_4653,
            Field::Unknown => 0x9415_cb38_7fe6_02da,
            Field::Clock(worker) => CLOCK ^ u64::from(worker),
            Field::Whole => 0x2ad8_5e91_c3f7_40b6,
            Field::Entry => 0x7c0b_93e4_1da8_f65d,
            Field::Listing => 0xb83f_4a16_e59d_027e,
            Field::Lock => 0xd561_f8c2_08b7_9e34,
        }
    }
}

/// One access of an instruction, before it runs.
#[derive(Clone, Copy)]
pub struct Touch<'a> {
    /// The object, alive while the instruction's operands are.
    pub object: Obj<'a>,
    /// The dict that holds its attributes, where it has one: an attribute and the
    /// same key of that dict are one location.
    pub store: Option<Obj<'a>>,
    /// The part of it.
    pub field: Field,
    /// What happens to it.
    pub kind: Kind,
    /// The attribute's name or the key, for people.
    pub label: Option<Obj<'a>>,
    /// The value read or written, where it is at hand.
    pub value: Option<Obj<'a>>,
}

/// Collects the touches of one instruction; reused from event to event.
pub trait Sink<'a> {
    /// Adds one.
    fn touch(&mut self, touch: Touch<'a>);
}

impl<'a> Sink<'a> for Vec<Touch<'a>> {
    fn touch(&mut self, touch: Touch<'a>) {
        self.push(touch);
    }
}

impl<'a> Touch<'a> {
    /// An access to a part without a name.
    #[inline]
    pub fn new(object: Obj<'a>, field: Field, kind: Kind) -> Self {
        Touch { object, store: None, field, kind, label: None, value: None }
    }

    /// An access to an attribute or key.
    #[inline]
    pub fn keyed(object: Obj<'a>, key: Obj<'a>, kind: Kind) -> Self {
        let field = Field::Key(digest(key).unwrap_or(key.address() as u64));
        Touch { object, store: None, field, kind, label: Some(key), value: None }
    }

    /// An access to an element of a sequence.
    #[inline]
    pub fn index(object: Obj<'a>, index: i64, kind: Kind) -> Self {
        Touch::new(object, Field::Index(index), kind)
    }

    /// The same, in the dict that holds the object's attributes.
    #[inline]
    pub fn stored_in(mut self, store: Option<Obj<'a>>) -> Self {
        self.store = store;
        self
    }

    /// The same with the value.
    #[inline]
    pub fn with_value(mut self, value: Option<Obj<'a>>) -> Self {
        self.value = value;
        self
    }
}
