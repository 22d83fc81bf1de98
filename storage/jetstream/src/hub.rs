//! What the tasks of an order share: proposals, how far this node is, how far the stream is known to be, and how it stands.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tailwire_core::order::Health;
use tokio::sync::{Notify, watch};

use crate::{
    frame::{Applied, LogId},
    proposals::Proposals,
    replica::Divergence,
    stream::StreamInfo,
};

/// How long the stream may not be heard of before the node counts as detached.
const DETACHED_AFTER: Duration = Duration::from_secs(3);
/// How long a node may be behind before it says so: others' entries are always under way.
const BEHIND_AFTER: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) struct Hub {
    pub(crate) log: LogId,
    pub(crate) proposals: Mutex<Proposals>,
    /// Told when something may be sent.
    pub(crate) wake: Notify,
    /// Something that was sent did not count, and is to be sent again.
    pub(crate) sends_again: AtomicBool,
    /// The newest message that the stream is known to have.
    reached: watch::Sender<u64>,
    /// How far this node is, for those who wait for that.
    applied: watch::Sender<u64>,
    progress: Mutex<NodeProgress>,
    /// The stream, as its leader said last.
    pub(crate) stream: Mutex<Option<StreamInfo>>,
    ended: Mutex<bool>,
    has_ended: Condvar,
    /// Told when the node is to end: drained, or diverged.
    pub(crate) stop: watch::Sender<bool>,
}

/// See [`Hub::set_flaw`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlawOf {
    Stream,
    Servers,
}

struct NodeProgress {
    applied: Applied,
    /// A message that the stream is known to have and that is not applied, and since when that is known.
    behind: Option<(u64, Instant)>,
    /// When the stream was heard of last.
    heard: Instant,
    /// The settings by which the stream, and the servers, break a promise.
    flaws: [Option<String>; 2],
    divergence: Option<Divergence>,
}

impl Hub {
    pub(crate) fn new(log: LogId, incarnation: u64, topics_max: u64, applied: Applied) -> Self {
        let now = Instant::now();
        Self {
            log,
            proposals: Mutex::new(Proposals::new(log, incarnation, topics_max)),
            wake: Notify::new(),
            sends_again: AtomicBool::new(false),
            reached: watch::Sender::new(applied.sequence),
            applied: watch::Sender::new(applied.sequence),
            progress: Mutex::new(NodeProgress {
                applied,
                behind: None,
                heard: now,
                flaws: [None, None],
                divergence: None,
            }),
            stream: Mutex::new(None),
            ended: Mutex::new(false),
            has_ended: Condvar::new(),
            stop: watch::Sender::new(false),
        }
    }

    /// How far this node is.
    pub(crate) fn applied(&self) -> Applied {
        self.progress.lock().applied
    }

    /// This node has come so far.
    pub(crate) fn has_applied(&self, applied: Applied) {
        let mut progress = self.progress.lock();
        // Read under the lock: what is reached after that is compared with this progress.
        let reached = *self.reached.borrow();
        progress.applied = applied;
        if progress.behind.is_some_and(|(sequence, _)| sequence <= applied.sequence) {
            progress.behind = (reached > applied.sequence).then(|| (reached, Instant::now()));
        }
        drop(progress);
        self.has_reached(applied.sequence);
        self.applied.send_replace(applied.sequence);
    }

    /// How far this node is, from here on.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// The stream has so much.
    pub(crate) fn has_reached(&self, sequence: u64) {
        let is_new = self.reached.send_if_modified(|reached| {
            let is_new = sequence > *reached;
            *reached = sequence.max(*reached);
            is_new
        });
        if is_new {
            let mut progress = self.progress.lock();
            if sequence > progress.applied.sequence {
                progress.behind.get_or_insert_with(|| (sequence, Instant::now()));
            }
        }
    }

    /// The stream answered.
    pub(crate) fn was_heard(&self) {
        self.progress.lock().heard = Instant::now();
    }

    /// The stream's settings, or the servers', break a promise, or do so no more.
    pub(crate) fn set_flaw(&self, of: FlawOf, flaw: Option<String>) {
        let own = &mut self.progress.lock().flaws[of as usize];
        if *own == flaw {
            return;
        }
        match &flaw {
            Some(flaw) => tracing::error!(flaw, "what was acknowledged may be lost: NATS was set otherwise"),
            None => tracing::info!("NATS is set as it should be again"),
        }
        *own = flaw;
    }

    /// How far the stream is known to be.
    pub(crate) fn reached(&self) -> watch::Receiver<u64> {
        self.reached.subscribe()
    }

    /// This node can't go on.
    pub(crate) fn diverge(&self, divergence: Divergence) {
        let mut progress = self.progress.lock();
        if progress.divergence.is_none() {
            if matches!(divergence, Divergence::Purged { .. }) {
                tracing::warn!(%divergence, "this node was away for too long to follow the stream any more");
            } else {
                tracing::error!(%divergence, "this node stops: what it has may differ from what others have");
            }
            progress.divergence = Some(divergence);
        }
        drop(progress);
        self.stop.send_replace(true);
        self.fail_all();
    }

    pub(crate) fn divergence(&self) -> Option<Divergence> {
        self.progress.lock().divergence.clone()
    }

    /// Answers all who wait that nothing is known of what was under way, and that nothing was done of the rest.
    pub(crate) fn fail_all(&self) {
        let (unknown, undone) = self.proposals.lock().give_up();
        unknown.into_iter().for_each(|waiting| waiting.fail(true));
        undone.into_iter().for_each(|waiting| waiting.fail(false));
    }

    pub(crate) fn health(&self) -> Health {
        let progress = self.progress.lock();
        if progress.divergence.is_some() {
            return Health::Diverged;
        }
        if progress.heard.elapsed() > DETACHED_AFTER {
            return Health::Detached;
        }
        if progress.flaws.iter().any(Option::is_some) {
            return Health::Misconfigured;
        }
        match progress.behind.map(|(_, since)| since.elapsed()) {
            Some(behind) if behind > BEHIND_AFTER => {
                Health::Behind(u64::try_from(behind.as_millis()).unwrap_or(u64::MAX))
            }
            _ => Health::Good,
        }
    }

    /// Nothing is applied any more, and the store is closed.
    pub(crate) fn end(&self) {
        *self.ended.lock() = true;
        self.has_ended.notify_all();
    }

    /// Waits for the end, or as long as that.
    pub(crate) fn wait_for_end(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut ended = self.ended.lock();
        while !*ended && !self.has_ended.wait_until(&mut ended, until).timed_out() {}
    }
}
