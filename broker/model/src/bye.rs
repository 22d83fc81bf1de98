//! Why the broker ends a stream that could have gone on; in each case the client comes back with its cursor.

/// The reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByeReason {
    /// The broker is shutting down.
    Drain,
    /// The client's credential has run out.
    Expired,
    /// The client's filter is not permitted any more.
    Revoked,
    /// The client didn't take its messages for too long.
    Slow,
    /// The stream has lived as long as streams do here.
    Age,
    /// The client has asked for more than its limit.
    Limited,
}

impl ByeReason {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Slow => "slow",
            Self::Age => "age",
            Self::Limited => "limited",
        }
    }
}

/// The end of a stream, and when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bye {
    /// Why.
    pub reason: ByeReason,
    /// When to come back: each client gets a time of its own.
    pub retry_after_ms: u64,
}
