//! The WebSocket subprotocols: a table. To add one, write a [`Protocol`](crate::Protocol) and name it here; nothing else knows
//! which there are.

use tailwire_wire::{Format, negotiate::SUBPROTOCOL};

use super::{native, opening::Subprotocol};
use crate::connection::input::Takes;

/// The subprotocols of the product, the one that is meant when none is offered first.
pub(crate) const TABLE: [Subprotocol; 1] = [Subprotocol {
    name: SUBPROTOCOL,
    takes: Takes::Text,
    format: Format::Frame as usize,
    authenticates: true,
    open: native::open,
}];

/// The entry of the subprotocol that was chosen of those that the client offered, or else of the native one.
pub(crate) fn entry(table: &[Subprotocol], chosen: Option<&str>) -> Subprotocol {
    let chosen = table.iter().find(|entry| Some(entry.name) == chosen);
    *chosen.unwrap_or(&TABLE[0])
}
