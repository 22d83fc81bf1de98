//! Timestamps as text: RFC 3339 §5.6 in UTC with milliseconds, by integer arithmetic.

use crate::Timestamp;

/// The length of every timestamp.
pub const TIME_CHARS: usize = 24;
/// 9999-12-31T23:59:59.999Z: RFC 3339 has four digits for a year.
const MAX_MS: u64 = 253_402_300_799_999;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// `2026-11-21T10:00:00.123Z`
pub fn rfc3339(time: Timestamp) -> [u8; TIME_CHARS] {
    let ms = time.0.min(MAX_MS);
    let (year, month, day) = civil(ms / DAY_MS);
    let in_day = ms % DAY_MS;
    let mut out = *b"0000-00-00T00:00:00.000Z";
    digits(&mut out[0..4], year);
    digits(&mut out[5..7], month);
    digits(&mut out[8..10], day);
    digits(&mut out[11..13], in_day / 3_600_000);
    digits(&mut out[14..16], in_day / 60_000 % 60);
    digits(&mut out[17..19], in_day / 1000 % 60);
    digits(&mut out[20..23], in_day % 1000);
    out
}

/// The time of such a text, to the character as [`rfc3339`] writes it.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    parse_time(text).filter(|time| rfc3339(*time) == *text.as_bytes())
}

/// The day that [`civil`] takes apart; negative before 1970. None where the calendar has no such day.
fn day_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(365 * year + leap_days + day_of_year - 719_468)
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are taken to begin in March,
/// so that the leap day is the last of its year and months follow a straight line.
const fn civil(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    let shifted = days + 719_468;
    let day_of_era = shifted % ERA_DAYS;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = shifted / ERA_DAYS * 400 + year_of_era + (month <= 2) as u64;
    (year, month, day)
}

fn digits(out: &mut [u8], mut value: u64) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// The time of any text of RFC 3339 §5.6 from 1970 on: with any fraction and any offset. A leap second is the second after it.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    u64::try_from(ms_of(text)?).ok().map(Timestamp)
}

/// The same for a place in a log: what is before 1970 is before all messages, and as good as its beginning.
pub fn parse_place_in_time(text: &str) -> Option<Timestamp> {
    Some(Timestamp(u64::try_from(ms_of(text)?).unwrap_or(0)))
}

/// Milliseconds since 1970.
fn ms_of(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |at: std::ops::Range<usize>| {
        let digits = text.get(at).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i64>().ok()
    };
    let shape = |at: usize, legal: &[u8]| bytes.get(at).filter(|byte| legal.contains(byte)).map(|_| ());
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    shape(4, b"-")?;
    shape(7, b"-")?;
    shape(10, b"Tt ")?;
    shape(13, b":")?;
    shape(16, b":")?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &text[19..];
    let mut ms = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction.bytes().position(|byte| !byte.is_ascii_digit())?;
        let digits = &fraction[..end.min(3)];
        ms = digits.parse::<i64>().ok()? * 10_i64.pow(3 - digits.len() as u32);
        rest = &fraction[end..];
    }
    let day = day_of(year, month, day)?;
    let local = (((day * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms;
    if rest.eq_ignore_ascii_case("z") {
        return Some(local);
    }
    let sign = rest.bytes().next().filter(|sign| matches!(sign, b'+' | b'-'))?;
    let at = text.len() - rest.len();
    let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
    shape(at + 3, b":")?;
    if rest.len() != 6 || hours > 23 || minutes > 59 {
        return None;
    }
    let offset = (hours * 60 + minutes) * 60_000;
    // East of Greenwich it is later.
    Some(if sign == b'+' { local - offset } else { local + offset })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check(ms: u64, expect: &str) {
        assert_eq!(std::str::from_utf8(&rfc3339(Timestamp(ms))), Ok(expect));
    }

    #[test]
    fn what_is_written_is_parsed() {
        for day in 0..40_000 {
            let time = Timestamp(day * DAY_MS + 7 * day);
            let text = rfc3339(time);
            assert_eq!(parse_rfc3339(std::str::from_utf8(&text).unwrap()), Some(time));
        }
        for text in [
            "",
            "2026-11-21T10:00:00Z",
            "2026-02-30T10:00:00.123Z",
            "2026-11-21 10:00:00.123Z",
            "äöüäöüäöüäöü",
        ] {
            assert_eq!(parse_rfc3339(text), None);
        }
    }

    #[test]
    fn every_text_of_the_standard_is_a_time() {
        let ten = parse_rfc3339("2026-11-30T10:00:00.000Z");
        for text in [
            "2026-11-30T10:00:00Z",
            "2026-11-30t10:00:00z",
            "2026-11-30 10:00:00.0Z",
            "2026-11-30T11:00:00+01:00",
            "2026-11-30T04:30:00.000000-05:30",
            "2026-12-01T09:59:00+23:59",
            "2026-11-30T09:59:60Z",
        ] {
            assert_eq!(parse_time(text), ten, "{text}");
        }
        assert_eq!(parse_time("2026-11-30T10:00:00.1239Z"), Some(Timestamp(ten.unwrap().0 + 123)));
        for text in [
            "",
            "2026-11-30",
            "2026-11-30T10:00Z",
            "2026-11-30T10:00:00",
            "2026-11-30T10:00:00.Z",
            "2026-11-30T10:00:00.5",
            "2026-11-30T10:00:00+1:00",
            "2026-11-30T10:00:00+01:00 ",
            "2026-11-30T10:00:00+24:00",
            "2026-11-31T10:00:00Z",
            "2026-02-29T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-11-30T24:00:00Z",
            "+026-11-30T10:00:00Z",
            "2026-11-30T10:00:0äZ",
            "1970-01-01T00:00:00+01:00",
            "1900-02-29T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-01-00T00:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert!(parse_time("2000-02-29T00:00:00Z").is_some());
    }

    #[test]
    fn what_is_before_all_times_is_the_beginning() {
        for text in [
            "0000-01-01T00:00:00Z",
            "0000-02-29T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "0000-01-01T00:00:00+23:59",
            "1969-12-31T23:59:59.999Z",
            "1970-01-01T00:00:00+01:00",
        ] {
            assert_eq!(parse_place_in_time(text), Some(Timestamp(0)), "{text}");
            assert_eq!(parse_time(text), None, "{text}");
        }
        for text in
            ["0000-02-30T00:00:00Z", "0001-02-29T00:00:00Z", "0000-00-00T00:00:00Z", "-001-01-01T00:00:00Z"]
        {
            assert_eq!(parse_place_in_time(text), None, "{text}");
        }
        let last = "9999-12-31T23:59:59.999-23:59";
        assert_eq!(parse_place_in_time(last), Some(Timestamp(MAX_MS + 86_340_000)));
    }

    #[test]
    fn known_times() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_799_999, "2000-02-29T23:59:59.999Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_709_164_800_001, "2024-02-29T00:00:00.001Z");
        check(1_767_225_599_999, "2025-12-31T23:59:59.999Z");
        check(1_795_255_200_123, "2026-11-21T10:00:00.123Z");
        check(4_107_542_399_000, "2100-02-28T23:59:59.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(MAX_MS, "9999-12-31T23:59:59.999Z");
        check(u64::MAX, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let leap = |year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut expect = (1970, 1, 1);
        for day in 0..500 * 366 {
            assert_eq!(civil(day), expect);
            let (year, month, day) = expect;
            let length = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expect = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, last) if last == length => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}
