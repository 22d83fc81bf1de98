//! Why a credential is refused.

use crate::{keys::KeyError, tickets::TicketError, token::TokenError};

/// A credential is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An API key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// A name from a trusted header, a certificate or the hook.
    #[error("a name of a user is 1 to 255 bytes without control characters")]
    Name,
}

impl Refused {
    /// The stable code of the answer. [`Refused`] itself is for the operator's log, and for a caller on loopback.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Token(error) => error.code(),
            Self::Key(error) => error.code(),
            Self::Ticket(error) => error.code(),
            Self::Name => "token-invalid",
        }
    }

    /// How long ago the credential's time was over, if that is why.
    pub const fn expired_ago_ms(&self) -> Option<u64> {
        match self {
            Self::Token(TokenError::Expired { ago_ms, .. }) | Self::Key(KeyError::Expired { ago_ms, .. }) => {
                Some(*ago_ms)
            }
            _ => None,
        }
    }

    /// The issuer whose keys should be fetched before the credential is tried once more, if that may help.
    pub fn refresh(&self) -> Option<&str> {
        match self {
            Self::Token(error) => error.refresh(),
            _ => None,
        }
    }
}
