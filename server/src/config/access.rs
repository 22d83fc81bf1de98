//! The section `[access]` of the settings file. Its keys and their rules are those of the access crate; this finds the line
//! of whatever is wrong there.

use serde::Deserialize;
use tailwire_access::config::AccessConfig;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{
    entry::{FileEntry, line_of},
    source::{ConfigError, hint},
};

/// Reads the section; what it means is checked when it is put to use.
pub(super) fn parse(entry: &FileEntry<'_, '_>) -> Result<AccessConfig, ConfigError> {
    let deserializer = ValueDeserializer::from(entry.value.clone());
    AccessConfig::deserialize(deserializer).map_err(|error| {
        let line = line_of(entry.file.text, &error.span().unwrap_or(entry.span.clone()));
        let path = entry.file.path.into();
        let message = error.message();
        match unknown_field(message) {
            Some((key, hint)) => ConfigError::UnknownKey { path, line, key, hint },
            None => ConfigError::Syntax { path, line, problem: format!("access: {}", without_text(message)) },
        }
    })
}

/// The key that is not known, and the nearest that is.
fn unknown_field(message: &str) -> Option<(String, String)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let key = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    Some((key.to_owned(), hint(key, &known)))
}

/// A complaint without the text that it is about: that may be a secret.
fn without_text(message: &str) -> String {
    match (message.strip_prefix("invalid type: string "), message.rsplit_once(", expected ")) {
        (Some(_), Some((_, expected))) => format!("invalid type: a string, expected {expected}"),
        _ => message.lines().collect::<Vec<_>>().join(", "),
    }
}

/// The line of a key such as `access.rule[2].subscribe[0]`, or of the nearest around it that is there.
pub(crate) fn line_of_key(text: &str, key: &str) -> usize {
    let mut line = 1;
    let Ok(document) = DeTable::parse(text) else { return line };
    let mut table = Some(document.get_ref());
    for part in key.split('.') {
        let (name, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        let Some((key, found)) = table.and_then(|table| table.get_key_value(name)) else { return line };
        line = line_of(text, &key.span());
        let mut value = found;
        for index in indices.split(['[', ']']).filter_map(|digits| digits.parse::<usize>().ok()) {
            let Some(item) = value.get_ref().as_array().and_then(|items| items.get(index)) else {
                return line;
            };
            line = line_of(text, &item.span());
            value = item;
        }
        table = match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => None,
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
listen = 1

[access]
leeway_seconds = 5

[[access.rule]]
who = \"any\"

[[access.rule]]
who = \"any\"
subscribe = [
  \"a\",
  \"b\",
]
";

    #[test]
    fn a_key_has_a_line() {
        for (key, line) in [
            ("access", 3),
            ("access.leeway_seconds", 4),
            ("access.rule[0]", 6),
            ("access.rule[1].who", 10),
            ("access.rule[1].subscribe[1]", 13),
            ("access.rule[1].publish", 9),
            ("access.audience", 3),
            ("nothing", 1),
        ] {
            assert_eq!(line_of_key(TEXT, key), line, "{key}");
        }
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let message = "invalid type: string \"hush, expected\", expected a sequence";
        assert_eq!(without_text(message), "invalid type: a string, expected a sequence");
    }
}
