//! Prints what it costs to encode an entry of a feed, and a document of 100 that are encoded, as CSV: `tests/bench/feeds.py`
//! shows it.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints")]

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use tailwire_model::{Draft, Epoch, Filter, MediaType, Message, Position, Term, Timestamp, Topic};
use tailwire_wire::{
    ENCODERS,
    document::{About, Archives, Document},
    representation::{ATOM, DocumentFormat, JSON_FEED, PAGE},
};

const ENTRIES: usize = 100;
/// Of which the fastest counts: others are slower by what else the machine did.
const ROUNDS: usize = 40;
const TIMES: usize = 200;

fn messages(media_type: &'static str, body: impl Fn(usize) -> String) -> Vec<Message> {
    let topic = Topic::parse("news/today").unwrap();
    let draft = |number| Draft::new(topic.clone(), MediaType::new(media_type), Bytes::from(body(number)));
    let message = |number: usize| {
        draft(number).into_message(Epoch::MAX, Position(number as u64 + 1), Timestamp(1_796_000_000_000))
    };
    (0..ENTRIES).map(message).collect()
}

/// Microseconds of a call, which `times` calls in one are.
fn cost_us(times: usize, mut call: impl FnMut()) -> f64 {
    let round = |_| {
        let began = Instant::now();
        call();
        began.elapsed().as_secs_f64() * 1e6 / times as f64
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn main() {
    println!("format,messages,entry_us,document_us,document_bytes");
    let json = messages("application/json", |number| {
        format!(
            r#"{{"title":"Message {number}","text":"{}","url":"https://example.com/{number}","author":"Ada"}}"#,
            "so it is ".repeat(8)
        )
    });
    let text = messages("text/plain", |number| format!("Message {number}\n{}", "so it is ".repeat(12)));
    let formats: [(&str, &DocumentFormat); 3] = [("atom", &ATOM), ("jsonfeed", &JSON_FEED), ("page", &PAGE)];
    for (name, format) in formats {
        for (kind, messages) in [("json", &json), ("text", &text)] {
            let encode = ENCODERS[format.slot as usize];
            let encoded: Vec<Vec<u8>> = messages
                .iter()
                .map(|message| {
                    let mut out = Vec::new();
                    encode(message, &mut out);
                    out
                })
                .collect();
            let entry_us = cost_us(TIMES * ENTRIES, || {
                for _ in 0..TIMES {
                    for message in messages {
                        let mut out = Vec::new();
                        encode(black_box(message), &mut out);
                        black_box(out);
                    }
                }
            });
            let items: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
            let filter = Filter::from(Term::parse("news/today").unwrap());
            let about = About {
                filter: &filter,
                query: Some("format=atom"),
                public_url: None,
                updated: Timestamp(1_796_000_000_000),
                pace_ms: Some(60_000),
                title: None,
                description: None,
                hub: None,
                archives: Archives::default(),
            };
            let cursor = messages.last().unwrap().cursor;
            let document = Document {
                items: &items,
                cursor,
                more: false,
                prev: None,
                retry_after_ms: None,
                about: &about,
            };
            let mut bytes = 0;
            let document_us = cost_us(TIMES, || {
                for _ in 0..TIMES {
                    let mut out =
                        Vec::with_capacity(128 + items.iter().map(|item| item.len()).sum::<usize>());
                    format.write(black_box(&document), &mut out);
                    bytes = black_box(out).len();
                }
            });
            println!("{name},{kind},{entry_us:.2},{document_us:.1},{bytes}");
        }
    }
}
