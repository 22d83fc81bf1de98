//! The words of limits: what is counted, and of whom.

/// Kinds that come over time, by their place in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Connects,
    Requests,
    Publishes,
    Bytes,
    NewTopics,
}

/// Kinds that are open for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeldKind {
    Connections,
    Subscriptions,
}

/// Of whom something is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Address,
    Principal,
    Total,
}

impl Flow {
    /// How many there are.
    pub(super) const COUNT: usize = 5;

    /// Its name in policies and metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Connects => "connects",
            Self::Requests => "requests",
            Self::Publishes => "publishes",
            Self::Bytes => "bytes",
            Self::NewTopics => "new-topics",
        }
    }
}

impl HeldKind {
    /// See [`Flow::as_str`].
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Subscriptions => "subscriptions",
        }
    }

    /// Where its count stands in the word of counts.
    pub(super) const fn shift(self) -> u32 {
        match self {
            Self::Connections => 0,
            Self::Subscriptions => 32,
        }
    }
}

impl Scope {
    /// The word in names of policies, in settings and in metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Principal => "principal",
            Self::Total => "total",
        }
    }
}
