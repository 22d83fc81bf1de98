//! The error of an opening, and ways to come to it.

use std::{
    io,
    path::{Path, PathBuf},
};

use tailwire_core::StoreError;

use crate::{
    codec::Damage,
    sled_store::{failure::NOT_AS_WRITTEN, layout::FORMAT},
};

/// Why a log can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("another process has this log open: stop it first, or choose another directory")]
    Locked,
    /// The directory can't be created or written to.
    #[error("{0} can't be written to: {1}")]
    NotWritable(PathBuf, String),
    /// The folder holds no log, and files of others, such as this one.
    #[error(
        "it holds no log, but other files, such as {0}: choose an empty folder, or one that is only for the log"
    )]
    Foreign(String),
    /// The store is damaged.
    #[error("the log is damaged, and opening it would hide what is lost: {0}")]
    Corrupt(String),
    /// It has less than what was acknowledged.
    #[error("the log is not what it was: {0}")]
    Short(String),
    /// It was written by a version that stores things otherwise.
    #[error("the log is of format {0}, which this version does not read (it reads format {FORMAT})")]
    Version(u32),
    /// The disk or the store failed.
    #[error("the log can't be opened: {0}")]
    Io(String),
}

pub(crate) fn corrupt(what: &str, Damage(damage): Damage) -> OpenError {
    OpenError::Corrupt(format!("{what}: {damage}"))
}

// By value, as `map_err` wants it; so the next one.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn failed(error: sled::Error) -> OpenError {
    match error {
        sled::Error::Io(error) => OpenError::Io(error.to_string()),
        _ => OpenError::Corrupt(NOT_AS_WRITTEN.into()),
    }
}

pub(crate) fn not_writable(path: &Path, error: &io::Error) -> OpenError {
    use io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    match error.kind() {
        PermissionDenied | ReadOnlyFilesystem | NotADirectory | AlreadyExists => {
            OpenError::NotWritable(path.into(), error.to_string())
        }
        _ => OpenError::Io(error.to_string()),
    }
}

pub(crate) fn unreadable(error: StoreError) -> OpenError {
    match error {
        StoreError::Corrupt(what) => OpenError::Corrupt(what),
        other => OpenError::Io(other.to_string()),
    }
}
