//! When a client should come back: pure arithmetic, with the random draw passed in.

use crate::limits::{
    DRAIN_CLIENTS_PER_SECOND, DRAIN_RETRY_MS_MIN, DRAIN_SPAN_MS_MAX, DRAIN_SPAN_MS_MIN, FEED_CACHE_MS_MAX,
    RETRY_LOAD_MIN, RETRY_MS_MAX, RETRY_MS_MIN, RETRY_WAITED_MS_MAX,
};

/// The pace of a topic, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// The mean time between its latest messages, if it had two.
    pub interval_ms: Option<u64>,
    /// How long ago its newest was published, if it had one.
    pub age_ms: Option<u64>,
}

impl Pace {
    /// When the next message is to be expected, counted from now: after the mean interval, or after as long as there has been
    /// none if that is longer (what has been silent for a minute will likely be so for another). Nothing where nothing ever came.
    pub fn expected_ms(&self) -> Option<u64> {
        match (self.interval_ms, self.age_ms) {
            (Some(interval), Some(age)) => Some(interval.max(age)),
            (known, None) | (None, known) => known,
        }
    }
}

/// A poll that is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Poll {
    /// Of its topic.
    pub pace: Pace,
    /// How long it was ready to wait, as granted; zero: not at all.
    pub wait_ms: u64,
    /// Whether it is given messages, and those up to the newest.
    pub has_found: bool,
    /// How much the broker has to do, in 0..=1.
    pub load: f64,
}

/// The time after which a poll should come again, once it is answered.
///
/// One that doesn't wait: half of the time after which the next message is expected, so that it costs two polls; more under
/// load, up to eightfold. One that has waited in vain: at once, since it would be deaf meanwhile, unless the broker is busy. One
/// that has waited and found: so late that its next wait ends a quarter behind the next message, if messages are that far
/// apart; at most a third of what lies between them, since they may also come close together. `draw` in 0..=1 spreads all of
/// these over ± 25 %, so that clients that came together don't come back together.
pub fn retry_after_ms(poll: &Poll, draw: f64) -> u64 {
    let load = poll.load.clamp(0.0, 1.0);
    let busy_ms = if load < RETRY_LOAD_MIN { 0 } else { (load * RETRY_WAITED_MS_MAX as f64) as u64 };
    let base = match (poll.wait_ms, poll.has_found) {
        (0, _) => {
            let half = poll.pace.expected_ms().unwrap_or(RETRY_MS_MAX) / 2;
            half.clamp(RETRY_MS_MIN, RETRY_MS_MAX).saturating_mul(1 + (7.0 * load) as u64)
        }
        (_, false) => busy_ms,
        (wait_ms, true) => {
            let interval = poll.pace.interval_ms.unwrap_or(0);
            let behind = (interval.saturating_mul(5) / 4).saturating_sub(wait_ms);
            behind.min(interval / 3).min(RETRY_MS_MAX).max(busy_ms)
        }
    };
    spread(base, draw)
}

/// How often a feed is worth a look, by what is expected of its topic: two looks a message, as for polls, but a reader of
/// feeds has the patience for any pace. An hour where nothing ever came.
pub fn feed_ms(pace: Pace) -> u64 {
    pace.expected_ms().map_or(3_600_000, |expected| expected / 2)
}

/// How long a cache may give a feed without asking: what is a tenth as old as the next message is away is hardly old.
pub fn feed_cache_ms(pace: Pace) -> u64 {
    (pace.expected_ms().unwrap_or(FEED_CACHE_MS_MAX) / 10).min(FEED_CACHE_MS_MAX)
}

/// The time after which one of so many clients should come back that a drain sends away: few of them soon, many over a
/// time in which the broker can take them all. `draw` in 0..=1 is the client's place in it.
pub fn retry_drained_ms(clients: u64, draw: f64) -> u64 {
    let span = clients.saturating_mul(1000) / DRAIN_CLIENTS_PER_SECOND;
    let span = span.clamp(DRAIN_SPAN_MS_MIN, DRAIN_SPAN_MS_MAX);
    DRAIN_RETRY_MS_MIN + (span as f64 * draw.clamp(0.0, 1.0)) as u64
}

/// A time spread over ± 25 % by `draw` in 0..=1.
pub fn spread(base_ms: u64, draw: f64) -> u64 {
    (base_ms as f64 * (0.75 + draw.clamp(0.0, 1.0) / 2.0)) as u64
}
