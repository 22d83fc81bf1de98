//! The common parts of records of the log.

use serde_json::{Map, Value};
use tailwire_model::Timestamp;

/// The data of a message is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no record of access: {0}")]
pub struct RecordError(pub(crate) String);

/// A member that has to be a text.
pub(crate) fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, RecordError> {
    let text = members.get(name).and_then(Value::as_str);
    text.ok_or_else(|| RecordError(format!("`{name}` is a string")))
}

/// A member that is a time, if it is there.
pub(crate) fn time(members: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, RecordError> {
    match members.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(ms) => Ok(Some(Timestamp(ms))),
            None => Err(RecordError(format!("`{name}` is a whole number of milliseconds since 1970"))),
        },
    }
}
