//! Content negotiation by `Accept` (RFC 9110 §12.5.1): quality values, and the most specific range of each type.

use crate::problem::{Code, Problem};

/// The media type of an event stream.
pub const SSE_TYPE: &str = "text/event-stream";
/// The media type of a stream of lines.
pub const NDJSON_TYPE: &str = "application/x-ndjson";
/// The media type of a page.
pub const JSON_TYPE: &str = "application/json";

/// What a client may choose by `Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Json,
    Ndjson,
    Sse,
}

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

/// What the `Accept` headers of a request say, taken together.
#[derive(Debug, Default)]
pub(crate) struct Accept {
    any_said: bool,
    json: Wish,
    ndjson: Wish,
    sse: Wish,
}

impl Accept {
    /// Takes one header's value. A range that is malformed says nothing.
    pub(crate) fn hear(&mut self, value: &str) {
        for element in value.split(',') {
            let mut parts = element.split(';').map(str::trim);
            let range = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| match part.split_once('=') {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => Some(value.trim()),
                _ => None,
            });
            let Some(quality) = quality.map_or(Some(1000), thousandths) else {
                continue;
            };
            self.hear_range(&range, quality);
        }
    }

    /// Wildcards speak of pages only: an endless reply goes to those who name it.
    fn hear_range(&mut self, range: &str, quality: u16) {
        match range {
            "*/*" => self.json.hear(Specificity::Any, quality),
            "application/*" => self.json.hear(Specificity::Type, quality),
            JSON_TYPE => self.json.hear(Specificity::Exact, quality),
            NDJSON_TYPE | "application/ndjson" => self.ndjson.hear(Specificity::Exact, quality),
            SSE_TYPE => self.sse.hear(Specificity::Exact, quality),
            other if !other.contains('/') => return,
            _ => {}
        }
        self.any_said = true;
    }

    /// The type most wanted; at equal quality the one named more specifically, then the page.
    pub(crate) fn choose(&self) -> Result<Choice, Problem> {
        if !self.any_said {
            return Ok(Choice::Json);
        }
        let wishes = [(self.ndjson, Choice::Ndjson), (self.sse, Choice::Sse), (self.json, Choice::Json)];
        wishes
            .into_iter()
            .filter(|(wish, _)| wish.quality > 0)
            .max_by_key(|(wish, _)| (wish.quality, wish.specificity))
            .map(|(_, choice)| choice)
            .ok_or_else(not_acceptable)
    }
}

/// Nothing that there is was asked for.
pub(crate) fn not_acceptable() -> Problem {
    Problem::detailed(
        Code::NotAcceptable,
        "there are application/json, text/event-stream and application/x-ndjson, and ?format=raw",
    )
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
