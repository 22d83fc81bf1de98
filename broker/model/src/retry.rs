//! When a client should come back: pure arithmetic, with the random draw passed in.

use crate::limits::{
    DRAIN_CLIENTS_PER_SECOND, DRAIN_RETRY_MS_MIN, DRAIN_SPAN_MS_MAX, DRAIN_SPAN_MS_MIN, RETRY_LOAD_MIN,
    RETRY_MS_MAX, RETRY_MS_MIN, RETRY_WAITED_MS_MAX,
};

/// The pace of a topic, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// The mean time between its latest messages, if it had two.
    pub interval_ms: Option<u64>,
    /// How long ago its newest was published, if it had one.
    pub age_ms: Option<u64>,
}

/// The time after which a poll that found nothing should come again.
///
/// Half of the topic's expected interval: its mean interval, or how long it has been silent if that is longer (what
/// has been silent for a minute will likely be so for another). `load` in 0..=1 stretches it up to eightfold; `draw` in
/// 0..=1 spreads it over ± 25 %, so that clients that came together don't come back together.
pub fn retry_after_ms(pace: Pace, load: f64, draw: f64) -> u64 {
    let expected = match (pace.interval_ms, pace.age_ms) {
        (Some(interval), Some(age)) => interval.max(age),
        (Some(known), None) | (None, Some(known)) => known,
        (None, None) => RETRY_MS_MAX,
    };
    let base = (expected / 2).clamp(RETRY_MS_MIN, RETRY_MS_MAX);
    spread(base.saturating_mul(1 + (7.0 * load.clamp(0.0, 1.0)) as u64), draw)
}

/// The time after which a poll that has waited in vain should come again: at once, unless the broker is busy. It would
/// be deaf meanwhile.
pub fn retry_waited_ms(load: f64, draw: f64) -> u64 {
    let busy = load.clamp(0.0, 1.0);
    if busy < RETRY_LOAD_MIN { 0 } else { spread((busy * RETRY_WAITED_MS_MAX as f64) as u64, draw) }
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
