//! Context that goes with a request to its handler.

use tailwire_model::Principal;

use super::{access_log::AccessEntry, guard::Cors};
use crate::connection::{caller::Caller, exchange::Exchange, pinned::Account};

/// How a request came, and whose it is.
pub(crate) struct Via {
    pub(crate) principal: Principal,
    /// The addresses of its sender.
    pub(crate) caller: Caller,
    /// Its access to the connection, if that is HTTP/1.1.
    pub(crate) exchange: Option<Exchange>,
    /// Its entry of the access log.
    pub(crate) entry: AccessEntry,
    /// The headers that the guard would have added to the head.
    pub(crate) cors: Cors,
    /// What its connection holds of answers; behind a trusted proxy, what it does itself.
    pub(crate) account: Account,
}
