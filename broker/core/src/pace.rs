//! How much of the machine reading old data may take while messages are published. Who reads a long log has no need that
//! is as urgent as a commit's, and would take every core that a commit, or a live delivery, is about to want.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tailwire_model::limits::CATCH_UP_REST_MS_MAX;

/// Tells whether commits come one upon the other: how many began and ended. Odd while one is under way.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// A commit begins.
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended, and is answered.
    pub(crate) fn end(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// As of now, to be asked with later.
    pub(crate) fn marks(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// How long catching up rests after work that began at these marks and took so long, at `times` as long a rest: not at
    /// all, unless something was being committed meanwhile.
    pub(crate) fn rest(&self, since: u64, took: Duration, times: u32) -> Duration {
        let marks = self.marks();
        if marks == since && marks.is_multiple_of(2) {
            return Duration::ZERO;
        }
        (took * times).min(Duration::from_millis(CATCH_UP_REST_MS_MAX))
    }
}

/// The times of catching up, of all threads together.
#[derive(Debug)]
pub(crate) struct Turns {
    /// When the next may begin.
    pub(crate) next: Instant,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { next: Instant::now() }
    }

    /// Rests of turns that were taken at once add up.
    pub(crate) fn rest(&mut self, now: Instant, rest: Duration) {
        self.next = self.next.max(now) + rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_micros(300);
    const TIMES: u32 = 4;

    #[test]
    fn nobody_rests_for_nobody() {
        let pace = Pace::default();
        assert_eq!(pace.rest(pace.marks(), TOOK, TIMES), Duration::ZERO);
        pace.begin();
        pace.end();
        assert_eq!(pace.rest(pace.marks(), TOOK, TIMES), Duration::ZERO);
    }

    #[test]
    fn a_commit_that_began_or_ended_or_goes_on_meanwhile_is_given_time() {
        let pace = Pace::default();
        let before = pace.marks();
        pace.begin();
        let during = pace.marks();
        let rest = TOOK * TIMES;
        assert_eq!((pace.rest(before, TOOK, TIMES), pace.rest(during, TOOK, TIMES)), (rest, rest));
        pace.end();
        assert_eq!((pace.rest(before, TOOK, TIMES), pace.rest(during, TOOK, TIMES)), (rest, rest));
    }

    #[test]
    fn a_rest_is_bounded_and_rests_add_up() {
        let pace = Pace::default();
        pace.begin();
        let longest = Duration::from_millis(CATCH_UP_REST_MS_MAX);
        assert_eq!(pace.rest(0, Duration::from_secs(60), TIMES), longest);
        let (mut turns, now) = (Turns::new(), Instant::now() + Duration::from_secs(1));
        turns.rest(now, longest);
        turns.rest(now, longest);
        assert_eq!(turns.next, now + 2 * longest);
        turns.rest(now + 3 * longest, Duration::ZERO);
        assert_eq!(turns.next, now + 3 * longest);
    }
}
