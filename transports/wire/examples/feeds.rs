//! The cost of feeds, in microseconds of one core: `cargo run --release -p tailwire-wire --example feeds`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that prints")]

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use tailwire_model::{Cursor, Draft, Epoch, Filter, MediaType, Message, Position, Term, Timestamp, Topic};
use tailwire_wire::{
    ENCODERS,
    document::{About, Archives, Document},
    representation::{ATOM, DocumentFormat, JSON_FEED, PAGE},
};

const ENTRIES: u64 = 100;

/// The least of some runs, since whatever disturbs one makes it longer.
fn measure(what: &str, mut run: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..200 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64() * 1e6);
    }
    println!("{what:<60} {best:>10.2} µs");
}

fn main() {
    let topic = Topic::parse("news/of/the/day").unwrap();
    let bodies = [
        (
            "a message of 128 bytes",
            format!("{{\"title\":\"{}\",\"text\":\"{}\"}}", "t".repeat(30), "x".repeat(75)),
        ),
        (
            "a message of 4 KB",
            format!("{{\"title\":\"{}\",\"text\":\"{}\"}}", "t".repeat(30), "x".repeat(4050)),
        ),
    ];
    for (what, body) in bodies {
        let messages: Vec<Message> = (1..=ENTRIES)
            .map(|position| {
                let draft = Draft::new(topic.clone(), MediaType::JSON, Bytes::from(body.clone()));
                draft.into_message(Epoch::MAX, Position(position), Timestamp(1_796_032_800_000))
            })
            .collect();
        for (name, format) in [("page", &PAGE), ("Atom", &ATOM), ("JSON Feed", &JSON_FEED)] {
            measure_format(what, name, format, &messages);
        }
    }
}

fn measure_format(what: &str, name: &str, format: &'static DocumentFormat, messages: &[Message]) {
    let encode = ENCODERS[format.slot as usize];
    let mut out = Vec::with_capacity(1 << 20);
    measure(&format!("{name}, {what}: {ENTRIES} entries encoded"), || {
        out.clear();
        messages.iter().for_each(|message| encode(black_box(message), &mut out));
        black_box(&out);
    });
    let items: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| {
            let mut item = Vec::new();
            encode(message, &mut item);
            item
        })
        .collect();
    let items: Vec<&[u8]> = items.iter().map(|item| &item[..]).collect();
    let filter = Filter::from(Term::parse("news/of/the/day").unwrap());
    let about = About {
        filter: &filter,
        query: Some("format=atom"),
        public_url: None,
        updated: Timestamp(1_796_032_800_000),
        pace_ms: Some(60_000),
        title: None,
        description: None,
        hub: None,
        archives: Archives::default(),
    };
    let cursor = Cursor { epoch: Epoch::MAX, position: Position(ENTRIES) };
    let document =
        Document { items: &items, cursor, more: false, prev: None, retry_after_ms: None, about: &about };
    measure(&format!("{name}, {what}: a document of {ENTRIES} that are encoded"), || {
        out.clear();
        format.write(black_box(&document), &mut out);
        black_box(&out);
    });
}
