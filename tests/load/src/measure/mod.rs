//! Measuring: payloads and the scan for them, topics, clocks, processes, the report.

pub(crate) mod clock;
pub mod descriptors;
pub mod histogram;
pub mod payload;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod scan;
pub(crate) mod topic_set;
