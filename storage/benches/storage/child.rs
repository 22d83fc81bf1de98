//! A process of its own that opens a store, reads a topic from it, says what that took, and dies without closing.

use std::{fs, path::Path, process::Command, time::Instant};

use tailwire_core::log::Budget;
use tailwire_model::{Filter, Position, Term};
use tailwire_storage::testing::Writes as _;

use crate::stores::{Fjall, PlainFile, Redb, Store, Tailwire};

/// The most that a reader gets by one call.
const BUDGET: Budget = Budget { messages: 2000, bytes: 128 << 10, scan_bytes: 8 << 20 };
/// Places that a topic is resumed from.
const RESUMED: u64 = 200;

/// The cost.
pub(crate) struct Figures {
    pub(crate) open_seconds: f64,
    pub(crate) read_seconds: f64,
    pub(crate) messages: u64,
    /// The median of reading 100 messages after some position.
    pub(crate) resume_seconds: f64,
    /// Resident memory: after opening, after reading.
    pub(crate) opened_bytes: u64,
    pub(crate) read_bytes: u64,
}

impl Figures {
    /// Those of a process that opens the store in `dir` and reads `topic`.
    pub(crate) fn of(name: &str, dir: &Path, topic: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).arg(name).arg(dir).arg(topic).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let [open, read, messages, resume, opened, after] = numbers.try_into().unwrap();
        Self {
            open_seconds: open,
            read_seconds: read,
            messages: messages as u64,
            resume_seconds: resume,
            opened_bytes: opened as u64,
            read_bytes: after as u64,
        }
    }
}

/// The process.
pub(crate) fn run(name: &str, dir: &Path, topic: &str) {
    let start = Instant::now();
    match name {
        PlainFile::NAME => read(&PlainFile::open(dir), topic, start),
        Fjall::NAME => read(&Fjall::open(dir), topic, start),
        Redb::NAME => read(&Redb::open(dir), topic, start),
        _ => read(&Tailwire::open(dir), topic, start),
    }
}

fn read(store: &impl Store, topic: &str, start: Instant) {
    let (open, opened) = (start.elapsed().as_secs_f64(), resident_bytes());
    let resume = store.log().map_or(0.0, |log| resume(log, topic));
    let start = Instant::now();
    let messages = store.replay(topic);
    let read = start.elapsed().as_secs_f64();
    println!("{open} {read} {messages} {resume} {opened} {}", resident_bytes());
    std::process::abort();
}

/// Reads a topic, or all that match a pattern, page by page; answers how many messages there were.
pub(crate) fn replay(log: &impl tailwire_core::Store, term: &str) -> u64 {
    let filter = Filter::from(Term::parse(term).unwrap());
    let (mut after, mut messages) = (Position::ZERO, 0);
    while after < log.newest() {
        let page = log.read(&filter, after, Position::MAX, BUDGET).unwrap();
        messages += page.messages.len() as u64;
        after = page.scanned;
    }
    messages
}

/// The median of reading 100 messages of a topic after positions all over the log.
fn resume(log: &impl tailwire_core::Store, topic: &str) -> f64 {
    if log.newest() == Position::ZERO {
        return 0.0;
    }
    let filter = Filter::from(Term::parse(topic).unwrap());
    let last = log.before_newest(&filter, 100).unwrap().0;
    let mut times: Vec<f64> = (0..RESUMED)
        .map(|n| {
            // By the golden ratio: spread evenly, and never in order.
            let after = Position(((n as f64 * 0.618_034).fract() * last as f64) as u64);
            let start = Instant::now();
            let page = log.read(&filter, after, Position::MAX, Budget { messages: 100, ..BUDGET }).unwrap();
            assert!(topic.contains('*') || page.messages.len() == 100, "the topic is long enough");
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Memory of this process.
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.split_whitespace().next().and_then(|number| number.parse::<usize>().ok()).unwrap_or(0) * 1024
}
