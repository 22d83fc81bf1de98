//! The cases, by the suite's sections.

use super::peer::{Frame, Peer, Running, frame, server};

const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;

fn echo(server: &Running) -> Peer {
    Peer::open(server, "/stream", "echo")
}

/// The answer to these bytes, up to the answer to a close that follows them.
fn answers(server: &Running, sent: &[&[u8]]) -> Vec<Frame> {
    let mut peer = echo(server);
    sent.iter().for_each(|bytes| peer.raw(bytes));
    peer.send(CLOSE, true, &1000_u16.to_be_bytes());
    peer.rest()
}

fn closed(code: u16) -> Frame {
    Frame::new(CLOSE, &code.to_be_bytes())
}

/// The frames before the connection was failed with this code.
fn failed(server: &Running, sent: &[&[u8]], code: u16) -> Vec<Frame> {
    let mut peer = echo(server);
    sent.iter().for_each(|bytes| peer.raw(bytes));
    let mut frames = peer.rest();
    let last = frames.pop().unwrap();
    assert_eq!((last.opcode, &last.payload[..2]), (CLOSE, &code.to_be_bytes()[..]), "{sent:?}");
    frames
}

#[test]
fn section_1_messages_of_every_length_come_back() {
    let server = server();
    for opcode in [TEXT, BINARY] {
        for len in [0, 125, 126, 127, 128, 65_535, 65_536] {
            let payload = vec![if opcode == TEXT { b'*' } else { 0xfe }; len];
            let sent = frame(FINAL | opcode, &payload);
            assert_eq!(answers(&server, &[&sent]), [Frame::new(opcode, &payload), closed(1000)], "{len}");
        }
        let payload = vec![b'*'; 65_536];
        let mut peer = echo(&server);
        peer.chopped(&frame(FINAL | opcode, &payload), 997);
        assert_eq!(peer.frames(1), [Frame::new(opcode, &payload)]);
    }
}

#[test]
fn section_2_pings_are_answered_and_pongs_are_not() {
    let server = server();
    for payload in [&b""[..], b"Hello, world!", &[0, 255, 254, 253, 252, 251, 0, 255], &[0xfe; 125]] {
        let sent = frame(FINAL | PING, payload);
        assert_eq!(answers(&server, &[&sent]), [Frame::new(PONG, payload), closed(1000)]);
    }
    failed(&server, &[&frame(FINAL | PING, &[0xfe; 126])], 1002);
    let mut peer = echo(&server);
    peer.chopped(&frame(FINAL | PING, &[0xfe; 125]), 1);
    assert_eq!(peer.frames(1), [Frame::new(PONG, &[0xfe; 125])]);
    // Unsolicited pongs, and a ping behind them.
    let pong = frame(FINAL | PONG, b"unsolicited");
    let ping = frame(FINAL | PING, b"ping");
    assert_eq!(answers(&server, &[&pong, &pong, &ping]), [Frame::new(PONG, b"ping"), closed(1000)]);
    let mut peer = echo(&server);
    let expected: Vec<_> = (0..10_u8).map(|index| Frame::new(PONG, &[index])).collect();
    (0..10_u8).for_each(|index| peer.send(PING, true, &[index]));
    assert_eq!(peer.frames(10), expected);
}

#[test]
fn section_3_reserved_bits_fail_the_connection() {
    let server = server();
    let hello = frame(FINAL | TEXT, b"Hello");
    for bits in 1..8_u8 {
        let first = FINAL | (bits << 4);
        let before =
            failed(&server, &[&hello, &frame(first | TEXT, b"Hello"), &frame(FINAL | PING, b"")], 1002);
        assert_eq!(before, [Frame::new(TEXT, b"Hello")], "{bits}");
        failed(&server, &[&frame(first | BINARY, &[0; 8])], 1002);
        failed(&server, &[&frame(first | PING, b"Hello")], 1002);
        failed(&server, &[&frame(first | CLOSE, b"")], 1002);
    }
}

#[test]
fn section_4_reserved_opcodes_fail_the_connection() {
    let server = server();
    let hello = frame(FINAL | TEXT, b"Hello");
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        failed(&server, &[&frame(FINAL | opcode, b"")], 1002);
        let before = failed(&server, &[&hello, &frame(FINAL | opcode, b"payload"), &hello], 1002);
        assert_eq!(before, [Frame::new(TEXT, b"Hello")], "{opcode}");
    }
}

#[test]
fn section_5_fragments_are_joined_and_control_frames_come_between() {
    let server = server();
    for opcode in [PING, PONG] {
        failed(&server, &[&frame(opcode, b"frag"), &frame(FINAL | CONTINUE, b"ment")], 1002);
    }
    let (begin, end) = (frame(TEXT, b"frag"), frame(FINAL | CONTINUE, b"ment"));
    let joined = Frame::new(TEXT, b"fragment");
    assert_eq!(answers(&server, &[&begin, &end]), [joined.clone(), closed(1000)]);
    let ping = frame(FINAL | PING, b"ping");
    let expected = [Frame::new(PONG, b"ping"), joined.clone(), closed(1000)];
    assert_eq!(answers(&server, &[&begin, &ping, &end]), expected);
    let mut peer = echo(&server);
    peer.chopped(&[&begin[..], &ping, &end].concat(), 1);
    assert_eq!(peer.frames(2), expected[..2]);
    // A continuation of nothing, whole or not, and also behind a whole message.
    for first in [CONTINUE, FINAL | CONTINUE] {
        failed(&server, &[&frame(first, b"non-continuation"), &frame(FINAL | TEXT, b"Hello")], 1002);
        let before = failed(&server, &[&begin, &end, &frame(first, b"again")], 1002);
        assert_eq!(before, std::slice::from_ref(&joined));
    }
    // A message within another.
    failed(&server, &[&begin, &frame(FINAL | TEXT, b"other")], 1002);
    failed(&server, &[&begin, &frame(TEXT, b"other"), &end], 1002);
    failed(&server, &[&begin, &frame(FINAL | BINARY, b"other")], 1002);
    // Many parts, and pings of their own between them.
    let mut peer = echo(&server);
    peer.send(BINARY, false, b"fragment1");
    for index in 2..=4_u8 {
        peer.send(CONTINUE, false, format!("fragment{index}").as_bytes());
        peer.send(PING, true, &[index]);
    }
    peer.send(CONTINUE, true, b"fragment5");
    let frames = peer.frames(4);
    assert_eq!(frames[..3], [2, 3, 4].map(|index| Frame::new(PONG, &[index])));
    assert_eq!(frames[3], Frame::new(BINARY, b"fragment1fragment2fragment3fragment4fragment5"));
    // Empty ones.
    let empty = [frame(TEXT, b""), frame(CONTINUE, b""), frame(FINAL | CONTINUE, b"")];
    assert_eq!(answers(&server, &[&empty[0], &empty[1], &empty[2]]), [Frame::new(TEXT, b""), closed(1000)]);
    let middle = frame(CONTINUE, b"middle");
    let expected = [Frame::new(TEXT, b"middle"), closed(1000)];
    assert_eq!(answers(&server, &[&empty[0], &middle, &empty[2]]), expected);
}

#[test]
fn section_6_text_is_utf8_however_it_is_split() {
    let server = server();
    let greek = "κόσμε, Hello-µ@ßöäüàá-UTF-8!!";
    let valid = [
        greek,
        "",
        "\u{0}",
        "\u{7f}",
        "\u{80}",
        "\u{7ff}",
        "\u{800}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{fffd}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{10000}",
        "\u{3ffff}",
        "\u{fffff}",
        "\u{10ffff}",
        "\u{1f680}",
    ];
    for text in valid {
        let expected = [Frame::new(TEXT, text.as_bytes()), closed(1000)];
        assert_eq!(answers(&server, &[&frame(FINAL | TEXT, text.as_bytes())]), expected, "{text}");
        // In fragments of a byte each, which begin and end within characters.
        let mut sent = frame(TEXT, b"");
        text.bytes().for_each(|byte| sent.extend(frame(CONTINUE, &[byte])));
        sent.extend(frame(FINAL | CONTINUE, b""));
        assert_eq!(answers(&server, &[&sent]), expected, "{text}");
    }
    let invalid: [&[u8]; 20] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\x80",
        b"\xbf",
        b"\x80\xbf\x80",
        b"\xc0 ",
        b"\xdf ",
        b"\xe0 ",
        b"\xf0 ",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xf4\x90\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xfe",
        b"\xff",
        b"\xce",
    ];
    for bytes in invalid {
        failed(&server, &[&frame(FINAL | TEXT, bytes)], 1007);
        let mut sent = frame(TEXT, b"");
        bytes.iter().for_each(|byte| sent.extend(frame(CONTINUE, &[*byte])));
        sent.extend(frame(FINAL | CONTINUE, b""));
        failed(&server, &[&sent], 1007);
        let expected = [Frame::new(BINARY, bytes), closed(1000)];
        assert_eq!(answers(&server, &[&frame(FINAL | BINARY, bytes)]), expected, "data is anything");
    }
    // Found out by the fragment that it is in: nothing more has to come.
    failed(&server, &[&frame(TEXT, b"\xce\xba\xe1\xbd\xb9"), &frame(CONTINUE, b"\xf4\x90\x80\x80")], 1007);
}

#[test]
fn section_7_closing_is_answered_by_its_code() {
    let server = server();
    let hello = frame(FINAL | TEXT, b"Hello");
    assert_eq!(answers(&server, &[&hello]), [Frame::new(TEXT, b"Hello"), closed(1000)]);
    // Nothing behind a close counts: another one, a ping, a text, the rest of a message.
    let close = frame(FINAL | CLOSE, &1000_u16.to_be_bytes());
    for behind in [&close, &frame(FINAL | PING, b"ping"), &hello] {
        let mut peer = echo(&server);
        peer.raw(&[&close[..], behind].concat());
        assert_eq!(peer.rest(), [closed(1000)]);
    }
    let mut peer = echo(&server);
    peer.raw(&[&frame(TEXT, b"frag")[..], &close, &frame(FINAL | CONTINUE, b"ment")].concat());
    assert_eq!(peer.rest(), [closed(1000)]);
    // Payloads of every kind.
    let mut peer = echo(&server);
    peer.send(CLOSE, true, b"");
    assert_eq!(peer.rest(), [Frame::new(CLOSE, b"")]);
    failed(&server, &[&frame(FINAL | CLOSE, b"a")], 1002);
    for reason in ["Hello World!".to_owned(), "*".repeat(123)] {
        let payload = [&1000_u16.to_be_bytes()[..], reason.as_bytes()].concat();
        let mut peer = echo(&server);
        peer.send(CLOSE, true, &payload);
        assert_eq!(peer.close_code(), 1000);
    }
    failed(&server, &[&frame(FINAL | CLOSE, &[&1000_u16.to_be_bytes()[..], &[b'*'; 124]].concat())], 1002);
    failed(
        &server,
        &[&frame(FINAL | CLOSE, b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80")],
        1007,
    );
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999_u16]
    {
        let mut peer = echo(&server);
        peer.send(CLOSE, true, &code.to_be_bytes());
        assert_eq!(peer.close_code(), code);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        failed(&server, &[&frame(FINAL | CLOSE, &code.to_be_bytes())], 1002);
    }
}

#[test]
fn sections_9_and_10_large_messages_and_many_small_ones() {
    let server = server();
    for opcode in [TEXT, BINARY] {
        for len in [64 << 10, 256 << 10, 1 << 20] {
            let payload = vec![b'*'; len];
            let mut peer = echo(&server);
            peer.send(opcode, true, &payload);
            assert!(peer.frames(1) == [Frame::new(opcode, &payload)], "{len}");
            for size in [1300, 16 << 10, 64 << 10] {
                peer.send(opcode, false, b"");
                payload.chunks(size).for_each(|part| peer.send(CONTINUE, false, part));
                peer.send(CONTINUE, true, b"");
                assert!(peer.frames(1) == [Frame::new(opcode, &payload)], "{len} in {size}");
            }
            peer.chopped(&frame(FINAL | opcode, &payload), 2048);
            assert!(peer.frames(1) == [Frame::new(opcode, &payload)], "{len} chopped");
        }
        let mut peer = echo(&server);
        for index in 0..1000_u32 {
            let text = index.to_string();
            peer.send(opcode, true, text.as_bytes());
            assert_eq!(peer.frames(1), [Frame::new(opcode, text.as_bytes())]);
        }
    }
    let mut peer = echo(&server);
    peer.send(TEXT, true, &vec![b'*'; (2 << 20) + 1]);
    assert_eq!(peer.close_code(), 1009, "longer than a line may be");
}
