//! Terms and filters: which topics a subscription asks for. Matching is by whole segments.

use std::fmt;

use crate::{
    limits::FILTER_TERMS_MAX,
    topic::{self, Topic, TopicError},
};

/// An expression over topics: `*` is one segment; `**`, last only, one or more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Topic);

/// One topic or pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// One topic.
    Topic(Topic),
    /// All topics that match.
    Pattern(Pattern),
}

/// The set of terms that one subscription asks for: sorted, without repeats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter(Vec<Term>);

/// Why a set of strings is not a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A term is neither a topic nor a pattern.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A `*` inside a segment, or a `**` before the last.
    #[error("a wildcard is a whole segment, and `**` is the last one")]
    Wildcard,
    /// More terms than [`FILTER_TERMS_MAX`].
    #[error("a filter has at most 100 terms")]
    TooMany,
}

impl Pattern {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The segments as written.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.segments()
    }

    /// The topics that it can match all begin with this: the text before the first wildcard.
    pub fn prefix(&self) -> &str {
        let text = self.as_str();
        &text[..text.find('*').unwrap_or(text.len())]
    }

    /// Whether a topic matches.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.matches_name(topic.as_str())
    }

    /// Whether the topic of this name matches: for those who keep names in another form than topics.
    pub fn matches_name(&self, topic: &str) -> bool {
        if !begin_alike(self.as_str(), topic) {
            return false;
        }
        let mut segments = topic.split('/');
        for (index, want) in self.segments().enumerate() {
            let Some(have) = segments.next() else { return false };
            match want {
                "*" | "**" if index == 0 && have.starts_with('$') => return false,
                "**" => return true,
                "*" => {}
                literal if literal == have => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

/// Whether two terms are the same up to the first wildcard of either. If not, they have nothing in common, which is so for
/// most of many and takes no look at their segments.
pub(crate) fn begin_alike(one: &str, two: &str) -> bool {
    for (own, other) in one.bytes().zip(two.bytes()) {
        if own == b'*' || other == b'*' {
            return true;
        }
        if own != other {
            return false;
        }
    }
    // One is the beginning of the other, which may go on with a wildcard: the segments tell.
    true
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.as_str())
    }
}

impl Term {
    /// Parses a decoded name: a pattern if a segment of it is a wildcard, else a topic.
    ///
    /// # Errors
    /// A [`FilterError`] that says which rule the name breaks.
    pub fn parse(name: &str) -> Result<Self, FilterError> {
        topic::check(name)?;
        if !name.contains('*') {
            return Ok(Self::Topic(Topic::parse(name)?));
        }
        let last = name.split('/').count() - 1;
        let well_formed = name.split('/').enumerate().all(|(index, segment)| match segment {
            "*" => true,
            "**" => index == last,
            other => !other.contains('*'),
        });
        if well_formed {
            Ok(Self::Pattern(Pattern(Topic::unchecked(name))))
        } else {
            Err(FilterError::Wildcard)
        }
    }

    /// The term as written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Topic(topic) => topic.as_str(),
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }

    /// Whether only the broker's own topics are meant.
    pub fn is_reserved(&self) -> bool {
        self.as_str().starts_with('$')
    }

    /// Whether a topic is meant.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.matches_name(topic.as_str())
    }

    /// See [`Pattern::matches_name`].
    pub fn matches_name(&self, topic: &str) -> bool {
        match self {
            Self::Topic(own) => own.as_str() == topic,
            Self::Pattern(pattern) => pattern.matches_name(topic),
        }
    }
}

impl Filter {
    /// A filter of these terms.
    ///
    /// # Errors
    /// [`FilterError::TooMany`].
    pub fn new(mut terms: Vec<Term>) -> Result<Self, FilterError> {
        terms.sort_unstable();
        terms.dedup();
        if terms.len() > FILTER_TERMS_MAX { Err(FilterError::TooMany) } else { Ok(Self(terms)) }
    }

    /// A filter of any number of terms, each of which came in a bounded one.
    pub fn union<'a>(terms: impl IntoIterator<Item = &'a Term>) -> Self {
        let mut terms: Vec<Term> = terms.into_iter().cloned().collect();
        terms.sort_unstable();
        terms.dedup();
        Self(terms)
    }

    /// The terms, sorted.
    pub fn terms(&self) -> &[Term] {
        &self.0
    }

    /// The terms, sorted.
    pub(crate) fn into_terms(self) -> Vec<Term> {
        self.0
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The topic, when the filter is just one.
    pub fn only_topic(&self) -> Option<&Topic> {
        match self.0.as_slice() {
            [Term::Topic(topic)] => Some(topic),
            _ => None,
        }
    }

    /// Whether any of its terms is a pattern, which may stand for as many topics as there are.
    pub fn has_patterns(&self) -> bool {
        self.0.iter().any(|term| matches!(term, Term::Pattern(_)))
    }

    /// Whether a topic is asked for.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.matches_name(topic.as_str())
    }

    /// See [`Pattern::matches_name`].
    pub fn matches_name(&self, topic: &str) -> bool {
        self.0.iter().any(|term| term.matches_name(topic))
    }
}

impl From<Term> for Filter {
    fn from(term: Term) -> Self {
        Self(vec![term])
    }
}

impl From<Topic> for Filter {
    fn from(topic: Topic) -> Self {
        Self(vec![Term::Topic(topic)])
    }
}
