//! Publishers: a plan, its bytes, its connections, and what became of each publish.

pub(crate) mod answers;
pub(crate) mod encode;
pub(crate) mod failed;
pub(crate) mod outcome;
pub(crate) mod plan;
pub(crate) mod publisher;
