//! The rules of HTTP/1.1 as tables, and requests that are read whole against the same in parts.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::Version;

use super::{
    head::{self, Framing, ParsedHead},
    messages::{self, Read},
    refusal::Refusal,
};

fn parse(text: &str) -> Result<Option<(ParsedHead, usize)>, Refusal> {
    head::parse(&Bytes::copy_from_slice(text.as_bytes()))
}

fn head_of(lines: &str) -> Result<ParsedHead, Refusal> {
    let text = format!("{}\r\n\r\n", lines.replace('\n', "\r\n"));
    let length = text.len();
    parse(&text).map(|parsed| {
        let (head, bytes) = parsed.unwrap_or_else(|| panic!("only begun: {text}"));
        assert_eq!(bytes, length);
        head
    })
}

fn is_malformed(lines: &str) -> bool {
    matches!(head_of(lines), Err(Refusal::Malformed(_)))
}

#[test]
fn a_head_is_a_line_and_fields() {
    let head = head_of("GET /topics/a?wait=25 HTTP/1.1\nHost: a:1\nACCEPT: */*\naccept: b").unwrap();
    assert_eq!((head.request.method().as_str(), head.request.version()), ("GET", Version::HTTP_11));
    assert_eq!((head.request.uri().path(), head.request.uri().query()), ("/topics/a", Some("wait=25")));
    let accepts: Vec<_> = head.request.headers().get_all("accept").iter().collect();
    assert_eq!(accepts, ["*/*", "b"]);
    assert_eq!((head.framing, head.persists, head.expects_continue), (Framing::Length(0), true, false));
    for begun in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        assert!(parse(begun).unwrap().is_none(), "{begun:?}");
    }
    assert!(head_of(&format!("GET / HTTP/1.1{}", "\nX: y".repeat(100))).is_ok());
    assert_eq!(
        head_of(&format!("GET / HTTP/1.1{}", "\nX: y".repeat(101))).unwrap_err(),
        Refusal::HeadTooLarge
    );
    let large = |bytes: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(bytes - 23));
    assert!(parse(&large(16 << 10)).unwrap().is_some());
    assert_eq!(parse(&large((16 << 10) + 1)).unwrap_err(), Refusal::HeadTooLarge);
    assert_eq!(parse(&large(20 << 10)[..18 << 10]).unwrap_err(), Refusal::HeadTooLarge);
}

#[test]
fn a_target_has_one_of_four_forms() {
    for line in [
        "GET / ",
        "GET /a?b=/c?d ",
        "GET http://a.example/b ",
        "GET HTTP://a:1/b ",
        "OPTIONS * ",
        "CONNECT a:1 ",
    ] {
        assert!(head_of(&format!("{line}HTTP/1.1")).is_ok(), "{line}");
    }
    for line in [
        "GET * ",
        "GET a ",
        "GET a:1 ",
        "CONNECT /a ",
        "CONNECT http://a/ ",
        "GET ftp://a/ ",
        "OPTIONS ** ",
        "GET http:/a ",
        "GET  / ",
    ] {
        assert!(is_malformed(&format!("{line}HTTP/1.1")), "{line}");
    }
}

#[test]
fn what_is_no_head_of_ours_is_refused() {
    for lines in [
        "GET / HTTP/1.1\nHost : a",
        "GET / HTTP/1.1\nHost: a\n folded",
        "GET / HTTP/1.1\n: a",
        "GET / HTTP/1.1\nX: a\u{0}b",
        "GET / HTTP/1.1\nX",
        "GET /",
        "GET / HTTP/1",
        "GET / HTTPS/1.1",
        "G(T / HTTP/1.1",
        "\u{16}\u{3}\u{1}",
    ] {
        assert!(is_malformed(lines), "{lines:?}");
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/9.9"] {
        assert_eq!(head_of(&format!("GET / {version}\nHost: a")).unwrap_err(), Refusal::Version, "{version}");
    }
}

#[test]
fn the_end_of_a_body_is_known_or_the_request_refused() {
    let framing = |fields: &str| head_of(&format!("POST / HTTP/1.1\n{fields}")).map(|head| head.framing);
    assert_eq!(framing("Content-Length: 0"), Ok(Framing::Length(0)));
    assert_eq!(framing("Content-Length: 007"), Ok(Framing::Length(7)));
    assert_eq!(framing("Content-Length: 18446744073709551615"), Ok(Framing::Length(u64::MAX)));
    for wrong in ["", "+1", "-1", "1, 1", "1 1", "0x1", "1.0", "18446744073709551616", "\u{b2}"] {
        assert!(is_malformed(&format!("POST / HTTP/1.1\nContent-Length: {wrong}")), "{wrong:?}");
    }
    assert!(is_malformed("POST / HTTP/1.1\nContent-Length: 1\nContent-Length: 1"));
    assert_eq!(framing("Transfer-Encoding: chunked"), Ok(Framing::Chunked));
    assert_eq!(framing("transfer-encoding:  CHUNKED "), Ok(Framing::Chunked));
    for unknown in
        ["gzip", "x, chunked", "gzip, chunked", "gzip\nTransfer-Encoding: chunked", "identity", "chunked;a=b"]
    {
        assert_eq!(
            framing(&format!("Transfer-Encoding: {unknown}")),
            Err(Refusal::TransferCoding),
            "{unknown}"
        );
    }
    for unsafe_ in [
        "chunked, chunked",
        "chunked\nTransfer-Encoding: chunked",
        "chunked, gzip",
        "chunked,",
        ", chunked",
        "",
        ",",
        "chunked\nContent-Length: 1",
    ] {
        assert!(is_malformed(&format!("POST / HTTP/1.1\nTransfer-Encoding: {unsafe_}")), "{unsafe_}");
    }
    assert!(is_malformed("POST / HTTP/1.0\nTransfer-Encoding: chunked"));
}

#[test]
fn a_connection_persists_as_version_and_fields_say() {
    let persists =
        |version: &str, fields: &str| head_of(&format!("GET / HTTP/{version}{fields}")).unwrap().persists;
    assert!(persists("1.1", "") && !persists("1.0", ""));
    assert!(persists("1.0", "\nConnection: Keep-Alive") && persists("1.1", "\nConnection: upgrade, x"));
    for closes in
        ["\nConnection: close", "\nConnection: x, Close", "\nConnection: keep-alive\nConnection: close"]
    {
        assert!(!persists("1.1", closes) && !persists("1.0", closes), "{closes}");
    }
}

#[test]
fn only_who_has_a_body_waits_to_be_told_to_send_it() {
    let expects = |version: &str, fields: &str| {
        head_of(&format!("POST / HTTP/{version}\nExpect: 100-Continue{fields}")).unwrap().expects_continue
    };
    assert!(expects("1.1", "\nContent-Length: 1") && expects("1.1", "\nTransfer-Encoding: chunked"));
    assert!(
        !expects("1.1", "")
            && !expects("1.1", "\nContent-Length: 0")
            && !expects("1.0", "\nContent-Length: 1")
    );
}

#[test]
fn messages_are_the_same_however_they_are_cut() {
    let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\nHost: a\n\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\none\r\n0\r\nA: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfour",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost",
        "\u{16}\u{3}\u{1}\r\n",
    ];
    // In pairs, so that bytes behind are known from bytes before.
    for first in requests {
        for second in requests {
            let text = format!("{first}{second}");
            messages::check(&[7, 1, 31], text.as_bytes());
        }
    }
    let Read::Request { body, .. } = &messages::read([requests[3].as_bytes()])[0] else {
        panic!("no request")
    };
    assert_eq!(body, b"one");
}
