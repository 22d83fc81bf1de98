//! The log on disk, on sled. The committer's thread appends into a batch in memory; a commit packs it into chunks,
//! writes and syncs them, and only then lets the index and the watermark show them. What is stored and where stands
//! in `store`, the layouts in `chunk`, `record` and `values`.

mod behind;
mod chunk;
mod open;
mod postings;
mod read;
mod record;
mod recover;
mod store;
mod table;
mod tidy;
mod values;

#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tailwire_core::log::{
    Appended, Bounds, Budget, Commit, Feed, Group, Log, LogError, LogStats, Page, TopicInfo,
};
use tailwire_model::{Draft, Epochs, Filter, Message, Position, Timestamp, Topic, Trim, TrimReason};
use uuid::Uuid;

pub use self::open::OpenError;
use self::{
    behind::Behind,
    open::Opened,
    store::{Store, guarded},
};
use crate::{
    batch::{Batch, Changes},
    codec,
    index::{Cut, Index},
};

/// A log in a directory of its own.
pub struct SledLog {
    store: Store,
    id: Uuid,
    epochs: Arc<Epochs>,
    writer: Mutex<Writer>,
    /// What is committed. Locked for writing only between a sync and the next append, never during one.
    index: RwLock<Index>,
    /// Changes only while `index` is locked for writing.
    committed: AtomicU64,
    followers: Mutex<Vec<Arc<dyn Feed>>>,
    /// How the index is written behind.
    behind: Mutex<Behind>,
    tidying: Mutex<()>,
}

struct Writer {
    batch: Batch,
    state: State,
}

enum State {
    Open,
    /// A commit failed. What the store holds beyond the watermark is unknown until the next opening.
    Failed(String),
    Closed,
}

impl Writer {
    fn check(&self) -> Result<(), LogError> {
        match &self.state {
            State::Open => Ok(()),
            State::Failed(why) => Err(LogError::Failed(why.clone())),
            State::Closed => Err(LogError::Closed),
        }
    }
}

impl SledLog {
    /// Opens the log in `dir`, or makes a new one there, and begins an epoch.
    ///
    /// # Errors
    /// An [`OpenError`]; then no epoch was begun, unless it is [`OpenError::Io`], where that is unknown.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, OpenError> {
        let Opened { store, id, epochs, index, mark, newest, time } = open::open(dir, now)?;
        let writer = Writer { batch: Batch::new(newest, time), state: State::Open };
        Ok(Self {
            store,
            id,
            epochs: Arc::new(epochs),
            writer: Mutex::new(writer),
            behind: Mutex::new(Behind::new(mark, newest)),
            index: RwLock::new(index),
            committed: AtomicU64::new(newest.0),
            followers: Mutex::default(),
            tidying: Mutex::default(),
        })
    }

    /// The log's own name, given when it was made.
    pub fn id(&self) -> Uuid {
        self.id
    }

    fn newest_committed(&self) -> Position {
        Position(self.committed.load(Ordering::Acquire))
    }

    fn commit_batch(&self, writer: &mut Writer) -> Result<Position, LogError> {
        if writer.batch.changes().is_empty() {
            return Ok(self.newest_committed());
        }
        writer.check()?;
        let changes = writer.batch.take();
        let written =
            guarded(|| self.store.write(&changes).and_then(|()| self.store.sync()).map_err(store::failed));
        if let Err(error) = written {
            tracing::error!(%error, "a commit failed; the log takes no more messages until it is opened again");
            writer.state = State::Failed(error.to_string());
            return Err(LogError::Unknown(error.to_string()));
        }
        let watermark = writer.batch.newest();
        self.publish(&changes, watermark);
        let trims: Vec<(Topic, Trim)> =
            changes.trims.into_iter().map(|(topic, (trim, _))| (topic, trim)).collect();
        let commit = Arc::new(Commit { watermark, messages: changes.messages, trims });
        for feed in self.followers.lock().iter() {
            feed.committed(commit.clone());
        }
        Ok(watermark)
    }

    /// Lets readers see what is durable, all at once.
    fn publish(&self, changes: &Changes, watermark: Position) {
        let cuts: Vec<Option<Cut>> =
            changes.trims.iter().map(|(topic, (trim, _))| self.cut(topic.as_str(), trim.upto)).collect();
        let mut index = self.index.write();
        for message in &changes.messages {
            index.add(message.topic().as_str(), message.position(), message.time, message.draft.cost());
        }
        for ((topic, &(trim, time)), cut) in changes.trims.iter().zip(cuts) {
            index.trim(topic.as_str(), trim, time, cut);
        }
        self.committed.store(watermark.0, Ordering::Release);
    }
}

impl Drop for SledLog {
    fn drop(&mut self) {
        // When the engine is dropped it syncs, and panics if it can't: after a failure there is nothing left to sync.
        if matches!(self.writer.get_mut().state, State::Failed(_)) {
            std::mem::forget(self.store.db.clone());
        }
    }
}

impl Log for SledLog {
    fn epochs(&self) -> Arc<Epochs> {
        self.epochs.clone()
    }

    fn committed(&self) -> Position {
        self.newest_committed()
    }

    fn append(&self, groups: Vec<Group>, now: Timestamp) -> Result<Vec<Appended>, LogError> {
        let mut writer = self.writer.lock();
        writer.check()?;
        let bytes: usize = groups.iter().flat_map(|group| &group.drafts).map(Draft::cost).sum();
        let batch = &mut writer.batch;
        if !self.store.has_room(batch.changes().bytes + bytes) {
            return Err(LogError::Full);
        }
        let stored = |scoped: &str, time| self.store.key(scoped, time, &self.epochs);
        guarded(|| batch.append(groups, now, &self.epochs, &self.index.read(), stored))
    }

    fn trim(&self, topic: &Topic, reason: TrimReason) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        writer.check()?;
        writer.batch.trim(topic, reason, &self.index.read());
        Ok(())
    }

    fn commit(&self) -> Result<Position, LogError> {
        self.commit_batch(&mut self.writer.lock())
    }

    fn follow(&self, feed: Arc<dyn Feed>) {
        self.followers.lock().push(feed);
    }

    fn read(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<Page, LogError> {
        guarded(|| self.read_page(filter, after, upto, budget))
    }

    fn before_last(&self, filter: &Filter, count: usize) -> Result<Position, LogError> {
        guarded(|| self.find_before_last(filter, count))
    }

    fn get(&self, position: Position) -> Result<Option<Message>, LogError> {
        guarded(|| self.read_one(position))
    }

    fn bounds(&self, filter: &Filter) -> Bounds {
        self.index.read().bounds(filter)
    }

    fn trimmed(&self, filter: &Filter, after: Position) -> Option<Trim> {
        self.index.read().trimmed_after(filter, after)
    }

    fn topics(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        self.index.read().list(prefix, from, limit)
    }

    fn stats(&self) -> LogStats {
        let (topics, messages) = self.index.read().totals();
        LogStats { topics, messages, disk_bytes: self.store.db.size_on_disk().unwrap_or(0) }
    }

    fn tidy(&self) -> Result<bool, LogError> {
        let time = {
            let writer = self.writer.lock();
            match &writer.state {
                State::Open => writer.batch.time(Timestamp::default()),
                // A closed log stays as it was closed.
                State::Closed => return Ok(false),
                State::Failed(why) => return Err(LogError::Failed(why.clone())),
            }
        };
        guarded(|| Ok(self.tidy_step(time)? | self.write_behind_step()?))
    }

    fn close(&self) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        match writer.check() {
            Ok(()) => {}
            Err(LogError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.commit_batch(&mut writer)?;
        let newest = writer.batch.newest();
        let marked = guarded(|| {
            self.write_behind_all()?;
            open::mark_clean(&self.store, newest).and_then(|()| self.store.sync()).map_err(store::failed)
        });
        writer.state = match &marked {
            Ok(()) => State::Closed,
            Err(error) => State::Failed(error.to_string()),
        };
        marked
    }
}
