//! The transports: HTTP pages and long-polls, SSE, NDJSON and WebSocket, all of them thin loops over one `Reader`.
//!
//! Requests run on the runtime that calls [`Server::start`] (the front); streams and WebSockets own their sockets on the
//! delivery runtimes. No storage engine is known here.

mod api;
mod connection;
mod delivery;
mod limiter;
mod websocket;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use futures_util::future::join_all;
use tailwire_core::Broker;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

pub use self::api::{
    access_log::ACCESS_LOG,
    credentials::{Credentials, Written},
    identity::{Authenticated, Authenticator, NoCredentials, OriginClass, RequestHead, bearer},
    session::{PROTECTED_RESOURCE, ticket_of},
    startup::{WaitingFor, answer_until},
};
use self::{
    api::{app::App, documents::Documents, metrics::HttpMetrics, router::HttpRoutes},
    connection::{
        accept::Entrance, budget::ReceiveBudget, descriptors::Descriptors, listener::ListenerFacts,
        serving::Acceptor,
    },
    delivery::{polls::Polls, shards::Delivery},
    limiter::Limiter,
    websocket::subprotocols,
};
pub use self::{
    connection::{
        caller::{Caller, ProxyHeader, TrustedProxies},
        input::Takes,
        listener::{Listener, ListenerRules},
        protocol::{Incoming, Io, Protocol},
    },
    limiter::{ClientBounds, Limits},
    websocket::opening::{Subprotocol, WebSocketOpening},
};

/// How long open connections may take to end after a drain began.
const DRAIN: Duration = Duration::from_secs(5);

/// The server's settings.
#[derive(Clone)]
pub struct HttpSettings {
    /// Finds out whose a request is.
    pub authenticator: Arc<dyn Authenticator>,
    /// Cookies, tickets, keys and revocations, where there is access control.
    pub credentials: Option<Arc<dyn Credentials>>,
    /// The origins by which clients reach the broker: the hosts that are answered, and its own origins.
    pub public_origins: Vec<String>,
    /// The URL that links in feeds begin with, with a slash at its end; without one they are relative.
    pub public_url: Option<String>,
    /// The WebSub hub that feeds name, which is told of messages by others.
    pub hub: Option<String>,
    /// Origins whose pages may publish and see replies; `*` is any.
    pub allow_origins: Vec<String>,
    /// Proxies that are believed on whose requests they pass on.
    pub trusted_proxies: TrustedProxies,
    /// Whether each request is logged.
    pub access_log: bool,
    /// How many files the process may have open, where that is known.
    pub descriptors: Option<u64>,
    /// Memory for what all clients have begun to send and not yet sent whole, in bytes; 64 MiB where it isn't set.
    pub receive_bytes_max: Option<usize>,
    /// WebSocket subprotocols beside those of the product.
    pub subprotocols: Vec<Subprotocol>,
    /// How much each client may do.
    pub limits: Limits,
}

impl Default for HttpSettings {
    fn default() -> Self {
        let authenticator = Arc::new(NoCredentials);
        Self {
            authenticator,
            credentials: None,
            public_origins: Vec::new(),
            public_url: None,
            hub: None,
            allow_origins: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            access_log: false,
            descriptors: None,
            receive_bytes_max: None,
            subprotocols: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    /// It takes connections.
    Serving,
    /// It takes no more, and sees out those that there are.
    Draining,
    /// It closes those that are left.
    Cut,
}

/// A running server.
pub struct Server {
    broker: Broker,
    metrics: HttpMetrics,
    address: Option<SocketAddr>,
    phase: watch::Sender<Phase>,
    accepting: JoinHandle<()>,
    /// The ends of the delivery runtimes.
    delivering: Vec<oneshot::Receiver<()>>,
}

impl Server {
    /// Serves a broker on listeners, from within the front runtime.
    ///
    /// # Errors
    /// When there is no listener, or the system gives no threads.
    pub fn start(broker: &Broker, mut settings: HttpSettings, listeners: Vec<Listener>) -> io::Result<Self> {
        settings.subprotocols.splice(0..0, subprotocols::TABLE);
        let (phase, phases) = watch::channel(Phase::Serving);
        let budget = ReceiveBudget::new(settings.receive_bytes_max);
        let (delivery, delivering) = Delivery::start(broker, &budget, &phases)?;
        let descriptors = Descriptors::new(settings.descriptors);
        let metrics = HttpMetrics::new(broker);
        let limiter = Limiter::new(settings.limits, broker.clock(), metrics.limited());
        let app = App {
            broker: broker.clone(),
            metrics: metrics.clone(),
            settings: Arc::new(settings),
            next_shard: Arc::new(AtomicUsize::new(0)),
            polls: Polls::default(),
            documents: Arc::new(Documents::default()),
            limiter,
            listener: ListenerFacts::default(),
        };
        let entrance = |listener: Listener| {
            let routes = HttpRoutes::new(Arc::new(App { listener: listener.facts(), ..app.clone() }));
            let (delivery, budget, phase) = (delivery.clone(), budget.clone(), phases.clone());
            Entrance { listener, acceptor: Acceptor { routes, delivery, budget, phase } }
        };
        let address = listeners.iter().find_map(Listener::local_addr);
        let entrances: Vec<_> = listeners.into_iter().map(entrance).collect();
        if entrances.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let accepting = tokio::spawn(connection::accept::accept(entrances, descriptors));
        Ok(Self { broker: broker.clone(), metrics, address, phase, accepting, delivering })
    }

    /// The address of the first listener that has one.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Refuses new work, finishes what was accepted, tells clients when to come back, and returns when their
    /// connections are closed, or after a while.
    pub async fn drain(self) {
        let Self { broker, metrics, phase, mut accepting, mut delivering, .. } = self;
        broker.drain(metrics.connections());
        let _ = phase.send(Phase::Draining);
        let seen_out = async {
            let _ = (&mut accepting).await;
            join_all(&mut delivering).await;
        };
        if tokio::time::timeout(DRAIN, seen_out).await.is_err() {
            tracing::warn!("some connections did not end in time and were cut");
            accepting.abort();
            let _ = phase.send(Phase::Cut);
        }
    }
}
