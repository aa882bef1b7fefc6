//! A script: the order in which an earlier execution took the steps that matter,
//! known by what they do, so that a similar program can be led the same way.

use rustc_hash::FxHashSet;

use super::execution::{Slot, Status};
use super::label::{Deed, Label};
use crate::trace::Worker;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Script {
    /// What each step does, if that matters. Of events only those that do are here.
    steps: Vec<(Worker, Option<String>)>,
    names: FxHashSet<String>,
    at: usize,
    /// How many events there were when a worker was sent to take the step before.
    sent: Option<usize>,
    difference: Option<Difference>,
    /// What the block that runs has done so far.
    block: Label,
}

/// Where an execution could not be led on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Number of the step, from 0.
    pub index: usize,
    /// What its worker does instead; behind the last step, who does what.
    pub found: String,
}

/// Who runs next.
#[derive(Debug, PartialEq, Eq)]
pub enum Lead {
    /// This worker, for one event.
    Run(Worker),
    /// Nobody can.
    Nobody,
    /// The program does not do what it did.
    Lost,
}

impl Script {
    /// Of the steps of an execution, which are those on the locations with the
    /// given names.
    pub fn new(steps: Vec<(Worker, Label)>, names: FxHashSet<String>) -> Self {
        let told = |(worker, label): (Worker, Label)| {
            (worker, label.about(|deed| names.contains(&deed.name)))
        };
        Script { steps: steps.into_iter().map(told).collect(), names, ..Script::default() }
    }

    /// What a worker is about to do, unless it is left to the program, because it does
    /// not matter. That a thread has ended is asked once or often, by version.
    fn matters(&self, workers: &[Slot], slot: &Slot) -> Option<String> {
        self.about(slot, |deed| !deed.is_past(workers))
    }

    /// The same, but a join matters in any case: the first one is a step.
    fn with_join(&self, workers: &[Slot], slot: &Slot) -> Option<String> {
        self.about(slot, |deed| deed.kind == "join" || !deed.is_past(workers))
    }

    /// Is what this worker is about to do its next step?
    fn is_to_come(&self, workers: &[Slot], worker: Worker) -> bool {
        let told = self.with_join(workers, &workers[worker as usize]);
        let mut rest = self.steps[self.at..].iter();
        told.is_some() && rest.find(|step| step.0 == worker).is_some_and(|step| step.1 == told)
    }

    fn about(&self, slot: &Slot, also: impl Fn(&Deed) -> bool) -> Option<String> {
        slot.label.as_ref()?.about(|deed| self.names.contains(&deed.name) && also(deed))
    }

    /// Who runs next, of workers that stand before an event or cannot run, after so
    /// many events.
    pub fn lead(
        &mut self,
        workers: &[Slot],
        current: Option<Worker>,
        events: usize,
        is_enabled: impl Fn(Worker) -> bool,
    ) -> Lead {
        if self.sent.take() == Some(events) {
            // It found the lock taken meanwhile, say, and stands before the step again.
            self.at -= 1;
        }
        let mut able = (0..workers.len() as Worker).filter(|&worker| is_enabled(worker));
        let Some((worker, expected)) = self.steps.get(self.at) else {
            let stays = current.filter(|&worker| is_enabled(worker));
            let Some(next) = stays.or_else(|| able.next()) else { return Lead::Nobody };
            return match self.matters(workers, &workers[next as usize]) {
                None => Lead::Run(next),
                Some(more) => self.lose(format!("worker {next}: {more}")),
            };
        };
        let worker = *worker;
        let slot = workers.get(worker as usize);
        if let Some(slot) = slot.filter(|_| is_enabled(worker)) {
            if self.with_join(workers, slot) == *expected {
                self.at += 1;
                self.sent = Some(events);
                return Lead::Run(worker);
            }
            return match self.matters(workers, slot) {
                None => Lead::Run(worker),
                Some(found) => self.lose(found),
            };
        }
        // It may wait for steps of others that do not matter, nor are to come.
        let is_free = |&w: &Worker| {
            let slot = &workers[w as usize];
            self.matters(workers, slot).is_none() && !self.is_to_come(workers, w)
        };
        if let Some(other) = able.clone().find(is_free) {
            return Lead::Run(other);
        }
        match slot {
            Some(slot) if slot.status == Status::Done => self.lose("has ended".into()),
            _ if able.next().is_none() => Lead::Nobody,
            Some(slot) => {
                let waits = slot.label.as_ref().and_then(|label| label.about(|_| true));
                self.lose(format!("has to wait: {}", waits.unwrap_or_default()))
            }
            None => self.lose("has not been started".into()),
        }
    }

    /// The same for blocks: what one does is known when it is over.
    pub fn lead_block(&mut self, workers: &[Slot], is_enabled: impl Fn(Worker) -> bool) -> Lead {
        if self.difference.is_some() {
            return Lead::Lost;
        }
        let able = |worker: &Worker| usize::from(*worker) < workers.len() && is_enabled(*worker);
        while self.steps.get(self.at).is_some_and(|(w, step)| step.is_none() && !able(w)) {
            self.at += 1;
        }
        let rest = self.steps[self.at..].iter().map(|(worker, _)| *worker);
        let next = rest.chain(0..workers.len() as Worker).find(able);
        next.map_or(Lead::Nobody, Lead::Run)
    }

    /// A step of the block that runs.
    pub fn note(&mut self, step: Label) {
        self.block.join(step);
    }

    /// The block of this worker is over.
    pub fn end_block(&mut self, worker: Worker) {
        let did = std::mem::take(&mut self.block).about(|deed| self.names.contains(&deed.name));
        let Some(did) = did else {
            if self.steps.get(self.at) == Some(&(worker, None)) {
                self.at += 1;
            }
            return;
        };
        // Blocks that do not matter may have gone.
        let mut rest = self.steps.iter().enumerate().skip(self.at);
        let expected = rest.find_map(|(at, (w, step))| Some((at, *w, step.as_ref()?)));
        match expected {
            Some((at, w, step)) if w == worker && *step == did => self.at = at + 1,
            Some((at, w, _)) => {
                self.at = at;
                self.lose(match w == worker {
                    true => did,
                    false => format!("has to wait, and worker {worker} comes first: {did}"),
                });
            }
            None => {
                self.at = self.steps.len();
                self.lose(format!("worker {worker}: {did}"));
            }
        }
    }

    fn lose(&mut self, found: String) -> Lead {
        self.difference.get_or_insert(Difference { index: self.at, found });
        Lead::Lost
    }

    /// Where the execution, which is over, left the script.
    pub fn difference(&self) -> Option<Difference> {
        let missing = self.steps.iter().skip(self.at).position(|(_, step)| step.is_some());
        let early = |ahead| Difference {
            index: self.at + ahead,
            found: "has ended, or waits for ever".into(),
        };
        self.difference.clone().or_else(|| missing.map(early))
    }
}
