//! Logs of an old format stay openable: each stored sample was written when its format was fixed, and everything in it is
//! still found.

#![allow(clippy::unwrap_used)]

mod sample;

use std::{convert::Infallible, path::PathBuf};

use sample::{MINUTE_MS, START};
use tailwire_core::{
    Store,
    log::{Appended, Budget},
};
use tailwire_model::{Filter, Keep, Message, Position, Term, Timestamp, Topic, Trim, TrimReason};
use tailwire_storage::testing::Writes as _;
use tailwire_storage::{LogSettings, inspect::Survey};
use tempfile::TempDir;

const FORMATS: [&str; 1] = [include_str!("samples/format-7.txt")];
const UNBOUNDED: Budget = Budget { messages: usize::MAX, bytes: usize::MAX, scan_bytes: usize::MAX };

fn unpacked(sample: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    sample::unpack(sample, &log).unwrap();
    (dir, log)
}

fn filter(text: &str) -> Filter {
    Filter::from(Term::parse(text).unwrap())
}

fn described(message: &Message) -> (String, u64, String, String, Vec<u8>) {
    let media_type = message.draft.media_type.as_str().unwrap_or_default().to_owned();
    let topic = message.topic().as_str().to_owned();
    (message.cursor.to_string(), message.time.0, topic, media_type, message.draft.body.to_vec())
}

fn expected() -> Vec<(String, u64, String, String, Vec<u8>)> {
    let owned = |(cursor, time, topic, media_type, body): (&str, u64, &str, &str, Vec<u8>)| {
        (cursor.to_owned(), time, topic.to_owned(), media_type.to_owned(), body)
    };
    sample::messages().into_iter().map(owned).collect()
}

#[test]
fn an_old_log_holds_what_it_held() {
    FORMATS.into_iter().for_each(holds_what_it_held);
}

#[test]
fn an_old_log_is_sound() {
    FORMATS.into_iter().for_each(is_sound);
}

fn holds_what_it_held(sample: &str) {
    let (_dir, log) = unpacked(sample);
    let log =
        tailwire_storage::testing::open(&log, Timestamp(START + 3 * MINUTE_MS), &LogSettings::default())
            .unwrap();
    let page = log.read(&filter("**"), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
    assert_eq!(page.messages.iter().map(described).collect::<Vec<_>>(), expected());
    let extras = page.messages[4].draft.extras.as_deref().unwrap();
    assert_eq!((extras.key.as_deref(), extras.event.as_deref()), (Some("k"), Some("changed")));
    assert_eq!(extras.headers, [("x-source".to_owned(), "sample".to_owned())]);

    let trimmed = |term| log.trimmed(&filter(term), Position::ZERO);
    let trim = |upto, reason| Some(Trim { upto: Position(upto), reason });
    // It is forgotten, which is told at any topic that isn't known.
    assert_eq!(
        (trimmed("deleted"), log.topics("deleted", None, 1)),
        (trim(8, TrimReason::Retention), vec![])
    );
    assert_eq!(trimmed("bounded"), trim(9, TrimReason::Retention));
    assert_eq!(trimmed("single"), trim(12, TrimReason::Deleted));
    assert_eq!(trimmed("memory"), trim(15, TrimReason::Retention));
    assert_eq!(trimmed("a"), None);
    let rule = |topic| log.rules().of(&Topic::parse(topic).unwrap());
    assert_eq!((rule("kept/x").keep, rule("bounded").max_messages), (Keep::Compact, Some(2)));
    assert_eq!(log.epochs().starts().len(), 4);
    assert_eq!(log.newest(), Position(16));
    let of = |position: u64| page.messages.iter().find(|own| own.position() == Position(position)).unwrap();
    assert_eq!(of(13).draft.max_age_ms(), Some(60 * MINUTE_MS));
    assert!(of(15).draft.is_deletion());
    assert_eq!(log.before_time(Timestamp(START + MINUTE_MS)), Ok(Position(7)));

    let replayed = log.append(vec![sample::keyed()], Timestamp(START + 5)).unwrap();
    assert!(matches!(replayed[0], Appended::Replayed(stored) if stored.first.position == Position(7)));

    // A lifetime ends by the clock of its process, in the sample's minute.
    log.tidy_all(Timestamp(START + 61 * MINUTE_MS + 1));
    assert_eq!(trimmed("timed"), None);
    log.tidy_all(Timestamp(START + 61 * MINUTE_MS + 2));
    assert_eq!(trimmed("timed"), trim(13, TrimReason::Retention));
}

fn is_sound(sample: &str) {
    let (_dir, log) = unpacked(sample);
    let survey = Survey::open(&log, None).unwrap();
    let mut messages = Vec::new();
    let Ok(walked) = survey.walk(|message| {
        messages.push(described(&message));
        Ok::<_, Infallible>(())
    });
    assert!(walked.findings.is_sound(), "{:?}", walked.findings);
    assert_eq!(messages, expected());
}
