//! Writing the index behind, in steps that are short enough to stand between two commits: older postings are sealed,
//! then, once enough messages came since the last time, every index page that changed is written, and at the end the mark.
//! A crash costs at most reading these messages again, and counting those since the opening (`count`).

use tailwire_core::StoreError;
use tailwire_model::Position;

use crate::index::RetainedPart;
use crate::sled_store::{
    SledStore,
    durability::commit::CommitWriter,
    failure::failed,
    layout::table::{self, IndexMark},
};

/// Blocks that one step seals.
const STEP_BLOCKS: usize = 256;
/// Index pages that one step writes, at least and at most.
const STEP_PAGES: (u64, u64) = (16, 512);
/// Messages that pay for one index page: with the most scattered writes, where each message dirties one, a round of all of
/// them ends after as many messages as there are topics.
const MESSAGES_PER_PAGE: u64 = 8;
/// Messages after which a round begins: as many are read again after a crash.
const ROUND_MESSAGES: u64 = 128 << 10;
/// One more message for so many topics, so that many scattered ones are not written again for a message each.
const ROUND_TOPICS_PER_MESSAGE: u64 = 2;

/// Where writing behind stands.
#[derive(Debug)]
pub(crate) struct Behind {
    pub(crate) mark: IndexMark,
    /// How many messages had been applied when the round began that wrote it.
    marked: u64,
    /// The mark that the running round will have written, how many messages had been applied when it began, and the index
    /// pages that are left of it.
    round: Option<(IndexMark, u64, usize)>,
    /// How many had been applied as of the last step.
    seen: u64,
    /// Something of the index didn't fit: it is not written any further, so that the next opening builds it again.
    pub(crate) wrong: bool,
}

impl Behind {
    pub(crate) fn new(mark: IndexMark) -> Self {
        Self { mark, marked: 0, round: None, seen: 0, wrong: false }
    }
}

impl SledStore {
    /// One step; answers whether more is left. There is no commit meanwhile: it counts what is sealed, and what isn't.
    pub(crate) fn write_behind_step(&self, writer: &CommitWriter) -> Result<bool, StoreError> {
        let mut behind = self.behind.lock();
        if behind.wrong {
            return Ok(false);
        }
        if self.seal_step(STEP_BLOCKS)? {
            return Ok(true);
        }
        if behind.round.is_none() && !self.is_due(writer, &behind) {
            return Ok(false);
        }
        let paid = (writer.applied - behind.seen) / MESSAGES_PER_PAGE;
        behind.seen = writer.applied;
        self.write_pages_step(writer, &mut behind, paid.clamp(STEP_PAGES.0, STEP_PAGES.1) as usize)?;
        Ok(behind.round.is_some())
    }

    /// Writes all that is not written.
    pub(crate) fn write_behind_all(&self, writer: &CommitWriter) -> Result<(), StoreError> {
        let mut behind = self.behind.lock();
        if behind.wrong {
            return Ok(());
        }
        while self.seal_step(STEP_BLOCKS)? {}
        behind.round = None;
        if self.index.read().pages_changed() == 0 && behind.mark.position == self.newest_committed() {
            return Ok(());
        }
        self.write_pages_step(writer, &mut behind, usize::MAX)
    }

    /// The retained part of a topic's sealed postings when it is trimmed up to here, if that splits them.
    pub(crate) fn read_split(&self, topic: &str, upto: Position) -> Option<RetainedPart> {
        let split = self.index.read().split(topic, upto)?;
        Some(split.read(&self.store.postings).unwrap_or_else(|error| {
            self.suspect(&error.into());
            split.guess()
        }))
    }

    /// The index is not what it should be: says so, once, and makes the next opening build it again.
    pub(crate) fn suspect(&self, why: &StoreError) {
        let mut behind = self.behind.lock();
        if std::mem::replace(&mut behind.wrong, true) {
            return;
        }
        tracing::error!(%why, "the index is not what the log holds; it is built again when the log is opened next");
        if let Err(error) = table::forget(&self.store) {
            tracing::error!(%error, "and that could not be written down");
        }
    }

    fn is_due(&self, writer: &CommitWriter, behind: &Behind) -> bool {
        let topics = self.index.read().totals().0;
        let due = ROUND_MESSAGES + topics / ROUND_TOPICS_PER_MESSAGE;
        writer.applied - behind.marked >= due
    }

    /// Seals up to so many blocks; answers whether more are left.
    fn seal_step(&self, blocks: usize) -> Result<bool, StoreError> {
        for _ in 0..blocks {
            let Some((topic, block)) = self.index.read().sealable() else { return Ok(false) };
            self.store.postings.put(topic, &block).map_err(failed)?;
            self.index.write().sealed(topic, &block);
        }
        Ok(true)
    }

    /// Writes up to so many index pages of a round, which it begins if none runs, and at its end the mark.
    pub(crate) fn write_pages_step(
        &self,
        writer: &CommitWriter,
        behind: &mut Behind,
        pages: usize,
    ) -> Result<(), StoreError> {
        let (mark, marked, left) = behind.round.take().unwrap_or_else(|| {
            let index = self.index.read();
            let position = self.newest_committed();
            let unaccounted = position.0.saturating_sub(index.ever());
            let (stored, topics) = (writer.mark.newest, index.next_id().0);
            let mark = IndexMark { position, stored, topics, unaccounted };
            (mark, writer.applied, index.pages_changed())
        });
        let step = left.min(pages);
        for _ in 0..step {
            let Some((number, value)) = self.index.write().take_index_page() else { break };
            if let Err(error) = table::put_index_page(&self.store, number, value) {
                // The index page is not where it was among those that changed: no mark may follow.
                behind.wrong = true;
                return Err(failed(error));
            }
        }
        if step < left {
            behind.round = Some((mark, marked, left - step));
            return Ok(());
        }
        table::put_mark(&self.store, mark).map_err(failed)?;
        (behind.mark, behind.marked) = (mark, marked);
        Ok(())
    }
}
