//! Topics that are forgotten, as they are stored: what a commit takes of them, and what of them goes bit by bit.
//!
//! A topic is forgotten once nothing of it is left to purge. Its index page is written without it before its trim goes, so that
//! no opening finds the topic without the trim. Too few dead messages to write their chunk anew stay there: then the trim
//! stays, too, as that of a forgotten topic, until the log begins beyond it.

use std::{
    collections::{HashSet, VecDeque},
    ops::Bound::{Excluded, Unbounded},
};

use tailwire_core::StoreError;
use tailwire_model::{Position, Timestamp, Topic};

use super::{
    SledStore,
    durability::tree::SmallChange,
    failure::failed,
    layout::{
        table,
        values::{FORGOTTEN_TOPICS, TrimState, put_floor, put_trim, take_latest, take_trim, topic_prefix},
    },
    store::SledTrees,
};
use crate::{batch::Changes, codec::Damage, index::TopicId};

/// Entries that one step looks at.
const STEP_ENTRIES: usize = 512;
/// How often trims of forgotten topics are looked through, if there are any.
const LOOK_EVERY_MS: u64 = 3_600_000;

/// What is left of forgotten topics in the store, of no use to anybody.
#[derive(Debug, Default)]
pub(super) struct ForgottenRemains {
    latest: VecDeque<LatestRemains>,
    /// Whether there may be trims of forgotten topics; and the look at all trims that runs, or when one is due.
    has_trims: bool,
    look: Option<TrimsLook>,
    next_look: Timestamp,
}

/// A topic's newest messages of keys, as far as they lie up to a position.
#[derive(Debug)]
struct LatestRemains {
    topic: Topic,
    upto: Position,
    /// The key up to which all were looked at.
    after: Vec<u8>,
}

/// A look at the trims.
#[derive(Debug, Default)]
struct TrimsLook {
    /// The key up to which all were looked at.
    after: Vec<u8>,
    /// Whether some have to stay.
    leaves_some: bool,
}

impl ForgottenRemains {
    /// Those that an opening found: newest messages of keys of topics that are not known, which lie no farther than the floor,
    /// and perhaps trims.
    pub(super) fn new(topics: Vec<Topic>, floor: Position, has_trims: bool) -> Self {
        let mut own = Self { has_trims, ..Self::default() };
        topics.into_iter().for_each(|topic| own.add_latest(topic, floor));
        own
    }

    fn add_latest(&mut self, topic: Topic, upto: Position) {
        let after = topic_prefix(&topic);
        self.latest.push_back(LatestRemains { topic, upto, after });
    }
}

impl SledTrees {
    /// What a topic's trim stands for from here on, if it is trimmed.
    pub(super) fn trim_state(&self, topic: &Topic) -> sled::Result<TrimState> {
        let name = topic.as_str().as_bytes();
        let before = self.trims.get(name)?;
        Ok(match before.and_then(|value| take_trim(name, &value).ok()) {
            None | Some((.., TrimState::Known)) => TrimState::Known,
            Some((.., TrimState::KnownAgain | TrimState::Forgotten)) => TrimState::KnownAgain,
        })
    }

    /// What a commit changes for topics that it forgets.
    pub(super) fn forgotten_changes<'a>(&'a self, changes: &Changes) -> sled::Result<Vec<SmallChange<'a>>> {
        let mut small = Vec::new();
        for (topic, own) in &changes.forgotten {
            let name = topic.as_str().as_bytes();
            let is_kept = own.has_leftovers || self.trim_state(topic)? == TrimState::KnownAgain;
            let trim = is_kept.then(|| put_trim(name, own.trim, own.time, TrimState::Forgotten));
            small.push((&self.trims, name.to_vec(), trim));
            for key in self.removed.scan_prefix(topic_prefix(topic)).keys() {
                small.push((&self.removed, key?.to_vec(), None));
            }
            if self.volatile.contains_key(name)? {
                small.push((&self.volatile, name.to_vec(), None));
            }
        }
        small.extend(
            changes.floor.map(|floor| (&self.trims, FORGOTTEN_TOPICS.to_vec(), Some(put_floor(floor)))),
        );
        Ok(small)
    }
}

impl SledStore {
    /// Purges what is left of topics that are about to be forgotten: another node may have got further with that. Notes which of
    /// them leave dead messages in chunks.
    pub(super) fn purge_forgotten(&self, changes: &mut Changes) -> Result<(), StoreError> {
        if changes.forgotten.is_empty() {
            return Ok(());
        }
        let (topics, obsolete) = {
            let index = self.index.read();
            let topics = changes.forgotten.keys().filter_map(|topic| index.id(topic.as_str()));
            let topics: HashSet<TopicId> = topics.collect();
            let obsolete = index.obsolete_of(&topics);
            (topics, obsolete)
        };
        for &topic in &topics {
            let obsolete = obsolete.get(&topic).map_or(&[][..], Vec::as_slice);
            self.purge_topic(topic, obsolete)?;
        }
        let index = self.index.read();
        for (topic, own) in &mut changes.forgotten {
            own.has_leftovers = index.id(topic.as_str()).is_some_and(|id| index.has_leftovers(id));
        }
        Ok(())
    }

    /// Writes the index pages of topics that are about to be forgotten, without them.
    pub(super) fn write_index_without(&self, changes: &Changes) -> Result<(), StoreError> {
        if changes.forgotten.is_empty() {
            return Ok(());
        }
        let pages = {
            let index = self.index.read();
            let ids = changes.forgotten.keys().filter_map(|topic| index.id(topic.as_str()));
            index.index_pages_without(&ids.collect())
        };
        for (number, value) in pages {
            table::put_index_page(&self.store, number, value).map_err(failed)?;
        }
        Ok(())
    }

    /// Topics are forgotten: what is left of them is to go.
    pub(super) fn note_forgotten(&self, changes: &Changes) {
        if changes.forgotten.is_empty() {
            return;
        }
        let mut remains = self.remains.lock();
        for (topic, own) in &changes.forgotten {
            if self.store.latest.scan_prefix(topic_prefix(topic)).next().is_some() {
                remains.add_latest(topic.clone(), own.trim.upto);
            }
        }
        remains.has_trims = true;
    }

    /// Removes some of what is left of forgotten topics. Returns when it is to be called again, if there is more.
    pub(super) fn remove_remains(&self, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let mut remains = self.remains.lock();
        if let Some(latest) = remains.latest.front_mut() {
            if !self.remove_latest(latest)? {
                remains.latest.pop_front();
            }
            return Ok(Some(0));
        }
        if !remains.has_trims || (remains.look.is_none() && now < remains.next_look) {
            return Ok(None);
        }
        let mut look = remains.look.take().unwrap_or_default();
        if self.remove_trims(&mut look)? {
            remains.look = Some(look);
            return Ok(Some(0));
        }
        remains.has_trims = look.leaves_some;
        remains.next_look = Timestamp(now.0.saturating_add(LOOK_EVERY_MS));
        Ok(None)
    }

    /// Removes some of the newest messages of a forgotten topic's keys; answers whether there may be more.
    fn remove_latest(&self, of: &mut LatestRemains) -> Result<bool, StoreError> {
        let (prefix, mut gone, mut count) = (topic_prefix(&of.topic), Vec::new(), 0);
        let beyond = self.store.latest.range((Excluded(of.after.clone()), Unbounded));
        for entry in beyond.take(STEP_ENTRIES) {
            let (key, value) = entry.map_err(failed)?;
            if !key.starts_with(&prefix) {
                break;
            }
            let newest = take_latest(&key, &value).ok().and_then(|entries| entries.into_iter().next());
            if newest.is_none_or(|(cursor, _)| cursor.position <= of.upto) {
                gone.push(key.clone());
            }
            of.after = key.to_vec();
            count += 1;
        }
        for key in gone {
            self.store.latest.remove(key).map_err(failed)?;
        }
        Ok(count == STEP_ENTRIES)
    }

    /// Removes some trims of forgotten topics, before whose end the log has nothing any more; answers whether there are more to
    /// look at.
    fn remove_trims(&self, look: &mut TrimsLook) -> Result<bool, StoreError> {
        let first = self.store.chunk_beyond(Position::ZERO).transpose()?;
        let first = first.map_or(Position::MAX, |chunk| chunk.first);
        let (mut gone, mut count) = (Vec::new(), 0);
        for entry in self.store.trims.range((Excluded(look.after.clone()), Unbounded)).take(STEP_ENTRIES) {
            let (key, value) = entry.map_err(failed)?;
            let (trim, _, state) = take_trim(&key, &value)
                .map_err(|Damage(what)| StoreError::Corrupt(format!("a trim: {what}")))?;
            look.after = key.to_vec();
            count += 1;
            if state == TrimState::Forgotten && trim.upto < first {
                gone.push((&self.store.trims, key.to_vec(), None));
            } else {
                look.leaves_some |= state == TrimState::Forgotten;
            }
        }
        if !gone.is_empty() {
            self.store.change_small(&gone).map_err(failed)?;
        }
        Ok(count == STEP_ENTRIES)
    }
}

#[cfg(test)]
mod tests;
