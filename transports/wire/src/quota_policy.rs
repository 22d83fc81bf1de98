//! A bound on how much somebody may do, as a refusal tells it: a quota policy (draft-ietf-httpapi-ratelimit-headers-11 §3), which
//! is a member of the problem and two fields of the head.

use std::fmt::Write as _;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaPolicy {
    /// Of whom.
    pub limit: &'static str,
    /// Of what.
    pub kind: &'static str,
    /// How much.
    pub quota: u32,
    /// In so many seconds; without, so much at a time.
    pub window_s: Option<u32>,
}

/// The kind that is counted in bytes.
const BYTES: &str = "bytes";

impl QuotaPolicy {
    /// Its name: `address-publishes`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.limit, self.kind)
    }

    /// The field `RateLimit-Policy`. Units are those of the draft's registry (§3.1.2), which has none for messages and topics: they
    /// go without, as requests do.
    pub fn policy_field(&self) -> String {
        let mut field = format!("\"{}\";q={}", self.name(), self.quota);
        if self.kind == BYTES {
            field.push_str(";qu=\"content-bytes\"");
        }
        // Writing to a string doesn't fail.
        let _ = match self.window_s {
            Some(window_s) => write!(field, ";w={window_s}"),
            None => write!(field, ";qu=\"concurrent-requests\""),
        };
        field
    }

    /// The field `RateLimit` of a refusal: nothing is left, for as long as `Retry-After` says (§4.1.2, §6). When something that is
    /// open will be closed, nobody knows.
    pub fn limit_field(&self, retry_after_ms: u64) -> String {
        let mut field = format!("\"{}\";r=0", self.name());
        if self.window_s.is_some() {
            let _ = write!(field, ";t={}", retry_after_ms.div_ceil(1000));
        }
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_as_the_draft_has_them() {
        let check = |kind, window_s, retry_after_ms, expect: [&str; 2]| {
            let policy = QuotaPolicy { limit: "address", kind, quota: 100, window_s };
            assert_eq!([policy.policy_field(), policy.limit_field(retry_after_ms)], expect);
        };
        check("requests", Some(1), 1, ["\"address-requests\";q=100;w=1", "\"address-requests\";r=0;t=1"]);
        check(
            "bytes",
            Some(1),
            1001,
            ["\"address-bytes\";q=100;qu=\"content-bytes\";w=1", "\"address-bytes\";r=0;t=2"],
        );
        check(
            "new-topics",
            Some(60),
            0,
            ["\"address-new-topics\";q=100;w=60", "\"address-new-topics\";r=0;t=0"],
        );
        check(
            "subscriptions",
            None,
            5000,
            ["\"address-subscriptions\";q=100;qu=\"concurrent-requests\"", "\"address-subscriptions\";r=0"],
        );
    }
}
