//! The broker.

pub mod log;
pub use log::Log;
