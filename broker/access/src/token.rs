//! Tokens (RFC 7519): from the bytes that a client sends to what they prove, in the order of [`Check`].

pub(crate) mod cache;
mod claims;
mod error;
mod header;
pub(crate) mod issuer;
mod json;
pub(crate) mod jwks;
pub(crate) mod mint;
pub(crate) mod verifying;

pub(crate) use claims::is_name;
pub use error::{Check, TokenError};
pub(crate) use json::object;

use tailwire_model::{
    Credential, Expiry, Grants, Identity, Timestamp, TokenIdentity, limits::TOKEN_BYTES_MAX,
};

use crate::{
    granted::{grants_of, shortened},
    token::{claims::Claims, header::Header, issuer::Issuer, verifying::from_base64url},
};

/// The rules by which tokens are checked.
pub(crate) struct TokenRules {
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) audience: String,
    pub(crate) leeway_ms: u64,
    /// The claims that become part of a principal.
    pub(crate) claim_names: Vec<Box<str>>,
}

/// A token in its parts. Nobody has vouched for any of it.
struct TokenParts<'a> {
    header: Header,
    claims: Claims,
    /// The signed part.
    message: &'a str,
    signature: Vec<u8>,
}

impl<'a> TokenParts<'a> {
    fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong(token.len()));
        }
        let malformed = |problem: &str| TokenError::Malformed(problem.to_owned());
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("it has not three parts with a dot between them"));
        };
        let message = &token[..header.len() + 1 + claims.len()];
        let decoded = |part: &str, what: &str| {
            from_base64url(part).ok_or_else(|| malformed(&format!("its {what} is not base64url")))
        };
        let header = object(&decoded(header, "header")?);
        let header = header.map_err(|error| malformed(&format!("its header is not JSON: {error}")))?;
        let claims = Claims::parse(&decoded(claims, "part of claims")?)?;
        let signature = decoded(signature, "signature")?;
        let header = Header::parse(&header)?;
        Ok(Self { header, claims, message, signature })
    }
}

impl TokenRules {
    /// Verifies a token. All that it holds against is configured; nothing is fetched.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Credential, TokenError> {
        let TokenParts { header, claims, message, signature } = TokenParts::parse(token)?;
        let issuer = self.issuer_of(&claims)?;
        issuer.verify(&header, message.as_bytes(), &signature)?;
        let expiry = self.expiry_of(&claims, now)?;
        claims.check_audience(&self.audience)?;
        let subject_claim = &*issuer.subject_claim;
        let subject = claims.name(subject_claim)?;
        let subject = subject.ok_or_else(|| TokenError::MissingClaim(subject_claim.to_owned()))?;
        let identity = Identity::Token(TokenIdentity {
            issuer: issuer.name.clone(),
            subject: subject.into(),
            token_id: claims.name("jti")?.map(Into::into),
            issued: claims.time("iat")?,
        });
        let grants = match issuer.grants_claim.as_deref().and_then(|name| Some((name, claims.get(name)?))) {
            None => Grants::NONE,
            Some((name, value)) => grants_of(value).map_err(|problem| TokenError::BadGrants {
                claim: name.to_owned(),
                problem: problem.to_string(),
            })?,
        };
        let own = self.claim_names.iter().filter_map(|name| Some((name.clone(), claims.segment(name)?)));
        Ok(Credential { identity, expiry: Some(expiry), claims: own.collect(), grants })
    }

    fn issuer_of(&self, claims: &Claims) -> Result<&Issuer, TokenError> {
        let name = claims.text("iss")?.ok_or_else(|| TokenError::MissingClaim("iss".to_owned()))?;
        let issuer = self.issuers.iter().find(|issuer| &*issuer.name == name);
        issuer.ok_or_else(|| TokenError::UnknownIssuer(shortened(name)))
    }

    /// The time in which the token holds, if it holds now.
    fn expiry_of(&self, claims: &Claims, now: Timestamp) -> Result<Expiry, TokenError> {
        let leeway_ms = self.leeway_ms;
        let at = claims.time("exp")?.ok_or_else(|| TokenError::MissingClaim("exp".to_owned()))?;
        let expiry = Expiry { at, leeway_ms };
        if now >= expiry.refused_from() {
            return Err(TokenError::Expired { ago_ms: now.since(at), leeway_ms });
        }
        if let Some(begins) = claims.time("nbf")?
            && begins.since(now) > leeway_ms
        {
            return Err(TokenError::NotYetValid { in_ms: begins.since(now), leeway_ms });
        }
        Ok(expiry)
    }
}
