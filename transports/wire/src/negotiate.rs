//! A GET, negotiated: the transport, where to start and how much, from the query and the headers.

use base64::{Engine, engine::general_purpose::STANDARD};
use tailwire_model::{
    Cursor, Epoch, Filter, Position, SizeBound, Term,
    limits::{PAGE_MESSAGES_DEFAULT, WAIT_MS_MAX},
};

use crate::{
    accept::Accept,
    coding::{AcceptEncoding, Coding},
    etag::IfNoneMatch,
    number,
    problem::{Code, Problem},
    query::{self, QueryStart, ReadQuery},
    representation::{self, DocumentFormat, RepresentationEntry, Shape, StreamFormat},
};

/// The native WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "tailwire.v1";

/// The target of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// `/topics/{topic or pattern}`
    Term(Term),
    /// `/stream`, whose topics stand in the query.
    Stream,
}

impl Resource {
    /// How many levels of the path a reference from here to another resource climbs: a topic's segments.
    fn depth(&self) -> usize {
        match self {
            Self::Term(term) => term.as_str().split('/').count(),
            Self::Stream => 0,
        }
    }
}

/// How the reply is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Representation {
    /// A WebSocket (RFC 6455), already subscribed to the URL's filter.
    WebSocket {
        /// The first of those that the client offered that is known: the reply's `Sec-WebSocket-Protocol` names it
        /// (RFC 6455 §4.2.2). `None` if it offered none, which means [`SUBPROTOCOL`].
        subprotocol: Option<&'static str>,
    },
    /// An endless reply.
    Stream(&'static StreamFormat),
    /// Some messages of what is there.
    Document {
        /// How they are shown.
        format: &'static DocumentFormat,
        /// How long to wait for the first, as granted; zero: not at all.
        wait_ms: u64,
    },
    /// The newest message as itself.
    Raw {
        /// How long to wait for one that `If-None-Match` does not name, as granted; zero: not at all.
        wait_ms: u64,
    },
}

impl Representation {
    /// Whether a message that is too large for its client can be given as a reference.
    const fn has_references(self) -> bool {
        match self {
            Self::WebSocket { .. } | Self::Stream(_) => true,
            Self::Document { format, .. } => !format.is_feed,
            Self::Raw { .. } => false,
        }
    }

    /// The time to wait, as granted; zero where there is none.
    pub const fn wait_ms(self) -> u64 {
        match self {
            Self::Document { wait_ms, .. } | Self::Raw { wait_ms } => wait_ms,
            _ => 0,
        }
    }
}

/// A GET or HEAD, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The topics; empty only for a WebSocket on `/stream`.
    pub filter: Filter,
    /// How the reply is given.
    pub representation: Representation,
    /// From where, with defaults resolved: never [`QueryStart::Default`].
    pub start: QueryStart,
    /// The end of a gap that the client knows of.
    pub gap: Option<Cursor>,
    /// How large a message is given whole.
    pub bound: Option<SizeBound>,
    /// How many levels below the root the request's URL is, for references.
    pub depth: usize,
    /// Messages of a page, within the bounds.
    pub limit: usize,
    /// Whether the URL says `limit` itself: only then may a shared cache keep the page.
    pub limit_in_url: bool,
    /// Of a feed, the archive that ends with this message.
    pub archive: Option<Cursor>,
    /// Whether it is a feed as readers subscribe to it: the URL says nothing of where it begins or ends.
    pub is_subscription: bool,
    /// The coding of the reply, if it is a document and large enough.
    pub coding: Coding,
    /// Whether `Accept` had a say: the reply needs `Vary: Accept` (RFC 9110 §12.5.5).
    pub varies_by_accept: bool,
    /// The tags that the client holds already.
    pub if_none_match: Option<IfNoneMatch>,
    /// Of a feed, the newest entry that the client has, if it takes only what is newer (`A-IM: feed`, RFC 3229 §10.5.3).
    pub delta_base: Option<Cursor>,
}

/// Decides what a GET, or with `head` a HEAD, asks for. `headers` are pairs of a lower-case name and a value; only
/// those with a say are looked at. `known` names the subprotocol that was
/// offered, if a WebSocket may speak it.
///
/// # Errors
/// `parameter-invalid`, `cursor-invalid`, `topic-invalid`, `filter-too-large`, `not-acceptable`, `upgrade-required`,
/// `subprotocol-unknown`, `handshake-invalid`.
pub fn read_request<'a>(
    resource: Resource,
    query: Option<&str>,
    head: bool,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    known: impl Fn(&str) -> Option<&'static str>,
) -> Result<ReadRequest, Problem> {
    let query = ReadQuery::parse(query, resource == Resource::Stream)?;
    let headers = Headers::collect(headers);
    let depth = resource.depth();
    let filter = match resource {
        Resource::Term(term) => Filter::from(term),
        Resource::Stream => Filter::new(query.topics.clone())?,
    };
    let representation = representation(&query, &headers, head || query.archive.is_some(), known)?;
    let websocket = matches!(representation, Representation::WebSocket { .. });
    if filter.is_empty() && !websocket {
        let detail = "without a `topic` parameter there is only a WebSocket here";
        return Err(Problem::parameter(Code::UpgradeRequired, "topic", detail));
    }
    if query.bound.is_some() && !representation.has_references() {
        let detail = "`max_bytes` is for streams, pages and WebSockets";
        return Err(query::invalid("max_bytes", detail));
    }
    let is_feed = matches!(representation, Representation::Document { format, .. } if format.is_feed);
    let default = match representation {
        _ if is_feed => QueryStart::Last(query.limit.unwrap_or(PAGE_MESSAGES_DEFAULT)),
        Representation::Document { .. } => QueryStart::Earliest,
        _ => QueryStart::Latest,
    };
    let mut start = query.start.or(default);
    if let Representation::Stream(format) = representation
        && format.is_event_source
        && let Some(id) = headers.last_event_id.map(str::to_owned).or(query.last_event_id)
    {
        start = QueryStart::After(event_id(&id));
    }
    let takes_delta = headers.takes_delta && query.start == QueryStart::Default && query.archive.is_none();
    let tags = headers.if_none_match.as_ref().filter(|_| is_feed && takes_delta);
    let delta_base = tags.and_then(IfNoneMatch::newest);
    if query.archive.is_some() && !is_feed {
        return Err(query::invalid("archive", "`archive` is of a feed: `format=atom` or `format=jsonfeed`"));
    }
    let is_subscription = is_feed
        && representation.wait_ms() == 0
        && query.start == QueryStart::Default
        && query.limit.is_none()
        && query.archive.is_none();
    Ok(ReadRequest {
        filter,
        representation,
        delta_base,
        archive: query.archive,
        is_subscription,
        coding: headers.accept_encoding.choose(),
        start,
        gap: query.gap,
        bound: query.bound.map(|bound| bound.at_depth(depth)),
        depth,
        limit: query.limit.unwrap_or(PAGE_MESSAGES_DEFAULT),
        limit_in_url: query.limit.is_some(),
        varies_by_accept: query.format.is_none() && !websocket,
        if_none_match: headers.if_none_match,
    })
}

/// How the reply is given: an upgrade goes before `format`, which goes before `Accept`.
fn representation(
    query: &ReadQuery,
    headers: &Headers<'_>,
    head: bool,
    known: impl Fn(&str) -> Option<&'static str>,
) -> Result<Representation, Problem> {
    if !head && let Some(subprotocol) = headers.handshake.negotiate(known)? {
        query.start.onwards()?;
        return Ok(Representation::WebSocket { subprotocol });
    }
    let is_backwards = matches!(query.start, QueryStart::Before(_));
    // What is before a cursor is there or not.
    let waits = !head && !is_backwards;
    let wait_s = if waits { query.wait_s.or(headers.prefer_wait_s).unwrap_or(0) } else { 0 };
    let wait_ms = wait_s.saturating_mul(1000).min(WAIT_MS_MAX);
    let entry: &'static RepresentationEntry = match &query.format {
        Some(name) => format_named(name)?,
        None => headers.accept.choose()?,
    };
    match entry.shape {
        Shape::Document(format) => Ok(Representation::Document { format, wait_ms }),
        Shape::Newest => Ok(Representation::Raw { wait_ms }),
        Shape::Stream(format, envelope) => {
            query.start.onwards()?;
            Ok(Representation::Stream(envelope.filter(|_| query.envelope).unwrap_or(format)))
        }
    }
}

fn format_named(value: &str) -> Result<&'static RepresentationEntry, Problem> {
    representation::named(value).ok_or_else(|| {
        let names: Vec<_> = representation::names().map(|name| format!("`{name}`")).collect();
        query::invalid("format", format!("`format` is one of {}", names.join(", ")))
    })
}

/// The cursor of an event's id. An `EventSource` sends whatever id it was given last, also by another server, and would
/// stop for good at a refusal: an id that is none of ours is as good as a cursor from before the log.
fn event_id(id: &str) -> Cursor {
    id.parse().unwrap_or(Cursor { epoch: Epoch::ZERO, position: Position::ZERO })
}

/// The headers with a say.
#[derive(Default)]
struct Headers<'a> {
    accept: Accept,
    accept_encoding: AcceptEncoding<'a>,
    prefer_wait_s: Option<u64>,
    last_event_id: Option<&'a str>,
    if_none_match: Option<IfNoneMatch>,
    takes_delta: bool,
    handshake: Handshake<'a>,
}

impl<'a> Headers<'a> {
    fn collect(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut collected = Self::default();
        for (name, value) in headers {
            // A value that is not UTF-8 is none that these headers have, and no cursor.
            let text = std::str::from_utf8(value).unwrap_or("\u{fffd}").trim();
            match name {
                "accept" => collected.accept.hear(text),
                "accept-encoding" => collected.accept_encoding.hear(text),
                "a-im" => {
                    let manipulations = text.split(',').filter_map(|one| one.split(';').next());
                    collected.takes_delta |=
                        manipulations.map(str::trim).any(|one| one.eq_ignore_ascii_case("feed"));
                }
                "prefer" => collected.prefer_wait_s = collected.prefer_wait_s.or(prefer_wait_s(text)),
                "last-event-id" if !text.is_empty() => collected.last_event_id = Some(text),
                "if-none-match" => {
                    let tags = IfNoneMatch::parse(text);
                    collected.if_none_match = Some(match collected.if_none_match.take() {
                        None => tags,
                        Some(before) => before.and(tags),
                    });
                }
                _ => collected.handshake.hear(name, text),
            }
        }
        collected
    }
}

/// The seconds of a `wait` preference (RFC 7240 §4.3), if there is a sound one; any other is ignored (§2).
fn prefer_wait_s(value: &str) -> Option<u64> {
    value.split(',').find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        name.trim().eq_ignore_ascii_case("wait").then(|| number::whole(value)).flatten()
    })
}

/// A WebSocket client's opening handshake (RFC 6455 §4.2.1).
#[derive(Default)]
struct Handshake<'a> {
    upgrade: bool,
    connection: bool,
    version: Option<&'a str>,
    key: Option<&'a str>,
    /// One of those two stands twice, and is no list (RFC 6455 §11.3).
    is_doubled: bool,
    /// The values of `Sec-WebSocket-Protocol`, which is a list.
    offered: Vec<&'a str>,
}

impl<'a> Handshake<'a> {
    fn hear(&mut self, name: &str, value: &'a str) {
        let mut tokens = value.split(',').map(str::trim);
        match name {
            "upgrade" => self.upgrade |= tokens.any(|token| token.eq_ignore_ascii_case("websocket")),
            "connection" => self.connection |= tokens.any(|token| token.eq_ignore_ascii_case("upgrade")),
            "sec-websocket-version" => self.is_doubled |= self.version.replace(value).is_some(),
            "sec-websocket-key" => self.is_doubled |= self.key.replace(value).is_some(),
            "sec-websocket-protocol" => {
                self.offered.push(value);
            }
            _ => {}
        }
    }

    /// `None` where no WebSocket is asked for; else the subprotocol that was chosen of those offered, if any were.
    fn negotiate(
        &self,
        known: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<Option<Option<&'static str>>, Problem> {
        if !self.upgrade {
            // Some intermediary took the upgrade away: the client can't use another reply.
            let meant = self.key.is_some() || !self.offered.is_empty();
            let detail = "the request has a WebSocket's headers, but no `Upgrade: websocket`";
            return if meant { Err(Problem::detailed(Code::UpgradeRequired, detail)) } else { Ok(None) };
        }
        if !self.connection {
            let detail = "`Upgrade` comes with `Connection: Upgrade`";
            return Err(Problem::detailed(Code::HandshakeInvalid, detail));
        }
        if self.version != Some("13") {
            return Err(Problem::detailed(Code::UpgradeRequired, "Sec-WebSocket-Version is 13"));
        }
        if self.is_doubled {
            let detail = "Sec-WebSocket-Key and Sec-WebSocket-Version stand once";
            return Err(Problem::detailed(Code::HandshakeInvalid, detail));
        }
        let nonce = self.key.and_then(|key| STANDARD.decode(key).ok());
        if nonce.is_none_or(|nonce| nonce.len() != 16) {
            return Err(Problem::detailed(Code::HandshakeInvalid, "Sec-WebSocket-Key is 16 bytes in base64"));
        }
        let mut tokens = self.offered.iter().flat_map(|value| value.split(',')).map(str::trim);
        let chosen = tokens.find_map(known);
        if chosen.is_none() && !self.offered.is_empty() {
            return Err(Problem::detailed(Code::SubprotocolUnknown, "the subprotocol here is tailwire.v1"));
        }
        Ok(Some(chosen))
    }
}
