//! One key of the settings file: its value read as one type or another, and errors that name its line.

use std::ops::Range;

use toml::{Spanned, de::DeValue};

use super::source::{ConfigError, FileText, SettingSource, Sourced};

/// One key of the file with its value.
pub(super) struct FileEntry<'a, 'i> {
    pub(super) file: FileText<'a>,
    pub(super) key: String,
    pub(super) span: Range<usize>,
    pub(super) value: &'a Spanned<DeValue<'i>>,
}

impl FileEntry<'_, '_> {
    fn origin(&self) -> SettingSource {
        SettingSource::File { path: self.file.path.into(), line: self.line(), key: self.key.clone() }
    }

    fn line(&self) -> usize {
        line_of(self.file.text, &self.span)
    }

    pub(super) fn given<T>(&self, value: T) -> Sourced<T> {
        Sourced { value, origin: self.origin() }
    }

    pub(super) fn text(&self) -> Result<String, ConfigError> {
        self.value.get_ref().as_str().map(str::to_owned).ok_or_else(|| self.mistyped("a string"))
    }

    /// A bare port may go without quotes.
    pub(super) fn text_or_port(&self) -> Result<Sourced<String>, ConfigError> {
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

    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        self.value.get_ref().as_bool().ok_or_else(|| self.mistyped("true or false"))
    }

    pub(super) fn list(&self) -> Result<Vec<String>, ConfigError> {
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

pub(super) fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|&byte| byte == b'\n').count() + 1
}
