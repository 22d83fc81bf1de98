//! What is to be published, and how: the same for its encoder and its sender.

use std::time::Duration;

use clap::ValueEnum;

use super::Run;
use super::connect::Target;
use super::spread::Spread;

/// How a publish is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wire {
    Http,
    Ws,
}

impl Wire {
    pub(super) fn name(self) -> &'static str {
        match self {
            Wire::Http => "http",
            Wire::Ws => "ws",
        }
    }
}

/// When publishing is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    After(Duration),
    /// Once so many messages were sent.
    Messages(u64),
}

/// What to publish.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) spread: Spread,
    pub(super) wire: Wire,
    pub(super) connections: usize,
    /// Publishes under way on one connection.
    pub(super) in_flight: usize,
    /// Messages of one publish; more than one is a batch.
    pub(super) batch: usize,
    pub(super) size: usize,
    /// Publishes a second over all connections; none is flat out.
    pub(super) rate: Option<f64>,
    pub(super) end: End,
    pub(super) run: Run,
}

impl Plan {
    /// One connection that publishes so many messages in large batches: the fastest way to fill a topic.
    pub(super) fn fill(target: Target, spread: Spread, messages: u64, size: usize, run: Run) -> Plan {
        // Well under what the broker takes in one batch, also of large messages.
        const BATCH_MESSAGES: usize = 1_000;
        const BATCH_BYTES: usize = 4 << 20;
        Plan {
            target,
            spread,
            wire: Wire::Http,
            connections: 1,
            in_flight: 1,
            batch: (BATCH_BYTES / size).clamp(1, BATCH_MESSAGES),
            size,
            rate: None,
            end: End::Messages(messages),
            run,
        }
    }
}
