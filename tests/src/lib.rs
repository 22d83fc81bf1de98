//! What the tests share that are programs or run one.

pub mod subprotocols;
