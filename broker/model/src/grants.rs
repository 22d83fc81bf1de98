//! Grants: what a principal may do, as sets of terms that are summed. Nothing is denied, so a filter can be narrowed to
//! what is granted once, when a reader opens, and no delivery asks again.

use std::fmt;

use crate::{
    filter::{Filter, Term},
    intersection::{minimise, narrow},
    topic::Topic,
};

/// The actions that can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Reading messages, by any transport.
    Subscribe,
    /// Adding messages.
    Publish,
    /// Removing messages, and setting options.
    Manage,
    /// Seeing who listens: the topics `$presence/…`, without their first segment.
    Presence,
}

/// The grants of a principal: for each action a set of terms, none of which covers another.
///
/// A wildcard in the first segment matches no topic of the broker's own, so a grant of `**` gives none of them. A term
/// that names such a first segment, as `$sys/**`, gives those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    subscribe: Vec<Term>,
    publish: Vec<Term>,
    manage: Vec<Term>,
    presence: Vec<Term>,
    /// The readable terms: `subscribe`, and the topics `$presence/…` of `presence`.
    readable: Vec<Term>,
}

/// The principal may not do that. What it may do is no part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not permitted to {action} {}{}", .term.as_str(), .cause.suffix())]
pub struct Forbidden {
    /// The action that was asked for.
    pub action: Action,
    /// Of what.
    pub term: Term,
    /// Why not.
    pub cause: ForbiddenCause,
}

/// Why something is forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForbiddenCause {
    /// No grant permits it.
    NotGranted,
    /// The part of the filter that is permitted has too many terms: the client has to ask for less at a time.
    TooManyTerms,
}

impl ForbiddenCause {
    const fn suffix(self) -> &'static str {
        match self {
            Self::NotGranted => "",
            Self::TooManyTerms => " at once: what is permitted of it has more than 1,000 terms",
        }
    }
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Subscribe, Self::Publish, Self::Manage, Self::Presence];

    /// Its name, in configuration, claims and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Manage => "manage",
            Self::Presence => "presence",
        }
    }

    /// The action of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Grants {
    /// Nothing.
    pub const NONE: Self = Self {
        subscribe: Vec::new(),
        publish: Vec::new(),
        manage: Vec::new(),
        presence: Vec::new(),
        readable: Vec::new(),
    };

    /// The sum of these.
    pub fn new(granted: impl IntoIterator<Item = (Action, Term)>) -> Self {
        let mut grants = Self::NONE;
        for (action, term) in granted {
            grants.terms_mut(action).push(term);
        }
        for action in Action::ALL {
            let terms = std::mem::take(grants.terms_mut(action));
            *grants.terms_mut(action) = minimise(terms);
        }
        let presence = grants.presence.iter().filter_map(Term::presence);
        grants.readable = minimise(grants.subscribe.iter().cloned().chain(presence).collect());
        grants
    }

    /// The sum of several.
    pub fn sum<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::new(parts.into_iter().flat_map(Self::all).map(|(action, term)| (action, term.clone())))
    }

    /// All that is granted.
    pub fn all(&self) -> impl Iterator<Item = (Action, &Term)> {
        Action::ALL.into_iter().flat_map(|action| self.terms(action).iter().map(move |term| (action, term)))
    }

    /// Their memory, roughly, in bytes.
    pub fn cost(&self) -> usize {
        let terms = self.all().map(|(_, term)| term).chain(&self.readable);
        terms.map(|term| 48 + term.as_str().len()).sum()
    }

    /// The terms of an action, sorted.
    pub fn terms(&self, action: Action) -> &[Term] {
        match action {
            Action::Subscribe => &self.subscribe,
            Action::Publish => &self.publish,
            Action::Manage => &self.manage,
            Action::Presence => &self.presence,
        }
    }

    fn terms_mut(&mut self, action: Action) -> &mut Vec<Term> {
        match action {
            Action::Subscribe => &mut self.subscribe,
            Action::Publish => &mut self.publish,
            Action::Manage => &mut self.manage,
            Action::Presence => &mut self.presence,
        }
    }

    /// The terms that decide about an action. Reading `$presence/a` takes a grant of `presence` on `a`, or of `subscribe`
    /// on `$presence/a` itself.
    fn deciding(&self, action: Action) -> &[Term] {
        if action == Action::Subscribe { &self.readable } else { self.terms(action) }
    }

    /// All that may be read, as a filter.
    pub fn readable(&self) -> Filter {
        Filter::union(&self.readable)
    }

    /// The grant that permits an action on a term as a whole, if there is one.
    pub fn permitting(&self, action: Action, term: &Term) -> Option<&Term> {
        self.deciding(action).iter().find(|grant| grant.covers(term))
    }

    /// Whether an action is permitted on the topic of this name.
    pub fn permits_name(&self, action: Action, topic: &str) -> bool {
        self.deciding(action).iter().any(|grant| grant.matches_name(topic))
    }

    /// The part of a filter that may be read: a pattern is narrowed to what is granted.
    ///
    /// # Errors
    /// [`Forbidden`] with the first named topic that isn't granted; or with the first term, where nothing is left.
    pub fn permit_subscribe(&self, filter: Filter) -> Result<Filter, Forbidden> {
        self.permit_part(Action::Subscribe, filter)
    }

    /// The part of a filter whose listeners may be seen, as for [`Grants::permit_subscribe`]. The filter names the
    /// topics that are listened to, without `$presence/`.
    ///
    /// # Errors
    /// As for [`Grants::permit_subscribe`].
    pub fn permit_presence(&self, filter: Filter) -> Result<Filter, Forbidden> {
        self.permit_part(Action::Presence, filter)
    }

    /// Whether a message may be added to a topic.
    ///
    /// # Errors
    /// [`Forbidden`], if not.
    pub fn permit_publish(&self, topic: &Topic) -> Result<(), Forbidden> {
        if self.permits_name(Action::Publish, topic.as_str()) {
            return Ok(());
        }
        Err(Forbidden::new(Action::Publish, &Term::Topic(topic.clone())))
    }

    /// Whether options of a topic or pattern may be seen and set, or messages of a topic removed. A pattern has to be
    /// covered by one grant: an option on a pattern also holds for topics to come.
    ///
    /// # Errors
    /// [`Forbidden`], if not.
    pub fn permit_manage(&self, term: &Term) -> Result<(), Forbidden> {
        match self.permitting(Action::Manage, term) {
            Some(_) => Ok(()),
            None => Err(Forbidden::new(Action::Manage, term)),
        }
    }

    fn permit_part(&self, action: Action, filter: Filter) -> Result<Filter, Forbidden> {
        let Some(first) = filter.terms().first().cloned() else { return Ok(filter) };
        let grants = self.deciding(action);
        for term in filter.terms() {
            if let Term::Topic(topic) = term
                && !grants.iter().any(|grant| grant.matches(topic))
            {
                return Err(Forbidden::new(action, term));
            }
        }
        if filter.terms().iter().all(|term| grants.iter().any(|grant| grant.covers(term))) {
            return Ok(filter);
        }
        match narrow(filter, grants) {
            Some(narrowed) if narrowed.is_empty() => Err(Forbidden::new(action, &first)),
            Some(narrowed) => Ok(narrowed),
            None => Err(Forbidden { action, term: first, cause: ForbiddenCause::TooManyTerms }),
        }
    }
}

impl Forbidden {
    fn new(action: Action, term: &Term) -> Self {
        Self { action, term: term.clone(), cause: ForbiddenCause::NotGranted }
    }
}

#[cfg(test)]
mod tests;
