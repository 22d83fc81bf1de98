//! Peers that take publishes by `POST`: each request is answered in turn. Tailwire's publishes over a WebSocket are
//! here too, beside its other ways.

use tailwire_load::client::{frames, http, requests};

use super::http2;
use super::{AUTHORITY, HandshakeStep, PeerAnswers, PeerPlace, PeerProtocol, nothing, text, upgrade};

const HEAD_END: &[u8] = b"\r\n\r\n";
const EVENTS: &str = "text/event-stream";

/// Tailwire, and the limit program, which speaks as much of its protocol.
const TAILWIRE: PeerProtocol = PeerProtocol {
    name: "tailwire-ws",
    subscribe: |at| vec![HandshakeStep::new(upgrade(&topic(at, ""), ""), br#""kind":"caught_up""#)],
    replay: Some(|at| vec![HandshakeStep::new(upgrade(&topic(at, "?after=earliest"), ""), HEAD_END)]),
    poll: None,
    open: nothing,
    publish: |out, at, payload| post(out, &topic(at, ""), "Content-Type: text/plain\r\n", payload),
    answers: replies,
};

const NCHAN: PeerProtocol = PeerProtocol {
    name: "nchan-ws",
    subscribe: |at| vec![HandshakeStep::new(upgrade(&format!("/sub/{}", at.topic), ""), HEAD_END)],
    replay: Some(|at| vec![HandshakeStep::new(upgrade(&format!("/kept/sub/{}", at.topic), ""), HEAD_END)]),
    poll: None,
    open: nothing,
    publish: |out, at, payload| post(out, &format!("/pub/{}", at.topic), "", payload),
    answers: replies,
};

/// A stream is made before anybody reads or appends; to one that is there the same request is a success, too.
const DURABLE_STREAMS: PeerProtocol = PeerProtocol {
    name: "durable-streams-sse",
    subscribe: |at| {
        vec![make_stream(at), HandshakeStep::new(get(&stream(at, "?offset=now&live=sse"), EVENTS), HEAD_END)]
    },
    replay: Some(|at| {
        vec![make_stream(at), HandshakeStep::new(get(&stream(at, "?offset=-1&live=sse"), EVENTS), HEAD_END)]
    }),
    poll: None,
    open: |at| vec![make_stream(at)],
    publish: |out, at, payload| post(out, &stream(at, ""), "Content-Type: text/plain\r\n", payload),
    answers: replies,
};

const CENTRIFUGO: PeerProtocol = PeerProtocol {
    name: "centrifugo-ws",
    subscribe: |at| {
        vec![
            HandshakeStep::new(upgrade("/connection/uni_websocket", ""), HEAD_END),
            HandshakeStep::new(
                text(format!(r#"{{"subs":{{"{}":{{}}}}}}"#, at.topic).as_bytes()),
                b"\"connect\"",
            ),
        ]
    },
    replay: None,
    poll: None,
    open: nothing,
    publish: |out, at, payload| {
        let body = [format!(r#"{{"channel":"{}","data":""#, at.topic).as_bytes(), payload, br#""}"#].concat();
        post(out, "/api/publish", "Content-Type: application/json\r\n", &body);
    },
    answers: replies,
};

pub(super) const PROTOCOLS: [PeerProtocol; 15] = [
    TAILWIRE,
    PeerProtocol {
        name: "tailwire-sse",
        subscribe: |at| vec![HandshakeStep::new(get(&topic(at, ""), EVENTS), HEAD_END)],
        replay: Some(|at| vec![HandshakeStep::new(get(&topic(at, "?after=earliest"), EVENTS), HEAD_END)]),
        ..TAILWIRE
    },
    PeerProtocol {
        name: "tailwire-sse-http2",
        subscribe: |at| vec![HandshakeStep::new(http2::get(&topic(at, ""), EVENTS), b"retry: ")],
        replay: Some(|at| {
            vec![HandshakeStep::new(http2::get(&topic(at, "?after=earliest"), EVENTS), b"retry: ")]
        }),
        ..TAILWIRE
    },
    PeerProtocol {
        name: "tailwire-ndjson",
        subscribe: |at| vec![HandshakeStep::new(get(&topic(at, ""), "application/x-ndjson"), HEAD_END)],
        replay: Some(|at| {
            vec![HandshakeStep::new(get(&topic(at, "?after=earliest"), "application/x-ndjson"), HEAD_END)]
        }),
        ..TAILWIRE
    },
    PeerProtocol {
        name: "tailwire-longpoll",
        // From the earliest of a topic of its own, so that nothing is missed before the first poll has arrived.
        subscribe: |at| {
            vec![HandshakeStep::new(get(&topic(at, "?after=earliest&wait=25"), "application/json"), b"")]
        },
        poll: Some(|at, head| {
            let cursor = header(head, "tailwire-cursor").unwrap_or("earliest");
            get(&topic(at, &format!("?after={cursor}&wait=25")), "application/json").into_bytes()
        }),
        ..TAILWIRE
    },
    PeerProtocol {
        name: "tailwire-ws-publish",
        open: |_| vec![HandshakeStep::new(upgrade("/stream", ""), br#""kind":"welcome""#)],
        publish: |out, at, payload| {
            let topic = &at.topic;
            let line = format!(r#"{{"kind":"publish","id":1,"topic":"{topic}","type":"text/plain","data":""#);
            out.extend(text(&[line.as_bytes(), payload, br#""}"#].concat()));
        },
        answers: lines,
        ..TAILWIRE
    },
    DURABLE_STREAMS,
    PeerProtocol {
        name: "durable-streams-longpoll",
        subscribe: |at| {
            vec![
                make_stream(at),
                HandshakeStep::new(get(&stream(at, "?offset=now&live=long-poll"), "*/*"), b""),
            ]
        },
        replay: None,
        poll: Some(|at, head| {
            let offset = header(head, "stream-next-offset").unwrap_or("now");
            get(&stream(at, &format!("?offset={offset}&live=long-poll")), "*/*").into_bytes()
        }),
        ..DURABLE_STREAMS
    },
    CENTRIFUGO,
    PeerProtocol {
        name: "centrifugo-sse",
        subscribe: |at| {
            let connect = format!("%7B%22subs%22%3A%7B%22{}%22%3A%7B%7D%7D%7D", at.topic);
            let path = format!("/connection/uni_sse?cf_connect={connect}");
            vec![HandshakeStep::new(get(&path, EVENTS), b"\"connect\"")]
        },
        ..CENTRIFUGO
    },
    NCHAN,
    PeerProtocol {
        name: "nchan-sse",
        subscribe: |at| vec![HandshakeStep::new(get(&format!("/sub/{}", at.topic), EVENTS), HEAD_END)],
        replay: Some(|at| {
            vec![HandshakeStep::new(get(&format!("/kept/sub/{}", at.topic), EVENTS), HEAD_END)]
        }),
        ..NCHAN
    },
    PeerProtocol {
        name: "nchan-longpoll",
        subscribe: |at| vec![HandshakeStep::new(get(&format!("/kept/sub/{}", at.topic), "*/*"), b"")],
        poll: Some(|at, head| {
            let (time, tag) = (header(head, "last-modified"), header(head, "etag"));
            let (time, tag) = (time.unwrap_or_default(), tag.unwrap_or_default());
            format!(
                "GET /kept/sub/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nIf-Modified-Since: {time}\r\n\
                 If-None-Match: {tag}\r\n\r\n",
                at.topic
            )
            .into_bytes()
        }),
        publish: |out, at, payload| post(out, &format!("/kept/pub/{}", at.topic), "", payload),
        ..NCHAN
    },
    PeerProtocol {
        name: "ws",
        subscribe: |_| vec![HandshakeStep::new(upgrade("/", ""), HEAD_END)],
        replay: None,
        poll: None,
        open: nothing,
        publish: |out, _, payload| post(out, "/", "", payload),
        answers: replies,
    },
    PeerProtocol {
        name: "socketio",
        // Engine.IO's open packet is a `0` before JSON; `40` connects to the default namespace, and is echoed.
        subscribe: |_| {
            vec![
                HandshakeStep::new(upgrade("/socket.io/?EIO=4&transport=websocket", ""), b"0{"),
                HandshakeStep::new(text(b"40"), b"40{"),
            ]
        },
        replay: None,
        poll: None,
        open: nothing,
        publish: |out, _, payload| post(out, "/", "", payload),
        answers: replies,
    },
];

fn topic(at: &PeerPlace, query: &str) -> String {
    format!("/topics/{}{query}", at.topic)
}

fn stream(at: &PeerPlace, query: &str) -> String {
    format!("/{}{query}", at.topic)
}

fn make_stream(at: &PeerPlace) -> HandshakeStep {
    let mut put = Vec::new();
    request(&mut put, "PUT", &stream(at, ""), "Content-Type: text/plain\r\n", b"");
    HandshakeStep::new(put, HEAD_END)
}

fn get(path: &str, accept: &str) -> String {
    requests::get(AUTHORITY, path, accept)
}

fn post(out: &mut Vec<u8>, path: &str, headers: &str, body: &[u8]) {
    request(out, "POST", path, headers, body);
}

fn request(out: &mut Vec<u8>, method: &str, path: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {AUTHORITY}\r\n{headers}Content-Length: {length}\r\n\r\n");
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// The value of a header, by its name in lower case.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The whole HTTP reply at the start of the bytes: its status, its head, and its length.
pub(crate) fn reply(bytes: &[u8]) -> Result<Option<(u16, &str, usize)>, String> {
    let Some(head) = http::head(bytes).map_err(|_| "a reply that is not HTTP")? else {
        return Ok(None);
    };
    let status = head.status;
    let body = head.body.ok_or_else(|| format!("a reply {status} without Content-Length"))?;
    let text = std::str::from_utf8(&bytes[..head.length]).map_err(|_| "a head that is not text")?;
    let length = head.length + body;
    Ok((bytes.len() >= length).then_some((status, text, length)))
}

fn replies(bytes: &[u8]) -> Result<PeerAnswers, String> {
    let mut answers = PeerAnswers::default();
    while let Some((status, _, length)) = reply(&bytes[answers.length..])? {
        answers.length += length;
        answers.taken += usize::from((200..300).contains(&status));
        answers.refused += usize::from(!(200..300).contains(&status));
    }
    Ok(answers)
}

/// Tailwire's lines in answer to publishes; what is neither `ok` nor `error`, such as a heartbeat, is passed over.
fn lines(bytes: &[u8]) -> Result<PeerAnswers, String> {
    let mut answers = PeerAnswers::default();
    let malformed = |_| "a malformed WebSocket frame";
    while let Some(frame) = frames::first(&bytes[answers.length..]).map_err(malformed)? {
        answers.length += frame.length;
        answers.taken += usize::from(frame.payload.starts_with(br#"{"kind":"ok""#));
        answers.refused += usize::from(frame.payload.starts_with(br#"{"kind":"error""#));
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_once_they_are_whole() {
        let bytes = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
        let first = PeerAnswers { taken: 1, refused: 0, length: 45 };
        assert_eq!(replies(&bytes[..80]), Ok(first));
        assert_eq!(replies(bytes), Ok(PeerAnswers { taken: 1, refused: 1, length: bytes.len() }));
        assert!(replies(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_long_poll_goes_on_from_its_last_reply() {
        let place = PeerPlace {
            subscribe: ([127, 0, 0, 1], 1).into(),
            publish: ([127, 0, 0, 1], 1).into(),
            topic: "t".to_owned(),
            number: 0,
        };
        let next = |name: &str, head: &str| {
            let poll = PeerProtocol::parse(name).unwrap().poll.unwrap();
            String::from_utf8(poll(&place, head)).unwrap()
        };
        let request = next("tailwire-longpoll", "HTTP/1.1 200 OK\r\ntailwire-cursor: 000abc-1");
        assert!(request.starts_with("GET /topics/t?after=000abc-1&wait=25 HTTP/1.1\r\n"), "{request}");
        let request = next("durable-streams-longpoll", "HTTP/1.1 200 OK\r\nStream-Next-Offset: 7");
        assert!(request.starts_with("GET /t?offset=7&live=long-poll HTTP/1.1\r\n"), "{request}");
        let request = next("nchan-longpoll", "HTTP/1.1 200 OK\r\nLast-Modified: then\r\nEtag: 7");
        assert!(request.contains("If-Modified-Since: then\r\nIf-None-Match: 7\r\n"), "{request}");
    }
}
