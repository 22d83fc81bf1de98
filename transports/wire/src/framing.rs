//! Framing on the socket: chunks of HTTP/1.1 (RFC 9112 §7.1) and frames of WebSocket (RFC 6455 §5.2). A head says the
//! length of what follows it, so room is left for the usual head, and put right once the length is known.

/// The end of a chunked body (RFC 9112 §7.1), without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// `FIN` and the opcode of a text frame (RFC 6455 §5.2).
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// The most bytes of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 125;
/// The head of a frame of 126 to 65,535 bytes, which is what lines have.
const FRAME_ROOM: usize = 4;
/// The head of a chunk of 256 to 4,095 bytes.
const CHUNK_ROOM: usize = 5;

/// Appends `data` as one chunk (RFC 9112 §7.1); nothing for no data, since an empty chunk ends the body.
pub fn chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        chunked(out, |out| out.extend_from_slice(data));
    }
}

/// Appends a line, without its line break, as one unmasked text frame (RFC 6455 §5.2).
pub fn frame_text(line: &[u8], out: &mut Vec<u8>) {
    framed(out, |out| out.extend_from_slice(line));
}

/// Appends data as one unmasked binary frame (RFC 6455 §5.2).
pub fn frame_binary(data: &[u8], out: &mut Vec<u8>) {
    let (head, len) = frame_head(BINARY, data.len());
    out.extend_from_slice(&head[..len]);
    out.extend_from_slice(data);
}

/// Appends a close frame (RFC 6455 §5.5.1); the reason is cut to what fits, at a character.
pub fn frame_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason[..end];
    out.extend_from_slice(&[CLOSE, (reason.len() + 2) as u8]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a ping frame (RFC 6455 §5.5.2); a payload beyond 125 bytes is cut.
pub fn frame_ping(payload: &[u8], out: &mut Vec<u8>) {
    frame_control(PING, payload, out);
}

/// Appends a pong frame (RFC 6455 §5.5.3); a payload beyond 125 bytes is cut.
pub fn frame_pong(payload: &[u8], out: &mut Vec<u8>) {
    frame_control(PONG, payload, out);
}

/// The frames of `frames`, which are whole and unmasked, one by one.
pub fn frames(mut frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, len) = split_head(frames)?;
        let frame;
        (frame, frames) = frames.split_at_checked(head.checked_add(len)?)?;
        Some(frame)
    })
}

/// Appends a whole unmasked frame with a prefix put before its payload, which `prefix` writes; it answers how many of the
/// payload's first bytes it stands in place of. A rest of the payload that is longer than `copied_max` is not copied
/// behind it, but returned, to follow it.
pub fn prefix_frame<'a>(
    frame: &'a [u8],
    prefix: impl FnOnce(&mut Vec<u8>) -> usize,
    copied_max: usize,
    out: &mut Vec<u8>,
) -> Option<&'a [u8]> {
    let (head, _) = split_head(frame)?;
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_ROOM]);
    let replaced = prefix(out);
    let rest = frame.get(head + replaced..).unwrap_or_default();
    let len = out.len() - start - FRAME_ROOM + rest.len();
    let is_copied = rest.len() <= copied_max;
    if is_copied {
        out.extend_from_slice(rest);
    }
    let (head, head_len) = frame_head(frame[0], len);
    put_head(out, start, FRAME_ROOM, &head[..head_len]);
    (!is_copied).then_some(rest)
}

/// The prefix that names the subscription of a line: it stands in place of the line's brace, before its first member.
/// `sub` is raw JSON: a subscription's id as the client wrote it.
pub fn tag(sub: &str, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(b"{\"sub\":");
    out.extend_from_slice(sub.as_bytes());
    out.push(b',');
    1
}

/// Appends what `write` appends, as one text frame.
pub(crate) fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_ROOM]);
    write(out);
    let (head, len) = frame_head(TEXT, out.len() - start - FRAME_ROOM);
    put_head(out, start, FRAME_ROOM, &head[..len]);
}

/// Appends what `write` appends, which is something, as one chunk.
pub(crate) fn chunked(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; CHUNK_ROOM]);
    write(out);
    let len = out.len() - start - CHUNK_ROOM;
    out.extend_from_slice(b"\r\n");
    let (head, at) = chunk_head(len);
    put_head(out, start, CHUNK_ROOM, &head[at..]);
}

/// An unmasked frame's head, and how many bytes of it count.
fn frame_head(first: u8, len: usize) -> ([u8; 10], usize) {
    let mut head = [0; 10];
    head[0] = first;
    match len {
        0..126 => {
            head[1] = len as u8;
            (head, 2)
        }
        126..0x1_0000 => {
            head[1] = 126;
            head[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            (head, 4)
        }
        _ => {
            head[1] = 127;
            head[2..].copy_from_slice(&(len as u64).to_be_bytes());
            (head, 10)
        }
    }
}

/// A chunk's head, right-aligned, and where it begins.
fn chunk_head(mut len: usize) -> ([u8; 18], usize) {
    let mut head = *b"0000000000000000\r\n";
    let mut at = 16;
    loop {
        at -= 1;
        head[at] = b"0123456789abcdef"[len & 15];
        len >>= 4;
        if len == 0 {
            return (head, at);
        }
    }
}

/// Puts a head into the room left for it at `start`, moving what follows if the room has another size.
fn put_head(out: &mut Vec<u8>, start: usize, room: usize, head: &[u8]) {
    if head.len() < room {
        out.drain(start..start + room - head.len());
    } else if head.len() > room {
        let end = out.len();
        out.resize(end + head.len() - room, 0);
        out.copy_within(start + room..end, start + head.len());
    }
    out[start..start + head.len()].copy_from_slice(head);
}

/// The lengths of the first frame's head and of its payload; `None` if there is no whole head.
fn split_head(frames: &[u8]) -> Option<(usize, usize)> {
    Some(match *frames.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(frames.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(frames.get(2..10)?.try_into().ok()?)).ok()?),
        len => (2, usize::from(len)),
    })
}

fn frame_control(head: u8, payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    out.extend_from_slice(&[head, payload.len() as u8]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_head_keep_what_is_around_them() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; len];
            let mut out = b"before".to_vec();
            frame_text(&payload, &mut out);
            frame_text(b"after", &mut out);
            let split: Vec<_> = frames(&out[6..]).collect();
            assert_eq!(split.len(), 2);
            assert!(split[0].ends_with(&payload) && split[0].len() <= len + 10, "{len}");
            assert_eq!(split[1], b"\x81\x05after", "{len}");
            assert_eq!(out[6], TEXT);
        }
    }

    #[test]
    fn chunks_of_every_head() {
        for len in [1, 15, 16, 255, 256, 4095, 4096, 65_536, 1 << 20] {
            let mut out = b"before".to_vec();
            chunk(&vec![b'x'; len], &mut out);
            let expect = [b"before", format!("{len:x}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat();
            assert!(out == expect, "{len}");
        }
        let mut out = Vec::new();
        chunk(b"", &mut out);
        assert!(out.is_empty(), "an empty chunk would end the body");
    }

    #[test]
    fn tags_every_frame_also_where_the_head_grows() {
        for len in [2, 116, 117, 118, 125, 126, 65_520, 65_530, 65_536] {
            let line = format!("{{{}}}", " ".repeat(len - 2));
            let (mut frames, mut expect, mut out) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..2 {
                frame_text(line.as_bytes(), &mut frames);
                frame_text(format!("{{\"sub\":17,{}", &line[1..]).as_bytes(), &mut expect);
            }
            for frame in super::frames(&frames) {
                assert!(prefix_frame(frame, |out| tag("17", out), usize::MAX, &mut out).is_none());
            }
            assert!(out == expect, "{len}");
        }
    }

    #[test]
    fn a_long_rest_is_left_to_follow_its_prefix() {
        let mut frame = Vec::new();
        frame_binary(&[7; 70_000], &mut frame);
        let mut out = Vec::new();
        let prefix = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"abc");
            0
        };
        let rest = prefix_frame(&frame, prefix, 4096, &mut out).unwrap();
        assert_eq!(rest, [7; 70_000]);
        assert_eq!(out, [&[BINARY, 127][..], &70_003_u64.to_be_bytes(), b"abc"].concat());
    }

    #[test]
    fn control_frames_are_cut_at_a_character() {
        let mut out = Vec::new();
        frame_close(1013, &"é".repeat(80), &mut out);
        assert_eq!((out[0], out[1], out.len()), (CLOSE, 124, 126));
        assert_eq!(&out[2..4], [0x03, 0xf5]);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
        out.clear();
        frame_pong(&[7; 200], &mut out);
        assert_eq!((out[0], out[1], out.len()), (PONG, 125, 127));
        out.clear();
        frame_ping(b"", &mut out);
        assert_eq!(out, [PING, 0]);
    }
}
