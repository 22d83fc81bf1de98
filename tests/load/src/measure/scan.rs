//! Finding the payloads in what a server sends, as cheaply as can be: no JSON, no copy, no allocation.
//!
//! A WebSocket is walked from frame header to frame header. The other transports have a text framing (chunks,
//! events, lines, a page) that needn't be understood, since a payload's marker stands nowhere else. Both take any cut
//! of the bytes and say how many they have used; what is left comes again, with more after it.

use memchr::memmem::Finder;

use crate::client::frames::{self, CLOSE, MalformedFrame, PING, PONG};
use crate::measure::payload::{AT, FROM, MARKER, RUN, RunId, SIZE_MIN, Stamp};

/// One finding of a scan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scanned<'a> {
    /// A message of this run.
    Message(Stamp),
    /// A message of another run.
    Foreign,
    /// Something else: a welcome, a heartbeat, a gap.
    Other(&'a [u8]),
    /// A ping, to be answered with the same bytes.
    Ping(&'a [u8]),
    /// The server closes.
    Close,
}

/// Looks for the payloads of a run; made once, used for every read.
#[derive(Debug, Clone)]
pub(crate) struct StampScanner {
    marker: Finder<'static>,
    run: RunId,
}

impl StampScanner {
    pub(crate) fn new(run: RunId) -> StampScanner {
        StampScanner { marker: Finder::new(MARKER), run }
    }

    /// Walks the whole frames (RFC 6455 §5.2) at the start of `bytes`; answers how many bytes they take.
    pub(crate) fn frames(
        &self,
        bytes: &[u8],
        mut found: impl FnMut(Scanned<'_>),
    ) -> Result<usize, MalformedFrame> {
        let mut at = 0;
        while let Some(frames::ServerFrame { opcode, payload, length }) = frames::first(&bytes[at..])? {
            match opcode {
                CLOSE => found(Scanned::Close),
                PING => found(Scanned::Ping(payload)),
                PONG => {}
                _ => match self.marker.find(payload).map(|start| self.mark(&payload[start..])) {
                    None => found(Scanned::Other(payload)),
                    Some(Some((message, _))) => found(message),
                    // The frame is whole, so this is a message of another program.
                    Some(None) => found(Scanned::Foreign),
                },
            }
            at += length;
        }
        Ok(at)
    }

    /// Finds the payloads in `bytes`, whatever stands between them; answers how many bytes can be forgotten.
    pub(crate) fn marks(&self, bytes: &[u8], mut found: impl FnMut(Scanned<'_>)) -> usize {
        let mut at = 0;
        while let Some(start) = self.marker.find(&bytes[at..]).map(|start| at + start) {
            match self.mark(&bytes[start..]) {
                Some((message, length)) => {
                    found(message);
                    at = start + length;
                }
                // A payload's numbers fit its least size: this is a message of another program.
                None if bytes.len() - start >= SIZE_MIN => {
                    found(Scanned::Foreign);
                    at = start + MARKER.len();
                }
                None => return start,
            }
        }
        let rest = &bytes[at..];
        let begun = (1..MARKER.len()).rev().find(|&length| rest.ends_with(&MARKER[..length])).unwrap_or(0);
        // Only a read without any message is worth a second look, so a busy stream pays nothing for it.
        if at == 0 && !rest.is_empty() {
            found(Scanned::Other(rest));
        }
        bytes.len() - begun
    }

    /// Reads a payload's numbers and its run, and how far they reach, if all of them are there.
    fn mark(&self, bytes: &[u8]) -> Option<(Scanned<'static>, usize)> {
        let mut at = MARKER.len();
        let seq = decimal(bytes, &mut at)?;
        skip(bytes, &mut at, FROM)?;
        let from = decimal(bytes, &mut at)?;
        skip(bytes, &mut at, AT)?;
        let sent = decimal(bytes, &mut at)?;
        skip(bytes, &mut at, RUN)?;
        let run = bytes.get(at..at + RunId::BYTES)?;
        at += RunId::BYTES;
        let ours = run == self.run.as_bytes();
        let mark = Stamp { seq: seq as u32, from: from as u32, at: sent };
        Some((if ours { Scanned::Message(mark) } else { Scanned::Foreign }, at))
    }
}

/// A number, if what ends it is there too.
fn decimal(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number: u64 = 0;
    loop {
        let digit = bytes.get(*at)?.wrapping_sub(b'0');
        if digit > 9 {
            return Some(number);
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        *at += 1;
    }
}

fn skip(bytes: &[u8], at: &mut usize, what: &[u8]) -> Option<()> {
    let end = *at + what.len();
    (bytes.get(*at..end)? == what).then(|| *at = end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::payload;

    const RUN_ID: RunId = RunId::SHARED;
    const MARKS: [Stamp; 3] = [
        Stamp { seq: 0, from: 0, at: 7 },
        Stamp { seq: 9, from: 12, at: 1_234_567_890 },
        Stamp { seq: 4_000_000_000, from: 3, at: 60_000_000_000 },
    ];

    fn line(mark: Stamp, size: usize) -> Vec<u8> {
        let mut line =
            br#"{"kind":"message","cursor":"00000abc-00000000017","topic":"bench/x","data":"#.to_vec();
        payload::append(&mut line, RUN_ID, mark, size);
        line.push(b'}');
        line
    }

    fn frame_of(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        frames::append_unmasked(&mut frame, opcode, &[payload]);
        frame
    }

    /// Feeds `bytes` in two parts, as a socket may give them, and collects the messages.
    fn feed(bytes: &[u8], cut: usize, mut scan: impl FnMut(&[u8], &mut Vec<Stamp>) -> usize) -> Vec<Stamp> {
        let mut marks = Vec::new();
        let used = scan(&bytes[..cut], &mut marks);
        assert!(used <= cut);
        let used = used + scan(&bytes[used..], &mut marks);
        assert!(used <= bytes.len());
        marks
    }

    fn collect(marks: &mut Vec<Stamp>) -> impl FnMut(Scanned<'_>) {
        |found| {
            if let Scanned::Message(mark) = found {
                marks.push(mark);
            }
        }
    }

    #[test]
    fn frames_are_found_whatever_the_cut() {
        let scanner = StampScanner::new(RUN_ID);
        let mut bytes = frame_of(1, br#"{"kind":"welcome"}"#);
        bytes.extend(frame_of(1, &line(MARKS[0], 100)));
        bytes.extend(frame_of(9, b"are you there"));
        bytes.extend(frame_of(1, &line(MARKS[1], 300)));
        bytes.extend(frame_of(1, br#"{"kind":"heartbeat"}"#));
        bytes.extend(frame_of(1, &line(MARKS[2], 70_000)));
        for cut in (0..1000).chain(bytes.len() - 100..=bytes.len()) {
            let found = feed(&bytes, cut, |part, marks| scanner.frames(part, collect(marks)).unwrap());
            assert_eq!(found, MARKS, "cut at {cut}");
        }
    }

    #[test]
    fn marks_are_found_whatever_the_cut_and_the_framing() {
        let scanner = StampScanner::new(RUN_ID);
        let mut bytes = b"retry: 1000\n\nid: 00000abc-00000000000\n\n".to_vec();
        for mark in MARKS {
            bytes.extend(b"e4\r\nid: 00000abc-00000000017\ndata: ");
            payload::append(&mut bytes, RUN_ID, mark, 128);
            bytes.extend(b"\n\n\r\n");
        }
        for cut in 0..=bytes.len() {
            let found = feed(&bytes, cut, |part, marks| scanner.marks(part, collect(marks)));
            assert_eq!(found, MARKS, "cut at {cut}");
        }
    }

    #[test]
    fn marks_keep_only_what_may_begin_a_payload() {
        let scanner = StampScanner::new(RUN_ID);
        assert_eq!(scanner.marks(b"{\"kind\":\"heartbeat\"}\n", |_| ()), 21);
        assert_eq!(scanner.marks(b"abc{\"se", |_| ()), 3);
        assert_eq!(scanner.marks(b"abc{\"seq\":12", |_| ()), 3);
        assert_eq!(scanner.marks(b"abc{", |_| ()), 3);
        assert_eq!(scanner.marks(b"", |_| ()), 0);
        let foreign = format!("{{\"seq\":1,\"of\":\"another program\"}}{}", " ".repeat(60));
        assert_eq!(scanner.marks(foreign.as_bytes(), |_| ()), foreign.len());
    }

    #[test]
    fn what_is_no_message_is_shown() {
        let scanner = StampScanner::new(RUN_ID);
        let mut bytes = frame_of(1, b"hello");
        bytes.extend(frame_of(9, b"ping"));
        bytes.extend(frame_of(8, b""));
        let mut count = 0;
        scanner
            .frames(&bytes, |found| {
                let expected = [Scanned::Other(b"hello"), Scanned::Ping(b"ping"), Scanned::Close];
                assert_eq!(found, expected[count]);
                count += 1;
            })
            .unwrap();
        assert_eq!(count, 3);
        let mut seen = false;
        scanner.marks(b"{\"kind\":\"gap\"}\n", |found| {
            assert_eq!(found, Scanned::Other(b"{\"kind\":\"gap\"}\n"));
            seen = true;
        });
        assert!(seen);
    }

    #[test]
    fn messages_of_other_runs_and_programs_are_told_apart() {
        let scanner = StampScanner::new(RunId::random());
        let found = |bytes: &[u8]| {
            let (mut in_frame, mut in_text) = (Vec::new(), Vec::new());
            scanner.frames(&frame_of(1, bytes), |one| in_frame.push(one == Scanned::Foreign)).unwrap();
            scanner.marks(bytes, |one| in_text.push(one == Scanned::Foreign));
            assert_eq!(in_frame, in_text);
            in_frame
        };
        assert_eq!(found(&line(MARKS[0], 100)), [true]);
        let other_program = format!(r#"{{"seq":1,"other":2,"pad":"{}"}}"#, "x".repeat(SIZE_MIN));
        assert_eq!(found(other_program.as_bytes()), [true]);
        assert_eq!(found(&[b'x'; 100]), [false]);
    }
}
