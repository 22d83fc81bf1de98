//! Room for answers that clients have yet to take: it is taken before anything is read for one, and goes with its response.

use std::future::Future;

use axum::{
    body::{Body, HttpBody},
    http::Response,
};
use tailwire_model::limits::PAGE_BYTES_MAX;

use super::{app::no_room, reply::refuse};
use crate::connection::pinned::{Account, Pinned, Reserved};

/// The memory for making an answer: the stored bytes, the messages, their encoding, and the body. Afterwards it counts
/// as what it is.
const ANSWER_BYTES: usize = 4 * PAGE_BYTES_MAX;
/// Smaller answers are bounded by their number: a connection has few under way.
const SMALL_BYTES: usize = 16 << 10;

/// Makes an answer once there is room for it; 503 when there is none in time.
pub(crate) async fn admitted(
    account: &Account,
    make: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    let Ok(room) = account.admit(ANSWER_BYTES).await else {
        return refuse(&no_room());
    };
    counted(make.await, room)
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
