//! Why somebody may do something or not, step by step: for `tailwire access check`, and for logs.

use std::fmt;

use tailwire_model::{Action, Filter, Identity, Principal, Term, Timestamp};

use crate::{access::Access, refused::Refused, rules::AccessRule, token::Check};

/// A decision and its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The action that was asked for.
    pub action: Action,
    /// Of what.
    pub term: Term,
    /// The decision.
    pub verdict: Verdict,
    /// How it comes to that, in order.
    pub steps: Vec<DecisionStep>,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is permitted as asked.
    Permitted,
    /// This part of it is.
    Narrowed(Filter),
    /// It isn't: 403, or 401 for those without a credential.
    Forbidden,
    /// The credential is refused, with this code: 401, or 503.
    Refused(&'static str),
}

/// One step of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecisionStep {
    /// A check of a token that it passed.
    Passed(Check),
    /// Why the credential is refused.
    Refused(String),
    /// The principal.
    Principal(String),
    /// One rule of the configuration.
    Rule {
        /// Its number, from 0.
        index: usize,
        /// Whom it is for.
        who: String,
        /// Whether the principal is meant.
        applies: bool,
        /// The terms that it grants for the action, with the principal's claims.
        grants: Vec<Term>,
        /// Which of its patterns come to nothing, and why.
        unfilled: Vec<(String, String)>,
    },
    /// The credential was revoked, or is of a kind or an issuer that is not configured.
    Revoked,
    /// The grants of the credential itself for the action.
    Own(Vec<Term>),
    /// The grant that decides.
    Decides(Term),
    /// No grant permits it.
    NoGrant,
}

impl Access {
    /// Why a principal may do something or not. A pattern that is subscribed to is narrowed.
    pub fn explain(&self, principal: &Principal, action: Action, term: &Term) -> Explanation {
        let mut steps = vec![DecisionStep::Principal(described(principal))];
        let rules = self.settings.rules.iter().enumerate();
        steps.extend(rules.map(|(index, rule)| of_rule(index, rule, principal, action)));
        let own = principal.own_grants().terms(action);
        if !principal.is_anonymous() {
            steps.push(DecisionStep::Own(own.to_vec()));
        }
        if !self.holds(principal) {
            steps.push(DecisionStep::Revoked);
        }
        let grants = self.grants(principal);
        let verdict = match grants.permitting(action, term) {
            Some(grant) => {
                steps.push(DecisionStep::Decides(grant.clone()));
                Verdict::Permitted
            }
            None => {
                let filter = Filter::from(term.clone());
                let part = match action {
                    Action::Subscribe => grants.permit_subscribe(filter).ok(),
                    Action::Presence => grants.permit_presence(filter).ok(),
                    Action::Publish | Action::Manage => None,
                };
                if part.is_none() {
                    steps.push(DecisionStep::NoGrant);
                }
                part.map_or(Verdict::Forbidden, Verdict::Narrowed)
            }
        };
        Explanation { action, term: term.clone(), verdict, steps }
    }

    /// The same for a token or an API key, beginning with the checks of it.
    pub fn explain_bearer(
        &self,
        credential: &str,
        now: Timestamp,
        action: Action,
        term: &Term,
    ) -> Explanation {
        let is_token = !crate::keys::Key::is_meant(credential);
        match self.bearer(credential, now) {
            Ok(principal) => {
                let mut explanation = self.explain(&principal, action, term);
                if is_token {
                    explanation.steps.splice(0..0, Check::ALL.map(DecisionStep::Passed));
                }
                explanation
            }
            Err(refused) => {
                let mut steps = Vec::new();
                if let Refused::Token(error) = &refused {
                    let failed = error.check();
                    let passed = Check::ALL.into_iter().take_while(|check| *check != failed);
                    steps.extend(passed.map(DecisionStep::Passed));
                }
                steps.push(DecisionStep::Refused(refused.to_string()));
                Explanation { action, term: term.clone(), verdict: Verdict::Refused(refused.code()), steps }
            }
        }
    }
}

fn of_rule(index: usize, rule: &AccessRule, principal: &Principal, action: Action) -> DecisionStep {
    let applies = rule.who.matches(principal);
    let (mut grants, mut unfilled) = (Vec::new(), Vec::new());
    for (own, template) in &rule.grants {
        if applies && *own == action {
            match template.expand(|name| principal.claim(name)) {
                Ok(term) => grants.push(term),
                Err(misfit) => unfilled.push((template.to_string(), misfit.to_string())),
            }
        }
    }
    DecisionStep::Rule { index, who: rule.who.to_string(), applies, grants, unfilled }
}

/// A principal in words, for people.
fn described(principal: &Principal) -> String {
    match principal.identity() {
        Identity::Anonymous => "anonymous: no credential".to_owned(),
        Identity::Token(token) => {
            let id = token.token_id.as_ref().map(|id| format!(", token {id:?}")).unwrap_or_default();
            format!("{:?} of the issuer {}{id}", token.subject, token.issuer)
        }
        Identity::Key { id, .. } => format!("the API key {id}"),
        Identity::Header { subject } => format!("{subject:?}, by the trusted header"),
        Identity::Certificate { subject } => format!("{subject:?}, by a client certificate"),
        Identity::Hook { subject } => format!("{subject:?}, by the hook"),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permitted => f.write_str("permitted"),
            Self::Narrowed(filter) => write!(f, "narrowed to {}", listed(filter.terms())),
            Self::Forbidden => f.write_str("forbidden"),
            Self::Refused(code) => write!(f, "refused: {code}"),
        }
    }
}

impl fmt::Display for DecisionStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(check) => write!(f, "token: {} is right", check.name()),
            Self::Refused(why) => write!(f, "credential: {why}"),
            Self::Principal(who) => write!(f, "principal: {who}"),
            Self::Rule { index, who, applies: false, .. } => {
                write!(f, "rule {index} ({who}): is not for this principal")
            }
            Self::Rule { index, who, grants, unfilled, .. } => {
                write!(f, "rule {index} ({who}): grants {}", listed(grants))?;
                unfilled.iter().try_for_each(|(pattern, why)| write!(f, "; {pattern} matches nothing: {why}"))
            }
            Self::Revoked => f.write_str("credential: it was revoked, or what it rests on is not configured"),
            Self::Own(grants) => write!(f, "credential: grants {}", listed(grants)),
            Self::Decides(grant) => write!(f, "decided by the grant {}", grant.as_str()),
            Self::NoGrant => f.write_str("no grant permits it"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}: {}", self.action, self.term.as_str(), self.verdict)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

fn listed(terms: &[Term]) -> String {
    if terms.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<&str> = terms.iter().map(Term::as_str).collect();
    names.join(", ")
}
