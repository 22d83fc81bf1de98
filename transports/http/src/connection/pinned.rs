//! Memory that clients keep from others: answers that were made for one of them, or begun, and that it has yet to take. It can't
//! be let go of, since an answer that has begun must be ended; so there is a bound for all connections together, from the first
//! byte, and room is taken *before* an answer is made.
//!
//! Room is given in the order in which it is asked for. Who waits for it keeps those to their pace who hold some: see
//! [`Pinned::is_contended`].

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Extensions;
use parking_lot::Mutex;
use tailwire_model::limits::{PINNED_BYTES_MAX, PINNED_WAIT_MS_MAX};
use tokio::sync::oneshot;

/// So many bytes of the room of all connections, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Pinned(usize);

/// The room of an answer, as an extension of its response: the connection takes it with the body.
#[derive(Debug, Clone)]
pub(crate) struct Reserved(Arc<Pinned>);

impl Reserved {
    pub(crate) fn new(pinned: Pinned) -> Self {
        Self(Arc::new(pinned))
    }

    /// Takes the room of a response, if it has some.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Pinned> {
        // A response has one owner, so its extension has.
        extensions.remove::<Self>().and_then(|own| Arc::into_inner(own.0))
    }
}

/// There was no room in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPinnedRoom;

struct PinnedRoom {
    used: usize,
    waiting: VecDeque<(usize, oneshot::Sender<Pinned>)>,
}

static ROOM: Mutex<PinnedRoom> = Mutex::new(PinnedRoom { used: 0, waiting: VecDeque::new() });

/// For tests that count what is pinned: it is all of the process's.
#[cfg(test)]
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Pinned {
    /// Takes room for an answer that is yet to be made, of so many bytes at most; waits for it for a while.
    ///
    /// # Errors
    /// When there is none in time: the request is refused, and nothing was read for it.
    pub(crate) async fn admit(bytes: usize) -> Result<Self, NoPinnedRoom> {
        let bytes = bytes.min(PINNED_BYTES_MAX);
        let granted = match ROOM.lock().take(bytes) {
            Ok(pinned) => return Ok(pinned),
            Err(granted) => granted,
        };
        match tokio::time::timeout(Duration::from_millis(PINNED_WAIT_MS_MAX), granted).await {
            Ok(Ok(pinned)) => Ok(pinned),
            Ok(Err(_)) | Err(_) => Err(NoPinnedRoom),
        }
    }

    /// The same, where there is room at once and nobody waits for it.
    pub(crate) fn try_admit(bytes: usize) -> Option<Self> {
        let mut room = ROOM.lock();
        (room.waiting.is_empty() && room.used + bytes <= PINNED_BYTES_MAX).then(|| room.grant(bytes))
    }

    /// Counts what is there in any case, and small or as large as what was let go of for it: it may exceed the bound, and then
    /// nothing is admitted until it doesn't.
    pub(crate) fn of(bytes: usize) -> Self {
        ROOM.lock().grant(bytes)
    }

    /// How much it is after all: less than was taken, as a rule.
    pub(crate) fn set(&mut self, bytes: usize) {
        let mut room = ROOM.lock();
        room.used = room.used + bytes - mem::replace(&mut self.0, bytes);
        let granted = room.serve();
        drop(room);
        drop(granted);
    }

    /// Whether somebody waits for room, or more is used than may be: then who holds some of it has to go on taking it.
    pub(crate) fn is_contended() -> bool {
        let mut room = ROOM.lock();
        room.waiting.retain(|(_, waiting)| !waiting.is_closed());
        !room.waiting.is_empty() || room.used > PINNED_BYTES_MAX
    }

    /// Of all connections.
    #[cfg(test)]
    pub(crate) fn all() -> usize {
        ROOM.lock().used
    }
}

impl PinnedRoom {
    fn grant(&mut self, bytes: usize) -> Pinned {
        self.used += bytes;
        Pinned(bytes)
    }

    /// Room, or where it will be given.
    fn take(&mut self, bytes: usize) -> Result<Pinned, oneshot::Receiver<Pinned>> {
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        if self.waiting.is_empty() && self.used + bytes <= PINNED_BYTES_MAX {
            return Ok(self.grant(bytes));
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push_back((bytes, sender));
        Err(receiver)
    }

    /// Gives room to those who have waited longest. What nobody takes any more is to be dropped once the lock is free.
    fn serve(&mut self) -> Vec<Pinned> {
        let mut returned = Vec::new();
        while let Some((bytes, _)) = self.waiting.front()
            && self.used + bytes <= PINNED_BYTES_MAX
            && let Some((bytes, waiting)) = self.waiting.pop_front()
        {
            let pinned = self.grant(bytes);
            if let Err(pinned) = waiting.send(pinned) {
                // It counts until it is dropped, which serves the next.
                returned.push(pinned);
                break;
            }
        }
        returned
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.0 > 0 {
            self.set(0);
        }
    }
}

/// Bytes that several connections write: they count once.
pub(crate) struct Common {
    pub(crate) bytes: Bytes,
    #[expect(dead_code, reason = "it counts as long as it is there")]
    pinned: Pinned,
}

impl Common {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { pinned: Pinned::of(bytes.len()), bytes }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_given_in_turn_and_waited_for_no_longer_than_that() {
        let _alone = ALONE.lock().await;
        let mut large = Pinned::admit(PINNED_BYTES_MAX - 10).await.unwrap();
        let small = Pinned::try_admit(10).unwrap();
        assert!(Pinned::try_admit(1).is_none() && !Pinned::is_contended());
        let mut second = Box::pin(Pinned::admit(100));
        let mut third = Box::pin(Pinned::admit(5));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        assert!(Pinned::is_contended());
        drop(small);
        assert!(third.as_mut().now_or_never().is_none(), "it waits behind one that needs more");
        large.set(PINNED_BYTES_MAX - 102);
        let second = second.now_or_never().unwrap().unwrap();
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        third.await.unwrap();
        large.set(PINNED_BYTES_MAX);
        let began = tokio::time::Instant::now();
        assert_eq!(Pinned::admit(1).await.unwrap_err(), NoPinnedRoom);
        assert_eq!(began.elapsed(), Duration::from_millis(PINNED_WAIT_MS_MAX));
        drop(large);
        assert_eq!(Pinned::all(), 0);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_stands_in_nobodys_way() {
        let _alone = ALONE.lock().await;
        let large = Pinned::of(PINNED_BYTES_MAX + 1);
        assert!(Pinned::is_contended(), "more is used than may be");
        let mut given_up = Box::pin(Pinned::admit(PINNED_BYTES_MAX));
        let mut patient = Box::pin(Pinned::admit(7));
        assert!(given_up.as_mut().now_or_never().is_none() && patient.as_mut().now_or_never().is_none());
        drop(given_up);
        drop(large);
        let pinned = patient.now_or_never().unwrap().unwrap();
        assert_eq!(Pinned::all(), 7);
        drop(pinned);
        assert!(!Pinned::is_contended());
    }
}
