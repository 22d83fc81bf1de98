//! Quotas: how much the topics that a pattern matches may have together.

use crate::filter::Pattern;

/// What the topics of a pattern may have; a kind without a bound is not limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The topics.
    pub pattern: Pattern,
    /// What their messages may take, as [`Draft::cost`](crate::Draft::cost) counts them.
    pub bytes: Option<u64>,
    /// How many of them there may be.
    pub topics: Option<u64>,
}

/// What the topics of a pattern have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// What their stored messages take.
    pub bytes: u64,
    /// How many of them were written to and are not forgotten.
    pub topics: u64,
}

/// A publish that a quota has no room for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the topics of `{pattern}` may have at most {bound} {kind}", pattern = pattern.as_str(), kind = kind.as_str())]
pub struct QuotaExceeded {
    /// The topics.
    pub pattern: Pattern,
    /// What there is too much of.
    pub kind: QuotaKind,
    /// How much there may be.
    pub bound: u64,
}

/// What a quota bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// What messages take.
    Bytes,
    /// Topics.
    Topics,
}

impl QuotaKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Topics => "topics",
        }
    }
}

impl Quota {
    /// Whether so much is within it.
    ///
    /// # Errors
    /// [`QuotaExceeded`]
    pub fn check(&self, usage: Usage) -> Result<(), QuotaExceeded> {
        let kinds =
            [(QuotaKind::Bytes, self.bytes, usage.bytes), (QuotaKind::Topics, self.topics, usage.topics)];
        for (kind, bound, used) in kinds {
            if let Some(bound) = bound.filter(|bound| used > *bound) {
                return Err(QuotaExceeded { pattern: self.pattern.clone(), kind, bound });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Term;

    #[test]
    fn a_quota_is_full_where_it_says() {
        let Ok(Term::Pattern(pattern)) = Term::parse("tenants/acme/**") else { panic!("no pattern") };
        let quota = Quota { pattern, bytes: Some(100), topics: Some(2) };
        assert_eq!(quota.check(Usage { bytes: 100, topics: 2 }), Ok(()));
        let refusal = |bytes, topics| quota.check(Usage { bytes, topics }).unwrap_err().to_string();
        assert_eq!(refusal(101, 2), "the topics of `tenants/acme/**` may have at most 100 bytes");
        assert_eq!(refusal(0, 3), "the topics of `tenants/acme/**` may have at most 2 topics");
        let free = Quota { bytes: None, topics: None, ..quota };
        assert_eq!(free.check(Usage { bytes: u64::MAX, topics: u64::MAX }), Ok(()));
    }
}
