//! The settings file: TOML, read key by key rather than derived, so that every complaint has its line.

use std::{ops::Range, path::PathBuf};

use tailwire_model::{Options, Term};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{ConfigError, FileText, Given, Origin, hint, options};

/// What a file says, as far as it says anything.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    pub(super) listen: Option<Given<String>>,
    pub(super) data: Option<Given<PathBuf>>,
    pub(super) log_level: Option<Given<String>>,
    pub(super) allow_origins: Option<Given<Vec<String>>>,
    pub(super) log_max_bytes: Option<Given<String>>,
    pub(super) options: Vec<(Term, Options)>,
    pub(super) threads_front: Option<Given<i64>>,
    pub(super) threads_delivery: Option<Given<i64>>,
}

const KEYS: [&str; 7] =
    ["listen", "data", "log_level", "allow_origins", "log_max_bytes", "threads", "options"];
const THREADS_KEYS: [&str; 2] = ["threads.front", "threads.delivery"];

pub(super) fn parse(file: FileText<'_>) -> Result<FileSettings, ConfigError> {
    let document = DeTable::parse(file.text).map_err(|error| ConfigError::Syntax {
        path: file.path.into(),
        line: error.span().map_or(1, |span| line_of(file.text, &span)),
        problem: error.message().lines().collect::<Vec<_>>().join(", "),
    })?;

    let mut settings = FileSettings::default();
    for (key, value) in document.get_ref() {
        let entry = Entry { file, key: key.get_ref().to_string(), span: key.span(), value };
        match entry.key.as_str() {
            "listen" => settings.listen = Some(entry.text_or_port()?),
            "data" => settings.data = Some(entry.given(entry.text()?.into())),
            "log_level" => settings.log_level = Some(entry.given(entry.text()?)),
            "allow_origins" => settings.allow_origins = Some(entry.given(entry.list()?)),
            "log_max_bytes" => {
                settings.log_max_bytes = Some(entry.given(entry.number()?.to_string()));
            }
            "options" => settings.options = options::parse(&entry)?,
            "threads" => parse_threads(&entry, &mut settings)?,
            _ => return Err(entry.unknown(hint(&entry.key, &KEYS))),
        }
    }
    Ok(settings)
}

fn parse_threads(threads: &Entry<'_, '_>, settings: &mut FileSettings) -> Result<(), ConfigError> {
    let table = threads
        .value
        .get_ref()
        .as_table()
        .ok_or_else(|| threads.mistyped("a table with front and delivery"))?;
    for (key, value) in table {
        let key_text = format!("threads.{}", key.get_ref());
        let entry = Entry { file: threads.file, key: key_text, span: key.span(), value };
        match entry.key.as_str() {
            "threads.front" => settings.threads_front = Some(entry.given(entry.number()?)),
            "threads.delivery" => settings.threads_delivery = Some(entry.given(entry.number()?)),
            _ => return Err(entry.unknown(hint(&entry.key, &THREADS_KEYS))),
        }
    }
    Ok(())
}

/// One key of the file with its value.
pub(super) struct Entry<'a, 'i> {
    pub(super) file: FileText<'a>,
    pub(super) key: String,
    pub(super) span: Range<usize>,
    pub(super) value: &'a Spanned<DeValue<'i>>,
}

impl Entry<'_, '_> {
    fn origin(&self) -> Origin {
        Origin::File { path: self.file.path.into(), line: self.line(), key: self.key.clone() }
    }

    fn line(&self) -> usize {
        line_of(self.file.text, &self.span)
    }

    pub(super) fn given<T>(&self, value: T) -> Given<T> {
        Given { value, origin: self.origin() }
    }

    pub(super) fn text(&self) -> Result<String, ConfigError> {
        self.value.get_ref().as_str().map(str::to_owned).ok_or_else(|| self.mistyped("a string"))
    }

    /// A bare port may go without quotes.
    fn text_or_port(&self) -> Result<Given<String>, ConfigError> {
        match self.value.get_ref() {
            DeValue::Integer(_) => Ok(self.given(self.number()?.to_string())),
            DeValue::String(text) => Ok(self.given(text.to_string())),
            _ => Err(self.mistyped("a string or a port")),
        }
    }

    pub(super) fn number(&self) -> Result<i64, ConfigError> {
        let number = self.value.get_ref().as_integer();
        let number = number.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        number.ok_or_else(|| self.mistyped("a number"))
    }

    fn list(&self) -> Result<Vec<String>, ConfigError> {
        let wrong = || self.mistyped("a list of strings");
        let items = self.value.get_ref().as_array().ok_or_else(wrong)?;
        items.iter().map(|item| item.get_ref().as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    pub(super) fn mistyped(&self, wanted: &str) -> ConfigError {
        self.wrong(format!("is of type {}; it should be {wanted}", self.value.get_ref().type_str()))
    }

    pub(super) fn wrong(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value { origin: self.origin(), problem: problem.into() }
    }

    pub(super) fn unknown(&self, hint: String) -> ConfigError {
        let (path, line, key) = (self.file.path.into(), self.line(), self.key.clone());
        ConfigError::UnknownKey { path, line, key, hint }
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|&byte| byte == b'\n').count() + 1
}
