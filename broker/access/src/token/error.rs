//! Why a token is refused. The caller gets a code; the operator the check, with what was found and how far clocks are
//! apart.

use tailwire_model::limits::SUBJECT_BYTES_MAX;

/// The checks of a token, in this order. All before [`Check::Signature`] looks at what nobody has vouched for, and
/// starts nothing by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// Its length.
    Size,
    /// Three parts of base64url, two of them JSON objects.
    Form,
    /// The header's other demands.
    Header,
    /// The algorithm is one that exists here.
    Algorithm,
    /// The claim `iss` is that of a configured issuer.
    Issuer,
    /// The issuer has a key for this algorithm and key id.
    Key,
    /// The signature.
    Signature,
    /// The claim `exp`.
    Expiry,
    /// The claim `nbf`.
    NotBefore,
    /// The claim `aud`.
    Audience,
    /// The claim that names the holder.
    Subject,
    /// The claims `jti` and `iat`.
    TokenId,
    /// The claim that has the grants.
    Grants,
    /// Neither the token nor its holder was revoked.
    Revocation,
}

impl Check {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Size,
        Self::Form,
        Self::Header,
        Self::Algorithm,
        Self::Issuer,
        Self::Key,
        Self::Signature,
        Self::Expiry,
        Self::NotBefore,
        Self::Audience,
        Self::Subject,
        Self::TokenId,
        Self::Grants,
        Self::Revocation,
    ];

    /// Its name, for logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Form => "form",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Expiry => "expiry",
            Self::NotBefore => "not before",
            Self::Audience => "audience",
            Self::Subject => "subject",
            Self::TokenId => "token id",
            Self::Grants => "grants",
            Self::Revocation => "revocation",
        }
    }
}

/// Why a token is refused. Texts of the token are shortened; none is its signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than a token may be.
    #[error("the token has {0} bytes, and at most 8,192 are read")]
    TooLong(usize),
    /// No token at all.
    #[error("it is no signed token: {0}")]
    Malformed(String),
    /// The header brings a key, or says where to get one.
    #[error("the header has `{0}`: keys come from the configuration only")]
    ForeignKey(&'static str),
    /// The header has extensions that must be understood.
    #[error("the header has `crit`, and no extension is known here")]
    Critical,
    /// The token is of a kind that gives no access.
    #[error("the header's `typ` is {0:?}: an access token has `JWT`, `at+jwt` or none")]
    Type(String),
    /// The algorithm is `none`.
    #[error("the algorithm is `none`: the token is not signed")]
    Unsigned,
    /// The algorithm is missing or unknown.
    #[error("the algorithm {0:?} is not known here")]
    UnknownAlgorithm(String),
    /// A required claim is not there.
    #[error("the claim `{0}` is missing")]
    MissingClaim(String),
    /// A claim has another type or range than it should.
    #[error("the claim `{claim}` is not {expected}")]
    ClaimType {
        /// Which.
        claim: String,
        /// The expected one.
        expected: &'static str,
    },
    /// No such issuer is configured.
    #[error("no issuer {0:?} is configured")]
    UnknownIssuer(String),
    /// The issuer has no key that signs by this algorithm, or isn't pinned to it.
    #[error("the token is signed by {algorithm}, and the issuer `{issuer}` signs by {allowed}")]
    AlgorithmNotAllowed {
        /// The issuer, as the token says.
        issuer: String,
        /// How, as the token says.
        algorithm: &'static str,
        /// How it may.
        allowed: String,
    },
    /// No key of the issuer has this key id.
    #[error("the issuer `{issuer}` has no key with the id {key_id:?}")]
    UnknownKey {
        /// The issuer, as the token says.
        issuer: String,
        /// By which key, as the token says.
        key_id: String,
        /// Whether the issuer's keys are fetched, so that fetching them again may help.
        is_fetched: bool,
    },
    /// The issuer's keys are fetched, and were not yet.
    #[error("the keys of the issuer `{0}` have not been fetched yet")]
    KeysNotLoaded(String),
    /// No key of the issuer made this signature.
    #[error(
        "the signature is that of none of the {tried} keys of the issuer `{issuer}` that sign by {algorithm}"
    )]
    BadSignature {
        /// The issuer, as the token says.
        issuer: String,
        /// How, as the token says.
        algorithm: &'static str,
        /// How many keys were tried.
        tried: usize,
    },
    /// The token's time is over.
    #[error("the token expired {} s ago by this clock, beyond the leeway of {} s", .ago_ms / 1000, .leeway_ms / 1000)]
    Expired {
        /// How long ago, by our clock.
        ago_ms: u64,
        /// The leeway for clocks that differ.
        leeway_ms: u64,
    },
    /// The token's time has not begun.
    #[error("the token is valid in {} s by this clock, beyond the leeway of {} s", .in_ms / 1000, .leeway_ms / 1000)]
    NotYetValid {
        /// In how long, by our clock.
        in_ms: u64,
        /// The leeway for clocks that differ.
        leeway_ms: u64,
    },
    /// The token is for somebody else.
    #[error("the token is for {found}, and this is {expected:?}")]
    WrongAudience {
        /// For whom.
        found: String,
        /// The broker's own audience.
        expected: String,
    },
    /// The name of the holder can't be one.
    #[error("the claim `{0}` is not 1 to {SUBJECT_BYTES_MAX} bytes without control characters")]
    BadName(String),
    /// The grants can't be read.
    #[error("the claim `{claim}`: {problem}")]
    BadGrants {
        /// Which.
        claim: String,
        /// The fault.
        problem: String,
    },
    /// The token or its holder was revoked.
    #[error("the token was revoked")]
    Revoked,
}

impl TokenError {
    /// The check that failed.
    pub fn check(&self) -> Check {
        match self {
            Self::TooLong(_) => Check::Size,
            Self::Malformed(_) => Check::Form,
            Self::ForeignKey(_) | Self::Critical | Self::Type(_) => Check::Header,
            Self::Unsigned | Self::UnknownAlgorithm(_) => Check::Algorithm,
            Self::UnknownIssuer(_) => Check::Issuer,
            Self::AlgorithmNotAllowed { .. } | Self::UnknownKey { .. } | Self::KeysNotLoaded(_) => Check::Key,
            Self::BadSignature { .. } => Check::Signature,
            Self::Expired { .. } => Check::Expiry,
            Self::NotYetValid { .. } => Check::NotBefore,
            Self::WrongAudience { .. } => Check::Audience,
            Self::BadGrants { .. } => Check::Grants,
            Self::Revoked => Check::Revocation,
            Self::MissingClaim(claim) | Self::ClaimType { claim, .. } | Self::BadName(claim) => {
                of_claim(claim)
            }
        }
    }

    /// The stable code of the answer.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "token-expired",
            Self::KeysNotLoaded(_) => "access-unavailable",
            _ => "token-invalid",
        }
    }

    /// The issuer whose keys should be fetched, if that may help: at most once for one token, and not at every one.
    pub fn refresh(&self) -> Option<&str> {
        match self {
            Self::UnknownKey { issuer, is_fetched: true, .. } | Self::KeysNotLoaded(issuer) => Some(issuer),
            _ => None,
        }
    }
}

fn of_claim(claim: &str) -> Check {
    match claim {
        "iss" => Check::Issuer,
        "exp" => Check::Expiry,
        "nbf" => Check::NotBefore,
        "aud" => Check::Audience,
        "jti" | "iat" => Check::TokenId,
        _ => Check::Subject,
    }
}
