//! Sealed postings: the older part of a topic's postings, in blocks that stand in a store. What a block is, how a
//! topic's blocks hang together, and the walks over them. Where they stand is the store's.

use tailwire_core::StoreError;
use tailwire_model::Position;

use super::{order::TopicId, postings::Postings};

/// Encoded postings of one block, and so what a topic keeps in memory before it is sealed: some 130 messages.
pub(crate) const BLOCK_BYTES: usize = 512;

/// Postings of one topic, none of which changes but by removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The end of the topic's block before; zero if there was none.
    pub(crate) previous: Position,
    /// Where it begins; it may have lost the message that stood there.
    pub(crate) first: Position,
    /// Where it ends; so here.
    pub(crate) last: Position,
    pub(crate) postings: Postings,
}

/// Where blocks are kept.
pub(crate) trait Blocks {
    /// The oldest block of a topic that ends beyond `after`.
    fn beyond(&self, topic: TopicId, after: Position) -> Result<Option<Block>, StoreError>;

    /// The newest block of a topic that begins at `upto` or before it.
    fn before(&self, topic: TopicId, upto: Position) -> Result<Option<Block>, StoreError>;

    /// A topic's next sealed message after one, if there is one up to `last`.
    fn next_sealed(
        &self,
        topic: TopicId,
        after: Position,
        last: Position,
    ) -> Result<Option<Position>, BrokenPostings>
    where
        Self: Sized,
    {
        let mut walk = Forwards::new(self, topic, after, last);
        while let Some(block) = walk.next()? {
            if let Some(next) = block.postings.beyond(after).next() {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }
}

/// A failure to read sealed postings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BrokenPostings {
    /// The blocks don't hang together: the index is not what it should be.
    Broken,
    /// The store said so.
    Store(StoreError),
}

/// A topic's sealed postings after `after` and up to `last`, block by block, oldest first.
pub(super) struct Forwards<'a, B> {
    blocks: &'a B,
    topic: TopicId,
    after: Position,
    last: Position,
    inside: bool,
}

impl<'a, B: Blocks> Forwards<'a, B> {
    pub(super) fn new(blocks: &'a B, topic: TopicId, after: Position, last: Position) -> Self {
        Self { blocks, topic, after, last, inside: false }
    }

    pub(super) fn next(&mut self) -> Result<Option<Block>, BrokenPostings> {
        if self.after >= self.last {
            return Ok(None);
        }
        let block = self.blocks.beyond(self.topic, self.after).map_err(BrokenPostings::Store)?;
        // Below where the walk begins blocks may have been removed; from there on each leads to the next.
        let follows = |block: &Block| {
            let leads = if self.inside { block.previous == self.after } else { block.previous <= self.after };
            leads && block.last <= self.last
        };
        let block = block.filter(follows).ok_or(BrokenPostings::Broken)?;
        (self.after, self.inside) = (block.last, true);
        Ok(Some(block))
    }
}

/// A topic's sealed postings after `floor` and up to `upto`, block by block, newest first; the first may reach beyond.
pub(super) struct BackwardBlocks<'a, B> {
    blocks: &'a B,
    topic: TopicId,
    floor: Position,
    upto: Position,
    /// It begins anywhere within the sealed postings, not at their end.
    is_anywhere: bool,
}

impl<'a, B: Blocks> BackwardBlocks<'a, B> {
    /// A walk over sealed postings that end at `last`.
    pub(super) fn new(
        blocks: &'a B,
        topic: TopicId,
        (floor, upto): (Position, Position),
        last: Position,
    ) -> Self {
        Self { blocks, topic, floor, upto: upto.min(last), is_anywhere: upto < last }
    }

    pub(super) fn next(&mut self) -> Result<Option<Block>, BrokenPostings> {
        if self.upto <= self.floor {
            return Ok(None);
        }
        let block = self.blocks.before(self.topic, self.upto).map_err(BrokenPostings::Store)?;
        if self.is_anywhere && block.is_none() {
            return Ok(None);
        }
        let leads =
            |block: &Block| (block.last == self.upto || self.is_anywhere) && block.previous < block.first;
        let block = block.filter(leads).ok_or(BrokenPostings::Broken)?;
        (self.upto, self.is_anywhere) = (block.previous, false);
        Ok(Some(block))
    }
}
