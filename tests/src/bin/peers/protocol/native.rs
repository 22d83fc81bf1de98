//! Peers with protocols of their own: NATS, MQTT and Redis. Subscribers of NATS and MQTT come over WebSocket, as those
//! of the other peers do; publishers over TCP, as their servers do.

use memchr::memmem;

use super::{HandshakeStep, PeerAnswers, PeerPlace, PeerProtocol, binary, upgrade};

const HEAD_END: &[u8] = b"\r\n\r\n";
/// MQTT 3.1.1 (§3): packets that answer, with their fixed headers.
const CONNACK: &[u8] = &[0x20, 2, 0, 0];
const SUBACK: &[u8] = &[0x90, 3];
const PUBACK: [u8; 2] = [0x40, 2];
const PUBACK_LENGTH: usize = 4;
/// Nothing is answered unless it is asked for.
const NATS_CONNECT: &[u8] = b"CONNECT {\"verbose\":false}\r\n";
/// The one that stores what is published.
const STREAM: &str = "stored";

const REDIS: PeerProtocol = PeerProtocol {
    name: "redis",
    subscribe: |at| vec![HandshakeStep::new(resp(&[b"SUBSCRIBE", at.topic.as_bytes()]), b":1\r\n")],
    replay: None,
    poll: None,
    open: |_| Vec::new(),
    publish: |out, at, payload| out.extend(resp(&[b"PUBLISH", at.topic.as_bytes(), payload])),
    answers: |bytes| Ok(resp_answers(bytes)),
};

const NATS: PeerProtocol = PeerProtocol {
    name: "nats",
    subscribe: |at| nats_subscribe(format!("SUB {} 1\r\nPING\r\n", at.topic).as_bytes(), b"PONG\r\n"),
    replay: None,
    poll: None,
    // Verbose: every publish is answered.
    open: |_| vec![HandshakeStep::new("CONNECT {\"verbose\":true}\r\n", b"+OK\r\n")],
    publish: |out, at, payload| nats_publish(out, &at.topic, "", payload),
    answers: |bytes| Ok(nats_answers(bytes)),
};

pub(super) const PROTOCOLS: [PeerProtocol; 5] = [
    REDIS,
    PeerProtocol {
        name: "redis-stream",
        replay: Some(|at| {
            vec![HandshakeStep::new(resp(&[b"XRANGE", at.topic.as_bytes(), b"-", b"+"]), b"*")]
        }),
        publish: |out, at, payload| out.extend(resp(&[b"XADD", at.topic.as_bytes(), b"*", b"m", payload])),
        ..REDIS
    },
    NATS,
    PeerProtocol {
        name: "nats-stream",
        replay: Some(|at| {
            let consumer = format!(
                r#"{{"stream_name":"{STREAM}","config":{{"deliver_subject":"to.{}","deliver_policy":"all","ack_policy":"none"}}}}"#,
                at.number
            );
            let mut send = format!("SUB to.{} 2\r\n", at.number).into_bytes();
            stream_request(&mut send, at, "CONSUMER.CREATE", &consumer);
            nats_subscribe(&send, b"consumer_create_response")
        }),
        // Each connection asks for the stream; it is made once.
        open: |at| {
            let stream = format!(r#"{{"name":"{STREAM}","subjects":["{}"],"storage":"file"}}"#, at.topic);
            let mut send = NATS_CONNECT.to_vec();
            stream_request(&mut send, at, "STREAM.CREATE", &stream);
            vec![HandshakeStep::new(send, b"\"did_create\":"), HandshakeStep::new("PING\r\n", b"PONG\r\n")]
        },
        publish: |out, at, payload| nats_publish(out, &at.topic, &inbox(at), payload),
        answers: |bytes| Ok(stream_answers(bytes)),
        ..NATS
    },
    PeerProtocol {
        name: "mqtt",
        subscribe: |at| {
            vec![
                HandshakeStep::new(upgrade("/", "mqtt"), HEAD_END),
                HandshakeStep::new(binary(&mqtt_connect()), CONNACK),
                HandshakeStep::new(binary(&mqtt_subscribe(at)), SUBACK),
            ]
        },
        replay: None,
        poll: None,
        open: |_| vec![HandshakeStep::new(mqtt_connect(), CONNACK)],
        publish: mqtt_publish,
        answers: |bytes| {
            let whole = bytes.len() / PUBACK_LENGTH * PUBACK_LENGTH;
            let taken = bytes[..whole].chunks(PUBACK_LENGTH).filter(|one| one.starts_with(&PUBACK)).count();
            match whole / PUBACK_LENGTH == taken {
                true => Ok(PeerAnswers { taken, refused: 0, length: whole }),
                false => Err("a packet that is no PUBACK".to_owned()),
            }
        },
    },
];

/// A command as an array of bulk strings.
fn resp(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Numbers, as `PUBLISH` answers, and bulk strings, as `XADD` does: a line with its length, and a line.
fn resp_answers(bytes: &[u8]) -> PeerAnswers {
    let mut answers = PeerAnswers::default();
    loop {
        let rest = &bytes[answers.length..];
        let Some(end) = memmem::find(rest, b"\r\n") else {
            return answers;
        };
        let mut length = end + 2;
        if rest[0] == b'$' {
            let Some(second) = memmem::find(&rest[length..], b"\r\n") else {
                return answers;
            };
            length += second + 2;
        }
        answers.length += length;
        answers.taken += usize::from(rest[0] != b'-');
        answers.refused += usize::from(rest[0] == b'-');
    }
}

/// A subject of the connection's own, where it is answered.
fn inbox(at: &PeerPlace) -> String {
    format!("_INBOX.{}", at.number)
}

/// A subscriber's connection, and what it says first.
fn nats_subscribe(say: &[u8], until: &'static [u8]) -> Vec<HandshakeStep> {
    let send = [NATS_CONNECT, say].concat();
    vec![HandshakeStep::new(upgrade("/", ""), b"INFO {"), HandshakeStep::new(binary(&send), until)]
}

/// With a subject to answer to, if that is wanted.
fn nats_publish(out: &mut Vec<u8>, subject: &str, reply: &str, payload: &[u8]) {
    out.extend_from_slice(format!("PUB {subject} {reply} {}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// A request of the stream's own, which is answered where the connection's publishes are.
fn stream_request(out: &mut Vec<u8>, at: &PeerPlace, what: &str, body: &str) {
    out.extend_from_slice(format!("SUB {} 1\r\n", inbox(at)).as_bytes());
    nats_publish(out, &format!("$JS.API.{what}.{STREAM}"), &inbox(at), body.as_bytes());
}

/// Messages to the inbox, each a line that ends with its length, and as many bytes: where it was stored, or why it wasn't.
fn stream_answers(bytes: &[u8]) -> PeerAnswers {
    let mut answers = PeerAnswers::default();
    loop {
        let rest = &bytes[answers.length..];
        let Some(end) = memmem::find(rest, b"\r\n") else { return answers };
        let (line, body) = (&rest[..end], &rest[end + 2..]);
        if !line.starts_with(b"MSG ") {
            answers.length += end + 2;
            continue;
        }
        let length = line.rsplit(|byte| *byte == b' ').next().and_then(|word| std::str::from_utf8(word).ok());
        let length: usize = length.and_then(|word| word.parse().ok()).unwrap_or(0);
        if body.len() < length + 2 {
            return answers;
        }
        let is_stored = body.starts_with(b"{\"stream\":");
        answers.taken += usize::from(is_stored);
        answers.refused += usize::from(!is_stored);
        answers.length += end + 2 + length + 2;
    }
}

/// Lines; those of the server's own (`INFO`, `PING`) are passed over.
fn nats_answers(bytes: &[u8]) -> PeerAnswers {
    let mut answers = PeerAnswers::default();
    while let Some(end) = memmem::find(&bytes[answers.length..], b"\r\n") {
        let line = &bytes[answers.length..answers.length + end];
        answers.taken += usize::from(line == b"+OK");
        answers.refused += usize::from(line.starts_with(b"-ERR"));
        answers.length += end + 2;
    }
    answers
}

fn mqtt_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn mqtt_packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut left = body.len();
    // Seven bits a byte, the lowest first (§2.2.3).
    loop {
        let more = if left > 0x7f { 0x80 } else { 0 };
        out.push((left & 0x7f) as u8 | more);
        left >>= 7;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// A clean session without a name and without keep-alive.
fn mqtt_connect() -> Vec<u8> {
    let mut body = Vec::new();
    mqtt_string(&mut body, "MQTT");
    body.extend_from_slice(&[4, 2, 0, 0]);
    mqtt_string(&mut body, "");
    mqtt_packet(0x10, &body)
}

/// At most once, as the other peers deliver.
fn mqtt_subscribe(at: &PeerPlace) -> Vec<u8> {
    let mut body = vec![0, 1];
    mqtt_string(&mut body, &at.topic);
    body.push(0);
    mqtt_packet(0x82, &body)
}

/// At least once, so that it is answered. The packet's identifier is always the same: the server has answered a QoS 1
/// publish before it reads the next one of the connection.
fn mqtt_publish(out: &mut Vec<u8>, at: &PeerPlace, payload: &[u8]) {
    let mut body = Vec::new();
    mqtt_string(&mut body, &at.topic);
    body.extend_from_slice(&[0, 1]);
    body.extend_from_slice(payload);
    out.extend(mqtt_packet(0x32, &body));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_answers_are_counted_once_they_are_whole() {
        let bytes = b":5\r\n$3\r\n1-0\r\n-ERR no\r\n$3\r\n1-";
        assert_eq!(resp_answers(bytes), PeerAnswers { taken: 2, refused: 1, length: 22 });
    }

    #[test]
    fn nats_answers_are_told_from_other_lines() {
        let bytes = b"INFO {}\r\n+OK\r\nPING\r\n-ERR 'no'\r\n+O";
        assert_eq!(nats_answers(bytes), PeerAnswers { taken: 1, refused: 1, length: 31 });
    }

    #[test]
    fn stored_messages_are_counted_by_what_the_stream_says() {
        let stored = "MSG _INBOX.3 1 27\r\n{\"stream\":\"stored\",\"seq\":1}\r\n";
        let refused = "MSG _INBOX.3 1 12\r\n{\"error\":{}}\r\n";
        let bytes = [stored, "PING\r\n", refused, &stored[..30]].concat();
        let length = stored.len() + 6 + refused.len();
        assert_eq!(stream_answers(bytes.as_bytes()), PeerAnswers { taken: 1, refused: 1, length });
    }

    #[test]
    fn a_long_packet_has_a_length_of_two_bytes() {
        assert_eq!(mqtt_packet(0x32, &[0; 321])[..3], [0x32, 0xc1, 0x02]);
        assert_eq!(mqtt_packet(0x32, &[0; 127])[..2], [0x32, 0x7f]);
    }
}
