//! The parts of a draft, checked member by member: shared by POST, batches and WebSocket lines.

use std::marker::PhantomData;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use memchr::memchr2_iter;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use tailwire_model::{
    DataKind, Draft, MediaType, Term, Topic,
    limits::{
        EVENT_BYTES_MAX, HEADERS_BYTES_MAX, HEADERS_MAX, MEDIA_TYPE_BYTES_MAX, MESSAGE_BYTES_MAX,
        MESSAGE_KEY_BYTES_MAX, OPTION_MAX,
    },
    message::Extras,
};

use crate::{
    json::{self, surrogate_fault},
    members::raw_object,
    number,
    problem::{Code, Problem},
    query, typo,
};

/// How deep a message's JSON may nest. Common parsers give up at 128 levels; a message stands some levels deep in a
/// page, and one that a reader can't parse would stop that reader for good.
pub(crate) const JSON_DEPTH_MAX: usize = 100;

/// Decodes with and without padding: clients have both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

raw_object! {
    /// A message as an object of a client's: a line of a batch, or what a `publish` line has of it. Members stay raw until
    /// they are checked, so that an error can name the one that is wrong.
    Object {
        topic = "topic",
        data = "data",
        media_type = "type",
        encoding = "encoding",
        key = "key",
        event = "event",
        headers = "headers",
        max_age = "max_age",
    }
}

/// The topic of a name that may not be a pattern.
pub(crate) fn one_topic(name: &str) -> Result<Topic, Problem> {
    match Term::parse(name)? {
        Term::Topic(topic) => Ok(topic),
        Term::Pattern(_) => Err(Problem::new(Code::PatternNotAllowed)),
    }
}

impl<'a> Object<'a> {
    /// Reads an object. An array is refused: it would be taken for the members in their order.
    pub(crate) fn read(text: &'a str) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::detailed(Code::BatchInvalid, detail);
        if !text.trim_start().starts_with('{') {
            return Err(invalid("a message of the batch is an object".to_owned()));
        }
        serde_json::from_str(text).map_err(|error| invalid(json::explain(text, &error)))
    }

    /// The draft that a message of a batch describes. Without a type it is JSON. Misspelt members are refused; those that
    /// messages have when they are read are not: what was read can be published.
    pub(crate) fn into_draft(self) -> Result<Draft, Problem> {
        let own = [
            "topic", "data", "type", "encoding", "key", "event", "headers", "max_age", "cursor", "time",
            "sub",
        ];
        self.names().try_for_each(|name| typo::check_member(name, &own))?;
        self.into_draft_or(MediaType::JSON)
    }

    /// The draft that the object describes, of this type where it has none of its own.
    pub(crate) fn into_draft_or(self, untyped: MediaType) -> Result<Draft, Problem> {
        let topic = self.topic.ok_or_else(|| missing("topic"))?;
        let topic = writable(one_topic(&string("topic", topic)?)?)?;
        let media_type = match self.media_type {
            None => untyped,
            Some(raw) => media_type(&string("type", raw)?)?,
        };
        let body = self.body(&media_type)?;
        let mut extras = Extras::default();
        if let Some(raw) = self.key {
            extras.key = Some(key(string("key", raw)?)?);
        }
        if let Some(raw) = self.event {
            extras.event = Some(event(string("event", raw)?)?);
        }
        if let Some(raw) = self.headers {
            let pairs: Pairs<String> = serde_json::from_str(raw.get())
                .map_err(|_| header_invalid("`headers` is an object of strings"))?;
            for (name, value) in pairs.0 {
                push_header(&mut extras, &name, &value)?;
            }
        }
        extras.max_age_ms = self.max_age.map(|raw| max_age_ms(raw.get())).transpose()?;
        draft(topic, media_type, extras, body)
    }

    /// The draft of a line that says of a key that it is deleted.
    pub(crate) fn into_deletion(self) -> Result<Draft, Problem> {
        let topic = one_topic(&string("topic", self.topic.ok_or_else(|| missing("topic"))?)?)?;
        let key = key(string("key", self.key.ok_or_else(|| missing("key"))?)?)?;
        Ok(Draft::deletion(writable(topic)?, key))
    }

    /// The body: `data` as written for JSON, its content where it is a string.
    fn body(&self, media_type: &MediaType) -> Result<Bytes, Problem> {
        let data = self.data.ok_or_else(|| missing("data"))?;
        let invalid = |detail: &'static str| Problem::parameter(Code::DataInvalid, "data", detail);
        let content = |detail| {
            serde_json::from_str::<String>(data.get()).map_err(|_| match surrogate_fault(data.get()) {
                Some(fault) => Problem::parameter(Code::DataInvalid, "data", fault),
                None => invalid(detail),
            })
        };
        let encoding = self.encoding.map(|raw| string("encoding", raw)).transpose()?;
        let kind = media_type.data_kind();
        match encoding.as_deref() {
            Some("base64") => {
                let text = content("`data` is a string, as `encoding` is base64")?;
                let body = BASE64.decode(text).map_err(|_| invalid("`data` is not base64"))?;
                if kind == DataKind::Json {
                    check_json(&body)?;
                }
                Ok(body.into())
            }
            Some(_) => {
                let detail = "`encoding` is `base64`, or left out";
                Err(Problem::parameter(Code::ParameterInvalid, "encoding", detail))
            }
            None if kind == DataKind::Json => {
                check_surrogates(data.get())?;
                check_depth(data.get().as_bytes())?;
                Ok(Bytes::copy_from_slice(data.get().as_bytes()))
            }
            None if kind == DataKind::Text => Ok(content("`data` of this type is a string")?.into()),
            None => Err(invalid("`data` of this type is base64, and `encoding` says so")),
        }
    }
}

/// Puts a draft together.
pub(crate) fn draft(
    topic: Topic,
    media_type: MediaType,
    extras: Extras,
    body: Bytes,
) -> Result<Draft, Problem> {
    if body.len() > MESSAGE_BYTES_MAX {
        let detail = format!("a message has at most {MESSAGE_BYTES_MAX} bytes");
        return Err(Problem::detailed(Code::MessageTooLarge, detail));
    }
    let extras = (extras != Extras::default()).then(|| Box::new(extras));
    Ok(Draft { topic, media_type, extras, body })
}

/// A topic that clients may publish to, or delete.
pub(crate) fn writable(topic: Topic) -> Result<Topic, Problem> {
    if topic.is_reserved() { Err(Problem::new(Code::TopicReserved)) } else { Ok(topic) }
}

/// A media type (RFC 9110 §8.3.1); none at all if the text is empty.
pub(crate) fn media_type(text: &str) -> Result<MediaType, Problem> {
    if text == "application/json" || text.is_empty() {
        return Ok(MediaType::new(text));
    }
    let legal = text.len() <= MEDIA_TYPE_BYTES_MAX && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    match essence.split_once('/') {
        Some((main, sub)) if legal && is_token(main) && is_token(sub) => Ok(MediaType::new(text)),
        _ => Err(Problem::detailed(
            Code::MediaTypeInvalid,
            format!("a type is `type/subtype`, ASCII, of at most {MEDIA_TYPE_BYTES_MAX} bytes"),
        )),
    }
}

/// A message's key.
pub(crate) fn key(text: String) -> Result<String, Problem> {
    if text.is_empty() || text.len() > MESSAGE_KEY_BYTES_MAX || text.chars().any(char::is_control) {
        let detail = format!("a key has 1 to {MESSAGE_KEY_BYTES_MAX} bytes of UTF-8, no control character");
        return Err(Problem::parameter(Code::KeyInvalid, "key", detail));
    }
    Ok(text)
}

/// An event's name. `open` and `error` are `EventSource`'s own, `tailwire.…` the broker's.
pub(crate) fn event(text: String) -> Result<String, Problem> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    let own = matches!(&*text, "open" | "error") || text.starts_with("tailwire.");
    if text.is_empty() || text.len() > EVENT_BYTES_MAX || own || !text.bytes().all(legal) {
        let detail = "an event is 1 to 64 of `A-Za-z0-9_.:-`, not `open`, `error` or `tailwire.…`";
        return Err(Problem::parameter(Code::EventInvalid, "event", detail));
    }
    Ok(text)
}

/// A message's own lifetime, in seconds.
pub(crate) fn max_age_ms(text: &str) -> Result<u64, Problem> {
    let seconds = number::whole(text).filter(|seconds| (1..=OPTION_MAX).contains(seconds));
    seconds.map(|seconds| seconds.saturating_mul(1000)).ok_or_else(|| {
        query::invalid("max_age", format!("`max_age` is a whole number of seconds from 1 to {OPTION_MAX}"))
    })
}

/// Adds one of the message's own headers. One that stands again is joined to the first by a comma (RFC 9110 §5.3).
pub(crate) fn push_header(extras: &mut Extras, name: &str, value: &str) -> Result<(), Problem> {
    let name = name.to_ascii_lowercase();
    if !is_token(&name) {
        return Err(header_invalid("a header's name is a token"));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(header_invalid("a header's value has no control character"));
    }
    match extras.headers.iter_mut().find(|(have, _)| *have == name) {
        None => extras.headers.push((name, value.to_owned())),
        Some((_, joined)) => {
            joined.push_str(", ");
            joined.push_str(value);
        }
    }
    let bytes: usize = extras.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if extras.headers.len() > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
        let detail =
            format!("a message has at most {HEADERS_MAX} headers of {HEADERS_BYTES_MAX} bytes in all");
        return Err(Problem::detailed(Code::HeadersTooLarge, detail));
    }
    Ok(())
}

/// Checks that a body is JSON (RFC 8259), in UTF-8, that readers can parse. Gives its text.
pub(crate) fn check_json(body: &[u8]) -> Result<&str, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Problem::detailed(Code::JsonInvalid, format!("not UTF-8: {error}")))?;
    // Reads without a stack, so depth can't exhaust it.
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| Problem::detailed(Code::JsonInvalid, json::explain(text, &error)))?;
    check_surrogates(text)?;
    check_depth(body)?;
    Ok(text)
}

/// Checks that valid JSON has no escape that is half of a surrogate pair: readers would refuse it, or make something else
/// of it.
fn check_surrogates(text: &str) -> Result<(), Problem> {
    surrogate_fault(text).map_or(Ok(()), |fault| Err(Problem::detailed(Code::JsonInvalid, fault)))
}

/// Checks that valid JSON nests no deeper than [`JSON_DEPTH_MAX`].
pub(crate) fn check_depth(json: &[u8]) -> Result<(), Problem> {
    // Without so many brackets it can't be too deep, whatever stands in strings.
    if memchr2_iter(b'[', b'{', json).nth(JSON_DEPTH_MAX).is_none() {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            let detail = format!("the data nests deeper than {JSON_DEPTH_MAX} levels");
            return Err(Problem::detailed(Code::JsonInvalid, detail));
        }
    }
    Ok(())
}

/// A member that is a string.
pub(crate) fn string(name: &'static str, raw: &RawValue) -> Result<String, Problem> {
    serde_json::from_str(raw.get()).map_err(|_| {
        let detail = surrogate_fault(raw.get()).unwrap_or_else(|| format!("`{name}` is a string"));
        Problem::parameter(Code::ParameterInvalid, name, detail)
    })
}

/// A member that must be there.
pub(crate) fn missing(name: &'static str) -> Problem {
    Problem::parameter(Code::ParameterMissing, name, format!("`{name}` is missing"))
}

fn header_invalid(detail: &'static str) -> Problem {
    Problem::parameter(Code::HeaderInvalid, "headers", detail)
}

/// A token (RFC 9110 §5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// An object's members in their order, repeated ones too.
pub(crate) struct Pairs<V>(pub(crate) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}
