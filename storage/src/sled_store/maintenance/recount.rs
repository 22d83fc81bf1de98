//! Counting again what topics hold whose messages may be gone from the middle. After a crash the index may count messages that
//! compaction or a removal had taken, and does not know any more which are obsolete and still stored; what is stored of the
//! keys and of removals knows both.

use std::collections::BTreeMap;

use tailwire_core::{StoreError, log::Budget};
use tailwire_model::{Filter, Keep, Message, Position, Topic};

use crate::{
    batch::{Changes, CompactionKey, Memory, Removal},
    sled_store::SledStore,
};

/// Messages of a topic that one step counts.
const STEP_COUNTED: Budget = Budget { messages: 200, bytes: 1 << 20, scan_bytes: 1 << 20 };

/// Topics that are to be counted, each with what was counted so far.
#[derive(Debug, Default)]
pub(crate) struct Recount(BTreeMap<Topic, CountedTopic>);

/// The count of a topic so far.
#[derive(Debug, Clone, Copy, Default)]
struct CountedTopic {
    upto: Position,
    count: u64,
    bytes: u64,
}

impl Recount {
    pub(crate) fn of(topics: Vec<Topic>) -> Self {
        Self(topics.into_iter().map(|topic| (topic, CountedTopic::default())).collect())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes notice of a commit: what it takes of what was counted.
    pub(crate) fn committed(&mut self, changes: &Changes) {
        if self.is_done() {
            return;
        }
        let obsolete = changes.obsolete.iter().map(|(topic, old)| (topic, old.position, old.cost));
        let removed = changes
            .removed
            .iter()
            .map(|(&position, Removal { message, .. })| (&message.topic, position, message.cost));
        for (topic, position, cost) in obsolete.chain(removed) {
            if let Some(counted) = self.0.get_mut(topic).filter(|counted| position <= counted.upto) {
                counted.count = counted.count.saturating_sub(1);
                counted.bytes = counted.bytes.saturating_sub(cost as u64);
            }
        }
        for topic in changes.trims.keys() {
            if let Some(counted) = self.0.get_mut(topic) {
                // Its count is out of date: from the head again.
                *counted = CountedTopic::default();
            }
        }
    }
}

impl SledStore {
    /// A step of it.
    pub(crate) fn recount_step(&self) -> Result<Option<u64>, StoreError> {
        let mut recount = self.recount.lock();
        let Some((topic, counted)) = recount.0.first_key_value() else { return Ok(None) };
        let (topic, mut counted) = (topic.clone(), *counted);
        let filter = Filter::from(topic.clone());
        let (page, missing) = self.read_and_miss(&filter, counted.upto, Position::MAX, STEP_COUNTED)?;
        for position in missing {
            self.index.write().mark_obsolete(topic.as_str(), position, 0);
        }
        for message in &page.messages {
            let cost = message.draft.cost() as u64;
            if self.is_obsolete(message)? {
                self.index.write().mark_obsolete(topic.as_str(), message.position(), cost);
            } else {
                counted.count += 1;
                counted.bytes += cost;
            }
        }
        counted.upto = page.scanned;
        if counted.upto < self.newest_committed() {
            recount.0.insert(topic, counted);
        } else {
            recount.0.remove(&topic);
            self.index.write().recount(topic.as_str(), counted.count, counted.bytes);
        }
        Ok(Some(0))
    }

    /// Whether a newer message is stored as the newest of one of its keys.
    fn is_obsolete(&self, message: &Message) -> Result<bool, StoreError> {
        for keep in [Keep::Compact, Keep::Last] {
            let Some(key) = CompactionKey::of(&message.draft, keep) else { continue };
            if self.latest(&key)?.is_some_and(|latest| latest.position > message.position()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
