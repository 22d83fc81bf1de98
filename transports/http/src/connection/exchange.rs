//! A handler's requests to the connection that its request came on, where that is HTTP/1.1 and therefore its own: to keep
//! it for good ([hijack](Exchange::hijack)), to give an answer that takes long ([defer](Exchange::defer)), or to go on
//! with what the client has sent behind a publish ([queued](Exchange::queued)). The connection's driver sees to it.

use std::{convert::Infallible, mem, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::{
    api::{access_log::AccessEntry, guard::Cors},
    delivery::{polls::Reply, shards::Job},
};

/// A socket that leaves HTTP for a delivery runtime.
pub(crate) struct Hijack {
    /// The job of the delivery runtime.
    pub(crate) job: Job,
    /// On which shard.
    pub(crate) shard: usize,
}

/// An answer that may take long. Nothing else of its request is kept meanwhile.
pub(crate) struct Deferred {
    pub(crate) answer: BoxFuture<'static, Reply>,
    /// The CORS fields of its head.
    pub(crate) cors: Cors,
    /// Where it is logged.
    pub(crate) entry: AccessEntry,
}

/// One request and its answer, as its handler and the connection's driver share them.
#[derive(Clone, Default)]
pub(crate) struct Exchange(Arc<Mutex<Claim>>);

/// The handler's requests.
#[derive(Default)]
pub(crate) enum Claim {
    #[default]
    Nothing,
    Queued,
    Deferred(Deferred),
    Hijack(Hijack),
}

impl Exchange {
    /// A publish has its place in the queue: publishes behind it may take theirs.
    pub(crate) fn queued(&self) {
        *self.0.lock() = Claim::Queued;
    }

    /// Leaves the answer to the driver, which drops this future and with it the handler.
    pub(crate) async fn defer(self, deferred: Deferred) -> Infallible {
        *self.0.lock() = Claim::Deferred(deferred);
        std::future::pending().await
    }

    /// Takes the connection. The driver drops this future and with it the handler.
    pub(crate) async fn hijack(self, hijack: Hijack) -> Infallible {
        *self.0.lock() = Claim::Hijack(hijack);
        std::future::pending().await
    }

    /// The handler's requests by now.
    pub(crate) fn take(&self) -> Claim {
        mem::take(&mut self.0.lock())
    }
}
