//! Readers: a filter and a position. A reader catches up from the log, then follows its terms' tails; it holds no
//! message of its own. Every transport is a loop over one.
//!
//! The rule that leaves no seam: a reader loads the shard's watermark before it looks at any tail, gives every match up
//! to it in log order, and then stands there.

mod access;
mod stored;

use std::{
    future::poll_fn,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll, ready},
    time::Duration,
};

use tailwire_model::{
    Bye, ByeReason, Cursor, Filter, Gap, Position, gap,
    limits::{
        BATCH_READ_BYTES_MAX, HEARTBEAT_MS, PERMISSION_RETRY_MS, READ_BYTES_MAX, READ_MESSAGES_MAX,
        SCAN_BYTES_MAX,
    },
    retry,
};
use tokio::{sync::oneshot, time::Instant};

pub(crate) use self::access::Permission;
use self::stored::ReadTurn;
use crate::{
    error::ReadError,
    following::Following,
    log::Budget,
    metrics::ReasonLabel,
    pool::Priority,
    segment::{Slice, Slices, View},
    shared::BrokerShared,
    slot::{Remainder, Sink},
    store::StoreError,
    timer::Timer,
};

/// An event of a reader.
pub enum Event {
    /// Messages, in log order, at least one.
    Messages(Slices),
    /// Messages are gone that the cursor has not seen. Reading goes on.
    Gap(Gap),
    /// All that was stored has been given; what follows is live. Once.
    CaughtUp(Cursor),
    /// Still there: at once on opening, and whenever nothing was said for a while.
    Heartbeat(Cursor),
    /// The last event.
    Bye(Bye),
}

/// How long a page waits that stands at the tail and has nothing. What is stored it gives, however long that takes to read.
#[derive(Debug, Clone)]
pub enum Until {
    /// Until then.
    Deadline(Instant),
    /// Until it is dropped; it says here whether it stands there.
    Dropped(Arc<AtomicBool>),
}

/// See the module.
pub struct Reader {
    shared: Arc<BrokerShared>,
    permission: Permission,
    filter: Arc<Filter>,
    /// Every match up to here has been given.
    position: Position,
    /// How far the client knows that messages are gone.
    known: Option<Cursor>,
    /// The gap to report next.
    gap: Option<Gap>,
    budget: Budget,
    view: View,
    following: Option<Box<Following>>,
    read: Option<oneshot::Receiver<Result<ReadTurn, StoreError>>>,
    priority: Priority,
    sent: Sent,
}

#[derive(Default)]
struct Sent {
    opened: bool,
    caught_up: bool,
    bye: bool,
}

/// One step of reading.
pub(crate) enum ReadStep {
    Messages(Slices),
    Gap(Gap),
    /// A turn of the log gave nothing, and there is more to look at.
    Scanned,
    /// There is nothing up to the watermark.
    AtTail,
}

impl Reader {
    pub(crate) fn new(
        shared: Arc<BrokerShared>,
        permission: Permission,
        filter: Arc<Filter>,
        start: gap::Resume,
        known: Option<Cursor>,
        view: View,
    ) -> Self {
        shared.metrics.readers.inc();
        Self {
            shared,
            permission,
            filter,
            position: start.after,
            known,
            gap: start.gap,
            budget: Budget { messages: READ_MESSAGES_MAX, bytes: READ_BYTES_MAX, scan_bytes: SCAN_BYTES_MAX },
            view,
            following: None,
            read: None,
            priority: Priority::Soon,
            sent: Sent::default(),
        }
    }

    /// A reader that has nothing to catch up with, and doesn't say so.
    pub(crate) const fn already_caught_up(mut self) -> Self {
        self.sent.caught_up = true;
        self
    }

    /// The cursor of the reader's own position.
    pub fn cursor(&self) -> Cursor {
        self.shared.cursor_at(self.position)
    }

    /// The end of the gap that the client knows of, for as long as it goes on from a `cursor` before that.
    pub fn known_gap(&self, cursor: Cursor) -> Option<Cursor> {
        self.known.filter(|known| *known > cursor)
    }

    pub(crate) const fn position(&self) -> Position {
        self.position
    }

    pub(crate) const fn shared(&self) -> &Arc<BrokerShared> {
        &self.shared
    }

    /// How its messages are encoded.
    pub const fn view(&self) -> View {
        self.view
    }

    /// Takes over a view that takes less of a message than its own.
    pub fn tighten(&mut self, view: View) {
        if view.is_tighter_than(self.view) {
            self.view = view;
            self.release();
        }
    }

    /// The filter that it reads.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The same, shared.
    pub const fn permitted(&self) -> &Arc<Filter> {
        &self.filter
    }

    /// For a caller that wants so much at once, and no more.
    pub(crate) fn answer_within(&mut self, budget: Budget) {
        self.budget = budget;
        self.priority = Priority::Answer;
    }

    /// Goes back to a message that was given but could not be written; the transport lets go of its slices.
    pub fn rewind(&mut self, position: Position) {
        debug_assert!(position <= self.position, "a reader only goes back to what it gave");
        self.release();
        self.position = position;
    }

    /// Lets go of a page that was read, or is about to be: it is read again when there is use for it.
    pub fn release(&mut self) {
        self.read = None;
    }

    /// From here on the reader follows the tails of a shard, whose runtime should be the one that polls it.
    pub fn follow(&mut self, shard: usize) {
        let shard = self.shared.shards[shard % self.shared.shards.len()].clone();
        let mut following = Following::new(shard, self.principal().clone());
        self.filter.terms().iter().for_each(|term| following.attach(term));
        self.following = Some(Box::new(following));
        self.review_if_missed();
    }

    /// Takes over the terms of a reader that stands at the same position on the same shard.
    pub fn join(&mut self, other: &Self) {
        debug_assert_eq!(self.position, other.position, "readers join at one position");
        if let Some(following) = &mut self.following {
            other.filter.terms().iter().for_each(|term| following.attach(term));
        }
        // A gap that the other has not reported must not be silenced; a gap that is reported twice does no harm.
        self.known = self.known.min(other.known);
        self.refilter();
    }

    /// Lets go of the terms of one of its subscriptions.
    pub fn part(&mut self, filter: &Filter) {
        if let Some(following) = &mut self.following {
            filter.terms().iter().for_each(|term| following.detach(term));
        }
        self.refilter();
    }

    /// The terms have changed. A turn of the log that was asked with the old ones is asked again.
    fn refilter(&mut self) {
        if let Some(following) = &self.following {
            self.filter = Arc::new(following.filter());
        }
        self.release();
    }

    /// Whether it has given its first cursor, and before that the gap that its start has.
    pub const fn is_open(&self) -> bool {
        self.sent.opened
    }

    /// Whether it has said that it has caught up.
    pub const fn is_caught_up(&self) -> bool {
        self.sent.caught_up
    }

    /// Whether `other` has given everything up to just where this reader stands.
    pub fn stands_with(&self, other: &Self) -> bool {
        self.position == other.position
    }

    /// Wakes the task that polls this reader after the shard's next round, whatever is in it.
    pub fn wake_next_round(&self, cx: &Context<'_>) {
        if let Some(following) = &self.following {
            following.slot.register(cx);
            following.shard.wake_next_round(following.slot.clone());
        }
    }

    /// Lends the sink of a connection that has written all it was given to the shard, which writes there what comes next in
    /// the reader's format, if the reader waits at the tail. Whenever the task is polled it takes it back first.
    pub fn lend(&self, sink: Arc<dyn Sink>) {
        let waits = self.gap.is_none() && self.read.is_none() && self.sent.caught_up && !self.sent.bye;
        if let Some(following) = self.following.as_ref().filter(|_| waits) {
            following.lend(sink, self.view, self.position);
        }
    }

    /// Takes a lent sink back. The remainder of a partial write goes out before anything else.
    pub fn take_back(&mut self) -> Option<Box<Remainder>> {
        let following = self.following.as_mut()?;
        let returned = following.slot.take_back()?;
        following.last_write = returned.last_write;
        self.position = returned.position;
        returned.remainder
    }

    /// The reader's timer, for a transport that waits for its socket rather than for the reader.
    pub fn timer(&mut self) -> Option<&mut Timer> {
        self.following.as_mut().map(|following| &mut following.timer)
    }

    /// The next event of a stream. Waits for one.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn next(&mut self) -> Result<Event, ReadError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// See [`Reader::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        if self.sent.bye {
            return Poll::Pending;
        }
        if let Some(reason) = self.permission_ended() {
            return self.say_bye(reason);
        }
        // A gap comes before the first cursor: a client that loses the connection between the two gets it again.
        if self.gap.is_none() && !self.sent.opened {
            self.sent.opened = true;
            return self.say(Event::Heartbeat(self.cursor()));
        }
        loop {
            return match self.poll_step(cx) {
                Poll::Ready(Ok(ReadStep::Messages(slices))) => self.say(Event::Messages(slices)),
                Poll::Ready(Ok(ReadStep::Gap(gap))) => self.say(Event::Gap(gap)),
                Poll::Ready(Ok(ReadStep::Scanned)) => continue,
                Poll::Ready(Ok(ReadStep::AtTail)) if !self.sent.caught_up => {
                    self.sent.caught_up = true;
                    self.say(Event::CaughtUp(self.cursor()))
                }
                Poll::Ready(Ok(ReadStep::AtTail)) => self.poll_idle(cx),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                // Reading a long log for few messages is silence, too.
                Poll::Pending => self.poll_heartbeat(cx),
            };
        }
    }

    /// Waits at the tail.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        if self.following.as_ref().is_some_and(|following| following.shard.is_draining()) {
            return self.say_bye(ByeReason::Drain);
        }
        self.poll_heartbeat(cx)
    }

    fn say_bye(&mut self, reason: ByeReason) -> Poll<Result<Event, ReadError>> {
        self.sent.bye = true;
        let retry_after_ms = match reason {
            ByeReason::Drain => self.shared.drain_retry_ms(),
            _ => retry::spread(PERMISSION_RETRY_MS, self.shared.clock.draw()),
        };
        self.say(Event::Bye(Bye { reason, retry_after_ms }))
    }

    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        let ends = self.ends();
        let Some(following) = &mut self.following else { return Poll::Pending };
        let heartbeat = following.last_write + Duration::from_millis(HEARTBEAT_MS);
        ready!(following.timer.poll_until(cx, ends.map_or(heartbeat, |ends| ends.min(heartbeat))));
        match self.permission_ended() {
            Some(reason) => self.say_bye(reason),
            None => self.say(Event::Heartbeat(self.cursor())),
        }
    }

    fn say(&mut self, event: Event) -> Poll<Result<Event, ReadError>> {
        if let Some(following) = &mut self.following {
            following.last_write = Instant::now();
        }
        Poll::Ready(Ok(event))
    }

    /// One step towards the watermark. At the tail it has registered to be woken.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<ReadStep, ReadError>> {
        if let Some(gap) = self.gap.take() {
            return Poll::Ready(Ok(self.tell(gap)));
        }
        if self.read.is_some() {
            return self.poll_read(cx);
        }
        if let Some(following) = &self.following {
            following.slot.register(cx);
        }
        let upto = self.watermark();
        if self.position >= upto {
            return Poll::Ready(Ok(ReadStep::AtTail));
        }
        if let Some(slices) = self.following.as_ref().and_then(|f| f.between(self.position, upto)) {
            return Poll::Ready(Ok(self.give_live(slices, upto)));
        }
        if self.has_nothing_stored() {
            self.position = upto;
            return Poll::Ready(Ok(ReadStep::AtTail));
        }
        self.start_read(upto);
        self.poll_read(cx)
    }

    /// Ready when a reader at the tail need not wait any longer: the time is over, or the broker drains.
    pub(crate) fn poll_wait(&mut self, cx: &mut Context<'_>, until: &Until) -> Poll<()> {
        let ends = self.ends();
        let Some(following) = self.following.as_mut().filter(|own| !own.shard.is_draining()) else {
            return Poll::Ready(());
        };
        let deadline = match until {
            Until::Deadline(deadline) => Some(ends.map_or(*deadline, |ends| ends.min(*deadline))),
            Until::Dropped(_) => ends,
        };
        deadline.map_or(Poll::Pending, |deadline| following.timer.poll_until(cx, deadline))
    }

    pub(crate) const fn is_following(&self) -> bool {
        self.following.is_some()
    }

    /// Up to where this reader may give messages now.
    pub(crate) fn watermark(&self) -> Position {
        match &self.following {
            Some(following) => following.shard.dispatched(),
            None => self.shared.store.newest(),
        }
    }

    fn give_live(&mut self, mut slices: Slices, upto: Position) -> ReadStep {
        // A batch that was cut ends at its last message; else everything up to the watermark was looked at.
        let cut = cut_to_batch(&mut slices);
        self.position = slices.last().filter(|_| cut).map_or(upto, Slice::last);
        if slices.is_empty() { ReadStep::AtTail } else { self.give(slices) }
    }

    fn give(&self, slices: Slices) -> ReadStep {
        let count: usize = slices.iter().map(Slice::len).sum();
        self.shared.metrics.messages_out.inc_by(count as u64);
        ReadStep::Messages(slices)
    }

    fn tell(&mut self, gap: Gap) -> ReadStep {
        let label = ReasonLabel { reason: gap.reason.as_str() };
        self.shared.metrics.gaps.get_or_create(&label).inc();
        self.known = Some(self.known.map_or(gap.to, |known| known.max(gap.to)));
        ReadStep::Gap(gap)
    }
}

/// Cuts slices to what one batch holds. Returns whether any were left out.
fn cut_to_batch(slices: &mut Slices) -> bool {
    let mut cost = 0;
    let mut fits = |slice: &Slice| {
        cost += slice.cost();
        cost <= BATCH_READ_BYTES_MAX
    };
    let count = slices.iter().take_while(|slice| fits(slice)).count().max(1);
    let cut = count < slices.len();
    slices.truncate(count);
    cut
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.metrics.readers.dec();
    }
}
