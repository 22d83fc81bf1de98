//! What clients send behind a head: messages, batches, options, lines of a WebSocket, and lines of an export. A batch is read
//! whole or not at all.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tailwire_model::{Term, Topic, limits::BATCH_MESSAGES_MAX};
use tailwire_wire::{options, publish, request, stored};

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, body)) = bytes.split_first() else { return };
    let text = std::str::from_utf8(body);
    let topic = || Topic::parse("a/b").expect("a topic");
    match kind % 5 {
        0 => post(publish::Target::Topic(topic()), "application/json", body),
        1 => post(publish::Target::Topic(topic()), "application/x-ndjson", body),
        2 => post(publish::Target::Stream, "application/x-ndjson", body),
        3 => _ = options::parse(&Term::Topic(topic()), Some("application/json"), body),
        _ => {
            if let Ok(line) = text {
                let _ = request::parse(line);
            }
            let _ = stored::read(body);
        }
    }
});

fn post(target: publish::Target, media_type: &str, body: &[u8]) {
    let headers = [("content-type", media_type.as_bytes())];
    if let Ok(publish) = publish::parse(target, None, headers, Bytes::copy_from_slice(body)) {
        assert!((1..=BATCH_MESSAGES_MAX).contains(&publish.drafts.len()));
        assert!(publish.drafts.iter().all(|draft| !draft.topic.as_str().starts_with('$')));
    }
}
