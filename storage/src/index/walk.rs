//! Walks over the topics of a filter, some names at a time: a pattern may stand for as many as there are, and commits wait for the
//! index's lock. Between two steps the caller lets go of it. A walk visits each topic once, as it is then, so that what
//! it finds is as of its beginning or later.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use tailwire_core::log::Bounds;
use tailwire_model::{Filter, Position, Term, Trim, TrimReason, limits::LISTED_PER_TURN};

use super::{Index, PLAN_NAMES_MAX, entry::IndexedTopic, order::TopicId};

/// How far a walk is.
#[derive(Debug, Default)]
pub(crate) struct FilterWalk {
    term: usize,
    /// The name up to which a pattern's were visited.
    after: Option<Box<str>>,
}

/// The topics that may have the newest messages up to a position: of those that end there the ones whose newest message is among
/// them; and those that go on beyond, or whose newest message may have been taken.
#[derive(Debug)]
pub(crate) struct NewestTopics {
    upto: Position,
    count: usize,
    ended: BTreeSet<(Position, TopicId)>,
    open: BTreeSet<TopicId>,
}

impl NewestTopics {
    /// Of so many messages.
    pub(crate) fn new(upto: Position, count: usize) -> Self {
        Self { upto, count: count.max(1), ended: BTreeSet::new(), open: BTreeSet::new() }
    }

    /// Overlapping terms may offer a topic twice.
    fn offer(&mut self, newest: Position, is_there: bool, topic: TopicId) {
        if newest > self.upto || !is_there {
            if self.open.len() <= PLAN_NAMES_MAX {
                self.open.insert(topic);
            }
            return;
        }
        self.ended.insert((newest, topic));
        if self.ended.len() > self.count {
            self.ended.pop_first();
        }
    }

    /// Whether it is not known of too many topics where they end, so that a scan of the log is the better way.
    pub(super) fn are_too_many(&self) -> bool {
        self.open.len() > PLAN_NAMES_MAX
    }

    pub(super) fn upto(&self) -> Position {
        self.upto
    }

    /// Their numbers. One that was published to during the walk may be named twice.
    pub(super) fn topics(&self) -> BTreeSet<TopicId> {
        self.ended.iter().map(|(_, topic)| *topic).chain(self.open.iter().copied()).collect()
    }
}

/// The farthest trim of a topic that is wanted, where that lies beyond `after`, if that is found soon.
fn farthest_soon(
    trims: &BTreeMap<(Position, TopicId), TrimReason>,
    after: Position,
    is_wanted: impl Fn(TopicId) -> bool,
) -> Option<Option<Trim>> {
    let mut beyond = trims.range((Excluded((after, TopicId(u32::MAX))), Unbounded)).rev();
    for (&(upto, id), &reason) in beyond.by_ref().take(LISTED_PER_TURN) {
        if is_wanted(id) {
            return Some(Some(Trim { upto, reason }));
        }
    }
    beyond.next().is_none().then_some(None)
}

impl Index {
    /// Visits the next topics of a walk; answers whether there are more.
    fn visit_some<'a>(
        &'a self,
        filter: &Filter,
        walk: &mut FilterWalk,
        mut each: impl FnMut(TopicId, &'a IndexedTopic),
    ) -> bool {
        let mut left = LISTED_PER_TURN;
        while let Some(term) = filter.terms().get(walk.term) {
            let pattern = match term {
                _ if left == 0 => return true,
                Term::Topic(topic) => {
                    if let Some(id) = self.names.find(topic.as_str()) {
                        each(id, &self.entries[id.at()]);
                    }
                    left -= 1;
                    walk.term += 1;
                    continue;
                }
                Term::Pattern(pattern) => pattern,
            };
            let (prefix, start) = (pattern.prefix(), walk.after.take());
            let names = self.names.from(start.as_deref().unwrap_or(prefix));
            let names = names.skip_while(|(_, name)| Some(*name) == start.as_deref());
            for (id, name) in names.take_while(|(_, name)| name.starts_with(prefix)) {
                if pattern.matches_name(name) {
                    each(id, &self.entries[id.at()]);
                }
                left -= 1;
                if left == 0 {
                    walk.after = Some(name.into());
                    return true;
                }
            }
            walk.term += 1;
        }
        false
    }

    /// Adds the next topics of a walk to the bounds of a filter in the log; answers whether there are more.
    pub(crate) fn add_bounds(&self, filter: &Filter, walk: &mut FilterWalk, bounds: &mut Bounds) -> bool {
        let floor = self.floor_of(filter);
        bounds.trimmed = Trim::farther(bounds.trimmed, floor);
        bounds.cleared = Trim::farther(bounds.cleared, floor);
        let has_more = self.visit_some(filter, walk, |id, entry| {
            bounds.head = match (bounds.head, entry.head()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if entry.tail > bounds.tail {
                bounds.tail = entry.tail;
                bounds.tail_time = Some(entry.tail_time);
                bounds.tail_came = Some(self.ages.at(entry.tail, entry.tail_time));
            }
            bounds.trimmed = Trim::farther(bounds.trimmed, self.lost_of(id, entry));
            bounds.cleared = Trim::farther(bounds.cleared, entry.cleared());
        });
        if let Some(topic) = filter.only_topic() {
            bounds.interval_ms = self.get(topic.as_str()).and_then(IndexedTopic::interval_ms);
        }
        has_more
    }

    /// The bounds of a filter in the log.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn bounds(&self, filter: &Filter) -> Bounds {
        let (mut walk, mut bounds) = (FilterWalk::default(), Bounds::default());
        while self.add_bounds(filter, &mut walk, &mut bounds) {}
        bounds
    }

    /// How far any topic of a filter was trimmed, as far as a reader at `after` needs to know, if that is found soon: the
    /// inner `None` may also mean that nothing beyond `after` was.
    pub(crate) fn trimmed_soon(&self, filter: &Filter, after: Position) -> Option<Option<Trim>> {
        if !filter.has_patterns() {
            let topics = filter.terms().iter().map(|term| self.lost(term.as_str()));
            return Some(topics.fold(None, Trim::farther).filter(|trim| trim.upto > after));
        }
        let is_wanted = |id: TopicId| filter.matches_name(self.names.name(id));
        let trimmed = farthest_soon(&self.trims, after, is_wanted)?;
        let trimmed = Trim::farther(trimmed, self.floor.trim());
        Some(Trim::farther(trimmed, farthest_soon(self.removed.by_position(), after, is_wanted)?))
    }

    /// The same, by a walk over the topics; answers whether there are more.
    pub(crate) fn add_trimmed(
        &self,
        filter: &Filter,
        walk: &mut FilterWalk,
        trimmed: &mut Option<Trim>,
    ) -> bool {
        *trimmed = Trim::farther(*trimmed, self.floor_of(filter));
        self.visit_some(filter, walk, |id, entry| *trimmed = Trim::farther(*trimmed, self.lost_of(id, entry)))
    }

    /// How far any topic of a filter was trimmed, as far as a reader at `after` needs to know.
    pub(crate) fn trimmed_after(&self, filter: &Filter, after: Position) -> Option<Trim> {
        self.trimmed_soon(filter, after).unwrap_or_else(|| {
            let (mut walk, mut trimmed) = (FilterWalk::default(), None);
            while self.add_trimmed(filter, &mut walk, &mut trimmed) {}
            trimmed
        })
    }

    /// Looks which topics of a filter have the newest messages; answers whether there are more to look at. A topic's newest posting
    /// is retained if anything of it is, unless it was taken by itself; so no other topic has any of the newest. Its tail may lie
    /// beyond: at a message that was never stored.
    pub(crate) fn add_newest(
        &self,
        filter: &Filter,
        walk: &mut FilterWalk,
        newest: &mut NewestTopics,
    ) -> bool {
        self.visit_some(filter, walk, |id, entry| {
            let last = entry.recent.last().max(entry.sealed_last());
            if entry.count > 0 {
                let is_there = self.removed.of(id).is_none_or(|farthest| farthest.upto < last);
                newest.offer(last, is_there, id);
            }
        })
    }
}
