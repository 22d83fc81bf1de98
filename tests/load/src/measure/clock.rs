//! The clock of a run.

use std::time::Instant;

use crate::measure::payload::RunId;

/// A run's identity, which its messages carry, and its clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadRun {
    pub(crate) id: RunId,
    began: Instant,
}

impl LoadRun {
    pub(crate) fn start() -> LoadRun {
        LoadRun { id: RunId::random(), began: Instant::now() }
    }

    /// A run whose messages are those of all others like it.
    pub(crate) fn shared() -> LoadRun {
        LoadRun { id: RunId::SHARED, began: Instant::now() }
    }

    /// Nanoseconds since it began, so that they take few digits.
    pub(crate) fn now_ns(self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
