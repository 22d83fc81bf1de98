//! The modes of a network: faults, each named by a word, which may be put together. It knows what they are called, and
//! not how they are done.
//!
//! | word | what happens |
//! | --- | --- |
//! | `refuse-upgrade=403` | an Upgrade is answered with this status |
//! | `strip-upgrade` | `Upgrade` and `Connection` are taken out: the broker sees a plain GET |
//! | `swallow-frames` | the handshake passes, and nothing after it, either way |
//! | `cut-websocket=5000` | a WebSocket is closed so many milliseconds after its request |
//! | `cut=5000` | so is every exchange, whatever it is |
//! | `buffer=4096` | a response's head passes, its body only in pieces of at least so many bytes, or at its end |
//! | `buffer=end` | a response is held back, with its head, until it is whole |
//! | `drip=all` | after the head, one byte a second comes down, also of a WebSocket |
//! | `drip=streams` | the same, but for responses whose length is known |
//! | `gzip=flush` | responses are compressed, each piece for itself at once |
//! | `gzip=hold` | responses are compressed, and come when the compressor's window is full, or at their end |
//! | `lose=<text>` | the piece of a response that has this text in it is thrown away: what no client can make good |
//! | `strip-last-event-id` | `Last-Event-ID` is taken out |
//! | `answer=502` | the broker can't be reached: every request gets this status, open connections are closed |
//! | `reset` | open connections are reset, and new ones at once |
//! | `half-open` | open connections, and new ones, stay open for good, and nothing passes |
//!
//! Each request takes the faults that there are when it comes. Only the last three are for what is open, too, in the
//! moment in which they begin; a connection that has stalled never recovers.

use std::time::Duration;

use hyper::StatusCode;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) breaks: Option<Break>,
    pub(crate) answer: Option<StatusCode>,
    pub(crate) upgrade: Upgrade,
    pub(crate) cut_websocket: Option<Duration>,
    pub(crate) cut: Option<Duration>,
    pub(crate) body: Body,
    pub(crate) strip_last_event_id: bool,
}

/// The fate of open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    Close,
    Reset,
    Stall,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Upgrade {
    #[default]
    Pass,
    Refuse(StatusCode),
    Strip,
    Swallow,
}

/// The fate of the bytes after a response's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Body {
    #[default]
    Pass,
    Buffer(usize),
    BufferAll,
    Drip {
        streams_only: bool,
    },
    Gzip {
        flush: bool,
    },
    Lose(String),
}

impl Mode {
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Mode, String> {
        let mut mode = Mode::default();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            mode.add(name, value).ok_or_else(|| format!("{word} is no fault"))?;
        }
        Ok(mode)
    }

    fn add(&mut self, name: &str, value: &str) -> Option<()> {
        match (name, value) {
            ("refuse-upgrade", status) => self.upgrade = Upgrade::Refuse(status.parse().ok()?),
            ("strip-upgrade", "") => self.upgrade = Upgrade::Strip,
            ("swallow-frames", "") => self.upgrade = Upgrade::Swallow,
            ("cut-websocket", ms) => self.cut_websocket = Some(milliseconds(ms)?),
            ("cut", ms) => self.cut = Some(milliseconds(ms)?),
            ("buffer", "end") => self.body = Body::BufferAll,
            ("buffer", bytes) => self.body = Body::Buffer(bytes.parse().ok()?),
            ("drip", "all") => self.body = Body::Drip { streams_only: false },
            ("drip", "streams") => self.body = Body::Drip { streams_only: true },
            ("gzip", "flush") => self.body = Body::Gzip { flush: true },
            ("gzip", "hold") => self.body = Body::Gzip { flush: false },
            ("lose", text) if !text.is_empty() => self.body = Body::Lose(text.to_owned()),
            ("strip-last-event-id", "") => self.strip_last_event_id = true,
            ("answer", status) => {
                self.answer = Some(status.parse().ok()?);
                self.breaks = Some(Break::Close);
            }
            ("reset", "") => self.breaks = Some(Break::Reset),
            ("half-open", "") => self.breaks = Some(Break::Stall),
            _ => return None,
        }
        Some(())
    }
}

fn milliseconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Mode, String> {
        Mode::parse(line.split_whitespace())
    }

    #[test]
    fn faults_are_put_together() {
        assert_eq!(parse(""), Ok(Mode::default()));
        assert_eq!(
            parse("refuse-upgrade=403 buffer=4096 cut=5000 strip-last-event-id"),
            Ok(Mode {
                upgrade: Upgrade::Refuse(StatusCode::FORBIDDEN),
                body: Body::Buffer(4096),
                cut: Some(Duration::from_secs(5)),
                strip_last_event_id: true,
                ..Mode::default()
            })
        );
    }

    #[test]
    fn what_is_no_fault_is_named() {
        for word in ["slow", "buffer=some", "gzip", "cut=", "lose=", "reset=1", "answer=9"] {
            assert_eq!(parse(word), Err(format!("{word} is no fault")));
        }
    }
}
