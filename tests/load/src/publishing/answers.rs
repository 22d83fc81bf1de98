//! Answers to publishes: replies of HTTP, or reply lines of a WebSocket.

use memchr::memmem;

use crate::client::http;
use crate::measure::scan::{Scanned, StampScanner};

/// The publish was acknowledged, or the status or word with which it wasn't.
pub(crate) type PublishVerdict = Result<(), String>;

/// Takes the whole HTTP replies in `input`, which come in the order of the requests. Answers how many bytes they
/// are, and whether the connection ends with them.
pub(crate) fn of_http(
    input: &[u8],
    mut each: impl FnMut(PublishVerdict),
) -> Result<(usize, bool), &'static str> {
    let mut used = 0;
    loop {
        let rest = &input[used..];
        let Some(head) = http::head(rest).map_err(|_| "a publish was answered, but not in HTTP")? else {
            return Ok((used, false));
        };
        let body = head.body.ok_or("a publish was answered without Content-Length")?;
        if rest.len() < head.length + body {
            return Ok((used, false));
        }
        used += head.length + body;
        each(if head.status == 201 { Ok(()) } else { Err(head.status.to_string()) });
        if head.close {
            return Ok((used, true));
        }
    }
}

/// A frame that a publishing WebSocket receives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerLine<'a> {
    /// The answer to the request of this id; they come in any order.
    Answer(usize, PublishVerdict),
    /// A ping, to be answered with the same bytes.
    Ping(&'a [u8]),
}

/// Takes the whole frames in `input`; answers how many bytes they are.
pub(crate) fn of_websocket(
    scanner: &StampScanner,
    input: &[u8],
    mut each: impl FnMut(ServerLine<'_>),
) -> Result<usize, &'static str> {
    let used = scanner.frames(input, |found| match found {
        Scanned::Other(line) => {
            // A welcome or a heartbeat has no id.
            if let Some(id) = number_after(line, br#""id":"#) {
                each(ServerLine::Answer(id, verdict(line)));
            }
        }
        Scanned::Ping(payload) => each(ServerLine::Ping(payload)),
        // Nothing is subscribed here; the end of the connection follows its close.
        Scanned::Message(_) | Scanned::Foreign | Scanned::Close => {}
    });
    used.map_err(|_| "a malformed WebSocket frame")
}

fn verdict(line: &[u8]) -> PublishVerdict {
    if memmem::find(line, br#""kind":"error""#).is_none() {
        return Ok(());
    }
    let status = number_after(line, br#""status":"#);
    Err(status.map_or_else(|| "error".to_owned(), |status| status.to_string()))
}

/// The number that follows a name.
fn number_after(json: &[u8], name: &[u8]) -> Option<usize> {
    let digits = &json[memmem::find(json, name)? + name.len()..];
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..length]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::payload::RunId;

    const REPLIES: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}\
        HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\nno.";

    #[test]
    fn pipelined_replies_are_taken_as_they_become_whole() {
        for cut in 0..=REPLIES.len() {
            let mut verdicts = Vec::new();
            let (used, _) = of_http(&REPLIES[..cut], |verdict| verdicts.push(verdict)).unwrap();
            let (rest, ends) = of_http(&REPLIES[used..], |verdict| verdicts.push(verdict)).unwrap();
            assert_eq!(verdicts, [Ok(()), Err("503".to_owned())], "cut at {cut}");
            assert_eq!((used + rest, ends), (REPLIES.len(), false));
        }
    }

    #[test]
    fn a_reply_may_be_the_last() {
        let reply = b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(of_http(reply, |_| ()), Ok((reply.len(), true)));
        assert!(of_http(b"nonsense\r\n\r\n", |_| ()).is_err());
    }

    #[test]
    fn answers_name_their_request() {
        let lines: [&[u8]; 4] = [
            br#"{"kind":"welcome","heartbeat_ms":15000}"#,
            br#"{"kind":"ok","id":17,"cursor":"00000abc-00000000017"}"#,
            br#"{"kind":"error","id":3,"status":503,"code":"overloaded"}"#,
            br#"{"kind":"error","id":4}"#,
        ];
        let mut bytes = vec![0x89, 2, b'h', b'i'];
        for line in lines {
            bytes.extend([0x81, line.len() as u8]);
            bytes.extend(line);
        }
        let mut heard = Vec::new();
        let used = of_websocket(&StampScanner::new(RunId::SHARED), &bytes, |one| match one {
            ServerLine::Answer(id, verdict) => heard.push((id, verdict)),
            ServerLine::Ping(payload) => assert_eq!(payload, b"hi"),
        });
        assert_eq!(used, Ok(bytes.len()));
        assert_eq!(heard, [(17, Ok(())), (3, Err("503".to_owned())), (4, Err("error".to_owned()))]);
    }
}
