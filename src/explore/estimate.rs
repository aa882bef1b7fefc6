//! How many executions will there be in all?
//!
//! Counting traces is #P-hard, so this is an estimate, and early on a low one:
//! branches are found while exploring. It is Knuth's (*Estimating the efficiency
//! of backtrack programs*, 1975) turned to a depth-first search that is under
//! way, as by Kilby et al. (*Estimating search tree size*, AAAI 2006): at every
//! point of the current execution, branches not yet begun are taken to be as
//! large as those that are done. From the innermost point outwards, the mean and
//! the variance of what is below add up.

/// A number of executions, roughly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Most likely.
    pub total: f64,
    /// Lower end of a 95 % confidence interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Estimate {
    /// The same, given how many executions there were already.
    pub fn at_least(self, executions: u64) -> Self {
        let least = executions as f64;
        let Self { total, low, high } = self;
        Self { total: total.max(least), low: low.max(least), high: high.max(least) }
    }
}

/// The sizes of the branches of one point that are done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    number: f64,
    sum: f64,
    squares: f64,
}

impl Sizes {
    /// A branch that took so many executions is done.
    pub fn add(&mut self, executions: u64) {
        let n = executions as f64;
        self.number += 1.0;
        self.sum += n;
        self.squares += n * n;
    }
}

/// Adds up points of the current execution, innermost first.
#[derive(Clone, Copy, Debug)]
pub struct Estimator {
    mean: f64,
    variance: f64,
}

impl Estimator {
    /// Below the innermost point: one execution.
    pub fn new() -> Self {
        Self { mean: 1.0, variance: 0.0 }
    }

    /// Goes out to a point whose current branch is what has been added so far,
    /// where some branches are done and `pending` not begun.
    pub fn point(&mut self, done: &Sizes, pending: usize) {
        let pending = pending as f64;
        // The current branch is a sample, too.
        let number = done.number + 1.0;
        let mean = (done.sum + self.mean) / number;
        let squares = done.squares + self.mean * self.mean + self.variance;
        // Of one sample nothing is known but its size: take that for the deviation.
        let spread = if number > 1.0 {
            ((squares - number * mean * mean) / (number - 1.0)).max(0.0)
        } else {
            mean * mean
        };
        self.mean += done.sum + pending * mean;
        // Branches not begun vary, each and together by the error of the mean.
        self.variance += pending * spread * (1.0 + pending / number);
    }

    /// The estimate, given how many executions there were at least.
    pub fn finish(self, at_least: u64) -> Estimate {
        let total = self.mean.max(at_least as f64);
        let margin = 1.96 * self.variance.sqrt();
        Estimate { total, low: total - margin, high: total + margin }.at_least(at_least)
    }
}

impl Default for Estimator {
    fn default() -> Self {
        Self::new()
    }
}
