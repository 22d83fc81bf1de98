//! The claims of a token (RFC 7519 §4.1), each of the type that it has to be: nothing is converted.

use serde_json::{Map, Value};
use tailwire_model::{Timestamp, limits::SUBJECT_BYTES_MAX};

use crate::{
    granted::shortened,
    token::{error::TokenError, json::object},
};

/// A token's claims, by name.
pub(crate) struct Claims(Map<String, Value>);

/// 9999-12-31T23:59:59Z. What lies beyond is in milliseconds, most often.
const SECONDS_MAX: f64 = 253_402_300_799.0;

impl Claims {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, TokenError> {
        object(json)
            .map(Self)
            .map_err(|error| TokenError::Malformed(format!("its claims are not JSON: {error}")))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that is a string.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, TokenError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    /// A claim that names something: short, and fit for a log line.
    pub(crate) fn name(&self, name: &str) -> Result<Option<&str>, TokenError> {
        let text = self.text(name)?;
        match text {
            Some(text) if !is_name(text) => Err(TokenError::BadName(name.to_owned())),
            text => Ok(text),
        }
    }

    /// A claim that is a time: seconds since 1970, a number (RFC 7519 §2).
    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, TokenError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = match value {
            Value::Number(number) => number.as_f64(),
            _ => None,
        };
        match seconds {
            Some(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
                // In range, so nothing is cut off but the part of a millisecond.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
                Ok(Some(Timestamp((seconds * 1000.0) as u64)))
            }
            _ => Err(wrong(name, "a number of seconds since 1970, before the year 10000")),
        }
    }

    /// Whether the claim `aud` names `expected` (RFC 7519 §4.1.3).
    pub(crate) fn check_audience(&self, expected: &str) -> Result<(), TokenError> {
        let list = match self.0.get("aud") {
            None => return Err(TokenError::MissingClaim("aud".to_owned())),
            Some(Value::String(one)) if one == expected => return Ok(()),
            Some(Value::String(one)) => std::slice::from_ref(one).iter().map(String::as_str).collect(),
            Some(Value::Array(list)) => {
                let list: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                list.ok_or_else(|| wrong("aud", "a string or a list of strings"))?
            }
            Some(_) => return Err(wrong("aud", "a string or a list of strings")),
        };
        if list.contains(&expected) {
            return Ok(());
        }
        Err(TokenError::WrongAudience {
            found: shortened(&format!("{list:?}")),
            expected: expected.to_owned(),
        })
    }

    /// A claim as it stands in a pattern: a string, or a whole number.
    pub(crate) fn segment(&self, name: &str) -> Option<Box<str>> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.as_str().into()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string().into()),
            _ => None,
        }
    }
}

/// Whether a text can name a principal.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

pub(crate) fn wrong(claim: &str, expected: &'static str) -> TokenError {
    TokenError::ClaimType { claim: claim.to_owned(), expected }
}
