//! The context that connections are served with, and the state of the server.

use tokio::sync::watch;

use super::budget::ReceiveBudget;
use crate::{Phase, api::router::HttpRoutes, delivery::shards::Delivery};

/// The context of every connection.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) routes: HttpRoutes,
    pub(crate) delivery: Delivery,
    /// The room of all that is being received.
    pub(crate) budget: ReceiveBudget,
    /// How far the server is.
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Ends when the server drains, or is gone.
pub(crate) async fn draining(mut phase: watch::Receiver<Phase>) {
    drop(phase.wait_for(|phase| *phase >= Phase::Draining).await);
}
