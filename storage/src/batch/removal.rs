//! Taking single messages.

use tailwire_core::{StoreError, store::Outcome};
use tailwire_model::{Cursor, Draft, Keep, Message, Position, Timestamp, Topic, TrimReason};

use super::{Batch, Changes, CompactionKey, Memory, has_begun};

/// A message that is taken by itself, and why.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    pub(crate) message: Retained,
    pub(crate) reason: TrimReason,
}

/// A message that is retained, without its content.
#[derive(Debug, Clone)]
pub(crate) struct Retained {
    pub(crate) topic: Topic,
    pub(crate) cost: usize,
    /// When it came, by the wall clock.
    pub(crate) time: Timestamp,
    /// Whether it is stored, or is to be.
    pub(crate) is_stored: bool,
}

impl Retained {
    pub(crate) fn of(message: &Message, is_stored: bool) -> Self {
        let (topic, cost) = (message.topic().clone(), message.draft.cost());
        Self { topic, cost, time: message.time, is_stored }
    }
}

impl Batch {
    /// Takes the message that a cursor names, if it is there.
    pub(super) fn remove(
        &mut self,
        cursor: Cursor,
        reason: TrimReason,
        memory: &impl Memory,
    ) -> Result<Outcome, StoreError> {
        let position = cursor.position;
        let is_of_this_log = has_begun(&self.head.epochs)
            && position <= self.head.newest
            && self.head.epochs.cursor_at(position) == cursor;
        if !is_of_this_log || self.changes.removed.contains_key(&position) {
            return Ok(Outcome::NoMessage);
        }
        let pending =
            self.changes.pending(position).map(|(message, is_stored)| Retained::of(message, is_stored));
        let Some(found) = pending.map_or_else(|| memory.retained(position), |own| Ok(Some(own)))? else {
            return Ok(Outcome::NoMessage);
        };
        let is_trimmed = self.changes.trims.get(&found.topic).is_some_and(|(trim, _)| position <= trim.upto);
        let is_obsolete = || self.changes.obsolete.iter().any(|(_, old)| old.position == position);
        if is_trimmed || is_obsolete() || self.has_newer_of_its_key(&found, position, memory)? {
            return Ok(Outcome::NoMessage);
        }
        // What retention takes it would take again.
        self.changes.must_sync |= reason == TrimReason::Deleted;
        self.changes.removed.insert(position, Removal { message: found, reason });
        Ok(Outcome::Done)
    }

    /// Whether there is a newer message of its key, by what is stored of keys. After a crash a store has to find out anew which
    /// messages are obsolete, and until then it decides the same as others that know.
    fn has_newer_of_its_key(
        &self,
        found: &Retained,
        position: Position,
        memory: &impl Memory,
    ) -> Result<bool, StoreError> {
        let keep = self.head.rules.of(&found.topic).keep;
        if keep == Keep::All || !found.is_stored {
            return Ok(false);
        }
        let key_of = |draft: &Draft| CompactionKey::of(draft, keep);
        let key = match self.changes.pending(position) {
            Some((message, _)) => key_of(&message.draft),
            None => {
                let stored = memory.span(&found.topic, position.previous(), position)?;
                stored.first().and_then(|message| key_of(&message.draft))
            }
        };
        let Some(key) = key else { return Ok(false) };
        let latest = match self.changes.latest.get(&key) {
            Some((pending, _)) => Some(*pending),
            None => memory.latest(&key)?,
        };
        Ok(latest.is_some_and(|latest| latest.position > position))
    }

    /// Whether a message, which was stored as the newest of its key, was taken by itself.
    pub(super) fn was_removed(
        &self,
        topic: &Topic,
        position: Position,
        memory: &impl Memory,
    ) -> Result<bool, StoreError> {
        Ok(self.changes.removed.contains_key(&position) || memory.was_removed(topic, position)?)
    }
}

impl Changes {
    /// A message of the batch, and whether it is to be stored.
    fn pending(&self, position: Position) -> Option<(&Message, bool)> {
        let at = self.messages.binary_search_by_key(&position, Message::position).ok()?;
        let message = &self.messages[at];
        Some((message, !self.is_volatile(message)))
    }
}
