//! What a client pays that obeys Retry-After.

#![allow(missing_docs, unreachable_pub, reason = "a test")]

#[path = "support/polling.rs"]
mod polling;

use polling::{Arrivals, follow};

#[test]
fn a_message_a_minute_costs_few_polls() {
    for seed in 1..20 {
        let waiting = follow(Arrivals::Steady, 60_000, 55_000, 2_000, seed);
        assert!(waiting.polls_per_message <= 1.2, "{seed}: {waiting:?}");
        assert!(waiting.latency_mean_s < 0.1, "{seed}: {waiting:?}");
        let polling = follow(Arrivals::Steady, 60_000, 0, 2_000, seed);
        assert!(polling.polls_per_message <= 3.0, "{seed}: {polling:?}");
        assert!(polling.latency_mean_s < 20.0, "{seed}: {polling:?}");
    }
}

#[test]
fn messages_that_come_as_they_like_cost_little_more() {
    for interval_ms in [2_000, 20_000, 60_000] {
        let waiting = follow(Arrivals::Scattered, interval_ms, 55_000, 5_000, 7);
        assert!(waiting.polls_per_message <= 1.6, "{interval_ms}: {waiting:?}");
        let polling = follow(Arrivals::Scattered, interval_ms, 0, 5_000, 7);
        assert!(polling.polls_per_message <= 3.0, "{interval_ms}: {polling:?}");
        assert!(polling.latency_mean_s < 0.001 * interval_ms as f64, "{interval_ms}: {polling:?}");
    }
}
