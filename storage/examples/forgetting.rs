//! What memory topics leave behind that are forgotten: rounds of as many as there may be, each round with names of its own.
//! `cargo run --release -p tailwire-storage --example forgetting [topics [rounds]]` makes them, deletes what they hold, has them
//! forgotten, and shows the memory of the process.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for people"
)]

use std::{env, fs, time::Instant};

use tailwire_core::{Store, log::Group, store::Write};
use tailwire_model::{Condition, Draft, MediaType, Timestamp, Topic};
use tailwire_storage::{
    LogSettings,
    testing::{self, Writes as _},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: u64 = 1_795_000_000_000;
const AFTER_MS: u64 = 1_000;
const BATCH: usize = 5_000;

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn main() {
    let mut numbers = env::args().skip(1).map(|text| text.parse::<usize>().unwrap());
    let (topics, rounds) = (numbers.next().unwrap_or(250_000), numbers.next().unwrap_or(10));
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings { forget_after_ms: Some(AFTER_MS), ..LogSettings::default() };
    let log = testing::open(dir.path(), Timestamp(START), &settings).unwrap();
    println!("empty: {} MiB", resident_mib());
    for round in 0..rounds {
        let now = Timestamp(START + round as u64 * 100_000);
        let names = (0..topics).map(|n| Topic::parse(&format!("round/{round}/{n:08}")).unwrap());
        let names: Vec<Topic> = names.collect();
        for part in names.chunks(BATCH) {
            let drafts =
                part.iter().map(|name| Draft::new(name.clone(), MediaType::NONE, "x".into())).collect();
            log.append(vec![Group { drafts, key: None, condition: Condition::None }], now).unwrap();
            log.tidy_at(now).unwrap();
        }
        let full = resident_mib();
        for part in names.chunks(BATCH) {
            log.write(part.iter().cloned().map(Write::Delete).collect(), now).unwrap();
            log.tidy_all(now);
        }
        drop(names);
        let begun = Instant::now();
        let mut longest = 0;
        let later = Timestamp(now.0 + 2 * AFTER_MS);
        while log.stats().topics > 0 {
            let step = Instant::now();
            let (writes, _) = log.due(later).unwrap();
            log.write(writes, later).unwrap();
            longest = longest.max(step.elapsed().as_micros());
            log.tidy().unwrap();
        }
        let (trims, left) = (log.stats().trims, resident_mib());
        println!(
            "round {round}: {full} MiB with {topics} topics, {left} MiB when they are forgotten, in {:.1} s and steps of at \
             most {longest} us; {trims} trims, {} MiB of files",
            begun.elapsed().as_secs_f64(),
            log.stats().file_bytes >> 20,
        );
    }
}
