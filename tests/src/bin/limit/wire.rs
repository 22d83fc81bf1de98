//! The wire: requests as they come in, frames as they go out.

use tailwire_load::client::frames::{TEXT, append_unmasked};

/// The transport of a subscriber; each has its own framing and so its own log.
#[derive(Clone, Copy)]
pub(crate) enum LimitFormat {
    WebSocket,
    Sse,
    Ndjson,
}

/// One whole request at the start of the bytes.
pub(crate) struct LimitRequest<'a> {
    head: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) length: usize,
}

impl<'a> LimitRequest<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<LimitRequest<'a>> {
        let head_length = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_length]).unwrap_or_default();
        let mut request = LimitRequest { head, body: &[], length: head_length };
        let body_length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        request.length += body_length;
        request.body = bytes.get(head_length..request.length)?;
        Some(request)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn subscribes(&self) -> Option<LimitFormat> {
        if !self.head.starts_with("GET ") {
            return None;
        }
        if self.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            return Some(LimitFormat::WebSocket);
        }
        match self.header("accept") {
            Some("text/event-stream") => Some(LimitFormat::Sse),
            Some("application/x-ndjson") => Some(LimitFormat::Ndjson),
            _ => None,
        }
    }
}

const CURSOR: &str = "00000000-00000000000";
const LINE_START: &[u8] = br#"{"kind":"message","cursor":"00000000-00000000000","topic":"bench","time":"2026-01-01T00:00:00.000Z","type":"application/json","data":"#;

pub(crate) fn stream_head(content_type: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n")
        .into_bytes()
}

pub(crate) fn append_websocket(log: &mut Vec<u8>, data: &[u8]) {
    append_unmasked(log, TEXT, &[LINE_START, data, b"}"]);
}

pub(crate) fn append_sse(log: &mut Vec<u8>, data: &[u8]) {
    append_chunk(log, &[b"id: ", CURSOR.as_bytes(), b"\ndata: ", data, b"\n\n"]);
}

pub(crate) fn append_ndjson(log: &mut Vec<u8>, data: &[u8]) {
    append_chunk(log, &[LINE_START, data, b"}\n"]);
}

/// A chunk (RFC 9112 §7.1).
fn append_chunk(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(format!("{length:x}\r\n").as_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}
