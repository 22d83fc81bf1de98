//! Principals: who makes a request. A value that is made once, where a credential is verified, and then goes with the
//! request and with every stream that it opens. It knows no rule and no key, and it never holds a secret.

use std::{
    fmt::{self, Write as _},
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{grants::Grants, message::Timestamp};

/// The principal of a request. Cloning is cheap, and so is comparing a clone.
///
/// Two principals are equal if the same credential said the same: a refreshed token makes another principal, of the
/// same [`Principal::scope`].
#[derive(Clone, Default)]
pub struct Principal(Option<Arc<Identified>>);

/// Which kind of credential named the principal, and what it said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// No credential.
    Anonymous,
    /// A signed token.
    Token(TokenIdentity),
    /// An API key.
    Key {
        /// The public part of the key.
        id: Box<str>,
        /// Another with each change of what is kept of the key.
        revision: u64,
    },
    /// A header of a trusted proxy.
    Header {
        /// The header's value.
        subject: Box<str>,
    },
    /// A client certificate.
    Certificate {
        /// The name in the certificate.
        subject: Box<str>,
    },
    /// The application's answer to a decision hook.
    Hook {
        /// The name that the application gave, or a digest of the headers that it was asked with.
        subject: Box<str>,
    },
}

/// A token's statements about its holder, which a revocation may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIdentity {
    /// The claim `iss`, which is that of a configured issuer.
    pub issuer: Box<str>,
    /// The claim that names the holder, within the issuer.
    pub subject: Box<str>,
    /// The claim `jti`: one token.
    pub token_id: Option<Box<str>>,
    /// The claim `iat`: a revocation may concern all that were issued before a time.
    pub issued: Option<Timestamp>,
}

/// When a credential ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The end as the credential says it.
    pub at: Timestamp,
    /// How far the issuer's clock and ours may be apart: so much longer the credential is accepted.
    pub leeway_ms: u64,
}

impl Expiry {
    /// From when on the credential is refused.
    pub const fn refused_from(self) -> Timestamp {
        Timestamp(self.at.0.saturating_add(self.leeway_ms))
    }
}

/// The statements of a verified credential: all that a principal is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The subject.
    pub identity: Identity,
    /// Until when.
    pub expiry: Option<Expiry>,
    /// Claims by name, for the patterns of rules, such as `users/{sub}/**`.
    pub claims: Vec<(Box<str>, Box<str>)>,
    /// The grants of the credential itself, beside the rules.
    pub grants: Grants,
}

#[derive(Clone)]
struct Identified {
    credential: Credential,
    scope: Box<str>,
    /// The sum of the credential's grants and the rules', with the version of the rules that it was made by.
    sum: Option<(u64, Arc<Grants>)>,
}

static ANONYMOUS: Identity = Identity::Anonymous;
static NOTHING: Grants = Grants::NONE;
/// The scope of all who show no credential.
const ANONYMOUS_SCOPE: &str = "a";

impl Principal {
    /// Nobody in particular.
    pub const ANONYMOUS: Self = Self(None);

    /// The principal that a verified credential names. One of [`Identity::Anonymous`] has no claims, grants or end.
    pub fn new(credential: Credential) -> Self {
        if credential.identity == Identity::Anonymous {
            return Self::ANONYMOUS;
        }
        let scope = scope_of(&credential.identity);
        Self(Some(Arc::new(Identified { credential, scope, sum: None })))
    }

    /// The principal's identity.
    pub fn identity(&self) -> &Identity {
        self.0.as_deref().map_or(&ANONYMOUS, |own| &own.credential.identity)
    }

    /// The statements of its credential; none for anonymous ones.
    pub fn credential(&self) -> Option<&Credential> {
        self.0.as_deref().map(|own| &own.credential)
    }

    /// Whether no credential was shown.
    pub const fn is_anonymous(&self) -> bool {
        self.0.is_none()
    }

    /// The scope of idempotency keys, caches and limits: no two principals share it, and none is the beginning of
    /// another. It holds no secret, and stays the same when a token is refreshed.
    pub fn scope(&self) -> &str {
        self.0.as_deref().map_or(ANONYMOUS_SCOPE, |own| &own.scope)
    }

    /// The end of the credential, if it has one.
    pub fn expiry(&self) -> Option<Expiry> {
        self.0.as_deref().and_then(|own| own.credential.expiry)
    }

    /// Whether the credential isn't accepted any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expiry().is_some_and(|expiry| now >= expiry.refused_from())
    }

    /// When a stream that begins now has to end: with the credential; or, where that is over and only the leeway is left,
    /// with the leeway, so that a client which comes back at once isn't sent away at once.
    pub fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let expiry = self.expiry()?;
        Some(if now < expiry.at { expiry.at } else { expiry.refused_from() })
    }

    /// A claim by its name.
    pub fn claim(&self, name: &str) -> Option<&str> {
        let claims = &self.0.as_deref()?.credential.claims;
        claims.iter().find(|(own, _)| &**own == name).map(|(_, value)| &**value)
    }

    /// The grants of the credential itself; rules may grant more.
    pub fn own_grants(&self) -> &Grants {
        self.0.as_deref().map_or(&NOTHING, |own| &own.credential.grants)
    }

    /// Its memory, roughly, in bytes.
    pub fn cost(&self) -> usize {
        let Some(own) = self.0.as_deref() else { return 0 };
        let Credential { claims, grants, .. } = &own.credential;
        let claims: usize = claims.iter().map(|(name, value)| 32 + name.len() + value.len()).sum();
        let sum = own.sum.as_ref().map_or(0, |(_, sum)| sum.cost());
        // The names stand in the identity and in the scope.
        256 + 2 * own.scope.len() + claims + grants.cost() + sum
    }

    /// The sum of all its grants by the rules of that version, if it was made.
    pub fn sum(&self, version: u64) -> Option<&Arc<Grants>> {
        let (own, sum) = self.0.as_deref()?.sum.as_ref()?;
        (*own == version).then_some(sum)
    }

    /// The same principal, with the sum of its grants by the rules of a version, so that a request finds it made.
    #[must_use]
    pub fn with_sum(self, version: u64, sum: Arc<Grants>) -> Self {
        let with = |own| Arc::new(Identified { sum: Some((version, sum)), ..Arc::unwrap_or_clone(own) });
        Self(self.0.map(with))
    }
}

/// A letter for the kind, then each part with its length before it, so that a part can hold any character.
fn scope_of(identity: &Identity) -> Box<str> {
    let (kind, parts): (char, &[&str]) = match identity {
        Identity::Anonymous => return ANONYMOUS_SCOPE.into(),
        Identity::Token(token) => ('t', &[&token.issuer, &token.subject]),
        Identity::Key { id, .. } => ('k', &[id]),
        Identity::Header { subject } => ('h', &[subject]),
        Identity::Certificate { subject } => ('c', &[subject]),
        Identity::Hook { subject } => ('d', &[subject]),
    };
    let mut scope = String::from(kind);
    for part in parts {
        // Writing to a string doesn't fail.
        let _ = write!(scope, "{}:{part}", part.len());
    }
    scope.into()
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other) || own.credential == other.credential,
            _ => false,
        }
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scope().hash(state);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({:?})", self.scope())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn principal(identity: Identity) -> Principal {
        Principal::new(Credential { identity, expiry: None, claims: Vec::new(), grants: Grants::NONE })
    }

    fn token(issuer: &str, subject: &str) -> Identity {
        let (issuer, subject) = (issuer.into(), subject.into());
        Identity::Token(TokenIdentity { issuer, subject, token_id: None, issued: None })
    }

    #[test]
    fn no_scope_is_another_or_its_beginning() {
        let names = ["", "a", "b", "1:a", "a1:b", "1:a1:b", "\n", "a\n", "10:", "0:"];
        let mut all = vec![Principal::ANONYMOUS];
        for one in names {
            let subject: Box<str> = one.into();
            all.push(principal(Identity::Key { id: subject.clone(), revision: 0 }));
            all.push(principal(Identity::Header { subject: subject.clone() }));
            all.push(principal(Identity::Certificate { subject: subject.clone() }));
            all.push(principal(Identity::Hook { subject }));
            all.extend(names.iter().map(|two| principal(token(one, two))));
        }
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        for (index, one) in all.iter().enumerate() {
            for (_, two) in all.iter().enumerate().filter(|(other, _)| *other != index) {
                assert!(!two.scope().starts_with(one.scope()), "{one:?} begins {two:?}");
            }
        }
    }

    #[test]
    fn a_stream_ends_with_the_credential_or_with_the_leeway() {
        let expiry = Expiry { at: Timestamp(10_000), leeway_ms: 500 };
        let credential = Credential {
            identity: token("i", "s"),
            expiry: Some(expiry),
            claims: vec![("sub".into(), "s".into())],
            grants: Grants::NONE,
        };
        let principal = Principal::new(credential);
        assert_eq!(principal.ends(Timestamp(9_999)), Some(Timestamp(10_000)));
        assert_eq!(principal.ends(Timestamp(10_000)), Some(Timestamp(10_500)));
        assert!(!principal.is_expired(Timestamp(10_499)));
        assert!(principal.is_expired(Timestamp(10_500)));
        assert_eq!(principal.claim("sub"), Some("s"));
        assert_eq!(principal.claim("iss"), None);
        assert_eq!(Principal::ANONYMOUS.ends(Timestamp(0)), None);
    }

    #[test]
    fn a_sum_holds_for_the_rules_it_was_made_by() {
        let sum = Arc::new(Grants::default());
        let made = principal(token("i", "s")).with_sum(7, Arc::clone(&sum));
        assert!(made.sum(7).is_some_and(|own| Arc::ptr_eq(own, &sum)));
        assert!(made.sum(8).is_none());
        assert_eq!(made, principal(token("i", "s")), "the sum is no part of who it is");
        assert!(Principal::ANONYMOUS.with_sum(7, sum).sum(7).is_none());
    }
}
