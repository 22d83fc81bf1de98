//! Messages that were taken one by one, as they are stored: each until it is purged, and of each topic the farthest for good, by
//! which it is known of a cursor that it has missed one.

use tailwire_core::StoreError;
use tailwire_model::{Position, Topic};

use super::{
    SledStore,
    durability::tree::SmallChange,
    failure::{corrupt, failed},
    layout::values::{StoredRemoval, put_removed, removed_key, take_removed},
    store::SledTrees,
};
use crate::{
    batch::{Changes, Removal, Retained},
    codec::Damage,
    index::{Index, TopicId},
};

impl SledTrees {
    /// All of them.
    pub(super) fn removals(&self) -> Result<Vec<StoredRemoval>, StoreError> {
        self.removed.iter().map(|entry| removal(&entry.map_err(failed)?)).collect()
    }

    /// What a commit adds. Messages that were never stored count as lost from the next opening on, and their positions may
    /// be given again.
    pub(super) fn removed_changes<'a>(
        &'a self,
        changes: &'a Changes,
    ) -> impl Iterator<Item = SmallChange<'a>> {
        let stored = changes.removed.iter().filter(|(_, own)| own.message.is_stored);
        stored.map(|(&position, Removal { message, reason })| {
            let key = removed_key(&message.topic, position);
            let value = put_removed(&key, *reason, message.time, false);
            (&self.removed, key, Some(value))
        })
    }

    /// A removed message of a topic is purged, where `farthest` is the last that the topic lost so. It is forgotten, unless it is
    /// that one.
    fn removal_purged(
        &self,
        topic: &Topic,
        farthest: Position,
        position: Position,
    ) -> Result<Option<SmallChange<'_>>, StoreError> {
        let key = removed_key(topic, position);
        let Some(value) = self.removed.get(&key).map_err(failed)? else { return Ok(None) };
        if position < farthest {
            return Ok(Some((&self.removed, key, None)));
        }
        let StoredRemoval { trim, time, is_purged, .. } = removal(&(key.clone().into(), value))?;
        let value = put_removed(&key, trim.reason, time, true);
        Ok((!is_purged).then_some((&self.removed, key, Some(value))))
    }

    /// The record of a message without its content, if it is stored.
    pub(super) fn stored_at(&self, position: Position) -> Result<Option<Retained>, StoreError> {
        let Some(chunk) = self.chunk_at(position)? else { return Ok(None) };
        for record in chunk.records() {
            let damaged = |damage| corrupt("chunk", chunk.first, damage);
            let record = record.map_err(damaged)?;
            if record.position == position {
                let topic =
                    Topic::parse(record.topic).map_err(|_| damaged(Damage("a topic's name is none")))?;
                let cost = record.cost().map_err(damaged)?;
                return Ok(Some(Retained { topic, cost, time: record.time, is_stored: true }));
            }
        }
        Ok(None)
    }
}

fn removal((key, value): &(sled::IVec, sled::IVec)) -> Result<StoredRemoval, StoreError> {
    let taken = take_removed(key, value);
    taken.map_err(|Damage(what)| StoreError::Corrupt(format!("a message that was removed: {what}")))
}

/// Shows an index that was just recovered the messages that were taken: some may be stored still, and it may name others that are
/// not. One may have been its topic's newest.
pub(crate) fn recover(
    store: &SledTrees,
    index: &mut Index,
    removals: &[StoredRemoval],
) -> Result<(), StoreError> {
    for StoredRemoval { topic, trim, time, is_purged } in removals {
        let stored = if *is_purged { None } else { store.stored_at(trim.upto)? };
        if index.tail(topic).0 < trim.upto {
            index.pass(topic.as_str(), trim.upto, *time);
        }
        index.set_compacted(topic.as_str());
        index.remove(topic.as_str(), *trim, stored.map(|own| own.cost as u64));
    }
    Ok(())
}

impl SledStore {
    /// The message at a position, if it is retained.
    pub(super) fn find_retained(&self, position: Position) -> Result<Option<Retained>, StoreError> {
        if position > self.newest_committed() {
            return Ok(None);
        }
        if let Some(message) = self.ring.read().get(position) {
            return Ok(Some(Retained::of(message, false)));
        }
        let found = self.store.stored_at(position)?;
        Ok(found.filter(|own| !self.index.read().is_dead(own.topic.as_str(), position)))
    }

    /// Messages of topics, each topic's oldest first, have been purged; some of them may have been taken one by one.
    pub(super) fn removals_purged<'a>(
        &self,
        purged: impl IntoIterator<Item = (TopicId, &'a [Position])>,
    ) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        for (topic, positions) in purged {
            let removed = {
                let index = self.index.read();
                index.removed_of(topic).map(|farthest| (farthest.upto, Topic::parse(index.name(topic))))
            };
            let Some((farthest, Ok(topic))) = removed else { continue };
            for &position in positions.iter().take_while(|position| **position <= farthest) {
                changes.extend(self.store.removal_purged(&topic, farthest, position)?);
            }
        }
        if changes.is_empty() { Ok(()) } else { self.store.change_small(&changes).map_err(failed) }
    }

    /// Forgets messages that were purged before a farther one of their topic was taken.
    pub(super) fn forget_nearer_removals(&self) -> Result<(), StoreError> {
        if !self.index.read().has_nearer_removals() {
            return Ok(());
        }
        let nearer = self.index.write().take_nearer_removals();
        self.removals_purged(nearer.iter().map(|(topic, position)| (*topic, std::slice::from_ref(position))))
    }
}
