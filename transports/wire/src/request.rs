//! A WebSocket client's lines: every request that HTTP can make, with the same fields and the same codes.

use serde::Deserialize;
use serde_json::value::RawValue;
use tailwire_model::{
    Condition, Cursor, Draft, Filter, MediaType, Options, SizeBound, Term, Topic,
    limits::{
        BATCH_MESSAGES_MAX, LAST_MAX, PAGE_MESSAGES_DEFAULT, PAGE_MESSAGES_MAX, TOPICS_PAGE_DEFAULT,
        TOPICS_PAGE_MAX, WAIT_MS_MAX,
    },
};

use crate::{
    draft::{self, Object, missing, string},
    json,
    members::raw_object,
    options,
    problem::{Code, Problem},
    publish::{self, Publish},
    query::{self, QueryStart, TopicsRequest},
    typo,
};

/// The longest id: what a client counts, or a UUID, and then some.
const ID_BYTES_MAX: usize = 128;

/// A request's id, which is also its subscription's name: a JSON number or string, kept, compared and echoed as the raw
/// JSON that the client wrote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(Box<str>);

impl Id {
    /// The name of the URL's subscription: `0`.
    pub fn url() -> Self {
        Self("0".into())
    }

    /// The raw JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A number or string of fair length; nothing else names a request.
    fn read(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        let kind = text.as_bytes().first()?;
        let legal = matches!(kind, b'"' | b'-' | b'0'..=b'9') && text.len() <= ID_BYTES_MAX;
        legal.then(|| Self(text.into()))
    }
}

/// One line of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLine {
    /// Which request; its answer carries it.
    pub id: Id,
    /// The request.
    pub request: Request,
}

/// A client's line, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `subscribe`: a standing interest, named by the line's id.
    Subscribe(Subscribe),
    /// `unsubscribe`: end the subscription `sub`.
    Unsubscribe {
        /// The subscription's name.
        sub: Id,
    },
    /// `publish`: one message (`topic`, `data`, …) or a batch (`messages`, an array of such objects).
    Publish(Publish),
    /// `page`: messages that are there.
    Page(PageRequest),
    /// `authenticate`
    Authenticate {
        /// The credential, as the client holds it.
        token: String,
    },
    /// `delete`: trim a topic's messages, or delete a key of it.
    Delete {
        /// Which.
        topic: Topic,
        /// The key, if only that is to go.
        key: Option<String>,
    },
    /// `delete_message`: remove one message.
    DeleteMessage {
        /// Which.
        cursor: Cursor,
    },
    /// `topics`: the list of topics.
    Topics(TopicsRequest),
    /// `message`: one stored message.
    Message {
        /// Which.
        cursor: Cursor,
    },
    /// `options`: what is set for a term, or the list of all.
    Options {
        /// Which; the list if there is none.
        term: Option<Term>,
    },
    /// `set_options`: set what holds for a term, in place of what was set for it.
    SetOptions {
        /// Which.
        term: Term,
        /// The options.
        options: Options,
    },
    /// `delete_options`: take back what was set for a term.
    DeleteOptions {
        /// Which.
        term: Term,
    },
}

impl Request {
    /// Whether it changes something that others see.
    pub const fn is_change(&self) -> bool {
        match self {
            Self::Publish(_)
            | Self::Delete { .. }
            | Self::DeleteMessage { .. }
            | Self::SetOptions { .. }
            | Self::DeleteOptions { .. } => true,
            Self::Subscribe(_)
            | Self::Unsubscribe { .. }
            | Self::Page(_)
            | Self::Authenticate { .. }
            | Self::Topics(_)
            | Self::Message { .. }
            | Self::Options { .. } => false,
        }
    }
}

/// The members of a `subscribe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The topics: `topic`, a string or an array of them; at least one.
    pub filter: Filter,
    /// From where: `after` or `last`, else the latest.
    pub start: QueryStart,
    /// The end of a gap that the client knows of: `gap`.
    pub gap: Option<Cursor>,
    /// How large a message is given whole: `max_bytes`.
    pub bound: Option<SizeBound>,
}

/// The members of a `page`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The topics, as in [`Subscribe`].
    pub filter: Filter,
    /// From where: `after`, `before` or `last`, else the earliest.
    pub start: QueryStart,
    /// The end of a gap that the client knows of.
    pub gap: Option<Cursor>,
    /// How many messages at most, within the bounds.
    pub limit: usize,
    /// How large a message is given whole: `max_bytes`. Nor is the page larger.
    pub bound: Option<SizeBound>,
    /// How long to wait for a message: `wait` in seconds, as granted. Zero: not at all.
    pub wait_ms: u64,
}

/// Why a line is not a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// The line's id, if it could be read.
    pub id: Option<Id>,
    /// The fault.
    pub problem: Problem,
}

/// Parses one text line of a client. A member that a kind does not have is ignored, unless another kind has it, or it is
/// nearly one of its own.
///
/// # Errors
/// The problem of a line, with its id if that could be read.
pub fn parse(line: &str) -> Result<ClientLine, LineError> {
    if !line.trim_start().starts_with('{') {
        // An array would be taken for the members in their order.
        let problem = Problem::detailed(Code::LineInvalid, "a line is a JSON object");
        return Err(LineError { id: None, problem });
    }
    let members: LineMembers<'_> = serde_json::from_str(line).map_err(|error| LineError {
        id: serde_json::from_str::<OnlyId<'_>>(line).ok().and_then(|line| Id::read(line.id)),
        problem: Problem::detailed(Code::LineInvalid, json::explain(line, &error)),
    })?;
    let Some(id) = members.id.and_then(Id::read) else {
        let detail = format!("`id` is a number or string of at most {ID_BYTES_MAX} bytes");
        return Err(LineError { id: None, problem: Problem::parameter(Code::LineInvalid, "id", detail) });
    };
    match members.into_request(line) {
        Ok(request) => Ok(ClientLine { id, request }),
        Err(problem) => Err(LineError { id: Some(id), problem }),
    }
}

/// The legible part of a line whose members don't fit, such as a repeated one.
#[derive(Deserialize)]
struct OnlyId<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
}

raw_object! {
    /// Every member that a line may have, raw until its kind is known.
    LineMembers {
        id = "id",
        kind = "kind",
        sub = "sub",
        token = "token",
        topic = "topic",
        after = "after",
        before = "before",
        last = "last",
        limit = "limit",
        gap = "gap",
        wait = "wait",
        max_bytes = "max_bytes",
        prefix = "prefix",
        from = "from",
        cursor = "cursor",
        messages = "messages",
        data = "data",
        media_type = "type",
        encoding = "encoding",
        key = "key",
        event = "event",
        headers = "headers",
        max_age = "max_age",
        idempotency_key = "idempotency_key",
        if_match = "if_match",
        if_none_match = "if_none_match",
    }
}

/// The members of each kind. `set_options` checks its own.
fn members_of(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "subscribe" => &["topic", "after", "last", "gap", "max_bytes"],
        "unsubscribe" => &["sub"],
        "page" => &["topic", "after", "before", "last", "limit", "gap", "wait", "max_bytes"],
        "publish" => &[
            "topic",
            "data",
            "type",
            "encoding",
            "key",
            "event",
            "headers",
            "max_age",
            "messages",
            "idempotency_key",
            "if_match",
            "if_none_match",
            // What was read can be published as it is.
            "cursor",
            "time",
            "sub",
        ],
        "authenticate" => &["token"],
        "delete" => &["topic", "key"],
        "options" | "delete_options" => &["topic"],
        "topics" => &["prefix", "from", "limit"],
        "message" | "delete_message" => &["cursor"],
        _ => return None,
    })
}

impl LineMembers<'_> {
    fn into_request(self, line: &str) -> Result<Request, Problem> {
        let kind = text("kind", self.kind)?.ok_or_else(|| Problem::new(Code::LineInvalid))?;
        if let Some(own) = members_of(&kind) {
            let mut others = self.names().filter(|name| !matches!(*name, "id" | "kind"));
            others.try_for_each(|name| typo::check_member(name, own))?;
        }
        Ok(match &*kind {
            "subscribe" => Request::Subscribe(Subscribe {
                filter: self.filter()?,
                start: self.start()?.onwards()?.or(QueryStart::Latest),
                gap: self.cursor("gap", self.gap)?,
                bound: self.bound()?,
            }),
            "unsubscribe" => {
                let raw = self.sub.ok_or_else(|| missing("sub"))?;
                let sub =
                    Id::read(raw).ok_or_else(|| query::invalid("sub", "`sub` is a subscription's id"))?;
                Request::Unsubscribe { sub }
            }
            "publish" => Request::Publish(self.publish()?),
            "page" => Request::Page(self.page()?),
            "authenticate" => Request::Authenticate { token: required("token", self.token)? },
            "delete" => {
                let topic = draft::one_topic(&required("topic", self.topic)?)?;
                let key = text("key", self.key)?.map(draft::key).transpose()?;
                Request::Delete { topic: draft::writable(topic)?, key }
            }
            "topics" => Request::Topics(TopicsRequest {
                prefix: text("prefix", self.prefix)?.unwrap_or_default(),
                from: text("from", self.from)?,
                limit: bounded("limit", self.limit, TOPICS_PAGE_MAX)?.unwrap_or(TOPICS_PAGE_DEFAULT),
            }),
            "message" => Request::Message { cursor: self.message()? },
            "delete_message" => Request::DeleteMessage { cursor: self.message()? },
            "options" => Request::Options {
                term: text("topic", self.topic)?.map(|name| options::named_term(&name)).transpose()?,
            },
            "set_options" => {
                let term = options::named_term(&required("topic", self.topic)?)?;
                let options = options::parse_line(&term, line)?;
                Request::SetOptions { term, options }
            }
            "delete_options" => {
                Request::DeleteOptions { term: options::named_term(&required("topic", self.topic)?)? }
            }
            _ => return Err(Problem::new(Code::LineUnknown)),
        })
    }

    fn filter(&self) -> Result<Filter, Problem> {
        let raw = self.topic.ok_or_else(|| missing("topic"))?;
        let names = if raw.get().starts_with('[') {
            serde_json::from_str(raw.get())
                .map_err(|_| query::invalid("topic", "`topic` is a string or an array of strings"))?
        } else {
            vec![string("topic", raw)?]
        };
        if names.is_empty() {
            return Err(query::invalid("topic", "`topic` is at least one"));
        }
        let terms = names.iter().map(|name: &String| Term::parse(name)).collect::<Result<_, _>>();
        terms.and_then(Filter::new).map_err(|error| query::named(error.into(), "topic"))
    }

    fn page(&self) -> Result<PageRequest, Problem> {
        let (start, wait_ms) = (self.start()?.or(QueryStart::Earliest), self.wait_ms()?);
        Ok(PageRequest {
            filter: self.filter()?,
            start,
            gap: self.cursor("gap", self.gap)?,
            bound: self.bound()?,
            limit: bounded("limit", self.limit, PAGE_MESSAGES_MAX)?.unwrap_or(PAGE_MESSAGES_DEFAULT),
            // What is before a cursor is there or not.
            wait_ms: if matches!(start, QueryStart::Before(_)) { 0 } else { wait_ms },
        })
    }

    fn message(&self) -> Result<Cursor, Problem> {
        self.cursor("cursor", self.cursor)?.ok_or_else(|| missing("cursor"))
    }

    fn start(&self) -> Result<QueryStart, Problem> {
        let after = text("after", self.after)?.map(|after| QueryStart::after(&after)).transpose()?;
        let before = self.cursor("before", self.before)?.map(QueryStart::Before);
        let last = bounded("last", self.last, LAST_MAX)?.map(QueryStart::Last);
        QueryStart::one_of(after, before, last)
    }

    fn cursor(&self, name: &'static str, raw: Option<&RawValue>) -> Result<Option<Cursor>, Problem> {
        text(name, raw)?.map(|text| query::parse_cursor(name, &text)).transpose()
    }

    fn bound(&self) -> Result<Option<SizeBound>, Problem> {
        self.max_bytes.map(|raw| query::size_bound(raw.get())).transpose()
    }

    fn wait_ms(&self) -> Result<u64, Problem> {
        let Some(raw) = self.wait else { return Ok(0) };
        let seconds = query::wait_s(raw.get())?;
        Ok(seconds.saturating_mul(1000).min(WAIT_MS_MAX))
    }

    fn publish(self) -> Result<Publish, Problem> {
        let if_match = text("if_match", self.if_match)?;
        let if_none_match = text("if_none_match", self.if_none_match)?;
        let condition = publish::condition(if_match.as_deref(), if_none_match.as_deref())?;
        let idempotency_key =
            text("idempotency_key", self.idempotency_key)?.map(publish::idempotency_key).transpose()?;
        let batch = self.messages.is_some();
        let drafts = match self.messages {
            None => vec![self.into_object().into_draft_or(MediaType::JSON)?],
            Some(_) if condition != Condition::None => {
                return Err(Problem::detailed(Code::ConditionInvalid, "a condition asks about one topic"));
            }
            Some(messages) => batch_drafts(messages)?,
        };
        Ok(Publish { drafts, batch, idempotency_key, condition })
    }
}

impl<'a> LineMembers<'a> {
    fn into_object(self) -> Object<'a> {
        Object {
            topic: self.topic,
            data: self.data,
            media_type: self.media_type,
            encoding: self.encoding,
            key: self.key,
            event: self.event,
            headers: self.headers,
            max_age: self.max_age,
            unknown: Vec::new(),
        }
    }
}

/// The drafts of a batch, whose errors name the message by its number, as those of an NDJSON batch name the line.
fn batch_drafts(messages: &RawValue) -> Result<Vec<Draft>, Problem> {
    let invalid = |error: serde_json::Error| {
        Problem::detailed(Code::BatchInvalid, json::explain(messages.get(), &error))
    };
    let objects: Vec<&RawValue> = serde_json::from_str(messages.get()).map_err(invalid)?;
    if objects.is_empty() {
        return Err(Problem::detailed(Code::BatchInvalid, "the batch has no message"));
    }
    if objects.len() > BATCH_MESSAGES_MAX {
        return Err(publish::batch_too_large());
    }
    let read = |object: &RawValue| Object::read(object.get())?.into_draft();
    let numbered = objects.into_iter().enumerate();
    numbered.map(|(index, object)| read(object).map_err(|problem| problem.with_line(index + 1))).collect()
}

/// A member that may be there and is a string.
fn text(name: &'static str, raw: Option<&RawValue>) -> Result<Option<String>, Problem> {
    raw.map(|raw| string(name, raw)).transpose()
}

/// A member that must be there and is a string.
fn required(name: &'static str, raw: Option<&RawValue>) -> Result<String, Problem> {
    string(name, raw.ok_or_else(|| missing(name))?)
}

/// A member that may be there and is a whole number from 1 to `max`.
fn bounded(name: &'static str, raw: Option<&RawValue>, max: usize) -> Result<Option<usize>, Problem> {
    raw.map(|raw| query::bounded(name, raw.get(), max)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_refused_where_only_other_kinds_have_it() {
        let names = LineMembers::NAMES.iter().chain(Object::NAMES);
        for name in names.filter(|name| !matches!(**name, "id" | "kind")) {
            let refused = typo::check_member(name, &["-"]).map_err(|problem| problem.code);
            assert_eq!(refused, Err(Code::ParameterInvalid), "{name}");
        }
    }
}
