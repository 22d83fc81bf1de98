//! Finding a place in the log: where the newest messages of a filter begin, and the first message of a time. Nothing here reads
//! what messages hold.

use tailwire_core::{
    StoreError,
    log::{Budget, Window},
};
use tailwire_model::{Filter, Position, Timestamp};

use super::{SledStore, failure::corrupt, layout::chunk::Chunk};
use crate::index::{FilterWalk, Index, Newest, NewestTopics, Posting};

impl SledStore {
    /// Where the newest messages of a filter up to `upto` begin, stored or in the ring.
    pub(super) fn find_before_last(
        &self,
        filter: &Filter,
        upto: Position,
        budget: Budget,
    ) -> Result<Window, StoreError> {
        let upto = upto.min(self.newest_committed());
        // One more tells whether there are older ones.
        let looked = Budget { messages: budget.messages.saturating_add(1), ..budget };
        let mut newest = self.newest_stored(filter, upto, looked)?;
        newest.postings.extend(self.ring.read().newest(filter, upto, looked.messages));
        Ok(newest.window(upto, budget))
    }

    /// The newest messages, as many as a budget says, whatever they cost.
    fn newest_stored(&self, filter: &Filter, upto: Position, budget: Budget) -> Result<Newest, StoreError> {
        let count = budget.messages;
        let (mut walk, mut topics) = (FilterWalk::default(), NewestTopics::new(upto, count));
        while self.index.read().add_newest(filter, &mut walk, &mut topics) {}
        let plan = |index: &Index| index.newest_plan(&topics);
        self.by_index(plan, |plan| plan.newest(&self.store.postings, count))
            .map_or_else(|| self.scan_newest(filter, upto, budget), Ok)
    }

    /// The same without an index to ask.
    fn scan_newest(&self, filter: &Filter, upto: Position, budget: Budget) -> Result<Newest, StoreError> {
        let (mut newest, mut looked) = (Newest::default(), 0);
        for chunk in self.store.chunks_before(upto.next()) {
            let chunk = chunk?;
            for record in chunk.records() {
                let damaged = |damage| corrupt("chunk", chunk.first, damage);
                let record = record.map_err(damaged)?;
                let dead = || self.index.read().is_dead(record.topic, record.position);
                if record.position <= upto && filter.matches_name(record.topic) && !dead() {
                    let cost = record.cost().map_err(damaged)? as u64;
                    newest.postings.push(Posting { position: record.position, cost });
                }
            }
            looked += chunk.bytes;
            if newest.postings.len() >= budget.messages {
                break;
            }
            if looked >= budget.scan_bytes {
                newest.floor = chunk.first.previous();
                break;
            }
        }
        Ok(newest)
    }

    /// The place before the first message of a time or later, stored or in the ring.
    pub(super) fn find_before_time(&self, time: Timestamp) -> Result<Position, StoreError> {
        let committed = self.newest_committed();
        let stored = self.stored_before_time(time, committed)?;
        Ok(self.ring.read().before_time(time).map_or(stored, |volatile| volatile.min(stored)))
    }

    /// Of the chunks each knows the latest time of all before it, which only grows. So the last one for which that is earlier has
    /// the message, or had it.
    fn stored_before_time(&self, time: Timestamp, committed: Position) -> Result<Position, StoreError> {
        let (mut low, mut high, mut last_before) = (0, committed.0, None::<Chunk>);
        while low <= high {
            let middle = low + (high - low) / 2;
            match self.store.chunk_from(Position(middle))? {
                Some(chunk) if chunk.latest_before < time => {
                    low = chunk.last.0.max(middle) + 1;
                    last_before = Some(chunk);
                }
                Some(chunk) => match chunk.first.0.checked_sub(1) {
                    Some(before) => high = before,
                    None => break,
                },
                None => low = middle + 1,
            }
        }
        let Some(chunk) = last_before else {
            let is_empty = self.store.chunk_beyond(Position::ZERO).transpose()?.is_none();
            return Ok(if is_empty { committed } else { Position::ZERO });
        };
        if chunk.time >= time {
            return Ok(chunk.first.previous());
        }
        for record in chunk.records() {
            let record = record.map_err(|damage| corrupt("chunk", chunk.first, damage))?;
            if record.time >= time {
                return Ok(record.position.previous());
            }
        }
        Ok(if self.store.is_last(chunk.first)? { committed } else { chunk.last })
    }
}
