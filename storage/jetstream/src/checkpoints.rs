//! Checkpoints in NATS: they go to a stream of their own, beside the log's, and a node whose next message the log's stream has no
//! more goes on from one. What a checkpoint's bytes mean is its writer's affair.
//!
//! A checkpoint counts from its last message on; one without it is none, whatever its writer died of. Two are kept, and the log's
//! stream from the older one on: where the newer is damaged, the older and the stream are still everything. Two nodes that write
//! at the same time do no harm.

use std::{cmp::Reverse, collections::VecDeque, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tailwire_core::order::Health;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    checkpoint::{Assembly, Checkpoint, CheckpointFlaw, encode_part},
    feed::read_patiently,
    frame::{LogId, PART_BYTES_MAX},
    link::{Link, LinkError},
    message::StreamMessage,
    order::{Cluster, JetStreamOrder},
    replay::Stand,
    stream::{LOG, NOT_FOUND, StreamError, StreamInfo},
};

/// What one part holds of a checkpoint's content.
pub const CHECKPOINT_PART_BYTES: usize = PART_BYTES_MAX;
/// Whole checkpoints that are listed, the newest: there are more than two only where they could not be removed.
const LISTED_MAX: usize = 8;
/// How long NATS may do nothing before a checkpoint is given up.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);
/// How long servers that elect are waited for.
const LIST_WAIT: Duration = Duration::from_secs(20);

/// Why there is no checkpoint by this try.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// NATS did not do its part.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The checkpoint is not to be gone on from.
    #[error("checkpoint of message {0}: {1}")]
    Flaw(u64, CheckpointFlaw),
    /// The content could not be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<LinkError> for CheckpointError {
    fn from(error: LinkError) -> Self {
        Self::Stream(error.into())
    }
}

/// See the module.
#[derive(Clone)]
pub struct LogCheckpoints {
    link: Link,
    log: LogId,
}

/// A checkpoint in the making.
pub struct CheckpointWriter {
    link: Link,
    checkpoint: Checkpoint,
    digest: Xxh3,
}

/// A checkpoint that is read, from its beginning to its end.
pub struct CheckpointReader<'a> {
    link: &'a Link,
    of: &'a Checkpoint,
    assembly: Option<Assembly<'a>>,
    next: u64,
    batch: std::vec::IntoIter<StreamMessage>,
}

impl Cluster {
    /// The checkpoints of its log.
    pub fn checkpoints(&self) -> LogCheckpoints {
        LogCheckpoints { link: self.link.clone(), log: self.info.log }
    }
}

impl JetStreamOrder {
    /// The checkpoints of its log.
    pub fn checkpoints(&self) -> LogCheckpoints {
        LogCheckpoints { link: self.link.clone(), log: self.hub.log }
    }

    /// The stream, as its leader said last.
    pub fn stream(&self) -> Option<StreamInfo> {
        self.hub.stream.lock().clone()
    }

    /// Whether this is the node that decides for all. Two may believe it.
    pub fn decides(&self) -> bool {
        let own = self.hub.proposals.lock().incarnation();
        self.nodes.is_first(own) && self.hub.health() == Health::Good
    }

    /// Whether the disk of this node's store has room for so many bytes.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.store.has_room(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Bytes of the files of this node's store.
    pub fn store_bytes(&self) -> u64 {
        self.store.stats().file_bytes
    }

    /// The first message of the stream that some node which was heard of has yet to apply.
    pub fn needed(&self) -> u64 {
        let own = self.hub.applied().sequence;
        self.nodes.applied_by_all().map_or(own, |applied| applied.min(own)) + 1
    }
}

impl LogCheckpoints {
    /// The whole ones, newest first. None if there is no stream of them yet. Waits for a while for NATS.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn list(&self) -> Result<Vec<Checkpoint>, CheckpointError> {
        let began = Instant::now();
        loop {
            match self.try_list().await {
                Err(error) if began.elapsed() > LIST_WAIT => return Err(error.into()),
                Err(_) => sleep(PAUSE).await,
                Ok(found) => return Ok(found),
            }
        }
    }

    async fn try_list(&self) -> Result<Vec<Checkpoint>, LinkError> {
        let mut found: Vec<_> = self.messages().await?.into_iter().map(|(_, one)| one).collect();
        found.sort_by_key(|one| Reverse((one.sequence, one.last)));
        Ok(found)
    }

    /// The same, oldest first, each with the message that makes it whole.
    async fn messages(&self) -> Result<VecDeque<(u64, Checkpoint)>, LinkError> {
        let names = &self.link.names;
        let (mut found, mut from) = (VecDeque::new(), 1);
        loop {
            let request = json!({ "seq": from, "next_by_subj": names.whole });
            let message = match self.link.get(&names.checkpoints, request).await {
                Err(LinkError::NoResponders) if !self.link.has_checkpoints().await? => break,
                got => got?.and_then(StreamMessage::of),
            };
            let Some(message) = message else { break };
            from = message.sequence + 1;
            let whole = Checkpoint::decode(&message.bytes).filter(|one| one.log == self.log);
            found.extend(whole.map(|one| (message.sequence, one)));
            if found.len() > LISTED_MAX {
                found.pop_front();
            }
        }
        Ok(found)
    }

    /// Removes those that are ahead of the log's stream: it was restored from a backup, and what they have is lost. Once the stream
    /// has come as far again, nothing would tell them from others.
    ///
    /// # Errors
    /// When NATS does not answer.
    pub async fn remove_lost(&self) -> Result<(), CheckpointError> {
        let found = self.messages().await?;
        let Some(farthest) = found.iter().map(|(_, one)| one.sequence).max() else { return Ok(()) };
        // Asked for after they were found: one that was made meanwhile is not ahead.
        let last = self.link.info().await?.last;
        if farthest <= last {
            return Ok(());
        }
        for (message, Checkpoint { sequence, .. }) in found {
            if sequence > last {
                tracing::warn!(sequence, last, "a checkpoint is of a stream that was lost, and is removed");
                self.link.delete(&self.link.names.checkpoints, message).await?;
            }
        }
        Ok(())
    }

    /// Begins one. `random` is its number.
    ///
    /// # Errors
    /// When there is no stream for it, and none can be made.
    pub async fn begin(&self, random: u64) -> Result<CheckpointWriter, CheckpointError> {
        self.link.ensure_checkpoints(self.log).await?;
        let checkpoint = Checkpoint {
            log: self.log,
            id: random,
            sequence: 0,
            needs: 0,
            first: 0,
            last: 0,
            parts: 0,
            bytes: 0,
            digest: 0,
        };
        Ok(CheckpointWriter { link: self.link.clone(), checkpoint, digest: Xxh3::new() })
    }

    /// Reads one.
    pub fn read<'a>(&'a self, of: &'a Checkpoint) -> CheckpointReader<'a> {
        let (link, assembly) = (&self.link, Some(Assembly::of(of)));
        CheckpointReader { link, of, assembly, next: of.first, batch: Vec::new().into_iter() }
    }

    /// Removes what came before a checkpoint that another one was made from, so that both are good: older ones, and of the log's
    /// stream what it has. Nothing that a node needs which was heard of: `needed` is the first message that any of them has yet
    /// to apply.
    ///
    /// # Errors
    /// When NATS does not do it.
    pub async fn prune(&self, older: &Checkpoint, needed: u64) -> Result<(), CheckpointError> {
        let names = &self.link.names;
        self.link.purge(&names.stream, older.needs.min(needed)).await?;
        Ok(self.link.purge(&names.checkpoints, older.first).await?)
    }

    /// Reads all of one, to see whether it is what was written.
    async fn verify(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let mut reader = self.read(checkpoint);
        while reader.next().await?.is_some() {}
        Ok(())
    }
}

impl CheckpointWriter {
    /// Writes the next part of the content, of at most [`CHECKPOINT_PART_BYTES`].
    ///
    /// # Errors
    /// When NATS does not take it.
    pub async fn part(&mut self, content: &[u8]) -> Result<(), CheckpointError> {
        let Checkpoint { log, id, parts, .. } = self.checkpoint;
        let payload = encode_part(log, id, parts + 1, content);
        let subject = self.link.names.parts.clone();
        let sequence = publish(&self.link, &subject, payload).await?;
        let own = &mut self.checkpoint;
        if parts == 0 {
            own.first = sequence;
        }
        (own.parts, own.last) = (parts + 1, sequence);
        own.bytes += content.len() as u64;
        self.digest.update(content);
        Ok(())
    }

    /// Reads all of it again, and makes it count: the state of a store that stands there.
    ///
    /// # Errors
    /// When it is not what was written, or NATS does not take its end.
    pub async fn end(mut self, stand: Stand) -> Result<Checkpoint, CheckpointError> {
        self.checkpoint.digest = self.digest.digest128();
        (self.checkpoint.sequence, self.checkpoint.needs) = (stand.sequence, stand.needs);
        let checkpoints = LogCheckpoints { link: self.link.clone(), log: self.checkpoint.log };
        checkpoints.verify(&self.checkpoint).await?;
        let subject = self.link.names.whole.clone();
        publish(&self.link, &subject, self.checkpoint.encode()).await?;
        Ok(self.checkpoint)
    }
}

impl CheckpointReader<'_> {
    /// The next part of the content; nothing once all of it was given, and is what was written.
    ///
    /// # Errors
    /// When NATS does not give it, or it is damaged.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CheckpointError> {
        let flaw = |flaw| CheckpointError::Flaw(self.of.sequence, flaw);
        loop {
            for message in self.batch.by_ref() {
                if message.sequence > self.of.last {
                    self.next = self.of.last + 1;
                    break;
                }
                self.next = message.sequence + 1;
                let Some(assembly) = &mut self.assembly else { return Ok(None) };
                if let Some(content) = assembly.take(&message.bytes).map_err(flaw)? {
                    return Ok(Some(content));
                }
            }
            if self.next > self.of.last {
                return match self.assembly.take() {
                    Some(assembly) => assembly.end().map(|()| None).map_err(flaw),
                    None => Ok(None),
                };
            }
            self.batch = self.read_more().await?.into_iter();
        }
    }

    async fn read_more(&self) -> Result<Vec<StreamMessage>, CheckpointError> {
        Ok(read_patiently(self.link, &self.link.names.checkpoints, self.next).await?)
    }
}

/// Publishes until it is acknowledged. It may be there several times then.
async fn publish(link: &Link, subject: &str, payload: Bytes) -> Result<u64, CheckpointError> {
    let began = Instant::now();
    loop {
        match link.publish(subject, payload.clone()).await {
            Ok(answer) => return Ok(answer["seq"].as_u64().ok_or(LinkError::Unreadable)?),
            Err(error @ LinkError::Refused(_)) => return Err(error.into()),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

impl Link {
    /// The stream of checkpoints is there, or is made.
    async fn ensure_checkpoints(&self, log: LogId) -> Result<(), LinkError> {
        let names = &self.names;
        if self.has_checkpoints().await? {
            return Ok(());
        }
        let config = json!({
            "name": names.checkpoints,
            "description": "Checkpoints of the log of a Tailwire cluster",
            "subjects": [names.parts, names.whole],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": self.replicas,
            "allow_direct": true,
            "metadata": { LOG: log.to_string() },
        });
        match self.ask_of("STREAM.CREATE", &names.checkpoints, config).await {
            // Another node was faster.
            Err(LinkError::Refused(why)) if why.contains("10058") => Ok(()),
            made => made.map(drop),
        }
    }

    /// Whether there is a stream of checkpoints.
    async fn has_checkpoints(&self) -> Result<bool, LinkError> {
        match self.ask_of("STREAM.INFO", &self.names.checkpoints, Value::Null).await {
            Err(LinkError::Refused(why)) if why.ends_with(NOT_FOUND) => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    /// Removes one message of a stream.
    async fn delete(&self, stream: &str, message: u64) -> Result<(), LinkError> {
        self.ask_of("STREAM.MSG.DELETE", stream, json!({ "seq": message, "no_erase": true })).await.map(drop)
    }

    /// Removes what a stream has before a message.
    async fn purge(&self, stream: &str, before: u64) -> Result<(), LinkError> {
        // NATS takes zero for no bound, and removes everything.
        if before <= 1 {
            return Ok(());
        }
        self.ask_of("STREAM.PURGE", stream, json!({ "seq": before })).await.map(drop)
    }
}
