//! What is done between commits, in steps that are short enough to stand there: syncing what was left unsynced,
//! carrying out retention and compaction, and removing from the store what is dead and the idempotency keys whose time is
//! over. Nothing here decides what is dead: the rules of retention, the index and the keys' spans do.

use tailwire_core::log::{Budget, LogError, TopicInfo};
use tailwire_model::{Filter, Position, Timestamp, Topic, Trim, TrimReason, limits::RETENTION_EVERY_MS};

use super::{
    SledLog,
    chunk::Chunk,
    commit::{State, Writer},
    record::Content,
    store::{corrupt, failed},
    values::key_span,
};
use crate::{
    index::Freed,
    retention::{Seen, Stock, Trims},
};

/// Dead messages that one step looks for: at worst as many chunks, 1 MB, are rewritten.
const STEP_MESSAGES: usize = 256;
/// Expired keys that one step removes.
const STEP_KEYS: usize = 512;
/// Messages of a topic that one step compacts.
const STEP_COMPACTED: Budget = Budget { messages: 200, bytes: 1 << 20, scan_bytes: 1 << 20 };

impl SledLog {
    /// One step. Returns after how many milliseconds the next one is due, if one is.
    pub(super) fn tidy_step(&self, now: Timestamp) -> Result<Option<u64>, LogError> {
        let mut writer = self.writer.lock();
        match &writer.state {
            State::Open => {}
            // A closed log stays as it was closed.
            State::Closed => return Ok(None),
            State::Failed(why) => return Err(LogError::Failed(why.clone())),
        }
        self.ballast.keep();
        let time = writer.batch.time(now);
        let retained = self.retain(&mut writer, time)?;
        let ring = self.tidy_ring(time);
        let compacted = self.compact(&mut writer)?;
        let buried = self.bury_step(&mut writer)?;
        let expired = self.expire_keys(time)?;
        let flushed = self.flush(&mut writer, time)?;
        Ok([retained, ring, compacted, buried, expired, flushed].into_iter().flatten().min())
    }

    /// Trims what retention finds.
    fn retain(&self, writer: &mut Writer, time: Timestamp) -> Result<Option<u64>, LogError> {
        let mut trims = Trims::default();
        let rules = self.rules.read().clone();
        let again = self.retention.lock().step(time, &rules, self, &mut trims)?;
        let index = self.index.read();
        for (topic, (upto, freed)) in trims {
            let trim = Trim { upto, reason: TrimReason::Retention };
            writer.batch.trim_upto(&topic, trim, Freed::Bytes(freed), &index);
        }
        drop(index);
        self.commit_batch(writer)?;
        Ok(again)
    }

    fn tidy_ring(&self, time: Timestamp) -> Option<u64> {
        let rules = self.rules.read().clone();
        let ring = self.ring.upgradable_read();
        if ring.size().0 == 0 || rules.is_empty() {
            return None;
        }
        let wait = ring.wait_ms(time);
        if wait == 0 {
            parking_lot::RwLockUpgradableReadGuard::upgrade(ring).obey(&rules, time);
            return Some(RETENTION_EVERY_MS);
        }
        Some(wait)
    }

    /// Takes from a topic that is compacted what was stored before it was, or before a crash.
    fn compact(&self, writer: &mut Writer) -> Result<Option<u64>, LogError> {
        let Some((topic, after)) = self.retention.lock().uncompacted() else { return Ok(None) };
        let page = self.read_page(&Filter::from(topic.clone()), after, Position::MAX, STEP_COMPACTED)?;
        for message in &page.messages {
            writer.batch.compact(message, self)?;
        }
        self.commit_batch(writer)?;
        let ended = page.scanned >= self.newest_committed();
        self.retention.lock().compacted(&topic, page.scanned, ended);
        Ok(Some(0))
    }

    fn bury_step(&self, writer: &mut Writer) -> Result<Option<u64>, LogError> {
        let mut step: Vec<Position> = {
            let mut graveyard = self.graveyard.lock();
            let count = graveyard.len().min(STEP_MESSAGES);
            graveyard.drain(..count).collect()
        };
        if step.is_empty() {
            return Ok(None);
        }
        step.sort_unstable();
        if let Err(error) = self.bury(&step) {
            self.graveyard.lock().extend(step);
            return Err(error);
        }
        // So that a DELETE is carried out on the disk even when no commit follows it.
        writer.unsynced.get_or_insert(writer.batch.time(Timestamp::default()));
        Ok(Some(0))
    }

    fn bury(&self, dead: &[Position]) -> Result<(), LogError> {
        let mut done = Position::ZERO;
        for &position in dead {
            if position <= done {
                continue;
            }
            // Another topic's trim may have taken the chunk already.
            let Some(chunk) = self.store.chunk_at(position)? else {
                continue;
            };
            self.rewrite(&chunk)?;
            done = chunk.last;
        }
        Ok(())
    }

    /// Takes the dead out of a chunk, once it pays.
    fn rewrite(&self, chunk: &Chunk) -> Result<(), LogError> {
        let damaged = |damage| corrupt("chunk", chunk.first, damage);
        let (mut dead_bytes, mut deleted, mut contents) = (0, false, Vec::new());
        let (value, alive) = {
            let index = self.index.read();
            let retained = chunk.retain(|record| {
                let keep = !index.is_dead(record.topic, record.position);
                if !keep {
                    dead_bytes += record.stored_bytes();
                    deleted |=
                        index.trimmed(record.topic).is_some_and(|trim| trim.reason == TrimReason::Deleted);
                    contents
                        .extend(matches!(record.content, Content::Fragmented(_)).then_some(record.position));
                }
                keep
            });
            retained.map_err(damaged)?
        };
        // Fragments first: without the chunk nothing would lead to them.
        for position in contents {
            self.store.remove_content(position).map_err(failed)?;
        }
        let key = chunk.first.0.to_be_bytes();
        if alive == 0 {
            self.store.chunks.remove(key).map_err(failed)?;
        } else if deleted || 2 * dead_bytes >= chunk.bytes {
            self.store.chunks.insert(key, value).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes keys of spans that are over.
    fn expire_keys(&self, time: Timestamp) -> Result<Option<u64>, LogError> {
        let kept = key_span(time).saturating_sub(1);
        let mut expired_upto = self.expired_upto.lock();
        if *expired_upto == kept {
            return Ok(None);
        }
        let mut expired = self.store.keys.range(..kept.to_be_bytes()).keys();
        for key in expired.by_ref().take(STEP_KEYS) {
            self.store.keys.remove(key.map_err(failed)?).map_err(failed)?;
        }
        if expired.next().is_some() {
            return Ok(Some(0));
        }
        *expired_upto = kept;
        Ok(None)
    }
}

impl Stock for SledLog {
    fn size(&self, topic: &Topic) -> (u64, u64) {
        self.index.read().size(topic)
    }

    fn bytes(&self) -> u64 {
        self.index.read().bytes()
    }

    fn topics(&self, after: &str, limit: usize) -> Vec<TopicInfo> {
        self.index.read().list("", Some(after), limit)
    }

    fn walk(&self, after: Position, visit: &mut dyn FnMut(&Seen<'_>) -> bool) -> Result<(), LogError> {
        self.walk_live(after, visit)
    }

    fn oldest(&self, topic: &Topic, count: usize) -> Result<Vec<(Position, u64)>, LogError> {
        let budget = Budget { messages: count, bytes: usize::MAX, scan_bytes: usize::MAX };
        let page = self.read_stored(&Filter::from(topic.clone()), Position::ZERO, Position::MAX, budget)?;
        let cost = |message: &tailwire_model::Message| (message.position(), message.draft.cost() as u64);
        Ok(page.messages.iter().map(cost).collect())
    }
}
