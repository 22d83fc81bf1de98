//! Title and summary of a message for feed readers: from the members that JSON messages commonly have, and for other
//! types from the text itself.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use tailwire_model::{DataKind, Message, Timestamp};

use super::clean::one_line;
use crate::time::parse_time;

/// Characters of a title.
const TITLE_CHARS: usize = 120;
/// Characters of a summary.
const SUMMARY_CHARS: usize = 500;
/// Bytes of a link; longer ones are left out.
const LINK_BYTES_MAX: usize = 2048;

/// Title and summary of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) title: String,
    pub(super) summary: Option<String>,
    /// Text for people: `text` of a JSON message.
    pub(super) text: Option<String>,
    /// An absolute `http` or `https` URL.
    pub(super) link: Option<String>,
    pub(super) author: Option<String>,
    pub(super) published: Option<Timestamp>,
}

impl Summary {
    pub(super) fn of(message: &Message) -> Self {
        let draft = &message.draft;
        let text = std::str::from_utf8(&draft.body).ok();
        let mut own = match (draft.media_type.data_kind(), text) {
            (DataKind::Json, Some(text)) => Self::of_json(text),
            (DataKind::Text, Some(text)) => {
                Self { title: first_line(text), summary: beyond_first_line(text), ..Self::default() }
            }
            _ => Self::default(),
        };
        if own.title.is_empty() {
            own.title = untitled(message);
        }
        own
    }

    fn of_json(text: &str) -> Self {
        let text = text.trim_start();
        if text.starts_with('[') {
            return Self::default();
        }
        if !text.starts_with('{') {
            let scalar = serde_json::from_str::<&RawValue>(text).ok().and_then(text_of);
            return Self { title: first_line(&scalar.unwrap_or_default()), ..Self::default() };
        }
        let Ok(members) = serde_json::from_str::<SummaryMembers<'_>>(text) else { return Self::default() };
        let SummaryMembers { title, summary, text, url, link, id, author, published } = members;
        let [title, summary, body, url, link, id, author, published] =
            [title, summary, text, url, link, id, author, published].map(|member| member.and_then(text_of));
        let title_line = title.as_deref().map(|title| one_line(title, TITLE_CHARS));
        let lines = [&summary, &body].into_iter().flatten().map(|text| first_line(text));
        let heading = title_line.into_iter().chain(lines).find(|line| !line.is_empty());
        let summary_line = summary.as_deref().or(body.as_deref().filter(|_| title.is_some()));
        let id_line = id.as_deref().map(|id| one_line(id, TITLE_CHARS)).filter(|id| !id.is_empty());
        Self {
            title: heading.or(id_line).unwrap_or_default(),
            summary: summary_line.map(|text| one_line(text, SUMMARY_CHARS)).filter(|text| !text.is_empty()),
            link: [url, link, id].into_iter().flatten().find_map(|url| web_url(&url)),
            author: author.map(|name| one_line(&name, TITLE_CHARS)).filter(|name| !name.is_empty()),
            published: published.as_deref().and_then(parse_time),
            text: body.map(Cow::into_owned),
        }
    }
}

/// The title of a message that has none: its event and type.
fn untitled(message: &Message) -> String {
    let draft = &message.draft;
    let event = draft.extras.as_ref().and_then(|extras| extras.event.as_deref());
    let kind = match draft.media_type.data_kind() {
        DataKind::Json => "JSON message",
        DataKind::Text => "Text message",
        DataKind::Binary => {
            let kind = draft.media_type.essence().unwrap_or("binary");
            return one_line(&format!("{} message", event.unwrap_or(kind)), TITLE_CHARS);
        }
    };
    event.map_or_else(|| kind.to_owned(), |event| one_line(event, TITLE_CHARS))
}

fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    one_line(line.unwrap_or_default(), TITLE_CHARS)
}

/// A summary of a text that has more than a title.
fn beyond_first_line(text: &str) -> Option<String> {
    let all = one_line(text, SUMMARY_CHARS);
    (all != first_line(text)).then_some(all).filter(|all| !all.is_empty())
}

/// A URL that may stand behind a link: absolute, of the web, and without what no URL has (RFC 3986 §2).
fn web_url(text: &str) -> Option<String> {
    let scheme = text.split_once("://")?.0;
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = text[scheme.len() + 3..].split(['/', '?', '#']).next().unwrap_or_default();
    let is_legal = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    let is_sound = text.len() <= LINK_BYTES_MAX && !authority.is_empty() && text.bytes().all(is_legal);
    (is_web && is_sound).then(|| text.to_owned())
}

/// The members that are looked for. JSON that repeats one of them has none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SummaryMembers<'a> {
    #[serde(borrow)]
    title: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    link: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    author: Option<&'a RawValue>,
    #[serde(borrow)]
    published: Option<&'a RawValue>,
}

/// An author as JSON Feed and schema.org write it.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
}

/// A member's text: a string, a number as it is written, the name of an author, or of the first of several.
fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    if text.starts_with('[') {
        let all: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        return all.first().and_then(|first| text_of_one(first));
    }
    text_of_one(value)
}

fn text_of_one(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok().map(Cow::Owned),
        b'-' | b'0'..=b'9' => Some(text.into()),
        b'{' => {
            let name = serde_json::from_str::<Named<'_>>(text).ok()?.name?;
            if name.get().starts_with('{') { None } else { text_of_one(name) }
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use tailwire_model::{Draft, Epoch, MediaType, Position, Topic};

    use super::*;

    fn summary(media_type: &str, body: &[u8]) -> Summary {
        let topic = Topic::parse("a").unwrap();
        let draft = Draft::new(topic, MediaType::new(media_type), Bytes::copy_from_slice(body));
        Summary::of(&draft.into_message(Epoch::MAX, Position(1), Timestamp(0)))
    }

    fn json(body: &str) -> Summary {
        summary("application/json", body.as_bytes())
    }

    #[test]
    fn common_members_are_shown() {
        let all = json(
            r#"{"title":" A\ntitle ","summary":"Short","text":"Long","url":"https://example.com/a?b=c#d","id":7,
                "author":{"name":"Ada","url":"x"},"published":"2026-11-30T10:00:00+01:00","other":[1,{"title":"no"}]}"#,
        );
        assert_eq!(all.title, "A title");
        assert_eq!(all.summary.as_deref(), Some("Short"));
        assert_eq!(all.text.as_deref(), Some("Long"));
        assert_eq!(all.link.as_deref(), Some("https://example.com/a?b=c#d"));
        assert_eq!(all.author.as_deref(), Some("Ada"));
        assert_eq!(all.published, parse_time("2026-11-30T09:00:00Z"));
    }

    #[test]
    fn the_next_best_member_is_the_title() {
        assert_eq!(json(r#"{"text":"hi\nthere"}"#).title, "hi");
        assert_eq!(json(r#"{"summary":"s","text":"t"}"#).title, "s");
        assert_eq!(json(r#"{"id":"order-7"}"#).title, "order-7");
        assert_eq!(json("\"plain\"").title, "plain");
        assert_eq!(json("21.5").title, "21.5");
        assert_eq!(json("-3").title, "-3");
        for nothing in ["null", "true", "[]", "[[1],{\"a\":2}]", "{}", r#"{"title":null,"text":[],"id":{}}"#]
        {
            assert_eq!(json(nothing).title, "JSON message", "{nothing}");
        }
        assert_eq!(json(r#"{"author":[{"name":"Ada"},{"name":"Bob"}]}"#).author.as_deref(), Some("Ada"));
        assert_eq!(json(r#"{"title":"a","title":"b"}"#).title, "JSON message");
    }

    #[test]
    fn other_types_have_a_sensible_title() {
        assert_eq!(summary("", b"one\ntwo").title, "one");
        assert_eq!(summary("text/plain", b"one\ntwo").summary.as_deref(), Some("one two"));
        assert_eq!(summary("text/plain", b"one").summary, None);
        assert_eq!(summary("text/plain", b"").title, "Text message");
        assert_eq!(summary("text/plain", b"\xff").title, "Text message");
        assert_eq!(summary("image/png", b"\x89PNG").title, "image/png message");
        assert_eq!(summary("nonsense", b"x").title, "nonsense message");
    }

    #[test]
    fn a_link_is_one_of_the_web() {
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "http://",
            "https:///path",
            "//example.com/",
            "/relative",
            "https://example.com/a b",
            "https://example.com/\\\"",
            "https://exämple.com/",
            "ftp://example.com/",
        ] {
            assert_eq!(json(&format!(r#"{{"url":"{bad}"}}"#)).link, None, "{bad}");
        }
        assert!(json(r#"{"id":"HTTPS://example.com"}"#).link.is_some());
        assert_eq!(json(&format!(r#"{{"url":"https://example.com/{}"}}"#, "a".repeat(3000))).link, None);
    }

    #[test]
    fn hostile_text_is_no_trouble() {
        assert_eq!(json(r#"{"title":"a\u0000b\u202ec"}"#).title, "abc");
        let long = json(&format!(r#"{{"title":"{}"}}"#, "x".repeat(1 << 20))).title;
        assert_eq!(long.chars().count(), TITLE_CHARS);
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100));
        assert_eq!(json(&deep).title, "JSON message");
    }
}
