//! How one message is laid out: a record in a chunk, and its content, which stands in the record or, when it is too
//! large for a chunk, apart from it in fragments.
//!
//! ```text
//! record:  length  position - chunk's first  time - chunk's time  topic  form  rest
//! rest:    content                                       (form 0, inline)
//!          content length  cost  CRC-32 of the content   (form 1, in fragments)
//! content: flags  [media type]  [extras]  body
//! ```
//! Numbers are varints, texts have their length before them.

use bytes::Bytes;
use tailwire_model::{Draft, MediaType, Message, Position, Timestamp, Topic, message::Extras};

use crate::codec::{ByteReader, Damage, checksum, put_str, put_varint};

/// The size of a record beside its topic and content, usually.
pub(crate) const RECORD_OVERHEAD: usize = 16;

const INLINE: u8 = 0;
const FRAGMENTED: u8 = 1;

const MEDIA_JSON: u8 = 1;
const MEDIA_OTHER: u8 = 2;
const HAS_EXTRAS: u8 = 4;
const HAS_KEY: u8 = 8;
const HAS_EVENT: u8 = 16;
const HAS_MAX_AGE: u8 = 32;
const IS_DELETION: u8 = 64;

/// A message's place in a chunk, without its content decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) position: Position,
    pub(crate) time: Timestamp,
    pub(crate) topic: &'a str,
    pub(crate) content: Content<'a>,
}

/// Where a message's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// Here.
    Inline(&'a [u8]),
    /// In fragments.
    Fragmented(Fragmented),
}

/// Content in fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragmented {
    /// Its bytes, all fragments together.
    pub(crate) length: usize,
    /// The message's cost, so that a budget is judged before the fragments are read.
    pub(crate) cost: usize,
    sum: u32,
}

impl Fragmented {
    /// Describes the content of a message.
    pub(crate) fn of(message: &Message, content: &[u8]) -> Self {
        let position = message.position().0.to_be_bytes();
        Self { length: content.len(), cost: message.draft.cost(), sum: checksum(&position, content) }
    }

    /// Whether these bytes are the content.
    pub(crate) fn check(&self, position: Position, content: &[u8]) -> Result<(), Damage> {
        let right = content.len() == self.length && checksum(&position.0.to_be_bytes(), content) == self.sum;
        if right { Ok(()) } else { Err(Damage("its fragments are not what was written")) }
    }
}

impl<'a> Record<'a> {
    /// Appends the record to a chunk that begins at `base`.
    pub(crate) fn put(&self, out: &mut Vec<u8>, base: (Position, Timestamp)) {
        let mut rest = Vec::with_capacity(48 + self.topic.len());
        put_varint(&mut rest, self.position.0 - base.0.0);
        put_varint(&mut rest, self.time.0.wrapping_sub(base.1.0));
        put_str(&mut rest, self.topic);
        let content = match self.content {
            Content::Inline(content) => {
                rest.push(INLINE);
                content
            }
            Content::Fragmented(fragmented) => {
                rest.push(FRAGMENTED);
                put_varint(&mut rest, fragmented.length as u64);
                put_varint(&mut rest, fragmented.cost as u64);
                rest.extend_from_slice(&fragmented.sum.to_le_bytes());
                &[]
            }
        };
        put_varint(out, (rest.len() + content.len()) as u64);
        out.extend_from_slice(&rest);
        out.extend_from_slice(content);
    }

    /// Takes the next record of a chunk that begins at `base`.
    pub(crate) fn take(reader: &mut ByteReader<'a>, base: (Position, Timestamp)) -> Result<Self, Damage> {
        let length = reader.length()?;
        let mut reader = ByteReader(reader.bytes(length)?);
        let offset = reader.varint()?;
        let position = base.0.0.checked_add(offset).ok_or(Damage("a position is too large"))?;
        // A clock may have been set back in between.
        let time = base.1.0.wrapping_add(reader.varint()?);
        let topic = reader.str()?;
        let content = match reader.byte()? {
            INLINE => Content::Inline(reader.0),
            FRAGMENTED => {
                let (length, cost) = (reader.length()?, reader.length()?);
                Content::Fragmented(Fragmented { length, cost, sum: reader.u32()? })
            }
            _ => return Err(Damage("a record has an unknown form")),
        };
        Ok(Self { position: Position(position), time: Timestamp(time), topic, content })
    }
}

impl Record<'_> {
    /// The cost of the message, as [`Draft::cost`] counts it, without decoding it.
    pub(crate) fn cost(&self) -> Result<usize, Damage> {
        match self.content {
            Content::Inline(content) => content_cost(self.topic, content),
            Content::Fragmented(fragmented) => Ok(fragmented.cost),
        }
    }

    /// The size of the record in its chunk, roughly.
    pub(crate) fn stored_bytes(&self) -> usize {
        let content = if let Content::Inline(content) = self.content { content.len() } else { 0 };
        RECORD_OVERHEAD + self.topic.len() + content
    }
}

/// Encodes a message's content into `out`.
pub(crate) fn put_content(out: &mut Vec<u8>, draft: &Draft) {
    let extras = draft.extras.as_deref();
    let media = match draft.media_type.as_str() {
        None => 0,
        Some(_) if draft.media_type == MediaType::JSON => MEDIA_JSON,
        Some(_) => MEDIA_OTHER,
    };
    let extras_flags = extras.map_or(0, |extras| {
        let key = if extras.key.is_some() { HAS_KEY } else { 0 };
        let event = if extras.event.is_some() { HAS_EVENT } else { 0 };
        let max_age = if extras.max_age_ms.is_some() { HAS_MAX_AGE } else { 0 };
        let deletion = if extras.is_deletion { IS_DELETION } else { 0 };
        HAS_EXTRAS | key | event | max_age | deletion
    });
    out.push(media | extras_flags);
    if media == MEDIA_OTHER {
        put_str(out, draft.media_type.as_str().unwrap_or_default());
    }
    if let Some(extras) = extras {
        for text in [&extras.key, &extras.event].into_iter().flatten() {
            put_str(out, text);
        }
        put_varint(out, extras.headers.len() as u64);
        for (name, value) in &extras.headers {
            put_str(out, name);
            put_str(out, value);
        }
        if let Some(max_age_ms) = extras.max_age_ms {
            put_varint(out, max_age_ms);
        }
    }
    out.extend_from_slice(&draft.body);
}

/// Decodes a message's content. `backing` holds the bytes of `content`, and the body becomes a slice of it.
pub(crate) fn take_content(topic: Topic, content: &[u8], backing: &Bytes) -> Result<Draft, Damage> {
    let mut reader = ByteReader(content);
    let flags = reader.byte()?;
    let media_type = match flags & (MEDIA_JSON | MEDIA_OTHER) {
        0 => MediaType::NONE,
        MEDIA_JSON => MediaType::JSON,
        MEDIA_OTHER => MediaType::new(reader.str()?),
        _ => return Err(Damage("a media type is of an unknown form")),
    };
    let extras = (flags & HAS_EXTRAS != 0).then(|| take_extras(flags, &mut reader)).transpose()?;
    let body = backing.slice_ref(reader.0);
    Ok(Draft { topic, media_type, extras: extras.map(Box::new), body })
}

/// The cost of a message with this content.
fn content_cost(topic: &str, content: &[u8]) -> Result<usize, Damage> {
    let mut reader = ByteReader(content);
    let flags = reader.byte()?;
    if flags & (MEDIA_JSON | MEDIA_OTHER) == MEDIA_OTHER {
        reader.str()?;
    }
    let extras = if flags & HAS_EXTRAS == 0 { 0 } else { take_extras(flags, &mut reader)?.cost() };
    Ok(Draft::cost_of(topic.len(), extras, reader.0.len()))
}

/// How long a message with this content lives, or with one that begins so, if it says that.
pub(crate) fn max_age_ms(content: &[u8]) -> Option<u64> {
    let mut reader = ByteReader(content);
    let flags = reader.byte().ok().filter(|flags| flags & HAS_MAX_AGE != 0)?;
    if flags & (MEDIA_JSON | MEDIA_OTHER) == MEDIA_OTHER {
        reader.str().ok()?;
    }
    take_extras(flags, &mut reader).ok()?.max_age_ms
}

fn take_extras(flags: u8, reader: &mut ByteReader<'_>) -> Result<Extras, Damage> {
    let mut text = |flag: u8| (flags & flag != 0).then(|| reader.str().map(str::to_owned)).transpose();
    let (key, event) = (text(HAS_KEY)?, text(HAS_EVENT)?);
    let mut headers = Vec::new();
    for _ in 0..reader.varint()? {
        headers.push((reader.str()?.to_owned(), reader.str()?.to_owned()));
    }
    let max_age_ms = (flags & HAS_MAX_AGE != 0).then(|| reader.varint()).transpose()?;
    Ok(Extras { key, event, headers, max_age_ms, is_deletion: flags & IS_DELETION != 0 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn extras() -> impl Strategy<Value = Extras> {
        let text = || proptest::option::of("[a-z]{0,9}");
        let headers = proptest::collection::vec(("[a-z-]{1,9}", "[ -~]{0,20}"), 0..4);
        let max_age_ms = proptest::option::of(any::<u64>());
        (text(), text(), headers, max_age_ms, any::<bool>()).prop_map(
            |(key, event, headers, max_age_ms, is_deletion)| Extras {
                key,
                event,
                headers,
                max_age_ms,
                is_deletion,
            },
        )
    }

    proptest! {
        #[test]
        fn content_round_trips(
            media in prop_oneof![Just("".to_owned()), Just("application/json".to_owned()), "[a-z]{1,9}/[a-z]{1,9}"],
            extras in proptest::option::of(extras()),
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let topic = Topic::parse("a/b").unwrap();
            let mut draft = Draft::new(topic.clone(), MediaType::new(&media), Bytes::from(body));
            draft.extras = extras.map(Box::new);
            let mut content = Vec::new();
            put_content(&mut content, &draft);
            let backing = Bytes::from(content);
            prop_assert_eq!(content_cost("a/b", &backing), Ok(draft.cost()));
            prop_assert_eq!(take_content(topic, &backing, &backing), Ok(draft));
        }

        #[test]
        fn arbitrary_content_is_an_error_or_a_draft(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let backing = Bytes::from(bytes);
            let _ = take_content(Topic::parse("a").unwrap(), &backing, &backing);
        }
    }
}
