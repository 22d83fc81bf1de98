//! The stream's time, as NATS writes it: RFC 3339 in UTC.

/// Milliseconds of the Unix epoch, if the text is such a time.
pub(crate) fn unix_ms(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    if bytes.len() < 20 || *bytes.last()? != b'Z' {
        return None;
    }
    let is_formed = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if is_formed.iter().any(|(at, byte)| bytes[*at] != *byte) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let millis = match bytes[19] {
        b'Z' => 0,
        b'.' => {
            let digits = text.get(20..bytes.len() - 1)?;
            let padded = format!("{digits:0<3}");
            padded.get(..3)?.parse().ok()?
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, day)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, expect) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-30T17:35:10Z", Some(1_796_060_110_000)),
            ("2026-11-30T17:35:10.5Z", Some(1_796_060_110_500)),
            ("2026-11-30T17:35:10.123456789Z", Some(1_796_060_110_123)),
            ("2024-02-29T23:59:59.999999999Z", Some(1_709_251_199_999)),
            ("2000-03-01T00:00:00.001Z", Some(951_868_800_001)),
            ("2026-11-30 17:35:10Z", None),
            ("2026-11-30T17:35:10+01:00", None),
            ("2026-13-30T17:35:10Z", None),
            ("now", None),
            ("", None),
        ] {
            assert_eq!(unix_ms(text), expect, "{text}");
        }
    }
}
