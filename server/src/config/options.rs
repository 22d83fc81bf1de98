//! The `[[options]]` of the settings file: each names a topic or pattern, and what holds there as far as no client sets
//! something else. The members and their rules are those of `/options`; only the notation is TOML's.

use std::collections::BTreeSet;

use tailwire_model::{Options, Term, limits::OPTIONS_MAX};
use tailwire_wire::options::{Builder, Fault, MEMBERS, OptionValue};
use toml::de::{DeTable, DeValue};

use super::{
    entry::FileEntry,
    source::{ConfigError, hint},
};

/// The word for no bound, as TOML has no `null`.
const UNBOUNDED: &str = "none";
const TOPIC: &str = "topic";

/// Reads the list, in its order.
pub(super) fn parse(list: &FileEntry<'_, '_>) -> Result<Vec<(Term, Options)>, ConfigError> {
    let wrong = || list.mistyped("a list of tables, each headed [[options]]");
    let entries = list.value.get_ref().as_array().ok_or_else(wrong)?;
    if entries.len() > OPTIONS_MAX {
        return Err(list.wrong(format!("can't stand more than {OPTIONS_MAX} times")));
    }
    let mut terms = BTreeSet::new();
    let mut parsed = Vec::with_capacity(entries.len());
    for value in entries {
        let entry = FileEntry { file: list.file, key: list.key.clone(), span: value.span(), value };
        let table = value.get_ref().as_table().ok_or_else(wrong)?;
        let (term, options) = parse_one(&entry, table)?;
        if !terms.insert(term.clone()) {
            return Err(entry.wrong(format!("can't name `{}` twice", term.as_str())));
        }
        parsed.push((term, options));
    }
    Ok(parsed)
}

fn parse_one(entry: &FileEntry<'_, '_>, table: &DeTable<'_>) -> Result<(Term, Options), ConfigError> {
    let mut term = None;
    let mut last = None;
    let mut builder = Builder::new("\"none\"");
    for (key, value) in table {
        let name = key.get_ref();
        let member = FileEntry { file: entry.file, key: format!("options.{name}"), span: key.span(), value };
        if name == TOPIC {
            term = Some(member.given(member.text()?).read(|text| parse_term(&text))?);
            continue;
        }
        builder.set(name, &value_of(&member)).map_err(|fault| blamed(&member, name, fault))?;
        if name == "last" {
            last = Some(member);
        }
    }
    let options = builder.finish().map_err(|fault| blamed(last.as_ref().unwrap_or(entry), "last", fault))?;
    let term = term.ok_or_else(|| entry.wrong("need a topic: the topic or pattern that they are for"))?;
    Ok((term, options))
}

fn parse_term(text: &str) -> Result<Term, String> {
    let term = Term::parse(text).map_err(|error| format!("can't be `{text}`: {error}"))?;
    if term.is_reserved() {
        return Err(format!("can't be `{text}`: the broker's own topics have no options"));
    }
    Ok(term)
}

fn value_of<'a>(member: &'a FileEntry<'_, '_>) -> OptionValue<'a> {
    match member.value.get_ref() {
        DeValue::String(text) if text == UNBOUNDED => OptionValue::Unbounded,
        DeValue::String(text) => OptionValue::Text(text.as_ref().into()),
        DeValue::Boolean(boolean) => OptionValue::Boolean(*boolean),
        DeValue::Integer(_) => {
            let number = member.number().ok().and_then(|number| u64::try_from(number).ok());
            number.map_or(OptionValue::Other, OptionValue::Number)
        }
        _ => OptionValue::Other,
    }
}

fn blamed(member: &FileEntry<'_, '_>, name: &str, fault: Fault) -> ConfigError {
    match fault {
        Fault::Unknown => {
            let known: Vec<_> = std::iter::once(TOPIC).chain(MEMBERS).collect();
            member.unknown(hint(name, &known))
        }
        Fault::Value(rule) => member.wrong(format!("has to be {rule}")),
    }
}
