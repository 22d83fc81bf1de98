//! What is to be published, and how: the same for its encoder and its sender.

use std::time::Duration;

use clap::ValueEnum;

use super::{Clock, connect::Target};

/// How a publish is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wire {
    Http,
    Ws,
}

/// What to publish.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) topic: String,
    pub(super) wire: Wire,
    pub(super) connections: usize,
    /// Publishes under way on one connection.
    pub(super) in_flight: usize,
    /// Messages of one publish; more than one is a batch.
    pub(super) batch: usize,
    pub(super) size: usize,
    /// Publishes a second over all connections; none is flat out.
    pub(super) rate: Option<f64>,
    pub(super) duration: Duration,
    pub(super) clock: Clock,
}
