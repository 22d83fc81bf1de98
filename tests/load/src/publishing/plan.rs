//! The plan of publishing, for both its encoder and its sender.

use std::time::Duration;

use clap::ValueEnum;

use crate::client::connect::LoadTarget;
use crate::measure::clock::LoadRun;
use crate::measure::topic_set::TopicSet;

/// How a publish is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PublishTransport {
    Http,
    Ws,
}

impl PublishTransport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            PublishTransport::Http => "http",
            PublishTransport::Ws => "ws",
        }
    }
}

/// When publishing is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishEnd {
    After(Duration),
    /// Once so many messages were sent.
    Messages(u64),
}

/// The plan of publishing.
#[derive(Debug, Clone)]
pub(crate) struct PublishPlan {
    pub(crate) target: LoadTarget,
    pub(crate) topic_set: TopicSet,
    pub(crate) wire: PublishTransport,
    pub(crate) connections: usize,
    /// Publishes under way on one connection.
    pub(crate) in_flight: usize,
    /// Messages of one publish; more than one is a batch.
    pub(crate) batch: usize,
    pub(crate) size: usize,
    /// Publishes a second over all connections; none is flat out.
    pub(crate) rate: Option<f64>,
    pub(crate) end: PublishEnd,
    pub(crate) run: LoadRun,
}

impl PublishPlan {
    /// One connection that publishes so many messages in large batches: the fastest way to fill a topic.
    pub(crate) fn fill(
        target: LoadTarget,
        topic_set: TopicSet,
        messages: u64,
        size: usize,
        run: LoadRun,
    ) -> PublishPlan {
        // Well under what the broker takes in one batch, also of large messages.
        const BATCH_MESSAGES: usize = 1_000;
        const BATCH_BYTES: usize = 4 << 20;
        PublishPlan {
            target,
            topic_set,
            wire: PublishTransport::Http,
            connections: 1,
            in_flight: 1,
            batch: (BATCH_BYTES / size).clamp(1, BATCH_MESSAGES),
            size,
            rate: None,
            end: PublishEnd::Messages(messages),
            run,
        }
    }
}
