//! The log of the stored sample: how it is made, what it holds, and how its files stand in the repository. The test that
//! opens it and the example that makes it share this.
//!
//! A sample is one text file: a line `file <path> <bytes>` for each file of the log, and below it lines of an offset and
//! bytes in hexadecimal. What stands nowhere is zero, as most of the engine's file is.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "shared by a test and an example")]

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tailwire_core::{Store, log::Group, store::Write};
use tailwire_model::{
    Bound, Condition, Draft, Durability, Fingerprint, IdempotencyKey, Keep, MediaType, Options, Position,
    Term, Timestamp, Topic, TrimReason, message::Extras,
};
use tailwire_storage::testing::Writes as _;
use tailwire_storage::{LogSettings, SledStore};

/// 2026-11-21, in milliseconds.
pub(crate) const START: u64 = 1_795_000_000_000;
/// The time between two openings.
pub(crate) const MINUTE_MS: u64 = 60_000;
/// Bytes of a line.
const LINE_BYTES: usize = 48;

/// Makes the log in `dir`: three openings, of which the second ended without a close. The third goes on: its end stands in
/// the journal alone.
pub(crate) fn make(dir: &Path) -> SledStore {
    let log = open(dir, START);
    log.set_options(&term("kept/*"), Options { keep: Some(Keep::Compact), ..Options::default() }).unwrap();
    let bounds = Options { max_messages: Some(Bound(2)), ..Options::default() };
    log.set_options(&term("bounded"), bounds).unwrap();
    let memory = Options { durability: Some(Durability::Memory), ..Options::default() };
    log.set_options(&term("memory"), memory).unwrap();
    append(&log, START, vec![draft("a", "text/plain", b"plain text")]);
    append(
        &log,
        START + 1,
        vec![draft("a", "application/json", b"{\"json\":[1,2]}"), draft("b", "", b"a batch")],
    );
    append(&log, START + 2, vec![draft("b", "application/octet-stream", &large())]);
    append(&log, START + 3, vec![with_extras(draft("kept/x", "", b"superseded"))]);
    append(&log, START + 3, vec![with_extras(draft("kept/x", "", b"the newest of its key"))]);
    log.append(vec![keyed()], Timestamp(START + 4)).unwrap();
    settle(&log, START + 4);
    log.close().unwrap();
    drop(log);

    let log = open(dir, START + MINUTE_MS);
    append(&log, START + MINUTE_MS, vec![draft("deleted", "", b"deleted")]);
    for body in [&b"first"[..], b"second", b"third"] {
        append(&log, START + MINUTE_MS + 1, vec![draft("bounded", "", body)]);
    }
    log.trim(&Topic::parse("deleted").unwrap(), TrimReason::Deleted).unwrap();
    let mut timed = draft("timed", "", b"an hour");
    timed.extras.get_or_insert_default().max_age_ms = Some(60 * MINUTE_MS);
    append(&log, START + MINUTE_MS + 2, vec![draft("single", "", b"taken by itself"), timed]);
    append(&log, START + MINUTE_MS + 2, vec![draft("single", "", b"stays")]);
    let taken = log.epochs().cursor_at(Position(12));
    log.write(vec![Write::Remove(taken, TrimReason::Deleted)], Timestamp(START + MINUTE_MS + 2)).unwrap();
    append(&log, START + MINUTE_MS + 2, vec![Draft::deletion(Topic::parse("kept/y").unwrap(), "k".into())]);
    append(&log, START + MINUTE_MS + 2, vec![draft("memory", "", b"never stored")]);
    settle(&log, START + MINUTE_MS + 2);
    drop(log);

    let log = open(dir, START + 2 * MINUTE_MS);
    append(&log, START + 2 * MINUTE_MS, vec![draft("a", "text/plain", "the last one, ä".as_bytes())]);
    let forget = Write::Forget(Topic::parse("deleted").unwrap(), Position(8));
    log.write(vec![forget], Timestamp(START + 2 * MINUTE_MS)).unwrap();
    settle(&log, START + 2 * MINUTE_MS);
    log
}

/// Every retained message: its cursor, its time, its topic, its type and its body.
pub(crate) fn messages() -> Vec<(&'static str, u64, &'static str, &'static str, Vec<u8>)> {
    let second = START + MINUTE_MS;
    vec![
        ("01kv6s00-00000000001", START, "a", "text/plain", b"plain text".to_vec()),
        ("01kv6s00-00000000002", START + 1, "a", "application/json", b"{\"json\":[1,2]}".to_vec()),
        ("01kv6s00-00000000003", START + 1, "b", "", b"a batch".to_vec()),
        ("01kv6s00-00000000004", START + 2, "b", "application/octet-stream", large()),
        ("01kv6s00-00000000006", START + 3, "kept/x", "", b"the newest of its key".to_vec()),
        ("01kv6s00-00000000007", START + 4, "a", "", b"under a key".to_vec()),
        ("01kv6vo0-0000000000a", second + 1, "bounded", "", b"second".to_vec()),
        ("01kv6vo0-0000000000b", second + 1, "bounded", "", b"third".to_vec()),
        ("01kv6vo0-0000000000d", second + 2, "timed", "", b"an hour".to_vec()),
        ("01kv6vo0-0000000000e", second + 2, "single", "", b"stays".to_vec()),
        ("01kv6vo0-0000000000f", second + 2, "kept/y", "", Vec::new()),
        ("01kv73g0-0000000000g", second + MINUTE_MS, "a", "text/plain", "the last one, ä".into()),
    ]
}

/// A publish under a key, which the log remembers.
pub(crate) fn keyed() -> Group {
    let key = IdempotencyKey { scoped: "caller key".into(), request: Fingerprint([7; 16]) };
    Group { drafts: vec![draft("a", "", b"under a key")], key: Some(key), condition: Condition::None }
}

/// A body that stands in fragments.
pub(crate) fn large() -> Vec<u8> {
    (0..15_000_u32).map(|n| (n % 251) as u8).collect()
}

fn open(dir: &Path, now: u64) -> SledStore {
    tailwire_storage::testing::open(dir, Timestamp(now), &LogSettings::default()).unwrap()
}

fn term(text: &str) -> Term {
    Term::parse(text).unwrap()
}

fn draft(topic: &str, media_type: &str, body: &[u8]) -> Draft {
    Draft::new(Topic::parse(topic).unwrap(), MediaType::new(media_type), Bytes::copy_from_slice(body))
}

fn with_extras(mut draft: Draft) -> Draft {
    let headers = vec![("x-source".to_owned(), "sample".to_owned())];
    draft.extras = Some(Box::new(Extras {
        key: Some("k".into()),
        event: Some("changed".into()),
        headers,
        ..Extras::default()
    }));
    draft
}

fn append(log: &SledStore, now: u64, drafts: Vec<Draft>) {
    log.append(vec![Group { drafts, key: None, condition: Condition::None }], Timestamp(now)).unwrap();
}

/// Does all that is left to do.
fn settle(log: &SledStore, now: u64) {
    while log.tidy_at(Timestamp(now)).unwrap() == Some(0) {}
}

/// The files of a log as text.
pub(crate) fn pack(dir: &Path) -> String {
    let mut out = String::new();
    for path in files(dir) {
        let bytes = fs::read(&path).unwrap();
        let name = path.strip_prefix(dir).unwrap().display();
        writeln!(out, "file {name} {}", bytes.len()).unwrap();
        for (index, line) in bytes.chunks(LINE_BYTES).enumerate() {
            if line.iter().any(|byte| *byte != 0) {
                let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(out, "{} {hex}", index * LINE_BYTES).unwrap();
            }
        }
    }
    out
}

/// Writes the files that a text describes.
pub(crate) fn unpack(text: &str, dir: &Path) -> io::Result<()> {
    let mut file = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), &mut file) {
            (["file", name, bytes], _) => {
                let path = dir.join(name);
                fs::create_dir_all(path.parent().unwrap())?;
                let made = File::create(path)?;
                made.set_len(bytes.parse().unwrap())?;
                file = Some(made);
            }
            ([offset, hex], Some(file)) => {
                let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
                file.seek(SeekFrom::Start(offset.parse().unwrap()))?;
                file.write_all(&bytes)?;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

/// The files below a folder, in order. Not the ballast, which only takes room.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    let is_ballast = |path: &PathBuf| path.file_name().is_some_and(|name| name == "ballast");
    paths.into_iter().filter(|path| !is_ballast(path)).flat_map(below).collect()
}
