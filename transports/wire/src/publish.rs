//! A POST, parsed: its drafts, key and condition, from headers, query and body.

use bytes::Bytes;
use tailwire_model::{
    Condition, Cursor, DataKind, Draft, Fingerprint, MediaType, Topic,
    limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, MESSAGE_BYTES_MAX},
    message::Extras,
};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    draft::{self, Object},
    etag::tag_cursor,
    problem::{Code, Problem},
    query::{self, SeenParameters},
    typo,
};

/// The media types of a batch.
const BATCH_TYPES: [&str; 2] = ["application/x-ndjson", "application/ndjson"];
/// The prefix of a message's own headers, in lower case.
pub const HEADER_PREFIX: &str = "tailwire-header-";

/// Where a POST goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/topics/{topic}`
    Topic(Topic),
    /// `/stream`, where every line of the batch names its topic.
    Stream,
}

/// A publish: one message or a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The messages; at least one.
    pub drafts: Vec<Draft>,
    /// Whether it is a batch: its answer is [`receipts`](crate::page::receipts), not
    /// [`receipt`](crate::page::receipt).
    pub batch: bool,
    /// The idempotency key, not yet scoped to the caller.
    pub idempotency_key: Option<String>,
    /// The condition.
    pub condition: Condition,
}

impl Publish {
    /// A digest of what is asked: every message's topic, type, options and body, and the condition. It is the same for
    /// the same request on every transport, so that a retry may take another one; and it is stable across versions,
    /// since logs keep it.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut digest = FieldHasher(Xxh3::new());
        digest.number(self.batch.into());
        match self.condition {
            Condition::None => digest.number(0),
            Condition::NothingAfter(cursor) => {
                digest.number(1);
                digest.bytes(&cursor.to_ascii());
            }
            Condition::NeverWritten => digest.number(2),
        }
        digest.number(self.drafts.len() as u64);
        for draft in &self.drafts {
            digest.draft(draft);
        }
        Fingerprint(digest.0.digest128().to_be_bytes())
    }
}

/// Feeds a hash with fields, each with its length before it, so that no two requests run together alike.
struct FieldHasher(Xxh3);

impl FieldHasher {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn optional(&mut self, text: Option<&str>) {
        self.number(text.is_some().into());
        self.bytes(text.unwrap_or_default().as_bytes());
    }

    fn draft(&mut self, draft: &Draft) {
        self.bytes(draft.topic.as_str().as_bytes());
        self.optional(draft.media_type.as_str());
        let extras = draft.extras.as_deref();
        self.optional(extras.and_then(|extras| extras.key.as_deref()));
        self.optional(extras.and_then(|extras| extras.event.as_deref()));
        let headers = extras.map_or(&[][..], |extras| &extras.headers);
        self.number(headers.len() as u64);
        for (name, value) in headers {
            self.bytes(name.as_bytes());
            self.bytes(value.as_bytes());
        }
        if let Some(max_age_ms) = draft.max_age_ms() {
            self.bytes(&max_age_ms.to_le_bytes());
        }
        // Space around JSON is lost where it stands as a member of a line.
        let body = &*draft.body;
        self.bytes(if draft.media_type.data_kind() == DataKind::Json { trim_json(body) } else { body });
    }
}

/// Parses a POST. `headers` are pairs of a lower-case name and a value; `query` is raw and without its `?`.
///
/// # Errors
/// The problem; about a batch, with the number of the line.
pub fn parse<'a>(
    target: Target,
    query: Option<&str>,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: Bytes,
) -> Result<Publish, Problem> {
    let mut options = PublishOptions::default();
    options.hear_query(query)?;
    for (name, value) in headers {
        options.hear_header(name, value)?;
    }
    let batch = is_batch(options.content_type);
    let condition = condition(options.if_match, options.if_none_match)?;
    let idempotency_key = options.idempotency_key.map(header_key).transpose()?;
    let drafts = match target {
        Target::Topic(topic) => {
            let topic = draft::writable(topic)?;
            if batch {
                batch_of_topic(&topic, &options.extras, &body)?
            } else {
                vec![single(topic, options.content_type, options.extras, body)?]
            }
        }
        Target::Stream => {
            check_stream(batch, condition, &options.extras)?;
            batch_of_objects(&body)?
        }
    };
    Ok(Publish { drafts, batch, idempotency_key, condition })
}

/// Reads the query of a DELETE on a topic: the key, if only that is to go.
///
/// # Errors
/// `key-invalid`, `parameter-invalid`.
pub fn deleted_key(query: Option<&str>) -> Result<Option<String>, Problem> {
    let (mut key, mut seen) = (None, SeenParameters::default());
    for (name, value) in query::pairs(query) {
        match &*name {
            "key" => {
                seen.once("key")?;
                key = Some(draft::key(query::text("key", value)?.into_owned())?);
            }
            // Elsewhere an unknown one is ignored. Here a misspelt `key` would take the whole topic.
            other => {
                typo::check(other, &["key"])?;
                let detail = "a DELETE has no parameter but `key`";
                return Err(Problem::parameter(Code::ParameterInvalid, other.to_owned(), detail));
            }
        }
    }
    Ok(key)
}

/// How large a body may be, for the limit that the transport sets before it reads: a batch's is larger.
pub fn body_bytes_max(content_type: Option<&str>) -> usize {
    if is_batch(content_type) { BATCH_BYTES_MAX } else { MESSAGE_BYTES_MAX }
}

fn is_batch(content_type: Option<&str>) -> bool {
    let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    BATCH_TYPES.iter().any(|own| essence.trim().eq_ignore_ascii_case(own))
}

/// The options beside the body.
#[derive(Default)]
struct PublishOptions<'a> {
    content_type: Option<&'a str>,
    idempotency_key: Option<&'a str>,
    if_match: Option<&'a str>,
    if_none_match: Option<&'a str>,
    extras: Extras,
    seen: SeenParameters,
}

impl<'a> PublishOptions<'a> {
    fn hear_query(&mut self, query: Option<&str>) -> Result<(), Problem> {
        for (name, value) in query::pairs(query) {
            match &*name {
                "event" => self.event(&query::text("event", value)?)?,
                "key" => self.key(&query::text("key", value)?)?,
                "max_age" => self.max_age(&query::text("max_age", value)?)?,
                other => typo::check(other, &["event", "key", "max_age"])?,
            }
        }
        Ok(())
    }

    fn hear_header(&mut self, name: &str, value: &'a [u8]) -> Result<(), Problem> {
        match name {
            "content-type" => self.content_type = Some(utf8(Code::MediaTypeInvalid, value)?),
            "idempotency-key" => {
                once(&mut self.idempotency_key, Code::IdempotencyKeyInvalid, value)?;
            }
            "if-match" => once(&mut self.if_match, Code::ConditionInvalid, value)?,
            "if-none-match" => once(&mut self.if_none_match, Code::ConditionInvalid, value)?,
            "tailwire-event" => self.event(utf8(Code::EventInvalid, value)?)?,
            "tailwire-key" => self.key(utf8(Code::KeyInvalid, value)?)?,
            "tailwire-max-age" => self.max_age(utf8(Code::ParameterInvalid, value)?)?,
            other => {
                if let Some(own) = other.strip_prefix(HEADER_PREFIX) {
                    draft::push_header(&mut self.extras, own, utf8(Code::HeaderInvalid, value)?)?;
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, text: &str) -> Result<(), Problem> {
        self.seen.once("event")?;
        self.extras.event = Some(draft::event(text.to_owned())?);
        Ok(())
    }

    fn key(&mut self, text: &str) -> Result<(), Problem> {
        self.seen.once("key")?;
        self.extras.key = Some(draft::key(text.to_owned())?);
        Ok(())
    }

    fn max_age(&mut self, text: &str) -> Result<(), Problem> {
        self.seen.once("max_age")?;
        self.extras.max_age_ms = Some(draft::max_age_ms(text)?);
        Ok(())
    }
}

fn utf8(code: Code, value: &[u8]) -> Result<&str, Problem> {
    let text = std::str::from_utf8(value).map_err(|_| Problem::detailed(code, "the header is not UTF-8"))?;
    Ok(text.trim())
}

fn once<'a>(held: &mut Option<&'a str>, code: Code, value: &'a [u8]) -> Result<(), Problem> {
    match held.replace(utf8(code, value)?) {
        None => Ok(()),
        Some(_) => Err(Problem::detailed(code, "the header stands more than once")),
    }
}

fn single(topic: Topic, content_type: Option<&str>, extras: Extras, body: Bytes) -> Result<Draft, Problem> {
    let media_type = draft::media_type(content_type.unwrap_or_default())?;
    let draft = draft::draft(topic, media_type, extras, body)?;
    if draft.media_type.data_kind() == DataKind::Json {
        draft::check_json(&draft.body)?;
    }
    Ok(draft)
}

/// A batch on a topic: each line is one JSON message. The options are every message's.
fn batch_of_topic(topic: &Topic, extras: &Extras, body: &Bytes) -> Result<Vec<Draft>, Problem> {
    // An option of the request that every message gets counts as often as it is stored.
    let mut repeated = 0;
    let each = extras.cost();
    batch(body, |line| {
        repeated += each;
        if repeated > BATCH_BYTES_MAX {
            let detail = format!("the options of all messages have more than {BATCH_BYTES_MAX} bytes");
            return Err(Problem::detailed(Code::BodyTooLarge, detail));
        }
        draft::check_json(line)?;
        draft::draft(topic.clone(), MediaType::JSON, extras.clone(), body.slice_ref(line))
    })
}

/// A batch on `/stream`: each line is an object that names its topic.
fn batch_of_objects(body: &Bytes) -> Result<Vec<Draft>, Problem> {
    batch(body, |line| {
        let text = std::str::from_utf8(line)
            .map_err(|error| Problem::detailed(Code::BatchInvalid, format!("not UTF-8: {error}")))?;
        Object::read(text)?.into_draft()
    })
}

/// The drafts of a batch's lines; blank ones are skipped.
fn batch(
    body: &Bytes,
    mut read_line: impl FnMut(&[u8]) -> Result<Draft, Problem>,
) -> Result<Vec<Draft>, Problem> {
    if body.len() > BATCH_BYTES_MAX {
        let detail = format!("a batch has at most {BATCH_BYTES_MAX} bytes");
        return Err(Problem::detailed(Code::BodyTooLarge, detail));
    }
    let mut drafts = Vec::new();
    let lines = body.split(|&byte| byte == b'\n').map(trim_json).enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        if drafts.len() == BATCH_MESSAGES_MAX {
            return Err(batch_too_large());
        }
        drafts.push(read_line(line).map_err(|problem| problem.with_line(index + 1))?);
    }
    if drafts.is_empty() {
        return Err(Problem::detailed(Code::BatchInvalid, "the batch has no message"));
    }
    Ok(drafts)
}

pub(crate) fn batch_too_large() -> Problem {
    let detail = format!("a batch has at most {BATCH_MESSAGES_MAX} messages");
    Problem::detailed(Code::BatchTooLarge, detail)
}

fn check_stream(batch: bool, condition: Condition, extras: &Extras) -> Result<(), Problem> {
    if !batch {
        let detail = "only a batch, application/x-ndjson, is published here; one message goes to its topic";
        return Err(Problem::detailed(Code::MediaTypeInvalid, detail));
    }
    if condition != Condition::None {
        return Err(Problem::detailed(Code::ConditionInvalid, "a condition asks about one topic"));
    }
    if *extras != Extras::default() {
        let detail = "here each line of the batch has its own key, event, headers and lifetime";
        return Err(Problem::detailed(Code::ParameterInvalid, detail));
    }
    Ok(())
}

/// The condition of `If-Match` or `If-None-Match` (RFC 9110 §13.1). A weak tag is taken too: lists have only such, and
/// name their last message by it.
pub(crate) fn condition(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Condition, Problem> {
    let invalid = |detail: &'static str| Err(Problem::detailed(Code::ConditionInvalid, detail));
    let cursor = |text: &str| tag_cursor(text).or_else(|| text.parse::<Cursor>().ok());
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::None),
        (Some(text), None) => match cursor(text) {
            Some(cursor) => Ok(Condition::NothingAfter(cursor)),
            None => invalid("If-Match is one cursor in quotes"),
        },
        (None, Some("*")) => Ok(Condition::NeverWritten),
        (None, Some(_)) => invalid("If-None-Match is `*` here"),
        (Some(_), Some(_)) => invalid("If-Match and If-None-Match exclude each other"),
    }
}

/// The key of an `Idempotency-Key` header: a string (RFC 9651 §3.3.3), or what clients send without its quotes.
fn header_key(text: &str) -> Result<String, Problem> {
    let Some(quoted) = text.strip_prefix('"') else {
        return idempotency_key(text.to_owned());
    };
    let mut key = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next() {
            Some('"') if chars.as_str().is_empty() => return idempotency_key(key),
            Some('\\') => match chars.next() {
                Some(escaped @ ('"' | '\\')) => key.push(escaped),
                _ => return Err(key_invalid()),
            },
            None | Some('"') => return Err(key_invalid()),
            Some(other) => key.push(other),
        }
    }
}

/// Checks an idempotency key, taken out of its quotes.
pub(crate) fn idempotency_key(key: String) -> Result<String, Problem> {
    let legal = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if legal { Ok(key) } else { Err(key_invalid()) }
}

fn key_invalid() -> Problem {
    let detail =
        format!("a key is a quoted string of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters");
    Problem::detailed(Code::IdempotencyKeyInvalid, detail)
}

/// Without the space that JSON allows around a value (RFC 8259 §2).
fn trim_json(text: &[u8]) -> &[u8] {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = text.iter().position(|byte| !space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !space(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}
