//! Access: who makes a request, and what they may. Pure decisions: no HTTP, no socket, no file, no clock and no random
//! number of its own. Time, random bytes, key material and documents of keys come in as arguments; principals, narrowed
//! filters and reasons come out.
//!
//! [`Access`] is the whole of it. A transport calls, in this order: one of its functions that make a
//! [`Principal`](tailwire_model::Principal) of a credential, then a `permit_…` with it; and, for what stays open,
//! [`Access::check`] whenever a [`Change`] concerns the principal.

mod access;
mod change;
pub mod config;
mod digest;
mod error;
mod explain;
mod granted;
mod hook;
mod key_request;
mod keys;
mod names;
mod records;
mod refused;
mod revocations;
mod rules;
mod settings;
mod tickets;
mod token;

pub use access::{Access, Ended};
pub use change::{AccessRecord, Change, RecordsFull};
pub use error::AccessError;
pub use explain::{DecisionStep, Explanation, Verdict};
pub use hook::{Hook, HookAnswer, HookQuestion};
pub use key_request::KeyRequest;
pub use keys::{AccessKeyRecord, Key, KeyError, NewKey};
pub use records::RecordError;
pub use refused::Refused;
pub use revocations::{Revocation, RevocationTarget};
pub use rules::{Who, WhoError, template::TemplateError};
pub use tickets::TicketError;
pub use token::{
    Check, TokenError,
    jwks::JwksError,
    mint::{MintError, inspect, mint},
    verifying::KeyFault,
};
