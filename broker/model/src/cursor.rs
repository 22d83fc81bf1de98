//! Cursors: the one thing a client keeps. An epoch and a position, 20 characters, whose string order is log order.

use std::{fmt, str::FromStr};

/// The place of a message in the log. The first message stands at 1; 0 is the place before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The place before every message.
    pub const ZERO: Self = Self(0);
    /// Beyond every message.
    pub const MAX: Self = Self(u64::MAX);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position before this one; that of zero is zero.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One opening of the log: seconds since 2026-01-01T00:00:00Z, always greater than the last opening's. 30 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// The greatest epoch that the cursor's six characters hold: the year 2060.
    pub const MAX: Self = Self((1 << 30) - 1);
    /// 2026-01-01T00:00:00Z in milliseconds of the Unix epoch.
    const ORIGIN_MS: u64 = 1_767_225_600_000;

    /// An epoch from its number; `None` beyond [`Epoch::MAX`].
    pub const fn new(number: u32) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The epoch of a log that is opened at `now_ms` (Unix milliseconds) after `last`.
    #[must_use]
    pub fn opening(now_ms: u64, last: Option<Self>) -> Self {
        let seconds = now_ms.saturating_sub(Self::ORIGIN_MS) / 1000;
        let now = u32::try_from(seconds).unwrap_or(u32::MAX).min(Self::MAX.0);
        let least = last.map_or(0, |last| last.0.saturating_add(1));
        Self(now.max(least).min(Self::MAX.0))
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// What a client holds: a message, or a place between two. Opaque to clients; carries no rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// The opening of the log in which the position was written.
    pub epoch: Epoch,
    /// The place in the log.
    pub position: Position,
}

/// The string is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is 6 characters, `-`, and 13 characters, of 0-9 and a-v, as the broker gave it")]
pub struct CursorError;

const EPOCH_CHARS: usize = 6;
const POSITION_CHARS: usize = 13;
/// The length of every cursor.
pub const CURSOR_CHARS: usize = EPOCH_CHARS + 1 + POSITION_CHARS;
/// base32hex in lower case (RFC 4648 §7), whose order is that of ASCII.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

impl Cursor {
    /// The cursor's characters, all ASCII.
    pub fn to_ascii(self) -> [u8; CURSOR_CHARS] {
        let mut out = [b'-'; CURSOR_CHARS];
        write_digits(&mut out[..EPOCH_CHARS], u64::from(self.epoch.0));
        write_digits(&mut out[EPOCH_CHARS + 1..], self.position.0);
        out
    }
}

fn write_digits(out: &mut [u8], mut value: u64) {
    for byte in out.iter_mut().rev() {
        *byte = DIGITS[(value & 31) as usize];
        value >>= 5;
    }
}

fn read_digits(digits: &[u8]) -> Result<u64, CursorError> {
    let mut value: u64 = 0;
    for &byte in digits {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'v' => byte - b'a' + 10,
            _ => return Err(CursorError),
        };
        if value >> 59 != 0 {
            return Err(CursorError);
        }
        value = value << 5 | u64::from(digit);
    }
    Ok(value)
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bytes = text.as_bytes();
        if bytes.len() != CURSOR_CHARS || bytes[EPOCH_CHARS] != b'-' {
            return Err(CursorError);
        }
        let epoch = read_digits(&bytes[..EPOCH_CHARS])?;
        let position = read_digits(&bytes[EPOCH_CHARS + 1..])?;
        let epoch = u32::try_from(epoch).ok().and_then(Epoch::new).ok_or(CursorError)?;
        Ok(Self { epoch, position: Position(position) })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ascii().iter().try_for_each(|&byte| fmt::Write::write_char(f, byte.into()))
    }
}
