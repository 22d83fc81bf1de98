//! WebSocket frames (RFC 6455 §5.2): those that a client sends, those that a server sends, and the walk over the latter.

/// Opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// Opcode of a binary frame.
pub const BINARY: u8 = 0x2;
/// Opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub const PING: u8 = 0x9;
/// Opcode of a pong.
pub const PONG: u8 = 0xa;

/// The mask of every frame: any will do (§5.3 wants it unpredictable for browsers' sake), but not zero, because undoing
/// that might cost a server less than usual.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// A server's frame is never longer than its largest page.
const FRAME_BYTES_MAX: u64 = 16 << 20;

/// Appends a whole masked frame, as a client sends it; `payload` appends the payload.
pub fn append_masked(out: &mut Vec<u8>, opcode: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    // Most payloads here take two bytes for their length; the few others are moved.
    const USUAL_HEADER: usize = 8;
    let start = out.len();
    out.resize(start + USUAL_HEADER, 0);
    payload(out);
    let length = out.len() - start - USUAL_HEADER;
    for (at, byte) in out[start + USUAL_HEADER..].iter_mut().enumerate() {
        *byte ^= MASK[at % 4];
    }
    let mut header = Vec::with_capacity(14);
    append_header(&mut header, opcode, MASKED, length);
    header.extend_from_slice(&MASK);
    out.splice(start..start + USUAL_HEADER, header);
}

/// Appends a whole frame without a mask, as a server sends it; its payload is all parts together.
pub fn append_unmasked(out: &mut Vec<u8>, opcode: u8, parts: &[&[u8]]) {
    append_header(out, opcode, 0, parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn append_header(out: &mut Vec<u8>, opcode: u8, mask_bit: u8, length: usize) {
    out.push(FINAL | opcode);
    match length {
        0..126 => out.push(mask_bit | length as u8),
        126..0x1_0000 => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// A frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerFrame<'a> {
    /// Its opcode.
    pub opcode: u8,
    /// Its payload.
    pub payload: &'a [u8],
    /// The length of the whole frame in bytes.
    pub length: usize,
}

/// Bytes that no server may send.
#[derive(Debug, PartialEq, Eq)]
pub struct MalformedFrame;

/// The frame at the start of `bytes`; `None` if it isn't all there.
///
/// # Errors
/// If no server may send it.
pub fn first(bytes: &[u8]) -> Result<Option<ServerFrame<'_>>, MalformedFrame> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    // A server never masks (§5.1), and negotiated no extension that could use the reserved bits.
    if second & MASKED != 0 || first & 0x70 != 0 {
        return Err(MalformedFrame);
    }
    let (header, length) = match second {
        126 => match bytes.get(2..4) {
            Some(length) => (4, u64::from(length[0]) << 8 | u64::from(length[1])),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(length) => (10, length.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    if length > FRAME_BYTES_MAX {
        return Err(MalformedFrame);
    }
    let end = header + length as usize;
    let frame = |payload| ServerFrame { opcode: first & 0x0f, payload, length: end };
    Ok(bytes.get(header..end).map(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 6] = [0, 4, 125, 126, 65_535, 65_536];

    #[test]
    fn a_servers_frame_is_taken_once_it_is_whole() {
        for length in LENGTHS {
            let payload = vec![b'x'; length];
            let mut bytes = Vec::new();
            append_unmasked(&mut bytes, BINARY, &[&payload[..length / 2], &payload[length / 2..]]);
            let whole = ServerFrame { opcode: BINARY, payload: &payload, length: bytes.len() };
            assert_eq!(first(&bytes[..bytes.len() - 1]), Ok(None));
            bytes.push(b'y');
            assert_eq!(first(&bytes), Ok(Some(whole)));
        }
    }

    #[test]
    fn a_clients_frame_is_masked() {
        for length in LENGTHS {
            let payload = vec![b'x'; length];
            let (mut masked, mut plain) = (b"before".to_vec(), Vec::new());
            append_masked(&mut masked, TEXT, |out| out.extend_from_slice(&payload));
            append_unmasked(&mut plain, TEXT, &[&payload]);
            let header = plain.len() - length;
            assert_eq!((masked[6], masked[7]), (plain[0], plain[1] | MASKED));
            assert_eq!(masked[8..6 + header], plain[2..header]);
            let (mask, coded) = masked[6 + header..].split_at(4);
            let decoded: Vec<u8> =
                coded.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(decoded, payload);
        }
    }

    #[test]
    fn frames_that_no_server_may_send_are_refused() {
        let masked = [0x81, 0x81, 0, 0, 0, 0, b'x'];
        let reserved = [0xc1, 0x01, b'x'];
        let huge = [0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0];
        for bytes in [&masked[..], &reserved, &huge] {
            assert_eq!(first(bytes), Err(MalformedFrame));
        }
    }
}
