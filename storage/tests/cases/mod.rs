//! The cases of the conformance suite.

#![allow(clippy::unwrap_used)]

pub(crate) mod append;
pub(crate) mod forgetting;
pub(crate) mod opening;
pub(crate) mod options;
pub(crate) mod read;
pub(crate) mod removal;
pub(crate) mod trim;
