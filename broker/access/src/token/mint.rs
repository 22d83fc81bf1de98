//! Tokens of one's own, for development and tests, and a look into those of others. Neither takes part in any decision.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use serde_json::json;

use crate::token::{
    claims::Claims,
    error::TokenError,
    json::object,
    verifying::{PROVIDER, algorithm_named, from_base64url, name_of},
};

/// Why a token was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The algorithm isn't known.
    #[error("`{0}` is no algorithm that is known")]
    Algorithm(String),
    /// The key is not one for the algorithm.
    #[error("{0} takes a secret, or a private key in PEM (PKCS #8) of its type")]
    Key(&'static str),
    /// The claims are no JSON object.
    #[error("the claims are no JSON object: {0}")]
    Claims(String),
}

/// Makes a token: of claims as a JSON object, by a secret or a private key in PEM.
///
/// # Errors
/// [`MintError`].
pub fn mint(algorithm: &str, key: &[u8], key_id: Option<&str>, claims: &str) -> Result<String, MintError> {
    let known = algorithm_named(algorithm).ok_or_else(|| MintError::Algorithm(algorithm.to_owned()))?;
    let name = name_of(known);
    let key = match &name[..2] {
        "HS" => EncodingKey::from_secret(key),
        "ES" => EncodingKey::from_ec_pem(key),
        "Ed" => EncodingKey::from_ed_pem(key),
        _ => EncodingKey::from_rsa_pem(key),
    };
    let key = key.map_err(|_| MintError::Key(name))?;
    object(claims.as_bytes()).map_err(|error| MintError::Claims(error.to_string()))?;
    let mut header = json!({"alg": name, "typ": "JWT"});
    if let Some(id) = key_id {
        header["kid"] = json!(id);
    }
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", encoded(&header.to_string()), encoded(claims));
    let signer = (PROVIDER.signer_factory)(&known, &key).map_err(|_| MintError::Key(name))?;
    let signature = signer.try_sign(message.as_bytes()).map_err(|_| MintError::Key(name))?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// The header and the claims of a token as JSON. Nobody has vouched for any of it.
///
/// # Errors
/// [`TokenError::Malformed`].
pub fn inspect(token: &str) -> Result<(String, String), TokenError> {
    let malformed = |problem: &str| TokenError::Malformed(problem.to_owned());
    let text = |part: &str| from_base64url(part).and_then(|bytes| String::from_utf8(bytes).ok());
    let mut parts = token.split('.').map(text);
    let (Some(Some(header)), Some(Some(claims))) = (parts.next(), parts.next()) else {
        return Err(malformed("its first two parts are not text in base64url"));
    };
    object(header.as_bytes()).map_err(|error| malformed(&format!("its header is not JSON: {error}")))?;
    Claims::parse(claims.as_bytes())?;
    Ok((header, claims))
}
