//! How fast the log on disk is, beside a bare file and two other stores:
//!
//! ```sh
//! cargo bench -p tailwire-storage               # some tens of seconds, 100,000 topics
//! cargo bench -p tailwire-storage -- --full     # some minutes, a million topics, and a log of 1 GB
//! ```
//!
//! Each figure stands beside its ratio to the bare file in the same run, because disks differ more than stores do. What
//! is opened or replayed is opened by a process of its own: the store's caches are cold, the system's are not.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod child;
mod stores;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    child::Figures,
    stores::{Fjall, Messages, PlainFile, Redb, Store, Tailwire},
};

/// The allocator of the broker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long appends of one kind go on.
const APPEND_TIME: Duration = Duration::from_millis(250);
/// Messages of the logs that are replayed.
const REPLAYED: u64 = 500_000;
/// Messages of a gigabyte.
const GIGABYTE: u64 = 6_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [name, dir, topic] = args.as_slice() {
        return child::run(name, Path::new(dir), topic);
    }
    let full = args.iter().any(|arg| arg == "--full");
    // With `cargo test --benches` there is nothing to do.
    if args.iter().any(|arg| arg == "--test") {
        return;
    }
    appends();
    replays();
    many_topics(if full { 1_000_000 } else { 100_000 });
    if full {
        gigabyte();
    }
}

/// A durable commit of some messages, again and again.
fn appends() {
    println!("durable append, us a message (times the file)\n");
    println!("{:>18} {:>10} {:>18} {:>18} {:>18}", "batch x bytes", "file", "tailwire", "fjall", "redb");
    for (batch, size) in [(1, 128), (100, 128), (1000, 128), (1, 1024), (100, 1024), (1000, 1024)] {
        let messages = Messages { topics: 1000, size };
        let file = append::<PlainFile>(messages, batch);
        let others = [
            append::<Tailwire>(messages, batch),
            append::<Fjall>(messages, batch),
            append::<Redb>(messages, batch),
        ];
        print!("{:>18} {file:>10.2}", format!("{batch} x {size}"));
        others.iter().for_each(|other| print!(" {:>18}", format!("{other:.2} ({:.1})", other / file)));
        println!();
    }
}

fn append<S: Store>(messages: Messages, batch: u64) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let mut store = S::open(dir.path());
    let (start, mut next) = (Instant::now(), 0);
    while start.elapsed() < APPEND_TIME {
        store.append(messages, next, batch);
        next += batch;
    }
    start.elapsed().as_secs_f64() * 1e6 / next as f64
}

/// All messages of one topic, in a log of nothing else and in one of a thousand topics.
fn replays() {
    println!("\nreplay of one topic from a cold start, 128 bytes, million messages a second\n");
    println!("{:>18} {:>10} {:>18} {:>18} {:>18}", "one of", "file", "tailwire", "fjall", "redb");
    for topics in [1, 1000] {
        let messages = Messages { topics, size: 128 };
        let rates = [
            replay::<PlainFile>(messages),
            replay::<Tailwire>(messages),
            replay::<Fjall>(messages),
            replay::<Redb>(messages),
        ];
        let [file, others @ ..] = rates;
        print!("{topics:>18} {file:>10.2}");
        others.iter().for_each(|other| print!(" {other:>18.3}"));
        println!();
    }
}

fn replay<S: Store>(messages: Messages) -> f64 {
    let dir = filled::<S>(messages, REPLAYED);
    let figures = Figures::of(S::NAME, dir.path(), &Messages::topic(0));
    figures.messages as f64 / figures.read_seconds / 1e6
}

fn filled<S: Store>(messages: Messages, count: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut store = S::open(dir.path());
    for first in (0..count).step_by(1000) {
        store.append(messages, first, 1000);
    }
    store.close();
    dir
}

/// Many topics of one message, and one that got a message after every hundred of theirs.
fn many_topics(topics: u64) {
    let (empty, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Tailwire::open(empty.path()).close();
    let mut log = Tailwire::open(dir.path());
    for first in (0..topics).step_by(1000) {
        log.append_with_hot(first, 1000, 100);
    }
    log.close();
    let figures = |dir: &TempDir| Figures::of(Tailwire::NAME, dir.path(), stores::HOT);
    let engine = figures(&empty).opened_bytes;
    let (closed, killed) = (figures(&dir), figures(&dir));
    let each = closed.opened_bytes.saturating_sub(engine) / topics;
    println!("\n{topics} topics of one message, and one of {}\n", closed.messages);
    println!("{:>50}: {:.2} s", "open, after a clean close", closed.open_seconds);
    println!("{:>50}: {:.2} s", "open, after a kill", killed.open_seconds);
    println!("{:>50}: {:.0} us", "100 messages of one from anywhere, median", closed.resume_seconds * 1e6);
    println!("{:>50}: {each} bytes", "memory a topic, beyond that of an empty log");
}

/// Memory after all messages of a gigabyte were read.
fn gigabyte() {
    let dir = filled::<Tailwire>(Messages { topics: 100_000, size: 128 }, GIGABYTE);
    let figures = Figures::of(Tailwire::NAME, dir.path(), "**");
    println!("\n{GIGABYTE} messages of 128 bytes in 100000 topics\n");
    println!("{:>50}: {:.2} s", "open", figures.open_seconds);
    println!(
        "{:>50}: {:.2} million a second",
        "replay",
        figures.messages as f64 / figures.read_seconds / 1e6
    );
    println!("{:>50}: {} MB", "memory of the process after it", figures.read_bytes >> 20);
}
