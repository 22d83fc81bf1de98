//! The load generator of the benchmark counts what happens: all that a sound server delivers, and what a faulty one
//! loses and repeats.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is its report")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::Value;

const PAYLOAD: usize = 128;

/// Runs the generator from `ready` to its figures.
fn load(arguments: &str, address: &str) -> Value {
    let mut run = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(arguments.split_whitespace())
        .args(["--address", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    run.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let figures = lines.next().unwrap().unwrap();
    assert!(run.wait().unwrap().success());
    serde_json::from_str(&figures).unwrap()
}

/// The limit program, as a server that does nothing wrong.
struct Limit(Child, String);

impl Limit {
    fn start() -> Limit {
        let mut child = Command::new(env!("CARGO_BIN_EXE_limit"))
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Limit(child, address)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_sound_server_loses_nothing() {
    let limit = Limit::start();
    for (protocol, how) in
        [("tailwire-ws", ""), ("tailwire-sse", ""), ("tailwire-ws", "--rate 200 --size 5000")]
    {
        let figures = load(
            &format!("fanout --protocol {protocol} --subscribers 30 --connections 4 --messages 40 {how}"),
            &limit.1,
        );
        let counts = ["messages", "deliveries", "lost", "repeated", "reordered", "refused", "ended"];
        let found = counts.map(|name| figures[name].as_u64().unwrap());
        assert_eq!(found, [40, 30 * 40, 0, 0, 0, 0, 0], "{protocol} {how}: {figures}");
    }
}

#[test]
fn what_a_faulty_server_does_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || faulty(&listener));
    let figures =
        load("fanout --protocol redis --subscribers 1 --connections 1 --messages 10 --size 128", &address);
    server.join().unwrap();
    let found = ["messages", "deliveries", "lost", "repeated"].map(|name| figures[name].as_u64().unwrap());
    assert_eq!(found, [10, 10, 1, 1], "{figures}");
}

/// Takes all that is published, loses the message with the number 3, and delivers the one with the number 5 twice.
fn faulty(listener: &TcpListener) {
    let (mut subscriber, _) = listener.accept().unwrap();
    let asked = some(&mut subscriber);
    assert!(asked.starts_with(b"*2\r\n$9\r\nSUBSCRIBE"));
    subscriber.write_all(b"*3\r\n$9\r\nsubscribe\r\n$5\r\nbench\r\n:1\r\n").unwrap();
    let (mut publisher, _) = listener.accept().unwrap();
    let mut input = Vec::new();
    for number in 0..10 {
        let payload = loop {
            let start = input.windows(2).position(|two| two == b"@@");
            match start.and_then(|start| Some((start, input.get(start..start + PAYLOAD)?.to_vec()))) {
                Some((start, payload)) => {
                    input.drain(..start + PAYLOAD);
                    break payload;
                }
                None => input.extend(some(&mut publisher)),
            }
        };
        let times = match number {
            3 => 0,
            5 => 2,
            _ => 1,
        };
        (0..times).for_each(|_| subscriber.write_all(&payload).unwrap());
        publisher.write_all(b":1\r\n").unwrap();
    }
    // Until the generator has seen enough; it may end with bytes unread.
    let _ = publisher.read_to_end(&mut input);
}

fn some(stream: &mut TcpStream) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let n = stream.read(&mut buffer).unwrap();
    assert!(n > 0, "the generator closed the connection");
    buffer[..n].to_vec()
}
