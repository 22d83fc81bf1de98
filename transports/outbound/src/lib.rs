//! The broker as a client of others: the keys that issuers publish ([`fetch_keys`]), and decisions that it asks an application for
//! ([`HookClient`]). Whom it asks stands in its configuration, never in a request; redirects are not followed.
//!
//! It knows no listener, no format of messages and no store, and reads no configuration.

mod client;
mod hook;
mod keys;
mod signature;

pub use client::agent;
pub use hook::{HookClient, HookError, HookHolding};
pub use keys::fetch_keys;
