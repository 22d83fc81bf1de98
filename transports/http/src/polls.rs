//! Long-polls that wait for the same. Who asks in the same words after the same cursor is answered the same, so that one
//! reader waits for all of them, and what it finds is written down once, head and all. Whoever has lent its socket is
//! written to there and then, one after the other, and its task is woken only for what comes behind the answer.

use std::{
    collections::HashMap,
    future::poll_fn,
    mem,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use axum::{
    body::Body,
    http::{Response, response::Parts},
};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use slab::Slab;
use tailwire_core::{Principal, Timer};
use tailwire_model::Filter;
use tailwire_wire::{Code, Problem};
use tokio::{net::tcp::OwnedWriteHalf, time::Instant};

use crate::{
    guard::Cors,
    held::Common,
    reply::{refuse, whole},
};

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
    pub(crate) wait_ms: u64,
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

/// What one of a group waits with.
pub(crate) struct Ticket(Mutex<Standing>);

enum Standing {
    Waits { waker: Waker, socket: Option<Arc<OwnedWriteHalf>> },
    Served(Option<Served>),
}

/// An answer, and how much of it is written.
pub(crate) struct Served {
    pub(crate) found: Arc<Found>,
    pub(crate) written: usize,
}

/// One of a group. Ready with what was found; with nothing, if that is so.
pub(crate) struct Member {
    group: Arc<Group>,
    number: usize,
    ticket: Arc<Ticket>,
}

/// What a request is answered with.
pub(crate) enum Reply {
    /// By itself.
    Own(Response<Body>),
    /// With others.
    Served(Served),
}

/// An answer, as all get it.
pub(crate) struct Found {
    head: Parts,
    body: Bytes,
    messages: usize,
    wire: OnceLock<Arc<Common>>,
    /// Whether one of those who get it has counted its messages, as their reader has.
    is_counted: AtomicBool,
}

/// The end of a group: all are given the answer, some at a turn.
struct Serving {
    group: Arc<Group>,
    found: Option<Arc<Found>>,
    tickets: slab::IntoIter<Arc<Ticket>>,
}

impl Polls {
    /// Waits with those who wait for the same. The first says how it is looked for: by a future that gives a response and how
    /// many messages that has, tells meanwhile whether it stands at the tail, and is dropped when nobody waits any more.
    pub(crate) fn join<F>(&self, key: Arc<Key>, look: impl FnOnce(&Arc<Key>, Arc<AtomicBool>) -> F) -> Member
    where
        F: Future<Output = Option<(Response<Body>, usize)>> + Send + 'static,
    {
        let mut groups = self.0.lock();
        if let Some(member) = groups.get(&key).and_then(Member::of) {
            return member;
        }
        let stands = Arc::new(AtomicBool::new(false));
        // Not an async block, which would hold it twice.
        let search = AssertUnwindSafe(look(&key, stands.clone())).catch_unwind().map(|looked| {
            let fault = |_| Some((refuse(&Problem::new(Code::Internal)), 0));
            looked.unwrap_or_else(fault).and_then(Found::new)
        });
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

impl Default for Ticket {
    fn default() -> Self {
        Self(Mutex::new(Standing::Waits { waker: Waker::noop().clone(), socket: None }))
    }
}

impl Ticket {
    /// The answer may be written to a socket of HTTP/1.1 to which nobody else writes meanwhile.
    pub(crate) fn lend(&self, to: &Arc<OwnedWriteHalf>) {
        if let Standing::Waits { socket, .. } = &mut *self.0.lock() {
            *socket = Some(to.clone());
        }
    }

    /// Wakes its task, which looks.
    fn call(&self) {
        if let Standing::Waits { waker, .. } = &*self.0.lock() {
            waker.wake_by_ref();
        }
    }

    /// Gives the answer: writes it, where there is a socket, and wakes the task for what comes behind it. Answers how many bytes
    /// were written.
    fn serve(&self, found: Option<&Arc<Found>>, cors: &Cors) -> usize {
        let mut standing = self.0.lock();
        let Standing::Waits { waker, socket } = &mut *standing else { return 0 };
        let (waker, socket) = (mem::replace(waker, Waker::noop().clone()), socket.take());
        let served = found.map(|found| {
            let write = |socket: &Arc<OwnedWriteHalf>| socket.try_write(&found.wire(cors).bytes).unwrap_or(0);
            // What is wrong with a socket, its task comes to by itself.
            Served { found: found.clone(), written: socket.as_ref().map_or(0, write) }
        });
        let written = served.as_ref().map_or(0, |served| served.written);
        // Whoever finds itself served has its socket for itself.
        drop(socket);
        *standing = Standing::Served(served);
        drop(standing);
        waker.wake();
        written
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
        let before = mem::replace(&mut *self.ticket.0.lock(), Standing::Served(None));
        if let Standing::Served(served) = before {
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

    fn poll_served(&self, cx: &mut Context<'_>) -> Poll<Option<Served>> {
        match &mut *self.ticket.0.lock() {
            Standing::Served(served) => Poll::Ready(served.take()),
            Standing::Waits { waker, .. } => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
        }
    }
}

impl Future for Member {
    type Output = Option<Served>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let before = self.poll_served(cx);
        if before.is_ready() {
            return before;
        }
        // It can be called from here on, so that it misses nothing that comes after it has looked.
        self.group.look();
        self.poll_served(cx)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Own(response)
    }
}

impl Reply {
    /// For whoever writes it by itself.
    pub(crate) fn response(self) -> Response<Body> {
        match self {
            Self::Own(response) => response,
            Self::Served(Served { found, .. }) => {
                Response::from_parts(found.head.clone(), found.body.clone().into())
            }
        }
    }
}

impl Found {
    /// Of a response whose body is there.
    fn new((response, messages): (Response<Body>, usize)) -> Option<Self> {
        let (head, body) = response.into_parts();
        let body = body.collect().now_or_never()?.ok()?.to_bytes();
        Some(Self { head, body, messages, wire: OnceLock::new(), is_counted: AtomicBool::new(false) })
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// Messages that were handed out and that no reader counts: there was one for all.
    pub(crate) fn uncounted(&self) -> usize {
        if self.is_counted.swap(true, Ordering::Relaxed) { self.messages } else { 0 }
    }

    pub(crate) const fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// As on the wire, of HTTP/1.1 on a connection that goes on. All of a group are owed the same to their origin.
    pub(crate) fn wire(&self, cors: &Cors) -> &Arc<Common> {
        self.wire.get_or_init(|| {
            let mut head = Response::from_parts(self.head.clone(), ());
            cors.apply(head.headers_mut());
            Arc::new(Common::new(whole(head, &self.body)))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{pin::pin, sync::atomic::AtomicUsize, time::Duration};

    use axum::http::StatusCode;
    use tailwire_model::Topic;
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
        sync::watch,
    };

    use super::*;

    /// Something to be found, and how often it was looked for.
    struct Source {
        polls: Polls,
        news: watch::Sender<Option<&'static str>>,
        /// Whether there is something stored to read through before.
        reads: watch::Sender<bool>,
        looks: Arc<AtomicUsize>,
        /// It has one owner more for each look that goes on.
        going: Arc<()>,
    }

    impl Source {
        fn new() -> Self {
            let (looks, going) = (Arc::default(), Arc::default());
            let (news, reads) = (watch::Sender::new(None), watch::Sender::new(false));
            Self { polls: Polls::default(), news, reads, looks, going }
        }

        fn join(&self, query: &str) -> Member {
            let key = key(query);
            let (mut news, mut reads) = (self.news.subscribe(), self.reads.subscribe());
            let (looks, going) = (self.looks.clone(), self.going.clone());
            self.polls.join(Arc::new(key), |_, stands| async move {
                let _going = going;
                looks.fetch_add(1, Ordering::SeqCst);
                reads.wait_for(|reads| !reads).await.ok()?;
                stands.store(true, Ordering::SeqCst);
                let text = *news.wait_for(Option::is_some).await.ok()?;
                text.filter(|text| !text.is_empty()).map(|text| (Response::new(Body::from(text)), 1))
            })
        }

        fn looks(&self) -> usize {
            self.looks.load(Ordering::SeqCst)
        }

        fn goes_on(&self) -> bool {
            Arc::strong_count(&self.going) > 1
        }
    }

    fn key(query: &str) -> Key {
        Key {
            principal: Principal::ANONYMOUS,
            filter: Filter::from(Topic::parse("a").unwrap()),
            query: Some(query.into()),
            wait_ms: 1000,
            varies_by_accept: false,
            cors: Cors::default(),
        }
    }

    async fn wait(member: &mut Member) -> Poll<Option<Served>> {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *member).poll(cx))).await
    }

    async fn soon<T>(wait: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap()
    }

    fn body(served: Option<Served>) -> Option<Bytes> {
        served.map(|served| served.found.body.clone())
    }

    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    #[tokio::test]
    async fn those_who_ask_for_the_same_look_once_and_all_are_told() {
        let source = Source::new();
        let mut members: Vec<_> = (0..SERVED_PER_TURN * 2 + 1).map(|_| source.join("after=1")).collect();
        let mut other = source.join("after=2");
        for member in &mut members {
            assert!(wait(member).await.is_pending());
        }
        assert!(wait(&mut other).await.is_pending());
        assert_eq!(source.looks(), 2);
        source.news.send_replace(Some("news"));
        for member in &mut members {
            assert_eq!(body(soon(member).await).unwrap(), "news");
        }
        assert_eq!(body(other.await).unwrap(), "news");
        assert!(!source.goes_on() && source.polls.0.lock().is_empty());
        // Who comes later looks anew.
        assert_eq!(body(source.join("after=1").await).unwrap(), "news");
        assert_eq!(source.looks(), 3);
    }

    #[tokio::test]
    async fn nothing_is_told_as_nothing() {
        let source = Source::new();
        let (first, second) = (source.join(""), source.join(""));
        source.news.send_replace(Some(""));
        assert!(first.await.is_none() && second.await.is_none());
    }

    #[tokio::test]
    async fn who_leaves_leaves_the_looking_to_the_others_and_the_last_one_ends_it() {
        let source = Source::new();
        let (mut first, mut second) = (source.join(""), source.join(""));
        assert!(wait(&mut first).await.is_pending() && wait(&mut second).await.is_pending());
        // The first is called, and leaves before it has looked.
        let waiting = tokio::spawn(second);
        tokio::task::yield_now().await;
        source.news.send_replace(Some("news"));
        drop(first);
        assert_eq!(body(soon(waiting).await.unwrap()).unwrap(), "news");

        let source = Source::new();
        let (mut first, second) = (source.join(""), source.join(""));
        assert!(wait(&mut first).await.is_pending());
        drop(second);
        assert!(source.goes_on());
        drop(first);
        assert!(!source.goes_on() && source.polls.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_lent_socket_is_written_to_and_not_after_it_was_taken_back() {
        let source = Source::new();
        let (mut lent, mut left, mut own) = (source.join(""), source.join(""), source.join(""));
        let ((server, mut client), (other, other_client)) = (sockets().await, sockets().await);
        let (_reader, writer) = server.into_split();
        let (_other_reader, other_writer) = other.into_split();
        let (writer, other_writer) = (Arc::new(writer), Arc::new(other_writer));
        lent.ticket().lend(&writer);
        left.ticket().lend(&other_writer);
        for member in [&mut lent, &mut left, &mut own] {
            assert!(wait(member).await.is_pending());
        }
        assert!(left.leave().is_none());
        assert!(Arc::into_inner(other_writer).is_some(), "it is lent no longer");
        source.news.send_replace(Some("news"));
        let served = lent.await.unwrap();
        assert!(Arc::into_inner(writer).is_some(), "it is lent no longer");
        let written = served.found.wire(&Cors::default()).bytes.clone();
        assert_eq!(served.written, written.len());
        assert_eq!(own.await.unwrap().written, 0);
        let mut received = vec![0; written.len()];
        client.read_exact(&mut received).await.unwrap();
        assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n") && received.ends_with(b"\r\n\r\nnews"));
        drop((left, _other_reader));
        assert_eq!(other_client.try_read(&mut [0; 1]).unwrap_or(0), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_over_when_its_time_is_and_nothing_is_left_to_read() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let source = Source::new();
        assert!(source.join("").served_by(deadline).await.is_none());
        assert_eq!(Instant::now(), deadline);
        // Time is over, and who is behind goes on reading.
        source.reads.send_replace(true);
        let (mut first, mut second) = (source.join(""), source.join(""));
        let both = async { (first.served_by(deadline).await, second.served_by(deadline).await) };
        let mut both = pin!(both);
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut both).await.is_err());
        source.reads.send_replace(false);
        assert!(matches!(soon(both).await, (None, None)));

        source.reads.send_replace(true);
        let (mut first, second) = (source.join(""), source.join(""));
        let mut first = pin!(first.served_by(deadline));
        assert!(first.as_mut().now_or_never().is_none());
        let second = tokio::spawn(async move { { second }.served_by(deadline).await });
        tokio::task::yield_now().await;
        // The first is called, and sees that it isn't alone.
        source.reads.send_replace(false);
        assert!(soon(first).await.is_none() && soon(second).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn messages_count_for_each_and_a_fault_is_told() {
        let source = Source::new();
        let members = [source.join(""), source.join(""), source.join("")];
        source.news.send_replace(Some("news"));
        let mut counted = 1;
        for member in members {
            counted += member.await.unwrap().found.uncounted();
        }
        assert_eq!(counted, 3);
        let key = Arc::new(Key { query: None, ..key("") });
        let fault = source.polls.join(key, |_, _| async { panic!("a fault") });
        assert_eq!(fault.await.unwrap().found.status(), 500);
    }

    #[tokio::test]
    async fn an_answer_that_came_while_its_time_ran_out_is_given() {
        let source = Source::new();
        let (mut late, other) = (source.join(""), source.join(""));
        source.news.send_replace(Some("news"));
        assert!(other.await.is_some());
        let served = late.leave().unwrap();
        assert_eq!(served.found.status(), StatusCode::OK);
        assert_eq!(body(Some(served)).unwrap(), "news");
        assert!(late.leave().is_none());
    }
}
