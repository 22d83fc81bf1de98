//! A tree of patterns by their segments: finds the patterns that a topic matches by the segments of its name, however many
//! patterns there are.

use std::collections::HashMap;

use crate::{
    filter::{Pattern, Term},
    topic::Topic,
};

/// A map from patterns to values, asked by topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternTree<T> {
    root: TreeNode<T>,
}

/// The patterns that begin with the segments on the way to this node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TreeNode<T> {
    literal: HashMap<Box<str>, Self>,
    any: Option<Box<Self>>,
    /// The pattern that ends here.
    end: Option<T>,
    /// The pattern that ends here with `**`.
    rest: Option<T>,
}

impl<T> Default for PatternTree<T> {
    fn default() -> Self {
        Self { root: TreeNode::default() }
    }
}

impl<T> Default for TreeNode<T> {
    fn default() -> Self {
        Self { literal: HashMap::new(), any: None, end: None, rest: None }
    }
}

impl<T> PatternTree<T> {
    /// Whether it has no pattern.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// The value of a pattern.
    pub fn get(&self, pattern: &Pattern) -> Option<&T> {
        let mut node = &self.root;
        for segment in pattern.segments() {
            node = match segment {
                "**" => return node.rest.as_ref(),
                "*" => node.any.as_deref()?,
                literal => node.literal.get(literal)?,
            };
        }
        node.end.as_ref()
    }

    /// Sets the value of a pattern, and returns the one that it had.
    pub fn insert(&mut self, pattern: &Pattern, value: T) -> Option<T> {
        let mut node = &mut self.root;
        for segment in pattern.segments() {
            node = match segment {
                "**" => return node.rest.replace(value),
                "*" => node.any.get_or_insert_default(),
                literal => node.literal.entry(literal.into()).or_default(),
            };
        }
        node.end.replace(value)
    }

    /// Removes a pattern, and the nodes that only it needed.
    pub fn remove(&mut self, pattern: &Pattern) -> Option<T> {
        self.root.remove(pattern.segments())
    }

    /// Calls `found` with the value of each pattern that the topic matches, the most special one first: at the first segment
    /// in which two patterns differ, a name is more special than `*`, and that more than `**`.
    pub fn matching<'a>(&'a self, topic: &Topic, mut found: impl FnMut(&'a T)) {
        self.root.matching(topic.as_str(), topic.is_reserved(), &mut found);
    }

    /// The same, for a name that is known to be a topic's.
    pub fn matching_name<'a>(&'a self, topic: &str, mut found: impl FnMut(&'a T)) {
        self.root.matching(topic, topic.starts_with('$'), &mut found);
    }

    /// Whether one of the patterns that cover a term, each of whose topics they match, is accepted.
    pub fn any_covers(&self, term: &Term, mut accept: impl FnMut(&T) -> bool) -> bool {
        self.root.any_covers(term.as_str(), term.is_reserved(), &mut accept)
    }

    /// The most nodes that any topic's look-up can visit beyond one for each segment of its name: the bound of what overlapping
    /// patterns add to a look-up.
    pub fn detours_max(&self) -> usize {
        self.root.visits_max() - self.root.depth()
    }
}

impl<T> TreeNode<T> {
    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.any.is_none() && self.end.is_none() && self.rest.is_none()
    }

    fn remove<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>) -> Option<T> {
        match segments.next() {
            None => self.end.take(),
            Some("**") => self.rest.take(),
            Some("*") => {
                let removed = self.any.as_mut()?.remove(segments);
                self.any.take_if(|node| node.is_empty());
                removed
            }
            Some(literal) => {
                let node = self.literal.get_mut(literal)?;
                let removed = node.remove(segments);
                if node.is_empty() {
                    self.literal.remove(literal);
                }
                removed
            }
        }
    }

    /// `reserved`: the first segment is the broker's own, which no wildcard matches.
    fn matching<'a>(&'a self, name: &str, reserved: bool, found: &mut impl FnMut(&'a T)) {
        let (segment, rest) = match name.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (name, None),
        };
        // Most trees have few kinds of segments at a node: an empty table needs no hash.
        let literal = if self.literal.is_empty() { None } else { self.literal.get(segment) };
        let any = self.any.as_deref().filter(|_| !reserved);
        for node in literal.into_iter().chain(any) {
            match rest {
                Some(rest) => node.matching(rest, false, found),
                None => node.end.iter().for_each(&mut *found),
            }
        }
        self.rest.iter().filter(|_| !reserved).for_each(found);
    }

    /// As [`TreeNode::matching`], for a name that may have wildcards: a `*` is covered by wildcards alone, a `**` by `**` alone.
    fn any_covers(&self, name: &str, reserved: bool, accept: &mut impl FnMut(&T) -> bool) -> bool {
        if !reserved && self.rest.as_ref().is_some_and(&mut *accept) {
            return true;
        }
        let (segment, rest) = match name.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (name, None),
        };
        if segment == "**" {
            return false;
        }
        // No node has a wildcard among its literal segments.
        let literal = if self.literal.is_empty() { None } else { self.literal.get(segment) };
        let any = self.any.as_deref().filter(|_| !reserved);
        literal.into_iter().chain(any).any(|node| match rest {
            Some(rest) => node.any_covers(rest, false, accept),
            None => node.end.as_ref().is_some_and(&mut *accept),
        })
    }

    /// The nodes on the longest way down.
    fn depth(&self) -> usize {
        let children = self.literal.values().chain(self.any.as_deref());
        1 + children.map(Self::depth).max().unwrap_or(0)
    }

    fn visits_max(&self) -> usize {
        let literal = self.literal.values().map(Self::visits_max).max().unwrap_or(0);
        1 + literal + self.any.as_ref().map_or(0, |node| node.visits_max())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pattern(text: &str) -> Pattern {
        match Term::parse(text).unwrap() {
            Term::Pattern(pattern) => pattern,
            Term::Topic(_) => panic!("{text} is a topic"),
        }
    }

    fn tree(patterns: &[&'static str]) -> PatternTree<&'static str> {
        let mut tree = PatternTree::default();
        for text in patterns {
            assert_eq!(tree.insert(&pattern(text), *text), None);
        }
        tree
    }

    const PATTERNS: [&str; 10] =
        ["**", "*", "*/b", "*/x", "a/*", "a/**", "a/b/**", "a/*/c", "$sys/*", "*/*/**"];

    #[test]
    fn finds_exactly_the_patterns_that_match_the_most_special_first() {
        let tree = tree(&PATTERNS);
        for name in ["a", "a/b", "a/b/c", "b", "x/b", "$sys/x", "$sys", "a/b/c/d", "a/x"] {
            let topic = Topic::parse(name).unwrap();
            let mut found = Vec::new();
            tree.matching(&topic, |text| found.push(*text));
            let mut want: Vec<_> =
                PATTERNS.iter().copied().filter(|text| pattern(text).matches(&topic)).collect();
            let width = |segment: &str| match segment {
                "*" => 1,
                "**" => 2,
                _ => 0,
            };
            want.sort_by_key(|text| text.split('/').map(width).collect::<Vec<_>>());
            assert_eq!(found, want, "{name}");
        }
    }

    #[test]
    fn a_removed_pattern_leaves_nothing_behind() {
        let mut tree = tree(&PATTERNS);
        assert_eq!(tree.remove(&pattern("z/*")), None);
        for text in PATTERNS {
            assert_eq!(tree.get(&pattern(text)), Some(&text));
            assert_eq!(tree.remove(&pattern(text)), Some(text));
            assert_eq!(tree.get(&pattern(text)), None);
        }
        assert!(tree.is_empty());
    }

    #[test]
    fn the_cost_of_a_look_up_is_known() {
        assert_eq!(PatternTree::<u8>::default().detours_max(), 0);
        assert_eq!(tree(&["a/*", "b/*", "c/**"]).detours_max(), 0);
        assert_eq!(
            tree(&["*/*/*/*/*/a", "*/*/*/*/*/b/**"]).detours_max(),
            0,
            "a long name has as many segments"
        );
        assert_eq!(tree(&["a/b/*", "*/b/*", "a/*/*", "*/*/*"]).detours_max(), 2 + 4 + 4 - 3);
    }
}
