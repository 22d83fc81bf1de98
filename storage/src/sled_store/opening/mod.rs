//! Everything before the first commit: the engine and its lock, what the last process left, and whether that is all that
//! was acknowledged.

pub(crate) mod acknowledged;
pub(crate) mod count;
pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod folder;
pub(crate) mod open;
pub(crate) mod recover;
