//! Reading pages. A filter over few topics has a plan of positions from the index, any other is a scan of chunks.
//! The index is locked for the partial plan and again for the end, not while the store is read; what was trimmed between
//! is then taken out of the page, and the page says how far. A plan that turns out wrong is thrown away for a scan.

use parking_lot::RwLockReadGuard;
use tailwire_core::{
    StoreError,
    log::{Budget, StorePage},
};
use tailwire_model::{Draft, Filter, Message, Position, Trim};

use super::{
    SledStore,
    failure::corrupt,
    pager::{Followed, MetTopics, Pager},
};
use crate::codec::Damage;
use crate::{
    index::{BrokenPostings, FilterWalk, Index, Planned},
    retention::SeenMessage,
};

/// How often a plan is begun again because a trim took what it was about to read.
const PLAN_TRIES: usize = 3;
/// The least cost of a message: no page holds more of them than fit by this.
const COST_MIN: usize = Draft::cost_of(1, 0, 0);

impl SledStore {
    /// A page of what is stored and what is in the ring.
    pub(super) fn read_page(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<StorePage, StoreError> {
        let mut page = self.read_stored(filter, after, upto, budget)?;
        if !self.ring.read().is_unused() {
            let (_index, trimmed) = self.index_and_trimmed(filter, after);
            let ring = self.ring.read();
            ring.merge(&mut page, filter, after, budget.messages, budget.bytes);
            // As of the ring: a trim may have come since the store was read.
            page.trimmed = Trim::farther(trimmed, ring.lost(filter, after));
        }
        Ok(page)
    }

    /// How far any topic of a filter was trimmed, or lost what was never stored. The index is locked for a moment at a time: a
    /// trim that comes meanwhile may count or not.
    pub(super) fn trimmed_beyond(&self, filter: &Filter, after: Position) -> Option<Trim> {
        Trim::farther(self.trimmed_stored(filter, after), self.ring.read().lost(filter, after))
    }

    fn trimmed_stored(&self, filter: &Filter, after: Position) -> Option<Trim> {
        if let Some(trimmed) = self.index.read().trimmed_soon(filter, after) {
            return trimmed;
        }
        self.walk_trimmed(filter)
    }

    fn walk_trimmed(&self, filter: &Filter) -> Option<Trim> {
        let (mut walk, mut trimmed) = (FilterWalk::default(), None);
        while self.index.read().add_trimmed(filter, &mut walk, &mut trimmed) {}
        trimmed
    }

    /// The locked index, and how far any topic of a filter was trimmed as of now: a page that is filtered while the lock is held
    /// misses just what that says. Many topics are looked through before, some at a time, unless trims never cease.
    fn index_and_trimmed(
        &self,
        filter: &Filter,
        after: Position,
    ) -> (RwLockReadGuard<'_, Index>, Option<Trim>) {
        for _ in 0..PLAN_TRIES {
            let index = self.index.read();
            if let Some(trimmed) = index.trimmed_soon(filter, after) {
                return (index, trimmed);
            }
            let before = index.removals();
            drop(index);
            let trimmed = self.walk_trimmed(filter);
            let index = self.index.read();
            if index.removals() == before {
                return (index, trimmed);
            }
        }
        let index = self.index.read();
        let trimmed = index.trimmed_after(filter, after);
        (index, trimmed)
    }

    pub(super) fn read_stored(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<StorePage, StoreError> {
        Ok(self.read_and_miss(filter, after, upto, budget)?.0)
    }

    /// The same, and the messages that the index names though compaction took them: after a crash it may know them again.
    pub(super) fn read_and_miss(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<(StorePage, Vec<Position>), StoreError> {
        let (upto, seen, farthest) = {
            let index = self.index.read();
            (upto.min(self.newest_committed()).max(after), index.removals(), index.farthest_dead())
        };
        let mut pager = Pager::new(self, budget, upto);
        let followed = match self.plan(filter, after, upto, budget) {
            Some(plan) => {
                if let Some(last) = plan.last().filter(|_| plan.len() == planned_count(budget)) {
                    // Beyond the plan nothing was looked at; and of what it names some may be gone, so that what is left
                    // doesn't fill the page.
                    pager.page.scanned = last.position;
                }
                pager.up_to_damage(|pager| pager.follow(filter, &plan))?
            }
            None => Followed::Not,
        };
        if followed == Followed::Not {
            pager = Pager::new(self, budget, upto);
            pager.up_to_damage(|pager| {
                pager.scan(filter, after, upto, farthest)?;
                Ok(Followed::Page)
            })?;
        }
        let Pager { mut page, lost, .. } = pager;
        let (index, trimmed) = self.index_and_trimmed(filter, after);
        page.trimmed = trimmed;
        if index.removals() != seen || index.obsolete_count() > 0 {
            page.messages.retain(|message| !index.is_dead(message.topic().as_str(), message.position()));
        }
        let missing = lost.iter().find(|lost| index.expects(lost.topic, lost.position));
        if let Some(missing) = missing {
            page.messages.retain(|message| message.position() < missing.position);
            if page.messages.is_empty() {
                return Err(corrupt("message", missing.position, Damage("it is missing")));
            }
            page.scanned = missing.position.previous();
        }
        let lost = lost.into_iter().map(|lost| lost.position);
        let lost = lost.filter(|position| *position <= page.scanned).collect();
        Ok((page, lost))
    }

    /// The messages that a page is made of, and one more, to know whether it is the last. `None` when a scan of the log
    /// is the better way, or the only one.
    fn plan(&self, filter: &Filter, after: Position, upto: Position, budget: Budget) -> Option<Vec<Planned>> {
        let count = planned_count(budget);
        let partial_plan = |index: &Index| index.partial_plan(filter, after, upto, count);
        self.by_index(partial_plan, |partial_plan| partial_plan.oldest(&self.store.postings, upto, count))
    }

    /// Asks the index for a partial plan, and reads what of it is sealed; again, if something was taken meanwhile. `None`
    /// when there is none, or the index is not what the log holds.
    pub(super) fn by_index<P, T>(
        &self,
        partial_plan: impl Fn(&Index) -> Option<P>,
        read: impl Fn(P) -> Result<T, BrokenPostings>,
    ) -> Option<T> {
        let look = || {
            let (partial, seen) = {
                let index = self.index.read();
                (partial_plan(&index)?, index.removals())
            };
            let found = read(partial);
            let is_stale = || self.index.read().removals() != seen;
            Some(found.map_err(|error| if is_stale() { None } else { Some(error) }))
        };
        for _ in 0..PLAN_TRIES {
            match look()? {
                Ok(found) => return Some(found),
                Err(None) => {}
                // Blocks may have changed under the reader's hands. What is wrong also while they can't is wrong.
                Err(Some(_)) => match self.store.postings.at_rest(look)? {
                    Ok(found) => return Some(found),
                    Err(None) => {}
                    Err(Some(error)) => {
                        self.suspect(&error.into());
                        return None;
                    }
                },
            }
        }
        None
    }

    /// Visits live messages after a position, oldest first, without their contents, until `visit` has enough.
    pub(super) fn walk_live(
        &self,
        after: Position,
        visit: &mut dyn FnMut(&SeenMessage<'_>) -> bool,
    ) -> Result<(), StoreError> {
        let mut names = MetTopics::default();
        for chunk in self.store.chunks_after(after) {
            let chunk = chunk?;
            for record in chunk.records() {
                let damaged = |damage| corrupt("chunk", chunk.first, damage);
                let record = record.map_err(damaged)?;
                if record.position <= after || self.index.read().is_dead(record.topic, record.position) {
                    continue;
                }
                let topic = names.get(record.topic)?;
                let cost = record.cost().map_err(damaged)? as u64;
                let came = self.index.read().ages().at(record.position, record.time);
                let seen = SeenMessage { position: record.position, came, topic: &topic, cost };
                if !visit(&seen) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) fn read_one(&self, position: Position) -> Result<Option<Message>, StoreError> {
        if position > self.newest_committed() {
            return Ok(None);
        }
        if let Some(message) = self.ring.read().get(position) {
            return Ok(Some(message.clone()));
        }
        let Some(chunk) = self.store.chunk_at(position)? else {
            return Ok(None);
        };
        for record in chunk.records() {
            let record = record.map_err(|damage| corrupt("chunk", chunk.first, damage))?;
            if record.position != position {
                continue;
            }
            let budget = Budget { messages: 1, bytes: usize::MAX, scan_bytes: usize::MAX };
            let mut pager = Pager::new(self, budget, position);
            let topic = pager.names.get(record.topic)?;
            pager.offer(&chunk, &record, topic)?;
            let dead = self.index.read().is_dead(record.topic, position);
            return match pager.page.messages.pop() {
                _ if dead => Ok(None),
                Some(message) => Ok(Some(message)),
                None => Err(corrupt("message", position, Damage("its fragments are missing"))),
            };
        }
        Ok(None)
    }
}

/// How many messages a plan names at most: as many as a page may hold, and one more.
fn planned_count(budget: Budget) -> usize {
    budget.messages.max(1).min(budget.bytes / COST_MIN + 1).saturating_add(1)
}
