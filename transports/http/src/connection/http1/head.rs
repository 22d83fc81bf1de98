//! The head of a request (RFC 9112 §2 to §6, §9.3), over `httparse`: its target, its fields, how its body is framed, and
//! whether the connection outlasts it. Pure: bytes in, a value or a refusal out.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use tailwire_model::limits::{REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX};

use super::refusal::Refusal;

/// How an HTTP/2 connection begins (RFC 9113 §3.4). No request of HTTP/1.1 does: the method is reserved.
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The form of a version: a `0` stands for any digit (RFC 9112 §2.3).
const VERSION: &[u8] = b"HTTP/0.0";
/// Fields that fit without another look; browsers send some twenty.
const FIELDS_USUAL: usize = 32;

/// The head of a request.
#[derive(Debug)]
pub(crate) struct ParsedHead {
    /// Method, target, version and fields.
    pub(crate) request: Request<()>,
    /// How the body is framed.
    pub(crate) framing: Framing,
    /// Whether the client wants the connection to outlast the answer.
    pub(crate) persists: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub(crate) expects_continue: bool,
}

/// How the end of a request's body is known (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By its length; without any field that is 0.
    Length(u64),
    /// By its last chunk.
    Chunked,
}

/// Bytes of empty lines that stand before a request, and are nothing (RFC 9112 §2.2).
pub(crate) fn blank(received: &[u8]) -> usize {
    received.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Parses the head with which `received` begins, and says how many bytes it has; `None` if there is more to come.
///
/// # Errors
/// See [`Refusal`].
pub(crate) fn parse(received: &Bytes) -> Result<Option<(ParsedHead, usize)>, Refusal> {
    match parse_with::<FIELDS_USUAL>(received) {
        Err(Refusal::HeadTooLarge) => parse_with::<REQUEST_HEADERS_MAX>(received),
        parsed => parsed,
    }
}

fn parse_with<const FIELDS: usize>(received: &Bytes) -> Result<Option<(ParsedHead, usize)>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(received) {
        Ok(httparse::Status::Complete(length)) if length <= REQUEST_HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) if received.len() < REQUEST_HEAD_BYTES_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(httparse::Error::Version) => return version(received),
        Err(error) => return Err(Refusal::Malformed(grammar(error))),
    };
    let (Some(method), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
        return Err(Refusal::Malformed("The request has no request line."));
    };
    let mut request = Request::new(());
    *request.method_mut() =
        Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Malformed("The method is no token."))?;
    *request.uri_mut() = self::target(request.method(), received.slice_ref(target.as_bytes()))?;
    *request.version_mut() = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut framed = Framed::default();
    let headers = request.headers_mut();
    headers.reserve(head.headers.len());
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Refusal::Malformed("The name of a field is no token."))?;
        let value = HeaderValue::from_maybe_shared(received.slice_ref(field.value))
            .map_err(|_| Refusal::Malformed("A field's value has a control character."))?;
        framed.see(&name, &value)?;
        headers.append(name, value);
    }
    let version = request.version();
    let framing = framed.framing(request.headers(), version)?;
    let head = ParsedHead {
        persists: framed.persists(version),
        // Only a body is worth the wait; HTTP/1.0 doesn't know it.
        expects_continue: framed.expects_continue
            && version == Version::HTTP_11
            && framing != Framing::Length(0),
        request,
        framing,
    };
    Ok(Some((head, length)))
}

/// The refusal of a request line whose version is none of ours; none yet, as long as it may become one.
fn version(received: &[u8]) -> Result<Option<(ParsedHead, usize)>, Refusal> {
    let line = received.split(|byte| *byte == b'\n').next().unwrap_or(received);
    let is_whole = line.len() < received.len();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or(line);
    let fits = version.len() <= VERSION.len()
        && version.iter().zip(VERSION).all(|(byte, expected)| match expected {
            b'0' => byte.is_ascii_digit(),
            _ => byte == expected,
        });
    match (fits, is_whole) {
        (true, false) => Ok(None),
        (true, true) if version.len() == VERSION.len() => Err(Refusal::Version),
        _ => Err(Refusal::Malformed(grammar(httparse::Error::Version))),
    }
}

const fn grammar(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "The name of a field is no token.",
        httparse::Error::HeaderValue => "A field's value has a control character.",
        httparse::Error::NewLine => "A line of the head has no proper end.",
        httparse::Error::Token => "The method or the target has a character that it can't have.",
        httparse::Error::Version => "The request line has no version of HTTP.",
        _ => "The head is no head of HTTP/1.1.",
    }
}

/// The target in one of its four forms (RFC 9112 §3.2).
fn target(method: &Method, raw: Bytes) -> Result<Uri, Refusal> {
    const WRONG: Refusal = Refusal::Malformed("The request's target is malformed.");
    let (is_origin, is_asterisk) = (raw.starts_with(b"/"), &raw[..] == b"*");
    let uri = Uri::from_maybe_shared(raw).map_err(|_| WRONG)?;
    let fits = if *method == Method::CONNECT {
        uri.scheme().is_none() && uri.authority().is_some()
    } else if is_asterisk {
        *method == Method::OPTIONS
    } else {
        is_origin || (matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some())
    };
    if fits { Ok(uri) } else { Err(WRONG) }
}

/// The framing of the message and the persistence of its connection, from the fields.
#[derive(Default)]
struct Framed {
    length: Option<u64>,
    is_coded: bool,
    closes: bool,
    keeps_alive: bool,
    expects_continue: bool,
}

impl Framed {
    fn see(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
        if *name == header::CONTENT_LENGTH {
            // Twice the same is refused too: another reader of the message might take the other one (RFC 9110 §8.6).
            let length = length(value.as_bytes()).filter(|_| self.length.is_none());
            let wrong = Refusal::Malformed("Content-Length is one whole number.");
            self.length = Some(length.ok_or(wrong)?);
        } else if *name == header::TRANSFER_ENCODING {
            self.is_coded = true;
        } else if *name == header::CONNECTION {
            for option in elements(value.as_bytes()) {
                self.closes |= option.eq_ignore_ascii_case(b"close");
                self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == header::EXPECT {
            self.expects_continue |=
                elements(value.as_bytes()).any(|element| element.eq_ignore_ascii_case(b"100-continue"));
        }
        Ok(())
    }

    fn framing(&self, headers: &HeaderMap, version: Version) -> Result<Framing, Refusal> {
        if !self.is_coded {
            return Ok(Framing::Length(self.length.unwrap_or(0)));
        }
        if self.length.is_some() {
            return Err(Refusal::Malformed("Content-Length and Transfer-Encoding exclude each other."));
        }
        if version == Version::HTTP_10 {
            return Err(Refusal::Malformed("HTTP/1.0 has no Transfer-Encoding."));
        }
        codings(headers)
    }

    const fn persists(&self, version: Version) -> bool {
        !self.closes && (matches!(version, Version::HTTP_11) || self.keeps_alive)
    }
}

/// The framing that `Transfer-Encoding` stands for. Anything but exactly `chunked` might be read otherwise by an
/// intermediary.
fn codings(headers: &HeaderMap) -> Result<Framing, Refusal> {
    let values: Vec<_> =
        headers.get_all(header::TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    if let [value] = values[..]
        && value.trim_ascii().eq_ignore_ascii_case(b"chunked")
    {
        return Ok(Framing::Chunked);
    }
    let codings: Vec<_> = values.into_iter().flat_map(elements).collect();
    let chunked: Vec<_> =
        (0..codings.len()).filter(|&index| codings[index].eq_ignore_ascii_case(b"chunked")).collect();
    match chunked[..] {
        [] if !codings.is_empty() => Err(Refusal::TransferCoding),
        [index] if index > 0 && index + 1 == codings.len() => Err(Refusal::TransferCoding),
        _ => Err(Refusal::Malformed("Transfer-Encoding is chunked, once and last.")),
    }
}

/// The elements of a list (RFC 9110 §5.6.1); empty ones don't count.
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// A length as the grammar has it: digits (RFC 9110 §8.6).
fn length(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}
