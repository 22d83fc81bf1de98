//! WebSocket by the cases of the Autobahn suite (sections 1 to 7, 9 in small, 10), over a plain socket, against the echo protocol
//! that only the tests have; and a protocol whose messages carry a prefix of each receiver's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is its report")]

#[path = "websocket/cases.rs"]
mod cases;
#[path = "websocket/peer.rs"]
mod peer;

use peer::{Frame, Peer, server};

/// Numbers on this connection stand before lines that are everybody's.
#[test]
fn messages_carry_a_prefix_of_their_receivers() {
    let server = server();
    let large = "x".repeat(100_000);
    let texts = ["\"a\"".to_owned(), format!("\"{large}\""), "\"b\"".to_owned()];
    server.publish("prefixed", &texts[..2]);
    let mut early = Peer::open(&server, "/topics/prefixed?after=earliest", "counted");
    let first = early.frames(2);
    server.publish("prefixed", &texts[2..]);
    let mut late = Peer::open(&server, "/topics/prefixed?last=1", "counted");
    let lines: Vec<Frame> = first.into_iter().chain(early.frames(1)).collect();
    for (index, (line, text)) in lines.iter().zip(&texts).enumerate() {
        let line = String::from_utf8(line.payload.clone()).unwrap();
        let prefix = format!("{} {{\"kind\":\"message\"", index + 1);
        assert!(line.starts_with(&prefix) && line.ends_with(&format!("\"data\":{text}}}")), "{line:.200}");
    }
    let own = late.frames(1).remove(0).payload;
    assert_eq!(own[..2], *b"1 ");
    assert_eq!(own[2..], lines[2].payload[2..], "it is the same line");
    late.send(1, true, b"text");
    assert_eq!(late.close_code(), 1003, "it takes binary only");
}

#[test]
fn a_name_that_is_not_in_the_table_is_refused() {
    let server = server();
    assert!(Peer::try_open(&server, "/stream", "mqtt").unwrap_err().starts_with("HTTP/1.1 400 "));
    let mut native = Peer::open(&server, "/stream", "");
    assert!(native.frames(1)[0].payload.starts_with(b"{\"kind\":\"welcome\""));
}
