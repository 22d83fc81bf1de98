//! How a commit becomes durable, and what tells at the next opening whether it did: the journal, the checkpoints of the
//! engine's file, the watermark beside the store, and the count of records.

pub(crate) mod checkpoint;
pub(crate) mod commit;
pub(crate) mod counting;
pub(crate) mod durable;
pub(crate) mod journal;
pub(crate) mod manifest;
pub(crate) mod tree;
pub(crate) mod watermark;
