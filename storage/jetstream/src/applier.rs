//! The applier, a thread of its own: it takes the stream's messages in their order, applies what are entries to this node's
//! store, and answers those whose entries they are. Between entries it has the store tidied, and, while this node is the one
//! that decides for all, proposes what retention asks for.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use tailwire_core::{
    Instruments, Store, StoreError, TidySchedule, WriteError,
    store::{Entry, Outcome},
};
use tailwire_model::{Timestamp, limits::RETENTION_EVERY_MS};
use tokio::{
    runtime::Handle,
    sync::{
        mpsc,
        oneshot::{self, error::TryRecvError},
    },
    time::timeout_at,
};

use crate::{
    hub::Hub,
    message::StreamMessage,
    nodes::Nodes,
    proposals::Waiting,
    replica::{Divergence, Replica, Seen, StreamVerdict},
};

/// Entries that are applied together, and their messages' bytes.
const ENTRIES_MAX: usize = 256;
const BYTES_MAX: usize = 4 << 20;
/// How long a full disk is waited for before it is looked at again.
const ROOM_PAUSE: Duration = Duration::from_millis(250);

/// See the module. `run` is the thread's loop.
pub struct Applier {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) replica: Replica,
    pub(crate) hub: Arc<Hub>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) feed: mpsc::Receiver<Vec<StreamMessage>>,
    pub(crate) runtime: Handle,
    pub(crate) instruments: Instruments,
    pub(crate) random: fn() -> u64,
    pub(crate) tidying: TidySchedule,
    /// What retention asked for, and is not applied yet.
    pub(crate) retaining: Vec<oneshot::Receiver<Result<Outcome, WriteError>>>,
    /// When the stream's time was read last.
    pub(crate) time_at: Instant,
}

/// Entries that are about to be applied, and whose they are.
#[derive(Default)]
struct GatheredEntries {
    entries: Vec<Entry>,
    of: Vec<(Option<(u64, u64)>, usize)>,
    bytes: usize,
}

impl Applier {
    /// Runs until the node is drained, then closes the store.
    ///
    /// # Errors
    /// When the store can't be closed in good order, or can't be gone on with.
    pub fn run(mut self) -> Result<(), StoreError> {
        let ended = self.run_until_end();
        if let Err(divergence) = &ended {
            self.hub.diverge(divergence.clone());
        }
        let closed = self.store.close();
        match ended {
            Ok(()) => closed,
            Err(divergence) => Err(StoreError::Failed(divergence.to_string())),
        }
    }

    fn run_until_end(&mut self) -> Result<(), Divergence> {
        loop {
            if self.is_tidy_due() {
                self.tidy()?;
            }
            match self.wait() {
                FeedWait::Came(batch) => self.take(batch)?,
                FeedWait::InVain => {}
                FeedWait::FeedEnded => return self.hub.divergence().map_or(Ok(()), Err),
            }
        }
    }

    /// Waits for messages, or until it is time to tidy.
    fn wait(&mut self) -> FeedWait {
        let until = self.tidying.at().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        let feed = &mut self.feed;
        match self.runtime.block_on(async { timeout_at(until.into(), feed.recv()).await }) {
            Ok(Some(batch)) => FeedWait::Came(batch),
            Ok(None) => FeedWait::FeedEnded,
            Err(_) => FeedWait::InVain,
        }
    }

    fn is_tidy_due(&self) -> bool {
        self.tidying.is_due(|| self.feed.is_empty(), || self.store.needs_tidying())
    }

    fn take(&mut self, batch: Vec<StreamMessage>) -> Result<(), Divergence> {
        let mut gathered = GatheredEntries::default();
        let mut batch = batch;
        loop {
            for message in batch {
                self.see(message, &mut gathered)?;
                if gathered.entries.len() >= ENTRIES_MAX || gathered.bytes >= BYTES_MAX {
                    self.apply(std::mem::take(&mut gathered))?;
                }
            }
            // A node that catches up has messages all the time, and its store is tidied all the same.
            if self.is_tidy_due() {
                break;
            }
            match self.feed.try_recv() {
                Ok(more) => batch = more,
                Err(_) => break,
            }
        }
        self.apply(gathered)
    }

    fn see(
        &mut self,
        StreamMessage { sequence, time, bytes }: StreamMessage,
        into: &mut GatheredEntries,
    ) -> Result<(), Divergence> {
        let Seen { of, verdict, disputes } = self.replica.take(sequence, time, &bytes)?;
        self.time_at = Instant::now();
        if let (Some((by, _)), Some(upto)) = (of, disputes) {
            self.weigh(by, sequence, upto)?;
        }
        match verdict {
            StreamVerdict::Applies(place, writes) => {
                into.of.push((of, writes.len()));
                into.bytes += bytes.len();
                if !writes.is_empty() {
                    into.entries.push(Entry { place, writes });
                }
            }
            StreamVerdict::Early(next) if self.is_own(of) => {
                if self.hub.proposals.lock().has_passed(next) {
                    return self.begin_anew(into);
                }
                tracing::debug!(next, "an entry of this node is missing in the stream, and is sent again");
                self.hub.sends_again.store(true, Ordering::Release);
                self.hub.wake.notify_one();
            }
            StreamVerdict::Forgotten if self.is_own(of) => return self.begin_anew(into),
            StreamVerdict::Foreign => {
                tracing::warn!(
                    sequence,
                    "a message of the stream is no entry of this log, and is passed over"
                );
            }
            StreamVerdict::Early(_)
            | StreamVerdict::Forgotten
            | StreamVerdict::Part
            | StreamVerdict::Repeat => {}
        }
        Ok(())
    }

    /// This node's incarnation counts no more in the stream.
    fn begin_anew(&mut self, into: &mut GatheredEntries) -> Result<(), Divergence> {
        // What came before may be an entry that would be counted anew, and sent once more.
        self.apply(std::mem::take(into))?;
        tracing::info!("this node was silent for long, and begins to count its entries anew");
        self.hub.proposals.lock().begin_anew((self.random)(), self.replica.applied());
        self.hub.sends_again.store(true, Ordering::Release);
        self.hub.wake.notify_one();
        Ok(())
    }

    /// Another node has seen another stream. One of the two has to stop, and which one, most of the others say.
    fn weigh(&self, by: u64, sequence: u64, upto: u64) -> Result<(), Divergence> {
        let own = self.hub.proposals.lock().incarnation();
        let (with, against) = self.nodes.opinions([own, by], |sequence| self.replica.digest_at(sequence));
        if with <= against {
            return Err(Divergence::Digest(sequence, upto));
        }
        tracing::error!(
            sequence,
            upto,
            with,
            against,
            node = format!("{by:016x}"),
            "a node has seen another stream than this one, and most have seen the same: it has to stop"
        );
        Ok(())
    }

    fn is_own(&self, of: Option<(u64, u64)>) -> bool {
        of.is_some_and(|(incarnation, _)| incarnation == self.hub.proposals.lock().incarnation())
    }

    fn apply(&mut self, gathered: GatheredEntries) -> Result<(), Divergence> {
        let GatheredEntries { entries, of, bytes } = gathered;
        let applied = self.replica.applied();
        if !entries.is_empty() {
            self.wait_for_room(bytes);
            self.tidying.committed();
        }
        let outcomes = if entries.is_empty() {
            Vec::new()
        } else {
            let began = Instant::now();
            self.instruments.begin();
            let outcomes = self.store.apply(entries, false);
            self.instruments.end(began);
            outcomes.map_err(|error| Divergence::Store(applied.sequence, error.to_string()))?
        };
        // Before anybody is answered, so that a question that comes after sees it.
        self.hub.has_applied(applied);
        let mut outcomes = outcomes.into_iter();
        for (of, count) in of {
            let waiting = of.map_or_else(Vec::new, |(incarnation, number)| {
                self.hub.proposals.lock().applied(incarnation, number)
            });
            self.answer(waiting, outcomes.by_ref().take(count));
        }
        self.hub.wake.notify_one();
        Ok(())
    }

    fn answer(&self, waiting: Vec<Waiting>, mut outcomes: impl Iterator<Item = Outcome>) {
        for waiting in waiting {
            let outcome = if waiting.is_write { outcomes.next() } else { Some(Outcome::Done) };
            let answer = match outcome {
                Some(Outcome::TooManyOptions) => Err(WriteError::TooManyOptions),
                Some(Outcome::TooManyTopics) => Err(WriteError::TooManyTopics),
                Some(outcome) => {
                    self.instruments.count(&outcome, waiting.bytes);
                    Ok(outcome)
                }
                None => Err(WriteError::Unknown),
            };
            let _ = waiting.done.send(answer);
        }
        // Those of entries of others, or that nobody waits for any more.
        outcomes.for_each(drop);
    }

    /// A full disk delays this node, and no other.
    fn wait_for_room(&self, bytes: usize) {
        let mut has_told = false;
        while !self.store.has_room(bytes) && !*self.hub.stop.borrow() {
            if !has_told {
                tracing::error!("the disk is full: this node waits for room, and falls behind");
                has_told = true;
            }
            thread::sleep(ROOM_PAUSE);
        }
    }

    fn tidy(&mut self) -> Result<(), Divergence> {
        let failed = |error: StoreError| Divergence::Store(0, error.to_string());
        let tidied = self.store.tidy().map_err(failed)?;
        let again = self.retain().map_err(failed)?;
        self.tidying.done([tidied, again].into_iter().flatten().min());
        Ok(())
    }

    /// Proposes what retention and compaction ask for, if this is the node that does. That two believe it does no harm.
    fn retain(&mut self) -> Result<Option<u64>, StoreError> {
        let own = self.hub.proposals.lock().incarnation();
        if !self.nodes.is_first(own) || self.hub.health() != tailwire_core::order::Health::Good {
            return Ok(Some(RETENTION_EVERY_MS));
        }
        // Until what was proposed is applied, it would be proposed again and again.
        self.retaining.retain_mut(|outcome| matches!(outcome.try_recv(), Err(TryRecvError::Empty)));
        if !self.retaining.is_empty() {
            return Ok(Some(RETENTION_EVERY_MS));
        }
        let passed = u64::try_from(self.time_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = Timestamp(self.replica.time().0.saturating_add(passed));
        let (writes, again_ms) = self.store.due(now)?;
        if writes.is_empty() {
            return Ok(again_ms);
        }
        for write in writes {
            let (done, outcome) = oneshot::channel();
            // What finds no room is decided again.
            if self.hub.proposals.lock().push(Some(write), done, Instant::now()).is_ok() {
                self.retaining.push(outcome);
            }
        }
        self.hub.wake.notify_one();
        // Sooner, once they are applied.
        Ok(Some(RETENTION_EVERY_MS))
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        // Also when its thread panics or never ran: nobody is to wait for it.
        self.hub.stop.send_replace(true);
        self.hub.fail_all();
        self.hub.end();
    }
}

/// What a wait for the feed ended with.
enum FeedWait {
    Came(Vec<StreamMessage>),
    InVain,
    FeedEnded,
}

#[cfg(test)]
mod tests;
