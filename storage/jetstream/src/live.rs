//! Messages that the stream republished and the feed has yet to take. They are bounded in bytes, whatever the feed waits for: a
//! message that finds no room is dropped, and read from the stream when it is its turn.

use std::sync::Arc;

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{hub::Hub, message::StreamMessage};

/// Bytes of messages that wait.
const BUFFER_BYTES_MAX: usize = 64 << 20;
/// What a message takes beside its bytes, about.
const MESSAGE_OVERHEAD: usize = 512;

/// A message, and the room that it takes.
type BufferedMessage = (StreamMessage, OwnedSemaphorePermit);

/// The feed's side.
pub(crate) struct LiveMessages(mpsc::UnboundedReceiver<BufferedMessage>);

/// The connection's side.
struct LiveBuffer {
    room: Arc<Semaphore>,
    out: mpsc::UnboundedSender<BufferedMessage>,
}

/// Takes messages off the connection as they come.
pub(crate) fn buffer(mut live: Subscriber, hub: Arc<Hub>) -> LiveMessages {
    let (buffer, messages) = LiveBuffer::new();
    tokio::spawn(async move {
        while let Some(message) = live.next().await {
            let Some(streamed) = StreamMessage::of(message) else { continue };
            hub.has_reached(streamed.sequence);
            if buffer.is_closed() {
                return;
            }
            buffer.push(streamed);
        }
    });
    messages
}

impl LiveBuffer {
    fn new() -> (Self, LiveMessages) {
        let (out, messages) = mpsc::unbounded_channel();
        (Self { room: Arc::new(Semaphore::new(BUFFER_BYTES_MAX)), out }, LiveMessages(messages))
    }

    /// The feed has ended.
    fn is_closed(&self) -> bool {
        self.out.is_closed()
    }

    /// Takes a message in, if there is room for it.
    fn push(&self, streamed: StreamMessage) -> bool {
        let bytes = u32::try_from(streamed.bytes.len() + MESSAGE_OVERHEAD).unwrap_or(u32::MAX);
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
    fn what_waits_is_bounded_in_bytes() {
        let (buffer, mut messages) = LiveBuffer::new();
        let push = |sequence: u64, length: usize| {
            buffer.push(StreamMessage { sequence, time: 0, bytes: Bytes::from(vec![0; length]) })
        };
        let large = 512 << 10;
        let large_count = (1..1000).take_while(|sequence| push(*sequence, large)).count();
        assert_eq!(large_count, BUFFER_BYTES_MAX / (large + MESSAGE_OVERHEAD));
        assert_eq!(messages.try_next().unwrap().sequence, 1);
        assert!(push(2000, large), "what is taken makes room");
        assert!(!push(2001, large));
        while messages.try_next().is_some() {}
        let small_count = (1..1_000_000).take_while(|sequence| push(*sequence, 0)).count();
        assert_eq!(small_count, BUFFER_BYTES_MAX / MESSAGE_OVERHEAD, "and small ones count, too");
    }
}
