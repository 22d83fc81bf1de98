//! Which terms a topic matches: a table for topics, a tree for patterns.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;
use tailwire_model::{PatternTree, Position, Term, Topic};

use crate::tail::Tail;

/// The terms that have readers, each with its tail, known by a small number.
#[derive(Default)]
pub(crate) struct TermRoutes {
    tails: Slab<Arc<Tail>>,
    topics: HashMap<Topic, usize>,
    patterns: PatternTree<usize>,
}

impl TermRoutes {
    pub(crate) fn is_empty(&self) -> bool {
        self.tails.is_empty()
    }

    /// For how many numbers there is room: each in use is below that.
    pub(crate) fn capacity(&self) -> usize {
        self.tails.capacity()
    }

    /// All of them.
    pub(crate) fn tails(&self) -> impl Iterator<Item = &Arc<Tail>> {
        self.tails.iter().map(|(_, tail)| tail)
    }

    pub(crate) fn tail(&self, id: usize) -> Option<&Arc<Tail>> {
        self.tails.get(id)
    }

    /// The tail of a term; a new one begins at `floor`.
    pub(crate) fn tail_of(&mut self, term: &Term, floor: Position) -> Arc<Tail> {
        let known = match term {
            Term::Topic(topic) => self.topics.get(topic),
            Term::Pattern(pattern) => self.patterns.get(pattern),
        };
        if let Some(&id) = known {
            return self.tails[id].clone();
        }
        let tail = Arc::new(Tail::new(floor));
        let id = self.tails.insert(tail.clone());
        match term {
            Term::Topic(topic) => drop(self.topics.insert(topic.clone(), id)),
            Term::Pattern(pattern) => drop(self.patterns.insert(pattern, id)),
        }
        tail
    }

    /// Forgets a term, when the tail is still its.
    pub(crate) fn remove(&mut self, term: &Term, tail: &Arc<Tail>) {
        let id = match term {
            Term::Topic(topic) => self.topics.get(topic).copied(),
            Term::Pattern(pattern) => self.patterns.get(pattern).copied(),
        };
        let Some(id) = id.filter(|&id| Arc::ptr_eq(&self.tails[id], tail)) else { return };
        self.tails.remove(id);
        match term {
            Term::Topic(topic) => drop(self.topics.remove(topic)),
            Term::Pattern(pattern) => drop(self.patterns.remove(pattern)),
        }
    }

    /// Calls `found` with the number of each term that the topic matches.
    pub(crate) fn matching(&self, topic: &Topic, mut found: impl FnMut(usize)) {
        if let Some(&id) = self.topics.get(topic) {
            found(id);
        }
        self.patterns.matching(topic, |&id| found(id));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn matches(terms: &[&str], topic: &str) -> Vec<String> {
        let mut routes = TermRoutes::default();
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
        let mut routes = TermRoutes::default();
        for name in ["a/b", "a/*/c", "**", "a/**"] {
            let term = Term::parse(name).unwrap();
            let tail = routes.tail_of(&term, Position::ZERO);
            routes.remove(&term, &tail);
        }
        assert!(routes.is_empty() && routes.topics.is_empty() && routes.patterns.is_empty());
    }
}
