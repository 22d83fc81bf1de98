//! Forgetting topics. That is decided when an entry is at its end, by the state before the entry: so an entry that forgets is a
//! batch of its own, and nothing depends on how many entries come in one call.

use tailwire_core::store::{Entry, Write};
use tailwire_model::{Position, Term, Timestamp, Trim};

use super::Batch;
use crate::index::Index;

/// A topic that is forgotten.
#[derive(Debug, Clone)]
pub(crate) struct Forgotten {
    /// Up to its newest message.
    pub(crate) trim: Trim,
    /// When its newest message came.
    pub(crate) time: Timestamp,
    /// Whether dead messages of it may be left in chunks, which the store knows.
    pub(crate) has_leftovers: bool,
}

impl Batch {
    /// Forgets those of the topics that are to be forgotten which may be: nothing is left of them, nothing came since that was
    /// decided, and nothing in the batch is about them.
    pub(super) fn forget(&mut self, index: &Index) {
        for (topic, upto) in std::mem::take(&mut self.forgetting) {
            let (tail, time) = index.tail(&topic);
            let trim = index.trimmed(topic.as_str()).filter(|trim| trim.upto >= tail);
            let is_touched = self.tails.contains_key(&topic)
                || self.changes.trims.contains_key(&topic)
                || self.changes.forgotten.contains_key(&topic);
            if let Some(trim) = trim
                && tail > Position::ZERO
                && tail <= upto
                && !is_touched
                && self.head.rules.own(&Term::Topic(topic.clone())).is_empty()
            {
                let floor = self.changes.floor.unwrap_or_else(|| index.floor());
                self.changes.floor = Some(floor.raised(trim.upto, time));
                self.changes.forgotten.insert(topic, Forgotten { trim, time, has_leftovers: false });
            }
        }
    }
}

/// Entries as batches.
pub(crate) fn batches(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let forgets = |entry: &Entry| entry.writes.iter().any(|write| matches!(write, Write::Forget(..)));
    let mut batches = vec![Vec::with_capacity(entries.len())];
    let mut is_alone = false;
    for entry in entries {
        let forgets = forgets(&entry);
        if (forgets || is_alone) && batches.last().is_some_and(|batch| !batch.is_empty()) {
            batches.push(Vec::new());
        }
        is_alone = forgets;
        if let Some(batch) = batches.last_mut() {
            batch.push(entry);
        }
    }
    batches
}
