//! When a store is tidied between commits: soon after one, when nothing waits to be committed, and under steady load every so
//! many commits. Both orders that apply entries to a store keep one.

use std::time::{Duration, Instant};

/// Under steady load the store is tidied a step every so many commits, and more often when it needs that.
const COMMITS_PER_TIDY: usize = 64;
/// The longest that tidying waits after a commit: publishes that come one after the other don't pay for a step each.
const TIDY_DELAY: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub struct TidySchedule {
    at: Option<Instant>,
    /// Commits since the last step.
    commits: usize,
}

impl Default for TidySchedule {
    /// Due at once: an earlier run may have left something.
    fn default() -> Self {
        Self { at: Some(Instant::now()), commits: 0 }
    }
}

impl TidySchedule {
    /// When the store wants to be tidied next, if ever.
    pub const fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Something was committed.
    pub fn committed(&mut self) {
        self.commits += 1;
        let latest = Instant::now() + TIDY_DELAY;
        self.at = Some(self.at.map_or(latest, |at| at.min(latest)));
    }

    /// Whether it is time for a step: nothing waits, or much was committed, or the store needs it.
    pub fn is_due(&self, is_idle: impl FnOnce() -> bool, needs_it: impl FnOnce() -> bool) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
            && (is_idle() || self.commits >= COMMITS_PER_TIDY || needs_it())
    }

    /// A step was done, and the next is due in so many milliseconds, if ever.
    pub fn done(&mut self, again_ms: Option<u64>) {
        self.commits = 0;
        self.at = again_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    }
}
