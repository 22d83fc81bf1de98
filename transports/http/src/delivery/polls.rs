//! Long-polls that wait for the same. Who asks in the same words after the same cursor is answered the same, so that one
//! reader waits for all of them, and what it finds is written down once, head and all. Whoever has lent its socket is
//! written to there and then, one after the other, and its task is woken only for what comes behind the answer.

mod found;
mod ticket;

use std::{
    collections::HashMap,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use slab::Slab;
use tailwire_core::Timer;
use tailwire_model::{Filter, Principal};
use tailwire_wire::Representation;
use tokio::time::Instant;

use self::found::Found;
pub(crate) use self::{
    found::{Looked, Reply, Served},
    ticket::Ticket,
};
use crate::api::{guard::Cors, reply::caught};

/// How many are served, and how much is written to them, before others have a turn.
const SERVED_PER_TURN: usize = 64;
/// See [`SERVED_PER_TURN`].
const BYTES_PER_TURN: usize = 256 << 10;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Polls(Arc<Mutex<HashMap<Arc<Key>, Arc<Group>>>>);

/// All that has a say in an answer, beside what is in the log.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) principal: Principal,
    pub(crate) filter: Filter,
    /// As it was written, since the link to the next page has it. It names the cursor, the limit and a gap.
    pub(crate) query: Option<Box<str>>,
    /// How it is given, and how long it is waited for.
    pub(crate) representation: Representation,
    pub(crate) varies_by_accept: bool,
    pub(crate) cors: Cors,
}

/// Those who wait for one answer. They look for it themselves: when there may be something, one of them is woken to see.
///
/// Whoever looks holds `search`, and with it takes whatever a reader takes; a reader's shard, which may hold its own locks,
/// calls one of the group, by `tickets` and then a ticket. Nothing is taken under a ticket, and `search` never under those.
struct Group {
    key: Arc<Key>,
    polls: Polls,
    /// Who waits; nobody any more, once it is over.
    tickets: Mutex<Slab<Arc<Ticket>>>,
    search: Mutex<Option<Search>>,
    /// Whether one of them has to look.
    is_called: AtomicBool,
    /// Whether there is nothing stored for them: only then may a wait be over.
    stands: Arc<AtomicBool>,
}

type Search = BoxFuture<'static, Option<Found>>;

/// One of a group. Ready with what was found; with nothing, if that is so.
pub(crate) struct Member {
    group: Arc<Group>,
    number: usize,
    ticket: Arc<Ticket>,
}

/// The end of a group: all are given the answer, some at a turn.
struct Serving {
    group: Arc<Group>,
    found: Option<Arc<Found>>,
    tickets: slab::IntoIter<Arc<Ticket>>,
}

impl Polls {
    /// Waits with those who wait for the same. The first says how it is looked for: by a future that tells meanwhile whether it
    /// stands at the tail, and is dropped when nobody waits any more.
    pub(crate) fn join<F>(&self, key: Arc<Key>, look: impl FnOnce(&Arc<Key>, Arc<AtomicBool>) -> F) -> Member
    where
        F: Future<Output = Looked> + Send + 'static,
    {
        let mut groups = self.0.lock();
        if let Some(member) = groups.get(&key).and_then(Member::of) {
            return member;
        }
        let stands = Arc::new(AtomicBool::new(false));
        // Not an async block, which would hold it twice.
        let search = caught(look(&key, stands.clone())).map(Found::new);
        let ticket = Arc::new(Ticket::default());
        let mut tickets = Slab::with_capacity(1);
        let number = tickets.insert(ticket.clone());
        let group = Arc::new(Group {
            key: key.clone(),
            polls: self.clone(),
            tickets: Mutex::new(tickets),
            search: Mutex::new(Some(Box::pin(search))),
            is_called: AtomicBool::new(true),
            stands,
        });
        // In the place of one that is as good as over.
        let before = groups.insert(key, group.clone());
        drop(groups);
        drop(before);
        Member { group, number, ticket }
    }

    /// Who comes from here on looks anew.
    fn forget(&self, group: &Arc<Group>) {
        let mut groups = self.0.lock();
        if groups.get(&group.key).is_some_and(|other| Arc::ptr_eq(group, other)) {
            groups.remove(&group.key);
        }
    }
}

impl Group {
    /// Looks, if there may be something.
    fn look(self: &Arc<Self>) {
        while self.is_called.swap(false, Ordering::AcqRel) {
            let mut search = self.search.lock();
            let Some(looking) = search.as_mut() else { return };
            let (stood, waker) = (self.stands.load(Ordering::Acquire), Waker::from(self.clone()));
            if let Poll::Ready(found) = looking.as_mut().poll(&mut Context::from_waker(&waker)) {
                let over = search.take();
                drop(search);
                drop(over);
                return self.end(found);
            }
            drop(search);
            // Those whose time is over have waited for that.
            if !stood && self.stands.load(Ordering::Acquire) {
                self.tickets.lock().iter().for_each(|(_, ticket)| ticket.call());
            }
        }
    }

    fn end(self: &Arc<Self>, found: Option<Found>) {
        self.polls.forget(self);
        let tickets = mem::take(&mut *self.tickets.lock()).into_iter();
        let mut serving = Serving { group: self.clone(), found: found.map(Arc::new), tickets };
        if !serving.is_done_after_turn() {
            tokio::spawn(async move {
                while !serving.is_done_after_turn() {
                    tokio::task::yield_now().await;
                }
            });
        }
    }

    /// Has one of them look.
    fn call_one(&self) {
        if let Some((_, ticket)) = self.tickets.lock().iter().next() {
            ticket.call();
        }
    }
}

impl Serving {
    fn is_done_after_turn(&mut self) -> bool {
        let Self { group, found, tickets } = self;
        let mut bytes = 0;
        for (_, ticket) in tickets.take(SERVED_PER_TURN) {
            bytes += ticket.serve(found.as_ref(), &group.key.cors);
            if bytes >= BYTES_PER_TURN {
                break;
            }
        }
        tickets.len() == 0
    }
}

impl Wake for Group {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_called.store(true, Ordering::Release);
        self.call_one();
    }
}

impl Member {
    /// Another one of a group, unless everybody else has gone, or it is over.
    fn of(group: &Arc<Group>) -> Option<Self> {
        let mut tickets = group.tickets.lock();
        if tickets.is_empty() {
            return None;
        }
        let ticket = Arc::new(Ticket::default());
        Some(Self { group: group.clone(), number: tickets.insert(ticket.clone()), ticket })
    }

    pub(crate) fn key(&self) -> &Key {
        &self.group.key
    }

    /// What it is served; nothing, if it has waited until then. Who is behind is given what is stored, however long it takes to
    /// read that.
    pub(crate) async fn served_by(&mut self, deadline: Instant) -> Option<Served> {
        let mut timer = Timer::default();
        poll_fn(|cx| {
            let polled = Pin::new(&mut *self).poll(cx);
            // When the group comes to the tail, all of it are woken.
            if polled.is_ready() || !self.group.stands.load(Ordering::Acquire) {
                return polled;
            }
            timer.poll_until(cx, deadline).map(|()| self.leave())
        })
        .await
    }

    pub(crate) const fn ticket(&self) -> &Arc<Ticket> {
        &self.ticket
    }

    /// Waits no longer: from here on nobody writes to its socket. Answers what it has just been served, if so.
    fn leave(&mut self) -> Option<Served> {
        if let Poll::Ready(served) = self.ticket.end() {
            return served;
        }
        self.give_up();
        None
    }

    /// Leaves the group.
    fn give_up(&self) {
        let mut tickets = self.group.tickets.lock();
        if tickets.get(self.number).is_none_or(|ticket| !Arc::ptr_eq(ticket, &self.ticket)) {
            return;
        }
        tickets.remove(self.number);
        let is_last = tickets.is_empty();
        drop(tickets);
        if is_last {
            self.group.polls.forget(&self.group);
            // What it holds of the group goes as well.
            let search = self.group.search.lock().take();
            drop(search);
        } else if self.group.is_called.load(Ordering::Acquire) {
            // It may have been called, and never looked.
            self.group.call_one();
        }
    }
}

impl Future for Member {
    type Output = Option<Served>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let before = self.ticket.poll_served(cx);
        if before.is_ready() {
            return before;
        }
        // It can be called from here on, so that it misses nothing that comes after it has looked.
        self.group.look();
        self.ticket.poll_served(cx)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
