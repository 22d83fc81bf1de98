//! What every connection is served with, and how far the server is.

use tokio::sync::watch;

use super::budget::Budget;
use crate::{Phase, api::router::Routes, delivery::shards::Delivery};

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) routes: Routes,
    pub(crate) delivery: Delivery,
    /// What all connections are receiving.
    pub(crate) budget: Budget,
    /// How far the server is.
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Ends when the server drains, or is gone.
pub(crate) async fn draining(mut phase: watch::Receiver<Phase>) {
    drop(phase.wait_for(|phase| *phase >= Phase::Draining).await);
}
