//! The wiring: the one place where the log, the broker and the HTTP server meet.

use std::{io, sync::Arc, time::Duration};

use tailwire_core::{AllowAll, Broker, BrokerParts, Clock, Encoders, Instruments, StoreError};
use tailwire_http::{Listener, Server, TrustedProxies, WaitingFor, answer_until};
use tailwire_jetstream::JetStreamOrder;
use tailwire_model::{Options, Term, limits::CATCH_UP_THROTTLE_FACTOR};
use tailwire_storage::NoRoom;
use tokio::sync::oneshot;

use super::{
    foundation::{self, Foundation},
    problem::StartError,
};
use crate::{
    access::{self, Doorkeeper, Gate, Registry},
    config::ServeSettings,
    logging::LogGuard,
    machine,
    tls::ListenerTls,
};

/// Threads that read the log. They wait for the disk more than they work, so two keep even a single core busy.
const READ_THREADS: usize = 2;
/// How often a start that waits for room looks for it.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// A broker that accepts connections.
pub(super) struct Running {
    broker: Broker,
    server: Server,
    writer: oneshot::Receiver<Result<(), StoreError>>,
    cluster: Option<Arc<JetStreamOrder>>,
}

/// Starts everything on listeners that are open. `descriptors` is how many files may be open, if that is known.
pub(super) async fn start(
    settings: &ServeSettings,
    gate: Option<&Arc<Gate>>,
    tls: Option<&ListenerTls>,
    descriptors: Option<u64>,
    listeners: Vec<Listener>,
) -> Result<Running, StartError> {
    // An authority may ask for its proof as soon as the socket listens.
    if let Some(tls) = tls {
        tls.keep_current();
    }
    wait_for_room(settings, &listeners).await;
    let clock = Clock { now: Clock::system_now, steady: Clock::system_steady, random: rand::random };
    let instruments = Instruments::default();
    let Foundation { store, order, writer, cluster } =
        foundation::lay(settings, &listeners, clock, &instruments).await?;
    let parts = BrokerParts {
        order,
        store,
        instruments,
        encoders: Encoders::new(&tailwire_wire::ENCODERS, &tailwire_wire::REFERENCES),
        policy: match gate {
            Some(gate) => gate.clone(),
            None => Arc::new(AllowAll),
        },
        clock,
        shards: machine::delivery_shards(settings.threads),
        read_threads: READ_THREADS,
        read_thread_begins: machine::lower_priority,
        read_throttle_factor: CATCH_UP_THROTTLE_FACTOR,
        quotas: settings.quotas.clone(),
    };
    let broker = Broker::start(parts).map_err(StartError::Threads)?;
    let server = match gate {
        None => serve(&broker, settings, None, descriptors, listeners),
        Some(gate) => {
            // A credential that was revoked before must not be let in for a moment.
            let records = access::load(gate, &broker).await.map_err(StartError::Records)?;
            if let Err(error) = access::provide(&gate.access(), &settings.data) {
                let file = access::OPERATOR_KEY;
                tracing::warn!(%error, file, "no key for this machine's operator could be written");
            }
            let server = serve(&broker, settings, Some(gate), descriptors, listeners);
            tokio::spawn(access::keep(gate.clone(), broker.clone()));
            tokio::spawn(access::follow(gate.clone(), broker.clone(), records));
            server
        }
    };
    let server = server.map_err(StartError::Threads)?;
    Ok(Running { broker, server, writer, cluster })
}

impl Running {
    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Options of topics and patterns, set by the settings and by clients before.
    pub(super) fn options(&self) -> Vec<(Term, Options)> {
        let rules = self.broker.rules();
        rules.iter().map(|(term, options)| (term.clone(), options)).collect()
    }

    /// Has the log's lost lines counted among the broker's metrics.
    pub(super) fn count_lost_lines(&self, log: &LogGuard) {
        let metrics = self.broker.metrics();
        let dropped = metrics.diagnostics_dropped.clone();
        let suppressed = metrics.diagnostics_suppressed.clone();
        log.count_losses(move || _ = dropped.inc(), move || _ = suppressed.inc());
    }

    /// Waits for the end that nobody asked for: without a committer every publish would wait forever.
    pub(super) async fn failed(&mut self) -> StartError {
        let ended = (&mut self.writer).await;
        if let Some(divergence) = self.cluster.as_ref().and_then(|cluster| cluster.divergence()) {
            return StartError::Diverged(divergence);
        }
        match ended {
            Ok(Err(error)) => StartError::Close(error),
            Ok(Ok(())) | Err(_) => StartError::Committer,
        }
    }

    /// Refuses new work, finishes what was accepted, tells clients when to come back, and closes the log.
    pub(super) async fn drain(self) -> Result<(), StartError> {
        self.server.drain().await;
        let closed = self.writer.await.map_err(|_| StartError::Committer)?;
        self.broker.close();
        closed.map_err(StartError::Close)
    }
}

/// Serves from the runtime that this runs on.
fn serve(
    broker: &Broker,
    settings: &ServeSettings,
    gate: Option<&Arc<Gate>>,
    descriptors: Option<u64>,
    listeners: Vec<Listener>,
) -> io::Result<Server> {
    let mut http = tailwire_http::HttpSettings {
        allow_origins: settings.allow_origins.clone(),
        public_origins: settings.public_urls.iter().map(|public| public.origin.clone()).collect(),
        public_url: settings.public_urls.first().map(|public| format!("{}/", public.url)),
        hub: settings.websub_hub.clone(),
        trusted_proxies: settings.trusted_proxies.clone(),
        access_log: settings.access_log,
        descriptors,
        receive_bytes_max: Some(settings.receive_max_bytes),
        limits: settings.limits,
        ..tailwire_http::HttpSettings::default()
    };
    if let Some(gate) = gate {
        // Behind a proxy, callers of a loopback listener are anybody.
        let is_proxied = !http.public_origins.is_empty()
            || http.trusted_proxies != TrustedProxies::default()
            || settings.listen.iter().any(|listen| listen.proxy_protocol);
        let explains = !is_proxied && listeners.iter().all(Listener::is_loopback);
        let challenge = Doorkeeper::challenge_at(settings.public_urls.first());
        http.authenticator = Arc::new(Doorkeeper { gate: gate.clone(), explains, challenge });
        let (broker, public_urls) = (broker.clone(), settings.public_urls.clone());
        http.credentials = Some(Arc::new(Registry { gate: gate.clone(), broker, public_urls }));
    }
    Server::start(broker, http, listeners)
}

/// Opening a log takes room, and what an opening that finds none has begun to write would stand in the way of the next.
/// So it waits for room, rather than fail again and again, and says so in its answers.
async fn wait_for_room(settings: &ServeSettings, listeners: &[Listener]) {
    let Some(NoRoom { needed, available }) = NoRoom::to_open(&settings.data) else { return };
    let folder = settings.data.display();
    tracing::warn!(%folder, needed, available, "the disk is full; the log is opened once so much is free");
    let room = async {
        while NoRoom::to_open(&settings.data).is_some() {
            tokio::time::sleep(LOOK_FOR_ROOM).await;
        }
    };
    answer_until(listeners, WaitingFor::Room, rand::random, room).await;
    tracing::info!("there is room; the log is opened");
}
