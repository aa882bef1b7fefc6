//! The indices of workers that others make: the n-th one of a sort that a worker
//! makes has the same index in all executions of an exploration.

use rustc_hash::FxHashMap;

use crate::trace::Worker;

/// What a worker makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Made {
    /// A thread or a task.
    Worker,
    /// A timer.
    Timer,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Family {
    first: Worker,
    numbers: FxHashMap<(Worker, Made, u32), Worker>,
    /// How many of them each worker has made in this execution.
    counts: FxHashMap<(Worker, Made), u32>,
    /// Who was met in this execution, in order.
    met: Vec<Worker>,
}

impl Family {
    /// With the first index that is free.
    pub fn new(first: Worker) -> Self {
        Family { first, ..Family::default() }
    }

    /// A new execution.
    pub fn begin_execution(&mut self) {
        self.counts.clear();
        self.met.clear();
    }

    /// The worker makes another one: its number, from 0.
    pub fn count(&mut self, parent: Worker, made: Made) -> u32 {
        let count = self.counts.entry((parent, made)).or_default();
        *count += 1;
        *count - 1
    }

    /// The index of the n-th one that the worker makes; asked once in each execution.
    pub fn index(&mut self, parent: Worker, made: Made, nth: u32) -> Worker {
        let next = self.first + self.numbers.len() as Worker;
        let index = *self.numbers.entry((parent, made, nth)).or_insert(next);
        self.met.push(index);
        index
    }

    /// From now on the indices are those that the last execution has when it is the only
    /// one. Gives the new index for each old one; none where nothing changes.
    pub fn renumber(&mut self) -> Option<impl Fn(Worker) -> Worker + use<>> {
        if self.met.is_sorted() && self.met.last().is_none_or(|&last| self.has_met_all_to(last)) {
            return None;
        }
        let all = self.first..self.first + self.numbers.len() as Worker;
        let unmet = all.filter(|index| !self.met.contains(index));
        let order: Vec<Worker> = self.met.iter().copied().chain(unmet).collect();
        let first = self.first;
        let renamed = move |old: Worker| match order.iter().position(|&index| index == old) {
            Some(place) => first + place as Worker,
            None => old,
        };
        self.numbers = std::mem::take(&mut self.numbers)
            .into_iter()
            .map(|((parent, made, nth), index)| ((renamed(parent), made, nth), renamed(index)))
            .collect();
        self.begin_execution();
        Some(renamed)
    }

    fn has_met_all_to(&self, last: Worker) -> bool {
        usize::from(last - self.first) + 1 == self.met.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_one_of_a_worker_has_one_index_in_all_executions() {
        let mut family = Family::new(2);
        let child_of_0 = family.index(0, Made::Worker, 0);
        let child_of_1 = family.index(1, Made::Worker, 0);
        assert_eq!((child_of_0, child_of_1), (2, 3));
        family.begin_execution();
        assert_eq!(family.index(1, Made::Worker, 0), child_of_1);
        assert_ne!(family.index(0, Made::Timer, 0), child_of_0);
    }

    #[test]
    fn renumbering_gives_the_indices_of_the_last_execution_alone() {
        let mut family = Family::new(2);
        family.index(0, Made::Worker, 0);
        family.index(1, Made::Worker, 0);
        family.index(2, Made::Worker, 0);
        assert!(family.renumber().is_none());
        family.begin_execution();
        let child = family.index(1, Made::Worker, 0);
        family.index(0, Made::Worker, 0);
        let renamed = family.renumber().unwrap();
        assert_eq!([0, 1, child, 2, 4].map(renamed), [0, 1, 2, 3, 4]);
        assert_eq!(family.index(1, Made::Worker, 0), 2);
        assert_eq!(family.index(3, Made::Worker, 0), 4, "the grandchild has another parent now");
    }
}
