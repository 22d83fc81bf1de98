//! Documents as parsers of the field read them.

use bytes::Bytes;
use proptest::prelude::*;
use tailwire_model::{Cursor, Draft, Epoch, Filter, MediaType, Message, Position, Term, Timestamp, Topic};

use super::{
    atom, document,
    head::{FeedHead, entry_id},
    json,
};
use crate::document::{About, Archives, Document};

const ATOM: &str = "http://www.w3.org/2005/Atom";

fn message(topic: &str, media_type: &str, body: &[u8]) -> Message {
    let draft =
        Draft::new(Topic::parse(topic).unwrap(), MediaType::new(media_type), Bytes::copy_from_slice(body));
    draft.into_message(Epoch::MAX, Position(9), Timestamp(1_796_032_800_000))
}

fn head() -> FeedHead<'static> {
    FeedHead {
        id: "urn:uuid:00000000-0000-0000-0000-000000000007",
        title: "a & <b> \"c\"",
        description: Some("about \u{0}"),
        updated: Timestamp(1_796_032_800_000),
        base: "../",
        own: "?format=atom&topic=\"a\"",
        current: Some("?format=atom"),
        prev_archive: Some("?archive=x&y"),
        next_archive: None,
        next: None,
        hub: None,
        ttl_minutes: Some(5),
    }
}

fn atom_text(messages: &[Message]) -> String {
    let mut out = Vec::new();
    atom::head(&head(), &mut out);
    messages.iter().for_each(|message| atom::entry(message, &mut out));
    atom::end(&mut out);
    String::from_utf8(out).unwrap()
}

fn json_value(messages: &[Message]) -> serde_json::Value {
    let mut out = Vec::new();
    json::head(&head(), &mut out);
    messages.iter().for_each(|message| json::item(message, &mut out));
    json::end(&mut out);
    serde_json::from_slice(&out).unwrap()
}

/// The texts of an entry's elements by name.
fn child<'a>(node: roxmltree::Node<'a, 'a>, name: &'static str) -> Option<roxmltree::Node<'a, 'a>> {
    node.children().find(|child| child.has_tag_name((ATOM, name)))
}

#[test]
fn an_entry_has_what_the_specification_asks_for() {
    let body = br#"{"title":"Hi","text":"Long\ntext","url":"https://example.com/1","author":"Ada","published":"2026-11-30T09:00:00Z"}"#;
    let text = atom_text(&[message("chat/a", "application/json", body)]);
    let document = roxmltree::Document::parse(&text).unwrap();
    let feed = document.root_element();
    assert!(feed.has_tag_name((ATOM, "feed")));
    assert_eq!(child(feed, "title").unwrap().text(), Some("a & <b> \"c\""));
    assert_eq!(child(feed, "subtitle").unwrap().text(), Some("about \u{fffd}"));
    assert!(
        feed.children().any(|node| node.has_tag_name(("http://purl.org/syndication/history/1.0", "archive")))
    );
    let links: Vec<_> = feed.children().filter_map(|node| node.attribute("rel")).collect();
    assert_eq!(links, ["self", "current", "prev-archive"]);
    let entry = child(feed, "entry").unwrap();
    let id = child(entry, "id").unwrap().text().unwrap();
    assert!(id.starts_with("urn:uuid:"), "{id}");
    assert_eq!(child(entry, "title").unwrap().text(), Some("Hi"));
    assert_eq!(child(entry, "published").unwrap().text(), Some("2026-11-30T09:00:00.000Z"));
    assert_eq!(child(entry, "link").unwrap().attribute("href"), Some("https://example.com/1"));
    assert_eq!(child(entry, "category").unwrap().attribute("term"), Some("chat/a"));
    assert_eq!(child(entry, "content").unwrap().text().unwrap().as_bytes(), body);
}

#[test]
fn ids_follow_from_the_message_alone() {
    let one = message("a", "text/plain", b"x");
    assert_eq!(entry_id(&one), entry_id(&message("a", "text/plain", b"y")));
    let next = Message { cursor: Cursor { position: Position(10), ..one.cursor }, ..one.clone() };
    assert_ne!(entry_id(&one), entry_id(&next));
    assert_ne!(entry_id(&one), entry_id(&message("b", "text/plain", b"x")));
}

#[test]
fn links_lead_from_the_document_to_the_root() {
    let head = |terms: &[&str], query: Option<&str>, public_url: Option<&str>| {
        let filter = Filter::new(terms.iter().map(|term| Term::parse(term).unwrap()).collect()).unwrap();
        let about = About {
            filter: &filter,
            query,
            public_url,
            updated: Timestamp(0),
            pace_ms: Some(90_000),
            title: None,
            description: None,
            hub: None,
            archives: Archives::default(),
        };
        let mut got = (String::new(), String::new(), String::new());
        let cursor = Cursor { epoch: Epoch::ZERO, position: Position(1) };
        let whole =
            Document { items: &[], cursor, more: true, prev: None, retry_after_ms: None, about: &about };
        document::with_head(&whole, |head| {
            got = (head.base.into(), head.own.into(), head.next.unwrap().into());
        });
        got
    };
    assert_eq!(
        head(&["chat/ä b"], Some("format=atom"), None),
        (
            "../../".into(),
            "topics/chat/%C3%A4%20b?format=atom".into(),
            "topics/chat/%C3%A4%20b?format=atom&after=00000000-00000000001".into()
        )
    );
    let set = head(&["a", "b"], Some("topic=a&topic=b&format=atom"), None);
    assert_eq!((&*set.0, &*set.1), ("./", "stream?topic=a&topic=b&format=atom"));
    let public = head(&["a"], None, Some("https://rt.example.com/rt/"));
    assert_eq!(
        (&*public.0, &*public.1),
        ("https://rt.example.com/rt/", "https://rt.example.com/rt/topics/a")
    );
}

#[test]
fn archives_link_to_each_other() {
    let filter = Filter::from(Term::parse("a").unwrap());
    let cursor = |position| Cursor { epoch: Epoch::ZERO, position: Position(position) };
    let about = About {
        filter: &filter,
        query: Some("format=atom&archive=00000000-00000000007&x=1"),
        public_url: None,
        updated: Timestamp(0),
        pace_ms: None,
        title: Some("News\n of the day"),
        description: Some("what came"),
        hub: Some("https://hub.example/"),
        archives: Archives { is_archive: true, previous: Some(cursor(3)), next: Some(cursor(9)) },
    };
    let whole = Document {
        items: &[],
        cursor: cursor(7),
        more: false,
        prev: None,
        retry_after_ms: None,
        about: &about,
    };
    let mut out = Vec::new();
    document::atom_document(&whole, &mut out);
    let text = String::from_utf8(out).unwrap();
    let parsed = roxmltree::Document::parse(&text).unwrap();
    let feed = parsed.root_element();
    let links: Vec<_> = feed
        .children()
        .filter(|node| node.has_tag_name((ATOM, "link")))
        .map(|node| (node.attribute("rel").unwrap(), node.attribute("href").unwrap()))
        .collect();
    let own = "topics/a?format=atom&archive=00000000-00000000007&x=1";
    let before = "topics/a?format=atom&x=1&archive=00000000-00000000003";
    let after = "topics/a?format=atom&x=1&archive=00000000-00000000009";
    assert_eq!(
        links,
        [
            ("self", own),
            ("current", "topics/a?format=atom&x=1"),
            ("prev-archive", before),
            ("next-archive", after),
            ("hub", "https://hub.example/"),
        ]
    );
    assert_eq!(child(feed, "title").unwrap().text(), Some("News of the day"));
    assert_eq!(child(feed, "subtitle").unwrap().text(), Some("what came"));
    assert!(!text.contains("sy:update"), "an archive says nothing of a pace, which changes");
    let public = About { public_url: Some("https://rt.example/"), ..about };
    let mut out = Vec::new();
    document::json_document(&Document { about: &public, ..whole }, &mut out);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["next_url"], format!("https://rt.example/{before}"));
    assert_eq!(json["_tailwire"]["next_archive"], format!("https://rt.example/{after}"));
    assert_eq!(json["hubs"][0]["url"], "https://hub.example/");
}

#[test]
fn bytes_are_given_in_base64_or_by_reference() {
    let text = atom_text(&[
        message("a", "image/png", b"\x89PNG"),
        message("a", "image/png", &vec![0; 100_000]),
        message("a", "image/svg+xml", b"<svg onload='x'/>"),
        message("a", "\"><script", b"\xff"),
        message("a", "image/png", b""),
    ]);
    let document = roxmltree::Document::parse(&text).unwrap();
    let contents: Vec<_> =
        document.descendants().filter(|node| node.has_tag_name((ATOM, "content"))).collect();
    let types: Vec<_> = contents.iter().map(|node| node.attribute("type").unwrap()).collect();
    let bytes = "application/octet-stream";
    assert_eq!(types, ["image/png", "image/png", bytes, bytes, "image/png"]);
    assert_eq!(contents[0].text(), Some("iVBORw=="));
    for reference in [1, 4] {
        assert!(contents[reference].attribute("src").unwrap().starts_with("messages/"));
    }
    let items = json_value(&[message("a", "image/png", b"\x89PNG")]);
    let item = &items["items"][0];
    assert_eq!(item["_tailwire"]["encoding"], "base64");
    assert_eq!(item["content_text"], "image/png message");
}

#[test]
fn an_item_has_the_message_whole() {
    let value = json_value(&[message("chat/a", "application/json", br#"{"title":"Hi","text":"t","n":1}"#)]);
    assert_eq!(value["version"], "https://jsonfeed.org/version/1.1");
    let item = &value["items"][0];
    assert_eq!((&item["title"], &item["content_text"]), (&"Hi".into(), &"t".into()));
    assert_eq!(item["_tailwire"]["data"]["n"], 1);
    assert_eq!(item["tags"][0], "chat/a");
    assert_eq!(json_value(&[])["items"], serde_json::json!([]));
}

proptest! {
    #[test]
    fn whatever_was_published_the_documents_are_well_formed(
        text in any::<String>(), bytes in any::<Vec<u8>>(), media_type in "[ -~]{0,40}",
    ) {
        let json = serde_json::json!({ "title": text, "text": text, "id": text, "author": text }).to_string();
        let messages = [
            message("a", "application/json", json.as_bytes()),
            message("a", "text/plain", text.as_bytes()),
            message("a", "text/html", &bytes),
            message("a", &media_type, &bytes),
        ];
        let atom = atom_text(&messages);
        let document = roxmltree::Document::parse(&atom).unwrap();
        prop_assert_eq!(document.descendants().filter(|node| node.has_tag_name((ATOM, "entry"))).count(), 4);
        prop_assert_eq!(json_value(&messages)["items"].as_array().unwrap().len(), 4);
    }
}
