//! The limit: the least that any server can do to fan a message out, as a measure for the broker's cost.
//!
//! One thread and one epoll. A POST becomes one prebuilt frame, which is written to each subscriber with one `send`,
//! and is then answered 201. With `--coalesce` all requests that are readable are taken first, so that one `send`
//! carries all their frames. A subscriber that can't take its bytes keeps an offset into the shared log of frames and
//! goes on when its socket can. With `--sync <file>` what was taken is first appended to a file and synced, so that it is
//! durable before anybody sees it. There are no topics, no names, nothing is read again, and what clients send is not
//! checked: it is a yardstick, never a server.
//!
//! `limit --listen 127.0.0.1:9100 [--coalesce] [--sync <file>]`; it says where it listens, which tells the port if that
//! was 0.

mod epoll;
mod wire;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;

use tailwire_load::client::frames::{TEXT, append_unmasked};
use tailwire_load::measure::descriptors;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use wire::{LimitFormat, LimitRequest, append_ndjson, append_sse, append_websocket, stream_head};

/// A log is cut back, to where its slowest subscriber stands, once it is this long.
const LOG_BYTES_KEPT: usize = 1 << 20;
const READ_BYTES: usize = 64 << 10;
const EVENTS: usize = 1024;

fn main() -> ExitCode {
    let mut listen = String::from("127.0.0.1:9100");
    let mut coalesce = false;
    let mut sync = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.len()) {
            ("--coalesce", _) => coalesce = true,
            ("--listen", 1..) => listen = args.next().unwrap_or_default(),
            ("--sync", 1..) => sync = args.next(),
            _ => {
                eprintln!("usage: limit [--listen <address>] [--coalesce] [--sync <file>]");
                return ExitCode::from(2);
            }
        }
    }
    let durable = sync.map(File::create).transpose();
    match durable.and_then(|durable| LimitServer::bind(&listen, coalesce, durable)).and_then(LimitServer::run)
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limit: {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Frames that some subscriber has not taken yet. Offsets count from the start of the run.
#[derive(Default)]
struct FrameLog {
    bytes: Vec<u8>,
    start: u64,
    subscribers: Vec<LimitSubscriber>,
}

struct LimitSubscriber {
    stream: TcpStream,
    offset: u64,
    /// Its socket was full: only the next writable event makes another attempt worthwhile.
    full: bool,
}

/// A connection that sends requests.
struct Requester {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The role of a file descriptor.
#[derive(Clone, Copy)]
enum ConnectionRole {
    Requester,
    /// With its place in its format's log.
    Subscriber(LimitFormat, usize),
}

struct LimitServer {
    listener: TcpListener,
    epoll: epoll::Epoll,
    coalesce: bool,
    /// Where messages become durable, and those that have not.
    durable: Option<File>,
    unsynced: Vec<u8>,
    /// Indexed by file descriptor, which the kernel keeps small and dense.
    roles: Vec<Option<ConnectionRole>>,
    requesters: Vec<Option<Requester>>,
    logs: [FrameLog; 3],
    buffer: Vec<u8>,
}

impl LimitServer {
    fn bind(listen: &str, coalesce: bool, durable: Option<File>) -> io::Result<LimitServer> {
        descriptors::raise_limit();
        let listener = TcpListener::bind(listen)?;
        writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::Epoll::new()?;
        epoll.add(listener.as_raw_fd())?;
        Ok(LimitServer {
            listener,
            epoll,
            coalesce,
            durable,
            unsynced: Vec::new(),
            roles: Vec::new(),
            requesters: Vec::new(),
            logs: Default::default(),
            buffer: vec![0; READ_BYTES],
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = epoll::EpollEvents::new(EVENTS);
        let mut answers: Vec<RawFd> = Vec::new();
        loop {
            self.epoll.wait(&mut events)?;
            for (fd, event) in events.iter() {
                if fd == self.listener.as_raw_fd() {
                    self.accept()?;
                } else if let Some(Some(role)) = self.roles.get(fd as usize).copied() {
                    match role {
                        ConnectionRole::Requester => self.requests(fd, &mut answers),
                        ConnectionRole::Subscriber(format, at) => self.subscriber_event(format, at, event),
                    }
                }
                if !self.coalesce {
                    self.finish(&mut answers)?;
                }
            }
            self.finish(&mut answers)?;
        }
    }

    /// Makes durable what was appended, if that is asked, sends it, then answers the requests that it came from.
    fn finish(&mut self, answers: &mut Vec<RawFd>) -> io::Result<()> {
        if answers.is_empty() {
            return Ok(());
        }
        if let Some(durable) = &mut self.durable {
            durable.write_all(&self.unsynced)?;
            durable.sync_data()?;
            self.unsynced.clear();
        }
        for log in &mut self.logs {
            log.send_all();
        }
        for fd in answers.drain(..) {
            if let Some(Some(requester)) = self.requesters.get_mut(fd as usize) {
                requester.flush();
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let fd = stream.as_raw_fd();
            let slot = fd as usize;
            if self.roles.len() <= slot {
                self.roles.resize(slot + 1, None);
                self.requesters.resize_with(slot + 1, || None);
            }
            self.roles[slot] = Some(ConnectionRole::Requester);
            self.requesters[slot] = Some(Requester { stream, input: Vec::new(), output: Vec::new() });
            self.epoll.add(fd)?;
        }
    }

    /// Reads all that the connection has and takes every whole request in it.
    fn requests(&mut self, fd: RawFd, answers: &mut Vec<RawFd>) {
        let slot = fd as usize;
        let Some(mut requester) = self.requesters[slot].take() else {
            return;
        };
        requester.flush();
        let open = requester.fill(&mut self.buffer);
        let mut taken = 0;
        while let Some(request) = LimitRequest::parse(&requester.input[taken..]) {
            if let Some(format) = request.subscribes() {
                self.subscribe(requester.stream, format, &request);
                return;
            }
            for (log, append) in self.logs.iter_mut().zip([append_websocket, append_sse, append_ndjson]) {
                if !log.subscribers.is_empty() {
                    append(&mut log.bytes, request.body);
                }
            }
            if self.durable.is_some() {
                self.unsynced.extend_from_slice(request.body);
            }
            taken += request.length;
            requester.output.extend_from_slice(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
        }
        requester.input.drain(..taken);
        if open {
            if taken > 0 {
                answers.push(fd);
            }
            self.requesters[slot] = Some(requester);
        } else {
            self.roles[slot] = None;
        }
    }

    fn subscribe(&mut self, mut stream: TcpStream, format: LimitFormat, request: &LimitRequest<'_>) {
        let slot = stream.as_raw_fd() as usize;
        let reply = match format {
            LimitFormat::WebSocket => {
                let accept =
                    derive_accept_key(request.header("sec-websocket-key").unwrap_or_default().as_bytes());
                let head = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                );
                let mut reply = head.into_bytes();
                append_unmasked(
                    &mut reply,
                    TEXT,
                    &[br#"{"kind":"caught_up","cursor":"00000000-00000000000"}"#],
                );
                reply
            }
            LimitFormat::Sse => stream_head("text/event-stream"),
            LimitFormat::Ndjson => stream_head("application/x-ndjson"),
        };
        // A fresh socket has room for a reply of this size; one that has not is a client that went away.
        if stream.write_all(&reply).is_err() {
            self.roles[slot] = None;
            return;
        }
        let log = &mut self.logs[format as usize];
        self.roles[slot] = Some(ConnectionRole::Subscriber(format, log.subscribers.len()));
        let offset = log.end();
        log.subscribers.push(LimitSubscriber { stream, offset, full: false });
    }

    fn subscriber_event(&mut self, format: LimitFormat, at: usize, event: epoll::Readiness) {
        let log = &mut self.logs[format as usize];
        let subscriber = &mut log.subscribers[at];
        let mut open = true;
        if event.readable {
            loop {
                match subscriber.stream.read(&mut self.buffer) {
                    Ok(0) => open = false,
                    Ok(_) => continue,
                    Err(error) => open &= error.kind() == ErrorKind::WouldBlock,
                }
                break;
            }
        }
        if event.writable && subscriber.full {
            subscriber.full = false;
            subscriber.send(&log.bytes, log.start);
        }
        if !open {
            let gone = log.subscribers.swap_remove(at);
            self.roles[gone.stream.as_raw_fd() as usize] = None;
            if let Some(moved) = log.subscribers.get(at) {
                self.roles[moved.stream.as_raw_fd() as usize] = Some(ConnectionRole::Subscriber(format, at));
            }
        }
    }
}

impl FrameLog {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn send_all(&mut self) {
        for subscriber in &mut self.subscribers {
            if !subscriber.full {
                subscriber.send(&self.bytes, self.start);
            }
        }
        if self.bytes.len() > LOG_BYTES_KEPT || self.subscribers.is_empty() {
            let slowest = self.subscribers.iter().map(|one| one.offset).min().unwrap_or(self.end());
            let had = (slowest - self.start) as usize;
            // Bytes that are kept have to move, which is only worth it for as many bytes that go.
            if had >= self.bytes.len() / 2 {
                self.bytes.drain(..had);
                self.start = slowest;
            }
        }
    }
}

impl LimitSubscriber {
    /// One `send` of everything that it has not had.
    fn send(&mut self, log: &[u8], start: u64) {
        let rest = &log[(self.offset - start) as usize..];
        if rest.is_empty() {
            return;
        }
        match self.stream.write(rest) {
            Ok(sent) => {
                self.offset += sent as u64;
                self.full = sent < rest.len();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.full = true,
            // It has gone; the event for that follows and removes it.
            Err(_) => self.offset = start + log.len() as u64,
        }
    }
}

impl Requester {
    /// Reads until the socket is empty; false once it is closed.
    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    self.input.extend_from_slice(&buffer[..n]);
                    if n < buffer.len() {
                        return true;
                    }
                }
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    fn flush(&mut self) {
        if !self.output.is_empty()
            && let Ok(sent) = self.stream.write(&self.output)
        {
            self.output.drain(..sent);
        }
    }
}
