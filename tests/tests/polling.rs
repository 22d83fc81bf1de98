//! What clients that poll are given: feeds as `feed-rs` reads them, and to each of those that waited together its own time to
//! come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/granting.rs"]
#[allow(dead_code, reason = "other suites narrow what is permitted")]
mod granting;
#[path = "support/served.rs"]
#[allow(dead_code, reason = "other suites have WebSockets and streams")]
mod served;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use feed_rs::{
    model::{Entry, Feed, FeedType},
    parser,
};
use tailwire_core::Clock;
use tailwire_model::{Principal, Timestamp};

use crate::served::Served;

const ROOT: &str = "https://rt.example.com";

fn open_to_all(served: &Served) {
    served.policy.grant(&Principal::ANONYMOUS, &["subscribe **", "publish **", "manage **"]);
}

fn publish(served: &Served, topic: &str, media_type: &str, body: &str) {
    let media_type = format!("Content-Type: {media_type}");
    let answer = served.ask_with(None, "POST", &format!("/topics/{topic}"), &[&media_type], body);
    assert_eq!(answer.status, 201, "{answer:?}");
}

fn read(served: &Served, path: &str) -> Feed {
    let answer = served.get(None, path);
    assert_eq!(answer.status, 200, "{answer:?}");
    let url = format!("{ROOT}{path}");
    let parser = parser::Builder::new().base_uri(Some(&url)).build();
    parser.parse(answer.body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

fn title(entry: &Entry) -> &str {
    &entry.title.as_ref().unwrap().content
}

fn link<'a>(feed: &'a Feed, rel: &str) -> Option<&'a str> {
    feed.links.iter().find(|link| link.rel.as_deref() == Some(rel)).map(|link| link.href.as_str())
}

#[test]
fn feed_rs_finds_the_same_in_both_formats() {
    let served = Served::start();
    open_to_all(&served);
    let whole = r#"{"title":"First","summary":"Short","text":"Long","url":"https://example.com/1","author":"Ada",
        "published":"2026-11-30T10:00:00+01:00"}"#;
    publish(&served, "news/a", "application/json", whole);
    publish(&served, "news/a", "text/plain", "Second\nand more");
    for (format, kind) in [("atom", FeedType::Atom), ("jsonfeed", FeedType::JSON)] {
        let feed = read(&served, &format!("/topics/news/a?format={format}"));
        assert_eq!(feed.feed_type, kind);
        assert_eq!(feed.title.as_ref().unwrap().content, "news/a");
        assert_eq!(feed.entries.iter().map(title).collect::<Vec<_>>(), ["Second", "First"], "{format}");
        let first = &feed.entries[1];
        assert!(first.id.starts_with("urn:uuid:"), "{}", first.id);
        assert_eq!(first.links[0].href, "https://example.com/1");
        assert_eq!(first.authors[0].name.as_deref(), Some("Ada"));
        assert_eq!(first.summary.as_ref().unwrap().content, "Short");
        assert_eq!(first.published.unwrap().to_rfc3339(), "2026-11-30T09:00:00+00:00");
        assert!(first.updated.is_some());
        assert_eq!(first.categories[0].term, "news/a");
        let text = first.content.as_ref().unwrap().body.as_deref().unwrap();
        assert_eq!(text, if format == "atom" { whole } else { "Long" });
    }
    let ids = |format| -> Vec<String> {
        read(&served, &format!("/topics/news/*?format={format}"))
            .entries
            .into_iter()
            .map(|entry| entry.id)
            .collect()
    };
    assert_eq!(ids("atom"), ids("jsonfeed"));
}

#[test]
fn feed_rs_reads_whatever_was_published() {
    let served = Served::start();
    open_to_all(&served);
    let long = "x".repeat(100_000);
    let hostile = [
        (
            "application/json",
            r#"{"title":"]]> & <b> \u0000 \u202e","url":"javascript:alert(1)","published":"never"}"#,
        ),
        ("application/json", "[[[]]]"),
        ("text/plain", "\x00\x0b\x1f ]]>"),
        ("text/plain", ""),
        ("image/png", ""),
        ("image/png", "\x01\x02"),
        ("application/octet-stream", long.as_str()),
        ("text/html", "<script>alert(1)</script>"),
        ("image/svg+xml", "<svg onload='x'/>"),
    ];
    for (media_type, body) in hostile {
        publish(&served, "hostile", media_type, body);
    }
    for format in ["atom", "jsonfeed"] {
        let feed = read(&served, &format!("/topics/hostile?format={format}"));
        assert_eq!(feed.entries.len(), hostile.len(), "{format}");
        let ids: BTreeSet<&str> = feed.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids.len(), hostile.len());
        assert!(feed.entries.iter().all(|entry| !title(entry).is_empty()));
        let mut hrefs = feed.entries.iter().flat_map(|entry| &entry.links).map(|link| &link.href);
        assert!(hrefs.all(|href| href.starts_with(&format!("{ROOT}/messages/"))));
    }
    let feed = read(&served, "/topics/hostile?format=atom");
    let of = |number: usize| feed.entries[hostile.len() - 1 - number].content.as_ref().unwrap();
    for empty_or_large in [4, 6] {
        assert!(of(empty_or_large).body.is_none() && of(empty_or_large).src.is_some());
    }
    assert_eq!(of(5).body.as_deref(), Some("AQI="));
}

#[test]
fn feed_rs_follows_archives_to_the_beginning() {
    let served = Served::start();
    open_to_all(&served);
    let lines: Vec<String> = (0..500).map(|number| format!("{{\"title\":\"{number}\"}}")).collect();
    publish(&served, "log", "application/x-ndjson", &lines.join("\n"));
    let (mut path, mut titles, mut documents) = ("/topics/log?format=atom".to_owned(), Vec::new(), 0);
    loop {
        let feed = read(&served, &path);
        titles.extend(feed.entries.iter().map(|entry| title(entry).parse::<u32>().unwrap()));
        documents += 1;
        let Some(previous) = link(&feed, "prev-archive") else { break };
        previous.strip_prefix(ROOT).unwrap_or_else(|| panic!("{previous}")).clone_into(&mut path);
    }
    assert_eq!(titles, (0..500).rev().collect::<Vec<_>>());
    assert!(documents > 4, "{documents}");
}

/// Both clocks of the next test, and its chance.
static NOW: AtomicU64 = AtomicU64::new(1_796_000_000_000);
static CHANCE: AtomicU64 = AtomicU64::new(1);

#[test]
fn those_who_waited_together_do_not_come_back_together() {
    const WAITING: usize = 40;
    let clock = Clock {
        now: || Timestamp(NOW.load(Ordering::SeqCst)),
        steady: || NOW.load(Ordering::SeqCst),
        random: || CHANCE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst),
    };
    let served = Served::start_at(clock);
    open_to_all(&served);
    // One message a minute, of which a client that waits 25 s waits for the last part: 20 s, a quarter more or less.
    let say = || {
        NOW.fetch_add(60_000, Ordering::SeqCst);
        publish(&served, "slow", "text/plain", "tick");
    };
    (0..20).for_each(|_| say());
    let cursor = served.get(None, "/topics/slow?last=1").header("tailwire-cursor").unwrap().to_owned();
    let path = format!("/topics/slow?after={cursor}&wait=25");
    let hints: Vec<u64> = thread::scope(|scope| {
        let polls: Vec<_> = (0..WAITING).map(|_| scope.spawn(|| served.get(None, &path))).collect();
        let waiting = format!("tailwire_connections{{transport=\"long-poll\"}} {WAITING}\n");
        while !served.metrics().contains(&waiting) {
            thread::yield_now();
        }
        say();
        let answers = polls.into_iter().map(|poll| poll.join().unwrap());
        answers.map(|answer| answer.header("retry-after").unwrap().parse().unwrap()).collect()
    });
    assert!(hints.iter().all(|seconds| (15..=25).contains(seconds)), "{hints:?}");
    let different: BTreeSet<&u64> = hints.iter().collect();
    assert!(different.len() > 6, "{hints:?}");
}
