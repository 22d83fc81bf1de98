//! Joining: the store is opened, or made again where it can't be gone on with, the stream is found and held against it, the
//! node catches up, and begins an epoch.

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use tailwire_core::{Clock, Instruments, Order, Store, StoreError, WriteError, store::Write};
use tailwire_jetstream::{Cluster, Divergence, JetStreamOrder, JetStreamSettings, JoinError};
use tailwire_model::{Options, Term};
use tailwire_storage::{LogSettings, SledStore};
use tokio::sync::oneshot;

use super::{checkpoint::CheckpointJob, error::ClusterError, monitor, replica::ReplicaFolder};
use crate::config::{ClusterSettings, ServeSettings};

/// The folder in the data folder that holds the replica. It can be deleted: the node makes it again from the stream.
const REPLICA: &str = "replica";

/// How often servers that were down are asked.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// A node that has caught up.
pub(crate) struct Member {
    pub(crate) order: Arc<JetStreamOrder>,
    pub(crate) store: Arc<SledStore>,
    /// The end of its applier.
    pub(crate) ended: oneshot::Receiver<Result<(), StoreError>>,
}

/// See the module.
pub(crate) async fn join(
    settings: &ServeSettings,
    cluster: &ClusterSettings,
    options: Vec<(Term, Options)>,
    clock: Clock,
    instruments: &Instruments,
) -> Result<Member, ClusterError> {
    let stream = super::jetstream_settings(settings, cluster)?;
    let silent = check_servers(cluster).await?;
    if settings.data.join("db").exists() {
        return Err(ClusterError::Alone(settings.data.display().to_string()));
    }
    let log = LogSettings {
        max_bytes: settings.log_max_bytes,
        forget_after_ms: settings.forget_topics_after_ms,
        ..LogSettings::default()
    };
    let replica = ReplicaFolder { folder: settings.data.join(REPLICA), log };
    let (store, order, ended) = match enter(&replica, &stream, clock, instruments).await {
        Err(ClusterError::Join { error: JoinError::Diverged(why @ Divergence::Token(_)) }) => {
            tracing::warn!(%why, "the node's store is made again");
            replica.remove()?;
            enter(&replica, &stream, clock, instruments).await?
        }
        entered => entered?,
    };
    tracing::info!(server = order.server(), "catching up with the cluster");
    if !order.caught_up().await {
        return Err(order.divergence().map_or(ClusterError::Ended, ClusterError::Diverged));
    }
    order.begin_epoch(clock).await.map_err(|error| ClusterError::Join { error })?;
    set_options(&order, &store, options).await?;
    let job = CheckpointJob {
        stream,
        clock,
        data: settings.data.clone(),
        bytes: cluster.checkpoint_bytes,
        order: Arc::downgrade(&order),
    };
    job.start().map_err(ClusterError::Threads)?;
    if !silent.is_empty() {
        tokio::spawn(check_silent(silent, Arc::downgrade(&order)));
    }
    Ok(Member { order, store, ended })
}

/// Answers the monitors that said nothing, as their servers are down.
async fn check_servers(cluster: &ClusterSettings) -> Result<Vec<String>, ClusterError> {
    if cluster.replicas == 1 {
        tracing::warn!("the stream has one replica: this is a trial, and a lost disk is a lost log");
        return Ok(Vec::new());
    }
    if cluster.monitors.is_empty() {
        return Err(ClusterError::NoMonitors);
    }
    let (monitors, replicas) = (cluster.monitors.clone(), cluster.replicas);
    let checked = tokio::task::spawn_blocking(move || monitor::check(&monitors, replicas)).await;
    Ok(checked.map_err(|error| ClusterError::Threads(io::Error::other(error)))??)
}

/// Asks servers that were down when this node joined, until each has answered that it syncs, or the node ends.
async fn check_silent(mut monitors: Vec<String>, order: Weak<JetStreamOrder>) {
    let names = monitors.join(", ");
    tracing::warn!(
        monitors = names,
        "NATS servers are down, or their monitors: they are asked later whether they sync"
    );
    while !monitors.is_empty() {
        tokio::time::sleep(ASK_AGAIN).await;
        let Ok((left, flaw)) = tokio::task::spawn_blocking(move || monitor::check_again(&monitors)).await
        else {
            return;
        };
        let Some(order) = order.upgrade() else { return };
        order.set_server_flaw(flaw.map(|flaw| flaw.to_string()));
        monitors = left;
    }
}

type Entered = (Arc<SledStore>, Arc<JetStreamOrder>, oneshot::Receiver<Result<(), StoreError>>);

async fn enter(
    replica: &ReplicaFolder,
    stream: &JetStreamSettings,
    clock: Clock,
    instruments: &Instruments,
) -> Result<Entered, ClusterError> {
    let opened = replica.open().await?;
    let has_data = !opened.token().0.is_empty();
    let cluster = Cluster::connect(stream.clone(), clock, has_data)
        .await
        .map_err(|error| ClusterError::Join { error })?;
    if let Err(error) = cluster.checkpoints().remove_lost().await {
        tracing::warn!(%error, "whether there are checkpoints of a stream that was lost is not known");
    }
    let (store, _) = replica.open_for(opened, &cluster).await?;
    let (order, applier) =
        cluster.join(store.clone(), instruments).await.map_err(|error| ClusterError::Join { error })?;
    let (end, ended) = oneshot::channel();
    let order = Arc::new(order);
    let (own, replica) = (Arc::downgrade(&order), replica.clone());
    let run = move || {
        let result = applier.run();
        if let Some(Divergence::Digest(..)) = own.upgrade().and_then(|order| order.divergence()) {
            replica.set_aside();
        }
        let _ = end.send(result);
    };
    thread::Builder::new().name("applier".to_owned()).spawn(run).map_err(ClusterError::Threads)?;
    Ok((store, order, ended))
}

/// Options of the settings are written to the order once, for terms that have none: all nodes have the same.
async fn set_options(
    order: &JetStreamOrder,
    store: &SledStore,
    options: Vec<(Term, Options)>,
) -> Result<(), ClusterError> {
    for (term, options) in options {
        let own = store.rules().own(&term);
        if own == options {
            continue;
        }
        if !own.is_empty() {
            let topic = term.as_str();
            tracing::warn!(topic, "the cluster has other options than the settings: its own hold");
            continue;
        }
        let (done, outcome) = oneshot::channel();
        order.submit(Write::Options(term, options), done).map_err(ClusterError::Options)?;
        outcome.await.unwrap_or(Err(WriteError::Unknown)).map_err(ClusterError::Options)?;
    }
    Ok(())
}
