//! What a node makes of the stream, message by message: which of them are entries, in what order they apply, and whether all
//! nodes have seen the same. A function of the stream alone: neither a clock nor a choice goes in, so every node comes to the
//! same verdict, and a node that begins again from its token does, too.
//!
//! **Incarnations.** Each run of a proposer has a random number, and numbers its frames from 1. The next number counts, a
//! smaller one is a repeat, and a greater one came too early: something before it was lost, and its proposer sends again.
//! An incarnation that is not heard of for long is forgotten, and from then on nothing of it counts: what follows on what was
//! forgotten is too early, and its first frame was made before its proposer had applied it, so before what was forgotten. Its
//! proposer begins anew by another number.
//!
//! **The chain.** The digest of the stream up to a message is that of the digest before it and of the message. A frame
//! carries its proposer's; where that differs from what this node had there, the two have not seen the same stream. Which of
//! them is wrong is not known here. What was there before this node joined is not compared: nodes that disagreed have found
//! that out by themselves.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use tailwire_core::store::{Place, Token, Write};
use tailwire_model::{Position, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    codec::{Malformed, Taker, put_varint},
    frame::{Applied, ENTRY_BYTES_MAX, Frame, FrameError, LogId, decode_writes},
};

/// Bits of a position that number the messages of an entry.
pub(crate) const NUMBER_BITS: u32 = 14;
/// Messages of an entry, at most.
pub(crate) const ENTRY_MESSAGES_MAX: usize = 1 << NUMBER_BITS;
/// Incarnations that are remembered: a token stays small, and a node that is begun again and again forgets itself only.
const INCARNATIONS_MAX: usize = 48;
/// An incarnation that nothing came from for so long is forgotten.
const INCARNATION_MS: u64 = 3600 * 1000;
/// The same while it left an entry unfinished: the parts that are there are held in memory.
const UNFINISHED_MS: u64 = 60 * 1000;
/// Digests that are remembered, to hold others' against them: as many messages as may come while one is under way.
const DIGESTS: usize = 16_384;
/// The version of the token.
const TOKEN_VERSION: u8 = 2;

/// The first position of the entry at a sequence of the stream.
pub(crate) fn first_position(sequence: u64) -> Position {
    Position(sequence << NUMBER_BITS)
}

/// Why a node can't go on. What it has it can still say, but not whether that is what others have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Divergence {
    /// Another node has seen another stream, and not most of the others the same as this one.
    #[error(
        "message {0} of the stream says that another node has seen another stream than this one, up to message {1}"
    )]
    Digest(u64, u64),
    /// The stream is another log's.
    #[error("message {0} of the stream is of another log")]
    Log(u64),
    /// A message of a version that is not known here.
    #[error("message {0} of the stream is of version {1}, which this broker does not know: upgrade it")]
    Version(u64, u8),
    /// An entry that is not understood.
    #[error("message {0} of the stream can't be applied: {1}")]
    Malformed(u64, Malformed),
    /// What this node stores is not what its token says.
    #[error("the state that this node has stored can't be gone on from: {0}")]
    Token(&'static str),
    /// The store refused what the others have applied.
    #[error("message {0} of the stream can't be applied: {1}")]
    Store(u64, String),
    /// The stream was purged of messages that this node has not applied.
    #[error("the stream begins with message {first}, and this node needs {needed}")]
    Purged {
        /// The next to be applied.
        needed: u64,
        /// The stream's oldest.
        first: u64,
    },
    /// Messages are gone from its middle that this node has not applied.
    #[error("the stream has lost messages: this node needs {needed}, and the next that there is is {found}")]
    Missing {
        /// The next to be applied.
        needed: u64,
        /// The first that is there.
        found: u64,
    },
    /// The stream has less than what was applied.
    #[error("the stream ends with message {last}, and this node has applied {applied}")]
    Short {
        /// The newest of the stream.
        last: u64,
        /// What this node has applied.
        applied: u64,
    },
}

/// What became of a message of the stream.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Whose it is, and its number; of a message that is none of ours, nobody's.
    pub(crate) of: Option<(u64, u64)>,
    pub(crate) verdict: StreamVerdict,
    /// Its proposer has seen another stream up to this message.
    pub(crate) disputes: Option<u64>,
}

/// See [`Seen`].
#[derive(Debug)]
pub(crate) enum StreamVerdict {
    /// It completes an entry. Without writes it only tells that everything before it was ordered.
    Applies(Place, Vec<Write>),
    /// More of its entry follows.
    Part,
    /// It was there before.
    Repeat,
    /// Something of its proposer is missing before it: the number that comes next.
    Early(u64),
    /// It may have counted before its proposer was forgotten, which begins anew.
    Forgotten,
    /// It is no frame of this log, and changes nothing.
    Foreign,
}

/// A proposer, as of the newest message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Incarnation {
    number: u64,
    /// Of its newest message: where it stands, and when it came.
    sequence: u64,
    time: u64,
    /// The first part of an entry that is not complete; zero if there is none.
    unfinished: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Replica {
    log: LogId,
    applied: Applied,
    /// The stream's time, which never runs backwards here.
    time: u64,
    incarnations: BTreeMap<u64, Incarnation>,
    /// The newest message of any incarnation that was forgotten.
    forgotten_upto: u64,
    /// Digests are compared of messages beyond this one.
    compares_after: u64,
    /// Parts of entries that are not complete.
    parts: HashMap<u64, BytesMut>,
    /// Digests after the newest messages, oldest first; the last is that of `applied`.
    digests: VecDeque<u128>,
    /// Up to where messages were seen before, and are gone through once more for the parts among them.
    collects_upto: u64,
    /// The message that comes next while collecting.
    collects: u64,
    /// The number of the last part that was collected of an incarnation.
    collected: HashMap<u64, u64>,
}

impl Replica {
    /// A node that has applied nothing of a stream that begins after a sequence.
    pub(crate) fn new(log: LogId, before: u64) -> Self {
        Self {
            log,
            applied: Applied { sequence: before, digest: 0 },
            time: 0,
            incarnations: BTreeMap::new(),
            forgotten_upto: 0,
            compares_after: before,
            parts: HashMap::new(),
            digests: VecDeque::from([0]),
            collects_upto: 0,
            collects: 0,
            collected: HashMap::new(),
        }
    }

    /// A node that goes on from its token.
    pub(crate) fn resume(token: &Token) -> Result<Self, Divergence> {
        let mut replica = decode(token).map_err(|Malformed(why)| Divergence::Token(why))?;
        let unfinished = replica.incarnations.values().map(|own| own.unfinished).filter(|first| *first > 0);
        if let Some(first) = unfinished.min() {
            (replica.collects, replica.collects_upto) = (first, replica.applied.sequence);
        }
        Ok(replica)
    }

    pub(crate) const fn log(&self) -> LogId {
        self.log
    }

    /// Compares digests only of messages beyond this one, which a node sees as they come.
    pub(crate) fn compare_after(&mut self, sequence: u64) {
        self.compares_after = sequence;
    }

    /// The digest of the stream up to a message, if it is remembered.
    pub(crate) fn digest_at(&self, sequence: u64) -> Option<u128> {
        let back = usize::try_from(self.applied.sequence.checked_sub(sequence)?).ok()?;
        self.digests.len().checked_sub(back + 1).map(|at| self.digests[at])
    }

    pub(crate) const fn applied(&self) -> Applied {
        self.applied
    }

    /// The newest time of the stream.
    pub(crate) const fn time(&self) -> Timestamp {
        Timestamp(self.time)
    }

    /// The message of the stream that is to be taken next.
    pub(crate) const fn next(&self) -> u64 {
        if self.is_collecting() { self.collects } else { self.applied.sequence + 1 }
    }

    const fn is_collecting(&self) -> bool {
        self.collects_upto > 0
    }

    /// The newest number of an incarnation that was applied, if it is known.
    #[cfg(test)]
    pub(crate) fn number_of(&self, incarnation: u64) -> Option<u64> {
        self.incarnations.get(&incarnation).map(|own| own.number)
    }

    /// Takes the next message of the stream.
    ///
    /// # Errors
    /// When this node can't go on.
    pub(crate) fn take(&mut self, sequence: u64, time: u64, bytes: &Bytes) -> Result<Seen, Divergence> {
        if self.is_collecting() {
            return self.collect(sequence, bytes);
        }
        let before = self.applied;
        self.applied = Applied { sequence, digest: chain(before.digest, sequence, bytes) };
        self.digests.push_back(self.applied.digest);
        if self.digests.len() > DIGESTS {
            self.digests.pop_front();
        }
        let nobodys = Seen { of: None, verdict: StreamVerdict::Foreign, disputes: None };
        let frame = match Frame::decode(bytes) {
            Ok(frame) if frame.log == self.log => frame,
            Err(FrameError::Version(version)) => return Err(Divergence::Version(sequence, version)),
            // A node that has not noticed yet that the stream was made anew may write to it.
            Ok(_) | Err(FrameError::Foreign) => return Ok(nobodys),
        };
        let is_disputed = sequence > self.compares_after && !self.agrees(sequence, frame.applied);
        let disputes = is_disputed.then_some(frame.applied.sequence);
        self.time = self.time.max(time);
        self.forget();
        let of = Some((frame.incarnation, frame.number));
        let verdict = self.admit(sequence, frame)?;
        Ok(Seen { of, verdict, disputes })
    }

    /// Holds what a proposer had seen against what was seen here. What lies too far back is not known any more, and a proposer
    /// that was ahead of this message has not written it.
    fn agrees(&self, sequence: u64, theirs: Applied) -> bool {
        theirs.sequence < sequence
            && self.digest_at(theirs.sequence).is_none_or(|digest| digest == theirs.digest)
    }

    /// Forgets incarnations that nothing came from for long.
    fn forget(&mut self) {
        let now = self.time;
        let stays = |own: &Incarnation| {
            let silent = now.saturating_sub(own.time);
            silent < if own.unfinished > 0 { UNFINISHED_MS } else { INCARNATION_MS }
        };
        let silent = self.incarnations.iter().filter(|(_, own)| !stays(own));
        let silent: Vec<u64> = silent.map(|(incarnation, _)| *incarnation).collect();
        silent.into_iter().for_each(|incarnation| self.forget_one(incarnation));
        while self.incarnations.len() > INCARNATIONS_MAX
            && let Some((&oldest, _)) = self.incarnations.iter().min_by_key(|(_, own)| own.sequence)
        {
            self.forget_one(oldest);
        }
    }

    fn forget_one(&mut self, incarnation: u64) {
        if let Some(own) = self.incarnations.remove(&incarnation) {
            self.parts.remove(&incarnation);
            self.forgotten_upto = own.sequence.max(self.forgotten_upto);
        }
    }

    fn admit(&mut self, sequence: u64, frame: Frame) -> Result<StreamVerdict, Divergence> {
        let Frame { incarnation, number, has_more, applied, topics_max, part, .. } = frame;
        let known = self.incarnations.get(&incarnation).copied();
        let last = known.map_or(0, |own| own.number);
        if number <= last {
            return Ok(StreamVerdict::Repeat);
        }
        if number > last + 1 {
            return Ok(StreamVerdict::Early(last + 1));
        }
        if known.is_none() && applied.sequence < self.forgotten_upto {
            return Ok(StreamVerdict::Forgotten);
        }
        let was_unfinished = known.map_or(0, |own| own.unfinished);
        let unfinished = match (has_more, was_unfinished) {
            (false, _) => 0,
            (true, 0) => sequence,
            (true, first) => first,
        };
        let own = Incarnation { number, sequence, time: self.time, unfinished };
        self.incarnations.insert(incarnation, own);
        if has_more {
            self.add_part(sequence, incarnation, &part)?;
            return Ok(StreamVerdict::Part);
        }
        let whole = match self.parts.remove(&incarnation) {
            Some(mut before) if was_unfinished > 0 => {
                before.put_slice(&part);
                before.freeze()
            }
            _ => part,
        };
        let writes = decode_writes(whole).map_err(|error| Divergence::Malformed(sequence, error))?;
        let place = Place {
            first: first_position(sequence),
            time: Timestamp(self.time),
            steady: Timestamp(self.time),
            token: self.token(),
            topics_max,
        };
        Ok(StreamVerdict::Applies(place, writes))
    }

    fn add_part(&mut self, sequence: u64, incarnation: u64, part: &Bytes) -> Result<(), Divergence> {
        let parts = self.parts.entry(incarnation).or_default();
        if parts.len() + part.len() > ENTRY_BYTES_MAX {
            return Err(Divergence::Malformed(sequence, Malformed("it has too many parts")));
        }
        parts.put_slice(part);
        Ok(())
    }

    /// Goes through messages that were seen before, for parts of entries that are not complete.
    fn collect(&mut self, sequence: u64, bytes: &Bytes) -> Result<Seen, Divergence> {
        self.collects = sequence + 1;
        if let Ok(Frame { incarnation, number, part, .. }) = Frame::decode(bytes)
            && let Some(own) = self.incarnations.get(&incarnation)
            && own.unfinished > 0
            && own.number >= number
        {
            // As it was admitted then: the first part by its place, and each other by its number.
            let is_next = match self.collected.get(&incarnation) {
                Some(last) => number == last + 1,
                None => sequence == own.unfinished,
            };
            if is_next {
                self.collected.insert(incarnation, number);
                self.add_part(sequence, incarnation, &part)?;
            }
        }
        if sequence >= self.collects_upto {
            self.collects_upto = 0;
            self.collected.clear();
        }
        Ok(Seen { of: None, verdict: StreamVerdict::Repeat, disputes: None })
    }

    /// What a node stores with an entry, to go on from there.
    pub(crate) fn token(&self) -> Token {
        let mut out = BytesMut::with_capacity(64 + 24 * self.incarnations.len());
        out.put_u8(TOKEN_VERSION);
        out.put_u128_le(self.log.0);
        out.put_u128_le(self.applied.digest);
        put_varint(&mut out, self.applied.sequence);
        put_varint(&mut out, self.time);
        put_varint(&mut out, self.forgotten_upto);
        put_varint(&mut out, self.incarnations.len() as u64);
        for (incarnation, own) in &self.incarnations {
            out.put_u64_le(*incarnation);
            put_varint(&mut out, own.number);
            put_varint(&mut out, self.applied.sequence.saturating_sub(own.sequence));
            put_varint(&mut out, self.time.saturating_sub(own.time));
            put_varint(&mut out, own.unfinished);
        }
        Token(out.freeze())
    }
}

fn decode(Token(bytes): &Token) -> Result<Replica, Malformed> {
    let mut from = Taker::new(bytes.clone());
    if from.byte()? != TOKEN_VERSION {
        return Err(Malformed("it is of another version"));
    }
    let (log, digest) = (LogId(from.u128()?), from.u128()?);
    let (sequence, time, forgotten_upto) = (from.varint()?, from.varint()?, from.varint()?);
    let mut incarnations = BTreeMap::new();
    for _ in 0..from.count()? {
        let (incarnation, number) = (from.u64()?, from.varint()?);
        let own = Incarnation {
            number,
            sequence: sequence.saturating_sub(from.varint()?),
            time: time.saturating_sub(from.varint()?),
            unfinished: from.varint()?,
        };
        incarnations.insert(incarnation, own);
    }
    from.end()?;
    let mut replica = Replica::new(log, sequence);
    replica.applied.digest = digest;
    replica.time = time;
    replica.incarnations = incarnations;
    replica.forgotten_upto = forgotten_upto;
    replica.digests = VecDeque::from([digest]);
    Ok(replica)
}

fn chain(digest: u128, sequence: u64, bytes: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&digest.to_le_bytes());
    hash.update(&sequence.to_le_bytes());
    hash.update(bytes);
    hash.digest128()
}

#[cfg(test)]
mod tests;
