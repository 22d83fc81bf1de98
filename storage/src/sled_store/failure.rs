//! Failures of the engine as errors of the store. Knows no tree and no layout.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tailwire_core::StoreError;
use tailwire_model::Position;

use crate::codec::Damage;

/// The message for damage: the engine's own names its insides, which help nobody.
pub(crate) const NOT_AS_WRITTEN: &str = "its files are not what was written";

/// Runs something that asks the engine. The engine asserts what it reads and writes: what trips it is damage, or a disk
/// that failed, and not a reason to lose the thread.
pub(crate) fn guarded<T>(ask: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| Err(StoreError::Corrupt(NOT_AS_WRITTEN.into())))
}

/// The error for damage in what stands at a position.
pub(crate) fn corrupt(what: &str, position: Position, Damage(damage): Damage) -> StoreError {
    StoreError::Corrupt(format!("the {what} at position {position}: {damage}"))
}

/// The error for a failed call that changed nothing.
// By value, as `map_err` wants it.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn failed(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => StoreError::Corrupt(NOT_AS_WRITTEN.into()),
        sled::Error::Io(error) => StoreError::Failed(error.to_string()),
        other => StoreError::Failed(other.to_string()),
    }
}
