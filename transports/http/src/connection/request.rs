//! Requests that are read without hyper: those of HTTP/1.1 that came whole, on a connection that stays open, with nothing
//! about them that wants a thought. Whatever else a request may be is hyper's, and so is one that is wrong: this refuses
//! nothing.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, Uri, header},
};
use bytes::{Buf, Bytes};

/// Headers of a plain request; browsers send some twenty.
const HEADERS_MAX: usize = 32;
/// What says of a request that there is more to it than a head and the bytes behind it, or of its connection that it is not
/// just to stay (RFC 9110 §7.8, §10.1.1, §10.1.4; RFC 9112 §6.1, §9.6).
const NOT_PLAIN: [HeaderName; 5] =
    [header::CONNECTION, header::EXPECT, header::TE, header::TRANSFER_ENCODING, header::UPGRADE];

/// Takes the request with which `received` begins; `None` if that is not a plain one, and then nothing is taken.
pub(crate) fn take(received: &mut Bytes) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(head_bytes)) = head.parse(received) else { return None };
    let (method, has_body) = match head.method? {
        "GET" => (Method::GET, false),
        "DELETE" => (Method::DELETE, false),
        "POST" => (Method::POST, true),
        "PUT" => (Method::PUT, true),
        _ => return None,
    };
    let target = head.path.filter(|target| target.starts_with('/') && head.version == Some(1))?;
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_maybe_shared(received.slice_ref(target.as_bytes())).ok()?;
    request.headers_mut().reserve(head.headers.len());
    let mut body_bytes = None;
    for field in head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(received.slice_ref(field.value)).ok()?;
        let stays = name == header::CONNECTION && value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
        if NOT_PLAIN.contains(&name) && !stays {
            return None;
        }
        if name == header::CONTENT_LENGTH && body_bytes.replace(length(&value)?).is_some() {
            return None;
        }
        request.headers_mut().append(name, value);
    }
    if body_bytes.is_some() != has_body {
        return None;
    }
    if let Some(body_bytes) = body_bytes {
        let body = received.get(head_bytes..)?.get(..body_bytes)?;
        *request.body_mut() = Body::from(received.slice_ref(body));
    }
    received.advance(head_bytes + body_bytes.unwrap_or(0));
    Some(request)
}

/// A length as everybody writes it: some digits (RFC 9110 §8.6).
fn length(value: &HeaderValue) -> Option<usize> {
    let digits = value.to_str().ok()?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::http::Version;
    use http_body_util::BodyExt;

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

    #[tokio::test]
    async fn takes_a_body_that_is_there() {
        for (length, body) in [("0", ""), ("3", "one"), ("003", "one")] {
            let text =
                format!("POST /topics/a HTTP/1.1\r\nHost: a\r\ncontent-length: {length}\r\n\r\n{body}");
            let (request, rest) = taken(&format!("{text}POST"));
            let request = request.unwrap();
            assert_eq!(request.method(), Method::POST);
            assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), body);
            assert_eq!(rest, "POST");
        }
    }

    #[test]
    fn leaves_every_other_one_as_it_is() {
        let heads = [
            "GET / HTTP/1.0\r\nHost: a",
            "HEAD / HTTP/1.1\r\nHost: a",
            "OPTIONS / HTTP/1.1\r\nHost: a",
            "get / HTTP/1.1\r\nHost: a",
            "GET http://a/ HTTP/1.1\r\nHost: a",
            "GET * HTTP/1.1\r\nHost: a",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket",
            "GET / HTTP/1.1\r\nHost : a",
            "GET / HTTP/1.1\r\nHost: a\r\n folded",
            "POST / HTTP/1.1\r\nHost: a",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99",
            "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1",
        ];
        let heads = heads.map(|head| format!("{head}\r\n\r\n1"));
        let begun = ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
        for text in heads.iter().map(String::as_str).chain(begun) {
            let (request, rest) = taken(text);
            assert!(request.is_none(), "{text}");
            assert_eq!(rest, text.as_bytes());
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert!(taken(&many).0.is_none());
    }
}
