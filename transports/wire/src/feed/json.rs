//! JSON Feed 1.1: items, and what stands around them. The extension `_tailwire` (its name begins with an underscore, as the
//! specification asks) has the message as pages have it, so that a program loses nothing by reading the feed.

use tailwire_model::{DataKind, Message};

use super::{
    head::{FeedHead, entry_id},
    summary::Summary,
};
use crate::{
    format, json,
    json::{number_member, string_member},
    time::rfc3339,
};

/// Appends the beginning of a document, up to its first item.
pub(super) fn head(head: &FeedHead<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"version\":\"https://jsonfeed.org/version/1.1\"");
    string_member("title", head.title, out);
    if let Some(description) = head.description {
        string_member("description", description, out);
    }
    // Absolute, or nothing: the specification knows no relative URLs.
    if head.own.contains("://") {
        string_member("feed_url", head.own, out);
    }
    // The older items, where archives have them; else those after a limit.
    if let Some(next) = head.prev_archive.or(head.next).filter(|next| next.contains("://")) {
        string_member("next_url", next, out);
    }
    if let Some(hub) = head.hub {
        out.extend_from_slice(b",\"hubs\":[{\"type\":\"WebSub\"");
        string_member("url", hub, out);
        out.extend_from_slice(b"}]");
    }
    out.extend_from_slice(b",\"_tailwire\":{\"id\":");
    json::string(head.id, out);
    let links = [
        ("self", Some(head.own)),
        ("current", head.current),
        ("prev_archive", head.prev_archive),
        ("next_archive", head.next_archive),
        ("next", head.next),
    ];
    for (name, href) in links {
        if let Some(href) = href {
            string_member(name, href, out);
        }
    }
    if let Some(minutes) = head.ttl_minutes {
        number_member("ttl_minutes", minutes, out);
    }
    out.extend_from_slice(b"},\"items\":[");
}

/// Appends the end of a document: after items, each of which ends with a comma.
pub(super) fn end(out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(b"]}");
}

/// Appends a message as an item, followed by a comma.
pub(crate) fn item(message: &Message, out: &mut Vec<u8>) {
    let own = Summary::of(message);
    let draft = &message.draft;
    out.extend_from_slice(b"{\"id\":");
    json::string(&entry_id(message), out);
    string_member("title", &own.title, out);
    if let Some(summary) = &own.summary {
        string_member("summary", summary, out);
    }
    if let Some(url) = &own.link {
        string_member("url", url, out);
    }
    let text = match draft.media_type.data_kind() {
        DataKind::Json | DataKind::Text => std::str::from_utf8(&draft.body).ok(),
        DataKind::Binary => None,
    };
    // An item has content; of what is no text, that is its title.
    string_member("content_text", own.text.as_deref().or(text).unwrap_or(&own.title), out);
    out.extend_from_slice(b",\"date_published\":\"");
    out.extend_from_slice(&rfc3339(own.published.unwrap_or(message.time)));
    out.extend_from_slice(b"\",\"date_modified\":\"");
    out.extend_from_slice(&rfc3339(message.time));
    out.push(b'"');
    if let Some(author) = &own.author {
        out.extend_from_slice(b",\"authors\":[{\"name\":");
        json::string(author, out);
        out.extend_from_slice(b"}]");
    }
    out.extend_from_slice(b",\"tags\":[");
    json::string(message.topic().as_str(), out);
    out.push(b']');
    out.extend_from_slice(b",\"_tailwire\":{");
    format::members(message, out);
    out.extend_from_slice(b"}},");
}
