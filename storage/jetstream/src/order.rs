//! The whole: a node joins a stream, and has an order by it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tailwire_core::{
    Clock, Instruments, Order, Store, TidySchedule, WriteError,
    order::{Answer, Done, Health},
    store::Write,
};
use tailwire_model::{Epoch, Opening, Position};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    applier::Applier,
    feed::{BATCHES_MAX, StreamFeed},
    frame::{Applied, Frame, LogId, encode_writes},
    hub::{FlawOf, Hub},
    link::{Link, LinkError},
    live,
    nodes::{self, NodeReport, Nodes},
    propose,
    replica::{Divergence, Replica},
    settings::JetStreamSettings,
    stream::{StreamError, StreamInfo},
};

/// How long a start waits for NATS to be there, and for the stream to be made or to have a leader.
const START_WAIT: Duration = Duration::from_secs(20);
const START_PAUSE: Duration = Duration::from_millis(250);
/// How long a question waits before an entry is made for it.
const ASK_AFTER: Duration = Duration::from_millis(30);
/// How long a look at the cluster listens to its nodes, which speak every second.
const LISTEN: Duration = Duration::from_millis(1500);

/// Why a node can't join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The system gives no thread.
    #[error("can't start threads: {0}")]
    Threads(#[from] io::Error),
    /// NATS is not there, or the stream is not to be gone on with.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// What this node has does not go with the stream.
    #[error(transparent)]
    Diverged(#[from] Divergence),
    /// The log of a node that is alone.
    #[error("it holds the log of a broker that was alone: a node of a cluster needs a folder of its own")]
    Alone,
    /// There is no room for what the stream has.
    #[error("the disk has no room for it")]
    NoRoom,
    /// There are no epochs left.
    #[error("the log's epochs are used up")]
    Epochs,
}

impl From<LinkError> for JoinError {
    fn from(error: LinkError) -> Self {
        Self::Stream(error.into())
    }
}

/// The runtime that speaks with NATS. It is dropped by tasks of another runtime, also where joining fails, and may not wait there.
struct OrderRuntime {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl OrderRuntime {
    fn start() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("order").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for OrderRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A cluster's stream that this process is connected to.
pub struct Cluster {
    settings: JetStreamSettings,
    runtime: OrderRuntime,
    pub(crate) link: Link,
    pub(crate) info: StreamInfo,
    clock: Clock,
}

/// A cluster as it stands.
#[derive(Debug, Clone)]
pub struct ClusterStatus {
    /// Its stream.
    pub stream: StreamInfo,
    /// Its nodes.
    pub nodes: Vec<NodeReport>,
}

impl Cluster {
    /// Connects to NATS, and finds the stream. One that is not there is made, unless this node already has what one held.
    ///
    /// # Errors
    /// A [`JoinError`].
    pub async fn connect(
        settings: JetStreamSettings,
        clock: Clock,
        has_data: bool,
    ) -> Result<Self, JoinError> {
        let runtime = OrderRuntime::start()?;
        let asked = settings.clone();
        let found = runtime.handle.spawn(async move {
            let until = Instant::now() + START_WAIT;
            loop {
                match find(&asked, clock, has_data).await {
                    // Servers that are starting elect first, and a stream that another node has made is not known to all at once.
                    Err(JoinError::Stream(StreamError::Link(_) | StreamError::Absent(_)))
                        if Instant::now() < until =>
                    {
                        tokio::time::sleep(START_PAUSE).await;
                    }
                    found => return found,
                }
            }
        });
        let (link, info) = found.await.map_err(|error| JoinError::Threads(io::Error::other(error)))??;
        Ok(Self { settings, runtime, link, info, clock })
    }

    /// The stream as it was found.
    pub const fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// Looks at a cluster: its stream, and the nodes that speak.
    ///
    /// # Errors
    /// A [`JoinError`].
    pub async fn look(settings: &JetStreamSettings) -> Result<ClusterStatus, JoinError> {
        let link = Link::connect(settings).await?;
        let mut told = link.subscribe(&link.names.nodes).await?;
        let stream = link.info().await?;
        let nodes = Nodes::default();
        let listening = async {
            while let Some(message) = told.next().await {
                if let Some(report) = NodeReport::decode(&message.payload) {
                    nodes.hear(report);
                }
            }
        };
        let _ = timeout(LISTEN, listening).await;
        Ok(ClusterStatus { stream, nodes: nodes.reports() })
    }

    /// Joins with a store. The applier has to be run by a thread for anything to be applied.
    ///
    /// # Errors
    /// When what the store has does not go with the stream.
    pub async fn join(
        self,
        store: Arc<dyn Store>,
        instruments: &Instruments,
    ) -> Result<(JetStreamOrder, Applier), JoinError> {
        let Self { settings, runtime, link, info, clock } = self;
        let mut replica = replica_of(&*store, &info)?;
        replica.compare_after(info.last);
        let applied = replica.applied();
        let incarnation = (clock.random)();
        let hub = Arc::new(Hub::new(info.log, incarnation, settings.topics_max, applied));
        hub.has_reached(info.last);
        let nodes = Arc::new(Nodes::default());
        let (out, feed) = mpsc::channel(BATCHES_MAX);
        let next = replica.next();
        let (own_link, own_hub, own_nodes) = (link.clone(), hub.clone(), nodes.clone());
        let started = runtime.handle.spawn(async move {
            let (link, hub) = (own_link, own_hub);
            let live = link.subscribe(&link.names.live).await?;
            let told = link.subscribe(&link.names.nodes).await?;
            let inbox = link.inbox();
            let acks = link.subscribe(&inbox).await?;
            let live = live::buffer(live, hub.clone());
            tokio::spawn(StreamFeed { link: link.clone(), hub: hub.clone(), next, out }.run(live));
            tokio::spawn(propose::propose(link.clone(), hub.clone(), inbox, clock.random));
            tokio::spawn(propose::read_acks(hub.clone(), acks));
            tokio::spawn(propose::watch(link.clone(), hub.clone()));
            tokio::spawn(nodes::hear(own_nodes, told));
            tokio::spawn(nodes::tell(link, hub, settings.node));
            Ok::<_, LinkError>(())
        });
        started.await.map_err(|error| JoinError::Threads(io::Error::other(error)))??;
        let applier = Applier {
            store: store.clone(),
            replica,
            hub: hub.clone(),
            nodes: nodes.clone(),
            feed,
            runtime: runtime.handle.clone(),
            instruments: instruments.clone(),
            random: clock.random,
            tidying: TidySchedule::default(),
            retaining: Vec::new(),
            time_at: Instant::now(),
        };
        Ok((JetStreamOrder { hub, nodes, link, store, _runtime: runtime }, applier))
    }
}

/// Connects, and finds the stream or makes it.
async fn find(
    settings: &JetStreamSettings,
    clock: Clock,
    has_data: bool,
) -> Result<(Link, StreamInfo), JoinError> {
    let link = Link::connect(settings).await?;
    let mut info = match link.info().await {
        Err(StreamError::Absent(_)) if !has_data => {
            let log = LogId(u128::from((clock.random)()) << 64 | u128::from((clock.random)()));
            match link.create(log).await {
                // Another node was faster.
                Err(StreamError::Link(LinkError::Refused(why))) if why.contains("10058") => {
                    link.info().await?
                }
                made => made?,
            }
        }
        info => info?,
    };
    if let Some(flaw) = info.flaw {
        return Err(StreamError::Unfit(settings.stream.clone(), flaw).into());
    }
    if info.last == 0 {
        begin(&link, info.log, clock).await?;
        (info.first, info.last) = (1, 1);
    }
    Ok((link, info))
}

/// Begins the first epoch, unless another node does.
async fn begin(link: &Link, log: LogId, clock: Clock) -> Result<(), JoinError> {
    let epoch = Epoch::opening((clock.now)().0, None, (clock.random)()).ok_or(JoinError::Epochs)?;
    let opening = [Write::Opening(epoch, Opening::Created)];
    let frame = Frame {
        log,
        incarnation: (clock.random)(),
        number: 1,
        has_more: false,
        applied: Applied { sequence: 0, digest: 0 },
        topics_max: u64::MAX,
        part: encode_writes(opening.iter(), 64),
    };
    match link.publish_after(0, frame.encode()).await {
        // Its last sequence is another: somebody else has begun.
        Err(LinkError::Refused(why)) if why.contains("10071") => Ok(()),
        begun => Ok(begun.map(drop)?),
    }
}

/// The replica that a store goes on with.
pub(crate) fn replica_of(store: &dyn Store, info: &StreamInfo) -> Result<Replica, JoinError> {
    let token = store.token();
    if token.0.is_empty() {
        if store.newest() > Position::ZERO || store.found() != Opening::Created {
            return Err(JoinError::Alone);
        }
        let replica = Replica::new(info.log, 0);
        return check_beginning(&replica, info).map(|()| replica);
    }
    let replica = Replica::resume(&token)?;
    let applied = replica.applied().sequence;
    if replica.log() != info.log {
        return Err(Divergence::Log(info.last).into());
    }
    if applied > info.last {
        return Err(Divergence::Short { last: info.last, applied }.into());
    }
    check_beginning(&replica, info)?;
    if store.newest() >= crate::replica::first_position(applied + 1) {
        return Err(Divergence::Token("it has messages beyond what its token says").into());
    }
    Ok(replica)
}

/// That the stream still has what the replica needs.
fn check_beginning(replica: &Replica, info: &StreamInfo) -> Result<(), JoinError> {
    if replica.next() < info.first {
        return Err(Divergence::Purged { needed: replica.next(), first: info.first }.into());
    }
    Ok(())
}

/// See the module.
pub struct JetStreamOrder {
    pub(crate) hub: Arc<Hub>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) link: Link,
    pub(crate) store: Arc<dyn Store>,
    /// Ended when this is dropped.
    _runtime: OrderRuntime,
}

impl JetStreamOrder {
    /// Waits until this node has applied what the stream had when it joined, and the log has begun. Answers false if it
    /// can't.
    pub async fn caught_up(&self) -> bool {
        let upto = *self.hub.reached().borrow();
        let mut progress = self.hub.progress();
        let mut stop = self.hub.stop.subscribe();
        tokio::select! {
            arrived = progress.wait_for(|applied| *applied >= upto) => arrived.is_ok(),
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }

    /// Begins an epoch, as each opening of a log does. Positions that this node gives its messages are then of an epoch of its own
    /// time, also where the stream was restored from a backup, and had messages at these positions before. Returns once this
    /// node has applied it, or can't.
    ///
    /// # Errors
    /// When there are no epochs left.
    pub async fn begin_epoch(&self, clock: Clock) -> Result<(), JoinError> {
        let mut stop = self.hub.stop.subscribe();
        let begun = async {
            loop {
                let last = self.store.epochs().current().epoch;
                let epoch = Epoch::opening((clock.now)().0, Some(last), (clock.random)());
                let opening = Write::Opening(epoch.ok_or(JoinError::Epochs)?, Opening::Clean);
                let (done, outcome) = oneshot::channel();
                // Without an outcome it may come yet: then there are two, and the first of them is enough.
                if self.hand_in(Some(opening), done).is_ok() && matches!(outcome.await, Ok(Ok(_))) {
                    return Ok(());
                }
                tokio::time::sleep(START_PAUSE).await;
            }
        };
        tokio::select! {
            begun = begun => begun,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    }

    /// Why this node can't go on, if it can't.
    pub fn divergence(&self) -> Option<Divergence> {
        self.hub.divergence()
    }

    /// The settings of NATS servers break a promise, or do so no more.
    pub fn set_server_flaw(&self, flaw: Option<String>) {
        self.hub.set_flaw(FlawOf::Servers, flaw);
    }

    /// The NATS server that this node is connected to.
    pub fn server(&self) -> String {
        self.link.server()
    }

    fn hand_in(&self, write: Option<Write>, done: Done) -> Result<(), WriteError> {
        self.hub.proposals.lock().push(write, done, Instant::now())?;
        self.hub.wake.notify_one();
        Ok(())
    }
}

impl Order for JetStreamOrder {
    fn submit(&self, write: Write, done: Done) -> Result<(), WriteError> {
        self.hand_in(Some(write), done)
    }

    /// Has an entry without writes ordered: once this node has applied it, it has all that was acknowledged before.
    fn newest(&self) -> Answer<'_, Result<Position, WriteError>> {
        Box::pin(async move {
            // Mostly what is asked for is under way, and the answer is not waited for.
            tokio::time::sleep(ASK_AFTER).await;
            let (done, outcome) = oneshot::channel();
            self.hand_in(None, done)?;
            match outcome.await {
                // An entry without writes has the outcome that it was applied.
                Ok(Ok(_)) => Ok(self.store.newest()),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(WriteError::Unknown),
            }
        })
    }

    fn health(&self) -> Health {
        self.hub.health()
    }

    fn load(&self) -> f64 {
        self.hub.proposals.lock().load()
    }

    fn close(&self, within: Duration) {
        self.hub.proposals.lock().close();
        self.hub.wake.notify_one();
        self.hub.wait_for_end(within);
    }
}

impl Drop for JetStreamOrder {
    fn drop(&mut self) {
        self.hub.stop.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn its_runtime_may_be_dropped_by_a_task_of_another() {
        let runtime = OrderRuntime::start().unwrap();
        assert_eq!(runtime.handle.spawn(async { 1 }).await.unwrap(), 1);
        drop(runtime);
    }
}
