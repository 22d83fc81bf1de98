//! The transports' counters, and the text of `/metrics` (OpenMetrics).

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use tailwire_core::{Broker, log::LogStats, order::Health};
use tailwire_model::{ByeReason, Quota, QuotaKind};

use crate::limiter::{Hold, Refusals};

/// A way to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    WebSocket,
    Sse,
    Ndjson,
    LongPoll,
    Page,
}

impl Transport {
    /// As their numbers are.
    const ALL: [Self; 5] = [Self::WebSocket, Self::Sse, Self::Ndjson, Self::LongPoll, Self::Page];

    /// A page is no more than its request, which is logged already.
    fn log(self, what: &'static str) {
        if !matches!(self, Self::Page) {
            tracing::debug!(transport = self.as_str(), "{what}");
        }
    }

    /// The transport of that name; a page for one that is none.
    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|own| own.as_str() == name).unwrap_or(Self::Page)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::Ndjson => "ndjson",
            Self::LongPoll => "long-poll",
            Self::Page => "page",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransportLabel {
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByeLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabel {
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuotaLabel {
    pattern: String,
    kind: &'static str,
}

/// The transports' counters; cloning is cheap.
#[derive(Clone)]
pub(crate) struct HttpMetrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    broker: Broker,
    /// By the transport's number: every poll counts here, and needn't look for it by name.
    transports: [PerTransport; Transport::ALL.len()],
    byes: Family<ByeLabel, Counter>,
    responses: Family<ResponseLabel, Counter>,
    limited: Refusals,
    quota_used: Family<QuotaLabel, Gauge>,
    log: LogGauges,
}

/// The counters of one transport.
struct PerTransport {
    open: Gauge,
    opened: Counter,
    bytes_out: Counter,
}

/// The log as it stands when it is asked, in the words of `tailwire log stats`.
#[derive(Default)]
struct LogGauges {
    topics: Gauge,
    messages: Gauge,
    bytes: Gauge,
    file_bytes: Gauge,
    head: Gauge,
    tail: Gauge,
    epochs: Gauge,
    epoch: Gauge,
    commits: Gauge,
    acknowledged_commits: Gauge,
    acknowledged: Gauge,
    trims: Gauge,
    keys: Gauge,
    options: Gauge,
    writable: Gauge,
    behind: Gauge<f64, AtomicU64>,
}

impl LogGauges {
    fn register(&self, registry: &mut Registry, stats: &LogStats) {
        let registry = registry.sub_registry_with_prefix("log");
        let format = stats.format.map_or_else(String::new, |format| format.to_string());
        let labels = vec![("id", stats.id.as_deref().unwrap_or("").to_owned()), ("format", format)];
        registry.register("name", "The log's own name, and the version of what it stores", Info::new(labels));
        let mut add = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
        add("topics", "Topics ever written to", &self.topics);
        add("messages", "Messages retained", &self.messages);
        add("head_position", "The oldest retained position, 0 if there is none", &self.head);
        add("tail_position", "The newest position", &self.tail);
        add("epochs", "How often the log was opened", &self.epochs);
        add("epoch", "The number of the epoch", &self.epoch);
        add("commits", "The number of the last commit", &self.commits);
        let acknowledged = "The number of the last commit that is on the disk";
        add("acknowledged_commits", acknowledged, &self.acknowledged_commits);
        add("acknowledged_position", "The newest position as of that commit", &self.acknowledged);
        add("trims", "Topics that were trimmed", &self.trims);
        add("keys", "Idempotency keys that are remembered", &self.keys);
        add("options", "Topics and patterns that options are set for", &self.options);
        add("bytes", "What the messages take, as bounds count it", &self.bytes);
        add("writable", "1 if the order takes writes and this node keeps up or will", &self.writable);
        let behind = "For how long a node of a cluster has not had what others have";
        registry.register_with_unit("behind", behind, Unit::Seconds, self.behind.clone());
        registry.register_with_unit("file", "What the files take", Unit::Bytes, self.file_bytes.clone());
    }

    fn set(&self, broker: &Broker) {
        let stats = broker.stats();
        let (acknowledged_commits, acknowledged) = stats.acknowledged.unwrap_or_default();
        let head = stats.head.unwrap_or_default();
        let (is_writable, behind_ms) = match broker.health() {
            Health::Good | Health::Misconfigured => (true, 0),
            Health::Behind(ms) => (true, ms),
            Health::Failing | Health::Detached | Health::Diverged => (false, 0),
        };
        self.behind.set(behind_ms as f64 / 1000.0);
        let figures = [
            (&self.topics, stats.topics),
            (&self.messages, stats.messages),
            (&self.bytes, stats.bytes),
            (&self.file_bytes, stats.file_bytes),
            (&self.head, head.0),
            (&self.tail, broker.tail().position.0),
            (&self.epochs, broker.epochs()),
            (&self.epoch, broker.epoch().number()),
            (&self.commits, stats.commits),
            (&self.acknowledged_commits, acknowledged_commits),
            (&self.acknowledged, acknowledged.0),
            (&self.trims, stats.trims),
            (&self.keys, stats.keys),
            (&self.options, stats.options),
            (&self.writable, u64::from(is_writable)),
        ];
        for (gauge, figure) in figures {
            gauge.set(figure.cast_signed());
        }
    }
}

impl HttpMetrics {
    /// Names every counter, the broker's too.
    pub(crate) fn new(broker: &Broker) -> Self {
        let mut registry = Registry::with_prefix("tailwire");
        broker.metrics().register(&mut registry);
        let connections = Family::<TransportLabel, Gauge>::default();
        let opened = Family::<TransportLabel, Counter>::default();
        let bytes_out = Family::<TransportLabel, Counter>::default();
        let transports = Transport::ALL.map(|transport| {
            let label = TransportLabel { transport: transport.as_str() };
            PerTransport {
                open: connections.get_or_create(&label).clone(),
                opened: opened.get_or_create(&label).clone(),
                bytes_out: bytes_out.get_or_create(&label).clone(),
            }
        });
        let byes = Family::default();
        let responses = Family::default();
        let limited = Refusals::default();
        let quota_used = Family::default();
        let log = LogGauges::default();
        registry.register("connections", "Open connections", connections);
        registry.register("connections_opened", "Connections ever opened", opened);
        registry.register_with_unit("sent", "Bytes written to streams", Unit::Bytes, bytes_out);
        registry.register("byes", "Streams that the broker ended", byes.clone());
        registry.register("responses", "Responses to requests", responses.clone());
        registry.register("limited", "What limits refused", limited.clone());
        let used = "What the topics of a quota's pattern have, where that is bounded";
        registry.register("quota_used", used, quota_used.clone());
        log.register(&mut registry, &broker.stats());
        let broker = broker.clone();
        Self(Arc::new(Inner { registry, broker, transports, byes, responses, limited, quota_used, log }))
    }

    /// Where limits count what they refuse.
    pub(crate) fn limited(&self) -> Refusals {
        self.0.limited.clone()
    }

    /// Counts a connection for as long as the guard lives.
    pub(crate) fn connected(&self, transport: Transport) -> Connected {
        let connected = Connected { metrics: self.clone(), transport, holds: <[Hold; 2]>::default() };
        transport.log("a stream or poll began");
        connected.counted().opened.inc();
        connected.counted().open.inc();
        connected
    }

    /// How many streams are open, and polls under way.
    pub(crate) fn connections(&self) -> u64 {
        let open = self.0.transports.iter().map(|transport| transport.open.get());
        open.sum::<i64>().try_into().unwrap_or(0)
    }

    pub(crate) fn responded(&self, status: u16) {
        self.0.responses.get_or_create(&ResponseLabel { status }).inc();
    }

    /// The figures, as OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        self.0.log.set(&self.0.broker);
        for (Quota { pattern, bytes, topics }, usage) in self.0.broker.quotas() {
            let bounds = [(QuotaKind::Bytes, bytes, usage.bytes), (QuotaKind::Topics, topics, usage.topics)];
            for (kind, _, used) in bounds.into_iter().filter(|(_, bound, _)| bound.is_some()) {
                let label = QuotaLabel { pattern: pattern.as_str().to_owned(), kind: kind.as_str() };
                self.0.quota_used.get_or_create(&label).set(used.cast_signed());
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// One open connection.
pub(crate) struct Connected {
    metrics: HttpMetrics,
    transport: Transport,
    /// They count as long as the connection is there.
    holds: [Hold; 2],
}

impl Connected {
    /// The same, as limits count it: the connection, and that it is a stream or WebSocket.
    #[must_use]
    pub(crate) fn holding(mut self, holds: [Hold; 2]) -> Self {
        self.holds = holds;
        self
    }

    fn counted(&self) -> &PerTransport {
        &self.metrics.0.transports[self.transport as usize]
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.counted().bytes_out.inc_by(bytes as u64);
    }

    /// The broker ended it.
    pub(crate) fn ended(&self, reason: ByeReason) {
        tracing::debug!(
            transport = self.transport.as_str(),
            reason = reason.as_str(),
            "the broker ends a stream"
        );
        self.metrics.0.byes.get_or_create(&ByeLabel { reason: reason.as_str() }).inc();
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.transport.log("a stream or poll ended");
        self.counted().open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_has_its_number() {
        let numbers = Transport::ALL.map(|transport| transport as usize);
        assert_eq!(numbers, std::array::from_fn(|index| index));
    }
}
