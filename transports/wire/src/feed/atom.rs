//! Atom (RFC 4287): entries, and what stands around them. Nothing that was published is ever markup: text is text, whatever
//! its type says, and other bytes are base64 (§4.1.3.3) or a reference.

use base64::{Engine, engine::general_purpose::STANDARD};
use tailwire_model::{DataKind, Message, Timestamp};

use super::{
    clean::xml,
    head::{FeedHead, entry_id},
    summary::Summary,
};
use crate::time::rfc3339;

/// The size of an entry beside the message itself, roughly.
const OVERHEAD_BYTES: usize = 700;
/// Larger binary data is referred to, not given in base64.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Appends the beginning of a document, up to its first entry.
pub(super) fn head(head: &FeedHead<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\" \
          xmlns:fh=\"http://purl.org/syndication/history/1.0\" \
          xmlns:sy=\"http://purl.org/rss/1.0/modules/syndication/\" xml:base=\"",
    );
    xml(head.base, out);
    out.extend_from_slice(b"\">\n");
    element("id", head.id, out);
    element("title", head.title, out);
    if let Some(description) = head.description {
        element("subtitle", description, out);
    }
    time("updated", head.updated, out);
    // The specification wants an author for each entry (§4.1.1); an entry that names none has this one.
    out.extend_from_slice(b"<author><name>Tailwire</name></author>\n<generator>Tailwire</generator>\n");
    let links = [
        ("self", Some(head.own)),
        ("current", head.current),
        ("prev-archive", head.prev_archive),
        ("next-archive", head.next_archive),
        ("next", head.next),
        ("hub", head.hub),
    ];
    for (rel, href) in links {
        let Some(href) = href else { continue };
        out.extend_from_slice(b"<link rel=\"");
        out.extend_from_slice(rel.as_bytes());
        out.extend_from_slice(b"\" href=\"");
        xml(href, out);
        out.extend_from_slice(b"\"/>\n");
    }
    if head.is_archive() {
        out.extend_from_slice(b"<fh:archive/>\n");
    }
    if let Some(minutes) = head.ttl_minutes {
        pace(minutes, out);
    }
}

/// Appends the end of a document.
pub(super) fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"</feed>\n");
}

/// Appends a message as an entry.
pub(crate) fn entry(message: &Message, out: &mut Vec<u8>) {
    out.reserve(message.draft.cost() * 2 + OVERHEAD_BYTES);
    let own = Summary::of(message);
    let reference = format!("messages/{}", message.cursor);
    out.extend_from_slice(b"<entry>\n");
    element("id", &entry_id(message), out);
    element("title", &own.title, out);
    time("updated", message.time, out);
    time("published", own.published.unwrap_or(message.time), out);
    if let Some(author) = &own.author {
        out.extend_from_slice(b"<author><name>");
        xml(author, out);
        out.extend_from_slice(b"</name></author>\n");
    }
    out.extend_from_slice(b"<category term=\"");
    xml(message.topic().as_str(), out);
    out.extend_from_slice(b"\"/>\n<link rel=\"alternate\" href=\"");
    xml(own.link.as_deref().unwrap_or(&reference), out);
    out.extend_from_slice(b"\"/>\n");
    content(message, &reference, &own, out);
    out.extend_from_slice(b"</entry>\n");
}

fn content(message: &Message, reference: &str, own: &Summary, out: &mut Vec<u8>) {
    let draft = &message.draft;
    let text = match draft.media_type.data_kind() {
        DataKind::Json | DataKind::Text => std::str::from_utf8(&draft.body).ok(),
        DataKind::Binary => None,
    };
    if let Some(text) = text {
        if let Some(summary) = &own.summary {
            element("summary", summary, out);
        }
        return element("content", text, out);
    }
    // Content that is not text needs a summary (§4.1.1.1).
    element("summary", own.summary.as_deref().unwrap_or(&own.title), out);
    out.extend_from_slice(b"<content type=\"");
    xml(media_type(message), out);
    // Content without any is refused by some readers, and the whole feed with it.
    if (1..=INLINE_BYTES_MAX).contains(&draft.body.len()) {
        out.extend_from_slice(b"\">");
        out.extend_from_slice(STANDARD.encode(&draft.body).as_bytes());
        out.extend_from_slice(b"</content>\n");
    } else {
        out.extend_from_slice(b"\" src=\"");
        xml(reference, out);
        out.extend_from_slice(b"\"/>\n");
    }
}

/// The type of content in base64: one for which the specification asks for base64, so neither text nor XML.
fn media_type(message: &Message) -> &str {
    let essence = message.draft.media_type.essence().unwrap_or_default();
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    match essence.split_once('/') {
        Some((kind, subtype))
            if is_token(kind)
                && is_token(subtype)
                && !kind.eq_ignore_ascii_case("text")
                && !kind.eq_ignore_ascii_case("multipart")
                && !kind.eq_ignore_ascii_case("message")
                && !subtype.to_ascii_lowercase().ends_with("xml") =>
        {
            essence
        }
        _ => "application/octet-stream",
    }
}

/// How often the feed is worth a look (RSS 1.0, module Syndication), at the nearest rate that it can say.
fn pace(minutes: u64, out: &mut Vec<u8>) {
    let (period, frequency) = match minutes {
        0..=60 => ("hourly", 60 / minutes.max(1)),
        61..=1440 => ("daily", 1440 / minutes),
        _ => ("weekly", (10_080 / minutes).max(1)),
    };
    out.extend_from_slice(
        format!(
            "<sy:updatePeriod>{period}</sy:updatePeriod>\n<sy:updateFrequency>{frequency}</sy:updateFrequency>\n"
        )
        .as_bytes(),
    );
}

fn element(name: &str, text: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    xml(text, out);
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b">\n");
}

fn time(name: &str, time: Timestamp, out: &mut Vec<u8>) {
    // A timestamp has no character to be escaped.
    element(name, std::str::from_utf8(&rfc3339(time)).unwrap_or_default(), out);
}
