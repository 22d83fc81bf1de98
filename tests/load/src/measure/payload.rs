//! The messages of a run: JSON of an exact size, which says who sent it, when, as which of theirs, and in which run.
//!
//! The fields that the scanner reads come first and without blanks, so that it never looks at the padding, which follows the
//! run's id: `{"seq":17,"from":3,"at":1234567890,"run":"k3f0a9xxxx"}`.

/// Begins every payload, and nothing else that a server sends.
pub(crate) const MARKER: &[u8] = br#"{"seq":"#;
pub(crate) const FROM: &[u8] = br#","from":"#;
pub(crate) const AT: &[u8] = br#","at":"#;
pub(crate) const RUN: &[u8] = br#","run":""#;
const END: &[u8] = br#""}"#;

/// The least size: room for the longest numbers.
pub(crate) const SIZE_MIN: usize = 64;
/// The largest: what the broker takes.
pub(crate) const SIZE_MAX: usize = 1 << 20;

/// Tells the messages of one run from those of another on the same topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunId([u8; RunId::BYTES]);

impl RunId {
    /// As many as the least size has room for.
    pub(crate) const BYTES: usize = 6;
    /// For messages that one run stores and another one reads.
    pub(crate) const SHARED: RunId = RunId(*b"stored");

    pub(crate) fn random() -> RunId {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
        let random = uuid::Uuid::new_v4();
        RunId(std::array::from_fn(|at| DIGITS[usize::from(random.as_bytes()[at] % 32)]))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The fields of a payload beside its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Counts one publisher's messages from 0.
    pub seq: u32,
    /// The publisher.
    pub from: u32,
    /// When it was sent, by the run's clock, in nanoseconds.
    pub at: u64,
}

/// Appends a payload of exactly `size` bytes, if that is at least [`SIZE_MIN`].
pub(crate) fn append(out: &mut Vec<u8>, run: RunId, mark: Stamp, size: usize) {
    let start = out.len();
    out.extend_from_slice(MARKER);
    append_decimal(out, u64::from(mark.seq));
    out.extend_from_slice(FROM);
    append_decimal(out, u64::from(mark.from));
    out.extend_from_slice(AT);
    append_decimal(out, mark.at);
    out.extend_from_slice(RUN);
    out.extend_from_slice(run.as_bytes());
    let pad = size.saturating_sub(out.len() - start + END.len());
    out.resize(out.len() + pad, b'x');
    out.extend_from_slice(END);
}

/// Appends a number's digits.
pub(crate) fn append_decimal(out: &mut Vec<u8>, mut number: u64) {
    // As many digits as a u64 can have.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_exactly_its_size() {
        for size in [SIZE_MIN + 20, 128, 1000] {
            for mark in [
                Stamp { seq: 0, from: 0, at: 0 },
                Stamp { seq: 1234, from: 15, at: 98_765_432_101 },
                Stamp { seq: u32::MAX, from: 99_999, at: 3_600_000_000_000 },
            ] {
                let mut out = b"before".to_vec();
                append(&mut out, RunId::SHARED, mark, size);
                assert_eq!(out.len(), 6 + size);
                let json: serde_json::Value = serde_json::from_slice(&out[6..]).unwrap();
                assert_eq!(json["seq"], mark.seq);
                assert_eq!(json["from"], mark.from);
                assert_eq!(json["at"], mark.at);
                assert!(json["run"].as_str().unwrap().starts_with("stored"));
            }
        }
    }

    #[test]
    fn the_least_size_has_room_for_the_longest_numbers_of_a_run() {
        let mut out = Vec::new();
        let mark = Stamp { seq: u32::MAX, from: 9_999, at: 9_999_999_999_999 };
        append(&mut out, RunId::random(), mark, SIZE_MIN);
        assert_eq!(out.len(), SIZE_MIN, "{}", String::from_utf8_lossy(&out));
    }
}
