//! The chunked transfer coding (RFC 9112 §7.1), decoded as it comes. Pure. It is read strictly: a bare line feed, blanks
//! around a size, or anything else that an intermediary might read otherwise is an error and never mended.

use bytes::{Buf, Bytes};

/// Bytes of extensions and trailer fields of one body, all together. Nobody needs any; without a bound they would be a body
/// beside the body.
const ASIDE_BYTES_MAX: usize = 16 << 10;
/// Hexadecimal digits of a size: more than any length that is taken, and no overflow.
const DIGITS_MAX: u8 = 15;

/// The decoder of one body.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: ChunkedState,
    /// The bytes that are left of the chunk; while its size is being read, that.
    left: u64,
    /// Extensions and trailer fields so far.
    aside: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkedState {
    /// In a size, of so many digits so far.
    Size(u8),
    Extension,
    /// Behind the carriage return that ends a size's line.
    SizeEnd,
    Data,
    /// Behind a chunk's data: a carriage return, and then a line feed.
    DataEnd,
    DataEndLine,
    /// At the beginning of a line behind the last chunk.
    Trailer,
    TrailerField,
    TrailerFieldEnd,
    /// Behind the carriage return of the empty line.
    LastLine,
    End,
}

/// A body that is no chunked coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadChunk;

impl Default for Chunked {
    fn default() -> Self {
        Self { state: ChunkedState::Size(0), left: 0, aside: 0 }
    }
}

impl Chunked {
    /// Whether the body's end has been read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.state == ChunkedState::End
    }

    /// Takes from `received` up to some data, which is given; to the end of the body; or all that is there.
    ///
    /// # Errors
    /// When that is no chunked body.
    pub(crate) fn next(&mut self, received: &mut Bytes) -> Result<Option<Bytes>, BadChunk> {
        while self.state != ChunkedState::End {
            if self.state == ChunkedState::Data {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(received.len());
                if count == 0 {
                    return Ok(None);
                }
                self.left -= count as u64;
                if self.left == 0 {
                    self.state = ChunkedState::DataEnd;
                }
                return Ok(Some(received.split_to(count)));
            }
            let Some(&byte) = received.first() else { return Ok(None) };
            received.advance(1);
            self.state = self.step(byte)?;
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) -> Result<ChunkedState, BadChunk> {
        Ok(match (self.state, byte) {
            (ChunkedState::Size(digits), _) if byte.is_ascii_hexdigit() && digits < DIGITS_MAX => {
                let digit = (byte as char).to_digit(16).ok_or(BadChunk)?;
                self.left = self.left << 4 | u64::from(digit);
                ChunkedState::Size(digits + 1)
            }
            (ChunkedState::Size(1..), b'\r') | (ChunkedState::Extension, b'\r') => ChunkedState::SizeEnd,
            (ChunkedState::Size(1..), b';') => self.aside(ChunkedState::Extension)?,
            (ChunkedState::Extension, _) if is_text(byte) => self.aside(ChunkedState::Extension)?,
            (ChunkedState::SizeEnd, b'\n') if self.left == 0 => ChunkedState::Trailer,
            (ChunkedState::SizeEnd, b'\n') => ChunkedState::Data,
            (ChunkedState::DataEnd, b'\r') => ChunkedState::DataEndLine,
            (ChunkedState::DataEndLine, b'\n') => ChunkedState::Size(0),
            (ChunkedState::Trailer, b'\r') => ChunkedState::LastLine,
            (ChunkedState::Trailer | ChunkedState::TrailerField, _) if is_text(byte) => {
                self.aside(ChunkedState::TrailerField)?
            }
            (ChunkedState::TrailerField, b'\r') => ChunkedState::TrailerFieldEnd,
            (ChunkedState::TrailerFieldEnd, b'\n') => ChunkedState::Trailer,
            (ChunkedState::LastLine, b'\n') => ChunkedState::End,
            _ => return Err(BadChunk),
        })
    }

    fn aside(&mut self, state: ChunkedState) -> Result<ChunkedState, BadChunk> {
        self.aside += 1;
        if self.aside > ASIDE_BYTES_MAX { Err(BadChunk) } else { Ok(state) }
    }
}

const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, and what is left behind it; `None` where it has no end yet.
    fn decode(text: &str, piece: usize) -> Result<Option<(String, String)>, BadChunk> {
        let (mut decoder, mut body, mut rest) = (Chunked::default(), Vec::new(), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            let mut received = Bytes::copy_from_slice(piece);
            while let Some(data) = decoder.next(&mut received)? {
                body.extend_from_slice(&data);
            }
            rest.extend_from_slice(&received);
        }
        let all = (String::from_utf8_lossy(&body).into_owned(), String::from_utf8_lossy(&rest).into_owned());
        Ok(decoder.is_at_end().then_some(all))
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let check = |text: &str, expect: Result<Option<(&str, &str)>, BadChunk>| {
            for piece in 1..=text.len() {
                let decoded = decode(text, piece);
                let seen = decoded.as_ref().map(|body| body.as_ref().map(|(a, b)| (a.as_str(), b.as_str())));
                assert_eq!(seen.map_err(|error| *error), expect, "{text:?} in {piece}s");
            }
        };
        check("0\r\n\r\n", Ok(Some(("", ""))));
        check("1\r\na\r\n0\r\n\r\nGET", Ok(Some(("a", "GET"))));
        check("1;x=\"y\"\r\na\r\n00A\r\n0123456789\r\n0;z\r\n\r\n", Ok(Some(("a0123456789", ""))));
        check("3\r\n\r\n1\r\n000\r\nExpires: 1\r\nB:\r\n\r\nx", Ok(Some(("\r\n1", "x"))));
        check("2\r\na", Ok(None));
        check("0\r\n", Ok(None));
        check("0\r\nA: b\r\n", Ok(None));
        for wrong in [
            "\r\n",
            ";x\r\n",
            " 1\r\na\r\n",
            "1 \r\na\r\n",
            "1\na\n0\n\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "+1\r\na\r\n",
            "-1\r\na\r\n",
            "0x1\r\na\r\n",
            "g\r\n",
            "1;x\n\r\na",
            "1;\u{0}\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\n\n",
            "1000000000000000\r\n",
            "fffffffffffffffff\r\n",
        ] {
            check(wrong, Err(BadChunk));
        }
    }

    #[test]
    fn what_stands_beside_the_body_has_a_bound() {
        let extensions = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(20);
        assert_eq!(decode(&extensions, 4096), Err(BadChunk));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(5000));
        assert_eq!(decode(&trailers, 4096), Err(BadChunk));
    }
}
