//! The messages of a run: plain ASCII of one size, which passes through every protocol as it is, also through those
//! that escape, and says who sent it, when, and as which of theirs: `@@0000000017.0003.0000000001234567890.xxxx`.

use memchr::memmem::Finder;
use tailwire_load::measure::payload::Stamp;

const MARKER: &[u8] = b"@@";
/// How many digits each number has.
const SEQ: usize = 10;
const FROM: usize = 4;
const AT: usize = 19;

/// The least size: the marker, the numbers, and a dot behind each.
pub(crate) const SIZE_MIN: usize = MARKER.len() + SEQ + FROM + AT + 3;
/// More publishers than this have no number of their own.
pub(crate) const PUBLISHERS_MAX: usize = 9_999;

pub(crate) fn write(out: &mut Vec<u8>, mark: Stamp, size: usize) {
    let Stamp { seq, from, at } = mark;
    let start = out.len();
    out.extend_from_slice(format!("@@{seq:0SEQ$}.{from:0FROM$}.{at:0AT$}.").as_bytes());
    out.resize(start + size, b'x');
}

/// Looks for whole payloads in what a server sends, whatever stands between them.
pub(crate) struct PlainScanner {
    marker: Finder<'static>,
    size: usize,
}

impl PlainScanner {
    pub(crate) fn new(size: usize) -> PlainScanner {
        PlainScanner { marker: Finder::new(MARKER), size }
    }

    /// Answers how many bytes can be forgotten; the others come again, with more after them.
    pub(crate) fn scan(&self, bytes: &[u8], mut found: impl FnMut(Stamp)) -> usize {
        let mut at = 0;
        while let Some(start) = self.marker.find(&bytes[at..]).map(|start| at + start) {
            let Some(whole) = bytes.get(start..start + self.size) else {
                return start;
            };
            match parse(whole) {
                Some(mark) => {
                    found(mark);
                    at = start + self.size;
                }
                None => at = start + 1,
            }
        }
        let begun = at < bytes.len() && bytes.ends_with(&MARKER[..1]);
        bytes.len() - usize::from(begun)
    }
}

fn parse(bytes: &[u8]) -> Option<Stamp> {
    let mut rest = bytes.strip_prefix(MARKER)?;
    let mut number = |digits: usize| {
        let (text, after) = rest.split_at_checked(digits)?;
        rest = after.strip_prefix(b".")?;
        let digit = |sum: u64, &byte: &u8| {
            byte.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')))
        };
        text.iter().try_fold(0, digit)
    };
    Some(Stamp { seq: number(SEQ)? as u32, from: number(FROM)? as u32, at: number(AT)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: [Stamp; 2] =
        [Stamp { seq: 17, from: 3, at: 99 }, Stamp { seq: u32::MAX, from: 9_999, at: 1 << 60 }];

    #[test]
    fn payloads_are_found_whatever_the_cut() {
        for size in [SIZE_MIN, 128] {
            let scanner = PlainScanner::new(size);
            let mut bytes = b"id: me@@home\ndata: ".to_vec();
            for mark in MARKS {
                write(&mut bytes, mark, size);
                bytes.extend_from_slice(b"\n\ndata: ");
            }
            for cut in 0..=bytes.len() {
                let mut marks = Vec::new();
                let used = scanner.scan(&bytes[..cut], |mark| marks.push(mark));
                scanner.scan(&bytes[used..], |mark| marks.push(mark));
                assert_eq!(marks, MARKS, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_payload_has_its_size() {
        let mut out = Vec::new();
        write(&mut out, MARKS[1], 200);
        assert_eq!(out.len(), 200);
    }
}
