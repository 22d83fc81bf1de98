//! Publishes as bytes: one request of HTTP, or one masked frame of a WebSocket.

use super::payload::{self, Mark, append_decimal};
use super::plan::{Plan, Wire};

/// Any mask will do (RFC 6455 §5.3 wants it unpredictable for browsers' sake), but not zero: undoing that might cost
/// the server less than usual.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Writes a run's publishes, which differ in their numbers only.
#[derive(Debug)]
pub(super) enum Encoder {
    /// The head is the same for all, as all bodies have one length.
    Http { head: Vec<u8>, batch: usize, size: usize },
    /// A line's part after its id and before its payload.
    Ws { topic: Vec<u8>, size: usize },
}

impl Encoder {
    pub(super) fn new(plan: &Plan) -> Encoder {
        let (batch, size) = (plan.batch, plan.size);
        match (plan.wire, batch) {
            (Wire::Http, 1) => {
                Encoder::Http { head: plan.target.post(&plan.topic, "application/json", size), batch, size }
            }
            // Each line of a batch has its line feed.
            (Wire::Http, _) => {
                let length = batch * (size + 1);
                Encoder::Http {
                    head: plan.target.post(&plan.topic, "application/x-ndjson", length),
                    batch,
                    size,
                }
            }
            (Wire::Ws, _) => {
                let name = serde_json::Value::from(plan.topic.as_str());
                Encoder::Ws { topic: format!(r#","topic":{name},"data":"#).into_bytes(), size }
            }
        }
    }

    /// Appends the publish that begins with this message, and counts it on.
    pub(super) fn append(&self, out: &mut Vec<u8>, mark: &mut Mark, id: usize) {
        match self {
            Encoder::Http { head, batch, size } => {
                out.extend_from_slice(head);
                for _ in 0..*batch {
                    payload::append(out, *mark, *size);
                    mark.seq = mark.seq.wrapping_add(1);
                    if *batch > 1 {
                        out.push(b'\n');
                    }
                }
            }
            Encoder::Ws { topic, size } => {
                append_frame(out, 0x1, |out| {
                    out.extend_from_slice(br#"{"kind":"publish","id":"#);
                    append_decimal(out, id as u64);
                    out.extend_from_slice(topic);
                    payload::append(out, *mark, *size);
                    out.push(b'}');
                });
                mark.seq = mark.seq.wrapping_add(1);
            }
        }
    }
}

/// Appends a frame as a client sends it (RFC 6455 §5.2).
pub(super) fn append_frame(out: &mut Vec<u8>, opcode: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    // Most payloads here take two bytes for their length; the few others are moved.
    const USUAL_HEADER: usize = 8;
    let start = out.len();
    out.resize(start + USUAL_HEADER, 0);
    payload(out);
    let length = out.len() - start - USUAL_HEADER;
    for (at, byte) in out[start + USUAL_HEADER..].iter_mut().enumerate() {
        *byte ^= MASK[at % 4];
    }
    let mut header = vec![0x80 | opcode];
    match length {
        0..126 => header.push(0x80 | length as u8),
        126..0x1_0000 => {
            header.push(0x80 | 126);
            header.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    header.extend_from_slice(&MASK);
    out.splice(start..start + USUAL_HEADER, header);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memchr::memmem;

    use super::*;
    use crate::bench::Clock;
    use crate::bench::connect::Target;

    fn plan(wire: Wire, batch: usize) -> Plan {
        Plan {
            target: Target::parse("http://127.0.0.1:1").unwrap(),
            topic: "bench/\"x\"".to_owned(),
            wire,
            connections: 1,
            in_flight: 1,
            batch,
            size: 100,
            rate: None,
            duration: Duration::ZERO,
            clock: Clock::start(),
        }
    }

    fn encode(plan: &Plan) -> (Vec<u8>, u32) {
        let mut out = Vec::new();
        let mut mark = Mark { seq: 5, from: 2, at: 9 };
        Encoder::new(plan).append(&mut out, &mut mark, 3);
        (out, mark.seq)
    }

    /// A frame's payload without its mask, if the frame is all that there is.
    fn unmask(frame: &[u8], opcode: u8) -> Vec<u8> {
        assert_eq!((frame[0], frame[1] & 0x80), (0x80 | opcode, 0x80));
        let (header, length) = match frame[1] & 0x7f {
            126 => (4, usize::from(u16::from_be_bytes(frame[2..4].try_into().unwrap()))),
            127 => (10, u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize),
            short => (2, usize::from(short)),
        };
        let (mask, payload) = frame[header..].split_at(4);
        assert_eq!(payload.len(), length);
        payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect()
    }

    #[test]
    fn a_post_has_the_body_that_it_announces() {
        for (batch, length, content_type) in [(1, 100, "application/json"), (3, 303, "application/x-ndjson")]
        {
            let (out, next) = encode(&plan(Wire::Http, batch));
            let at = memmem::find(&out, b"\r\n\r\n").unwrap() + 4;
            let head = std::str::from_utf8(&out[..at]).unwrap();
            assert!(head.contains(&format!("Content-Length: {length}\r\n")), "{head}");
            assert!(head.contains(&format!("Content-Type: {content_type}\r\n")), "{head}");
            assert_eq!(out.len() - at, length);
            assert_eq!(next, 5 + batch as u32);
            let lines = std::str::from_utf8(&out[at..]).unwrap().lines();
            for (seq, line) in (5..).zip(lines) {
                assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"], seq);
            }
        }
    }

    #[test]
    fn a_line_is_one_masked_frame() {
        let (out, next) = encode(&plan(Wire::Ws, 1));
        let json: serde_json::Value = serde_json::from_slice(&unmask(&out, 1)).unwrap();
        assert_eq!(
            (&json["kind"], &json["id"], &json["topic"]),
            (&"publish".into(), &3.into(), &"bench/\"x\"".into())
        );
        assert_eq!((&json["data"]["seq"], next), (&5.into(), 6));
    }

    #[test]
    fn frames_of_every_length_are_well_formed() {
        for length in [0, 4, 125, 126, 65_535, 65_536] {
            let mut out = Vec::new();
            append_frame(&mut out, 0xa, |out| out.resize(out.len() + length, b'x'));
            assert_eq!(unmask(&out, 0xa), vec![b'x'; length]);
        }
    }
}
