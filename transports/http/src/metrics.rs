//! What the transports count, and the text of `/metrics` (OpenMetrics).

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tailwire_core::Broker;
use tailwire_model::ByeReason;

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

/// The transports' counters; cloning is cheap.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    broker: Broker,
    connections: Family<TransportLabel, Gauge>,
    opened: Family<TransportLabel, Counter>,
    bytes_out: Family<TransportLabel, Counter>,
    byes: Family<ByeLabel, Counter>,
    responses: Family<ResponseLabel, Counter>,
    log: LogGauges,
}

/// The log as it stands when it is asked.
#[derive(Default)]
struct LogGauges {
    topics: Gauge,
    messages: Gauge,
    retained_bytes: Gauge,
    disk_bytes: Gauge,
    tail: Gauge,
    epoch: Gauge,
}

impl LogGauges {
    fn register(&self, registry: &mut Registry) {
        registry.register("topics", "Topics ever written to", self.topics.clone());
        registry.register("messages", "Messages retained", self.messages.clone());
        let retained = "What they take, as bounds count it";
        registry.register_with_unit("retained", retained, Unit::Bytes, self.retained_bytes.clone());
        registry.register_with_unit("disk", "Size of the log", Unit::Bytes, self.disk_bytes.clone());
        registry.register("log_tail_position", "The newest position of the log", self.tail.clone());
        registry.register("log_epoch", "The number of the log's epoch", self.epoch.clone());
    }

    fn set(&self, broker: &Broker) {
        let stats = broker.stats();
        self.topics.set(stats.topics.cast_signed());
        self.messages.set(stats.messages.cast_signed());
        self.retained_bytes.set(stats.bytes.cast_signed());
        self.disk_bytes.set(stats.disk_bytes.cast_signed());
        self.tail.set(broker.tail().position.0.cast_signed());
        self.epoch.set(i64::from(broker.epoch().number()));
    }
}

impl Metrics {
    /// Names every counter, the broker's too.
    pub(crate) fn new(broker: &Broker) -> Self {
        let mut registry = Registry::with_prefix("tailwire");
        broker.metrics().register(&mut registry);
        let connections = Family::default();
        let opened = Family::default();
        let bytes_out = Family::default();
        let byes = Family::default();
        let responses = Family::default();
        let log = LogGauges::default();
        registry.register("connections", "Open connections", connections.clone());
        registry.register("connections_opened", "Connections ever opened", opened.clone());
        registry.register_with_unit("sent", "Bytes written to streams", Unit::Bytes, bytes_out.clone());
        registry.register("byes", "Streams that the broker ended", byes.clone());
        registry.register("responses", "Responses to requests", responses.clone());
        log.register(&mut registry);
        let broker = broker.clone();
        Self(Arc::new(Inner { registry, broker, connections, opened, bytes_out, byes, responses, log }))
    }

    /// Counts a connection for as long as the guard lives.
    pub(crate) fn connected(&self, transport: Transport) -> Connected {
        let label = TransportLabel { transport: transport.as_str() };
        self.0.opened.get_or_create(&label).inc();
        let open = self.0.connections.get_or_create(&label).clone();
        open.inc();
        let bytes_out = self.0.bytes_out.get_or_create(&label).clone();
        Connected { open, bytes_out, metrics: self.clone() }
    }

    pub(crate) fn responded(&self, status: u16) {
        self.0.responses.get_or_create(&ResponseLabel { status }).inc();
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        self.0.log.set(&self.0.broker);
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// One open connection.
pub(crate) struct Connected {
    open: Gauge,
    bytes_out: Counter,
    metrics: Metrics,
}

impl Connected {
    pub(crate) fn wrote(&self, bytes: usize) {
        self.bytes_out.inc_by(bytes as u64);
    }

    /// The broker ended it.
    pub(crate) fn ended(&self, reason: ByeReason) {
        self.metrics.0.byes.get_or_create(&ByeLabel { reason: reason.as_str() }).inc();
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.open.dec();
    }
}
