//! As much of HTTP/2 as one endless response takes (RFC 9113, with prior knowledge). Its payloads come in DATA frames that
//! are as long as the server likes, so that none is cut in two; the client's windows are as large as they can be.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 0x5;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The connection's default window (§6.9.2).
const WINDOW_DEFAULT: u32 = 65_535;
const FRAME_MAX: u32 = (1 << 24) - 1;

/// A connection's beginning, and a `GET` on its first stream.
pub(super) fn get(path: &str, accept: &str) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    let mut settings = Vec::new();
    for (name, value) in [(INITIAL_WINDOW_SIZE, WINDOW_MAX), (MAX_FRAME_SIZE, FRAME_MAX)] {
        settings.extend_from_slice(&name.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    frame(&mut out, SETTINGS, 0, 0, &settings);
    frame(&mut out, WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - WINDOW_DEFAULT).to_be_bytes());
    // `:method: GET` and `:scheme: http` stand in the static table (RFC 7541, appendix A); the others name an entry of
    // it, and bring a value of their own that is not to be indexed (§6.2.2).
    let mut headers = vec![0x82, 0x86];
    for (name, value) in [(&[0x01][..], "127.0.0.1"), (&[0x04], path), (&[0x0f, 19 - 15], accept)] {
        headers.extend_from_slice(name);
        // Shorter than the 127 bytes from which a length takes more than one.
        headers.push(value.len() as u8);
        headers.extend_from_slice(value.as_bytes());
    }
    frame(&mut out, HEADERS, WHOLE, 1, &headers);
    out
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other_without_a_hole() {
        let bytes = get("/topics/t", "text/event-stream");
        let mut at = PREFACE.len();
        let mut kinds = Vec::new();
        while at < bytes.len() {
            let length = u32::from_be_bytes([0, bytes[at], bytes[at + 1], bytes[at + 2]]) as usize;
            kinds.push(bytes[at + 3]);
            at += 9 + length;
        }
        assert_eq!((at, kinds), (bytes.len(), vec![SETTINGS, WINDOW_UPDATE, HEADERS]));
    }
}
