//! Revocations of tokens that have not expired: one token by its id, or all of a holder that were issued before a time.
//! They are records of a compacted topic of the log, so that they reach every stream, and later every node, by the feed.

use std::collections::HashMap;

use parking_lot::RwLock;
use serde_json::{Value, json};
use tailwire_model::{Identity, Principal, Timestamp, limits::REVOCATIONS_MAX};

use crate::{
    digest::sha256,
    records::{RecordError, text, time},
    token::{is_name, object},
};

/// The target of a revocation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RevocationTarget {
    /// The token with this `jti`.
    Token {
        /// The claim `iss`.
        issuer: Box<str>,
        /// The claim `jti`.
        token_id: Box<str>,
    },
    /// Tokens of this holder.
    Subject {
        /// The claim `iss`.
        issuer: Box<str>,
        /// The claim that names the holder.
        subject: Box<str>,
    },
}

/// One revocation: the data of a message of `$access/revocations`, whose `key` is [`Revocation::key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The target.
    pub target: RevocationTarget,
    /// Of a holder: tokens that were issued before this, or don't say when. All, without it.
    pub issued_before: Option<Timestamp>,
    /// When all that it concerns has expired, leeway included: then it is forgotten. Never, without it.
    pub until: Option<Timestamp>,
}

impl Revocation {
    /// Whether it concerns a principal.
    pub fn concerns(&self, principal: &Principal) -> bool {
        let Identity::Token(token) = principal.identity() else { return false };
        match &self.target {
            RevocationTarget::Token { issuer, token_id } => {
                *issuer == token.issuer && token.token_id.as_ref() == Some(token_id)
            }
            RevocationTarget::Subject { issuer, subject } => {
                let is_before = self.issued_before.is_none_or(|end| token.issued.unwrap_or_default() < end);
                *issuer == token.issuer && *subject == token.subject && is_before
            }
        }
    }

    /// The key for compaction: a later revocation of the same takes this one's place.
    pub fn key(&self) -> String {
        let (kind, issuer, name) = match &self.target {
            RevocationTarget::Token { issuer, token_id } => ('t', issuer, token_id),
            RevocationTarget::Subject { issuer, subject } => ('s', issuer, subject),
        };
        // A message's key is as long as a topic, and these names are that long each.
        let digest = sha256(format!("{}:{issuer}{name}", issuer.len()).as_bytes());
        format!("{kind}{}", data_encoding::HEXLOWER.encode(&digest))
    }

    /// The revocation as a message's data.
    pub fn to_json(&self) -> String {
        let mut members = match &self.target {
            RevocationTarget::Token { issuer, token_id } => json!({"issuer": issuer, "token_id": token_id}),
            RevocationTarget::Subject { issuer, subject } => json!({"issuer": issuer, "subject": subject}),
        };
        if let Some(end) = self.issued_before {
            members["issued_before_ms"] = json!(end.0);
        }
        if let Some(end) = self.until {
            members["until_ms"] = json!(end.0);
        }
        members.to_string()
    }

    /// Reads a revocation.
    ///
    /// # Errors
    /// [`RecordError`], with what is wrong.
    pub fn parse(data: &[u8]) -> Result<Self, RecordError> {
        let members = object(data).map_err(|error| RecordError(error.to_string()))?;
        let name = |member: &str| match text(&members, member) {
            Ok(name) if is_name(name) => Ok(name.into()),
            Ok(_) => Err(RecordError(format!("`{member}` is 1 to 255 bytes"))),
            Err(error) => Err(error),
        };
        let issuer = name("issuer")?;
        let target = match (members.get("token_id"), members.get("subject")) {
            (Some(Value::String(_)), None) => RevocationTarget::Token { issuer, token_id: name("token_id")? },
            (None, Some(Value::String(_))) => RevocationTarget::Subject { issuer, subject: name("subject")? },
            _ => return Err(RecordError("it has `token_id` or `subject`".to_owned())),
        };
        Ok(Self {
            target,
            issued_before: time(&members, "issued_before_ms")?,
            until: time(&members, "until_ms")?,
        })
    }
}

/// All revocations that still matter.
#[derive(Default)]
pub(crate) struct Revocations(RwLock<HashMap<RevocationTarget, Revocation>>);

impl Revocations {
    /// Takes a revocation in the place of the one before of the same. `false` if there are too many.
    pub(crate) fn put(&self, revocation: Revocation, now: Timestamp) -> bool {
        let has_room = self.has_room(now);
        let mut all = self.0.write();
        if !has_room && !all.contains_key(&revocation.target) {
            return false;
        }
        all.insert(revocation.target.clone(), revocation);
        true
    }

    /// Whether there is room for another. Forgets those that don't matter any more, if that makes some.
    pub(crate) fn has_room(&self, now: Timestamp) -> bool {
        if self.0.read().len() < REVOCATIONS_MAX {
            return true;
        }
        let mut all = self.0.write();
        all.retain(|_, own| own.until.is_none_or(|end| now < end));
        all.len() < REVOCATIONS_MAX
    }

    /// Whether a principal is concerned by one.
    pub(crate) fn concern(&self, principal: &Principal) -> bool {
        let Identity::Token(token) = principal.identity() else { return false };
        let all = self.0.read();
        if all.is_empty() {
            return false;
        }
        let issuer = token.issuer.clone();
        let of_token = token.token_id.clone().map(|token_id| {
            let issuer = issuer.clone();
            RevocationTarget::Token { issuer, token_id }
        });
        let of_subject = RevocationTarget::Subject { issuer, subject: token.subject.clone() };
        [of_token, Some(of_subject)]
            .into_iter()
            .flatten()
            .any(|target| all.get(&target).is_some_and(|own| own.concerns(principal)))
    }

    /// All of them, in no order.
    pub(crate) fn list(&self) -> Vec<Revocation> {
        self.0.read().values().cloned().collect()
    }
}
