//! Which object of one execution is which of another one: names for what can be
//! reached from the state that setup has built, from the workers, and from their
//! globals. Nothing is kept alive: a name is given out only if the way still leads
//! to the object.
//!
//! An object's name is a hash of the way to it from a root, by attributes, keys
//! and indices; of several ways it is a shortest one, and of these the one with
//! the least hash, so that the order in which attributes were made does not
//! matter. Programs are deterministic, so setup builds the same ways every time.

use std::hash::BuildHasher;
use std::ops::Range;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::attributes::{is_of_python_class, names, slots};
use super::callables::{Callee, is_code, resolve, surroundings};
use super::code::{dict_items, list_items};
use super::containers::{cell_value, is_immutable, stable_digest};
use super::dict::{has_storage, storage};
use super::object::{Obj, Owned};
use super::types::types;

/// So many objects get names at most, those with the shortest ways.
const MOST: usize = 4096;

/// The names, at the time when they were given.
#[derive(Default)]
pub struct Heap {
    roots: Vec<Owned>,
    nodes: Vec<Node>,
    by_address: FxHashMap<usize, u32>,
}

struct Node {
    address: usize,
    name: u64,
    /// The node that the way comes from, and the step from there; roots have none.
    from: Option<u32>,
    step: u64,
}

impl Heap {
    /// Names all that can be reached from these roots.
    pub fn name(&mut self, roots: impl Iterator<Item = Owned>) {
        self.roots.extend(roots);
        let roots = std::mem::take(&mut self.roots);
        for (number, root) in (1..).zip(&roots) {
            self.meet(root.borrow(), None, number, 0..0);
        }
        let mut layer = 0..self.nodes.len();
        while !layer.is_empty() {
            let end = layer.end;
            for index in layer {
                let address = self.nodes[index].address as *mut pyo3_ffi::PyObject;
                // SAFETY: nothing has run since the roots were met: all that was
                // reached from them is alive.
                let object = unsafe { Obj::from_arg(address) };
                children(object, &mut |step, child| {
                    self.meet(child, Some(index as u32), step, end..usize::MAX);
                });
                if self.nodes.len() > MOST {
                    // Names of a layer are final only when all ways to it are known.
                    self.nodes.truncate(end);
                    self.by_address.retain(|_, index| (*index as usize) < end);
                    break;
                }
            }
            layer = end..self.nodes.len();
        }
        self.roots = roots;
    }

    /// A way to an object was found; it counts if there is no other one, or only
    /// one to the layer that is being made.
    fn meet(&mut self, object: Obj<'_>, from: Option<u32>, step: u64, layer: Range<usize>) {
        let before = from.map_or(0, |from| self.nodes[from as usize].name);
        let name = FxBuildHasher.hash_one((before, step)) | 1;
        let node = Node { address: object.address(), name, from, step };
        let index = *self.by_address.entry(node.address).or_insert(self.nodes.len() as u32);
        match self.nodes.get_mut(index as usize) {
            None => self.nodes.push(node),
            Some(old) if layer.contains(&(index as usize)) && name < old.name => *old = node,
            Some(_) => {}
        }
    }

    /// The name of an object that still lies where it was. Any other one may be new,
    /// at an old address.
    pub fn name_of(&self, object: Obj<'_>) -> Option<u64> {
        let index = *self.by_address.get(&object.address())?;
        self.find(index).map(|_| self.nodes[index as usize].name)
    }

    /// The object of a node, if the way still leads there.
    fn find(&self, index: u32) -> Option<Obj<'_>> {
        let node = &self.nodes[index as usize];
        let Some(from) = node.from else {
            return self.roots.iter().map(Owned::borrow).find(|it| it.address() == node.address);
        };
        let mut found = None;
        children(self.find(from)?, &mut |step, child| {
            if step == node.step && child.address() == node.address {
                found = Some(child);
            }
        });
        found
    }

    /// Forgets everything; what it kept is to be dropped where finalisers may run.
    #[must_use]
    pub fn clear(&mut self) -> Vec<Owned> {
        self.nodes.clear();
        self.by_address.clear();
        std::mem::take(&mut self.roots)
    }
}

/// The objects that an object refers to by something that has a name, and that
/// could be changed or lead to one that can.
fn children<'a>(object: Obj<'a>, each: &mut impl FnMut(u64, Obj<'a>)) {
    let mut tell = |kind: u8, step: u64, child: Obj<'a>| {
        if !is_immutable(child) || list_items(child).next().is_some() {
            each(FxBuildHasher.hash_one((kind, step)), child);
        }
    };
    let t = types();
    for (index, item) in (0..).zip(list_items(object)) {
        tell(1, index, item);
    }
    for (key, value) in dict_items(object) {
        if !is_furniture(key, value)
            && let Some(key) = stable_digest(key)
        {
            tell(2, key, value);
        }
    }
    if [t.list, t.tuple, t.dict].iter().any(|tp| object.is_exactly(*tp)) {
        return;
    }
    if let Some(value) = cell_value(object) {
        tell(3, 0, value);
    }
    for (kind, tuple) in (7..).zip(surroundings(object)) {
        let items = tuple.into_iter().flat_map(list_items);
        (0..).zip(items).for_each(|(index, item)| tell(kind, index, item));
    }
    match resolve(object) {
        Callee::Python { receiver: Some(receiver), .. }
        | Callee::Native { receiver: Some(receiver), .. } => tell(4, 0, receiver),
        Callee::Partial { callable, arguments, .. } => {
            tell(4, 1, callable);
            (0..).zip(list_items(arguments)).for_each(|(index, item)| tell(4, 2 + index, item));
        }
        _ => {}
    }
    if is_of_python_class(object) {
        if has_storage(object) {
            storage(object).each(|name, value| {
                if let Some(name) = stable_digest(name) {
                    tell(5, name, value);
                }
            });
        }
        slots(object, |offset, value| tell(6, offset, value));
    }
}

/// Is it something that the globals of any module have, and no state?
fn is_furniture(key: Obj<'_>, value: Obj<'_>) -> bool {
    let names = names();
    is_code(value)
        || [&names.builtins, &names.loader, &names.spec].iter().any(|n| key.is(n.borrow()))
}
