//! Tidying between commits, in steps that are short enough to stand there: syncing what was left unsynced,
//! carrying out retention and compaction, and removing from the store what is dead and the idempotency keys whose time is
//! over. Nothing here decides what is dead: the rules of retention, the index and the keys' spans do.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Instant};

use tailwire_core::{StoreError, store::Write};
use tailwire_model::{Position, Timestamp, TrimReason, limits::RETENTION_EVERY_MS};

use crate::sled_store::{
    SledStore,
    durability::commit::{CommitWriter, Debt, WriterState},
    failure::{corrupt, failed, guarded},
    layout::{
        chunk::Chunk,
        record::{Content, max_age_ms},
    },
    maintenance::folder_watch::LOOK_EVERY_MS,
};
use crate::{
    index::{Blocks, BrokenPostings, PurgeStep, TopicId},
    lifetimes::{self, Expired},
    retention::Trims,
};

/// Dead messages that one step looks for, where the debt is no larger: at worst as many chunks, 1 MB, are rewritten.
const STEP_MESSAGES: usize = 256;
/// In so many steps all obsolete messages are gone through, if there are many.
const STEPS_PER_ROUND: usize = 16;
/// Bytes that one step rewrites, where the debt is no larger.
const STEP_BYTES: u64 = 256 << 10;
/// Bytes of messages for which a page is moved out of a half-empty segment, at the least.
const BYTES_PER_CLEANING: u64 = 2 << 10;
/// Pages that one step moves, where the debt is no larger, and at most: what is left over is the next one's.
const STEP_CLEANINGS: RangeInclusive<u64> = 64..=256;
/// The bytes that the engine's file may take beside the messages and an eighth as much again, before it is cleaned.
const DISK_BYTES_FREE: u64 = 4 << 20;
/// Its bound where messages only come, in percent of them: twice as much and some more is what the engine leaves by
/// itself, and cleaning that takes a third of the time of a large commit, for a tenth of the file.
const GROWN_PERCENT_MAX: u64 = 220;
/// Expired keys that one step removes.
const STEP_KEYS: usize = 512;

/// The work of a purge: how many messages of those it was given, and how many bytes of the store it rewrote for that.
#[derive(Debug, Clone, Copy, Default)]
struct Purged {
    messages: usize,
    bytes: u64,
}

/// How many messages a step purges at most, and how many bytes it rewrites.
fn purge_bounds(debt: Debt) -> (usize, u64) {
    (STEP_MESSAGES.max(debt.step_messages()), STEP_BYTES.max(debt.step_bytes()))
}

impl SledStore {
    /// One step. Returns after how many milliseconds the next one is due, if one is.
    pub(crate) fn tidy_step(&self) -> Result<Option<u64>, StoreError> {
        let mut writer = self.writer.lock();
        match &writer.state {
            WriterState::Open => {}
            // A closed log stays as it was closed, and one that failed as it failed.
            WriterState::Closed | WriterState::Failed(_) => return Ok(None),
        }
        if let Some(what) = self.folder_watch.look() {
            return Err(writer.fail(&StoreError::Failed(what)));
        }
        // First the syncs that are due within a time, before anything that can't be done stands in its way.
        let flushed = self.flush(&mut writer)?;
        if !self.store.room.suffices_to_tidy() {
            return Ok(Some(flushed.map_or(LOOK_EVERY_MS, |ms| ms.min(LOOK_EVERY_MS))));
        }
        self.ballast.keep();
        let mut debt = std::mem::take(&mut writer.debt);
        // Each by itself: where one page is damaged, what needs it waits, and nothing else.
        let steps = [
            guarded(|| self.recount_step()),
            guarded(|| self.purge_step(&mut writer, &mut debt)),
            guarded(|| self.expire_keys(writer.head.steady)),
            guarded(|| self.forget_lifetimes(writer.head.steady)),
            guarded(|| self.remove_remains(writer.head.steady)),
            guarded(|| self.store.key_count.step(&self.store.keys)).map(|more| more.then_some(0)),
            guarded(|| self.write_behind_step(&writer)).map(|more| more.then_some(0)),
            guarded(|| self.clean(&mut writer, debt)),
            self.flush(&mut writer),
        ];
        if let WriterState::Failed(why) = &writer.state {
            return Err(StoreError::Failed(why.clone()));
        }
        if self.store.checkpoints.is_lost() {
            let failed = steps.into_iter().find_map(Result::err);
            return Err(writer.fail(&failed.unwrap_or(StoreError::Failed("a sync failed".into()))));
        }
        let mut complained = false;
        let mut due = |step: Result<Option<u64>, StoreError>| {
            step.unwrap_or_else(|error| {
                complained = true;
                writer.complain(&error);
                Some(RETENTION_EVERY_MS)
            })
        };
        let next = steps.into_iter().filter_map(&mut due).min();
        if !complained {
            writer.complaint = None;
        }
        Ok(Some(next.map_or(LOOK_EVERY_MS, |next| next.min(LOOK_EVERY_MS))))
    }

    /// Decides what retention and compaction ask for, a step of each. A failed read is
    /// logged, and tried again.
    pub(crate) fn due_step(&self, now: Timestamp) -> Result<(Vec<Write>, Option<u64>), StoreError> {
        let mut writer = self.writer.lock();
        if !matches!(writer.state, WriterState::Open) {
            return Ok((Vec::new(), None));
        }
        let (time, debt) = (writer.head.steady.max(now), writer.debt);
        match guarded(|| self.decide(&writer, time, debt)) {
            Ok(due) => Ok(due),
            Err(error) => {
                writer.complain(&error);
                Ok((Vec::new(), Some(RETENTION_EVERY_MS)))
            }
        }
    }

    fn decide(
        &self,
        writer: &CommitWriter,
        time: Timestamp,
        debt: Debt,
    ) -> Result<(Vec<Write>, Option<u64>), StoreError> {
        let (rules, mut trims) = (&writer.head.rules, Trims::default());
        let mut retention = self.retention.lock();
        let again = retention.step(time, rules, self, &mut trims, debt.step_messages())?;
        let compact = retention.compact(rules, writer.head.newest, self)?;
        let (mut expired, ends) = self.expired(time)?;
        let looked = self.look_at_ring(time, &mut trims, &mut expired);
        let is_behind = retention.is_compacting();
        let mut writes: Vec<Write> =
            trims.into_iter().map(|(topic, upto)| Write::Retain(topic, upto)).chain(compact).collect();
        writes.extend(lifetimes::writes(self, &writer.head.epochs, expired)?);
        let forgets = self.forgetting.lock().step(time, rules, self, &mut writes);
        let again = again.into_iter().chain(ends).chain(looked).chain(forgets).min();
        Ok(if writes.is_empty() && !is_behind { (writes, again) } else { (writes, Some(0)) })
    }

    fn look_at_ring(&self, time: Timestamp, trims: &mut Trims, expired: &mut Vec<Expired>) -> Option<u64> {
        let rules = self.rules.read().clone();
        let mut ring = self.ring.write();
        // Also where no topic has options any more: messages have lifetimes of their own.
        if ring.size().0 == 0 {
            return None;
        }
        let wait = ring.wait_ms(time);
        if wait == 0 {
            ring.due(&rules, time, self.index.read().ages(), trims, expired);
            return Some(RETENTION_EVERY_MS);
        }
        Some(wait)
    }

    /// Removes some of what is dead from the store. The bytes that are rewritten for it are to be cleaned up, and
    /// add to the debt.
    fn purge_step(&self, writer: &mut CommitWriter, debt: &mut Debt) -> Result<Option<u64>, StoreError> {
        let (count, bytes) = purge_bounds(*debt);
        let (mut left, mut parted) = (count, 0);
        while left > 0 && parted < bytes {
            let Some(purge) = self.index.read().next_purge(left) else { break };
            let purged = self.purge_some(&purge, bytes - parted)?;
            left = left.saturating_sub(purged.messages.max(1));
            parted += purged.bytes;
        }
        let obsolete = self.purge_obsolete(*debt)?;
        self.forget_nearer_removals()?;
        parted += obsolete.unwrap_or_default();
        writer.uncleaned += parted;
        debt.bytes += parted;
        if left == count && obsolete.is_none() {
            return Ok(None);
        }
        // So that a DELETE is carried out on the disk even when no commit follows it.
        writer.unsynced.get_or_insert_with(Instant::now);
        Ok(Some(0))
    }

    /// Removes some of the messages that newer ones of their keys made obsolete: in the order of their positions, over
    /// and over, so that the more there are the more of them stand in one chunk. Takes as many as `debt` says, if that is
    /// more than a step takes anyway. Answers how many bytes it rewrote, if there were any.
    pub(crate) fn purge_obsolete(&self, debt: Debt) -> Result<Option<u64>, StoreError> {
        let mut from = self.purged_upto.lock();
        let (count, bytes) = purge_bounds(debt);
        let (mut step, upto) = {
            let index = self.index.read();
            let count = count.max(index.obsolete_count() / STEPS_PER_ROUND);
            let mut step = index.obsolete(*from, count);
            if step.len() < count {
                // At the end there are always some that just came: the next round begins with this step.
                let first = index.obsolete(Position::ZERO, count - step.len());
                step.extend(first.into_iter().take_while(|(position, _)| position <= &*from));
            }
            let upto = step.last().map(|&(last, _)| last);
            (step, upto)
        };
        let Some(mut upto) = upto else { return Ok(None) };
        step.sort_unstable_by_key(|&(position, _)| position);
        let dead: Vec<_> = step.iter().map(|(position, _)| *position).collect();
        let Purged { bytes: parted, messages } = self.purge(&dead, bytes)?;
        if messages < dead.len() {
            step.truncate(messages);
            upto = dead[messages - 1];
        }
        let mut by_topic = BTreeMap::<_, Vec<_>>::new();
        for (position, topic) in step {
            by_topic.entry(topic).or_default().push(position);
        }
        for (&topic, positions) in &by_topic {
            self.unpost(topic, positions)?;
            let mut index = self.index.write();
            positions.iter().for_each(|&position| index.unposted(topic, position));
        }
        self.removals_purged(by_topic.iter().map(|(topic, positions)| (*topic, positions.as_slice())))?;
        *from = upto;
        Ok(Some(parted))
    }

    /// Takes messages out of their topic's sealed postings, as far as they are there; oldest first, and at least one. Those
    /// of one block go at once.
    fn unpost(&self, topic: TopicId, positions: &[Position]) -> Result<(), StoreError> {
        let Some((head, last)) = self.index.read().sealed_span(topic, positions[0]) else { return Ok(()) };
        let postings = &self.store.postings;
        let mut rest = &positions[..positions.partition_point(|&position| position <= last)];
        while let [next, ..] = *rest {
            let Some(mut block) = postings.beyond(topic, next.previous())? else { break };
            let (taken, further) = rest.split_at(rest.partition_point(|&position| position <= block.last));
            let count = block.postings.len();
            block.postings = block.postings.retain(|posting| taken.binary_search(&posting.position).is_err());
            if block.postings.len() < count {
                postings.put_again(topic, &block).map_err(failed)?;
            }
            rest = further;
        }
        if positions.binary_search(&head).is_ok() {
            let next = postings.next_sealed(topic, head, last).or_else(|error| match error {
                BrokenPostings::Store(error) => Err(error),
                BrokenPostings::Broken => {
                    self.suspect(&BrokenPostings::Broken.into());
                    Ok(None)
                }
            })?;
            self.index.write().set_sealed_head(topic, next);
        }
        Ok(())
    }

    /// Purges the oldest of a topic's dead: those of one sealed block, or else those that are known without. Answers how
    /// many, and how many bytes that rewrote; not many more than `bytes_max`.
    fn purge_some(&self, purge: &PurgeStep, bytes_max: u64) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        let upto = match purge.sealed {
            Some((before, last)) => {
                let block = self.store.postings.beyond(purge.topic, before)?;
                match block.filter(|block| block.first <= purge.upto && block.last <= last) {
                    Some(block) => {
                        let positions = block.postings.iter().map(|posting| posting.position);
                        let dead = positions.take_while(|&position| position <= purge.upto);
                        let dead: Vec<_> = dead.skip_while(|&position| position <= before).collect();
                        purged = self.purge(&dead, bytes_max)?;
                        if purged.messages < dead.len() {
                            dead[purged.messages - 1]
                        } else {
                            if block.last <= purge.upto {
                                self.store.postings.remove(purge.topic, &block).map_err(failed)?;
                            }
                            block.last.min(purge.upto)
                        }
                    }
                    // An earlier process got further than the index as it was written, and may have left some in their chunks.
                    None => {
                        let mut index = self.index.write();
                        let name = index.name(purge.topic).to_owned();
                        index.leave(&name);
                        last.min(purge.upto)
                    }
                }
            }
            None => {
                purged = self.purge(&purge.recent, bytes_max)?;
                purge.recent[..purged.messages].last().copied().unwrap_or(purge.upto)
            }
        };
        self.index.write().purged(purge.topic, upto);
        Ok(purged)
    }

    /// Purges all of a topic's dead, of which these are obsolete.
    pub(crate) fn purge_topic(&self, topic: TopicId, obsolete: &[Position]) -> Result<(), StoreError> {
        if !obsolete.is_empty() {
            self.purge(obsolete, u64::MAX)?;
            self.unpost(topic, obsolete)?;
            let mut index = self.index.write();
            obsolete.iter().for_each(|&position| index.unposted(topic, position));
        }
        loop {
            let next = self.index.write().next_purge_of(topic, STEP_MESSAGES);
            let Some(purge) = next else { return Ok(()) };
            self.purge_some(&purge, u64::MAX)?;
        }
    }

    /// Purges messages, oldest first, until it has rewritten so many bytes; one at least.
    fn purge(&self, dead: &[Position], bytes_max: u64) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        let mut done = Position::ZERO;
        for &position in dead {
            if position <= done {
                purged.messages += 1;
                continue;
            }
            if purged.bytes >= bytes_max {
                break;
            }
            purged.messages += 1;
            // Another topic's trim may have taken the chunk already.
            let Some(chunk) = self.store.chunk_at(position)? else {
                continue;
            };
            purged.bytes += self.rewrite(&chunk)?;
            done = chunk.last;
        }
        Ok(purged)
    }

    /// Takes the dead out of a chunk, once it pays. Answers how many bytes it rewrote.
    fn rewrite(&self, chunk: &Chunk) -> Result<u64, StoreError> {
        let damaged = |damage| corrupt("chunk", chunk.first, damage);
        let (mut dead_bytes, mut must, mut contents) = (0, false, Vec::new());
        let mut lifetimes = Vec::new();
        let (value, alive) = {
            let index = self.index.read();
            let retained = chunk.retain(|record| {
                let keep = !index.is_dead(record.topic, record.position);
                if !keep {
                    dead_bytes += record.stored_bytes();
                    // A DELETE is carried out at once, and what was obsolete is known only until it is purged.
                    must |= match index.trimmed(record.topic) {
                        Some(trim) if record.position <= trim.upto => trim.reason == TrimReason::Deleted,
                        _ => true,
                    };
                    let came = index.ages().at(record.position, record.time);
                    match record.content {
                        Content::Fragmented(is) => contents.push((record.position, came, is.length as u64)),
                        Content::Inline(content) => {
                            lifetimes.extend(max_age_ms(content).map(|ms| (record.position, came, ms)));
                        }
                    }
                }
                keep
            });
            retained.map_err(damaged)?
        };
        let goes = alive == 0 && !self.store.is_last(chunk.first)?;
        let shrinks = goes || alive == 0 || must || 2 * dead_bytes >= chunk.bytes;
        if shrinks {
            self.store.shrink(chunk, (!goes).then_some(value), alive)?;
        } else {
            self.leave_in(chunk)?;
        }
        // After a crash in between they take room, until the log is repaired; a message without them would look damaged.
        let mut parted = if shrinks { chunk.bytes as u64 } else { 0 };
        for (position, came, bytes) in contents {
            lifetimes.extend(self.store.fragmented_max_age(position)?.map(|ms| (position, came, ms)));
            self.store.remove_content(position).map_err(failed)?;
            parted += bytes;
        }
        for (position, came, max_age_ms) in lifetimes {
            self.store.forget_lifetime(came, position, max_age_ms).map_err(failed)?;
        }
        Ok(parted)
    }

    /// Notes whose dead messages stay in a chunk.
    fn leave_in(&self, chunk: &Chunk) -> Result<(), StoreError> {
        let mut index = self.index.write();
        for record in chunk.records() {
            let record = record.map_err(|damage| corrupt("chunk", chunk.first, damage))?;
            if index.is_dead(record.topic, record.position) {
                index.leave(record.topic);
            }
        }
        Ok(())
    }

    /// Keeps the engine's file in bounds: where it takes more than what it holds, it is cleaned in proportion to what is
    /// taken apart, and the harder the more it takes. What only grows leaves as much behind as it holds, whether it is
    /// cleaned or not, and is left alone as long as it takes no more than that.
    fn clean(&self, writer: &mut CommitWriter, debt: Debt) -> Result<Option<u64>, StoreError> {
        if writer.uncleaned + writer.grown < BYTES_PER_CLEANING {
            return Ok(None);
        }
        let live = self.index.read().bytes();
        let disk = self.store.db.size_on_disk().map_err(failed)?;
        let grown = std::mem::take(&mut writer.grown);
        if is_overgrown(live, disk) {
            writer.uncleaned += grown;
        }
        let Some(bytes_per_page) = bytes_per_cleaning(live, disk) else {
            writer.uncleaned = 0;
            return Ok(None);
        };
        let debt = debt.step_bytes() / BYTES_PER_CLEANING;
        let pages_max = debt.clamp(*STEP_CLEANINGS.start(), *STEP_CLEANINGS.end());
        let pages = (writer.uncleaned / bytes_per_page).min(pages_max);
        if pages == 0 {
            return Ok(None);
        }
        writer.uncleaned -= pages * bytes_per_page;
        self.store.clean(pages).map_err(failed)?;
        Ok(Some(0))
    }

    /// Removes keys of spans that are over.
    fn expire_keys(&self, time: Timestamp) -> Result<Option<u64>, StoreError> {
        let kept = self.store.key_spans.kept(time);
        let mut expired_upto = self.expired_upto.lock();
        if *expired_upto == kept {
            return Ok(None);
        }
        let mut expired = self.store.keys.range(..kept.to_be_bytes()).keys();
        for key in expired.by_ref().take(STEP_KEYS) {
            let key = key.map_err(failed)?;
            self.store.keys.remove(&key).map_err(failed)?;
            self.store.key_count.removed(&key);
        }
        if expired.next().is_some() {
            return Ok(Some(0));
        }
        *expired_upto = kept;
        Ok(None)
    }
}

/// Bytes of messages for which a page is to be moved; `None` as long as the file may be as large as it is.
fn bytes_per_cleaning(live: u64, disk: u64) -> Option<u64> {
    let over = disk.checked_sub(live + live / 8 + DISK_BYTES_FREE).filter(|&over| over > 0)?;
    // In full where it takes half as much again as the messages; what is just written may yet go by itself.
    let all = live * 3 / 8 + DISK_BYTES_FREE;
    Some(BYTES_PER_CLEANING * (all / over).max(1))
}

/// Whether the file takes more than what growth alone leaves behind.
const fn is_overgrown(live: u64, disk: u64) -> bool {
    disk > live / 100 * GROWN_PERCENT_MAX + DISK_BYTES_FREE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_file_the_harder_it_is_cleaned() {
        let live = 100 << 20;
        let at = |percent: u64| bytes_per_cleaning(live, live * percent / 100 + DISK_BYTES_FREE);
        assert_eq!(at(112), None);
        assert_eq!(at(130), Some(2 * BYTES_PER_CLEANING));
        assert_eq!(at(155), Some(BYTES_PER_CLEANING));
        assert_eq!(at(300), Some(BYTES_PER_CLEANING));
        let grown = |percent: u64| is_overgrown(live, live * percent / 100 + DISK_BYTES_FREE);
        assert_eq!([210, 219, 221, 300].map(grown), [false, false, true, true]);
        assert_eq!(bytes_per_cleaning(0, 0), None);
        assert_eq!(bytes_per_cleaning(0, 2 * DISK_BYTES_FREE + 1), Some(BYTES_PER_CLEANING));
    }
}
