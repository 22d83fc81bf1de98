//! Histograms of latencies.

use hdrhistogram::Histogram;

/// Latencies beyond this count as this; no run should wait longer for one message.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// An empty histogram of latencies, in nanoseconds and to three digits.
pub fn latencies() -> Histogram<u64> {
    // The bounds are constants that satisfy what the constructor asks for; the other arm is never taken.
    Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_keep_three_digits_and_the_last_bucket_takes_the_rest() {
        let mut all = latencies();
        (1..=1000).for_each(|us| all.saturating_record(us * 1000));
        all.saturating_record(u64::MAX);
        let p50 = all.value_at_quantile(0.5) as f64;
        assert!((p50 - 501_000.0).abs() < 1_000.0, "{p50}");
        let p99 = all.value_at_quantile(0.99) as f64;
        assert!((p99 - 991_000.0).abs() < 1_000.0, "{p99}");
        assert!(all.max() >= LATENCY_NS_MAX);
    }
}
