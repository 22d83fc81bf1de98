//! Rules of the configuration: who gets which grants, with claims of the principal in patterns.

pub(crate) mod template;

use std::{collections::BTreeSet, fmt, str::FromStr};

use tailwire_model::{Action, Identity, Principal, Term};

use crate::{
    config::RuleConfig,
    error::AccessError,
    rules::template::{Template, TemplateError},
};

/// Whom a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Everybody, with a credential or without: a credential never takes away what anonymous readers have.
    Anonymous,
    /// Everybody with a credential of any kind.
    Any,
    /// Holders of this issuer's tokens.
    Issuer(Box<str>),
    /// Holders of this API key.
    Key(Box<str>),
    /// Users that a trusted header names.
    Header,
    /// Holders of a client certificate.
    Certificate,
}

impl Who {
    /// Whether a principal is meant.
    pub fn matches(&self, principal: &Principal) -> bool {
        match (self, principal.identity()) {
            (Self::Anonymous, _) => true,
            (Self::Any, identity) => *identity != Identity::Anonymous,
            (Self::Issuer(issuer), Identity::Token(token)) => *issuer == token.issuer,
            (Self::Key(own), Identity::Key { id, .. }) => own == id,
            (Self::Header, Identity::Header { .. }) => true,
            (Self::Certificate, Identity::Certificate { .. }) => true,
            _ => false,
        }
    }

    /// Whether those who are meant have claims.
    const fn has_claims(&self) -> bool {
        !matches!(self, Self::Anonymous | Self::Key(_))
    }
}

/// The text names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "`who` is `anonymous` (everybody), `any` (everybody with a credential), `issuer:…`, `key:…`, `header` or `certificate`"
)]
pub struct WhoError;

impl FromStr for Who {
    type Err = WhoError;

    fn from_str(text: &str) -> Result<Self, WhoError> {
        match text.split_once(':') {
            Some(("issuer", issuer)) if !issuer.is_empty() => Ok(Self::Issuer(issuer.into())),
            Some(("key", id)) if !id.is_empty() => Ok(Self::Key(id.into())),
            None if text == "anonymous" => Ok(Self::Anonymous),
            None if text == "any" => Ok(Self::Any),
            None if text == "header" => Ok(Self::Header),
            None if text == "certificate" => Ok(Self::Certificate),
            _ => Err(WhoError),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Any => f.write_str("any"),
            Self::Issuer(issuer) => write!(f, "issuer:{issuer}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Header => f.write_str("header"),
            Self::Certificate => f.write_str("certificate"),
        }
    }
}

/// One rule.
#[derive(Debug)]
pub(crate) struct AccessRule {
    pub(crate) who: Who,
    pub(crate) grants: Vec<(Action, Template)>,
}

impl AccessRule {
    /// Checks a rule. `at` names it in errors, `issuers` are those that are configured.
    pub(crate) fn new(at: &str, rule: &RuleConfig, issuers: &[&str]) -> Result<Self, AccessError> {
        let who: Who = rule.who.parse().map_err(|error| AccessError::at(format!("{at}.who"), error))?;
        if let Who::Issuer(issuer) = &who
            && !issuers.contains(&&**issuer)
        {
            let problem = format!("no `[[access.issuer]]` has the issuer `{issuer}`");
            return Err(AccessError::at(format!("{at}.who"), problem));
        }
        let lists = [
            (Action::Subscribe, &rule.subscribe),
            (Action::Publish, &rule.publish),
            (Action::Manage, &rule.manage),
            (Action::Presence, &rule.presence),
        ];
        let mut grants = Vec::new();
        for (action, patterns) in lists {
            for (index, pattern) in patterns.iter().enumerate() {
                let refused = |error| AccessError::at(format!("{at}.{action}[{index}]"), error);
                let template: Template = pattern.parse().map_err(refused)?;
                if template.claim_names().next().is_some() && !who.has_claims() {
                    return Err(refused(TemplateError::NobodyHasClaims));
                }
                if action == Action::Publish && pattern.starts_with('$') {
                    return Err(refused(TemplateError::BrokersOwn));
                }
                grants.push((action, template));
            }
        }
        if grants.is_empty() {
            return Err(AccessError::at(at.to_owned(), "the rule grants nothing"));
        }
        Ok(Self { who, grants })
    }

    /// The rule's grants for a principal: none, if the rule isn't for it or the principal has not the claims.
    pub(crate) fn grants<'a>(
        &'a self,
        principal: &'a Principal,
    ) -> impl Iterator<Item = (Action, Term)> + 'a {
        let of_principal = |(action, template): &'a (Action, Template)| {
            Some((*action, template.expand(|name| principal.claim(name)).ok()?))
        };
        self.who.matches(principal).then(|| self.grants.iter().filter_map(of_principal)).into_iter().flatten()
    }
}

/// The names of all claims that the rules use: the others are no part of a principal.
pub(crate) fn claim_names(rules: &[AccessRule]) -> BTreeSet<&str> {
    rules
        .iter()
        .flat_map(|rule| rule.grants.iter().flat_map(|(_, template)| template.claim_names()))
        .collect()
}
