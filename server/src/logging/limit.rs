//! The rate limit of log lines: at most some of one kind in a second, however many a client causes. A kind is a place in
//! the code. Lines beyond the limit are counted, and reported in one line.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Instant,
};

use parking_lot::Mutex;
use tailwire_http::ACCESS_LOG;
use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::layer::{Context, Layer};

use super::queue::OnLoss;

/// Lines of one kind in one second.
const LINES_PER_SECOND_MAX: u32 = 10;
/// Target of the log's lines about itself, which are never limited. Nor are those of the access log, which was asked for.
pub(super) const SELF_TARGET: &str = "tailwire::log";

/// Counts of lines by their kind; as many kinds as the code has places that log.
pub(super) struct RateLimit {
    began: Instant,
    kinds: Mutex<HashMap<Identifier, KindCount>>,
    on_suppress: OnceLock<OnLoss>,
}

struct KindCount {
    /// The second that `lines` counts, since the start.
    second: u64,
    lines: u32,
    /// Lines left out since the last report.
    suppressed: u64,
    metadata: &'static Metadata<'static>,
}

/// Lines of one kind that were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suppressed {
    pub(super) kind: String,
    pub(super) level: Level,
    pub(super) lines: u64,
}

impl RateLimit {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), kinds: Mutex::default(), on_suppress: OnceLock::new() }
    }

    /// Has every line counted that is left out from here on.
    pub(super) fn count_suppressed(&self, count: OnLoss) {
        // Only the start of the broker calls this; a second counter would change nothing.
        let _ = self.on_suppress.set(count);
    }

    /// Lines left out that have not been reported, by kind, of kinds whose second is over; and whether there are others.
    pub(super) fn take_suppressed(&self) -> (Vec<Suppressed>, bool) {
        self.take_suppressed_at(self.began.elapsed().as_secs())
    }

    fn take_suppressed_at(&self, now: u64) -> (Vec<Suppressed>, bool) {
        let (mut over, mut more) = (Vec::new(), false);
        for kind in self.kinds.lock().values_mut().filter(|kind| kind.suppressed > 0) {
            if kind.second == now {
                more = true;
                continue;
            }
            let (metadata, lines) = (kind.metadata, std::mem::take(&mut kind.suppressed));
            let line = metadata.line().map_or_else(String::new, |line| format!(":{line}"));
            let name = format!("{}{line}", metadata.target());
            over.push(Suppressed { kind: name, level: *metadata.level(), lines });
        }
        (over, more)
    }

    fn admits(&self, metadata: &'static Metadata<'static>, now: u64) -> bool {
        if [SELF_TARGET, ACCESS_LOG].contains(&metadata.target()) {
            return true;
        }
        let mut kinds = self.kinds.lock();
        let kind = kinds.entry(metadata.callsite()).or_insert(KindCount {
            second: now,
            lines: 0,
            suppressed: 0,
            metadata,
        });
        if kind.second != now {
            (kind.second, kind.lines) = (now, 0);
        }
        if kind.lines < LINES_PER_SECOND_MAX {
            kind.lines += 1;
            return true;
        }
        kind.suppressed += 1;
        if let Some(on_suppress) = self.on_suppress.get() {
            on_suppress();
        }
        false
    }
}

/// The limit as a layer. It stands behind the filter of levels, which is asked first.
pub(super) struct RateLimitLayer(pub(super) Arc<RateLimit>);

impl<S: Subscriber> Layer<S> for RateLimitLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.admits(event.metadata(), self.0.began.elapsed().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use tracing::Callsite;
    use tracing_subscriber::prelude::*;

    use super::*;

    /// The metadata of two places in the code.
    fn places() -> [&'static Metadata<'static>; 2] {
        [
            tracing::callsite! { name: "one", kind: tracing::metadata::Kind::EVENT, target: "a", level: Level::DEBUG, fields: message }
                .metadata(),
            tracing::callsite! { name: "two", kind: tracing::metadata::Kind::EVENT, target: "b", level: Level::ERROR, fields: message }
                .metadata(),
        ]
    }

    #[test]
    fn ten_lines_of_a_kind_pass_in_a_second_and_the_others_are_reported_when_it_is_over() {
        let limit = RateLimit::new();
        let [one, two] = places();
        let passed = |place, now, count| (0..count).filter(|_| limit.admits(place, now)).count();
        assert_eq!((passed(one, 0, 25), passed(two, 0, 10)), (10, 10));
        assert_eq!(limit.take_suppressed_at(0), (Vec::new(), true));
        let (over, more) = limit.take_suppressed_at(1);
        assert_eq!((over.len(), more), (1, false));
        assert_eq!((over[0].level, over[0].lines), (Level::DEBUG, 15));
        assert!(over[0].kind.starts_with("a:"), "{over:?}");
        assert_eq!(limit.take_suppressed_at(2), (Vec::new(), false));
        assert_eq!((passed(one, 5, 11), passed(one, 6, 1)), (10, 1));
        assert_eq!(limit.take_suppressed_at(7).0[0].lines, 1);
    }

    #[test]
    fn lines_that_are_left_out_reach_no_layer() {
        struct CountLayer(Arc<Mutex<u32>>);
        impl<S: Subscriber> Layer<S> for CountLayer {
            fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
                *self.0.lock() += 1;
            }
        }
        let (limit, lines) = (Arc::new(RateLimit::new()), Arc::new(Mutex::new(0)));
        let subscriber = tracing_subscriber::registry()
            .with(CountLayer(lines.clone()))
            .with(RateLimitLayer(limit.clone()));
        tracing::subscriber::with_default(subscriber, || {
            (0..1000).for_each(|n| tracing::warn!(n, "again"));
            (0..30).for_each(|_| tracing::warn!(target: SELF_TARGET, "about the log"));
        });
        // A second may have ended between.
        let lines = *lines.lock();
        assert!((40..=50).contains(&lines), "{lines}");
    }
}
