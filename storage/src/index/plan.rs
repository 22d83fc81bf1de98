//! Plans: which messages of a filter a page is made of. What memory knows is a partial plan, made under the index's lock;
//! the sealed postings that complete it are read without the lock, so that nobody waits for a reader's disk.

use std::{cmp::Reverse, collections::BinaryHeap, vec};

use tailwire_model::{Filter, Position};

use super::{
    BrokenPostings, Index, PLAN_NAMES_MAX,
    blocks::{Blocks, Forwards},
    entry::IndexedTopic,
    order::TopicId,
};

/// A message that a plan names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Planned {
    pub(crate) position: Position,
    pub(crate) topic: TopicId,
}

/// A plan as far as memory knows it: of each topic its recent postings in the span, and where the sealed ones lie that
/// come before them.
#[derive(Debug, Default)]
pub(crate) struct PartialPlan(Vec<PlanPart>);

#[derive(Debug)]
struct PlanPart {
    topic: TopicId,
    /// The sealed postings lie beyond the first and up to the second; none if that is no span.
    sealed: (Position, Position),
    /// Oldest first.
    recent: Vec<Position>,
}

impl Index {
    /// The partial plan of the oldest `count` messages of a filter after `after` and up to `upto`. `None` when the filter spans so
    /// many topics that a scan of the log is the better way.
    pub(crate) fn partial_plan(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        count: usize,
    ) -> Option<PartialPlan> {
        // Counted first: a partial plan that is thrown away takes a page's time, for which commits would wait.
        if !self.visit(filter, PLAN_NAMES_MAX, |_, _| ()) {
            return None;
        }
        let mut parts = Vec::new();
        self.visit(filter, usize::MAX, |topic, entry| {
            let part = part(topic, entry, after, upto, count);
            parts.extend(Some(part).filter(|part| !part.recent.is_empty() || part.has_sealed()));
        });
        Some(PartialPlan(parts))
    }
}

fn part(topic: TopicId, entry: &IndexedTopic, after: Position, upto: Position, count: usize) -> PlanPart {
    let after = after.max(entry.trim().map_or(Position::ZERO, |trim| trim.upto));
    let recent = entry.recent.between(after, upto).map(|posting| posting.position).take(count);
    PlanPart { topic, sealed: (after, entry.sealed_last()), recent: recent.collect() }
}

impl PlanPart {
    fn has_sealed(&self) -> bool {
        self.sealed.0 < self.sealed.1
    }
}

impl PartialPlan {
    /// The oldest `count` messages up to `upto`.
    pub(crate) fn oldest(
        self,
        blocks: &impl Blocks,
        upto: Position,
        count: usize,
    ) -> Result<Vec<Planned>, BrokenPostings> {
        let mut lanes: Vec<Lane<'_, _>> = self.0.into_iter().map(|part| Lane::new(blocks, part)).collect();
        let mut nearest = BinaryHeap::with_capacity(lanes.len());
        for (slot, lane) in lanes.iter_mut().enumerate() {
            nearest.extend(lane.next()?.map(|position| Reverse((position, slot))));
        }
        let mut plan: Vec<Planned> = Vec::new();
        while plan.len() < count
            && let Some(Reverse((position, slot))) = nearest.pop()
            && position <= upto
        {
            let lane = &mut lanes[slot];
            // Overlapping terms name a topic twice, and its messages then come twice in a row.
            if plan.last().is_none_or(|last| last.position != position) {
                plan.push(Planned { position, topic: lane.topic });
            }
            nearest.extend(lane.next()?.map(|position| Reverse((position, slot))));
        }
        Ok(plan)
    }
}

/// One topic's messages, oldest first.
struct Lane<'a, B> {
    topic: TopicId,
    after: Position,
    sealed: Forwards<'a, B>,
    loaded: vec::IntoIter<Position>,
    recent: Option<Vec<Position>>,
}

impl<'a, B: Blocks> Lane<'a, B> {
    fn new(blocks: &'a B, part: PlanPart) -> Self {
        let (after, last) = part.sealed;
        let sealed = Forwards::new(blocks, part.topic, after, last);
        Self { topic: part.topic, after, sealed, loaded: Vec::new().into_iter(), recent: Some(part.recent) }
    }

    fn next(&mut self) -> Result<Option<Position>, BrokenPostings> {
        loop {
            if let Some(position) = self.loaded.next() {
                return Ok(Some(position));
            }
            if let Some(block) = self.sealed.next()? {
                self.loaded = block.postings.beyond(self.after).collect::<Vec<_>>().into_iter();
            } else if let Some(recent) = self.recent.take() {
                self.loaded = recent.into_iter();
            } else {
                return Ok(None);
            }
        }
    }
}
