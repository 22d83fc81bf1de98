//! Content negotiation by `Accept` (RFC 9110 §12.5.1): quality values, and the most specific range of each type.

use crate::{
    problem::{Code, Problem},
    representation::{RepresentationEntry, Shape, TABLE},
};

/// How specific a range is that speaks of a type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    #[default]
    Unnamed,
    Any,
    Type,
    Exact,
}

/// How much a type is wanted: by the most specific range that covers it.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    specificity: Specificity,
    /// In thousandths.
    quality: u16,
}

impl Wish {
    fn hear(&mut self, specificity: Specificity, quality: u16) {
        if specificity > self.specificity {
            *self = Self { specificity, quality };
        } else if specificity == self.specificity {
            self.quality = self.quality.max(quality);
        }
    }
}

/// The `Accept` headers of a request, taken together: a quality for each entry of the table.
#[derive(Debug, Default)]
pub(crate) struct Accept {
    any_said: bool,
    wishes: [Wish; TABLE.len()],
}

impl Accept {
    /// Takes one header's value. A range that is malformed says nothing.
    pub(crate) fn hear(&mut self, value: &str) {
        for (range, quality) in ranges(value) {
            self.hear_range(&range.to_ascii_lowercase(), quality);
        }
    }

    fn hear_range(&mut self, range: &str, quality: u16) {
        if !range.contains('/') {
            return;
        }
        for (entry, wish) in TABLE.iter().zip(&mut self.wishes) {
            if entry.media_types.contains(&range) {
                wish.hear(Specificity::Exact, quality);
            } else if entry.by_wildcard && range == "*/*" {
                wish.hear(Specificity::Any, quality);
            } else if entry.by_wildcard && entry.media_types.iter().any(|own| covers(range, own)) {
                wish.hear(Specificity::Type, quality);
            }
        }
        self.any_said = true;
    }

    /// The entry most wanted; at equal quality the one named more specifically, then the first of the table.
    pub(crate) fn choose(&self) -> Result<&'static RepresentationEntry, Problem> {
        if !self.any_said {
            return Ok(&TABLE[0]);
        }
        TABLE
            .iter()
            .zip(&self.wishes)
            // Of equals `max_by_key` gives the last.
            .rev()
            .filter(|(_, wish)| wish.quality > 0)
            .max_by_key(|(_, wish)| (wish.quality, wish.specificity))
            .map(|(entry, _)| entry)
            .ok_or_else(not_acceptable)
    }
}

/// Whether a range `type/*` covers a media type.
fn covers(range: &str, media_type: &str) -> bool {
    range.strip_suffix('*').is_some_and(|main| main.len() > 1 && media_type.starts_with(main))
}

/// Nothing that there is was asked for.
pub(crate) fn not_acceptable() -> Problem {
    let by_type = TABLE.iter().filter_map(|entry| entry.media_types.first()).copied().collect::<Vec<_>>();
    let others = TABLE.iter().filter(|entry| matches!(entry.shape, Shape::Newest));
    let others: Vec<_> = others.map(|entry| format!("?format={}", entry.name)).collect();
    let detail = format!("there are {}, and {}", by_type.join(", "), others.join(", "));
    Problem::detailed(Code::NotAcceptable, detail)
}

/// The ranges of a header's value, each with its quality. One that is malformed says nothing.
pub fn ranges(value: &str) -> impl Iterator<Item = (&str, u16)> {
    value.split(',').filter_map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| match part.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => Some(value.trim()),
            _ => None,
        });
        Some((range, quality.map_or(Some(1000), thousandths)?))
    })
}

/// A quality value (RFC 9110 §12.4.2) in thousandths. More digits are cut, and the leading zero may be missing, as
/// in what a widespread client sends unasked: `*/*; q=.2`.
fn thousandths(value: &str) -> Option<u16> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if value == "." || value.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let places = [100, 10, 1].into_iter().zip(fraction.bytes());
    let fraction = places.map(|(place, digit)| place * u16::from(digit - b'0')).sum();
    match whole {
        "" | "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}
