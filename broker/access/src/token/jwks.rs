//! Documents of public keys (RFC 7517 §5), as data: somebody else fetches them.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use tailwire_model::limits::{ISSUER_KEYS_MAX, JWKS_BYTES_MAX};

use crate::token::{
    json::object,
    verifying::{KeyFault, VerifyingKey, algorithm_named, from_base64url},
};

/// Why a document gives no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// No such issuer, or one whose keys are in the configuration.
    #[error("no issuer `{0}` has its keys fetched")]
    UnknownIssuer(String),
    /// Too large to be one.
    #[error("the document has {0} bytes, and at most 262,144 are read")]
    TooLong(usize),
    /// Not what it should be.
    #[error("the document is no set of keys: {0}")]
    Malformed(String),
    /// Keys, but none that can be used. Those before stay.
    #[error("none of the document's keys can be used: {0}")]
    NoKeys(String),
}

/// The usable keys of a document.
pub(crate) struct Jwks {
    pub(crate) keys: Vec<VerifyingKey>,
    /// Why others are not used, each with its id or number.
    pub(crate) skipped: Vec<(String, KeyFault)>,
}

impl Jwks {
    /// Reads a document. A key that is not usable doesn't take the others with it: issuers publish keys for much else.
    pub(crate) fn parse(document: &[u8], pinned: &[Algorithm]) -> Result<Self, JwksError> {
        if document.len() > JWKS_BYTES_MAX {
            return Err(JwksError::TooLong(document.len()));
        }
        let document = object(document).map_err(|error| JwksError::Malformed(error.to_string()))?;
        let Some(list) = document.get("keys").and_then(Value::as_array) else {
            return Err(JwksError::Malformed("it has no list `keys`".to_owned()));
        };
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, jwk) in list.iter().enumerate() {
            match jwk.as_object().ok_or(KeyFault::Unsupported).and_then(|jwk| key_of(jwk, pinned)) {
                Ok(key) if keys.len() < ISSUER_KEYS_MAX => keys.push(key),
                Ok(_) => {}
                Err(fault) => {
                    let id = jwk.get("kid").and_then(Value::as_str);
                    let name = id.map_or_else(|| format!("number {index}"), crate::granted::shortened);
                    skipped.push((name, fault));
                }
            }
        }
        if keys.is_empty() {
            let reasons: Vec<String> =
                skipped.iter().take(3).map(|(name, fault)| format!("{name}: {fault}")).collect();
            return Err(JwksError::NoKeys(reasons.join("; ")));
        }
        Ok(Self { keys, skipped })
    }
}

fn key_of(jwk: &Map<String, Value>, pinned: &[Algorithm]) -> Result<VerifyingKey, KeyFault> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if jwk.contains_key("d") {
        return Err(KeyFault::Private);
    }
    if text("use").is_some_and(|usage| usage != "sig") || !may_verify(jwk.get("key_ops")) {
        return Err(KeyFault::Unsupported);
    }
    let bytes = |name| text(name).and_then(from_base64url).ok_or(KeyFault::Damaged);
    let key = match (text("kty"), text("crv")) {
        (Some("oct"), _) => return Err(KeyFault::PublishedSecret),
        (Some("RSA"), _) => DecodingKey::from_rsa_raw_components(&bytes("n")?, &bytes("e")?),
        (Some("EC"), Some(curve @ ("P-256" | "P-384"))) => {
            let length = if curve == "P-256" { 32 } else { 48 };
            let (x, y) = (bytes("x")?, bytes("y")?);
            if (x.len(), y.len()) != (length, length) {
                return Err(KeyFault::Damaged);
            }
            DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat())
        }
        (Some("OKP"), Some("Ed25519")) => DecodingKey::from_ed_der(&bytes("x")?),
        _ => return Err(KeyFault::Unsupported),
    };
    // The key's own restrictions narrow what it is pinned to.
    let own: Vec<Algorithm> = match text("alg") {
        None => pinned.to_vec(),
        Some(name) => {
            let algorithm = algorithm_named(name).ok_or(KeyFault::Unsupported)?;
            if !pinned.is_empty() && !pinned.contains(&algorithm) {
                return Err(KeyFault::NotPinned { own: name.to_owned() });
            }
            vec![algorithm]
        }
    };
    let mut key = VerifyingKey::public(key, &own)?;
    key.id = text("kid").map(Into::into);
    Ok(key)
}

fn may_verify(operations: Option<&Value>) -> bool {
    match operations {
        None => true,
        Some(list) => list.as_array().is_some_and(|list| list.iter().any(|operation| operation == "verify")),
    }
}
