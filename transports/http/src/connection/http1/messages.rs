//! The messages that stand in some bytes, by the same rules as the driver reads them: for tests and for fuzzing, which
//! hold what is read as a whole against what is read in parts.

use bytes::{Buf, Bytes};

use super::{
    decoder::BodyDecoder,
    head::{self, Framing},
    refusal::Refusal,
};

/// One thing that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A request: its line, its fields, and the body.
    Request {
        line: String,
        fields: Vec<(String, Bytes)>,
        persists: bool,
        body: Vec<u8>,
    },
    Refused(Refusal),
    /// The body of a request is no chunked body. Nothing is known from there on.
    BadBody,
    /// There is more to come: of a head, or of a body of which so much has come.
    Begun(Option<Vec<u8>>),
}

/// Reads messages from parts as they would come, up to what can't be read.
pub(crate) fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Read> {
    let (mut messages, mut received) = (Vec::new(), Bytes::new());
    let mut open: Option<(head::ParsedHead, BodyDecoder, Vec<u8>)> = None;
    for part in parts {
        received = [&received[..], part].concat().into();
        loop {
            let Some((head, mut decoder, mut body)) = open.take() else {
                received.advance(head::blank(&received));
                match head::parse(&received) {
                    Ok(None) => break,
                    Ok(Some((head, length))) => {
                        received.advance(length);
                        let decoder = BodyDecoder::from(head.framing);
                        open = Some((head, decoder, Vec::new()));
                        continue;
                    }
                    Err(refusal) => {
                        messages.push(Read::Refused(refusal));
                        return messages;
                    }
                }
            };
            loop {
                match decoder.next(&mut received) {
                    Ok(Some(piece)) => body.extend_from_slice(&piece),
                    Ok(None) => break,
                    Err(_) => {
                        messages.push(Read::BadBody);
                        return messages;
                    }
                }
            }
            if !decoder.is_at_end() {
                open = Some((head, decoder, body));
                break;
            }
            messages.push(request(&head, body));
        }
    }
    let rest = open.map(|(_, _, body)| body);
    if rest.is_some() || !received.is_empty() {
        messages.push(Read::Begun(rest));
    }
    messages
}

fn request(head: &head::ParsedHead, body: Vec<u8>) -> Read {
    let request = &head.request;
    assert!(matches!(head.framing, Framing::Chunked) || head.framing == Framing::Length(body.len() as u64));
    let fields = request.headers().iter();
    let fields =
        fields.map(|(name, value)| (name.to_string(), Bytes::copy_from_slice(value.as_bytes()))).collect();
    let line = format!("{} {} {:?}", request.method(), request.uri(), request.version());
    Read::Request { line, fields, persists: head.persists, body }
}

/// Holds messages that are read whole against the same in parts, which `cuts` tells: the target of fuzzing.
///
/// # Panics
/// When they differ.
pub(crate) fn check(cuts: &[u8], bytes: &[u8]) {
    let whole = read([bytes]);
    let by_byte = read(bytes.chunks(1));
    let (mut parts, mut rest) = (Vec::new(), bytes);
    for cut in cuts {
        let (part, after) = rest.split_at(rest.len().min(usize::from(*cut)));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    let in_parts = read(parts);
    // A head that is too large is one as soon as that is seen, also before something else is.
    let is_same = |other: &[Read]| whole == other || whole.iter().chain(other).any(is_about_size);
    assert!(is_same(&by_byte), "byte by byte: {by_byte:?}, not {whole:?}");
    assert!(is_same(&in_parts), "in parts: {in_parts:?}, not {whole:?}");
}

fn is_about_size(read: &Read) -> bool {
    *read == Read::Refused(Refusal::HeadTooLarge)
}
