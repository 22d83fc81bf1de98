//! Documents: some messages of what is there, as a page or a feed, with the headers that say where to go on and what a
//! cache may keep.

use std::sync::{Arc, atomic::AtomicBool};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use tailwire_core::TopicsState;
use tailwire_model::{
    Keep, Principal,
    limits::{ARCHIVE_CACHE_MS_MAX, CACHE_MS_MAX},
    retry,
};
use tailwire_wire::{
    Code, Problem, QueryStart, ReadRequest, Representation, page, representation::DocumentFormat,
    request::PageRequest,
};

use crate::connection::pinned::{Account, Reserved};

use super::{
    app::App,
    compress::set_coding,
    documents::{Made, Part, Stays, Words},
    pages::{PageReply, Subject},
    reply::{
        NO_CACHE, NO_STORE, add_link, ascii, immutable, reply, revalidated, seconds, set_cursor,
        set_narrowed, set_next, vary_by,
    },
};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The instance manipulation of the document (RFC 3229 §10.5.2).
const IM: HeaderName = HeaderName::from_static("im");

/// A document, and how many messages it has. `stands` is where a poll that others join says whether it stands at the tail.
pub(super) async fn document(
    app: &Arc<App>,
    principal: &Principal,
    ask: ReadRequest,
    query: Option<&str>,
    (account, stands): (&Account, Option<Arc<AtomicBool>>),
) -> Result<(Response<Body>, usize), Problem> {
    let Representation::Document { format, wait_ms } = ask.representation else {
        return Err(Problem::new(Code::Internal));
    };
    let want = |part| Want { principal, ask: &ask, query, part, wait_ms };
    let part = match ask.archive {
        Some(end) => Part::Archive(format, end),
        None if ask.is_subscription => Part::Subscription(format),
        None => Part::Page(format, ask.start),
    };
    let delta_from =
        |base, stands| delta(app, want(Part::Page(format, QueryStart::After(base))), (account, stands));
    let base = |is_wanted: bool| ask.delta_base.filter(|_| is_wanted);
    // One that waits, waits for what is new. Of any other the whole document, which is there already as a rule, says whether
    // anything is.
    if let Some(base) = base(wait_ms > 0)
        && let Some(found) = delta_from(base, stands.clone()).await
    {
        return Ok(found);
    }
    let (reply, uncounted) = obtain(app, &want(part), (account, stands)).await?;
    let made = &reply.made;
    let messages = made.messages;
    let caching = caching(app, &want(part), made);
    let is_known = made.retry_after_ms.is_none()
        && ask.if_none_match.as_ref().is_some_and(|tags| tags.matches(made.cursor));
    if let Some(base) = base(wait_ms == 0 && !is_known)
        && let Some(found) = delta_from(base, None).await
    {
        return Ok(found);
    }
    let hint = hint(app, &want(part), made);
    let mut response = response_of(reply, format, query, caching, wait_ms);
    set_hint(response.headers_mut(), hint);
    set_narrowed(response.headers_mut(), app.narrowed(principal, &ask.filter).as_ref());
    if is_known {
        not_modified(&mut response);
    } else {
        uncounted.count(app);
    }
    Ok((response, messages))
}

/// When it is worth to come back, for a client that has all up to the newest message.
fn hint(app: &App, want: &Want<'_>, made: &Made) -> u64 {
    let is_elsewhere =
        want.ask.archive.is_some() || matches!(want.part, Part::Page(_, QueryStart::Before(_)));
    let is_at_tail = made.retry_after_ms.is_none() && !made.more && !is_elsewhere;
    if is_at_tail { app.retry_after_ms(&want.ask.filter, want.wait_ms, true) } else { 0 }
}

fn set_hint(headers: &mut HeaderMap, retry_after_ms: u64) {
    if retry_after_ms > 0 {
        headers.insert(header::RETRY_AFTER, seconds(retry_after_ms));
    }
}

/// A document that is wanted.
struct Want<'a> {
    principal: &'a Principal,
    ask: &'a ReadRequest,
    query: Option<&'a str>,
    part: Part,
    wait_ms: u64,
}

/// A document: one that is there, or one that is made. Of one that was there the messages are not counted as handed out.
async fn obtain(
    app: &Arc<App>,
    want: &Want<'_>,
    (account, stands): (&Account, Option<Arc<AtomicBool>>),
) -> Result<(PageReply, Uncounted), Problem> {
    let coding = want.ask.coding;
    let Some((words, state)) = shared_words(app, want) else {
        let PageReply { made, room } = make(app, want, (account, stands)).await?;
        return Ok((PageReply { made: made.coded(coding).await, room }, Uncounted(0)));
    };
    let is_whole = |begins| !app.broker.was_cleared_after(&words.permitted, begins);
    let make = async {
        let mut made = make(app, want, (account, None)).await?.made;
        // The state may be told a moment before what it is made of can be read.
        if made.stays == Stays::Live && !is_of(&made, &words, state) {
            made.stays = Stays::Once;
        }
        Ok(made)
    };
    let (made, was_there) = app.documents.get(&words, state, coding, is_whole, Box::pin(make)).await?;
    let uncounted = Uncounted(if was_there { made.messages as u64 } else { 0 });
    Ok((PageReply { made, room: None }, uncounted))
}

/// Messages of a document that no reader has counted: those that made it have.
struct Uncounted(u64);

impl Uncounted {
    /// They are handed out.
    fn count(self, app: &App) {
        app.broker.metrics().messages_out.inc_by(self.0);
    }
}

/// Whether a document has all that a state was told of.
fn is_of(made: &Made, words: &Words, state: TopicsState) -> bool {
    words.permitted.only_topic().is_none() || made.cursor.position >= state.tail
}

/// What a document is known by to all who ask for it; nothing where it is made for one.
fn shared_words(app: &App, want: &Want<'_>) -> Option<(Arc<Words>, TopicsState)> {
    let &Want { principal, ask: ReadRequest { filter, .. }, query, part, wait_ms } = want;
    // Requests that wait share their answer elsewhere, and a time that counts from now is another one each time.
    if wait_ms > 0 || matches!(part, Part::Page(_, QueryStart::Since(_))) {
        return None;
    }
    // What newer messages take the place of goes without a word.
    let is_kept = match filter.only_topic() {
        Some(topic) => app.broker.rule(topic).keep == Keep::All,
        None => !app.broker.rules().compacts(),
    };
    let permitted = app.broker.permit_read(principal, filter.clone()).ok().filter(|_| is_kept)?;
    let state = app.broker.state(&permitted);
    let format = match part {
        Part::Page(_, QueryStart::After(cursor)) if cursor.position >= state.tail => return None,
        Part::Page(format, _) | Part::Subscription(format) | Part::Archive(format, _) => format,
        Part::Message(_) => return None,
    };
    let labels = app.labels(format, filter);
    let words = Words { filter: filter.clone(), permitted, query: query.map(Into::into), part, labels };
    Some((Arc::new(words), state))
}

async fn make(
    app: &Arc<App>,
    want: &Want<'_>,
    waiting: (&Account, Option<Arc<AtomicBool>>),
) -> Result<PageReply, Problem> {
    let &Want { principal, ask, query, part, wait_ms } = want;
    let subject = Subject { filter: &ask.filter, query };
    let (format, start) = match part {
        Part::Archive(format, end) => {
            let made = app.archive(principal, format, subject, end).await?;
            return Ok(PageReply { made, room: None });
        }
        Part::Subscription(format) => {
            if let Some(made) = app.subscription(principal, format, subject).await? {
                return Ok(PageReply { made, room: None });
            }
            (format, ask.start)
        }
        Part::Page(format, start) => (format, start),
        Part::Message(_) => return Err(Problem::new(Code::Internal)),
    };
    let (filter, gap, limit, bound) = (ask.filter.clone(), ask.gap, ask.limit, ask.bound);
    let ask = PageRequest { filter, start, gap, limit, bound, wait_ms };
    app.page(principal, ask, format, query, waiting).await
}

/// Cache rules of a document. A principal's messages are not for all who share a cache.
fn caching(app: &App, want: &Want<'_>, made: &Made) -> HeaderValue {
    let &Want { principal, ask, part, .. } = want;
    if made.retry_after_ms.is_some() {
        return NO_STORE;
    }
    let Some(topic) = ask.filter.only_topic() else { return NO_CACHE };
    let is_settled = matches!(made.stays, Stays::Settled(_));
    // No cache keeps a message for longer than it has left.
    let left_ms = app.left_ms(made.ends).unwrap_or(u64::MAX);
    match part {
        Part::Archive(..) if is_settled => {
            immutable(&app.broker.rule(topic), principal, left_ms.min(ARCHIVE_CACHE_MS_MAX))
        }
        Part::Page(..) if is_settled && ask.limit_in_url => {
            immutable(&app.broker.rule(topic), principal, left_ms.min(CACHE_MS_MAX))
        }
        Part::Subscription(_) if principal.is_anonymous() => {
            // As long again it may be given while a newer one is asked for.
            revalidated(retry::feed_cache_ms(app.broker.pace(&ask.filter)).min(left_ms / 2))
        }
        _ => NO_CACHE,
    }
}

/// Only the entries that the client has not got (RFC 3229 §10, with the instance manipulation `feed`), or that there are none. Nothing
/// where entries are gone that it has not seen: it gets the whole document.
async fn delta(
    app: &Arc<App>,
    want: Want<'_>,
    waiting: (&Account, Option<Arc<AtomicBool>>),
) -> Option<(Response<Body>, usize)> {
    let &Want { principal, ask, query, wait_ms, .. } = &want;
    let Part::Page(format, _) = want.part else { return None };
    let (reply, uncounted) = obtain(app, &want, waiting).await.ok()?;
    uncounted.count(app);
    let (messages, hint) = (reply.made.messages, hint(app, &want, &reply.made));
    let mut response = response_of(reply, format, query, NO_STORE, wait_ms);
    if messages == 0 {
        not_modified(&mut response);
    } else {
        *response.status_mut() = StatusCode::IM_USED;
        response.headers_mut().insert(IM, HeaderValue::from_static("feed"));
    }
    set_hint(response.headers_mut(), hint);
    set_narrowed(response.headers_mut(), app.narrowed(principal, &ask.filter).as_ref());
    Some((response, messages))
}

/// The same for a client that has it.
pub(super) fn not_modified(response: &mut Response<Body>) {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().remove(header::CONTENT_ENCODING);
    *response.body_mut() = Body::empty();
}

/// The answer of both kinds of polls, with messages or after a wait in vain.
pub(super) fn response_of(
    found: PageReply,
    format: &DocumentFormat,
    query: Option<&str>,
    caching: HeaderValue,
    wait_ms: u64,
) -> Response<Body> {
    let PageReply { made: Made { body, coding, cursor, prev, retry_after_ms, gap, .. }, room } = found;
    let status = if retry_after_ms.is_none() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = reply(status, HeaderValue::from_static(format.media_type), body);
    if let Some(room) = room {
        response.extensions_mut().insert(Reserved::new(room));
    }
    let headers = response.headers_mut();
    set_cursor(headers, cursor);
    set_next(headers, &page::link_next(query, cursor, gap));
    if let Some(prev) = prev {
        add_link(headers, "prev", &page::link_prev(query, prev));
    }
    headers.insert(header::CACHE_CONTROL, caching);
    match retry_after_ms {
        Some(retry_after_ms) => headers.insert(header::RETRY_AFTER, seconds(retry_after_ms)),
        None => headers.insert(header::ETAG, ascii(format!("W/\"{cursor}\"").as_bytes())),
    };
    if format.is_feed {
        vary_by(headers, "a-im");
    }
    if status == StatusCode::OK {
        set_coding(headers, coding);
        vary_by(headers, "accept-encoding");
    }
    apply_preference(headers, wait_ms);
    response
}

/// Says how long a wait was granted (RFC 7240 §3).
pub(super) fn apply_preference(headers: &mut HeaderMap, wait_ms: u64) {
    if wait_ms > 0 {
        headers.insert(PREFERENCE_APPLIED, ascii(format!("wait={}", wait_ms / 1000).as_bytes()));
    }
}
