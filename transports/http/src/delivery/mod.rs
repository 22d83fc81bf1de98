//! Delivery: the runtimes of the shards, and what runs on them or waits with others: streams, bodies, long-polls.

pub(crate) mod body;
pub(crate) mod polls;
pub(crate) mod shards;
pub(crate) mod stream;
