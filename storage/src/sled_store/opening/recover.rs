//! Bringing the index up to date at opening: what was written behind, and the messages since; or, where that doesn't fit
//! together, all messages. The chunks are the truth. What is written of the index only saves reading them.

use std::collections::HashMap;

use tailwire_core::StoreError;
use tailwire_model::{Position, Timestamp, Topic, Trim};

use super::count::Count;
use crate::index::{Floor, Index};
use crate::sled_store::{
    failure::{corrupt, failed, guarded},
    layout::table::{self, IndexMark},
    store::SledTrees,
};

/// The trims as they are stored.
#[derive(Debug, Default)]
pub(crate) struct StoredTrims {
    /// Of topics that are known, each with the time of its newest message.
    pub(crate) known: Vec<(Topic, Trim, Timestamp)>,
    /// Of topics that are forgotten, of which messages may be left in chunks.
    pub(crate) forgotten: HashMap<Topic, Position>,
    pub(crate) floor: Floor,
}

/// The index of a log whose newest position is `newest`, and `stored` the newest that is stored; and how far the index
/// is written. The chunks that are read for it are counted.
pub(crate) fn recover(
    store: &SledTrees,
    trims: &StoredTrims,
    stored: Position,
    newest: Position,
    count: &mut Count,
) -> Result<(Index, IndexMark), StoreError> {
    let written = guarded(|| {
        let (mut index, mark) = table::load(store, stored, newest)?;
        index.set_floor(trims.floor);
        let counted = catch_up(store, &mut index, (mark, newest), &trims.forgotten, count)?;
        apply(store, &mut index, trims)?;
        if counted && index.trims_agree() {
            Ok((index, mark))
        } else {
            Err(StoreError::Corrupt("it does not know all messages".into()))
        }
    });
    match written {
        Ok((index, mark)) if mark != IndexMark::default() => {
            let unaccounted = newest.0 - index.ever();
            Ok((index, IndexMark { unaccounted, ..mark }))
        }
        Ok((index, _)) => rebuilt(index, newest),
        Err(why) => {
            tracing::warn!(%why, "the index is not what the log holds; it is built again from the messages");
            table::clear(store).map_err(failed)?;
            let mut index = Index::default();
            index.set_floor(trims.floor);
            catch_up(store, &mut index, (IndexMark::default(), newest), &trims.forgotten, count)?;
            apply(store, &mut index, trims)?;
            rebuilt(index, newest)
        }
    }
}

fn rebuilt(index: Index, newest: Position) -> Result<(Index, IndexMark), StoreError> {
    let unaccounted = newest.0.saturating_sub(index.ever());
    Ok((index, IndexMark { unaccounted, ..IndexMark::default() }))
}

/// Adds the messages after the mark, without what topics had before they were forgotten. Answers whether every position of the log is accounted for: each belongs to a
/// message of one topic.
fn catch_up(
    store: &SledTrees,
    index: &mut Index,
    (mark, newest): (IndexMark, Position),
    forgotten: &HashMap<Topic, Position>,
    count: &mut Count,
) -> Result<bool, StoreError> {
    let mut seen = 0;
    for chunk in store.chunks_after(count.begin(mark.position)) {
        let chunk = chunk?;
        count.see(&chunk);
        if chunk.last <= mark.position {
            continue;
        }
        for record in chunk.records() {
            let damaged = |damage| corrupt("chunk", chunk.first, damage);
            let record = record.map_err(damaged)?;
            if record.position <= mark.position {
                continue;
            }
            if forgotten.get(record.topic).is_some_and(|upto| record.position <= *upto) {
                continue;
            }
            seen += 1;
            let topics = index.totals().0;
            index.add(record.topic, record.position, record.time, record.cost().map_err(damaged)?);
            if index.totals().0 != topics && Topic::parse(record.topic).is_err() {
                return Err(StoreError::Corrupt("a message: its topic is not a topic".into()));
            }
        }
        while let Some((topic, block)) = index.sealable() {
            store.postings.put(topic, &block).map_err(failed)?;
            index.sealed(topic, &block);
        }
    }
    // Messages that were trimmed and purged since the mark are counted on an index page that was written meanwhile, or
    // nowhere.
    let gone = (newest.0 - mark.position.0).saturating_sub(seen);
    let known = index.ever() + mark.unaccounted;
    Ok(known <= newest.0 && newest.0 <= known + gone)
}

fn apply(store: &SledTrees, index: &mut Index, trims: &StoredTrims) -> Result<(), StoreError> {
    for (topic, trim, time) in &trims.known {
        let split = index.split(topic.as_str(), trim.upto);
        // The blocks that the trim takes may have been removed since the index was written.
        let retained = split.map(|split| split.read_rest(&store.postings)).transpose()?;
        index.trim(topic.as_str(), *trim, *time, retained);
    }
    Ok(())
}
