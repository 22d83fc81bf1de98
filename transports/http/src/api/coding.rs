//! Content codings of request bodies (RFC 9110 §8.4): taken off within the bound that holds for the body, which is measured
//! after decoding, and without more in memory than that.

use std::io::{self, BufRead, BufReader, Read};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::{
    bufread::{DeflateDecoder, ZlibDecoder},
    read::MultiGzDecoder,
};
use tailwire_wire::{Code, Problem};

/// The codings that can be decoded, as `Accept-Encoding` says it with a refusal (RFC 9110 §15.5.16).
pub(crate) const ACCEPTED: &str = "gzip, deflate, br, zstd";
/// Codings of one body: each has a window of memory.
const CODINGS_MAX: usize = 3;
/// Of brotli and zstd: 2^23 bytes, the window that receivers of the zstd coding have to take (RFC 9659 §3).
const WINDOW_BITS: u32 = 23;

/// A coding that can be taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyCoding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The codings of a body, in the order in which they were put on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Codings(Vec<BodyCoding>);

impl Codings {
    /// Reads `Content-Encoding`, which is a list, also over several lines.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut codings = Vec::new();
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let Ok(value) = value.to_str() else { return Err(unknown("it is not ASCII")) };
            for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                codings.push(match &*name.to_ascii_lowercase() {
                    "identity" => continue,
                    "gzip" | "x-gzip" => BodyCoding::Gzip,
                    "deflate" => BodyCoding::Deflate,
                    "br" => BodyCoding::Brotli,
                    "zstd" => BodyCoding::Zstd,
                    _ => return Err(unknown(&format!("`{}` is not known", cut(name)))),
                });
            }
        }
        if codings.len() > CODINGS_MAX {
            return Err(unknown(&format!("there are more than {CODINGS_MAX}")));
        }
        Ok(Self(codings))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes them off, the last first.
    ///
    /// # Errors
    /// 413 where the content has more bytes than it may; 400 where a body isn't what its coding says.
    pub(crate) fn decode(&self, body: &Bytes, bytes_max: usize) -> Result<Bytes, Problem> {
        let mut content = Vec::new();
        let mut reader: Box<dyn Read + '_> = Box::new(&body[..]);
        for coding in self.0.iter().rev() {
            reader = coding.reader(reader).map_err(|error| malformed(&error))?;
        }
        reader.take(bytes_max as u64 + 1).read_to_end(&mut content).map_err(|error| malformed(&error))?;
        if content.len() > bytes_max {
            let detail = format!("The body has more than {bytes_max} bytes, decoded.");
            return Err(Problem::detailed(Code::BodyTooLarge, detail));
        }
        Ok(content.into())
    }
}

impl BodyCoding {
    fn reader<'a>(self, coded: Box<dyn Read + 'a>) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(coded)),
            Self::Deflate => deflate(coded)?,
            Self::Brotli => Box::new(Whole {
                decoder: brotli::Decompressor::new(coded, 4096),
                // Read behind its end, the decoder fails where its buffer has more.
                has_more: |it| Ok(it.read(&mut [0]).is_err() || it.get_mut().read(&mut [0])? > 0),
            }),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(coded)?;
                decoder.window_log_max(WINDOW_BITS)?;
                Box::new(decoder)
            }
        })
    }
}

/// `deflate` is the zlib format (RFC 9110 §8.4.1.2), and some senders leave its wrapper out.
fn deflate<'a>(mut coded: Box<dyn Read + 'a>) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = [0; 2];
    let mut count = 0;
    while count < head.len() {
        match coded.read(&mut head[count..])? {
            0 => break,
            more => count += more,
        }
    }
    let is_zlib = count == 2 && head[0] & 0x0f == 8 && u16::from_be_bytes(head) % 31 == 0;
    let coded = BufReader::new(io::Cursor::new(head[..count].to_vec()).chain(coded));
    Ok(if is_zlib {
        let has_more = |it: &mut ZlibDecoder<_>| Ok(!BufRead::fill_buf(it.get_mut())?.is_empty());
        Box::new(Whole { decoder: ZlibDecoder::new(coded), has_more })
    } else {
        let has_more = |it: &mut DeflateDecoder<_>| Ok(!BufRead::fill_buf(it.get_mut())?.is_empty());
        Box::new(Whole { decoder: DeflateDecoder::new(coded), has_more })
    })
}

/// Content of a coding that doesn't go on behind its end: bytes that follow there would be lost without a word.
struct Whole<D> {
    decoder: D,
    has_more: fn(&mut D) -> io::Result<bool>,
}

impl<D: Read> Read for Whole<D> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(out)?;
        if count == 0 && !out.is_empty() && (self.has_more)(&mut self.decoder)? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes follow its end"));
        }
        Ok(count)
    }
}

fn cut(name: &str) -> &str {
    name.get(..40).unwrap_or(name)
}

fn unknown(why: &str) -> Problem {
    let detail = format!("Of the Content-Encoding {why}. A body may be coded by {ACCEPTED}.");
    Problem::detailed(Code::CodingUnknown, detail)
}

fn malformed(error: &io::Error) -> Problem {
    Problem::detailed(
        Code::RequestInvalid,
        format!("The body is not what its Content-Encoding says: {error}."),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::HeaderValue;

    use super::*;

    fn coded(coding: &str, content: &[u8]) -> Vec<u8> {
        use flate2::{Compression, write};
        let fast = Compression::fast();
        match coding {
            "gzip" => {
                let mut encoder = write::GzEncoder::new(Vec::new(), fast);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            "deflate" => {
                let mut encoder = write::ZlibEncoder::new(Vec::new(), fast);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            "raw" => {
                let mut encoder = write::DeflateEncoder::new(Vec::new(), fast);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            "br" => {
                let mut out = Vec::new();
                let mut writer = brotli::CompressorWriter::new(&mut out, 4096, 1, 20);
                writer.write_all(content).unwrap();
                drop(writer);
                out
            }
            "zstd" => zstd::stream::encode_all(content, 1).unwrap(),
            other => panic!("{other}"),
        }
    }

    fn codings(values: &[&str]) -> Result<Codings, Problem> {
        let lines = values.iter().map(|value| HeaderValue::from_str(value).unwrap());
        Codings::of(&lines.map(|value| (header::CONTENT_ENCODING, value)).collect())
    }

    #[test]
    fn each_coding_and_a_list_of_them_is_taken_off() {
        let content = "twice and again, ".repeat(100).into_bytes();
        for name in ["gzip", "deflate", "br", "zstd"] {
            let body = coded(name, &content).into();
            let all = [vec![name], vec!["identity", name], vec!["", name]];
            for values in all {
                assert_eq!(codings(&values).unwrap().decode(&body, 10_000).unwrap(), content, "{name}");
            }
            let twice = coded("gzip", &coded(name, &content)).into();
            let list = format!("{name} ,GZIP");
            assert_eq!(codings(&[&list]).unwrap().decode(&twice, 10_000).unwrap(), content, "{list}");
            assert_eq!(codings(&[name, "x-gzip"]).unwrap().decode(&twice, 10_000).unwrap(), content);
        }
        let body = coded("raw", &content).into();
        assert_eq!(
            codings(&["deflate"]).unwrap().decode(&body, 10_000).unwrap(),
            content,
            "without zlib's wrapper"
        );
        assert!(codings(&[]).unwrap().is_none() && codings(&["identity"]).unwrap().is_none());
    }

    #[test]
    fn what_grows_beyond_the_bound_is_not_decoded_further() {
        let bomb = vec![0; 64 << 20];
        for name in ["gzip", "deflate", "br", "zstd"] {
            let body: Bytes = coded(name, &bomb).into();
            assert!(body.len() < 1 << 20);
            let refused = codings(&[name]).unwrap().decode(&body, 1 << 20).unwrap_err();
            assert_eq!(refused.code, Code::BodyTooLarge, "{name}");
            let exact = coded(name, &bomb[..1000]).into();
            assert_eq!(codings(&[name]).unwrap().decode(&exact, 1000).unwrap().len(), 1000);
            assert!(codings(&[name]).unwrap().decode(&exact, 999).is_err());
        }
    }

    #[test]
    fn what_is_cut_or_no_coding_is_refused() {
        for name in ["gzip", "deflate", "br", "zstd"] {
            let whole = coded(name, "content that is long enough to be cut".as_bytes());
            for body in [&whole[..whole.len() - 3], &whole[..2], b"plain text, not coded", b""] {
                let refused = codings(&[name]).unwrap().decode(&Bytes::copy_from_slice(body), 1000);
                assert_eq!(refused.unwrap_err().code, Code::RequestInvalid, "{name} {body:?}");
            }
        }
        for name in ["gzip", "deflate", "raw", "br", "zstd"] {
            let coding = if name == "raw" { "deflate" } else { name };
            for content in [vec![b'a'; 50], (0..200_000u32).flat_map(u32::to_le_bytes).collect()] {
                let more = [coded(name, &content), b"more".to_vec()].concat().into();
                let refused = codings(&[coding]).unwrap().decode(&more, 1 << 20);
                assert_eq!(
                    refused.unwrap_err().code,
                    Code::RequestInvalid,
                    "{name} with more behind its end"
                );
            }
        }
        for unknown in ["compress", "aws-chunked", "gzip, nonsense", "gzip, gzip, gzip, gzip"] {
            assert_eq!(codings(&[unknown]).unwrap_err().code, Code::CodingUnknown, "{unknown}");
        }
    }
}
