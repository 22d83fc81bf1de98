//! A fault in a configuration. Nobody branches on it: it is for the person who wrote it.

use std::fmt;

/// The configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct AccessError {
    /// Where, as in `access.rule[2].subscribe[0]`.
    pub at: String,
    /// The fault.
    pub problem: String,
}

impl AccessError {
    pub(crate) fn at(at: String, problem: impl fmt::Display) -> Self {
        Self { at, problem: problem.to_string() }
    }
}
