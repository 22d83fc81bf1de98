//! The options of topics: what is kept, for how long, and how surely, set per topic or pattern, and the rule by which
//! several of them make one. Pure: who stores them and who carries them out is not known here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use crate::{
    filter::Term,
    limits::{OPTIONS_DETOURS_MAX, OPTIONS_MAX},
    topic::Topic,
    tree::PatternTree,
};

/// The guarantee of a receipt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The message is on the disk before it is acknowledged or delivered.
    #[default]
    Sync,
    /// It is acknowledged and delivered once written, and on the disk within
    /// [`RELAXED_FLUSH_MS`](crate::limits::RELAXED_FLUSH_MS): a power cut may take back that much.
    Relaxed,
    /// It is never stored: a bounded ring in memory holds the newest.
    Memory,
}

/// Which messages of a topic stay, apart from its bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Keep {
    /// All.
    #[default]
    All,
    /// Of each `key` the newest, and all that have none.
    Compact,
    /// The newest.
    Last,
}

/// An upper bound; [`Bound::NONE`] says that there is none, where a less special option would set one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bound(pub u64);

impl Bound {
    /// No bound.
    pub const NONE: Self = Self(u64::MAX);

    /// The bound, if it is one.
    pub const fn get(self) -> Option<u64> {
        if self.0 == u64::MAX { None } else { Some(self.0) }
    }
}

/// The options of one term. An option that is not set is left to a less special term, and in the end to the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The guarantee of a receipt.
    pub durability: Option<Durability>,
    /// How old a message may get, in milliseconds.
    pub max_age_ms: Option<Bound>,
    /// How many messages a topic may hold.
    pub max_messages: Option<Bound>,
    /// How many bytes a topic's messages may take, as [`Draft::cost`](crate::Draft::cost) counts them.
    pub max_bytes: Option<Bound>,
    /// Which messages stay.
    pub keep: Option<Keep>,
    /// What feeds of the term are called. It is the term's own, and says nothing of others.
    pub title: Option<Arc<str>>,
    /// What feeds of the term are about; the term's own, too.
    pub description: Option<Arc<str>>,
}

impl Options {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and from `other` what they leave open.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            durability: self.durability.or(other.durability),
            max_age_ms: self.max_age_ms.or(other.max_age_ms),
            max_messages: self.max_messages.or(other.max_messages),
            max_bytes: self.max_bytes.or(other.max_bytes),
            keep: self.keep.or(other.keep),
            title: self.title.or_else(|| other.title.clone()),
            description: self.description.or_else(|| other.description.clone()),
        }
    }
}

/// The rule of a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rule {
    /// The guarantee of a receipt.
    pub durability: Durability,
    /// How old a message may get, in milliseconds.
    pub max_age_ms: Option<u64>,
    /// How many messages the topic may hold.
    pub max_messages: Option<u64>,
    /// How many bytes they may take.
    pub max_bytes: Option<u64>,
    /// Which messages stay; all where they are never stored.
    pub keep: Keep,
}

impl From<Options> for Rule {
    fn from(options: Options) -> Self {
        let durability = options.durability.unwrap_or_default();
        let keep = options.keep.filter(|_| durability != Durability::Memory);
        Self {
            durability,
            max_age_ms: options.max_age_ms.and_then(Bound::get),
            max_messages: options.max_messages.and_then(Bound::get),
            max_bytes: options.max_bytes.and_then(Bound::get),
            keep: keep.unwrap_or_default(),
        }
    }
}

/// The options of all terms: those that clients set, over those of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    topics: HashMap<Topic, Options>,
    patterns: PatternTree<Options>,
    set: BTreeMap<Term, Options>,
    configured: BTreeMap<Term, Options>,
    compacts: bool,
}

/// There are as many options as there may be, or their patterns overlap so much that a look-up would cost too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "options can be set for at most {OPTIONS_MAX} topics and patterns, and the patterns may overlap only so far that looking up \
     a topic meets {OPTIONS_DETOURS_MAX} segments of them beyond its own"
)]
pub struct TooManyOptions;

impl Rules {
    /// Rules of a configuration, and what clients have set over it.
    pub fn new(
        configured: impl IntoIterator<Item = (Term, Options)>,
        set: impl IntoIterator<Item = (Term, Options)>,
    ) -> Self {
        let (configured, set) = (configured.into_iter().collect(), set.into_iter().collect());
        let mut rules = Self { configured, set, ..Self::default() };
        rules.arrange();
        rules
    }

    /// Sets what holds for a term, or with empty options takes it back.
    ///
    /// # Errors
    /// [`TooManyOptions`].
    pub fn change(&mut self, term: &Term, options: Options) -> Result<(), TooManyOptions> {
        if options.is_empty() {
            self.set.remove(term);
            self.arrange();
            return Ok(());
        }
        if self.set.len() >= OPTIONS_MAX && !self.set.contains_key(term) {
            return Err(TooManyOptions);
        }
        let before = self.set.insert(term.clone(), options);
        self.arrange();
        if before.is_none() && self.patterns.detours_max() > OPTIONS_DETOURS_MAX {
            self.set.remove(term);
            self.arrange();
            return Err(TooManyOptions);
        }
        Ok(())
    }

    /// The options of just this term, by clients and by the configuration.
    pub fn own(&self, term: &Term) -> Options {
        let find = |list: &BTreeMap<Term, Options>| list.get(term).cloned().unwrap_or_default();
        find(&self.set).or(&find(&self.configured))
    }

    /// For how many terms clients have set something.
    pub fn set_count(&self) -> usize {
        self.set.len()
    }

    /// Every term that something is set for, with what is set for just it: topics, then patterns, each by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Term, Options)> {
        let terms: BTreeSet<&Term> = self.set.keys().chain(self.configured.keys()).collect();
        terms.into_iter().map(|term| (term, self.own(term)))
    }

    /// The rule of a topic: of each option the one that the most special term sets. A topic is more special than a
    /// pattern; of two patterns, at the first segment in which they differ, a name is more special than `*`, and that
    /// more than `**`.
    pub fn of(&self, topic: &Topic) -> Rule {
        if self.is_empty() {
            return Rule::default();
        }
        let mut options = self.topics.get(topic).cloned().unwrap_or_default();
        self.patterns.matching(topic, |more| options = mem::take(&mut options).or(more));
        options.into()
    }

    /// Whether messages of any topic lose their place to newer ones.
    pub const fn compacts(&self) -> bool {
        self.compacts
    }

    /// Whether every topic has the default.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.patterns.is_empty()
    }

    /// Every bound on age that holds anywhere, each once, in milliseconds.
    pub fn ages_ms(&self) -> Vec<u64> {
        let options = self.iter().map(|(_, options)| options);
        let mut ages: Vec<u64> =
            options.filter_map(|options| options.max_age_ms.and_then(Bound::get)).collect();
        ages.sort_unstable();
        ages.dedup();
        ages
    }

    fn arrange(&mut self) {
        let mut topics = HashMap::new();
        let mut patterns = PatternTree::default();
        let mut compacts = false;
        for (term, options) in self.iter() {
            compacts |= options.keep.is_some_and(|keep| keep != Keep::All);
            // What a term is called holds for no other.
            let options = Options { title: None, description: None, ..options };
            match term {
                Term::Topic(topic) => drop(topics.insert(topic.clone(), options)),
                Term::Pattern(pattern) => drop(patterns.insert(pattern, options)),
            }
        }
        (self.topics, self.patterns, self.compacts) = (topics, patterns, compacts);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn term(text: &str) -> Term {
        Term::parse(text).unwrap()
    }

    fn messages(count: u64) -> Options {
        Options { max_messages: Some(Bound(count)), ..Options::default() }
    }

    fn rule(rules: &Rules, topic: &str) -> Rule {
        rules.of(&Topic::parse(topic).unwrap())
    }

    #[test]
    fn the_most_special_term_wins_option_by_option() {
        let aged = Options { max_age_ms: Some(Bound(9)), keep: Some(Keep::Last), ..messages(1) };
        let configured = vec![
            (term("**"), aged),
            (term("a/**"), messages(2)),
            (term("a/*"), messages(3)),
            (term("*/b"), messages(4)),
        ];
        let mut rules = Rules::new(configured, vec![]);
        let max = |rules: &Rules, topic| rule(rules, topic).max_messages;
        assert_eq!(max(&rules, "a/b"), Some(3));
        assert_eq!(max(&rules, "a/b/c"), Some(2));
        assert_eq!(max(&rules, "x/b"), Some(4));
        assert_eq!(max(&rules, "x"), Some(1));
        assert_eq!(rule(&rules, "a/b").max_age_ms, Some(9));
        assert_eq!(rule(&rules, "$sys/a"), Rule::default());
        rules
            .change(&term("a/b"), Options { max_messages: Some(Bound::NONE), ..Options::default() })
            .unwrap();
        assert_eq!((max(&rules, "a/b"), rule(&rules, "a/b").keep), (None, Keep::Last));
        rules.change(&term("a/**"), messages(7)).unwrap();
        assert_eq!(max(&rules, "a/x/y"), Some(7));
        rules.change(&term("a/**"), Options::default()).unwrap();
        rules.change(&term("a/b"), Options::default()).unwrap();
        assert_eq!((max(&rules, "a/b"), max(&rules, "a/x/y")), (Some(3), Some(2)));
        assert_eq!(rules.ages_ms(), [9]);
    }

    #[test]
    fn what_is_set_is_listed_once_each_term() {
        let aged = Options { max_age_ms: Some(Bound(9)), ..Options::default() };
        let mut rules = Rules::new(
            vec![(term("**"), messages(1)), (term("b"), aged.clone())],
            vec![(term("a/*"), aged.clone())],
        );
        rules.change(&term("b"), messages(2)).unwrap();
        let listed: Vec<_> = rules.iter().map(|(term, options)| (term.as_str(), options)).collect();
        let both = Options { max_age_ms: Some(Bound(9)), ..messages(2) };
        assert_eq!(listed, [("b", both), ("**", messages(1)), ("a/*", aged)]);
    }

    #[test]
    fn what_is_never_stored_is_not_compacted() {
        let memory = Options { durability: Some(Durability::Memory), ..Options::default() };
        let compact = Options { keep: Some(Keep::Compact), ..Options::default() };
        let rules = Rules::new(vec![(term("**"), compact), (term("m/*"), memory)], vec![]);
        assert_eq!((rule(&rules, "m/a").keep, rule(&rules, "a").keep), (Keep::All, Keep::Compact));
    }

    #[test]
    fn patterns_that_would_make_every_look_up_slow_are_refused() {
        let mut rules = Rules::default();
        let names = |depth: u32| {
            (0..1 << depth).map(move |bits: u32| {
                let segments = (0..depth).map(|at| if bits >> at & 1 == 0 { "*" } else { "a" });
                segments.chain(["**"]).collect::<Vec<_>>().join("/")
            })
        };
        let refused = names(8).filter(|name| rules.change(&term(name), messages(1)).is_err()).count();
        assert!((1..256).contains(&refused), "{refused}");
        assert!(rules.patterns.detours_max() <= OPTIONS_DETOURS_MAX);
        // Refusing changes nothing, and what is set can be set anew.
        let set = rules.set_count();
        assert_eq!(set, 256 - refused);
        let first = names(8).next().unwrap();
        assert_eq!(rules.change(&term(&first), messages(2)), Ok(()));
        assert_eq!(rule(&rules, "b/b/b/b/b/b/b/b/b").max_messages, Some(2));
        // A thousand tenants are no trouble.
        let mut tenants = Rules::default();
        for n in 0..OPTIONS_MAX {
            tenants.change(&term(&format!("tenant-{n}/**")), messages(1)).unwrap();
        }
        assert_eq!(tenants.patterns.detours_max(), 0);
    }

    #[test]
    fn there_is_an_end_to_options() {
        let mut rules = Rules::default();
        for n in 0..OPTIONS_MAX {
            rules.change(&term(&format!("t/{n}")), messages(1)).unwrap();
        }
        assert_eq!(rules.change(&term("one/more"), messages(1)), Err(TooManyOptions));
        assert_eq!(rules.change(&term("t/0"), messages(2)), Ok(()));
        assert_eq!(rules.change(&term("one/more"), Options::default()), Ok(()));
    }
}
