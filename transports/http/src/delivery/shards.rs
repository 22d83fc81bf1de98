//! The delivery runtimes: one thread and one single-threaded runtime per shard, which own the sockets of streams and
//! WebSockets and nothing else. Requests never run here, so that a publish doesn't stand behind a thousand deliveries.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    thread,
};

use bytes::Bytes;
use tailwire_core::Broker;
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};

use super::stream;
use crate::{
    Phase,
    connection::{budget::ReceiveBudget, socket::Detached},
    limiter::Hold,
    websocket,
};

/// Tasks that have a turn before the dispatcher has another: each writes up to 64 KB, so that a live message waits for a
/// millisecond or two behind thousands of connections that catch up.
const TASKS_PER_ROUND: u32 = 31;

/// A socket's job on a delivery runtime.
pub(crate) enum Job {
    /// An endless HTTP response.
    Stream(Box<stream::StreamStart>),
    /// A WebSocket.
    WebSocket(Box<websocket::WebSocketStart>),
}

/// A socket that leaves HTTP for a delivery runtime, with what the client has sent beyond its request.
pub(crate) struct Hijacked {
    pub(crate) socket: Detached,
    pub(crate) received: Bytes,
    pub(crate) job: Job,
    /// The connection, as limits count it.
    pub(crate) hold: Hold,
}

/// The way to the delivery runtimes. They end when the last handle is gone and their connections are closed.
#[derive(Clone)]
pub(crate) struct Delivery(Vec<mpsc::UnboundedSender<Hijacked>>);

impl Delivery {
    /// Starts one thread per shard of the broker. The receivers resolve when each has ended.
    ///
    /// # Errors
    /// When the system gives no thread or no poll.
    pub(crate) fn start(
        broker: &Broker,
        budget: &ReceiveBudget,
        phase: &watch::Receiver<Phase>,
    ) -> io::Result<(Self, Vec<oneshot::Receiver<()>>)> {
        let mut senders = Vec::new();
        let mut ends = Vec::new();
        for shard in 0..broker.shards() {
            let (sender, receiver) = mpsc::unbounded_channel();
            let mut builder = runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().event_interval(TASKS_PER_ROUND).build()?;
            let (broker, budget, mut phase) = (broker.clone(), budget.clone(), phase.clone());
            let (ended, end) = oneshot::channel();
            let work = move || {
                runtime.block_on(async {
                    // Here and not as a task: it has its turn after a few of those that write, however many do.
                    let dispatcher = pin!(broker.dispatcher(shard));
                    tokio::select! {
                        () = run(shard, &budget, receiver) => {}
                        () = dispatcher => {}
                        _ = phase.wait_for(|phase| *phase == Phase::Cut) => {}
                    }
                });
                // With the runtime go the connections that are left.
                drop(runtime);
                let _ = ended.send(());
            };
            thread::Builder::new().name(format!("delivery-{shard}")).spawn(work)?;
            senders.push(sender);
            ends.push(end);
        }
        Ok((Self(senders), ends))
    }

    /// Gives a socket to a shard's runtime.
    pub(crate) fn give(&self, shard: usize, hijacked: Hijacked) {
        // The receiver is gone only when the server has ended; then the socket closes here.
        let _ = self.0[shard % self.0.len()].send(hijacked);
    }
}

async fn run(shard: usize, budget: &ReceiveBudget, mut sockets: mpsc::UnboundedReceiver<Hijacked>) {
    let (open, mut all_closed) = mpsc::channel(1);
    while let Some(hijacked) = sockets.recv().await {
        start(hijacked, shard, budget, &open);
    }
    drop(open);
    // Nothing is ever sent: this ends when no connection has a sender any more.
    all_closed.recv().await;
}

fn start(hijacked: Hijacked, shard: usize, budget: &ReceiveBudget, open: &mpsc::Sender<Infallible>) {
    let Hijacked { socket, received, job, hold } = hijacked;
    let socket = match socket.attach() {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%error, "a socket could not be taken over"),
    };
    let open = open.clone();
    match job {
        Job::Stream(start) => tokio::spawn(Open { connection: start.on(socket, shard, hold), _open: open }),
        Job::WebSocket(start) => {
            let connection = start.on(socket, received, shard, budget.clone(), hold);
            tokio::spawn(Open { connection, _open: open })
        }
    };
}

/// A connection, and what shows that it is there. A set of tasks would do the same for 100 bytes more a connection.
struct Open<C> {
    connection: C,
    _open: mpsc::Sender<Infallible>,
}

impl<C: Future<Output = ()> + Unpin> Future for Open<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.connection).poll(cx)
    }
}
