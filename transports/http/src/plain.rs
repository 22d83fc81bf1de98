//! Requests that are read without hyper: those that are as plain as a poll is, a `GET` of HTTP/1.1 without a body, on a
//! connection that stays open. Whatever else a request may be is hyper's, and so is one that is not whole, or wrong: this
//! refuses nothing, and decides nothing.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Uri, header},
};
use bytes::{Buf, Bytes};

/// Headers of a plain request; browsers send some twenty.
const HEADERS_MAX: usize = 32;
/// What says of a request that there is more to it than its head, or that its connection is not just to stay (RFC 9110
/// §7.8, §10.1.1; RFC 9112 §6, §9.6).
const NOT_PLAIN: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes the request with which `received` begins; `None` if that is not a plain one, and then nothing is taken.
pub(crate) fn take(received: &mut Bytes) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(received) else { return None };
    let target = head.path.filter(|target| target.starts_with('/'))?;
    if (head.method, head.version) != (Some("GET"), Some(1)) {
        return None;
    }
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_maybe_shared(received.slice_ref(target.as_bytes())).ok()?;
    request.headers_mut().reserve(head.headers.len());
    for field in head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(received.slice_ref(field.value)).ok()?;
        let stays = name == header::CONNECTION && value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
        if NOT_PLAIN.contains(&name) && !stays {
            return None;
        }
        request.headers_mut().append(name, value);
    }
    received.advance(length);
    Some(request)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::http::{Method, Version};

    use super::*;

    fn taken(text: &str) -> (Option<Request>, Bytes) {
        let mut received = Bytes::copy_from_slice(text.as_bytes());
        let request = take(&mut received);
        (request, received)
    }

    #[test]
    fn takes_one_plain_request() {
        let poll = "GET /topics/a?wait=25&after=x HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\nconnection: Keep-Alive\r\n\r\n";
        let (request, rest) = taken(&format!("{poll}GET / HT"));
        let request = request.unwrap();
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_11));
        assert_eq!((request.uri().path(), request.uri().query()), ("/topics/a", Some("wait=25&after=x")));
        assert_eq!(request.headers().len(), 3);
        assert_eq!(request.headers()[header::HOST], "a:1");
        assert_eq!(rest, "GET / HT");
    }

    #[test]
    fn leaves_every_other_one_as_it_is() {
        let others = [
            "",
            "GET / HT",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "get / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ];
        for text in others {
            let (request, rest) = taken(text);
            assert!(request.is_none(), "{text}");
            assert_eq!(rest, text.as_bytes());
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert!(taken(&many).0.is_none());
    }
}
