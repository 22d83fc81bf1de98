//! The algebra of terms: what two have in common, whether one holds all of another, and the least set that says the
//! same. The names of topics are the whole truth: nothing here looks at which topics exist.

use crate::{
    filter::{Filter, Term, begin_alike},
    limits::{NARROWED_TERMS_MAX, TOPIC_BYTES_MAX},
    tree::PatternTree,
};

/// The topics that say who listens: this, and the topic that is listened to.
const PRESENCE_PREFIX: &str = "$presence/";

impl Term {
    /// The term that matches just the topics that both match, if there are any.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Topic(topic), term) | (term, Self::Topic(topic)) => {
                term.matches(topic).then(|| Self::Topic(topic.clone()))
            }
            (Self::Pattern(one), Self::Pattern(two)) => {
                let (one, two) = (one.as_str(), two.as_str());
                begin_alike(one, two).then(|| common(one, two)).flatten()
            }
        }
    }

    /// Whether it matches every topic that the other matches. A `**` that has room for one segment only, at the greatest
    /// length of a topic, counts as one that has room for more.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (term, Self::Topic(topic)) => term.matches(topic),
            (Self::Topic(_), Self::Pattern(_)) => false,
            (Self::Pattern(own), Self::Pattern(other)) => {
                let (own, other) = (own.as_str(), other.as_str());
                begin_alike(own, other) && includes(own, other)
            }
        }
    }

    /// The topics that say who listens to these, if their names are not too long for there to be any.
    pub(crate) fn presence(&self) -> Option<Self> {
        let name = format!("{PRESENCE_PREFIX}{}", self.as_str());
        Self::parse(&name).ok()
    }

    /// The topics that are listened to, where these say who listens.
    #[must_use]
    pub fn listened(&self) -> Option<Self> {
        Self::parse(self.as_str().strip_prefix(PRESENCE_PREFIX)?).ok()
    }
}

/// The intersection of two patterns, segment by segment.
fn common(one: &str, two: &str) -> Option<Term> {
    let (mut ones, mut twos) = (one.split('/'), two.split('/'));
    let mut name = String::new();
    loop {
        let is_first = name.is_empty();
        // The rest of the other, for where one of them ends in `**`: it takes a segment at least.
        let (rest_of_one, rest_of_two) = (ones.clone(), twos.clone());
        match (ones.next(), twos.next()) {
            (None, None) => break,
            (Some("**"), Some(segment)) if takes(is_first, segment) => {
                rest_of_two.for_each(|segment| push(&mut name, segment));
                break;
            }
            (Some(segment), Some("**")) if takes(is_first, segment) => {
                rest_of_one.for_each(|segment| push(&mut name, segment));
                break;
            }
            (Some("*"), Some(segment)) | (Some(segment), Some("*")) if takes(is_first, segment) => {
                push(&mut name, segment);
            }
            (Some(one), Some(two)) if one == two => push(&mut name, one),
            _ => return None,
        }
    }
    // A pattern may be shorter than every topic that it matches, but not longer, save by the second star of a `**`.
    if name.len() == TOPIC_BYTES_MAX + 1 && name.ends_with("/**") {
        name.pop();
    }
    // The segments are those of valid patterns, so only the length can be wrong: then no topic matches.
    Term::parse(&name).ok()
}

/// Whether a wildcard takes this segment of the other pattern: in the first place not the broker's own.
fn takes(is_first: bool, segment: &str) -> bool {
    !(is_first && segment.starts_with('$'))
}

fn push(name: &mut String, segment: &str) {
    if !name.is_empty() {
        name.push('/');
    }
    name.push_str(segment);
}

/// Whether a pattern matches every topic that another matches.
fn includes(own: &str, other: &str) -> bool {
    let mut others = other.split('/');
    for (index, want) in own.split('/').enumerate() {
        let Some(have) = others.next() else { return false };
        match want {
            "*" | "**" if !takes(index == 0, have) => return false,
            "**" => return true,
            "*" if have != "**" => {}
            literal if literal == have => {}
            _ => return false,
        }
    }
    others.next().is_none()
}

/// The same set of topics by as few of the terms, sorted: none of them covers another.
pub(crate) fn minimise(mut terms: Vec<Term>) -> Vec<Term> {
    terms.sort_unstable();
    terms.dedup();
    let mut patterns = PatternTree::default();
    for term in &terms {
        if let Term::Pattern(pattern) = term {
            patterns.insert(pattern, pattern.clone());
        }
    }
    // Two that differ don't cover each other: a set of topics has one way to be written as a term.
    terms.retain(|term| !patterns.any_covers(term, |pattern| pattern.as_str() != term.as_str()));
    terms
}

/// The intersection of a filter and a set of terms, if [`NARROWED_TERMS_MAX`] terms can say it. The bound is on what the
/// pairs have in common, which may say the same more than once, since it also bounds the work.
pub(crate) fn narrow(filter: Filter, grants: &[Term]) -> Option<Filter> {
    let mut narrowed = std::collections::BTreeSet::new();
    for term in minimise(filter.into_terms()) {
        if grants.iter().any(|grant| grant.covers(&term)) {
            narrowed.insert(term);
        } else {
            narrowed.extend(grants.iter().filter_map(|grant| grant.intersect(&term)));
        }
        if narrowed.len() > NARROWED_TERMS_MAX {
            return None;
        }
    }
    let terms = minimise(narrowed.into_iter().collect());
    Some(Filter::union(&terms))
}

#[cfg(test)]
mod tests;
