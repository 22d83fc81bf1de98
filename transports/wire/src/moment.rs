//! Where a read starts by time: at a time of day, or so long ago.

use tailwire_model::Timestamp;

use crate::{number, time::parse_place_in_time};

/// A place in time, as the client names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// A time: `2026-11-30T10:00:00Z`.
    At(Timestamp),
    /// So many milliseconds before the request: `-10m`.
    Ago(u64),
}

impl Moment {
    /// Reads one, if it has the form of one: any time of RFC 3339 §5.6, or `-`, digits and a unit, one of `s`, `m`, `h`, `d`.
    /// `None` where it looks like neither, and an error where it looks like one and is none.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, ()>> {
        if let Some(age) = text.strip_prefix('-') {
            return Some(ago(age).map(Self::Ago).ok_or(()));
        }
        let is_dated = text.as_bytes().get(4) == Some(&b'-');
        is_dated.then(|| parse_place_in_time(&with_plus(text)).map(Self::At).ok_or(()))
    }

    /// The time that it names, for a request that comes at `now`. What is older than time itself is its beginning.
    pub const fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ms) => Timestamp(now.0.saturating_sub(ms)),
        }
    }
}

fn ago(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_ms = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number::whole(number).map(|number| number.saturating_mul(unit_ms))
}

/// In a query a plus sign is a space, unless it was encoded; before an offset nothing else can have stood.
fn with_plus(text: &str) -> String {
    let at = text.len().saturating_sub("+01:00".len());
    match text.as_bytes().get(at) {
        Some(b' ') if at > "2026-11-30T10:00".len() => format!("{}+{}", &text[..at], &text[at + 1..]),
        _ => text.to_owned(),
    }
}
