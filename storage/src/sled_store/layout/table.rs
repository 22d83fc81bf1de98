//! The index as it stands in the store, written behind: index pages in a tree of their own, and a mark up to which
//! position they know every message. Index pages are written first and the mark after them, and the engine recovers its
//! writes in order: so a mark never says more than there is, and what an index page knows beyond it is recognised when it
//! comes again.
//!
//! Nothing here is the truth: the chunks are. Whatever doesn't fit is a reason to read all of them.

use tailwire_core::StoreError;
use tailwire_model::Position;

use crate::index::{Index, read_index_page};
use crate::{
    codec::{ByteReader, Damage, seal, unseal},
    sled_store::{failure::failed, store::SledTrees},
};

const META_INDEXED: &str = "indexed";

/// How far the index is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IndexMark {
    /// The index pages know every message up to here.
    pub(crate) position: Position,
    /// The newest of them that is stored: others have positions, too.
    pub(crate) stored: Position,
    /// Numbers of topics that there were then. Index pages of later ones may be there in part, and don't count.
    pub(crate) topics: u32,
    /// Positions up to there whose messages were gone before anybody counted them.
    pub(crate) unaccounted: u64,
}

/// Reads the mark and what it vouches for, in a log whose newest position is `newest`, and `stored` the newest that is
/// stored. Without a mark there is nothing.
pub(crate) fn load(
    store: &SledTrees,
    stored: Position,
    newest: Position,
) -> Result<(Index, IndexMark), StoreError> {
    let mut index = Index::default();
    let Some(value) = store.meta.get(META_INDEXED).map_err(failed)? else {
        // The numbers of all topics are given again, perhaps to others.
        store.postings.remove_from(index.next_id()).map_err(failed)?;
        return Ok((index, IndexMark::default()));
    };
    let mark = take_mark(&value).map_err(wrong)?;
    if mark.position > newest || mark.stored > stored {
        return Err(wrong(Damage("it knows more messages than there are")));
    }
    index.reserve(mark.topics as usize);
    for number in 0u32.. {
        if index.next_id().0 >= mark.topics {
            break;
        }
        let key = number.to_be_bytes();
        // One by one, as chunks are: see `SledTrees::touch`.
        let sealed =
            store.topics.get(key).map_err(failed)?.ok_or(wrong(Damage("an index page is missing")))?;
        let (ever, topics) = unseal(&key, &sealed).and_then(read_index_page).map_err(wrong)?;
        if topics.iter().any(|topic| topic.tail() > newest) {
            return Err(wrong(Damage("it knows more messages than there are")));
        }
        if !index.add_index_page(ever, topics) {
            return Err(wrong(Damage("a topic stands in it twice")));
        }
    }
    index.sort_names();
    // Numbers that a crash took back are given again, to other topics.
    store.postings.remove_from(index.next_id()).map_err(failed)?;
    Ok((index, mark))
}

/// Up to which position the index is written, if that can be read, in a log whose newest stored message it knew or not.
pub(crate) fn position(store: &SledTrees, stored: Position) -> Position {
    let value = store.meta.get(META_INDEXED).ok().flatten();
    let mark = value.and_then(|value| take_mark(&value).ok());
    mark.filter(|mark| mark.stored <= stored).map_or(Position::ZERO, |mark| mark.position)
}

/// Removes all of it.
pub(crate) fn clear(store: &SledTrees) -> sled::Result<()> {
    // The mark first: without it nothing else counts.
    store.meta.remove(META_INDEXED)?;
    for tree in [&store.topics, &store.postings.tree] {
        for key in tree.iter().keys() {
            tree.remove(key?)?;
        }
    }
    Ok(())
}

/// Makes the next opening build the index again.
pub(crate) fn forget(store: &SledTrees) -> sled::Result<()> {
    store.meta.remove(META_INDEXED).map(drop)
}

/// Writes an index page.
pub(crate) fn put_index_page(store: &SledTrees, number: u32, mut value: Vec<u8>) -> sled::Result<()> {
    let key = number.to_be_bytes();
    seal(&key, &mut value);
    store.topics.insert(key, value).map(drop)
}

/// Writes the mark.
pub(crate) fn put_mark(store: &SledTrees, mark: IndexMark) -> sled::Result<()> {
    store.meta.insert(META_INDEXED, mark_value(mark)).map(drop)
}

fn mark_value(mark: IndexMark) -> Vec<u8> {
    let mut value = mark.position.0.to_le_bytes().to_vec();
    value.extend_from_slice(&mark.stored.0.to_le_bytes());
    value.extend_from_slice(&mark.topics.to_le_bytes());
    value.extend_from_slice(&mark.unaccounted.to_le_bytes());
    seal(META_INDEXED.as_bytes(), &mut value);
    value
}

fn take_mark(sealed: &[u8]) -> Result<IndexMark, Damage> {
    let mut reader = ByteReader(unseal(META_INDEXED.as_bytes(), sealed)?);
    let (position, stored) = (Position(reader.u64()?), Position(reader.u64()?));
    Ok(IndexMark { position, stored, topics: reader.u32()?, unaccounted: reader.u64()? })
}

fn wrong(Damage(what): Damage) -> StoreError {
    StoreError::Corrupt(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_round_trips_and_is_checked() {
        let mark =
            IndexMark { position: Position(1 << 40), stored: Position(1 << 39), topics: 77, unaccounted: 3 };
        let mut value = mark_value(mark);
        assert_eq!(take_mark(&value), Ok(mark));
        value[0] ^= 1;
        assert!(take_mark(&value).is_err());
    }
}
