//! Bodies of replies: pages, receipts, the list of topics; and the link to the next page.

use tailwire_model::{Cursor, Gap, MediaType, Timestamp, Topic};

use crate::{json, path, query, time::rfc3339};

/// Where a page stands.
#[derive(Debug, Clone, Copy)]
pub struct PagePlace {
    /// What to send as `after` for what comes next.
    pub cursor: Cursor,
    /// Whether a limit ended it.
    pub more: bool,
    /// What to send as `before` for what comes before.
    pub prev: Option<Cursor>,
    /// When to come back, where it found nothing.
    pub retry_after_ms: Option<u64>,
}

/// Appends a page: `{"messages":[…],"cursor":"…","more":false}`. `items` are encodings of
/// [`Format::Item`](crate::Format::Item), each of one or more messages with their commas, in order.
pub fn page<'a>(items: impl IntoIterator<Item = &'a [u8]>, place: &PagePlace, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"messages\":[");
    for item in items {
        out.extend_from_slice(item);
    }
    without_comma(out);
    out.push(b']');
    json::cursor_member("cursor", place.cursor, out);
    out.extend_from_slice(if place.more { b",\"more\":true" } else { b",\"more\":false" });
    if let Some(prev) = place.prev {
        json::cursor_member("prev", prev, out);
    }
    if let Some(retry_after_ms) = place.retry_after_ms {
        json::number_member("retry_after_ms", retry_after_ms, out);
    }
    out.push(b'}');
}

/// Appends the receipt of one message: `{"cursor":"…","topic":"…","time":"…","type":"…"}`, with the type as it was stored,
/// left out where there is none.
pub fn receipt(cursor: Cursor, topic: &Topic, media_type: &MediaType, time: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"cursor\":");
    json::cursor(cursor, out);
    json::string_member("topic", topic.as_str(), out);
    time_member(time, out);
    if let Some(text) = media_type.as_str() {
        json::string_member("type", text, out);
    }
    out.push(b'}');
}

/// Appends a batch's receipts, one for each line of it: `{"receipts":[…],"cursor":"…"}`, the cursor being the last one.
pub fn receipts<'a>(
    receipts: impl IntoIterator<Item = (Cursor, &'a Topic, &'a MediaType)>,
    time: Timestamp,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"receipts\":[");
    let mut last = None;
    for (cursor, topic, media_type) in receipts {
        receipt(cursor, topic, media_type, time, out);
        out.push(b',');
        last = Some(cursor);
    }
    without_comma(out);
    out.push(b']');
    if let Some(last) = last {
        json::cursor_member("cursor", last, out);
    }
    out.push(b'}');
}

/// Appends one message as an object's only member: `{"message":{…}}`, the answer to a `message` line. `item` is its
/// encoding as [`Format::Item`](crate::Format::Item).
pub fn message(item: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"message\":");
    out.extend_from_slice(item);
    without_comma(out);
    out.push(b'}');
}

/// Appends `{"cursor":"…"}`.
pub fn cursor(cursor: Cursor, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"cursor\":");
    json::cursor(cursor, out);
    out.push(b'}');
}

/// One entry of the list of topics.
#[derive(Debug, Clone, Copy)]
pub struct TopicEntry<'a> {
    /// Its name.
    pub topic: &'a Topic,
    /// Its oldest retained message; left out when it has none.
    pub head: Option<Cursor>,
    /// Its newest message ever.
    pub tail: Cursor,
    /// Retained messages.
    pub messages: u64,
    /// When the newest came.
    pub time: Timestamp,
}

/// Appends the list of topics: `{"topics":[…],"next":"…"}`, where `next` is what to send as `from`, if there are more.
pub fn topics<'a>(entries: impl IntoIterator<Item = TopicEntry<'a>>, next: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topics\":[");
    for entry in entries {
        out.extend_from_slice(b"{\"topic\":");
        json::string(entry.topic.as_str(), out);
        if let Some(head) = entry.head {
            json::cursor_member("head", head, out);
        }
        json::cursor_member("tail", entry.tail, out);
        json::number_member("messages", entry.messages, out);
        time_member(entry.time, out);
        out.extend_from_slice(b"},");
    }
    without_comma(out);
    out.push(b']');
    if let Some(next) = next {
        json::string_member("next", next, out);
    }
    out.push(b'}');
}

/// The relative URL (RFC 3986 §4.2) of the next page: the request's query with `after` set, without `last`, and with
/// `gap` while the cursor has not passed it. Every other parameter is kept as written.
pub fn link_next(query: Option<&str>, after: Cursor, gap: Option<Cursor>) -> String {
    let mut link = kept(query, &["after", "before", "last", "gap", "archive"]);
    link.push_str("after=");
    link.push_str(&after.to_string());
    if let Some(gap) = gap.filter(|gap| after < *gap) {
        link.push_str("&gap=");
        link.push_str(&gap.to_string());
    }
    link
}

/// The relative URL of a feed's archive: the request's query with `archive` set.
pub fn link_archive(query: Option<&str>, end: Cursor) -> String {
    let mut link = kept(query, &["archive"]);
    link.push_str("archive=");
    link.push_str(&end.to_string());
    link
}

/// The query of the feed that an archive belongs to, without its `?`.
pub fn link_current(query: Option<&str>) -> String {
    kept(query, &["archive"]).trim_start_matches('?').trim_end_matches('&').to_owned()
}

/// The relative URL of the page before: the request's query with `before` set, and without what asks for another place.
pub fn link_prev(query: Option<&str>, before: Cursor) -> String {
    let mut link = kept(query, &["after", "before", "last", "gap", "wait", "archive"]);
    link.push_str("before=");
    link.push_str(&before.to_string());
    link
}

/// The relative URL and relation for a client that was told a gap: on from there; or, where it looks backwards, from the same
/// cursor once more.
pub fn link_past(query: Option<&str>, gap: &Gap) -> (&'static str, String) {
    let is_backwards = query::pairs(query).any(|(name, _)| name == "before");
    if is_backwards {
        let mut link = kept(query, &["gap"]);
        link.push_str("gap=");
        link.push_str(&gap.to.to_string());
        return ("prev", link);
    }
    ("next", link_next(query, gap.from, Some(gap.to)))
}

/// The same for the list of topics: the request's query with `from` set.
pub fn link_next_topics(query: Option<&str>, from: &str) -> String {
    let mut link = kept(query, &["from"]);
    link.push_str("from=");
    path::encode(from, &mut link);
    link
}

/// A value of a `Link` header (RFC 8288 §3): `<…>; rel="next"`.
pub fn link_header(rel: &str, target: &str) -> String {
    format!("<{target}>; rel=\"{rel}\"")
}

/// `?`, and the query's parameters but those named, each followed by `&`.
fn kept(query: Option<&str>, dropped: &[&str]) -> String {
    let mut link = String::from("?");
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    for pair in pairs {
        let name = query::decode(pair.split('=').next().unwrap_or_default());
        if name.is_some_and(|name| dropped.contains(&&*name)) {
            continue;
        }
        // The characters that end the link's own brackets or quotes can't stand in a URL anyway.
        for c in pair.chars() {
            match c {
                '<' => link.push_str("%3C"),
                '>' => link.push_str("%3E"),
                '"' => link.push_str("%22"),
                other => link.push(other),
            }
        }
        link.push('&');
    }
    link
}

fn time_member(time: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(&rfc3339(time));
    out.push(b'"');
}

/// Takes the comma after an array's last element. Nothing else ends with one: an open bracket stands before.
fn without_comma(out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
}
