//! Access control, put to work: the pure decisions of the access crate, with the files, the clock, the random numbers and
//! the log that they need.

mod authenticator;
mod certificate;
mod cookie;
mod credentials;
mod deciding;
mod fetching;
mod gate;
mod jwks;
mod operator;
mod records;

pub(crate) use authenticator::Doorkeeper;
pub(crate) use credentials::Registry;
pub(crate) use gate::{Gate, read_source};
pub(crate) use jwks::keep;
pub(crate) use operator::{OPERATOR_KEY, provide};
pub(crate) use records::{follow, load, record_options};
