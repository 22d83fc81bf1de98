//! Publishes as bytes: one request of HTTP, or one masked frame of a WebSocket.

use crate::client::connect::topic_path;
use crate::client::frames;
use crate::measure::payload::{self, RunId, Stamp, append_decimal};
use crate::measure::topic_set::TopicSet;
use crate::publishing::plan::{PublishPlan, PublishTransport};

/// Writes a run's publishes, which differ in their numbers, and in their topics if there are several.
#[derive(Debug)]
pub(crate) enum PublishEncoder {
    Http {
        /// The request up to where a topic's own part of the path belongs.
        path: Vec<u8>,
        /// Whether the path ends with that part; else each line of the body says its topic.
        suffixed: bool,
        /// The head after the path, up to the body's length.
        head: Vec<u8>,
        /// Beginning of a line of a batch across topics, up to the topic's own part.
        line: Option<Vec<u8>>,
        /// The body of the publish that is being written.
        body: Vec<u8>,
        topic_set: TopicSet,
        run: RunId,
        size: usize,
        batch: bool,
    },
    Ws {
        /// A line's part after its id, up to the topic's own part.
        topic: Vec<u8>,
        topic_set: TopicSet,
        run: RunId,
        size: usize,
    },
}

const DATA: &[u8] = br#"","data":"#;

impl PublishEncoder {
    pub(crate) fn new(plan: &PublishPlan) -> PublishEncoder {
        let (topic_set, run, size) = (plan.topic_set.clone(), plan.run.id, plan.size);
        // A JSON string without its closing quote, to which the topic's own part is appended.
        let mut name = serde_json::Value::from(topic_set.base()).to_string();
        name.pop();
        match plan.wire {
            PublishTransport::Http => {
                let batch = plan.batch > 1;
                let across = batch && topic_set.count() > 1;
                let content_type = if batch { "application/x-ndjson" } else { "application/json" };
                let path = if across { "/stream".to_owned() } else { topic_path(topic_set.base()) };
                PublishEncoder::Http {
                    path: format!("POST {path}").into_bytes(),
                    suffixed: !across,
                    head: plan.target.post(content_type),
                    line: across.then(|| format!(r#"{{"topic":{name}"#).into_bytes()),
                    body: Vec::new(),
                    topic_set,
                    run,
                    size,
                    batch,
                }
            }
            PublishTransport::Ws => {
                PublishEncoder::Ws { topic: format!(r#","topic":{name}"#).into_bytes(), topic_set, run, size }
            }
        }
    }

    /// Appends a publish of so many messages that begins with this one, and counts it on.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, mark: &mut Stamp, id: usize, messages: u64) {
        match self {
            PublishEncoder::Http { path, suffixed, head, line, body, topic_set, run, size, batch } => {
                out.extend_from_slice(path);
                if *suffixed {
                    topic_set.append_suffix(out, *mark);
                }
                body.clear();
                for _ in 0..messages {
                    if let Some(line) = line {
                        body.extend_from_slice(line);
                        topic_set.append_suffix(body, *mark);
                        body.extend_from_slice(DATA);
                    }
                    payload::append(body, *run, *mark, *size);
                    mark.seq = mark.seq.wrapping_add(1);
                    if line.is_some() {
                        body.push(b'}');
                    }
                    if *batch {
                        body.push(b'\n');
                    }
                }
                out.extend_from_slice(head);
                append_decimal(out, body.len() as u64);
                out.extend_from_slice(b"\r\n\r\n");
                out.extend_from_slice(body);
            }
            PublishEncoder::Ws { topic, topic_set, run, size } => {
                frames::append_masked(out, frames::TEXT, |out| {
                    out.extend_from_slice(br#"{"kind":"publish","id":"#);
                    append_decimal(out, id as u64);
                    out.extend_from_slice(topic);
                    topic_set.append_suffix(out, *mark);
                    out.extend_from_slice(DATA);
                    payload::append(out, *run, *mark, *size);
                    out.push(b'}');
                });
                mark.seq = mark.seq.wrapping_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memchr::memmem;

    use super::*;
    use crate::client::connect::LoadTarget;
    use crate::measure::clock::LoadRun;
    use crate::publishing::plan::PublishEnd;

    fn plan(wire: PublishTransport, batch: usize, topics: usize) -> PublishPlan {
        PublishPlan {
            target: LoadTarget::parse("http://127.0.0.1:1").unwrap(),
            topic_set: TopicSet::new("bench/\"x\"".to_owned(), topics),
            wire,
            connections: 1,
            in_flight: 1,
            batch,
            size: 100,
            rate: None,
            end: PublishEnd::After(Duration::ZERO),
            run: LoadRun::start(),
        }
    }

    fn encode(plan: &PublishPlan) -> (Vec<u8>, u32) {
        let mut out = Vec::new();
        let mut mark = Stamp { seq: 5, from: 2, at: 9 };
        PublishEncoder::new(plan).append(&mut out, &mut mark, 3, plan.batch as u64);
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
            let (out, next) = encode(&plan(PublishTransport::Http, batch, 1));
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
    fn of_several_topics_each_message_goes_to_its_own() {
        let (post, _) = encode(&plan(PublishTransport::Http, 1, 4));
        assert!(post.starts_with(b"POST /topics/bench/%22x%22/3 HTTP/1.1\r\n"));
        let (line, _) = encode(&plan(PublishTransport::Ws, 1, 4));
        let json: serde_json::Value = serde_json::from_slice(&unmask(&line, 1)).unwrap();
        assert_eq!(json["topic"], "bench/\"x\"/3");
        let (batch, _) = encode(&plan(PublishTransport::Http, 3, 4));
        assert!(batch.starts_with(b"POST /stream HTTP/1.1\r\n"));
        let at = memmem::find(&batch, b"\r\n\r\n").unwrap() + 4;
        let topics: Vec<String> = (std::str::from_utf8(&batch[at..]).unwrap().lines())
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["topic"].to_string())
            .collect();
        assert_eq!(topics, [3, 0, 1].map(|at| serde_json::json!(format!("bench/\"x\"/{at}")).to_string()));
    }

    #[test]
    fn a_line_is_one_masked_frame() {
        let (out, next) = encode(&plan(PublishTransport::Ws, 1, 1));
        let json: serde_json::Value = serde_json::from_slice(&unmask(&out, 1)).unwrap();
        assert_eq!(
            (&json["kind"], &json["id"], &json["topic"]),
            (&"publish".into(), &3.into(), &"bench/\"x\"".into())
        );
        assert_eq!((&json["data"]["seq"], next), (&5.into(), 6));
    }
}
