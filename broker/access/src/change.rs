//! Records of the log that change who may go on, and whom they concern.

use tailwire_model::{Identity, Principal};

use crate::{keys::AccessKeyRecord, revocations::Revocation};

/// A record of the topics `$access/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessRecord {
    /// A key was made or changed.
    Key(AccessKeyRecord),
    /// A key's record was removed.
    KeyRemoved(Box<str>),
    /// Tokens were revoked.
    Revocation(Revocation),
}

/// The effect of a record: whose readers to review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Holders of this key.
    Key(Box<str>),
    /// Holders of tokens.
    Tokens(Revocation),
}

impl Change {
    /// Whether a principal that has something open may have to go: then [`Access::check`](crate::Access::check) decides.
    pub fn concerns(&self, principal: &Principal) -> bool {
        match (self, principal.identity()) {
            (Self::Key(own), Identity::Key { id, .. }) => own == id,
            (Self::Tokens(revocation), _) => revocation.concerns(principal),
            _ => false,
        }
    }
}

/// There are as many keys or revocations as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are 100,000 keys or revocations, and there may not be more")]
pub struct RecordsFull;
