//! What goes over the wire: requests as they come in, frames as they go out.

/// What a subscriber reads; each has its own framing and so its own log.
#[derive(Clone, Copy)]
pub(crate) enum Format {
    WebSocket,
    Sse,
    Ndjson,
}

/// One whole request at the start of the bytes.
pub(crate) struct Request<'a> {
    head: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) length: usize,
}

impl<'a> Request<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Request<'a>> {
        let head_length = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_length]).unwrap_or_default();
        let mut request = Request { head, body: &[], length: head_length };
        let body_length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        request.length += body_length;
        request.body = bytes.get(head_length..request.length)?;
        Some(request)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn subscribes(&self) -> Option<Format> {
        if !self.head.starts_with("GET ") {
            return None;
        }
        if self.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            return Some(Format::WebSocket);
        }
        match self.header("accept") {
            Some("text/event-stream") => Some(Format::Sse),
            Some("application/x-ndjson") => Some(Format::Ndjson),
            _ => None,
        }
    }
}

const CURSOR: &str = "000000-0000000000000";
const LINE_START: &[u8] = br#"{"kind":"message","cursor":"000000-0000000000000","topic":"bench","time":"2026-01-01T00:00:00.000Z","type":"application/json","data":"#;

pub(crate) fn stream_head(content_type: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n")
        .into_bytes()
}

pub(crate) fn append_websocket(log: &mut Vec<u8>, data: &[u8]) {
    append_frame(log, &[LINE_START, data, b"}"]);
}

pub(crate) fn append_sse(log: &mut Vec<u8>, data: &[u8]) {
    append_chunk(log, &[b"id: ", CURSOR.as_bytes(), b"\ndata: ", data, b"\n\n"]);
}

pub(crate) fn append_ndjson(log: &mut Vec<u8>, data: &[u8]) {
    append_chunk(log, &[LINE_START, data, b"}\n"]);
}

/// A text frame (RFC 6455 §5.2).
pub(crate) fn append_frame(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(0x81);
    match length {
        0..126 => out.push(length as u8),
        126..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A chunk (RFC 9112 §7.1).
fn append_chunk(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(format!("{length:x}\r\n").as_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}
