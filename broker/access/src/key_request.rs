//! Requests for new keys, and keys as they are listed: JSON without a secret and without its hash.

use serde_json::{Map, Value, json};
use tailwire_model::{Grants, Timestamp};

use crate::{
    granted::{grants_of, json_of},
    keys::AccessKeyRecord,
    records::{RecordError, time},
    token::{is_name, object},
};

/// A key that somebody asks for: `{"name": "ci", "expires_in_seconds": 3600, "publish": ["builds/**"]}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// Its name, for people.
    pub name: String,
    /// Its grants.
    pub grants: Grants,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
}

impl KeyRequest {
    /// Reads a request. A member that is not known is an error: a mistyped end would make a key without one.
    ///
    /// # Errors
    /// [`RecordError`], with what is wrong.
    pub fn parse(body: &[u8], now: Timestamp) -> Result<Self, RecordError> {
        let wrong = |problem: &str| RecordError(problem.to_owned());
        let mut members = object(body).map_err(|error| RecordError(error.to_string()))?;
        let name = match members.remove("name") {
            None => String::new(),
            Some(Value::String(name)) if name.is_empty() || is_name(&name) => name,
            Some(_) => return Err(wrong("`name` is a string of at most 255 bytes")),
        };
        let at = time(&members, "expires_ms")?;
        let within = members.get("expires_in_seconds").map(|value| {
            let seconds = value.as_u64().filter(|seconds| *seconds > 0);
            seconds.ok_or_else(|| wrong("`expires_in_seconds` is a whole number of seconds from 1 on"))
        });
        let within = within.transpose()?;
        members.remove("expires_ms");
        members.remove("expires_in_seconds");
        let expires = match (at, within) {
            (Some(_), Some(_)) => {
                return Err(wrong("it has `expires_ms` or `expires_in_seconds`, not both"));
            }
            (Some(at), None) if at <= now => return Err(wrong("`expires_ms` is over")),
            (at, None) => at,
            (None, Some(seconds)) => Some(Timestamp(now.0.saturating_add(seconds.saturating_mul(1000)))),
        };
        let grants = grants_of(&Value::Object(members)).map_err(|error| RecordError(error.to_string()))?;
        Ok(Self { name, grants, expires })
    }
}

impl AccessKeyRecord {
    /// The record as people who manage keys see it.
    pub fn shown(&self) -> Map<String, Value> {
        let mut members = json_of(&self.grants);
        members.insert("id".to_owned(), json!(self.id));
        members.insert("name".to_owned(), json!(self.name));
        members.insert("created_ms".to_owned(), json!(self.created.0));
        if let Some(expires) = self.expires {
            members.insert("expires_ms".to_owned(), json!(expires.0));
        }
        members.insert("revoked".to_owned(), json!(self.is_revoked));
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_it_means_or_is_refused() {
        let now = Timestamp(1_000_000);
        let parse = |body: &str| KeyRequest::parse(body.as_bytes(), now);
        let made = parse(r#"{"name":"ci","expires_in_seconds":5,"publish":["builds/**"]}"#).unwrap();
        assert_eq!((made.name.as_str(), made.expires), ("ci", Some(Timestamp(1_005_000))));
        assert_eq!(parse("{}").unwrap().expires, None);
        assert_eq!(parse(r#"{"expires_ms":1000001}"#).unwrap().expires, Some(Timestamp(1_000_001)));
        for wrong in [
            "",
            "[]",
            r#"{"expires":5}"#,
            r#"{"expires_ms":1000000}"#,
            r#"{"expires_ms":"1900000000000"}"#,
            r#"{"expires_in_seconds":0}"#,
            r#"{"expires_in_seconds":1.5}"#,
            r#"{"expires_ms":2000000,"expires_in_seconds":5}"#,
            r#"{"name":5}"#,
            r#"{"name":"a\nb"}"#,
            r#"{"publish":"a"}"#,
            r#"{"publish":["a//b"]}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
