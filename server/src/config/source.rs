//! Where a value comes from, and what is wrong with one: every refusal names its source.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use tailwire_access::AccessError;

/// The settings file, read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileText<'a> {
    /// Its path, for errors.
    pub(crate) path: &'a Path,
    /// Its content.
    pub(crate) text: &'a str,
}

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingSource {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Variable(&'static str),
    /// A key of the settings file.
    File { path: PathBuf, line: usize, key: String },
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
        }
    }
}

/// A value with its source.
#[derive(Debug, Clone)]
pub(super) struct Sourced<T> {
    pub(super) value: T,
    pub(super) origin: SettingSource,
}

impl<T> Sourced<T> {
    /// Its source alone.
    pub(super) fn source(self) -> Sourced<()> {
        Sourced { value: (), origin: self.origin }
    }

    /// Parses the value; an error names its source.
    pub(super) fn read<U>(self, parse: impl FnOnce(T) -> Result<U, String>) -> Result<U, ConfigError> {
        let Self { value, origin } = self;
        parse(value).map_err(|problem| ConfigError::Value { origin, problem })
    }
}

/// Errors in settings. Each is a sentence for the person who wrote them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("unknown variable {name}; {hint}")]
    UnknownVariable { name: String, hint: String },
    #[error("{}:{line}: unknown key `{key}`; {hint}", path.display())]
    UnknownKey { path: PathBuf, line: usize, key: String, hint: String },
    #[error("{origin} {problem}")]
    Value { origin: SettingSource, problem: String },
    #[error("{}:{line}: {error}", path.display())]
    Access { path: PathBuf, line: usize, error: AccessError },
    #[error("{}:{line}: {problem}", path.display())]
    Syntax { path: PathBuf, line: usize, problem: String },
    #[error("{origin}: can't read {}: {problem}", path.display())]
    Unreadable { origin: SettingSource, path: PathBuf, problem: String },
}

/// Names the nearest of the known words, or all of them where none comes near.
pub(super) fn hint(unknown: &str, known: &[&str]) -> String {
    /// Below this, a likeness is chance.
    const NEAR: f64 = 0.75;
    let likeness = |word: &str| strsim::jaro_winkler(&unknown.to_lowercase(), &word.to_lowercase());
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(nearest) if likeness(nearest) >= NEAR => format!("did you mean {nearest}?"),
        _ => format!("known are {}", known.join(", ")),
    }
}
