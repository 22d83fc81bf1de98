//! The header of a token (RFC 7515 §4). Nobody has vouched for it, so it chooses among what is configured and nothing else.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::{
    granted::shortened,
    token::{error::TokenError, verifying::algorithm_named},
};

/// The fields of a header that are used.
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
}

/// Members by which a token would bring its own key.
const FOREIGN_KEYS: [&str; 4] = ["jku", "jwk", "x5u", "x5c"];

impl Header {
    /// Reads a header's members.
    pub(crate) fn parse(members: &Map<String, Value>) -> Result<Self, TokenError> {
        if let Some(name) = FOREIGN_KEYS.into_iter().find(|name| members.contains_key(*name)) {
            return Err(TokenError::ForeignKey(name));
        }
        if members.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        check_type(members.get("typ"))?;
        let algorithm = match members.get("alg").and_then(Value::as_str) {
            Some(name) if name.eq_ignore_ascii_case("none") => return Err(TokenError::Unsigned),
            Some(name) => {
                algorithm_named(name).ok_or_else(|| TokenError::UnknownAlgorithm(shortened(name)))?
            }
            None => return Err(TokenError::UnknownAlgorithm(String::new())),
        };
        let key_id = match members.get("kid") {
            Some(Value::String(id)) => Some(id.clone()),
            None => None,
            Some(_) => return Err(TokenError::Malformed("its header's `kid` is not a string".to_owned())),
        };
        Ok(Self { algorithm, key_id })
    }
}

/// A token of another kind, such as one that says that somebody logged out, may be signed by the same key (RFC 8725 §3.11).
fn check_type(value: Option<&Value>) -> Result<(), TokenError> {
    let name = match value {
        None => return Ok(()),
        Some(Value::String(name)) => name.as_str(),
        Some(_) => return Err(TokenError::Type(String::new())),
    };
    let lower = name.to_ascii_lowercase();
    match lower.strip_prefix("application/").unwrap_or(&lower) {
        "jwt" | "at+jwt" => Ok(()),
        _ => Err(TokenError::Type(shortened(name))),
    }
}
