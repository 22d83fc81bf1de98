//! The wiring: the one place where the log, the broker and the HTTP server meet.

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use tailwire_core::{
    AllowAll, Broker, BrokerParts, Clock, Committer, Encoders, Instruments, LocalOrder, StoreError,
};
use tailwire_http::{Listener, Server, WaitingFor, answer_until};
use tailwire_model::{Options, Term, limits::CATCH_UP_RESTS};
use tailwire_storage::{LogSettings, NoRoom, SledStore};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    access::{self, Doorkeeper, Gate, Registry},
    config::{ListenAddress, ServeSettings},
    logging::LogGuard,
    machine,
    tls::ListenerTls,
};

/// Threads that read the log. They wait for the disk more than they work, so two keep even a single core busy.
const READ_THREADS: usize = 2;
/// How often a start that waits for room looks for it.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);
/// How long clients wait for a log to be opened before they get a 503 with Retry-After. Mostly it is open sooner, and then they
/// have noticed nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// A broker that accepts connections.
pub(super) struct Running {
    address: SocketAddr,
    broker: Broker,
    server: Server,
    committer: oneshot::Receiver<Result<(), StoreError>>,
}

/// Why the broker can't run, or no longer. Each is one sentence, and says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{}", listen_problem(listen, error))]
    Listen { listen: ListenAddress, error: io::Error },
    #[error("data folder {folder}: {error}{}", open_advice(error))]
    Open { folder: String, error: tailwire_storage::OpenError },
    #[error(
        "{0} can be reached by others, and everybody could read, write and delete there: say who may by a section [access] \
         of the settings file, listen on 127.0.0.1, or take the risk with --insecure-public"
    )]
    Public(SocketAddr),
    #[error("keys and revocations can't be read: {0}")]
    Records(tailwire_core::ReadError),
    #[error("can't start threads: {0}")]
    Threads(io::Error),
    #[error("the log could not be begun: {0}")]
    Begin(StoreError),
    #[error("the log could not be closed in good order: {0}")]
    Close(StoreError),
    #[error("the log's writer stopped unexpectedly; what was acknowledged is on disk")]
    Committer,
}

/// Advice to the operator of a log that can't be opened.
fn open_advice(error: &tailwire_storage::OpenError) -> &'static str {
    use tailwire_storage::OpenError::{Corrupt, Io, Short};
    match error {
        Short(_) => {
            "; look first, with `tailwire log check`; then restore a backup, mend it with `tailwire log repair`, \
             or start once with --accept-loss to go on with what is left"
        }
        Corrupt(_) => {
            "; `tailwire log check` tells what is wrong, `tailwire log repair` saves what can be read"
        }
        Io(why) if why.contains("No space left") => "; opening a log writes some MB: make room",
        _ => "",
    }
}

/// Starts everything. The socket comes first: a mistaken second start then leaves the log alone.
/// `descriptors` is how many files may be open, if that is known.
pub(super) async fn start(
    settings: &ServeSettings,
    gate: Option<&Arc<Gate>>,
    tls: Option<&ListenerTls>,
    descriptors: Option<u64>,
) -> Result<Running, StartError> {
    let unusable = |error| StartError::Listen { listen: settings.listen.clone(), error };
    let listener = TcpListener::from_std(listen(settings)?).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    if !address.ip().is_loopback() && gate.is_none() && !settings.insecure_public {
        return Err(StartError::Public(address));
    }
    let listener = match tls {
        Some(tls) => Listener::with_tls(listener, tls.config()),
        None => listener.into(),
    };
    // An authority may ask for its proof as soon as the socket listens.
    if let Some(tls) = tls {
        tls.keep_current();
    }
    wait_for_room(settings, &listener).await;
    let store = Arc::new(open_log(settings, &listener).await?);
    let clock = Clock { now: Clock::system_now, steady: Clock::system_steady, random: rand::random };
    let instruments = Instruments::default();
    let (order, committer) =
        LocalOrder::begin(store.clone(), clock, &instruments).map_err(StartError::Begin)?;
    let parts = BrokerParts {
        order: Arc::new(order),
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
        read_throttle_factor: CATCH_UP_RESTS,
    };
    let broker = Broker::start(parts).map_err(StartError::Threads)?;
    let committer = start_committer(committer)?;
    let server = match gate {
        None => serve(&broker, settings, None, descriptors, listener),
        Some(gate) => {
            // A credential that was revoked before must not be let in for a moment.
            let records = access::load(gate, &broker).await.map_err(StartError::Records)?;
            if let Err(error) = access::provide(&gate.access(), &settings.data) {
                let file = access::OPERATOR_KEY;
                tracing::warn!(%error, file, "no key for this machine's operator could be written");
            }
            let server = serve(&broker, settings, Some(gate), descriptors, listener);
            tokio::spawn(access::keep(gate.clone(), broker.clone()));
            tokio::spawn(access::follow(gate.clone(), broker.clone(), records));
            server
        }
    };
    let server = server.map_err(StartError::Threads)?;
    Ok(Running { address, broker, server, committer })
}

impl Running {
    /// Where it listens, with the port that the system chose.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

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
        match (&mut self.committer).await {
            Ok(Err(error)) => StartError::Close(error),
            Ok(Ok(())) | Err(_) => StartError::Committer,
        }
    }

    /// Refuses new work, finishes what was accepted, tells clients when to come back, and closes the log.
    pub(super) async fn drain(self) -> Result<(), StartError> {
        self.server.drain().await;
        let closed = self.committer.await.map_err(|_| StartError::Committer)?;
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
    listener: Listener,
) -> io::Result<Server> {
    let mut http = tailwire_http::HttpSettings {
        allow_origins: settings.allow_origins.clone(),
        public_origins: settings.public_urls.iter().map(|public| public.origin.clone()).collect(),
        loopback: listener.local_addr()?.ip().is_loopback(),
        descriptors,
        ..tailwire_http::HttpSettings::default()
    };
    if let Some(gate) = gate {
        // With a public URL there is a proxy before a loopback listener, and callers are anybody.
        let explains = http.loopback && http.public_origins.is_empty();
        http.authenticator = Arc::new(Doorkeeper { gate: gate.clone(), explains });
        http.credentials = Some(Arc::new(Registry { gate: gate.clone(), broker: broker.clone() }));
    }
    Server::start(broker, http, vec![listener])
}

fn listen(settings: &ServeSettings) -> Result<std::net::TcpListener, StartError> {
    machine::listen(&settings.listen)
        .map_err(|error| StartError::Listen { listen: settings.listen.clone(), error })
}

/// Opening a log takes room, and what an opening that finds none has begun to write would stand in the way of the next.
/// So it waits for room, rather than fail again and again, and says so in its answers.
async fn wait_for_room(settings: &ServeSettings, listener: &Listener) {
    let Some(NoRoom { needed, available }) = NoRoom::to_open(&settings.data) else { return };
    let folder = settings.data.display();
    tracing::warn!(%folder, needed, available, "the disk is full; the log is opened once so much is free");
    let room = async {
        while NoRoom::to_open(&settings.data).is_some() {
            tokio::time::sleep(LOOK_FOR_ROOM).await;
        }
    };
    answer_until(listener, WaitingFor::Room, rand::random, room).await;
    tracing::info!("there is room; the log is opened");
}

/// Opening reads the whole index from disk, so it has a thread that may wait.
async fn open_log(settings: &ServeSettings, listener: &Listener) -> Result<SledStore, StartError> {
    let data = settings.data.clone();
    let log = LogSettings {
        options: options_of(settings),
        max_bytes: settings.log_max_bytes,
        accepts_loss: settings.accepts_loss,
    };
    let open = move || SledStore::open(&data, &log);
    let mut opening = tokio::task::spawn_blocking(open);
    let opened = match tokio::time::timeout(PATIENCE, &mut opening).await {
        Ok(opened) => opened,
        Err(_) => {
            tracing::info!(
                "the log is being opened; after a kill that is some seconds for each 10 GB of the last run"
            );
            answer_until(listener, WaitingFor::Log, rand::random, opening).await
        }
    };
    let opened = opened.map_err(|error| StartError::Threads(io::Error::other(error)))?;
    opened.map_err(|error| StartError::Open { folder: settings.data.display().to_string(), error })
}

/// The rules of topics and patterns, those of the records of access among them.
fn options_of(settings: &ServeSettings) -> Vec<(Term, Options)> {
    let records = settings.access.is_some().then(access::record_options).unwrap_or_default();
    settings.options.iter().cloned().chain(records).collect()
}

/// Gives the committer its thread. The receiver ends with it, also when it panics.
fn start_committer(committer: Committer) -> Result<oneshot::Receiver<Result<(), StoreError>>, StartError> {
    let (ended, receiver) = oneshot::channel();
    let run = move || {
        let _ = ended.send(committer.run());
    };
    thread::Builder::new().name("committer".to_owned()).spawn(run).map_err(StartError::Threads)?;
    Ok(receiver)
}

fn listen_problem(listen: &ListenAddress, error: &io::Error) -> String {
    let ListenAddress { host, port } = listen;
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} of {host} is in use; choose another with --listen"),
        io::ErrorKind::PermissionDenied => {
            format!("this user may not listen on port {port}; choose one above 1023 with --listen")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no address {host}; choose another with --listen")
        }
        _ => format!("can't listen on {listen}: {}", machine::describe(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_one_sentence() {
        let listen = ListenAddress { host: "127.0.0.1".to_owned(), port: 80 };
        let text = |kind: io::ErrorKind| listen_problem(&listen, &kind.into());
        assert_eq!(
            text(io::ErrorKind::AddrInUse),
            "port 80 of 127.0.0.1 is in use; choose another with --listen"
        );
        assert!(text(io::ErrorKind::PermissionDenied).contains("above 1023"));
    }
}
