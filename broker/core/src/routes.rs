//! Which terms a topic matches: a table for topics, a tree of segments for patterns.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;
use tailwire_model::{Pattern, Position, Term, Topic};

use crate::tail::Tail;

/// The terms that have readers, each with its tail, known by a small number.
#[derive(Default)]
pub(crate) struct Routes {
    tails: Slab<Arc<Tail>>,
    topics: HashMap<Topic, usize>,
    patterns: Node,
}

/// A place in the tree: the patterns that begin with the segments on the way here.
#[derive(Default)]
struct Node {
    literal: HashMap<Box<str>, Node>,
    any: Option<Box<Node>>,
    /// The pattern that ends here.
    end: Option<usize>,
    /// The pattern that ends here with `**`.
    rest: Option<usize>,
}

impl Routes {
    pub(crate) fn is_empty(&self) -> bool {
        self.tails.is_empty()
    }

    /// For how many numbers there is room: each in use is below that.
    pub(crate) fn capacity(&self) -> usize {
        self.tails.capacity()
    }

    pub(crate) fn tail(&self, id: usize) -> Option<&Arc<Tail>> {
        self.tails.get(id)
    }

    /// The tail of a term; a new one begins at `floor`.
    pub(crate) fn tail_of(&mut self, term: &Term, floor: Position) -> Arc<Tail> {
        let slot = match term {
            Term::Topic(topic) => match self.topics.get_mut(topic) {
                Some(id) => return self.tails[*id].clone(),
                None => self.topics.entry(topic.clone()).or_default(),
            },
            Term::Pattern(pattern) => {
                let slot = self.patterns.slot(pattern);
                if let Some(id) = slot {
                    return self.tails[*id].clone();
                }
                slot.insert(0)
            }
        };
        let tail = Arc::new(Tail::new(floor));
        *slot = self.tails.insert(tail.clone());
        tail
    }

    /// Forgets a term, when the tail is still its.
    pub(crate) fn remove(&mut self, term: &Term, tail: &Arc<Tail>) {
        let id = match term {
            Term::Topic(topic) => self.topics.get(topic).copied(),
            Term::Pattern(pattern) => *self.patterns.slot(pattern),
        };
        let Some(id) = id.filter(|&id| Arc::ptr_eq(&self.tails[id], tail)) else { return };
        self.tails.remove(id);
        match term {
            Term::Topic(topic) => {
                self.topics.remove(topic);
            }
            Term::Pattern(pattern) => {
                *self.patterns.slot(pattern) = None;
                self.patterns.prune(pattern.segments());
            }
        }
    }

    /// Calls `found` with the number of each term that the topic matches.
    pub(crate) fn matching(&self, topic: &Topic, mut found: impl FnMut(usize)) {
        if let Some(&id) = self.topics.get(topic) {
            found(id);
        }
        let own = topic.is_reserved();
        self.patterns.matching(topic.as_str(), own, &mut found);
    }
}

impl Node {
    fn slot(&mut self, pattern: &Pattern) -> &mut Option<usize> {
        let mut node = self;
        for segment in pattern.segments() {
            node = match segment {
                "**" => return &mut node.rest,
                "*" => node.any.get_or_insert_default(),
                literal => node.literal.entry(literal.into()).or_default(),
            };
        }
        &mut node.end
    }

    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.any.is_none() && self.end.is_none() && self.rest.is_none()
    }

    /// Removes the nodes on the way of a forgotten pattern that hold nothing any more.
    fn prune<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>) {
        match segments.next() {
            None | Some("**") => {}
            Some("*") => {
                if let Some(node) = &mut self.any {
                    node.prune(segments);
                    self.any.take_if(|node| node.is_empty());
                }
            }
            Some(literal) => {
                if let Some(node) = self.literal.get_mut(literal) {
                    node.prune(segments);
                    if node.is_empty() {
                        self.literal.remove(literal);
                    }
                }
            }
        }
    }

    /// `own`: the first segment is the broker's own, which no wildcard matches.
    fn matching(&self, topic: &str, own: bool, found: &mut impl FnMut(usize)) {
        let (segment, rest) = match topic.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (topic, None),
        };
        if let Some(id) = self.rest.filter(|_| !own) {
            found(id);
        }
        let any = self.any.as_deref().filter(|_| !own);
        for node in any.into_iter().chain(self.literal.get(segment)) {
            match rest {
                Some(rest) => node.matching(rest, false, found),
                None => node.end.into_iter().for_each(&mut *found),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn matches(terms: &[&str], topic: &str) -> Vec<String> {
        let mut routes = Routes::default();
        let mut names = HashMap::new();
        for name in terms {
            let term = Term::parse(name).unwrap();
            let tail = routes.tail_of(&term, Position::ZERO);
            let id = routes.tails.iter().find(|(_, own)| Arc::ptr_eq(own, &tail)).unwrap().0;
            names.insert(id, (*name).to_owned());
        }
        let mut found = Vec::new();
        routes.matching(&Topic::parse(topic).unwrap(), |id| found.push(names[&id].clone()));
        found.sort();
        found
    }

    #[test]
    fn finds_exactly_the_terms_that_match() {
        let terms = ["a/b", "a/*", "*/b", "**", "a/**", "a", "*", "a/b/**", "a/*/c", "$sys/*", "*/x"];
        for topic in ["a", "a/b", "a/b/c", "b", "x/b", "$sys/x", "$sys", "a/b/c/d"] {
            let parsed = Topic::parse(topic).unwrap();
            let mut want: Vec<String> = terms
                .iter()
                .filter(|term| Term::parse(term).unwrap().matches(&parsed))
                .map(|term| (*term).to_owned())
                .collect();
            want.sort();
            assert_eq!(matches(&terms, topic), want, "{topic}");
        }
    }

    #[test]
    fn a_forgotten_term_leaves_nothing_behind() {
        let mut routes = Routes::default();
        for name in ["a/b", "a/*/c", "**", "a/**"] {
            let term = Term::parse(name).unwrap();
            let tail = routes.tail_of(&term, Position::ZERO);
            routes.remove(&term, &tail);
        }
        assert!(routes.is_empty() && routes.topics.is_empty() && routes.patterns.is_empty());
    }
}
