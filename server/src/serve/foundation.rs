//! What a broker is built on: a store and an order. A broker that is alone has both to itself; a node of a cluster follows the
//! order of all.

use std::{io, sync::Arc, thread, time::Duration};

use tailwire_core::{Clock, Committer, Instruments, LocalOrder, Order, Store, StoreError};
use tailwire_http::{Listener, WaitingFor, answer_until};
use tailwire_jetstream::JetStreamOrder;
use tailwire_model::{Options, Term};
use tailwire_storage::{LogSettings, SledStore};
use tokio::sync::oneshot;

use super::problem::StartError;
use crate::{access, cluster, config::ServeSettings};

/// How long clients wait for a log to be opened before they get a 503 with Retry-After. Mostly it is open sooner, and then
/// they have noticed nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Foundation {
    pub(super) store: Arc<dyn Store>,
    pub(super) order: Arc<dyn Order>,
    /// The end of the one thread that writes to the store, also when it panics.
    pub(super) writer: oneshot::Receiver<Result<(), StoreError>>,
    /// The same order, where it is a cluster's.
    pub(super) cluster: Option<Arc<JetStreamOrder>>,
}

/// Lays it; clients that come meanwhile are answered.
pub(super) async fn lay(
    settings: &ServeSettings,
    listeners: &[Listener],
    clock: Clock,
    instruments: &Instruments,
) -> Result<Foundation, StartError> {
    let Some(own) = &settings.cluster else { return alone(settings, listeners, clock, instruments).await };
    let joining = cluster::join(settings, own, options_of(settings), clock, instruments);
    let joined = waited_for(listeners, "the node joins its cluster", joining).await;
    let cluster::Member { order, store, ended } =
        joined.map_err(|error| StartError::Cluster(Box::new(error)))?;
    Ok(Foundation { store, order: order.clone(), writer: ended, cluster: Some(order) })
}

async fn alone(
    settings: &ServeSettings,
    listeners: &[Listener],
    clock: Clock,
    instruments: &Instruments,
) -> Result<Foundation, StartError> {
    let store = Arc::new(open_log(settings, listeners).await?);
    let (order, committer) =
        LocalOrder::begin(store.clone(), clock, instruments).map_err(StartError::Begin)?;
    let writer = start_committer(committer.with_topics_max(settings.max_topics))?;
    Ok(Foundation { store, order: Arc::new(order), writer, cluster: None })
}

/// Answers clients while something takes its time.
async fn waited_for<T>(listeners: &[Listener], what: &str, ready: impl Future<Output = T>) -> T {
    let mut ready = std::pin::pin!(ready);
    match tokio::time::timeout(PATIENCE, &mut ready).await {
        Ok(value) => value,
        Err(_) => {
            tracing::info!("{what}");
            answer_until(listeners, WaitingFor::Log, rand::random, ready).await
        }
    }
}

/// Opening reads the whole index from disk, so it has a thread that may wait.
async fn open_log(settings: &ServeSettings, listeners: &[Listener]) -> Result<SledStore, StartError> {
    let data = settings.data.clone();
    let log = LogSettings {
        options: options_of(settings),
        max_bytes: settings.log_max_bytes,
        forget_after_ms: settings.forget_topics_after_ms,
        accepts_loss: settings.accepts_loss,
    };
    let opening = tokio::task::spawn_blocking(move || SledStore::open(&data, &log));
    let what = "the log is being opened; after a kill that is some seconds for each 10 GB of the last run";
    let opened = waited_for(listeners, what, opening).await;
    let opened = opened.map_err(|error| StartError::Threads(io::Error::other(error)))?;
    opened.map_err(|error| StartError::Open { folder: settings.data.display().to_string(), error })
}

/// The rules of topics and patterns, those of the records of access among them.
fn options_of(settings: &ServeSettings) -> Vec<(Term, Options)> {
    let records = settings.access.is_some().then(access::record_options).unwrap_or_default();
    settings.options.iter().cloned().chain(records).collect()
}

/// Gives the committer its thread.
fn start_committer(committer: Committer) -> Result<oneshot::Receiver<Result<(), StoreError>>, StartError> {
    let (ended, receiver) = oneshot::channel();
    let run = move || {
        let _ = ended.send(committer.run());
    };
    thread::Builder::new().name("committer".to_owned()).spawn(run).map_err(StartError::Threads)?;
    Ok(receiver)
}
