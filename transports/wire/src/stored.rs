//! Stored messages as lines, for those who carry a log somewhere else: what is written is the line of a stream, and what is
//! read are such lines, with their times.

use serde::Deserialize;
use tailwire_model::{Draft, MediaType, Message, Timestamp};

use crate::{
    Format,
    draft::Object,
    encoders::ENCODERS,
    problem::{Code, Problem},
    time::parse_rfc3339,
};

/// Appends the line of a message, with its line break.
pub fn write(message: &Message, out: &mut Vec<u8>) {
    ENCODERS[Format::Line as usize](message, out);
}

/// The members of a line beside its message.
#[derive(Deserialize)]
struct Envelope {
    kind: Option<String>,
    time: Option<String>,
    #[serde(default)]
    deleted: bool,
}

/// The message of a line, and its time if it has one; nothing, where it is a line that a stream has besides. Where no type
/// is given, a string is text without a type, as streams have it, and everything else JSON.
///
/// # Errors
/// The fault.
pub fn read(line: &[u8]) -> Result<Option<(Draft, Option<Timestamp>)>, Problem> {
    let invalid = |detail: String| Problem::detailed(Code::BatchInvalid, detail);
    let text = std::str::from_utf8(line).map_err(|error| invalid(format!("not UTF-8: {error}")))?;
    let object = Object::read(text)?;
    let envelope: Envelope = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    match envelope.kind.as_deref() {
        None | Some("message") => {}
        Some("heartbeat" | "caught_up" | "gap" | "bye") => return Ok(None),
        Some(other) => return Err(invalid(format!("there is no line of kind `{other}`"))),
    }
    let parse =
        |text: &str| parse_rfc3339(text).ok_or_else(|| invalid("`time` is not as in a line".to_owned()));
    let time = envelope.time.as_deref().map(parse).transpose()?;
    if envelope.deleted {
        return Ok(Some((object.into_deletion()?, time)));
    }
    let is_text = object.data.is_some_and(|data| data.get().starts_with('"'));
    let untyped = if is_text { MediaType::NONE } else { MediaType::JSON };
    Ok(Some((object.into_draft_or(untyped)?, time)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tailwire_model::{DataKind, Epoch, Position, Topic, message::Extras};

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let types = [
            ("", &b"hi there"[..]),
            ("application/json", b"{\"a\":[1,2]}"),
            ("text/html", b"<p>"),
            ("a/b", b"\xff\0"),
        ];
        for (media_type, body) in types {
            let mut draft = Draft::new(
                Topic::parse("a/b").unwrap(),
                MediaType::new(media_type),
                Bytes::from_static(body),
            );
            draft.extras = Some(Box::new(Extras {
                key: Some("k".to_owned()),
                event: Some("e".to_owned()),
                headers: vec![("x-a".to_owned(), "1".to_owned())],
                max_age_ms: Some(90_000),
                is_deletion: false,
            }));
            let time = Timestamp(1_795_000_000_123);
            let mut line = Vec::new();
            write(&draft.clone().into_message(Epoch::MAX, Position(7), time), &mut line);
            assert_eq!(read(&line), Ok(Some((draft, Some(time)))));
        }
        let draft = Draft::deletion(Topic::parse("a").unwrap(), "k".to_owned());
        let mut line = Vec::new();
        write(&draft.clone().into_message(Epoch::MAX, Position(7), Timestamp(5)), &mut line);
        assert_eq!(read(&line), Ok(Some((draft, Some(Timestamp(5))))));
        // Bytes that are not UTF-8 and have no type are base64 in a line.
        let draft = Draft::new(Topic::parse("a").unwrap(), MediaType::NONE, Bytes::from_static(b"\xff"));
        let mut line = Vec::new();
        write(&draft.clone().into_message(Epoch::MAX, Position(7), Timestamp(5)), &mut line);
        assert_eq!(read(&line), Ok(Some((draft, Some(Timestamp(5))))));
    }

    #[test]
    fn lines_of_other_kinds() {
        assert_eq!(read(br#"{"kind":"heartbeat","cursor":"x"}"#), Ok(None));
        assert!(read(br#"{"kind":"welcome"}"#).is_err());
        assert!(read(br#"{"topic":"a","data":1,"time":"yesterday"}"#).is_err());
        let (draft, time) = read(br#"{"topic":"a","data":{"b":1}}"#).unwrap().unwrap();
        assert_eq!((draft.media_type.data_kind(), time), (DataKind::Json, None));
    }
}
