//! Long-polls that wait for the same. Requests in the same words after the same cursor have the same answer, so one
//! reader waits for all of them, and what it finds is encoded once, head and all. Each waiter is woken and writes those
//! bytes to its own socket. Only the time after which it should come back is its own.

mod shared;

use std::{
    collections::HashMap,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use slab::Slab;
use tailwire_core::Timer;
use tailwire_model::{Filter, Principal};
use tailwire_wire::{Coding, Representation};
use tokio::time::Instant;

pub(crate) use self::shared::{Looked, Reply, Share, SharedResponse};
use crate::api::{guard::Cors, reply::caught};

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Polls(Arc<Mutex<HashMap<Arc<PollKey>, Arc<WaiterGroup>>>>);

/// All that has a say in an answer, beside what is in the log.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct PollKey {
    pub(crate) principal: Principal,
    pub(crate) filter: Filter,
    /// As it was written, since the link to the next page has it. It names the cursor, the limit and a gap.
    pub(crate) query: Option<Box<str>>,
    /// How it is given, and how long it is waited for.
    pub(crate) representation: Representation,
    pub(crate) varies_by_accept: bool,
    /// How it is coded, if it is large enough.
    pub(crate) coding: Coding,
    pub(crate) cors: Cors,
}

/// The waiters of one answer. They look for it themselves: when there may be something, one of them is woken to see.
///
/// A waiter that looks holds the lock of `search`, and takes a reader's locks under it; a reader's shard, which may hold
/// its own locks, wakes one of the group under `wakers`. `search` is never taken under that.
struct WaiterGroup {
    key: Arc<PollKey>,
    polls: Polls,
    /// Of all that wait; of nobody any more, once there is an answer.
    wakers: Mutex<Slab<Waker>>,
    search: Mutex<Option<Search>>,
    /// The answer; `None` where nothing was found, which every waiter says by itself.
    answer: OnceLock<Option<Arc<SharedResponse>>>,
    /// Whether one of them has to look.
    is_called: AtomicBool,
    /// Whether there is nothing stored for them: only then may a wait be over.
    is_at_tail: Arc<AtomicBool>,
}

type Search = BoxFuture<'static, Option<SharedResponse>>;

/// One of a group. Ready with what was found; with nothing, if that is so.
pub(crate) struct Waiter {
    group: Arc<WaiterGroup>,
    /// Its place among the wakers, until it has left.
    number: Option<usize>,
}

impl Polls {
    /// Waits with those who wait for the same. The first says how it is looked for: by a future that tells meanwhile
    /// whether it stands at the tail, and is dropped when nobody waits any more.
    pub(crate) fn join<F>(
        &self,
        key: Arc<PollKey>,
        look: impl FnOnce(&Arc<PollKey>, Arc<AtomicBool>) -> F,
    ) -> Waiter
    where
        F: Future<Output = Looked> + Send + 'static,
    {
        let mut groups = self.0.lock();
        if let Some(waiter) = groups.get(&key).and_then(Waiter::of) {
            return waiter;
        }
        let is_at_tail = Arc::new(AtomicBool::new(false));
        // Not an async block, which would hold it twice.
        let search = caught(look(&key, is_at_tail.clone())).map(SharedResponse::new);
        let mut wakers = Slab::with_capacity(1);
        let number = wakers.insert(Waker::noop().clone());
        let group = Arc::new(WaiterGroup {
            key: key.clone(),
            polls: self.clone(),
            wakers: Mutex::new(wakers),
            search: Mutex::new(Some(Box::pin(search))),
            answer: OnceLock::new(),
            is_called: AtomicBool::new(true),
            is_at_tail,
        });
        // In the place of one that is as good as over.
        let before = groups.insert(key, group.clone());
        drop(groups);
        drop(before);
        Waiter { group, number: Some(number) }
    }

    /// Later polls look anew.
    fn forget(&self, group: &Arc<WaiterGroup>) {
        let mut groups = self.0.lock();
        if groups.get(&group.key).is_some_and(|other| Arc::ptr_eq(group, other)) {
            groups.remove(&group.key);
        }
    }
}

impl WaiterGroup {
    /// Looks, if there may be something.
    fn look(self: &Arc<Self>) {
        while self.is_called.swap(false, Ordering::AcqRel) {
            let mut search = self.search.lock();
            let Some(looking) = search.as_mut() else { return };
            let (was_at_tail, waker) = (self.is_at_tail.load(Ordering::Acquire), Waker::from(self.clone()));
            if let Poll::Ready(found) = looking.as_mut().poll(&mut Context::from_waker(&waker)) {
                let over = search.take();
                drop(search);
                drop(over);
                return self.end(found);
            }
            drop(search);
            // Those whose time is over have waited for that.
            if !was_at_tail && self.is_at_tail.load(Ordering::Acquire) {
                self.wakers.lock().iter().for_each(|(_, waker)| waker.wake_by_ref());
            }
        }
    }

    fn end(self: &Arc<Self>, found: Option<SharedResponse>) {
        self.polls.forget(self);
        let _ = self.answer.set(found.map(Arc::new));
        let wakers = mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Has one of them look.
    fn call_one(&self) {
        if let Some((_, waker)) = self.wakers.lock().iter().next() {
            waker.wake_by_ref();
        }
    }
}

impl Wake for WaiterGroup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_called.store(true, Ordering::Release);
        self.call_one();
    }
}

impl Waiter {
    /// Another one of a group, unless everybody else has gone, or it is over.
    fn of(group: &Arc<WaiterGroup>) -> Option<Self> {
        let mut wakers = group.wakers.lock();
        if wakers.is_empty() {
            return None;
        }
        let number = wakers.insert(Waker::noop().clone());
        Some(Self { group: group.clone(), number: Some(number) })
    }

    pub(crate) fn key(&self) -> &PollKey {
        &self.group.key
    }

    /// The answer; none, if it has waited until then. A waiter that is behind is given what is stored, however long it
    /// takes to read that.
    pub(crate) async fn until(&mut self, deadline: Instant) -> Option<Arc<SharedResponse>> {
        let mut timer = Timer::default();
        poll_fn(|cx| {
            let polled = Pin::new(&mut *self).poll(cx);
            // When the group comes to the tail, all of it are woken.
            if polled.is_ready() || !self.group.is_at_tail.load(Ordering::Acquire) {
                return polled;
            }
            timer.poll_until(cx, deadline).map(|()| {
                self.leave();
                None
            })
        })
        .await
    }

    /// Leaves the group, once.
    fn leave(&mut self) {
        let Some(number) = self.number.take() else { return };
        let mut wakers = self.group.wakers.lock();
        if self.group.answer.get().is_some() || wakers.try_remove(number).is_none() {
            return;
        }
        let is_last = wakers.is_empty();
        drop(wakers);
        if is_last {
            self.group.polls.forget(&self.group);
            // Its share of the group goes as well.
            let search = self.group.search.lock().take();
            drop(search);
        } else if self.group.is_called.load(Ordering::Acquire) {
            // It may have been called, and never looked.
            self.group.call_one();
        }
    }

    /// The answer, if there is one; else the task to wake is this one.
    fn poll_answer(&self, cx: &Context<'_>) -> Poll<Option<Arc<SharedResponse>>> {
        if self.group.answer.get().is_none()
            && let Some(number) = self.number
            && let Some(waker) = self.group.wakers.lock().get_mut(number)
        {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        // The wakers are taken only after the answer is there.
        self.group.answer.get().map_or(Poll::Pending, |answer| Poll::Ready(answer.clone()))
    }
}

impl Future for Waiter {
    type Output = Option<Arc<SharedResponse>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let before = self.poll_answer(cx);
        if before.is_ready() {
            return before;
        }
        // It can be called from here on, so that it misses nothing that comes after it has looked.
        self.group.look();
        self.poll_answer(cx)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
