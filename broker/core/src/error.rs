//! Why the broker doesn't do what it is asked: one small enum an operation.

use tailwire_model::{Forbidden, QuotaExceeded};

use crate::order::WriteError;

/// Why a reader could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    /// None of the filter may be read.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a publish was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The principal may not do that there.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The topic is the broker's own.
    #[error("the topic is the broker's own")]
    Reserved,
    /// A quota has no room for it.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The topic keeps more than one message of a key, so that no single one can take their place.
    #[error("the topic is not compacted")]
    NotCompacted,
    /// See [`WriteError`].
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why a message can't be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// There never was such a message, as far as this log knows.
    #[error("no such message")]
    Unknown,
    /// It was there, and is gone.
    #[error("the message is gone")]
    Gone,
    /// The principal may not read its topic.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// See [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a message was not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// There is none.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// See [`PublishError`].
    #[error(transparent)]
    Write(#[from] PublishError),
}

/// The log could not be read. The cursor stays good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store failed. It may be better the next time.
    #[error("the log could not be read")]
    Failed,
    /// The store is damaged, and stays so until an operator repairs it.
    #[error("the log is damaged here")]
    Damaged,
    /// This node has yet to be brought what the cursor has seen on another.
    #[error("this node is behind the cursor")]
    Behind,
}
