//! Messages' own lifetimes, as they are stored: in the order in which they end, by the steady clock. An entry is written before its
//! message, and forgotten when that is gone.

use tailwire_core::StoreError;
use tailwire_model::{Cursor, Message, Position, Timestamp};

use super::{
    SledStore,
    failure::failed,
    layout::{
        record::max_age_ms,
        values::{fragment_key, lifetime_key, put_lifetime, take_fragment, take_lifetime},
    },
    store::SledTrees,
};
use crate::{ages::Ages, codec::Damage, lifetimes::Expired};

/// Messages that one step takes.
const STEP_MESSAGES: usize = 500;

/// A lifetime that ends.
struct StoredEnd {
    key: sled::IVec,
    ends: Timestamp,
    cursor: Cursor,
    max_age_ms: u64,
}

impl SledTrees {
    /// Notes the lifetimes of messages that are to be stored.
    pub(super) fn put_lifetimes(&self, messages: &[Message], ages: &Ages) -> sled::Result<()> {
        for message in messages {
            if let Some(max_age_ms) = message.draft.max_age_ms() {
                self.put_lifetime(ages.at(message.position(), message.time), message.cursor, max_age_ms)?;
            }
        }
        Ok(())
    }

    pub(super) fn put_lifetime(&self, came: Timestamp, cursor: Cursor, max_age_ms: u64) -> sled::Result<()> {
        let key = lifetime_key(Timestamp(came.0.saturating_add(max_age_ms)), cursor.position);
        self.lifetimes.insert(key, put_lifetime(&key, cursor.epoch, max_age_ms)).map(drop)
    }

    /// Forgets the lifetime of a message that is purged. Where a clock was set since it was noted, it is forgotten when it is over.
    pub(super) fn forget_lifetime(
        &self,
        came: Timestamp,
        position: Position,
        max_age_ms: u64,
    ) -> sled::Result<()> {
        let ends = Timestamp(came.0.saturating_add(max_age_ms));
        self.lifetimes.remove(lifetime_key(ends, position)).map(drop)
    }

    /// How long a message lives whose content stands in fragments, of which the first says it.
    pub(super) fn fragmented_max_age(&self, position: Position) -> Result<Option<u64>, StoreError> {
        let key = fragment_key(position, 0);
        let Some(value) = self.fragments.get(key).map_err(failed)? else { return Ok(None) };
        Ok(take_fragment(&key, &value).ok().and_then(|(_, content)| max_age_ms(content)))
    }

    /// Has messages that an earlier process stored under a clock that was ahead be no younger than an opening.
    pub(super) fn bound_lifetimes(&self, opened: Timestamp) -> Result<(), StoreError> {
        let beyond: Vec<StoredEnd> = self.endings(opened).collect::<Result<_, _>>()?;
        for StoredEnd { key, ends, cursor, max_age_ms } in beyond {
            if ends.0 > opened.0.saturating_add(max_age_ms) {
                self.lifetimes.remove(&key).map_err(failed)?;
                self.put_lifetime(opened, cursor, max_age_ms).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Those that end from a time on, in their order.
    fn endings(&self, from: Timestamp) -> impl Iterator<Item = Result<StoredEnd, StoreError>> {
        self.lifetimes.range(from.0.to_be_bytes()..).map(|entry| {
            let (key, value) = entry.map_err(failed)?;
            let (ends, cursor, max_age_ms) = take_lifetime(&key, &value)
                .map_err(|Damage(what)| StoreError::Corrupt(format!("a message's lifetime: {what}")))?;
            Ok(StoredEnd { key, ends, cursor, max_age_ms })
        })
    }
}

impl SledStore {
    /// Some of the messages whose own lifetime is over at a time, and when that is to be asked again.
    pub(super) fn expired(&self, now: Timestamp) -> Result<(Vec<Expired>, Option<u64>), StoreError> {
        let mut expired = Vec::new();
        for (looked, ending) in self.store.endings(Timestamp(0)).enumerate() {
            let ending = ending?;
            if ending.ends > now {
                return Ok((expired, Some(ending.ends.since(now))));
            }
            if looked == STEP_MESSAGES {
                return Ok((expired, Some(0)));
            }
            if let Some(own) = self.find_ending(&ending)? {
                expired.push(own);
            }
        }
        Ok((expired, None))
    }

    /// The message of a lifetime, if it is retained. A crash may have taken it, and its position been given again.
    fn find_ending(&self, ending: &StoredEnd) -> Result<Option<Expired>, StoreError> {
        let position = ending.cursor.position;
        if self.epochs.read().cursor_at(position) != ending.cursor {
            return Ok(None);
        }
        let found = self.find_retained(position)?;
        Ok(found.map(|own| Expired { topic: own.topic, position, is_stored: own.is_stored }))
    }

    /// Forgets some lifetimes that are over, of messages that are gone. Answers whether there may be more.
    pub(super) fn forget_lifetimes(&self, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let mut over = Vec::new();
        for ending in self.store.endings(Timestamp(0)).take(STEP_MESSAGES) {
            let ending = ending?;
            if ending.ends > now {
                break;
            }
            if self.find_ending(&ending)?.is_none() {
                over.push(ending.key);
            }
        }
        let more = over.len() == STEP_MESSAGES;
        for key in over {
            self.store.lifetimes.remove(&key).map_err(failed)?;
        }
        Ok(more.then_some(0))
    }
}
