//! The head of an HTTP/1.1 reply, as much of it as a load generator needs.

use std::ops::Range;

/// A head that is longer is no server's that we know.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A reply's status line and the headers that matter here.
#[derive(Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// The status code.
    pub status: u16,
    /// How many bytes the head takes, its empty line included.
    pub length: usize,
    /// The body's length; none if it is chunked or ends with the connection.
    pub body: Option<usize>,
    /// Where the value of `Tailwire-Cursor` stands.
    pub cursor: Option<Range<usize>>,
    /// Where the value of `Sec-WebSocket-Accept` stands.
    pub accept: Option<Range<usize>>,
    /// The server closes the connection after this reply.
    pub close: bool,
}

/// Bytes that are no head.
#[derive(Debug, PartialEq, Eq)]
pub struct MalformedReply;

/// Reads the head at the start of `bytes`; `None` if it isn't all there.
///
/// # Errors
/// If it is no head.
pub fn head(bytes: &[u8]) -> Result<Option<ReplyHead>, MalformedReply> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(MalformedReply) } else { Ok(None) };
    };
    let digits = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or(MalformedReply)?;
    let status = number(digits).ok_or(MalformedReply)? as u16;
    // These have no body (RFC 9112 §6.3), whatever their headers say.
    let bodiless = matches!(status, 100..=199 | 204 | 304);
    let mut head = ReplyHead {
        status,
        length: end + 4,
        body: bodiless.then_some(0),
        cursor: None,
        accept: None,
        close: false,
    };
    let mut at = memchr::memmem::find(bytes, b"\r\n").unwrap_or(end) + 2;
    while at < end {
        let line_end = memchr::memmem::find(&bytes[at..end], b"\r\n").map_or(end, |length| at + length);
        let line = &bytes[at..line_end];
        if let Some(colon) = memchr::memchr(b':', line) {
            let blank = line[colon + 1..].iter().take_while(|&&byte| byte == b' ').count();
            let value = at + colon + 1 + blank..line_end;
            // Lengths tell most names apart, so that few are compared.
            match (colon, &line[..colon]) {
                (14, name) if name.eq_ignore_ascii_case(b"content-length") && !bodiless => {
                    head.body = Some(number(&bytes[value]).ok_or(MalformedReply)?);
                }
                (15, name) if name.eq_ignore_ascii_case(b"tailwire-cursor") => head.cursor = Some(value),
                (20, name) if name.eq_ignore_ascii_case(b"sec-websocket-accept") => head.accept = Some(value),
                (10, name) if name.eq_ignore_ascii_case(b"connection") => {
                    head.close = bytes[value].eq_ignore_ascii_case(b"close");
                }
                _ => {}
            }
        }
        at = line_end + 2;
    }
    Ok(Some(head))
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let bytes =
            b"HTTP/1.1 202 Accepted\r\nTailwire-Cursor:  abc\r\nx: y\r\ncontent-length: 12\r\n\r\nbody";
        for cut in 0..bytes.len() - 4 {
            assert_eq!(head(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let head = head(bytes).unwrap().unwrap();
        assert_eq!(
            (head.status, head.length, head.body, head.close),
            (202, bytes.len() - 4, Some(12), false)
        );
        assert_eq!(&bytes[head.cursor.unwrap()], b"abc");
    }

    #[test]
    fn an_endless_reply_has_no_length_and_a_bodiless_one_has_none_to_read() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        let endless = head(bytes).unwrap().unwrap();
        assert_eq!((endless.body, endless.close), (None, true));
        let bytes = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x=\r\n\r\n";
        let upgraded = head(bytes).unwrap().unwrap();
        assert_eq!(upgraded.body, Some(0));
        assert_eq!(&bytes[upgraded.accept.unwrap()], b"x=");
    }

    #[test]
    fn what_is_no_head_is_refused() {
        assert_eq!(head(b"SSH-2.0-server\r\n\r\n"), Err(MalformedReply));
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), Err(MalformedReply));
        assert_eq!(head(&[b'x'; HEAD_BYTES_MAX + 1]), Err(MalformedReply));
    }
}
