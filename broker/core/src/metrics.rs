//! The broker's counters. The names on `/metrics` are given here, once.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The reason of a gap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The word on the wire.
    pub reason: &'static str,
}

/// Counters of the broker's core.
#[derive(Debug)]
pub struct Metrics {
    /// Messages appended and committed.
    pub messages_in: Counter,
    /// Bytes of their bodies.
    pub bytes_in: Counter,
    /// Messages handed to transports.
    pub messages_out: Counter,
    /// Publishes that were answered from an idempotency key.
    pub replayed: Counter,
    /// Publishes refused because the queue was full.
    pub refused: Counter,
    /// Commits.
    pub commits: Counter,
    /// Time of an append and its commit.
    pub commit_seconds: Histogram,
    /// Messages of a commit.
    pub commit_messages: Histogram,
    /// Gaps reported.
    pub gaps: Family<ReasonLabel, Counter>,
    /// Open readers.
    pub readers: Gauge,
    /// Pages read from the log by readers that were behind.
    pub log_pages: Counter,
    /// How long before that the first message of such a page was published.
    pub lag_seconds: Histogram,
    /// Lines of the process's own log that stderr did not take in time.
    pub diagnostics_dropped: Counter,
    /// Such lines that were left out, as there were too many of one kind.
    pub diagnostics_suppressed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            messages_in: Counter::default(),
            bytes_in: Counter::default(),
            messages_out: Counter::default(),
            replayed: Counter::default(),
            refused: Counter::default(),
            commits: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 14)),
            commit_messages: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            gaps: Family::default(),
            readers: Gauge::default(),
            log_pages: Counter::default(),
            lag_seconds: Histogram::new(exponential_buckets(0.01, 8.0, 9)),
            diagnostics_dropped: Counter::default(),
            diagnostics_suppressed: Counter::default(),
        }
    }
}

impl Metrics {
    /// Names them all.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry;
        r.register("messages_in", "Messages appended and committed", self.messages_in.clone());
        r.register_with_unit("received", "Bytes of published bodies", Unit::Bytes, self.bytes_in.clone());
        r.register(
            "messages_out",
            "Messages handed to connections, also again to one that fell behind",
            self.messages_out.clone(),
        );
        r.register("publishes_replayed", "Publishes answered from their key", self.replayed.clone());
        r.register("publishes_refused", "Publishes refused by a full queue", self.refused.clone());
        r.register("commits", "Commits", self.commits.clone());
        r.register_with_unit("commit", "Time to commit", Unit::Seconds, self.commit_seconds.clone());
        r.register("commit_messages", "Messages of a commit", self.commit_messages.clone());
        r.register("gaps", "Gaps reported to clients", self.gaps.clone());
        r.register("readers", "Open readers", self.readers.clone());
        r.register("log_pages", "Pages read from the log", self.log_pages.clone());
        r.register_with_unit(
            "lag",
            "Age of the first message of a page read from the log",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        r.register(
            "diagnostics_dropped",
            "Lines of the process's own log that stderr did not take",
            self.diagnostics_dropped.clone(),
        );
        r.register(
            "diagnostics_suppressed",
            "Lines of the process's own log beyond the limit of their kind",
            self.diagnostics_suppressed.clone(),
        );
    }
}
