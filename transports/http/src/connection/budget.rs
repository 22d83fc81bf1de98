//! Room for what all connections together are receiving and have not received whole: heads, bodies, parts of WebSocket
//! messages. It counts from its first byte, so that no number of clients that begin and never end can take the broker's
//! memory.
//!
//! A connection counts what it holds in a [`Charge`], and waits for [room](Charge::poll_room) before it reads more. A
//! request that comes whole is never counted: whatever many others hold, small requests get through.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tailwire_model::limits::{RECEIVE_BYTES_MAX, RECEIVE_RATE_MIN, REQUEST_BODY_MS_MAX};
use tokio::time::Instant;

/// Bytes that are read at once, where there is room.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// Bytes that are read of a connection without a share, where there is none: enough for a small request as a whole.
pub(crate) const READ_BYTES_SCARCE: usize = 2 << 10;

/// The bound of one server.
#[derive(Clone)]
pub(crate) struct ReceiveBudget(Arc<ReceiveRoom>);

struct ReceiveRoom {
    bytes_max: usize,
    used: AtomicUsize,
    /// Whether there may be somebody in `waiting`.
    is_awaited: AtomicBool,
    waiting: Mutex<BudgetWaiters>,
}

/// Those who wait for room, by the numbers that they drew.
#[derive(Default)]
struct BudgetWaiters {
    drawn: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// One connection's share of it, until this is dropped.
pub(crate) struct Charge {
    budget: ReceiveBudget,
    bytes: usize,
    /// Its number among those who wait for room, or have just been woken for it.
    number: Option<u64>,
}

impl ReceiveBudget {
    /// For so many bytes; by default [`RECEIVE_BYTES_MAX`].
    pub(crate) fn new(bytes_max: Option<usize>) -> Self {
        Self(Arc::new(ReceiveRoom {
            bytes_max: bytes_max.unwrap_or(RECEIVE_BYTES_MAX),
            used: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            waiting: Mutex::default(),
        }))
    }

    /// Nothing yet.
    pub(crate) fn charge(&self) -> Charge {
        Charge { budget: self.clone(), bytes: 0, number: None }
    }

    /// Whether one more read fits.
    pub(crate) fn has_room(&self) -> bool {
        self.0.used.load(Ordering::Relaxed).saturating_add(READ_BYTES) <= self.0.bytes_max
    }

    /// What is counted.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::SeqCst)
    }

    fn release(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.0.is_awaited.load(Ordering::SeqCst) {
            self.serve();
        }
    }

    /// Wakes as many as there is room for, those who wait longest first.
    fn serve(&self) {
        let mut waiting = self.0.waiting.lock();
        let room = self.0.bytes_max.saturating_sub(self.0.used.load(Ordering::SeqCst)) / READ_BYTES;
        let woken: Vec<_> = (0..room).map_while(|_| waiting.wakers.pop_first()).collect();
        self.0.is_awaited.store(!waiting.wakers.is_empty(), Ordering::SeqCst);
        drop(waiting);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Charge {
    /// Counts what the connection holds by now.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.0.used.fetch_add(bytes - self.bytes, Ordering::SeqCst);
        } else if bytes < self.bytes {
            self.budget.release(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Whether nothing is counted.
    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Counts what has come in addition.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.set(self.bytes + bytes);
    }

    /// The budget that it is a part of.
    pub(crate) const fn budget(&self) -> &ReceiveBudget {
        &self.budget
    }

    /// Ready when there is room for one more read. The caller bounds the wait.
    pub(crate) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.budget.has_room() {
            self.wait_no_longer();
            return Poll::Ready(());
        }
        let mut waiting = self.budget.0.waiting.lock();
        let number = *self.number.get_or_insert_with(|| {
            waiting.drawn += 1;
            waiting.drawn
        });
        waiting.wakers.insert(number, cx.waker().clone());
        self.budget.0.is_awaited.store(true, Ordering::SeqCst);
        drop(waiting);
        // Room that was released before anybody was seen to wait woke nobody.
        if self.budget.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wait_no_longer(&mut self) {
        if let Some(number) = self.number.take() {
            self.budget.0.waiting.lock().wakers.remove(&number);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let has_waited = self.number.is_some();
        self.wait_no_longer();
        self.set(0);
        if has_waited {
            // It may have been woken for room that it never used.
            self.budget.serve();
        }
    }
}

/// How long one message may take to arrive: some time in any case, and more for as long as it comes at a floor rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceivePace {
    began: Instant,
    bytes: usize,
}

impl ReceivePace {
    /// A message begins.
    pub(crate) fn new(now: Instant) -> Self {
        Self { began: now, bytes: 0 }
    }

    /// So much more of it has come.
    pub(crate) const fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// When patience with it ends, unless more comes.
    pub(crate) fn deadline(&self) -> Instant {
        let earned = Duration::from_secs((self.bytes / RECEIVE_RATE_MIN) as u64);
        self.began + earned.max(Duration::from_millis(REQUEST_BODY_MS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_waiter_gets_the_room_that_others_release() {
        let budget = ReceiveBudget::new(Some(3 * READ_BYTES));
        let (mut one, mut other) = (budget.charge(), budget.charge());
        assert!(poll_fn(|cx| one.poll_room(cx)).now_or_never().is_some());
        one.set(READ_BYTES);
        one.add(READ_BYTES);
        other.set(1);
        assert!(poll_fn(|cx| other.poll_room(cx)).now_or_never().is_none());
        let waits = tokio::spawn(async move { poll_fn(|cx| other.poll_room(cx)).await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        // A waiter that gives up stands in nobody's way.
        let mut third = budget.charge();
        third.set(1);
        assert!(poll_fn(|cx| third.poll_room(cx)).now_or_never().is_none());
        one.set(READ_BYTES);
        waits.await.unwrap();
        drop((one, third));
        assert_eq!(budget.0.used.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_has_its_time_and_more_while_it_comes() {
        let now = Instant::now();
        let mut pace = ReceivePace::new(now);
        assert_eq!((pace.deadline() - now).as_secs(), 30);
        pace.add(30 * RECEIVE_RATE_MIN);
        assert_eq!((pace.deadline() - now).as_secs(), 30);
        pace.add(RECEIVE_RATE_MIN);
        assert_eq!((pace.deadline() - now).as_secs(), 31);
    }
}
