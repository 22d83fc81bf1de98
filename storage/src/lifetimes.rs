//! Messages' own lifetimes: how those go whose time is over. When that is, is a matter of the store, which keeps them in that
//! order.

use std::collections::{BTreeMap, BTreeSet};

use tailwire_core::{StoreError, store::Write};
use tailwire_model::{Epochs, Position, Topic, TrimReason};

use crate::retention::RetentionView;

/// A message whose time is over.
#[derive(Debug, Clone)]
pub(crate) struct Expired {
    pub(crate) topic: Topic,
    pub(crate) position: Position,
    /// Whether it is stored; else it only ever was in memory.
    pub(crate) is_stored: bool,
}

/// The writes that take them: a trim where they are a topic's oldest, as it costs no more for many than for one.
///
/// # Errors
/// When the store can't be read.
pub(crate) fn writes(
    view: &impl RetentionView,
    epochs: &Epochs,
    expired: Vec<Expired>,
) -> Result<Vec<Write>, StoreError> {
    let mut topics: BTreeMap<Topic, (BTreeSet<Position>, bool)> = BTreeMap::new();
    for Expired { topic, position, is_stored } in expired {
        let (positions, are_stored) = topics.entry(topic).or_insert_with(|| (BTreeSet::new(), true));
        positions.insert(position);
        *are_stored &= is_stored;
    }
    let mut writes = Vec::new();
    for (topic, (mut positions, are_stored)) in topics {
        if are_stored && !view.has_volatile(&topic) {
            let oldest = view.oldest(&topic, positions.len())?.into_iter().map(|(position, _)| position);
            let upto = oldest.take_while(|position| positions.remove(position)).last();
            writes.extend(upto.map(|upto| Write::Retain(topic, upto)));
        }
        let remove = |position| Write::Remove(epochs.cursor_at(position), TrimReason::Retention);
        writes.extend(positions.into_iter().map(remove));
    }
    Ok(writes)
}
