//! The feed: the stream's messages in their order, each once. They come by the subject that the stream republishes to; where
//! one is missing, and at the start, they are read from the stream. Republished messages may be lost, and come twice.

use std::{sync::Arc, time::Duration};

use async_nats::StatusCode;
use futures_util::StreamExt;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    frame::Frame,
    hub::Hub,
    link::{Link, LinkError, REQUEST_WAIT},
    live::LiveMessages,
    message::StreamMessage,
    replica::Divergence,
    stream::StreamError,
};

/// Messages that are read at once, and their bytes.
const READ_MESSAGES: u64 = 512;
const READ_BYTES: u64 = 4 << 20;
/// Batches between feed and applier.
pub(crate) const BATCHES_MAX: usize = 4;
/// Live messages that are handed on together, and their bytes.
const LIVE_MAX: usize = 256;
const LIVE_BYTES_MAX: usize = 4 << 20;
/// How long a message that the stream has may still come by itself before it is read.
const GRACE: Duration = Duration::from_millis(100);
/// How often that is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long what a stream is known to have is waited for, and how long from one server.
const PATIENCE: Duration = Duration::from_secs(20);
const SERVER_PATIENCE: Duration = Duration::from_secs(2);
/// The pause after a read that gave nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct StreamFeed {
    pub(crate) link: Link,
    pub(crate) hub: Arc<Hub>,
    /// The message that is handed on next.
    pub(crate) next: u64,
    pub(crate) out: mpsc::Sender<Vec<StreamMessage>>,
}

/// Nobody takes the feed any more.
struct FeedEnded;

impl StreamFeed {
    /// Runs until nobody takes it any more, or the node ends.
    pub(crate) async fn run(mut self, live: LiveMessages) {
        let mut stop = self.hub.stop.subscribe();
        tokio::select! {
            _ = self.follow(live) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow(&mut self, mut live: LiveMessages) -> Result<(), FeedEnded> {
        let mut reached = self.hub.reached();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Since when the stream is known to have more than came.
        let mut missing: Option<(u64, Instant)> = None;
        loop {
            tokio::select! {
                biased;
                message = live.next() => {
                    let Some(message) = message else { return Ok(()) };
                    self.take_live(message, &mut live).await?;
                }
                _ = look.tick() => {
                    let upto = *reached.borrow_and_update();
                    if upto < self.next {
                        missing = None;
                        continue;
                    }
                    match missing {
                        Some((next, since)) if next == self.next => {
                            if since.elapsed() >= GRACE {
                                self.read_upto(upto).await?;
                            }
                        }
                        _ => missing = Some((self.next, Instant::now())),
                    }
                }
            }
        }
    }

    async fn take_live(&mut self, first: StreamMessage, live: &mut LiveMessages) -> Result<(), FeedEnded> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(streamed) = next {
            if streamed.sequence < self.next {
                self.look_at_old(&streamed);
            } else {
                if streamed.sequence > self.next {
                    self.hand_on(std::mem::take(&mut batch)).await?;
                    bytes = 0;
                    self.read_upto(streamed.sequence - 1).await?;
                }
                if streamed.sequence == self.next {
                    self.next += 1;
                    bytes += streamed.bytes.len();
                    batch.push(streamed);
                }
            }
            next = if batch.len() < LIVE_MAX && bytes < LIVE_BYTES_MAX { live.try_next() } else { None };
        }
        self.hand_on(batch).await
    }

    /// A message that was there before; unless the stream was begun anew, which its frames tell.
    fn look_at_old(&self, streamed: &StreamMessage) {
        if Frame::log_of(&streamed.bytes).is_some_and(|log| log != self.hub.log) {
            self.hub.diverge(Divergence::Log(streamed.sequence));
        }
    }

    async fn hand_on(&self, batch: Vec<StreamMessage>) -> Result<(), FeedEnded> {
        if batch.is_empty() {
            return Ok(());
        }
        self.out.send(batch).await.map_err(|_| FeedEnded)
    }

    /// Reads from the stream what is missing up to a message, and waits for as long as that takes.
    async fn read_upto(&mut self, upto: u64) -> Result<(), FeedEnded> {
        while self.next <= upto {
            match self.read().await {
                Ok(batch) if batch.is_empty() => sleep(PAUSE).await,
                Ok(batch) => {
                    self.hub.was_heard();
                    self.hand_on(batch).await?;
                }
                Err(error) => {
                    tracing::debug!(%error, next = self.next, "the stream could not be read");
                    sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Vec<StreamMessage>, LinkError> {
        let batch = read(&self.link, &self.link.names.stream, self.next).await?;
        let found = batch.first().map(|first| first.sequence);
        if found != Some(self.next) {
            self.look_at_hole(found).await?;
        }
        // What comes after a hole comes with the next read.
        let count = (self.next..).zip(&batch).take_while(|(next, found)| *next == found.sequence).count();
        self.next += count as u64;
        Ok(batch.into_iter().take(count).collect())
    }

    /// The next message is not there, but perhaps a later one. The stream was purged of it, or has lost it; or the server that
    /// was asked has yet to get it.
    async fn look_at_hole(&self, found: Option<u64>) -> Result<(), LinkError> {
        let needed = self.next;
        let first = match self.link.info().await {
            Ok(info) => info.first,
            Err(StreamError::Link(error)) => return Err(error),
            // It is gone, or another one: that is found where it is watched.
            Err(StreamError::Absent(_) | StreamError::Unfit(..)) => return Err(LinkError::NoResponders),
        };
        match found {
            _ if first > needed => self.hub.diverge(Divergence::Purged { needed, first }),
            Some(found) => self.hub.diverge(Divergence::Missing { needed, found }),
            None => {}
        }
        Ok(())
    }
}

/// Reads messages of a stream from one on, oldest first, as many as are given at once. Any server answers that holds the stream,
/// from what it has.
async fn read(link: &Link, stream: &str, from: u64) -> Result<Vec<StreamMessage>, LinkError> {
    let inbox = link.inbox();
    let mut answers = link.subscribe(&inbox).await?;
    let request = json!({ "seq": from, "batch": READ_MESSAGES, "max_bytes": READ_BYTES });
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    if !link.send(&subject, Some(&inbox), request.to_string().into()).await {
        return Err(LinkError::Timeout);
    }
    let mut batch = Vec::new();
    loop {
        let answer = timeout(REQUEST_WAIT, answers.next()).await;
        let Ok(Some(answer)) = answer else {
            // What came is good, also where the end did not.
            return if batch.is_empty() { Err(LinkError::Timeout) } else { Ok(batch) };
        };
        match answer.status {
            None => batch.extend(StreamMessage::of(answer)),
            Some(StatusCode::NO_RESPONDERS) => return Err(LinkError::NoResponders),
            Some(_) => return Ok(batch),
        }
    }
}

/// Reads messages that a stream is known to have. A server that has yet to get them, or does not answer, is left for another.
pub(crate) async fn read_patiently(
    link: &Link,
    stream: &str,
    from: u64,
) -> Result<Vec<StreamMessage>, LinkError> {
    let began = Instant::now();
    let mut left = began;
    loop {
        let error = match read(link, stream, from).await {
            Ok(batch) if !batch.is_empty() => return Ok(batch),
            Ok(_) => LinkError::Timeout,
            Err(error) => error,
        };
        if began.elapsed() > PATIENCE {
            return Err(error);
        }
        if left.elapsed() > SERVER_PATIENCE {
            tracing::debug!(%error, stream, from, server = link.server(), "another NATS server is tried");
            link.leave_server().await;
            left = Instant::now();
        }
        sleep(PAUSE).await;
    }
}
