//! Walks over the topics of a filter, some names at a time: a pattern may stand for as many as there are, and commits wait for the
//! index's lock. Between two steps the caller lets go of it. A walk visits each topic once, as it is then, so that what
//! it finds is as of its beginning or later.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
};

use tailwire_core::log::Bounds;
use tailwire_model::{Filter, Position, Term, Trim, limits::LISTED_PER_TURN};

use super::{Index, entry::IndexedTopic, order::TopicId};

/// How far a walk is.
#[derive(Debug, Default)]
pub(crate) struct FilterWalk {
    term: usize,
    /// The name up to which a pattern's were visited.
    after: Option<Box<str>>,
}

/// The newest message of some topics, those with the newest ones.
#[derive(Debug)]
pub(crate) struct NewestTopics {
    count: usize,
    newest: BTreeSet<(Position, TopicId)>,
}

impl NewestTopics {
    /// Of so many topics at most.
    pub(crate) fn new(count: usize) -> Self {
        Self { count: count.max(1), newest: BTreeSet::new() }
    }

    /// Overlapping terms may offer a topic twice.
    fn offer(&mut self, own: (Position, TopicId)) {
        self.newest.insert(own);
        if self.newest.len() > self.count {
            self.newest.pop_first();
        }
    }

    /// Their numbers.
    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.newest.iter().map(|(_, topic)| *topic)
    }
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
        let has_more = self.visit_some(filter, walk, |_, entry| {
            bounds.head = match (bounds.head, entry.head()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if entry.tail > bounds.tail {
                bounds.tail = entry.tail;
                bounds.tail_time = Some(entry.tail_time);
                bounds.tail_came = Some(self.ages.at(entry.tail, entry.tail_time));
            }
            bounds.trimmed = Trim::farther(bounds.trimmed, entry.trim());
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
            let topics = filter.terms().iter().map(|term| self.trimmed(term.as_str()));
            return Some(topics.fold(None, Trim::farther));
        }
        let mut beyond = self.trims.range((Excluded((after, TopicId(u32::MAX))), Unbounded)).rev();
        for (&(upto, id), &reason) in beyond.by_ref().take(LISTED_PER_TURN) {
            if filter.matches_name(self.names.name(id)) {
                return Some(Some(Trim { upto, reason }));
            }
        }
        beyond.next().is_none().then_some(None)
    }

    /// The same, by a walk over the topics; answers whether there are more.
    pub(crate) fn add_trimmed(
        &self,
        filter: &Filter,
        walk: &mut FilterWalk,
        trimmed: &mut Option<Trim>,
    ) -> bool {
        self.visit_some(filter, walk, |_, entry| *trimmed = Trim::farther(*trimmed, entry.trim()))
    }

    /// How far any topic of a filter was trimmed, as far as a reader at `after` needs to know.
    pub(crate) fn trimmed_after(&self, filter: &Filter, after: Position) -> Option<Trim> {
        self.trimmed_soon(filter, after).unwrap_or_else(|| {
            let (mut walk, mut trimmed) = (FilterWalk::default(), None);
            while self.add_trimmed(filter, &mut walk, &mut trimmed) {}
            trimmed
        })
    }

    /// Looks which topics of a filter have the newest messages; answers whether there are more to look at.
    pub(crate) fn add_newest(
        &self,
        filter: &Filter,
        walk: &mut FilterWalk,
        newest: &mut NewestTopics,
    ) -> bool {
        self.visit_some(filter, walk, |id, entry| {
            let last = entry.recent.last().max(entry.sealed_last());
            if entry.count > 0 {
                newest.offer((last, id));
            }
        })
    }
}
