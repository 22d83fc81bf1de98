//! Messages that the stream republished and the feed has yet to take. What is held is bounded in bytes, whatever the feed waits for:
//! a message that finds no room is dropped, and read from the stream when it is its turn.

use std::sync::Arc;

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{hub::Hub, message::StreamMessage};

/// Bytes that are held.
const HELD_BYTES_MAX: usize = 64 << 20;
/// What a message takes beside its bytes, about.
const HELD_BESIDE: usize = 512;

/// A message, and the room that it takes.
type HeldMessage = (StreamMessage, OwnedSemaphorePermit);

/// The feed's side.
pub(crate) struct LiveMessages(mpsc::UnboundedReceiver<HeldMessage>);

/// The connection's side.
struct Holder {
    room: Arc<Semaphore>,
    out: mpsc::UnboundedSender<HeldMessage>,
}

/// Takes messages off the connection as they come.
pub(crate) fn buffer(mut live: Subscriber, hub: Arc<Hub>) -> LiveMessages {
    let (holder, messages) = Holder::new();
    tokio::spawn(async move {
        while let Some(message) = live.next().await {
            let Some(streamed) = StreamMessage::of(message) else { continue };
            hub.has_reached(streamed.sequence);
            if holder.is_over() {
                return;
            }
            holder.hold(streamed);
        }
    });
    messages
}

impl Holder {
    fn new() -> (Self, LiveMessages) {
        let (out, messages) = mpsc::unbounded_channel();
        (Self { room: Arc::new(Semaphore::new(HELD_BYTES_MAX)), out }, LiveMessages(messages))
    }

    /// Nobody takes them any more.
    fn is_over(&self) -> bool {
        self.out.is_closed()
    }

    /// Holds a message, if there is room for it.
    fn hold(&self, streamed: StreamMessage) -> bool {
        let bytes = u32::try_from(streamed.bytes.len() + HELD_BESIDE).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(bytes);
        room.is_ok_and(|room| self.out.send((streamed, room)).is_ok())
    }
}

impl LiveMessages {
    /// The next one, as soon as it is there.
    pub(crate) async fn next(&mut self) -> Option<StreamMessage> {
        self.0.recv().await.map(|(streamed, _)| streamed)
    }

    /// The next one, if it is there.
    pub(crate) fn try_next(&mut self) -> Option<StreamMessage> {
        self.0.try_recv().ok().map(|(streamed, _)| streamed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_held_is_bounded_in_bytes() {
        let (holder, mut messages) = Holder::new();
        let hold = |sequence: u64, length: usize| {
            holder.hold(StreamMessage { sequence, time: 0, bytes: Bytes::from(vec![0; length]) })
        };
        let large = 512 << 10;
        let held = (1..1000).take_while(|sequence| hold(*sequence, large)).count();
        assert_eq!(held, HELD_BYTES_MAX / (large + HELD_BESIDE));
        assert_eq!(messages.try_next().unwrap().sequence, 1);
        assert!(hold(2000, large), "what is taken makes room");
        assert!(!hold(2001, large));
        while messages.try_next().is_some() {}
        let small = (1..1_000_000).take_while(|sequence| hold(*sequence, 0)).count();
        assert_eq!(small, HELD_BYTES_MAX / HELD_BESIDE, "and small ones count, too");
    }
}
