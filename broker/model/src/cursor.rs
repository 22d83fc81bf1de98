//! Cursors: the one thing a client keeps. An epoch and a position, 20 characters, whose string order is log order.

use std::{fmt, str::FromStr};

/// The place of a message in the log. The first message stands at 1; 0 is the place before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The place before every message.
    pub const ZERO: Self = Self(0);
    /// The greatest that the cursor's eleven characters hold, beyond every message.
    pub const MAX: Self = Self((1 << 55) - 1);

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

/// One opening of the log, in units of 1/64 s since 2026-01-01T00:00:00Z, always greater than the last opening's. 40 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The greatest epoch that the cursor's eight characters hold: the year 2570.
    pub const MAX: Self = Self((1 << 40) - 1);
    /// Before every log.
    pub const ZERO: Self = Self(0);
    /// How long one lasts, in milliseconds, rounded up: two openings of a right clock that are farther apart differ.
    pub const UNIT_MS: u64 = 16;
    /// 2026-01-01T00:00:00Z in milliseconds of the Unix epoch.
    const ORIGIN_MS: u64 = 1_767_225_600_000;
    const PER_SECOND: u64 = 64;
    /// No clock is believed that stands beyond this: the year 2162. The rest is for counting on.
    const CLOCK_MAX: u64 = Self::MAX.0 >> 2;
    /// A clock that is eight years ahead of the last opening is not believed.
    const AHEAD_MAX: u64 = 8 * 365 * 86_400 * Self::PER_SECOND;
    /// A clock that is an hour behind the last opening was wrong then, or is now.
    const BEHIND_MAX: u64 = 3600 * Self::PER_SECOND;
    /// Copies of a log that count on from the same epoch differ by chance, by up to 16 s; less where the clock tells them
    /// apart, and then they are in order if a quarter of a minute lies between them.
    const SPREAD: u64 = 1 << 10;
    const SPREAD_LATER: u64 = 1 << 6;
    const PER_LATER: u64 = 1 << 4;
    /// Where nothing is known of the time: the first 194 days of 2026, when there was no log yet.
    const TIMELESS: u64 = 1 << 30;

    /// An epoch from its number; `None` beyond [`Epoch::MAX`].
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The epoch of a log that is opened at `now_ms` (Unix milliseconds) after `last`; `None` if there is none beyond that.
    /// `draw` is a random number.
    ///
    /// It is the clock's where that can be right. Else it counts on from the last, and by more the later it is, so that
    /// of two openings of copies of one log the later one has the greater epoch, as far as even a wrong clock tells.
    pub fn opening(now_ms: u64, last: Option<Self>, draw: u64) -> Option<Self> {
        let since_ms = now_ms.saturating_sub(Self::ORIGIN_MS);
        let clock = since_ms / 1000 * Self::PER_SECOND + since_ms % 1000 * Self::PER_SECOND / 1000;
        let clock = if clock <= Self::CLOCK_MAX { clock } else { 0 };
        let Some(Self(last)) = last else {
            return Some(Self(if clock > 0 { clock } else { 1 + draw % Self::TIMELESS }));
        };
        if clock > last && (clock - last <= Self::AHEAD_MAX || last <= Self::TIMELESS) {
            return Some(Self(clock));
        }
        // The numbers are not used up, in spite of what clocks do.
        let room = Self::MAX.0 - last;
        let is_far_behind = clock > 0 && clock + Self::BEHIND_MAX < last && room > Self::MAX.0 / 4;
        let more = if is_far_behind {
            clock / Self::PER_LATER + draw % Self::SPREAD_LATER
        } else {
            (draw % Self::SPREAD).min(room >> 20)
        };
        Self::new(last + 1 + more)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A cursor: a message, or a place between two. Opaque to clients; it gives no rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// The opening of the log in which the position was written.
    pub epoch: Epoch,
    /// The place in the log.
    pub position: Position,
}

/// The string is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is 8 characters, `-`, and 11 characters, of 0-9 and a-v, as the broker gave it")]
pub struct CursorError;

const EPOCH_CHARS: usize = 8;
const POSITION_CHARS: usize = 11;
/// The length of every cursor.
pub const CURSOR_CHARS: usize = EPOCH_CHARS + 1 + POSITION_CHARS;
/// base32hex in lower case (RFC 4648 §7), whose order is that of ASCII.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

impl Cursor {
    /// The cursor's characters, all ASCII.
    pub fn to_ascii(self) -> [u8; CURSOR_CHARS] {
        let mut out = [b'-'; CURSOR_CHARS];
        write_digits(&mut out[..EPOCH_CHARS], self.epoch.0);
        write_digits(&mut out[EPOCH_CHARS + 1..], self.position.0);
        out
    }
}

/// The lowest digits of a number.
fn write_digits(out: &mut [u8], mut value: u64) {
    for byte in out.iter_mut().rev() {
        *byte = DIGITS[(value & 31) as usize];
        value >>= 5;
    }
}

/// Of at most 12 digits.
fn read_digits(digits: &[u8]) -> Result<u64, CursorError> {
    let mut value: u64 = 0;
    for &byte in digits {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'v' => byte - b'a' + 10,
            _ => return Err(CursorError),
        };
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
        let epoch = Epoch::new(epoch).ok_or(CursorError)?;
        Ok(Self { epoch, position: Position(position) })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ascii().iter().try_for_each(|&byte| fmt::Write::write_char(f, byte.into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A sequence of numbers that looks random.
    fn mixed(number: u64) -> u64 {
        (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn epochs_increase_whatever_the_clocks_are() {
        let clocks: [fn(u64) -> u64; 5] = [
            mixed,
            |n| mixed(n) % (2 * Epoch::ORIGIN_MS),
            |n| 3_400_000_000_000 - mixed(n) % 1_600_000_000_000,
            |_| 0,
            |n| if n % 2 == 0 { 3_376_684_800_000 } else { 1_795_000_000_000 + n },
        ];
        for clock in clocks {
            let mut last = None;
            for n in 0..100_000 {
                let next = Epoch::opening(clock(n), last, mixed(n + 7)).unwrap();
                assert!(last.is_none_or(|last| last < next), "{last:?} {next:?}");
                last = Some(next);
            }
        }
    }

    #[test]
    fn of_two_openings_after_the_same_one_the_later_has_the_greater_epoch() {
        let minute_ms = 60_000;
        let last = Epoch::opening(3_376_684_800_000, None, 0);
        for n in 0..10_000 {
            let now = 1_795_000_000_000 + mixed(n) % 1_000_000_000_000;
            let opening = |now: u64, draw| Epoch::opening(now, last, draw).unwrap();
            assert!(opening(now, mixed(n)) < opening(now + minute_ms, mixed(n + 1)));
        }
    }
}
