//! Throttling: how much of the machine reading old data may take while messages are published. A reader of a long log is
//! less urgent than a commit, and would take every core that a commit, or a live delivery, is about to want.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tailwire_model::limits::{CATCH_UP_QUIET_MS, CATCH_UP_THROTTLE_MS_MAX, CATCH_UP_WAIT_MS_MAX};

/// Tells whether anybody publishes.
#[derive(Debug)]
pub(crate) struct Activity {
    /// The origin of all times.
    began: Instant,
    is_under_way: AtomicBool,
    /// When the last commit was over, in microseconds; zero if there was none.
    last_us: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { began: Instant::now(), is_under_way: AtomicBool::default(), last_us: AtomicU64::default() }
    }
}

impl Activity {
    /// A commit begins.
    pub(crate) fn begin(&self) {
        self.is_under_way.store(true, Ordering::Relaxed);
    }

    /// It is over, and answered.
    pub(crate) fn end(&self, now: Instant) {
        self.last_us.store(self.us(now).max(1), Ordering::Relaxed);
        self.is_under_way.store(false, Ordering::Relaxed);
    }

    /// The pause of catching up after work that took so long, at `times` its length: none, unless something is being
    /// committed or was just before.
    pub(crate) fn throttle(&self, now: Instant, took: Duration, times: u32) -> Duration {
        let last_us = self.last_us.load(Ordering::Relaxed);
        let is_recent = last_us > 0 && self.us(now) < last_us + CATCH_UP_QUIET_MS * 1000;
        if !is_recent && !self.is_under_way.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        (took * times).min(Duration::from_millis(CATCH_UP_THROTTLE_MS_MAX))
    }

    fn us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
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

    /// Pauses after turns that were taken at once add up, to no more than a job waits.
    pub(crate) fn throttle(&mut self, now: Instant, throttle: Duration) {
        let latest = now + Duration::from_millis(CATCH_UP_WAIT_MS_MAX);
        self.next = (self.next.max(now) + throttle).min(latest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_micros(300);
    const TIMES: u32 = 4;

    #[test]
    fn reads_are_throttled_while_something_is_committed_and_shortly_after() {
        let (activity, now) = (Activity::default(), Instant::now());
        assert_eq!(activity.throttle(now, TOOK, TIMES), Duration::ZERO, "nobody publishes");
        activity.begin();
        assert_eq!(activity.throttle(now, TOOK, TIMES), TOOK * TIMES);
        activity.end(now);
        assert_eq!(activity.throttle(now + TOOK, TOOK, TIMES), TOOK * TIMES);
        let quiet = now + Duration::from_millis(CATCH_UP_QUIET_MS + 1);
        assert_eq!(activity.throttle(quiet, TOOK, TIMES), Duration::ZERO);
    }

    #[test]
    fn a_pause_is_bounded_and_pauses_add_up() {
        let activity = Activity::default();
        activity.begin();
        let longest = Duration::from_millis(CATCH_UP_THROTTLE_MS_MAX);
        assert_eq!(activity.throttle(Instant::now(), Duration::from_secs(60), TIMES), longest);
        let (mut turns, now) = (Turns::new(), Instant::now() + Duration::from_secs(1));
        turns.throttle(now, longest / 2);
        turns.throttle(now, longest);
        assert_eq!(turns.next, now + longest * 3 / 2);
        turns.throttle(now, longest);
        assert_eq!(turns.next, now + Duration::from_millis(CATCH_UP_WAIT_MS_MAX), "no pause is longer");
        turns.throttle(now + 3 * longest, Duration::ZERO);
        assert_eq!(turns.next, now + 3 * longest);
    }
}
