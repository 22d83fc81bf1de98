//! Where the server is, and the requests that are sent to it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};

use crate::client::http;
use crate::client::requests::{self, upgraded};
use crate::client::transport::ReadTransport;
use crate::error::LoadError;

const SUBPROTOCOL: &str = "tailwire.v1";
/// As many as a page may have.
const PAGE_MESSAGES: u32 = 1_000;

/// Where a subscriber begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartAt {
    Earliest,
    Latest,
}

impl StartAt {
    fn word(self) -> &'static str {
        match self {
            StartAt::Earliest => "earliest",
            StartAt::Latest => "latest",
        }
    }
}

/// A server.
#[derive(Debug, Clone)]
pub(crate) struct LoadTarget {
    pub(crate) address: SocketAddr,
    /// As it was given.
    url: String,
    authority: String,
}

impl LoadTarget {
    pub(crate) fn parse(url: &str) -> Result<LoadTarget, LoadError> {
        // A scheme is of any case (RFC 3986 §3.1).
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(LoadError(format!("{url}: the load generator speaks http:// only")));
        }
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(LoadError(format!("{url}: expected http://<host>:<port>")));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let found = with_port.to_socket_addrs().map_err(LoadError::during(url))?.next();
        let address = found.ok_or_else(|| LoadError(format!("{url}: no such host")))?;
        Ok(LoadTarget { address, url: url.to_owned(), authority: authority.to_owned() })
    }

    /// The error for a server that can't be reached.
    pub(crate) fn unreached(&self, why: &dyn std::fmt::Display) -> LoadError {
        LoadError(format!(
            "{}: connecting: {why} (is a server running there? `tailwire serve` starts one)",
            self.url
        ))
    }

    /// Why the server takes no connections, if it doesn't.
    pub(crate) fn gone(&self) -> Option<String> {
        self.connect().err().map(|why| why.to_string())
    }

    /// The request that makes a connection a subscriber of topics or patterns, from there on.
    pub(crate) fn subscribe(&self, transport: ReadTransport, filters: &[String], from: StartAt) -> Vec<u8> {
        let path = format!("{}after={}", resource(filters), from.word());
        match transport {
            ReadTransport::Ws => self.upgrade(&path),
            ReadTransport::Sse => self.get(&path, "text/event-stream"),
            ReadTransport::Ndjson => self.get(&path, "application/x-ndjson"),
            ReadTransport::Longpoll | ReadTransport::Page => {
                self.get(&format!("{path}&limit={PAGE_MESSAGES}"), "application/json")
            }
        }
    }

    /// The start of the request for the next page, up to where its cursor belongs, and its end.
    pub(crate) fn poll(&self, transport: ReadTransport, filters: &[String]) -> (Vec<u8>, Vec<u8>) {
        let wait = if transport == ReadTransport::Longpoll { "&wait=25" } else { "" };
        let path = resource(filters);
        let whole = self.get(&format!("{path}after=^&limit={PAGE_MESSAGES}{wait}"), "application/json");
        let at = memchr::memchr(b'^', &whole).unwrap_or(whole.len());
        (whole[..at].to_vec(), whole[at + 1..].to_vec())
    }

    /// The head of a publish between its path and its body's length.
    pub(crate) fn post(&self, content_type: &str) -> Vec<u8> {
        let authority = &self.authority;
        format!(" HTTP/1.1\r\nHost: {authority}\r\nContent-Type: {content_type}\r\nContent-Length: ")
            .into_bytes()
    }

    /// The list of topics whose names begin so, at least the first of them.
    pub(crate) fn topics(&self, prefix: &str) -> Result<serde_json::Value, LoadError> {
        self.ask(&format!("/topics?limit=1&prefix={}", encoded(prefix)))
    }

    /// The JSON of a reply, for what is asked once.
    fn ask(&self, path: &str) -> Result<serde_json::Value, LoadError> {
        let mut stream = self.connect().map_err(|why| self.unreached(&why))?;
        let mut bytes = Vec::new();
        stream.write_all(&self.get(path, "application/json")).map_err(LoadError::during(path))?;
        let mut buffer = [0; 4096];
        loop {
            let n = stream.read(&mut buffer).map_err(LoadError::during(path))?;
            bytes.extend_from_slice(&buffer[..n]);
            match http::head(&bytes) {
                Ok(Some(http::ReplyHead { status: 200, length, body: Some(body), .. })) => {
                    if let Some(body) = bytes.get(length..length + body) {
                        return serde_json::from_slice(body)
                            .map_err(|why| LoadError(format!("{path}: {why}")));
                    }
                }
                Ok(None) => {}
                Ok(Some(head)) => {
                    return Err(LoadError(format!("{path}: the server answered {}", head.status)));
                }
                Err(http::MalformedReply) => {
                    return Err(LoadError(format!("{path}: the answer is not HTTP")));
                }
            }
            if n == 0 {
                return Err(LoadError(format!("{path}: the server closed the connection")));
            }
        }
    }

    /// A connection for publishing by HTTP.
    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        requests::connect(self.address)
    }

    /// A WebSocket without a subscription; what came after its head is for the caller.
    pub(crate) fn connect_websocket(&self) -> io::Result<(TcpStream, Vec<u8>)> {
        let mut stream = self.connect()?;
        stream.write_all(&self.upgrade("/stream"))?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let n = stream.read(&mut buffer)?;
            bytes.extend_from_slice(&buffer[..n]);
            match http::head(&bytes) {
                Ok(Some(head)) if upgraded(&head, &bytes) => {
                    return Ok((stream, bytes.split_off(head.length)));
                }
                Ok(Some(head)) => {
                    return Err(io::Error::other(format!("the WebSocket was answered {}", head.status)));
                }
                Ok(None) if n > 0 => {}
                _ => return Err(io::Error::other("the WebSocket's answer is not HTTP")),
            }
        }
    }

    fn get(&self, path: &str, accept: &str) -> Vec<u8> {
        requests::get(&self.authority, path, accept).into_bytes()
    }

    fn upgrade(&self, path: &str) -> Vec<u8> {
        requests::upgrade(&self.authority, path, SUBPROTOCOL).into_bytes()
    }
}

/// A topic or pattern, or several of them as one, up to where further parameters belong.
fn resource(filters: &[String]) -> String {
    match filters {
        [one] => format!("{}?", topic_path(one)),
        all => all.iter().fold("/stream?".to_owned(), |url, one| format!("{url}topic={}&", encoded(one))),
    }
}

/// A topic or pattern as the path of its URL.
pub(crate) fn topic_path(topic: &str) -> String {
    format!("/topics/{}", encoded(topic))
}

/// The name of a topic or pattern, or its beginning, as it may stand in a path and in a query (RFC 3986 §3.3, §3.4).
fn encoded(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'*' | b'/' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        let target = LoadTarget::parse("http://127.0.0.1:8245/").unwrap();
        assert_eq!(
            (target.address.to_string().as_str(), target.authority.as_str()),
            ("127.0.0.1:8245", "127.0.0.1:8245")
        );
        assert_eq!(LoadTarget::parse("http://127.0.0.1").unwrap().address.port(), 80);
        assert_eq!(LoadTarget::parse("HTTP://127.0.0.1:1").unwrap().address.port(), 1);
        for url in ["https://127.0.0.1", "127.0.0.1:8245", "http://", "http://127.0.0.1/x", "http://a b"] {
            assert!(LoadTarget::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn several_patterns_are_one_resource() {
        let filters = ["a/*/1".to_owned(), "ä/**".to_owned()];
        let bytes = LoadTarget::parse("http://127.0.0.1:1").unwrap().subscribe(
            ReadTransport::Sse,
            &filters,
            StartAt::Latest,
        );
        let request = String::from_utf8(bytes).unwrap();
        assert!(
            request.starts_with("GET /stream?topic=a/*/1&topic=%C3%A4/**&after=latest HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(resource(&filters[..1]).starts_with("/topics/a/*/1?"));
    }

    #[test]
    fn a_topic_keeps_its_slashes() {
        assert_eq!(topic_path("bench/ä b"), "/topics/bench/%C3%A4%20b");
    }

    #[test]
    fn a_poll_has_room_for_its_cursor() {
        let (start, end) = LoadTarget::parse("http://127.0.0.1:1")
            .unwrap()
            .poll(ReadTransport::Longpoll, &["a/**".to_owned()]);
        assert!(start.ends_with(b"GET /topics/a/**?after="));
        assert!(end.starts_with(b"&limit=1000&wait=25 HTTP/1.1\r\n"));
    }
}
