//! Maintenance between commits: tidying, the index written behind, files beside the engine's, and figures for operators.

pub(crate) mod ballast;
pub(crate) mod behind;
pub(crate) mod figures;
pub(crate) mod folder_watch;
pub(crate) mod key_count;
pub(crate) mod recount;
mod retained;
pub(crate) mod room;
pub(crate) mod snapshots;
pub(crate) mod tidy;
