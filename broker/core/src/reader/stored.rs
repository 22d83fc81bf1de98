//! A reader behind the tails: it reads the log, a turn of a bounded page at a time, on the pool's
//! threads.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use smallvec::SmallVec;
use tailwire_model::{Position, Trim, gap};
use tokio::sync::oneshot;

use super::{ReadError, ReadStep, Reader};
use crate::{
    pool::Priority,
    segment::{Segment, Slice},
    store::StoreError,
};

/// One turn of a read, done by the pool.
pub(super) struct ReadTurn {
    segment: Option<Arc<Segment>>,
    scanned: Position,
    trimmed: Option<Trim>,
}

impl Reader {
    /// A look into memory that spares most polls a turn of the log.
    pub(super) fn has_nothing_stored(&self) -> bool {
        self.filter.only_topic().is_some() && {
            let bounds = self.shared.store.bounds(&self.filter);
            bounds.tail <= self.position && bounds.trimmed.is_none_or(|trim| trim.upto <= self.position)
        }
    }

    pub(super) fn start_read(&mut self, upto: Position) {
        let (filter, after, budget, view) = (self.filter.clone(), self.position, self.budget, self.view);
        let (encoders, now) = (self.shared.encoders, (self.shared.clock.now)());
        let metrics = self.shared.metrics.clone();
        self.shared.metrics.log_pages.inc();
        self.read = Some(self.shared.pool.run(budget.bytes, self.priority, move |store, lease| {
            let page = store.read(&filter, after, upto, budget)?;
            if let Some(first) = page.messages.first() {
                metrics.lag_seconds.observe(now.since(first.time) as f64 / 1000.0);
            }
            let segment =
                (!page.messages.is_empty()).then(|| Segment::leased(page.messages, encoders, view, lease));
            Ok(ReadTurn { segment, scanned: page.scanned, trimmed: page.trimmed })
        }));
    }

    /// Reads the first page of a stream that has yet to begin, which gives it then: so that its client learns at
    /// once if the log is damaged there. Whatever else becomes of the page, or isn't known within `patience`, the stream
    /// tells.
    ///
    /// # Errors
    /// [`ReadError::Damaged`].
    pub async fn read_ahead(&mut self, patience: Duration) -> Result<(), ReadError> {
        let upto = self.watermark();
        if self.position >= upto || self.has_nothing_stored() {
            return Ok(());
        }
        self.start_read(upto);
        let Some(read) = &mut self.read else { return Ok(()) };
        let Ok(result) = tokio::time::timeout(patience, read).await else { return Ok(()) };
        self.read = None;
        match result {
            Ok(Err(error @ StoreError::Corrupt(_))) => return Err(self.shared.read_failed(&error)),
            Ok(turn) => {
                let (sender, receiver) = oneshot::channel();
                let _ = sender.send(turn);
                self.read = Some(receiver);
            }
            Err(_) => {}
        }
        Ok(())
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<ReadStep, ReadError>> {
        let Some(read) = &mut self.read else { return Poll::Ready(Ok(ReadStep::Scanned)) };
        let result = ready!(std::pin::Pin::new(read).poll(cx));
        self.read = None;
        let turn = match self.shared.readable(result) {
            Ok(turn) => turn,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let gap = gap::trimmed_gap(&self.shared.store.epochs(), turn.trimmed, self.position, self.known);
        if let Some(gap) = gap {
            // The page is read again after the client has heard of the gap; that is rare.
            return Poll::Ready(Ok(self.tell(gap)));
        }
        self.position = self.position.max(turn.scanned);
        // The first page may be all that was missed; who needs another reads old data, until he has come to its end.
        if self.priority != Priority::Answer {
            self.priority =
                if self.position < self.watermark() { Priority::Throttled } else { Priority::Soon };
        }
        Poll::Ready(Ok(match turn.segment {
            Some(segment) => self.give(SmallVec::from_iter([Slice::whole(segment)])),
            None => ReadStep::Scanned,
        }))
    }
}
