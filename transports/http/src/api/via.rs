//! Context that goes with a request to its handler.

use tailwire_model::Principal;

use super::guard::Cors;
use crate::connection::{exchange::Exchange, pinned::Account};

/// How a request came, and whose it is.
pub(crate) struct Via {
    pub(crate) principal: Principal,
    /// Its access to the connection, if that is HTTP/1.1.
    pub(crate) exchange: Option<Exchange>,
    /// The headers that the guard would have added to the head.
    pub(crate) cors: Cors,
    /// What its connection holds of answers.
    pub(crate) account: Account,
}
