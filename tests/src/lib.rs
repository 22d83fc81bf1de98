//! Common parts of tests that are programs or run one.

pub mod subprotocols;
