//! The error of a run.

use std::io;

/// The reason why a run can't be done, as a sentence for the user. It ends the command.
#[derive(Debug)]
pub(crate) struct LoadError(pub(crate) String);

impl LoadError {
    /// For `map_err`: names the operation that failed.
    pub(crate) fn during(doing: &str) -> impl FnOnce(io::Error) -> LoadError {
        move |error| LoadError(format!("{doing}: {error}"))
    }
}
