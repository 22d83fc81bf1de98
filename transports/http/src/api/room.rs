//! Room for answers that clients have yet to take: it is taken before anything is read for one, and goes with its response.

use std::future::Future;

use axum::{
    body::{Body, HttpBody},
    http::Response,
};
use tailwire_model::limits::{PAGE_BYTES_MAX, PINNED_WAIT_MS_MAX};
use tailwire_wire::{Code, Problem};

use super::reply::refuse;
use crate::connection::pinned::{Account, NoPinnedRoom, Pinned, Reserved};

/// The memory for making an answer: the stored bytes, the messages, their encoding, and the body. Afterwards it counts
/// as what it is.
const ANSWER_BYTES: usize = 4 * PAGE_BYTES_MAX;
/// Smaller answers are bounded by their number: a connection has few under way.
const SMALL_BYTES: usize = 16 << 10;

/// Takes the room for making an answer, before anything is read for it.
///
/// # Errors
/// A 503: there is none in time.
pub(crate) async fn answer_room(account: &Account) -> Result<Pinned, Problem> {
    take_room(account, ANSWER_BYTES).await
}

/// Takes room for so many bytes that a client has yet to take.
///
/// # Errors
/// A 503: there is none in time.
pub(crate) async fn take_room(account: &Account, bytes: usize) -> Result<Pinned, Problem> {
    let no_room = || Problem::new(Code::Overloaded).with_retry_after_ms(PINNED_WAIT_MS_MAX);
    account.admit(bytes).await.map_err(|NoPinnedRoom| no_room())
}

/// Makes an answer once there is room for it.
pub(crate) async fn admitted(account: Account, make: impl Future<Output = Response<Body>>) -> Response<Body> {
    match answer_room(&account).await {
        Ok(room) => counted(make.await, room),
        Err(problem) => refuse(&problem),
    }
}

/// Counts an answer that is there: after a wait, during which it had no room.
pub(crate) fn counted(mut response: Response<Body>, mut room: Pinned) -> Response<Body> {
    let bytes = response.body().size_hint().exact().unwrap_or(0) as usize;
    if bytes > SMALL_BYTES && response.extensions().get::<Reserved>().is_none() {
        room.set(bytes);
        response.extensions_mut().insert(Reserved::new(room));
    }
    response
}
