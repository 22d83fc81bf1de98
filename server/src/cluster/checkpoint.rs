//! Checkpoints of the log, made by the node that decides for all: from time to time it makes a second copy of the log, of which
//! nobody is served, from the newest checkpoint and what the stream has since; closes it, and writes what it holds to NATS. So a
//! checkpoint is the state of one moment of the stream, no publish waits for it, and each one proves the one before: the stream is
//! purged up to what a checkpoint has that another one was made from.
//!
//! The engine has no view of its trees at one moment, so a store that entries are applied to can't be read as of one of them; that
//! is what the copy is for. It is removed when the checkpoint is written.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use tailwire_core::{Clock, Store, StoreError};
use tailwire_jetstream::{
    CHECKPOINT_PART_BYTES, Checkpoint, CheckpointError, Cluster, Divergence, JetStreamOrder,
    JetStreamSettings, JoinError, Stand,
};
use tailwire_storage::LogSettings;
use tokio::runtime::{Builder, Runtime};

use super::{error::ClusterError, replica::ReplicaFolder};

/// How often it is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause after one that failed, and after the next ones, each twice as long.
const PAUSE: Duration = Duration::from_secs(4);
const PAUSE_MAX: Duration = Duration::from_secs(10 * 60);
/// The folder of the copy, in the data folder.
const COPY: &str = "checkpoint";

/// What a node makes checkpoints by.
pub(super) struct CheckpointJob {
    pub(super) stream: JetStreamSettings,
    pub(super) clock: Clock,
    pub(super) data: PathBuf,
    /// Bytes that the stream has beyond the newest one before another is due, at least.
    pub(super) bytes: u64,
    pub(super) order: Weak<JetStreamOrder>,
}

/// Why none was made.
#[derive(Debug, thiserror::Error)]
enum NoCheckpoint {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Stream(#[from] CheckpointError),
    #[error(transparent)]
    Diverged(#[from] Divergence),
    #[error("the disk has no room for a second copy of the log")]
    NoRoom,
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The newest checkpoint that is known: up to which message of the stream it goes, and how many bytes it takes.
#[derive(Debug, Clone, Copy, Default)]
struct NewestCheckpoint {
    sequence: u64,
    bytes: u64,
}

impl From<&Checkpoint> for NewestCheckpoint {
    fn from(of: &Checkpoint) -> Self {
        Self { sequence: of.sequence, bytes: of.bytes }
    }
}

impl CheckpointJob {
    /// Has a thread for it, which ends with the node.
    pub(super) fn start(self) -> io::Result<()> {
        thread::Builder::new().name("checkpoint".to_owned()).spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        crate::machine::lower_priority();
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "this node makes no checkpoints"),
        };
        // What a process left that ended while it made one.
        self.clear();
        let (mut newest, mut pause) = (NewestCheckpoint::default(), PAUSE);
        loop {
            thread::sleep(LOOK_EVERY);
            let Some(order) = self.order.upgrade() else { return };
            let looked = self.look(&order, &runtime, &mut newest);
            drop(order);
            match looked.and_then(|is_due| is_due.then(|| self.make(&runtime)).transpose()) {
                Ok(None) => {}
                Ok(Some(made)) => (newest, pause) = (NewestCheckpoint::from(&made), PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "no checkpoint was made: the stream keeps all that it has");
                    thread::sleep(pause);
                    pause = PAUSE_MAX.min(2 * pause);
                }
            }
        }
    }

    /// Whether one is to be made. The others' are looked at only where it seems so.
    fn look(
        &self,
        order: &JetStreamOrder,
        runtime: &Runtime,
        newest: &mut NewestCheckpoint,
    ) -> Result<bool, NoCheckpoint> {
        if !self.is_due(order, *newest) {
            return Ok(false);
        }
        let last = order.stream().map_or(0, |info| info.last);
        let found = runtime.block_on(order.checkpoints().list())?;
        // One that is ahead is of a stream that was lost since.
        *newest = found
            .iter()
            .find(|one| one.sequence <= last)
            .map_or(NewestCheckpoint::default(), NewestCheckpoint::from);
        if !self.is_due(order, *newest) {
            return Ok(false);
        }
        // The copy takes about as much as the node's own store, and what is replayed; and room for messages is asked for four times,
        // so this is for twice as much.
        let needed = order.store_bytes().saturating_add(self.bytes) / 2;
        if order.has_room(needed) { Ok(true) } else { Err(NoCheckpoint::NoRoom) }
    }

    /// Whether this is the node that makes them, and the stream has grown by as much as one takes, and by what is set.
    fn is_due(&self, order: &JetStreamOrder, newest: NewestCheckpoint) -> bool {
        let Some(info) = order.stream().filter(|_| order.decides()) else { return false };
        is_due(info.bytes, (info.first, info.last), newest.sequence, self.bytes.max(newest.bytes))
    }

    fn make(&self, runtime: &Runtime) -> Result<Checkpoint, NoCheckpoint> {
        let began = Instant::now();
        let made = runtime.block_on(Cluster::connect(self.stream.clone(), self.clock, true));
        let made = made.map_err(NoCheckpoint::Join).and_then(|cluster| self.make_of(&cluster, runtime));
        self.clear();
        let (made, base) = made?;
        let (sequence, bytes, seconds) = (made.sequence, made.bytes, began.elapsed().as_secs());
        tracing::info!(sequence, bytes, seconds, "a checkpoint was made");
        if let (Some(base), Some(order)) = (base, self.order.upgrade()) {
            runtime.block_on(order.checkpoints().prune(&base, order.needed()))?;
        }
        Ok(made)
    }

    /// Makes one, and answers the one that it was made from, if there was one.
    fn make_of(
        &self,
        cluster: &Cluster,
        runtime: &Runtime,
    ) -> Result<(Checkpoint, Option<Checkpoint>), NoCheckpoint> {
        let copy = self.copy();
        let (store, base) = runtime.block_on(async { copy.open_for(copy.open().await?, cluster).await })?;
        let shared: Arc<dyn Store> = store.clone();
        runtime.block_on(cluster.replay(&shared))?;
        let stand = Stand::of(&*store)?;
        store.close()?;
        let mut writer = runtime.block_on(cluster.checkpoints().begin((self.clock.random)()))?;
        store.dump(CHECKPOINT_PART_BYTES, |part| {
            let began = Instant::now();
            let written = runtime.block_on(writer.part(part)).map_err(NoCheckpoint::Stream);
            // Publishes go by the same disks, and have half of the time at least.
            thread::sleep(began.elapsed());
            written
        })?;
        Ok((runtime.block_on(writer.end(stand))?, base))
    }

    fn copy(&self) -> ReplicaFolder {
        ReplicaFolder { folder: self.data.join(COPY), log: LogSettings::default() }
    }

    fn clear(&self) {
        if let Err(error) = self.copy().clear() {
            tracing::warn!(%error, "the copy of the log for a checkpoint could not be removed");
        }
    }
}

/// Whether a checkpoint is worth its bytes: the stream has more than that beyond the newest one.
fn is_due(bytes: u64, (first, last): (u64, u64), newest: u64, worth: u64) -> bool {
    let count = u128::from((last + 1).saturating_sub(first).max(1));
    let beyond = u128::from(last.saturating_sub(newest.max(first.saturating_sub(1))));
    beyond > 0 && u128::from(bytes) * beyond / count >= u128::from(worth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_due_once_the_stream_has_as_much_beyond_it() {
        assert!(is_due(1000, (1, 10), 0, 1000));
        assert!(!is_due(999, (1, 10), 0, 1000));
        assert!(!is_due(1000, (1, 10), 1, 1000));
        assert!(is_due(1000, (1, 10), 5, 500));
        assert!(is_due(1000, (101, 110), 50, 1000), "what is gone does not count");
        assert!(!is_due(1000, (1, 10), 10, 0), "nothing is beyond it");
        assert!(!is_due(0, (1, 0), 0, 0), "an empty stream");
    }
}
