//! The store's records of messages by names: idempotency keys, and the newest message of each compaction key. Both are
//! written before the messages that they name.

use tailwire_core::StoreError;
use tailwire_model::{Cursor, Epochs, Position, Timestamp, Topic, admission::KeyRecord};

use super::{
    failure::failed,
    layout::values::{key_key, latest_key, take_key, take_latest},
    store::SledTrees,
};
use crate::{
    batch::{CompactionKey, Latest},
    codec::Damage,
};

impl SledTrees {
    /// The record of an idempotency key, as of `time`.
    pub(crate) fn key(
        &self,
        scoped: &str,
        time: Timestamp,
        newest: Position,
        epochs: &Epochs,
    ) -> Result<Option<KeyRecord>, StoreError> {
        for span in self.key_spans.living(time) {
            let key = key_key(span, scoped);
            let Some(value) = self.keys.get(&key).map_err(failed)? else {
                continue;
            };
            let record = key_record(&key, &value)?;
            if is_there(record.first, newest, epochs) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Visits the keys that are stored.
    pub(crate) fn visit_keys(
        &self,
        newest: Position,
        epochs: &Epochs,
        visit: &mut dyn FnMut(&str, &KeyRecord),
    ) -> Result<(), StoreError> {
        for entry in self.keys.iter() {
            let (key, value) = entry.map_err(failed)?;
            let record = key_record(&key, &value)?;
            let scoped = key.get(4..).and_then(|name| std::str::from_utf8(name).ok());
            let scoped = scoped.ok_or_else(|| StoreError::Corrupt("an idempotency key is no text".into()))?;
            if is_there(record.first, newest, epochs) {
                visit(scoped, &record);
            }
        }
        Ok(())
    }

    /// The names of topics that have compaction keys: messages may be gone from their middle.
    pub(crate) fn compacted(&self) -> Result<Vec<Topic>, StoreError> {
        let mut topics = Vec::new();
        let mut start = Vec::new();
        while let Some(key) = self.latest.range(start.as_slice()..).keys().next() {
            let key = key.map_err(failed)?;
            let name = key.split(|byte| *byte == 0).next().unwrap_or_default();
            let topic = std::str::from_utf8(name).ok().and_then(|name| Topic::parse(name).ok());
            topics.extend(topic);
            start = [name, &[1]].concat();
        }
        Ok(topics)
    }

    /// The newest message of a compaction key: the one that is stored as such if it survived the last crash, or else the
    /// one before.
    pub(crate) fn latest(
        &self,
        key: &CompactionKey,
        newest: Position,
        epochs: &Epochs,
    ) -> Result<Option<Latest>, StoreError> {
        let key = latest_key(key);
        let Some(value) = self.latest.get(&key).map_err(failed)? else {
            return Ok(None);
        };
        let stored = take_latest(&key, &value)
            .map_err(|Damage(what)| StoreError::Corrupt(format!("the newest message of a key: {what}")))?;
        let survivor = stored.into_iter().find(|(cursor, _)| is_there(*cursor, newest, epochs));
        Ok(survivor.map(|(cursor, cost)| Latest { position: cursor.position, cost }))
    }
}

/// Whether a message that a key names is of this log: keys are written before their messages, and a crash may have taken
/// these. Their positions were not given yet, or again, to others of a later epoch.
fn is_there(cursor: Cursor, newest: Position, epochs: &Epochs) -> bool {
    cursor.position <= newest && epochs.cursor_at(cursor.position) == cursor
}

fn key_record(key: &[u8], value: &[u8]) -> Result<KeyRecord, StoreError> {
    take_key(key, value)
        .map_err(|Damage(what)| StoreError::Corrupt(format!("an idempotency key's record: {what}")))
}
