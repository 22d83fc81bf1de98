//! Framing on the socket: chunks of HTTP/1.1 (RFC 9112 §7.1) and frames of WebSocket (RFC 6455 §5.2). A head says the
//! length of what follows it, so room is left for the usual head, and put right once the length is known.

/// The end of a chunked body (RFC 9112 §7.1), without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// `FIN` and the opcode of a text frame (RFC 6455 §5.2).
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// What a control frame may carry (RFC 6455 §5.5).
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

/// Appends the frames of `frames`, one or more whole unmasked text frames of lines as [`frame_text`] and
/// [`Format::Frame`](crate::Format::Frame) make them, each with `"sub":<sub>,` put before its line's first member.
/// `sub` is raw JSON: a subscription's id as the client wrote it.
pub fn tag_line(sub: &str, frames: &[u8], out: &mut Vec<u8>) {
    const PREFIX: &[u8] = b"{\"sub\":";
    let mut rest = frames;
    while let Some((line, following)) = split_frame(rest) {
        // The line's brace makes way for the prefix and a comma.
        let members = line.get(1..).unwrap_or_default();
        let len = PREFIX.len() + sub.len() + 1 + members.len();
        let (head, head_len) = frame_head(len);
        out.reserve(head_len + len);
        out.extend_from_slice(&head[..head_len]);
        out.extend_from_slice(PREFIX);
        out.extend_from_slice(sub.as_bytes());
        out.push(b',');
        out.extend_from_slice(members);
        rest = following;
    }
    debug_assert!(rest.is_empty(), "whole frames");
}

/// Appends what `write` appends, as one text frame.
pub(crate) fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_ROOM]);
    write(out);
    let (head, len) = frame_head(out.len() - start - FRAME_ROOM);
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

/// A text frame's head, and how many bytes of it count.
fn frame_head(len: usize) -> ([u8; 10], usize) {
    let mut head = [0; 10];
    head[0] = TEXT;
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

/// The payload of the first frame, and what follows it; `None` if there is no whole frame.
fn split_frame(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, len) = match *frames.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(frames.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(frames.get(2..10)?.try_into().ok()?)).ok()?),
        len => (2, usize::from(len)),
    };
    let end = len.checked_add(head)?;
    Some((frames.get(head..end)?, frames.get(end..)?))
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
            let (first, rest) = split_frame(&out[6..]).unwrap();
            assert_eq!(first, payload, "{len}");
            assert_eq!(rest, b"\x81\x05after", "{len}");
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
            tag_line("17", &frames, &mut out);
            assert!(out == expect, "{len}");
        }
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
