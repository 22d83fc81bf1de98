//! How old messages and idempotency keys are. Their times are the wall clock's, which people and machines set; their ages
//! are measured on a clock that only ever runs forward. What an earlier process stored has only its time: it is taken for
//! as old as that says, but never for younger than the opening.
//!
//! The steady clock, which the order reads, shows what the wall clock showed when the log was opened, and the time since. Where the wall clock was
//! set meanwhile, the positions from there on are remembered with how far it is off.

use tailwire_model::{Position, Timestamp};

/// By how much a clock may be off without having been set: it is read a moment before or after the other.
const TOLERANCE_MS: u64 = 250;
/// Clocks that are set again and again are remembered so often; beyond that, what came first counts as a little older or
/// younger than it is.
const STEPS_MAX: usize = 1024;

/// When messages came, by the steady clock.
#[derive(Debug, Clone)]
pub(crate) struct Ages {
    opened: Timestamp,
    /// The first position of this opening.
    first: Position,
    /// From which positions on the wall clock was ahead of the steady one by how much, in milliseconds.
    steps: Vec<(Position, i64)>,
}

impl Default for Ages {
    /// Of a log of which nothing is known but times.
    fn default() -> Self {
        Self { opened: Timestamp(u64::MAX), first: Position::MAX, steps: Vec::new() }
    }
}

impl Ages {
    /// Of a log that was opened at a time, and whose next message stands at `first`.
    pub(crate) fn new(opened: Timestamp, first: Position) -> Self {
        Self { opened, first, steps: Vec::new() }
    }

    /// When the message at a position came, whose time is `time`.
    pub(crate) fn at(&self, position: Position, time: Timestamp) -> Timestamp {
        if position < self.first {
            return time.min(self.opened);
        }
        let following = self.steps.partition_point(|(from, _)| *from <= position);
        let ahead = following.checked_sub(1).map_or(0, |last| self.steps[last].1);
        Timestamp(time.0.saturating_add_signed(ahead.saturating_neg()))
    }

    /// The wall clock shows `now` when the steady one shows `steady`, and the next message will stand at `next`. Answers
    /// whether it was set since it was looked at last.
    pub(crate) fn look(&mut self, now: Timestamp, steady: Timestamp, next: Position) -> bool {
        let ahead = i64::try_from(i128::from(now.0) - i128::from(steady.0)).unwrap_or(i64::MAX);
        if ahead.abs_diff(self.ahead()) <= TOLERANCE_MS {
            return false;
        }
        match self.steps.last_mut() {
            Some((from, last)) if *from == next => *last = ahead,
            _ => self.steps.push((next, ahead)),
        }
        if self.steps.len() > STEPS_MAX {
            self.steps.drain(..STEPS_MAX / 2);
        }
        true
    }

    fn ahead(&self) -> i64 {
        self.steps.last().map_or(0, |(_, ahead)| *ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENED: Timestamp = Timestamp(1_000_000);

    #[test]
    fn what_was_stored_before_is_no_younger_than_the_opening() {
        let ages = Ages::new(OPENED, Position(10));
        assert_eq!(ages.at(Position(9), Timestamp(400)), Timestamp(400));
        assert_eq!(ages.at(Position(9), Timestamp(2_000_000)), OPENED);
        assert_eq!(ages.at(Position(10), Timestamp(2_000_000)), Timestamp(2_000_000));
    }

    #[test]
    fn steps_of_the_wall_clock_change_no_age() {
        let mut ages = Ages::new(OPENED, Position(1));
        let steady = |ms: u64| Timestamp(OPENED.0 + ms);
        let mut times = Vec::new();
        for (n, ahead) in [0i64, 100, 660_000, 660_000, -300_000, 0].into_iter().enumerate() {
            let (position, steady) = (Position(n as u64 + 1), steady(1000 * n as u64));
            let wall = Timestamp(steady.0.saturating_add_signed(ahead));
            ages.look(wall, steady, position);
            times.push((position, wall));
        }
        for (n, &(position, wall)) in times.iter().enumerate() {
            let came = ages.at(position, wall);
            assert!(came.0.abs_diff(steady(1000 * n as u64).0) <= TOLERANCE_MS, "{n}: {came:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_all_the_time_takes_bounded_memory() {
        let mut ages = Ages::new(OPENED, Position(1));
        for n in 0..5000 {
            ages.look(Timestamp(OPENED.0 + 1000 * (n % 7)), OPENED, Position(n + 1));
        }
        assert!(ages.steps.len() <= STEPS_MAX);
    }

    #[test]
    fn extreme_times_do_no_harm() {
        let mut ages = Ages::new(Timestamp(u64::MAX), Position(1));
        ages.look(Timestamp(0), Timestamp(u64::MAX), Position(1));
        ages.look(Timestamp(u64::MAX), Timestamp(0), Position(2));
        assert_eq!(ages.at(Position(2), Timestamp(u64::MAX)), Timestamp(u64::MAX - i64::MAX.unsigned_abs()));
    }
}
