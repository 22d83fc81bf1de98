//! Checks of what goes out over the wire: lines, blocks, frames, chunks, pages.

use serde_json::{Value, json, value::RawValue};
use tailwire_model::{
    Cursor, Draft, Epoch, Gap, GapReason, MediaType, Message, Timestamp, Topic, message::Extras,
};
use tailwire_wire::{
    ENCODERS, Format, REFERENCES,
    framing::{self, chunk, frame_close, frame_text},
    line::{self, ByeReason, Welcome, WelcomeLimits},
    page::{self, PagePlace, TopicEntry},
    request::{self, Id},
    sse,
};

use crate::{
    model::{cursor_of, gap_reason},
    number, text,
};

fn string(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8 goes over the wire")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// A body: `body` as text, repeated `times` if that is given; or `body_hex`.
pub(crate) fn body(case: &Value) -> Vec<u8> {
    match case.get("body_hex") {
        Some(hex) => unhex(hex.as_str().unwrap()),
        None => text(case, "body").repeat(case["times"].as_u64().unwrap_or(1) as usize).into_bytes(),
    }
}

fn id(raw: &str) -> Id {
    let line = format!(r#"{{"kind":"unsubscribe","id":{raw},"sub":0}}"#);
    request::parse(&line).unwrap_or_else(|error| panic!("an id: {raw}: {error:?}")).id
}

fn message(value: &Value) -> Message {
    let pairs = value.get("headers").and_then(Value::as_array).into_iter().flatten();
    let extras = Extras {
        key: value["key"].as_str().map(str::to_owned),
        event: value["event"].as_str().map(str::to_owned),
        headers: pairs
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()))
            .collect(),
        max_age_ms: value["max_age_ms"].as_u64(),
        is_deletion: value["deleted"] == true,
    };
    let draft = Draft {
        topic: Topic::parse(text(value, "topic")).unwrap(),
        media_type: MediaType::new(value["type"].as_str().unwrap_or_default()),
        extras: (extras != Extras::default()).then(|| Box::new(extras)),
        body: body(value).into(),
    };
    let cursor = cursor_of(&value["cursor"]);
    draft.into_message(cursor.epoch, cursor.position, Timestamp(number(value, "time_ms")))
}

/// One message as its encoding in a format, or as the reference in its place at a depth.
fn encode_at(depth: Option<u8>, format: Format, message: &Message) -> Vec<u8> {
    // The buffer's earlier bytes must not matter, nor change.
    let mut out = b"before".to_vec();
    match depth {
        None => ENCODERS[format as usize](message, &mut out),
        Some(depth) => REFERENCES[format as usize](message, depth, &mut out),
    }
    assert!(out.starts_with(b"before"));
    out.split_off(6)
}

fn framed(frame: fn(&[u8], &mut Vec<u8>), data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(data, &mut out);
    out
}

fn gap_of(value: &Value) -> Gap {
    let reason = gap_reason(text(value, "reason"));
    Gap { from: cursor_of(&value["from"]), to: cursor_of(&value["to"]), reason }
}

fn bye_reason(word: &str) -> ByeReason {
    let reasons = [ByeReason::Drain, ByeReason::Expired, ByeReason::Revoked, ByeReason::Slow, ByeReason::Age];
    reasons.into_iter().find(|reason| reason.as_str() == word).unwrap()
}

/// A message's line, with all encodings that hang together with it; or a control line.
pub(crate) fn line(case: &Value) -> Value {
    if let Some(value) = case.get("message") {
        let (message, depth) = (message(value), case["omitted_depth"].as_u64().map(|depth| depth as u8));
        let encode = |format, message| encode_at(depth, format, message);
        let line = encode(Format::Line, &message);
        let bare = line.strip_suffix(b"\n").expect("a line ends");
        assert!(!bare.contains(&b'\n') && !bare.contains(&b'\r'), "one line");
        assert_eq!(encode(Format::LineChunk, &message), framed(chunk, &line));
        assert_eq!(encode(Format::Frame, &message), framed(frame_text, bare));
        let item = [b"{", bare.strip_prefix(br#"{"kind":"message","#).unwrap(), b","].concat();
        assert_eq!(string(&encode(Format::Item, &message)), string(&item));
        // Not as a value: a number may be beyond what one holds.
        serde_json::from_slice::<&RawValue>(bare).expect("JSON");
        return json!(string(bare));
    }
    let mut out = Vec::new();
    let sub = case["sub"].as_str().map(id);
    match text(case, "control") {
        "heartbeat" => line::heartbeat(cursor_of(&case["cursor"]), &mut out),
        "caught_up" => line::caught_up(cursor_of(&case["cursor"]), sub.as_ref(), &mut out),
        "gap" => line::gap(&gap_of(case), sub.as_ref(), &mut out),
        "bye" => line::bye(bye_reason(text(case, "reason")), number(case, "retry_after_ms"), &mut out),
        "welcome" => line::welcome(
            &Welcome {
                epoch: Epoch::new(number(case, "epoch")).unwrap(),
                heartbeat_ms: number(case, "heartbeat_ms"),
                limits: WelcomeLimits::default(),
                authenticate: case["authenticate"] == true,
            },
            &mut out,
        ),
        "ok" => line::ok(&id(text(case, "id")), text(case, "body").as_bytes(), &mut out),
        other => panic!("a control line: {other}"),
    }
    serde_json::from_slice::<Value>(&out).expect("JSON");
    json!(string(&out))
}

pub(crate) fn sse(case: &Value) -> Value {
    if let Some(value) = case.get("message") {
        let (message, depth) = (message(value), case["omitted_depth"].as_u64().map(|depth| depth as u8));
        let encode = |format, message| encode_at(depth, format, message);
        let (plain, chunked) = match case["envelope"] == true {
            false => (Format::Sse, Format::SseChunk),
            true => (Format::SseEnvelope, Format::SseEnvelopeChunk),
        };
        let block = encode(plain, &message);
        assert_eq!(encode(chunked, &message), framed(chunk, &block));
        return json!(string(&block));
    }
    let mut out = Vec::new();
    match text(case, "control") {
        "open" => sse::open(number(case, "retry_ms"), cursor_of(&case["cursor"]), None, &mut out),
        "heartbeat" => sse::heartbeat(cursor_of(&case["cursor"]), &mut out),
        "caught_up" => sse::caught_up(cursor_of(&case["cursor"]), &mut out),
        "gap" => sse::gap(&gap_of(case), &mut out),
        "bye" => sse::bye(bye_reason(text(case, "reason")), number(case, "retry_after_ms"), &mut out),
        other => panic!("a block: {other}"),
    }
    json!(string(&out))
}

pub(crate) fn frame(case: &Value) -> Value {
    if let Some(close) = case.get("close") {
        let mut out = Vec::new();
        frame_close(number(close, "code") as u16, text(close, "reason"), &mut out);
        return json!(hex(&out));
    }
    if let Some(lines) = case.get("tag") {
        let (mut frames, mut tagged) = (Vec::new(), Vec::new());
        for line in lines.as_array().unwrap() {
            frame_text(line.as_str().unwrap().as_bytes(), &mut frames);
        }
        for frame in framing::frames(&frames) {
            framing::prefix_frame(frame, |out| framing::tag(text(case, "sub"), out), usize::MAX, &mut tagged);
        }
        return json!(hex(&tagged));
    }
    let data = body(case);
    let (out, tail) = match text(case, "framing") {
        "frame" => (framed(frame_text, &data), 0),
        "chunk" => (framed(chunk, &data), 2),
        other => panic!("a framing: {other}"),
    };
    let (head, rest) = out.split_at(out.len() - data.len() - tail);
    assert_eq!(&rest[..data.len()], data);
    json!({"head": hex(head), "tail": hex(&rest[data.len()..])})
}

pub(crate) fn page(case: &Value) -> Value {
    if let Some(link) = case.get("link") {
        let gap = link.get("gap").map(cursor_of);
        if let Some(before) = link.get("before") {
            return json!(page::link_prev(link["query"].as_str(), cursor_of(before)));
        }
        if let Some(to) = link.get("told") {
            let (from, to) = (cursor_of(&link["after"]), cursor_of(to));
            let gap = Gap { from, to, reason: GapReason::Epoch };
            let (rel, target) = page::link_past(link["query"].as_str(), &gap);
            return json!({ "rel": rel, "target": target });
        }
        return json!(page::link_next(link["query"].as_str(), cursor_of(&link["after"]), gap));
    }
    let mut out = Vec::new();
    let time = Timestamp(case["time_ms"].as_u64().unwrap_or_default());
    if let Some(messages) = case.get("messages") {
        let items =
            messages.as_array().unwrap().iter().map(|value| encode_at(None, Format::Item, &message(value)));
        let items: Vec<Vec<u8>> = items.collect();
        let place = PagePlace {
            cursor: cursor_of(&case["cursor"]),
            more: case["more"] == true,
            prev: case.get("prev").map(cursor_of),
            retry_after_ms: case["retry_after_ms"].as_u64(),
        };
        page::page(items.iter().map(Vec::as_slice), &place, &mut out);
    } else if let Some(receipts) = case.get("receipts") {
        let receipts: Vec<(Cursor, Topic, MediaType)> = receipts
            .as_array()
            .unwrap()
            .iter()
            .map(|value| {
                let topic = Topic::parse(text(value, "topic")).unwrap();
                (
                    cursor_of(&value["cursor"]),
                    topic,
                    MediaType::new(value["type"].as_str().unwrap_or_default()),
                )
            })
            .collect();
        match receipts.as_slice() {
            [(cursor, topic, kind)] if case["batch"] != true => {
                page::receipt(*cursor, topic, kind, time, &mut out);
            }
            all => {
                let all = all.iter().map(|(cursor, topic, kind)| (*cursor, topic, kind));
                page::receipts(all, time, &mut out);
            }
        }
    } else {
        let topic = Topic::parse(text(case, "topic")).unwrap();
        let entry = TopicEntry {
            topic: &topic,
            head: case.get("head").map(cursor_of),
            tail: cursor_of(&case["tail"]),
            messages: number(case, "count"),
            time,
        };
        page::topics([entry], case["next"].as_str(), &mut out);
    }
    serde_json::from_slice::<Value>(&out).expect("JSON");
    json!(string(&out))
}
