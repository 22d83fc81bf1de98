//! Sealed postings in the store: the tree of blocks, and what of it is out of date. Knows no index.
//!
//! Key: the topic's number and the block's first position, big-endian. Value, sealed with its key:
//! ```text
//! end of the block before  base of the postings  last - first  count of postings  postings…  CRC-32: u32
//! ```
//! A block is written before the index page that knows of it. So after a crash blocks may stand here that the index doesn't
//! know, beyond the end of what it knows; they are overwritten when their messages are sealed again.

use parking_lot::RwLock;
use tailwire_core::StoreError;
use tailwire_model::Position;

use crate::index::{Block, Blocks, Postings, TopicId};
use crate::{
    codec::{ByteReader, Damage, put_varint, seal, unseal},
    sled_store::{durability::tree::StoreTree, failure::failed},
};

/// The tree of blocks.
pub(crate) struct PostingsTree {
    pub(crate) tree: StoreTree,
    /// Locked for writing while blocks change.
    changing: RwLock<()>,
}

impl PostingsTree {
    pub(crate) const fn new(tree: StoreTree) -> Self {
        Self { tree, changing: RwLock::new(()) }
    }

    /// Writes a block, and removes what an earlier end of the log may have left behind the one before. At no time is the
    /// block missing: it may be there already, and be read.
    pub(crate) fn put(&self, topic: TopicId, block: &Block) -> sled::Result<()> {
        let _changing = self.changing.write();
        let own = key(topic, block.first);
        self.tree.insert(own, encode(&own, block))?;
        for old in self.tree.range(key(topic, block.previous.next())..=key(topic, block.last)).keys() {
            let old = old?;
            if *old != own {
                self.tree.remove(old)?;
            }
        }
        Ok(())
    }

    /// Writes a block that has lost messages in its own place.
    pub(crate) fn put_again(&self, topic: TopicId, block: &Block) -> sled::Result<()> {
        let _changing = self.changing.write();
        let own = key(topic, block.first);
        self.tree.insert(own, encode(&own, block)).map(drop)
    }

    /// Removes a block.
    pub(crate) fn remove(&self, topic: TopicId, block: &Block) -> sled::Result<()> {
        let _changing = self.changing.write();
        self.tree.remove(key(topic, block.first)).map(drop)
    }

    /// Reads while no block changes.
    pub(crate) fn at_rest<T>(&self, read: impl FnOnce() -> T) -> T {
        let _at_rest = self.changing.read();
        read()
    }

    /// Removes all blocks of topics from this one on: what is left of numbers that were given and lost again.
    pub(crate) fn remove_from(&self, topic: TopicId) -> sled::Result<()> {
        for old in self.tree.range(key(topic, Position::ZERO)..).keys() {
            self.tree.remove(old?)?;
        }
        Ok(())
    }

    fn find(
        &self,
        topic: TopicId,
        entry: Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Result<Option<Block>, StoreError> {
        let Some((key, value)) = entry.transpose().map_err(failed)? else { return Ok(None) };
        if !key.starts_with(&topic.0.to_be_bytes()) {
            return Ok(None);
        }
        let damaged = |Damage(damage)| StoreError::Corrupt(format!("a block of the index: {damage}"));
        decode(&key, &value).map(Some).map_err(damaged)
    }
}

impl Blocks for PostingsTree {
    fn beyond(&self, topic: TopicId, after: Position) -> Result<Option<Block>, StoreError> {
        let wanted = key(topic, after.next());
        if let Some(block) = self.find(topic, self.tree.range(..=wanted).next_back())?
            && block.last > after
        {
            return Ok(Some(block));
        }
        self.find(topic, self.tree.range(wanted..).next())
    }

    fn before(&self, topic: TopicId, upto: Position) -> Result<Option<Block>, StoreError> {
        self.find(topic, self.tree.range(..=key(topic, upto)).next_back())
    }
}

fn key(topic: TopicId, first: Position) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&topic.0.to_be_bytes());
    key[4..].copy_from_slice(&first.0.to_be_bytes());
    key
}

fn encode(key: &[u8], block: &Block) -> Vec<u8> {
    let mut value = Vec::with_capacity(block.postings.encoded().len() + 24);
    put_varint(&mut value, block.previous.0);
    put_varint(&mut value, block.postings.base().0);
    put_varint(&mut value, block.last.0 - block.first.0);
    put_varint(&mut value, u64::from(block.postings.len()));
    value.extend_from_slice(block.postings.encoded());
    seal(key, &mut value);
    value
}

fn decode(key: &[u8], sealed: &[u8]) -> Result<Block, Damage> {
    let mut reader = ByteReader(unseal(key, sealed)?);
    let mut key_reader = ByteReader(key);
    let (_topic, first) = (key_reader.array::<4>()?, Position(u64::from_be_bytes(key_reader.array()?)));
    let previous = Position(reader.varint()?);
    let base = Position(reader.varint()?);
    let last = first.0.checked_add(reader.varint()?).map(Position).ok_or(Damage("it ends too far away"))?;
    let count = u32::try_from(reader.varint()?).map_err(|_| Damage("a count is too large"))?;
    let postings = Postings::decode(base, count, reader.0)?;
    let inside = base < first && previous < first && postings.last() <= last;
    if inside { Ok(Block { previous, first, last, postings }) } else { Err(Damage("it leaves its span")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::index::Posting;
    use crate::sled_store::durability::{checkpoint::Checkpoints, journal::Journal};

    fn block(previous: u64, positions: &[u64]) -> Block {
        let mut postings = Postings::after(Position(previous));
        for &position in positions {
            postings.push(Posting { position: Position(position), cost: 100 + position });
        }
        let (first, last) = (Position(positions[0]), Position(positions[positions.len() - 1]));
        Block { previous: Position(previous), first, last, postings }
    }

    fn tree() -> PostingsTree {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::Config::new().path(dir.path()).flush_every_ms(None).open().unwrap();
        let tree = db.open_tree("postings").unwrap();
        let checkpoints = Checkpoints::new(db, Box::new(tempfile::tempfile().unwrap()), dir.path());
        PostingsTree::new(StoreTree::new(tree, 0, Arc::new(Journal::without_file()), Arc::new(checkpoints)))
    }

    #[test]
    fn blocks_are_found_by_any_place_in_their_span() {
        let tree = tree();
        let (a, b, other) = (block(0, &[3, 5, 9]), block(9, &[20, 21]), block(0, &[4, 6]));
        tree.put(TopicId(7), &a).unwrap();
        tree.put(TopicId(7), &b).unwrap();
        tree.put(TopicId(8), &other).unwrap();
        let beyond = |after| tree.beyond(TopicId(7), Position(after)).unwrap();
        assert_eq!([0, 3, 8].map(beyond), [Some(a.clone()), Some(a.clone()), Some(a.clone())]);
        assert_eq!([9, 20].map(beyond), [Some(b.clone()), Some(b.clone())]);
        assert_eq!([21, 99].map(beyond), [None, None]);
        let before = |upto| tree.before(TopicId(7), Position(upto)).unwrap();
        assert_eq!(
            [2, 3, 19, 20, 99].map(before),
            [None, Some(a.clone()), Some(a), Some(b.clone()), Some(b)]
        );
        tree.remove_from(TopicId(8)).unwrap();
        assert_eq!(tree.tree.len(), 2);
    }

    #[test]
    fn a_block_takes_the_place_of_what_stood_in_its_span() {
        let tree = tree();
        tree.put(TopicId(1), &block(0, &[3, 5])).unwrap();
        tree.put(TopicId(1), &block(5, &[7, 9])).unwrap();
        let whole = block(0, &[3, 5, 7, 9]);
        tree.put(TopicId(1), &whole).unwrap();
        assert_eq!(tree.tree.len(), 1);
        assert_eq!(tree.beyond(TopicId(1), Position(6)).unwrap(), Some(whole));
    }

    #[test]
    fn a_flipped_bit_is_damage() {
        let key = key(TopicId(1), Position(3));
        let value = encode(&key, &block(2, &[3, 500, 501]));
        assert_eq!(decode(&key, &value), Ok(block(2, &[3, 500, 501])));
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 8;
            assert!(decode(&key, &damaged).is_err());
        }
    }
}
