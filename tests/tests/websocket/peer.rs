//! A server with the protocols of the tests, and a client that sends whatever bytes it is told to.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use tailwire_tests::subprotocols;

/// More than any answer takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Serves until the test's process ends.
pub(crate) struct Running(SocketAddr);

pub(crate) fn server() -> Running {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (_broker, server) = subprotocols::serve(listener).unwrap();
            sender.send(server.address().unwrap()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    Running(receiver.recv().unwrap())
}

impl Running {
    /// Publishes JSON, each text as one message.
    pub(crate) fn publish(&self, topic: &str, texts: &[String]) {
        for text in texts {
            let mut stream = TcpStream::connect(self.0).unwrap();
            let head = format!(
                "POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(opcode: u8, payload: &[u8]) -> Self {
        Self { opcode, payload: payload.to_vec() }
    }
}

#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

/// A masked frame. `first` is its first byte: flags and opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

impl Peer {
    pub(crate) fn open(server: &Running, target: &str, protocol: &str) -> Self {
        Self::try_open(server, target, protocol).unwrap()
    }

    /// Shakes hands; or has the head of what refused it.
    pub(crate) fn try_open(server: &Running, target: &str, protocol: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(server.0).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let offer = if protocol.is_empty() {
            String::new()
        } else {
            format!("Sec-WebSocket-Protocol: {protocol}\r\n")
        };
        let mut peer = Self { stream, received: Vec::new() };
        peer.raw(
            format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
            )
            .as_bytes(),
        );
        let end = loop {
            if let Some(at) = peer.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(peer.receive(), "a whole head");
        };
        let head = String::from_utf8(peer.received.drain(..end).collect()).unwrap();
        if head.starts_with("HTTP/1.1 101 ") { Ok(peer) } else { Err(head) }
    }

    /// Takes little before it is read.
    #[allow(dead_code, reason = "some tests only")]
    pub(crate) fn narrow(&self) {
        socket2::SockRef::from(&self.stream).set_recv_buffer_size(4 << 10).unwrap();
    }

    /// Sends bytes; that the other side may have closed is found out by reading.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// In parts that arrive apart.
    pub(crate) fn chopped(&mut self, bytes: &[u8], size: usize) {
        bytes.chunks(size).for_each(|part| self.raw(part));
    }

    pub(crate) fn send(&mut self, opcode: u8, is_final: bool, payload: &[u8]) {
        self.raw(&frame(opcode | if is_final { 0x80 } else { 0 }, payload));
    }

    fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.received.extend(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// The next frame, or nothing at the end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, end)) = parse(&self.received) {
                self.received.drain(..end);
                return Some(frame);
            }
            if !self.receive() {
                assert!(self.received.is_empty(), "a part of a frame");
                return None;
            }
        }
    }

    pub(crate) fn frames(&mut self, count: usize) -> Vec<Frame> {
        (0..count).map(|_| self.next().unwrap()).collect()
    }

    /// All bytes up to the end.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The code with which the other side closes, which is the last thing that it says.
    pub(crate) fn close_code(&mut self) -> u16 {
        let rest = self.rest();
        let close = rest.last().unwrap();
        assert_eq!(close.opcode, 8, "{rest:?}");
        close.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
    }
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!((first & 0xf0, second & 0x80), (0x80, 0), "whole and unmasked");
    let (head, len) = match second {
        126 => (4, u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        len => (2, len as usize),
    };
    let payload = bytes.get(head..head + len)?.to_vec();
    Some((Frame { opcode: first & 15, payload }, head + len))
}
