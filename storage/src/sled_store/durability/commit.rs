//! Committing: a batch's changes go to the store, as durably as their acknowledgement says, and only then to the index, to
//! the ring and to the followers.
//!
//! A commit in which anything is acknowledged as durable is synced; so is every earlier one with it. One of only
//! relaxed messages, or of trims that retention would repeat, is written and left to the next sync, which comes within
//! [`RELAXED_FLUSH_MS`]. After a write or a sync has failed nothing more is written: what the store holds beyond the
//! last sync is unknown until the next opening.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tailwire_core::{
    StoreError,
    log::Feed,
    store::{Entry, Outcome},
};
use tailwire_model::{Message, Topic, limits::RELAXED_FLUSH_MS};

use super::watermark::{CommitMark, Watermark};
use crate::batch::{Batch, Changes, LogHead, batches};
use crate::sled_store::{
    SledStore,
    failure::{failed, guarded},
};

/// Messages, and their bytes, after which a step of tidying is due: few enough that it takes some milliseconds.
const DEBT_MESSAGES: usize = 512;
const DEBT_BYTES: u64 = 256 << 10;
const RELAXED_FLUSH: Duration = Duration::from_millis(RELAXED_FLUSH_MS);

/// The committing side of the log.
pub(crate) struct CommitWriter {
    pub(crate) head: LogHead,
    pub(crate) state: WriterState,
    pub(crate) followers: Vec<Arc<dyn Feed>>,
    /// Messages that were applied since the index was written as it was found, or more.
    pub(crate) applied: u64,
    pub(crate) watermark: Watermark,
    /// As of the last write.
    pub(crate) mark: CommitMark,
    /// Since when something is written and not synced. By the clock that never stands still: durability within a time is
    /// guaranteed.
    pub(crate) unsynced: Option<Instant>,
    /// Bytes that were taken apart since the engine's file was last cleaned, and those of new messages.
    pub(crate) uncleaned: u64,
    pub(crate) grown: u64,
    /// The debt since the last step of tidying, while there was something to tidy.
    pub(crate) debt: Debt,
    /// The reason why tidying failed last.
    pub(crate) complaint: Option<String>,
    /// Topics of which the store knows that messages of theirs are not in it.
    pub(crate) volatile: HashSet<Topic>,
}

/// The debt of tidying: a step trims, purges and cleans for all that came since the one before and as much
/// again, so that what is left shrinks under any load.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Debt {
    pub(crate) messages: usize,
    pub(crate) bytes: u64,
}

impl Debt {
    /// Whether it is time to pay.
    pub(crate) const fn is_due(&self) -> bool {
        self.messages >= DEBT_MESSAGES || self.bytes >= DEBT_BYTES
    }

    /// Messages that a step trims or purges at least.
    pub(crate) const fn step_messages(&self) -> usize {
        2 * self.messages
    }

    /// Bytes of messages for which a step cleans at most.
    pub(crate) const fn step_bytes(&self) -> u64 {
        2 * self.bytes
    }
}

pub(crate) enum WriterState {
    Open,
    /// A commit failed.
    Failed(String),
    Closed,
}

impl CommitWriter {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &self.state {
            WriterState::Open => Ok(()),
            WriterState::Failed(why) => Err(StoreError::Failed(why.clone())),
            WriterState::Closed => Err(StoreError::Closed),
        }
    }

    /// Remembers a failure, also for the next opening: what the kernel shows of the store may not be on the disk.
    pub(crate) fn fail(&mut self, error: &StoreError) -> StoreError {
        tracing::error!(%error, "a commit failed; the log takes no more messages until it is opened again");
        let why = match error {
            StoreError::Failed(why) | StoreError::Unknown(why) => why.clone(),
            other => other.to_string(),
        };
        self.state = WriterState::Failed(why.clone());
        if let Err(error) = self.watermark.mark_dirty() {
            tracing::error!(%error, "nor could that be written down");
        }
        StoreError::Unknown(why)
    }

    /// Tells the operator what could not be done, once for as long as it is the same.
    pub(crate) fn complain(&mut self, error: &StoreError) {
        let why = error.to_string();
        if self.complaint.as_ref() != Some(&why) {
            tracing::error!(%error, "the log could not be tidied");
            self.complaint = Some(why);
        }
    }
}

impl SledStore {
    pub(crate) fn apply_entries(&self, entries: Vec<Entry>, sync: bool) -> Result<Vec<Outcome>, StoreError> {
        let mut writer = self.writer.lock();
        writer.check()?;
        let mut outcomes = Vec::with_capacity(entries.iter().map(|entry| entry.writes.len()).sum());
        let mut is_begun = false;
        for entries in batches(entries) {
            let applied = self.apply_batch(&mut writer, entries, sync, &mut outcomes);
            // Of what comes in one call all is applied, or nobody knows.
            applied.map_err(|error| if is_begun { writer.fail(&error) } else { error })?;
            is_begun = true;
        }
        Ok(outcomes)
    }

    fn apply_batch(
        &self,
        writer: &mut CommitWriter,
        entries: Vec<Entry>,
        sync: bool,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new(writer.head.clone());
        guarded(|| {
            let index = self.index.read();
            entries.into_iter().try_for_each(|entry| batch.apply(entry, &index, self, outcomes))
        })?;
        let (head, mut changes) = batch.into_parts();
        guarded(|| self.purge_forgotten(&mut changes))?;
        self.commit(writer, head, changes, sync)
    }

    fn commit(
        &self,
        writer: &mut CommitWriter,
        head: LogHead,
        changes: Changes,
        sync: bool,
    ) -> Result<(), StoreError> {
        if changes.is_empty() {
            self.retention.lock().committed(&changes, &head.rules);
            return Ok(());
        }
        guarded(|| self.write(writer, &changes, &head, sync)).map_err(|error| writer.fail(&error))?;
        if self.show(&changes, &head) {
            writer.debt.messages += changes.messages.len();
            writer.debt.bytes += changes.bytes as u64;
        }
        writer.applied += changes.messages.len() as u64;
        if !changes.forgotten.is_empty() {
            writer.volatile.retain(|topic| !changes.forgotten.contains_key(topic));
        }
        self.note_forgotten(&changes);
        let commit = changes.into_commit(head.newest);
        writer.head = head;
        writer.followers.iter().for_each(|feed| feed.committed(commit.clone()));
        Ok(())
    }

    /// Writes changes, and syncs them if they are acknowledged as durable.
    fn write(
        &self,
        writer: &mut CommitWriter,
        changes: &Changes,
        head: &LogHead,
        sync: bool,
    ) -> Result<(), StoreError> {
        let mark = CommitMark { commits: writer.mark.commits + 1, ..writer.mark };
        for topic in changes.volatile().map(Message::topic) {
            if !writer.volatile.contains(topic) {
                self.store.write_volatile(topic).map_err(failed)?;
                writer.volatile.insert(topic.clone());
                writer.unsynced.get_or_insert_with(Instant::now);
            }
        }
        if changes.is_all_volatile() {
            return Ok(());
        }
        if changes.has_new_ages
            && !changes.openings.is_empty()
            && self.index.read().newest_time() > head.steady
        {
            // The clock was ahead, and is not any more.
            self.store.bound_lifetimes(head.steady)?;
        }
        self.write_index_without(changes)?;
        let newest = self.store.write(changes, head, mark.commits).map_err(failed)?;
        writer.mark = CommitMark { newest: newest.unwrap_or(mark.newest), ..mark };
        self.counts.written(&writer.mark);
        writer.grown += changes.bytes as u64;
        let since = *writer.unsynced.get_or_insert_with(Instant::now);
        if sync && !changes.openings.is_empty() {
            // So that a repair finds the epoch also where the journal is lost.
            self.store.checkpoint().map_err(failed)?;
        }
        if (changes.must_sync && sync) || since.elapsed() >= RELAXED_FLUSH {
            self.sync(writer)?;
        }
        Ok(())
    }

    /// Makes durable what was written, and says so beside the store. What was tidied since the last commit is one, too.
    fn sync(&self, writer: &mut CommitWriter) -> Result<(), StoreError> {
        if self.store.journal.has_changes() {
            writer.mark.commits += 1;
            self.store.end_commit(writer.mark.commits, None, &[]).map_err(failed)?;
        }
        self.store.sync().map_err(failed)?;
        self.synced(writer)
    }

    /// Notes that all written changes are durable.
    fn synced(&self, writer: &mut CommitWriter) -> Result<(), StoreError> {
        writer.unsynced = None;
        self.counts.synced(&writer.mark);
        let written = self.store.checkpoints.unless_lost(|| writer.watermark.write(&writer.mark));
        written.map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// Makes durable what has waited for that long enough. Returns in how many milliseconds it wants that, if ever.
    pub(crate) fn flush(&self, writer: &mut CommitWriter) -> Result<Option<u64>, StoreError> {
        if let Some(since) = writer.unsynced {
            let left = RELAXED_FLUSH.saturating_sub(since.elapsed());
            if !left.is_zero() {
                return Ok(Some(left.as_millis() as u64 + 1));
            }
            guarded(|| self.sync(writer)).map_err(|error| writer.fail(&error))?;
        }
        let tidied = writer.watermark.tidy().map_err(|error| StoreError::Failed(error.to_string()));
        tidied.map_err(|error| writer.fail(&error))
    }

    /// Closes in good order: the next opening is a clean one.
    pub(crate) fn finish(&self, writer: &mut CommitWriter) -> Result<(), StoreError> {
        let newest = writer.head.newest;
        let mark = CommitMark { commits: writer.mark.commits + 1, ..writer.mark };
        let closed = guarded(|| {
            // The index is written without them: nobody would find them again.
            while self.purge_obsolete(Debt::default())?.is_some() {}
            self.write_behind_all(writer)?;
            self.store.write_clean(mark.newest, newest, mark.commits).map_err(failed)?;
            writer.mark = mark;
            self.store.checkpoint().map_err(failed)?;
            self.synced(writer)?;
            let ended = writer.watermark.sync().and_then(|()| self.store.journal.end());
            ended.map_err(|error| StoreError::Failed(error.to_string()))
        });
        match closed {
            Ok(()) => writer.state = WriterState::Closed,
            Err(error) => return Err(writer.fail(&error)),
        }
        Ok(())
    }

    /// Lets readers see what is committed, all at once. Answers whether there is something to tidy.
    fn show(&self, changes: &Changes, head: &LogHead) -> bool {
        let retained = changes
            .trims
            .iter()
            .map(|(topic, (trim, _))| self.read_split(topic.as_str(), trim.upto))
            .collect();
        let mut index = self.index.write();
        changes.apply(&mut index, &head.ages, retained);
        let takes = !changes.trims.is_empty() || !changes.removed.is_empty() || !changes.forgotten.is_empty();
        if !changes.volatile.is_empty() || takes {
            self.ring.write().commit(changes);
        }
        if changes.has_new_rules {
            *self.rules.write() = head.rules.clone();
        }
        if !changes.openings.is_empty() {
            *self.epochs.write() = head.epochs.clone();
        }
        self.committed.store(head.newest.0, Ordering::Release);
        let (has_dead, bytes) = (index.has_purgeable() || index.obsolete_count() > 0, index.bytes());
        drop(index);
        self.recount.lock().committed(changes);
        let mut retention = self.retention.lock();
        retention.committed(changes, &head.rules);
        has_dead || retention.has_work(bytes)
    }
}
