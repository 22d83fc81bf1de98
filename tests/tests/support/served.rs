//! A server in this process over a log in memory, with access control, and small clients that block.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use serde_json::Value;
use tailwire_core::{Broker, BrokerParts, Clock, Instruments, LocalOrder};
use tailwire_http::{
    Authenticated, Authenticator, HttpSettings, Listener, ListenerRules, RequestHead, Server,
};
use tailwire_model::{Principal, Timestamp};
use tailwire_storage::MemoryStore;
use tailwire_wire::{Code, Problem};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

use crate::granting::{Granting, principal};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Served {
    pub(crate) policy: Granting,
    pub(crate) broker: Broker,
    address: SocketAddr,
    operations: SocketAddr,
    _server: Server,
    _runtime: Runtime,
}

/// A token is a name, `name@ms` until then; with `!` nobody knows it, with `~` it takes a while to find out.
struct Names;

impl Authenticator for Names {
    fn request(&self, head: &RequestHead<'_>) -> Authenticated {
        match head.headers.get("authorization").map(|value| value.to_str().unwrap()) {
            None => Authenticated::Now(Ok(Principal::ANONYMOUS)),
            Some(value) => self.token(value.strip_prefix("Bearer ").unwrap()),
        }
    }

    fn token(&self, token: &str) -> Authenticated {
        let is_slow = token.ends_with('~');
        let token = token.trim_end_matches('~');
        let found = if token.ends_with('!') {
            Err(Problem::new(Code::Unauthorized))
        } else {
            let (name, until) = token.split_once('@').unwrap_or((token, ""));
            Ok(principal(name, until.parse().ok().map(Timestamp)))
        };
        if !is_slow {
            return Authenticated::Now(found);
        }
        Authenticated::Later(Box::pin(async {
            tokio::task::yield_now().await;
            found
        }))
    }

    fn challenge(&self) -> Option<hyper::header::HeaderValue> {
        Some(hyper::header::HeaderValue::from_static("Bearer"))
    }
}

impl Served {
    pub(crate) fn start() -> Self {
        Self::start_at(Clock { now: Clock::system_now, steady: Clock::system_steady, random: || 0 })
    }

    pub(crate) fn start_at(clock: Clock) -> Self {
        let policy = Granting::default();
        let (store, instruments) = (Arc::new(MemoryStore::default()), Instruments::default());
        let (order, committer) = LocalOrder::begin(store.clone(), clock, &instruments).unwrap();
        let parts = BrokerParts {
            order: Arc::new(order),
            store,
            instruments,
            encoders: tailwire_core::Encoders::new(&tailwire_wire::ENCODERS, &tailwire_wire::REFERENCES),
            policy: Arc::new(policy.clone()),
            clock,
            shards: 1,
            read_threads: 1,
            read_thread_begins: || (),
            read_throttle_factor: 0,
            quotas: Vec::new(),
        };
        let broker = Broker::start(parts).unwrap();
        thread::spawn(move || committer.run());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (server, address, operations) = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let operations = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addresses = (listener.local_addr().unwrap(), operations.local_addr().unwrap());
            let rules = ListenerRules { operations: true, ..ListenerRules::default() };
            let listeners = vec![Listener::from(listener), Listener::from(operations).with(rules)];
            let settings = HttpSettings { authenticator: Arc::new(Names), ..HttpSettings::default() };
            (Server::start(&broker, settings, listeners).unwrap(), addresses.0, addresses.1)
        });
        Self { policy, broker, address, operations, _server: server, _runtime: runtime }
    }

    /// What it counts.
    #[allow(dead_code, reason = "not every suite asks")]
    pub(crate) fn metrics(&self) -> String {
        let mut stream = Stream::open(self.operations, None, "GET", "/metrics", &[], "");
        stream.until("\r\n\r\n");
        Answer::parse(&mut stream).body
    }

    pub(crate) fn get(&self, who: Option<&str>, path: &str) -> Answer {
        self.ask(who, "GET", path, "")
    }

    pub(crate) fn post(&self, who: Option<&str>, path: &str, body: &str) -> Answer {
        self.ask(who, "POST", path, body)
    }

    pub(crate) fn ask(&self, who: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
        self.ask_with(who, method, path, &[], body)
    }

    pub(crate) fn ask_with(
        &self,
        who: Option<&str>,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Answer {
        let mut all: Vec<&str> = headers.to_vec();
        let length = format!("Content-Length: {}", body.len());
        if method == "POST" {
            all.push(&length);
        }
        let mut stream = Stream::open(self.address, who, method, path, &all, body);
        stream.until("\r\n\r\n");
        Answer::parse(&mut stream)
    }

    /// An endless answer.
    pub(crate) fn stream(&self, who: Option<&str>, path: &str) -> Stream {
        Stream::open(self.address, who, "GET", path, &[], "")
    }

    pub(crate) fn socket(&self, who: Option<&str>, path: &str) -> Socket {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        if let Some(who) = who {
            request.headers_mut().insert("authorization", format!("Bearer {who}").parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Socket(tungstenite::client(request, stream).unwrap().0)
    }

    /// Waits until so many readers are open.
    pub(crate) fn until_readers(&self, count: i64) {
        while self.broker.metrics().readers.get() < count {
            thread::yield_now();
        }
    }
}

pub(crate) struct Stream {
    socket: TcpStream,
    text: String,
    /// The first bytes of a character.
    begun: Vec<u8>,
}

impl Stream {
    fn open(
        address: SocketAddr,
        who: Option<&str>,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
        if let Some(who) = who {
            head += &format!("Authorization: Bearer {who}\r\n");
        }
        headers.iter().for_each(|header| head += &format!("{header}\r\n"));
        socket.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        Self { socket, text: String::new(), begun: Vec::new() }
    }

    fn read(&mut self) -> bool {
        let mut part = [0; 4096];
        let count = self.socket.read(&mut part).unwrap();
        self.begun.extend_from_slice(&part[..count]);
        let whole = std::str::from_utf8(&self.begun).map_or_else(|error| error.valid_up_to(), str::len);
        self.text += std::str::from_utf8(&self.begun[..whole]).unwrap();
        self.begun.drain(..whole);
        count > 0
    }

    pub(crate) fn until(&mut self, word: &str) {
        while !self.text.contains(word) {
            assert!(self.read(), "it ended before {word}: {}", self.text);
        }
    }

    pub(crate) fn rest(&mut self) -> String {
        while self.read() {}
        self.text.clone()
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(stream: &mut Stream) -> Self {
        let (head, _) = stream.text.split_once("\r\n\r\n").unwrap();
        let head = head.to_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Self { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while stream.text.len() < answer.head.len() + 4 + length {
            assert!(stream.read(), "a whole body");
        }
        answer.body = stream.text[answer.head.len() + 4..].to_owned();
        answer
    }

    pub(crate) fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.headers(name).next()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The topics of a page's messages.
pub(crate) fn messages(page: &Value) -> Vec<String> {
    let all = page["messages"].as_array().unwrap_or_else(|| panic!("a page: {page}"));
    all.iter().map(|message| message["topic"].as_str().unwrap().to_owned()).collect()
}

pub(crate) struct Socket(tungstenite::WebSocket<TcpStream>);

impl Socket {
    pub(crate) fn send(&mut self, line: &Value) {
        self.0.send(Message::text(line.to_string())).unwrap();
    }

    /// Its next line that is no heartbeat.
    pub(crate) fn line(&mut self) -> Value {
        match self.next() {
            Message::Text(line) => serde_json::from_str(&line).unwrap(),
            other => panic!("no line: {other:?}"),
        }
    }

    fn next(&mut self) -> Message {
        loop {
            match self.0.read().unwrap() {
                Message::Text(line) if line.contains(r#""kind":"heartbeat""#) => {}
                message => return message,
            }
        }
    }

    /// How long to wait for what comes.
    pub(crate) fn wait(&mut self, patience: Duration) {
        self.0.get_ref().set_read_timeout(Some(patience)).unwrap();
    }

    pub(crate) fn close_code(&mut self) -> u16 {
        match self.next() {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("no close: {other:?}"),
        }
    }
}
