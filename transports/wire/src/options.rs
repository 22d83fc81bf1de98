//! Options as clients write and read them: eight members, one builder that checks them in whatever notation they came,
//! and the bodies of `/options`. What the options do is not known here.

use std::{borrow::Cow, sync::Arc};

use serde_json::value::RawValue;
use tailwire_model::{
    Bound, Durability, Keep, MediaType, Options, Rule, Term,
    limits::{DESCRIPTION_BYTES_MAX, OPTION_MAX, TITLE_BYTES_MAX},
};

use crate::{
    draft::{self, Pairs},
    json, number, path,
    problem::{Code, Problem},
    query,
};

/// The members that can be set.
pub const MEMBERS: [&str; 8] =
    ["durability", "max_age", "max_messages", "max_bytes", "compact", "last", "title", "description"];

const DURABILITIES: [(&str, Durability); 3] =
    [("sync", Durability::Sync), ("relaxed", Durability::Relaxed), ("memory", Durability::Memory)];

/// Characters of an unknown member's name that a problem shows.
const NAME_CHARS_SHOWN: usize = 32;
/// The members of a line beside its options.
const LINE_MEMBERS: [&str; 2] = ["kind", "id"];

/// A member's value, read from whatever notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue<'a> {
    /// The word for no bound.
    Unbounded,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Number(u64),
    /// A string.
    Text(Cow<'a, str>),
    /// A value that no member can have.
    Other,
}

/// Why a member is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is none of [`MEMBERS`].
    Unknown,
    /// Its value breaks a rule: what the value has to be, to stand after "is".
    Value(String),
}

/// Options in the making.
#[derive(Debug, Clone)]
pub struct Builder {
    /// How the notation writes [`OptionValue::Unbounded`].
    unbounded: &'static str,
    options: Options,
    compact: Option<bool>,
    last: Option<bool>,
}

impl Builder {
    /// Nothing yet, from a notation that has this word for no bound.
    pub fn new(unbounded: &'static str) -> Self {
        Self { unbounded, options: Options::default(), compact: None, last: None }
    }

    /// Takes a member.
    ///
    /// # Errors
    /// A [`Fault`]; it is the member's.
    pub fn set(&mut self, name: &str, value: &OptionValue<'_>) -> Result<(), Fault> {
        match name {
            "durability" => self.options.durability = Some(durability(value)?),
            "max_age" => self.options.max_age_ms = Some(self.bound(value, 1000)?),
            "max_messages" => self.options.max_messages = Some(self.bound(value, 1)?),
            "max_bytes" => self.options.max_bytes = Some(self.bound(value, 1)?),
            "compact" => self.compact = Some(boolean(value)?),
            "last" => self.last = Some(boolean(value)?),
            "title" => self.options.title = Some(label(value, TITLE_BYTES_MAX)?),
            "description" => self.options.description = Some(label(value, DESCRIPTION_BYTES_MAX)?),
            _ => return Err(Fault::Unknown),
        }
        Ok(())
    }

    /// The options. `compact` and `last` are one choice: one of the two that is left out is `false` where the other
    /// stands.
    ///
    /// # Errors
    /// Where they are both true.
    pub fn finish(self) -> Result<Options, Fault> {
        let keep = match (self.compact, self.last) {
            (None, None) => None,
            (Some(true), Some(true)) => return Err(Fault::Value("`false` where `compact` is `true`".into())),
            (Some(true), _) => Some(Keep::Compact),
            (_, Some(true)) => Some(Keep::Last),
            _ => Some(Keep::All),
        };
        Ok(Options { keep, ..self.options })
    }

    /// A bound, in units of so many of those that are stored.
    fn bound(&self, value: &OptionValue<'_>, unit: u64) -> Result<Bound, Fault> {
        match *value {
            OptionValue::Unbounded => Ok(Bound::NONE),
            OptionValue::Number(number) if (1..=OPTION_MAX).contains(&number) => Ok(Bound(number * unit)),
            _ => Err(Fault::Value(format!("a whole number from 1 to {OPTION_MAX}, or {}", self.unbounded))),
        }
    }
}

fn durability(value: &OptionValue<'_>) -> Result<Durability, Fault> {
    let known = |word: &str| DURABILITIES.iter().find(|(name, _)| *name == word);
    match value {
        OptionValue::Text(word) => known(word).map(|(_, durability)| *durability),
        _ => None,
    }
    .ok_or_else(|| Fault::Value("`sync`, `relaxed` or `memory`".into()))
}

/// Text for people.
fn label(value: &OptionValue<'_>, bytes_max: usize) -> Result<Arc<str>, Fault> {
    match value {
        OptionValue::Text(text) if (1..=bytes_max).contains(&text.len()) => Ok(text.as_ref().into()),
        _ => Err(Fault::Value(format!("a string of 1 to {bytes_max} bytes"))),
    }
}

fn boolean(value: &OptionValue<'_>) -> Result<bool, Fault> {
    match value {
        OptionValue::Boolean(boolean) => Ok(*boolean),
        _ => Err(Fault::Value("`true` or `false`".into())),
    }
}

/// The term that the raw rest of a path below `/options/` names.
///
/// # Errors
/// `topic-invalid`, `topic-reserved`.
pub fn term(raw: &str) -> Result<Term, Problem> {
    settable(path::term(raw)?)
}

/// The term of a line's `topic`.
pub(crate) fn named_term(name: &str) -> Result<Term, Problem> {
    settable(Term::parse(name).map_err(|error| query::named(error.into(), "topic"))?)
}

/// The broker's own topics have no options.
fn settable(term: Term) -> Result<Term, Problem> {
    if term.is_reserved() { Err(Problem::new(Code::TopicReserved)) } else { Ok(term) }
}

/// Parses the body of a PUT on a term's options.
///
/// # Errors
/// `media-type-invalid`, `json-invalid`, `options-invalid`.
pub fn parse(term: &Term, content_type: Option<&str>, body: &[u8]) -> Result<Options, Problem> {
    let media_type = MediaType::new(content_type.unwrap_or_default());
    if !media_type.essence().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Err(Problem::detailed(Code::MediaTypeInvalid, "options are `application/json`"));
    }
    read(term, draft::check_json(body)?, &[])
}

/// Parses the options that stand in a `set_options` line, which is JSON.
pub(crate) fn parse_line(term: &Term, line: &str) -> Result<Options, Problem> {
    read(term, line, &LINE_MEMBERS)
}

/// Reads an object of options. Its `topic` and `effective` are an answer's, which may be changed and sent back.
fn read(term: &Term, json: &str, beside: &[&str]) -> Result<Options, Problem> {
    let members: Pairs<&RawValue> = serde_json::from_str(json)
        .map_err(|_| Problem::detailed(Code::OptionsInvalid, "options are a JSON object"))?;
    let mut builder = Builder::new("null");
    for (index, (name, raw)) in members.0.iter().enumerate() {
        if members.0[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(invalid(name, format!("`{name}` stands more than once")));
        }
        match &**name {
            "topic" if value(raw) == OptionValue::Text(term.as_str().into()) => {}
            "topic" => return Err(invalid(name, "`topic` is that of the resource, or left out")),
            "effective" => {}
            other if beside.contains(&other) => {}
            _ => builder.set(name, &value(raw)).map_err(|fault| told(name, fault))?,
        }
    }
    builder.finish().map_err(|fault| told("last", fault))
}

fn told(name: &str, fault: Fault) -> Problem {
    match fault {
        Fault::Unknown => {
            let detail = format!("`{}` is no option; there are `{}`", shown(name), MEMBERS.join("`, `"));
            invalid(name, detail)
        }
        Fault::Value(rule) => invalid(name, format!("`{name}` is {rule}")),
    }
}

fn invalid(name: &str, detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::parameter(Code::OptionsInvalid, shown(name), detail)
}

/// A member's name for an answer: of one that is as long as its line, the beginning is enough.
fn shown(name: &str) -> String {
    name.chars().take(NAME_CHARS_SHOWN).collect()
}

/// A member's value in JSON.
fn value(raw: &RawValue) -> OptionValue<'_> {
    match raw.get() {
        "null" => OptionValue::Unbounded,
        "true" => OptionValue::Boolean(true),
        "false" => OptionValue::Boolean(false),
        text => match number::whole(text) {
            Some(number) => OptionValue::Number(number),
            None => serde_json::from_str(text)
                .map_or(OptionValue::Other, |text: String| OptionValue::Text(text.into())),
        },
    }
}

/// Appends what is set for a term: `{"topic":"chat/**","durability":"relaxed",…}`; and with a `rule`, as for a topic,
/// what holds by all options: `…,"effective":{…}}`.
pub fn body(term: &Term, options: &Options, rule: Option<Rule>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    json::string(term.as_str(), out);
    members(options, out);
    if let Some(rule) = rule {
        out.extend_from_slice(b",\"effective\":");
        let open = out.len();
        members(&stated(rule), out);
        // A rule has all members: the first one's comma is where the brace belongs.
        out[open] = b'{';
        out.push(b'}');
    }
    out.push(b'}');
}

/// Appends the list of all options: `{"options":[{"topic":"chat/**",…},…]}`.
pub fn list<'a>(entries: impl IntoIterator<Item = (&'a Term, &'a Options)>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"options\":[");
    for (index, (term, options)) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        body(term, options, None, out);
    }
    out.extend_from_slice(b"]}");
}

/// The options that say all that a rule says.
fn stated(rule: Rule) -> Options {
    let bound = |bound: Option<u64>| Some(bound.map_or(Bound::NONE, Bound));
    Options {
        durability: Some(rule.durability),
        max_age_ms: bound(rule.max_age_ms),
        max_messages: bound(rule.max_messages),
        max_bytes: bound(rule.max_bytes),
        keep: Some(rule.keep),
        title: None,
        description: None,
    }
}

/// The options that are set, each with a comma before it.
fn members(options: &Options, out: &mut Vec<u8>) {
    let word = |durability| DURABILITIES.iter().find(|(_, own)| Some(*own) == durability);
    if let Some((word, _)) = word(options.durability) {
        json::string_member("durability", word, out);
    }
    let age_s = options.max_age_ms.map(|age| age.get().map_or(age, |ms| Bound(ms / 1000)));
    let bounds =
        [("max_age", age_s), ("max_messages", options.max_messages), ("max_bytes", options.max_bytes)];
    for (name, bound) in bounds {
        match bound.map(Bound::get) {
            Some(Some(bound)) => json::number_member(name, bound, out),
            Some(None) => json::null_member(name, out),
            None => {}
        }
    }
    if let Some(keep) = options.keep {
        json::boolean_member("compact", keep == Keep::Compact, out);
        json::boolean_member("last", keep == Keep::Last, out);
    }
    for (name, label) in [("title", &options.title), ("description", &options.description)] {
        if let Some(label) = label {
            json::string_member(name, label, out);
        }
    }
}
