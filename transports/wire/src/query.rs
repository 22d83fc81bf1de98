//! Query parameters: decoded as forms write them (WHATWG URL §5.1), checked, and named in the error when they are wrong.
//! Unknown ones are ignored, since proxies and analytics add their own.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use tailwire_model::{
    Cursor, SizeBound, Term,
    limits::{LAST_MAX, PAGE_MESSAGES_MAX, SIZE_BOUND_MIN, TOPICS_PAGE_DEFAULT, TOPICS_PAGE_MAX},
};

use crate::{
    moment::Moment,
    number,
    problem::{Code, Problem},
    typo,
};

/// From where a read starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum QueryStart {
    /// The client doesn't say: the earliest for pages and polls, the latest for streams.
    #[default]
    Default,
    /// After this cursor.
    After(Cursor),
    /// With the first message of this time or later.
    Since(Moment),
    /// The messages before this cursor, the newest of them: in documents only.
    Before(Cursor),
    /// Before the oldest retained message.
    Earliest,
    /// At the tail.
    Latest,
    /// Before the n newest.
    Last(usize),
}

impl QueryStart {
    /// The start that the client asked for, or else `default`.
    #[must_use]
    pub const fn or(self, default: Self) -> Self {
        match self {
            Self::Default => default,
            said => said,
        }
    }

    /// Reads the value of `after`: a cursor, a word or a time.
    ///
    /// # Errors
    /// `cursor-invalid`; `parameter-invalid` where it looks like a time.
    pub(crate) fn after(value: &str) -> Result<Self, Problem> {
        match (value, Moment::parse(value)) {
            ("earliest", _) => Ok(Self::Earliest),
            ("latest", _) => Ok(Self::Latest),
            (_, Some(Ok(moment))) => Ok(Self::Since(moment)),
            (_, Some(Err(()))) => Err(invalid(
                "after",
                "a time is as `2026-11-30T10:00:00Z`, or as `-10m` with one of the units s, m, h, d",
            )),
            (cursor, None) => parse_cursor("after", cursor).map(Self::After),
        }
    }

    /// For what goes on with what comes, which nothing before a cursor does.
    ///
    /// # Errors
    /// `parameter-invalid`.
    pub(crate) fn onwards(self) -> Result<Self, Problem> {
        match self {
            Self::Before(_) => Err(invalid("before", "`before` is for pages and feeds; streams only go on")),
            start => Ok(start),
        }
    }

    /// The one of `after`, `before` and `last` that the client gives.
    ///
    /// # Errors
    /// `parameter-invalid` where there are two.
    pub(crate) fn one_of(
        after: Option<Self>,
        before: Option<Self>,
        last: Option<Self>,
    ) -> Result<Self, Problem> {
        match (after, before, last) {
            (None, None, None) => Ok(Self::Default),
            (Some(start), None, None) | (None, Some(start), None) | (None, None, Some(start)) => Ok(start),
            (_, Some(_), _) => Err(invalid("before", "`before` stands without `after` and `last`")),
            (Some(_), None, Some(_)) => Err(invalid("last", "`after` and `last` exclude each other")),
        }
    }
}

/// The query of a GET on a topic, a pattern or `/stream`.
#[derive(Debug, Clone, Default)]
pub struct ReadQuery {
    /// `topic`, as often as it stands; only `/stream` has it.
    pub topics: Vec<Term>,
    /// `after`, `before` or `last`.
    pub start: QueryStart,
    /// `gap`: the end of a gap that the client knows of.
    pub gap: Option<Cursor>,
    /// `limit`.
    pub limit: Option<usize>,
    /// `archive`: the last message of one.
    pub archive: Option<Cursor>,
    /// `format`.
    pub format: Option<String>,
    /// `wait` in seconds, as asked.
    pub wait_s: Option<u64>,
    /// `envelope=true`.
    pub envelope: bool,
    /// `max_bytes`: the largest line that the client takes.
    pub bound: Option<SizeBound>,
    /// `lastEventId`, as polyfills of `EventSource` send it who can't set headers.
    pub last_event_id: Option<String>,
}

/// The parameters of a read; on a topic all but the first.
const READ_STREAM: [&str; 11] = [
    "topic",
    "after",
    "before",
    "last",
    "gap",
    "limit",
    "format",
    "wait",
    "envelope",
    "max_bytes",
    "archive",
];

/// A `topics` line, or GET `/topics`, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicsRequest {
    /// The topics whose names begin so.
    pub prefix: String,
    /// The topics after this name.
    pub from: Option<String>,
    /// How many at most, within the bounds.
    pub limit: usize,
}

impl ReadQuery {
    /// Parses the query, raw and without its `?`. `stream` says that the resource is `/stream`.
    ///
    /// # Errors
    /// A problem that names the parameter.
    pub fn parse(query: Option<&str>, stream: bool) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        let mut seen = SeenParameters::default();
        let (mut after, mut before, mut last) = (None, None, None);
        for (name, value) in pairs(query) {
            match &*name {
                "topic" if stream => {
                    let value = text("topic", value)?;
                    let term = Term::parse(&value).map_err(|error| named(error.into(), "topic"))?;
                    parsed.topics.push(term);
                }
                "after" => {
                    seen.once("after")?;
                    after = Some(QueryStart::after(&text("after", value)?)?);
                }
                "before" => {
                    seen.once("before")?;
                    before = Some(QueryStart::Before(parse_cursor("before", &text("before", value)?)?));
                }
                "last" => {
                    seen.once("last")?;
                    last = Some(QueryStart::Last(bounded("last", &text("last", value)?, LAST_MAX)?));
                }
                "gap" => {
                    seen.once("gap")?;
                    parsed.gap = Some(parse_cursor("gap", &text("gap", value)?)?);
                }
                "limit" => {
                    seen.once("limit")?;
                    parsed.limit = Some(bounded("limit", &text("limit", value)?, PAGE_MESSAGES_MAX)?);
                }
                "archive" => {
                    seen.once("archive")?;
                    parsed.archive = Some(parse_cursor("archive", &text("archive", value)?)?);
                }
                "format" => {
                    seen.once("format")?;
                    parsed.format = Some(text("format", value)?.into_owned());
                }
                "wait" => {
                    seen.once("wait")?;
                    parsed.wait_s = Some(wait_s(&text("wait", value)?)?);
                }
                "envelope" => {
                    seen.once("envelope")?;
                    parsed.envelope = boolean("envelope", &text("envelope", value)?)?;
                }
                "max_bytes" => {
                    seen.once("max_bytes")?;
                    parsed.bound = Some(size_bound(&text("max_bytes", value)?)?);
                }
                other if is_last_event_id(other) => {
                    // One that came before stands in the URL still. What isn't UTF-8 is no id of ours.
                    let id = decode(value).map_or_else(|| value.to_owned(), Cow::into_owned);
                    parsed.last_event_id = Some(id).filter(|id| !id.is_empty());
                }
                other => typo::check(other, if stream { &READ_STREAM } else { &READ_STREAM[1..] })?,
            }
        }
        parsed.start = QueryStart::one_of(after, before, last)?;
        let other = ["after", "before", "last", "limit", "gap"].into_iter().find(|name| seen.has(name));
        if let Some(other) = other.filter(|_| seen.has("archive")) {
            return Err(invalid("archive", format!("`archive` and `{other}` exclude each other")));
        }
        Ok(parsed)
    }
}

/// Checks the query of a request that has no parameters.
///
/// # Errors
/// `parameter-invalid`, where it has another request's: a client that deletes `?before=` something doesn't mean all.
pub fn none(query: Option<&str>) -> Result<(), Problem> {
    pairs(query).try_for_each(|(name, _)| typo::check(&name, &[]))
}

/// Parses the query of GET `/topics`.
///
/// # Errors
/// A problem that names the parameter.
pub fn topics(query: Option<&str>) -> Result<TopicsRequest, Problem> {
    let mut parsed = TopicsRequest { prefix: String::new(), from: None, limit: TOPICS_PAGE_DEFAULT };
    let mut seen = SeenParameters::default();
    for (name, value) in pairs(query) {
        match &*name {
            "prefix" => {
                seen.once("prefix")?;
                parsed.prefix = text("prefix", value)?.into_owned();
            }
            "from" => {
                seen.once("from")?;
                parsed.from = Some(text("from", value)?.into_owned());
            }
            "limit" => {
                seen.once("limit")?;
                parsed.limit = bounded("limit", &text("limit", value)?, TOPICS_PAGE_MAX)?;
            }
            other => typo::check(other, &["prefix", "from", "limit"])?,
        }
    }
    Ok(parsed)
}

/// The parameters that have come, each of which stands once.
#[derive(Default)]
pub(crate) struct SeenParameters(Vec<&'static str>);

impl SeenParameters {
    pub(crate) fn once(&mut self, name: &'static str) -> Result<(), Problem> {
        if self.has(name) {
            return Err(invalid(name, format!("`{name}` stands more than once")));
        }
        self.0.push(name);
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

/// The parameters of a query: names decoded, values still raw. A name that is not UTF-8 is nobody's.
pub(crate) fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name)?, value))
    })
}

/// A name or value decoded: `+` is a space, `%xx` a byte. `None` if the bytes are not UTF-8.
pub(crate) fn decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Some(Cow::Borrowed(raw));
    }
    let spaced = raw.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

/// A known parameter's value.
pub(crate) fn text<'a>(name: &'static str, raw: &'a str) -> Result<Cow<'a, str>, Problem> {
    decode(raw).ok_or_else(|| invalid(name, format!("`{name}` is not UTF-8")))
}

/// A parameter that breaks its rule.
pub(crate) fn invalid(name: &'static str, detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::parameter(Code::ParameterInvalid, name, detail)
}

/// The same problem, naming the parameter.
pub(crate) fn named(mut problem: Problem, name: &'static str) -> Problem {
    problem.members_mut().parameter = Some(name.into());
    problem
}

/// A cursor.
pub(crate) fn parse_cursor(name: &'static str, value: &str) -> Result<Cursor, Problem> {
    value.parse().map_err(|error| Problem::parameter(Code::CursorInvalid, name, format!("{error}")))
}

/// A whole number from 1 to `max`.
pub(crate) fn bounded(name: &'static str, value: &str, max: usize) -> Result<usize, Problem> {
    number::whole(value)
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| (1..=max).contains(number))
        .ok_or_else(|| invalid(name, format!("`{name}` is a whole number from 1 to {max}")))
}

/// The largest line that a client takes.
pub(crate) fn size_bound(value: &str) -> Result<SizeBound, Problem> {
    number::whole(value).and_then(SizeBound::new).ok_or_else(|| {
        invalid("max_bytes", format!("`max_bytes` is a whole number of at least {SIZE_BOUND_MIN}"))
    })
}

/// A time to wait in whole seconds; what is beyond the bound is granted up to it.
pub(crate) fn wait_s(value: &str) -> Result<u64, Problem> {
    number::whole(value).ok_or_else(|| invalid("wait", "`wait` is a whole number of seconds"))
}

fn boolean(name: &'static str, value: &str) -> Result<bool, Problem> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(invalid(name, format!("`{name}` is `true` or `false`"))),
    }
}

/// The spellings of polyfills: `lastEventId`, `last-event-id`, `Last-Event-ID`, `last_event_id`, `evs_last_event_id`.
fn is_last_event_id(name: &str) -> bool {
    let name = name.strip_prefix("evs_").unwrap_or(name);
    let letters =
        name.bytes().filter(|byte| !matches!(byte, b'-' | b'_')).map(|byte| byte.to_ascii_lowercase());
    letters.eq(*b"lasteventid")
}
