//! Answers that WebSocket clients ask for and never take: they are bounded for all of them together, from the first byte, and
//! another client is served meanwhile. A process of its own, whose memory is looked at.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is its report")]
#![cfg(target_os = "linux")]

#[path = "websocket/peer.rs"]
#[allow(dead_code, reason = "the cases use the rest")]
mod peer;

use std::{fs, time::Instant};

use peer::{Peer, server};

const CLIENTS: usize = 300;
/// More than the kernel takes for a client that doesn't read.
const PAGES: usize = 12;
/// Pages that a client asks for that does take them.
const ASKED: usize = 30;
const MESSAGE_BYTES: usize = 1_000_000;
/// The bound, and the process itself. Without admission it is 227.
const MEMORY_MB_MAX: usize = 128 + 64;

/// The most memory that this process has held, in MB.
fn memory_mb() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

fn ask(peer: &mut Peer, id: usize) {
    let line = format!("{{\"kind\":\"page\",\"id\":{id},\"topic\":\"large\",\"limit\":1}}");
    peer.send(1, true, line.as_bytes());
}

#[test]
fn answers_that_nobody_takes_are_bounded_and_keep_nobody_from_asking() {
    let server = server();
    server.publish("large", &[format!("\"{}\"", "x".repeat(MESSAGE_BYTES))]);
    let idle: Vec<Peer> = (0..CLIENTS)
        .map(|_| {
            let mut peer = Peer::open(&server, "/stream", "tailwire.v1");
            peer.narrow();
            (0..PAGES).for_each(|id| ask(&mut peer, id));
            peer
        })
        .collect();
    let began = Instant::now();
    let mut healthy = Peer::open(&server, "/stream", "tailwire.v1");
    healthy.frames(1);
    let mut served = 0;
    for id in 0..ASKED {
        ask(&mut healthy, id);
        let is_answer = |line: &[u8]| !line.starts_with(b"{\"kind\":\"heartbeat\"");
        let answer =
            std::iter::from_fn(|| healthy.next()).map(|frame| frame.payload).find(|line| is_answer(line));
        let answer = answer.unwrap();
        let is_overloaded = String::from_utf8_lossy(&answer).contains("\"code\":\"overloaded\"");
        assert!(is_overloaded || answer.starts_with(b"{\"kind\":\"ok\""));
        served += usize::from(!is_overloaded);
    }
    assert!(served >= ASKED - 2, "{served} of {ASKED}");
    let (took, memory) = (began.elapsed(), memory_mb());
    assert!(memory <= MEMORY_MB_MAX, "{memory} MB for {} clients, answered after {took:?}", idle.len());
}
