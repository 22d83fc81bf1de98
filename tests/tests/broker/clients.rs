//! Clients, as the transports have them: streams on a reader of their own, sessions whose subscriptions share one once
//! they have caught up, pages, and pages that wait.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tailwire_core::{Event, Page, PageWait, ReadError, Reader, Slice, Start, Until};
use tailwire_model::{Cursor, Principal};
use tokio::time::{Duration, Instant};

use crate::{
    oracle::Received,
    rig::{Flag, Task, filter, opening_reads},
    simulation::{World, poll_with},
    socket::Socket,
};

/// Whether a batch is as its slices say, with their encodings. Returns a word for the trace.
fn check_slices(slices: &[Slice]) -> String {
    let mut word = String::new();
    for slice in slices {
        let positions: Vec<u64> = slice.messages().iter().map(|message| message.position().0).collect();
        let bytes: Vec<u8> = positions.iter().flat_map(|position| position.to_be_bytes()).collect();
        assert_eq!(slice.encoded(0), bytes, "a slice's encoding is its messages'");
        word.push_str(&format!("{positions:?}"));
    }
    word
}

/// Tells the oracle of an event, and the trace. Returns whether it was the last.
fn take(world: &mut World, received: &mut Received, event: Event) -> bool {
    let (oracle, dispatched) = (&world.oracle, world.dispatched);
    match event {
        Event::Messages(slices) => {
            world.trace.push(check_slices(&slices));
            received.messages(oracle, slices.iter().flat_map(Slice::messages));
            world.cursors.push(oracle.cursor_at(received.position));
        }
        Event::Gap(gap) => {
            world.trace.push(format!("{gap:?}"));
            received.gap(oracle, gap);
        }
        Event::CaughtUp(cursor) => {
            world.trace.push(format!("caught up {cursor}"));
            received.caught_up(oracle, cursor, dispatched);
            world.cursors.push(cursor);
        }
        Event::Heartbeat(cursor) => {
            world.trace.push(format!("heartbeat {cursor}"));
            received.heartbeat(oracle, cursor);
            world.cursors.push(cursor);
        }
        Event::Bye(bye) => {
            world.trace.push(format!("{bye:?}"));
            assert!(world.drained && received.caught_up, "a bye out of place");
            assert!((250..=750).contains(&bye.retry_after_ms), "{bye:?}");
            return true;
        }
    }
    false
}

/// One reader, one client.
pub(crate) struct Stream {
    reader: Reader,
    received: Received,
    socket: Arc<Socket>,
    following: bool,
    pub(crate) flag: Arc<Flag>,
    pub(crate) over: bool,
}

impl Stream {
    pub(crate) fn open(world: &mut World) -> Self {
        let (terms, start) = (world.random.terms(), world.start());
        let known = world.known(&terms, start);
        let (reader, received) = open(world, &terms, start, known);
        let (socket, flag) = (Arc::default(), Flag::raised());
        Self { reader, received, socket, following: false, flag, over: false }
    }

    /// Takes some events, or goes back to what its socket would not take.
    pub(crate) fn turn(&mut self, world: &mut World) {
        if !self.following {
            self.reader.follow(0);
            self.following = true;
        }
        let spurious = world.random.percent(10);
        if !(self.flag.take() || spurious) || self.over {
            return;
        }
        self.socket.take_back(world, &mut self.reader, &mut self.received);
        if world.random.percent(8) && rewind(world, &mut self.reader, &mut self.received) {
            self.flag.set();
            return;
        }
        for _ in 0..1 + world.random.below(5) {
            match poll_with(&self.flag, |cx| self.reader.poll_next(cx)) {
                Poll::Pending => return self.socket.lend(world, &self.reader),
                Poll::Ready(event) => {
                    self.over = take(world, &mut self.received, event.expect("a log that can be read"));
                    assert!(self.over || self.reader.cursor().position.0 >= self.received.position);
                }
            }
            if self.over {
                return;
            }
        }
        // It has not been told to wait.
        self.flag.set();
    }

    pub(crate) fn check_complete(&mut self, world: &mut World) {
        self.socket.take_back(world, &mut self.reader, &mut self.received);
        self.socket.lend(world, &self.reader);
        assert!(self.received.caught_up, "a stream that waits has caught up");
        complete(world, &self.reader, &mut self.received);
    }
}

fn open(
    world: &mut World,
    terms: &[&'static str],
    start: Start,
    known: Option<Cursor>,
) -> (Reader, Received) {
    let received = Received::new(&world.oracle, terms, start, known);
    if opening_reads(terms, start) {
        world.oracle.reads_done();
    }
    let reader = world.rig.open(terms, start, known);
    assert_eq!(reader.cursor(), world.oracle.cursor_at(received.position), "{terms:?} from {start:?}");
    (reader, received)
}

/// Whether there was something to go back to.
fn rewind(world: &mut World, reader: &mut Reader, received: &mut Received) -> bool {
    if received.given.is_empty() {
        return false;
    }
    let index = world.random.below(received.given.len());
    let position = received.rewind(index, world.random.percent(50));
    reader.rewind(position);
    world.trace.push(format!("back to {position}"));
    true
}

/// The reader waits, and there is nothing for it. What others get doesn't wake it, so it may stand before that.
fn complete(world: &World, reader: &Reader, received: &mut Received) {
    received.stands(&world.oracle, reader.cursor());
    let left = world.oracle.alive(&received.terms(), received.position).next();
    assert_eq!(left, None, "a reader at {} has more to give, and nothing wakes it", received.position);
}

/// A connection with many subscriptions, all of them woken by one waker.
pub(crate) struct Session {
    live: Reader,
    received: Received,
    socket: Arc<Socket>,
    catching_up: Vec<Catching>,
    pub(crate) flag: Arc<Flag>,
    pub(crate) over: bool,
}

struct Catching {
    reader: Reader,
    received: Received,
}

impl Session {
    pub(crate) fn open(world: &mut World) -> Self {
        let mut live = world.rig.broker.open_empty(&Principal::ANONYMOUS, 0.into());
        live.follow(0);
        let received = Received::empty(&world.oracle);
        let (socket, flag) = (Arc::default(), Flag::raised());
        let mut session = Self { live, received, socket, catching_up: Vec::new(), flag, over: false };
        session.subscribe(world);
        session
    }

    pub(crate) fn subscribe(&mut self, world: &mut World) {
        if self.over {
            return;
        }
        self.socket.take_back(world, &mut self.live, &mut self.received);
        let (terms, start) = (world.random.terms(), world.start());
        let known = world.known(&terms, start);
        let (mut reader, received) = open(world, &terms, start, known);
        reader.follow(0);
        self.catching_up.push(Catching { reader, received });
        self.flag.set();
    }

    pub(crate) fn unsubscribe(&mut self, world: &mut World) {
        if !self.received.subs.is_empty() && !self.over {
            self.socket.take_back(world, &mut self.live, &mut self.received);
            let sub = self.received.subs.swap_remove(world.random.below(self.received.subs.len()));
            self.live.part(&filter(&sub.terms));
            world.trace.push(format!("part {:?}", sub.terms));
            // Its answer stands behind what was given, and is kept.
            self.received.given.clear();
            self.flag.set();
        }
    }

    pub(crate) fn turn(&mut self, world: &mut World) {
        let spurious = world.random.percent(10);
        if !(self.flag.take() || spurious) || self.over {
            return;
        }
        self.socket.take_back(world, &mut self.live, &mut self.received);
        if world.random.percent(8) && rewind(world, &mut self.live, &mut self.received) {
            self.flag.set();
            return;
        }
        let mut full = true;
        for _ in 0..1 + world.random.below(5) {
            match poll_with(&self.flag, |cx| self.live.poll_next(cx)) {
                Poll::Pending => {
                    full = false;
                    break;
                }
                Poll::Ready(event) => {
                    self.over = take(world, &mut self.received, event.expect("a log that can be read"));
                    if self.over {
                        return;
                    }
                }
            }
        }
        // A read without room waits, as do all behind it.
        if full || !self.catch_up(world) {
            self.flag.set();
        } else if self.catching_up.is_empty() && !self.flag.is_set() {
            self.socket.lend(world, &self.live);
        }
    }

    /// Whether all of them wait for something.
    fn catch_up(&mut self, world: &mut World) -> bool {
        let mut index = 0;
        let mut room = 1 + world.random.below(6);
        while let Some(own) = self.catching_up.get_mut(index) {
            if room == 0 {
                return false;
            }
            match poll_with(&self.flag, |cx| own.reader.poll_next(cx)) {
                // The live reader has it for all of the connection.
                Poll::Ready(Ok(Event::Bye(_))) => index += 1,
                Poll::Ready(event) => {
                    let event = event.expect("a log that can be read");
                    let caught_up = matches!(event, Event::CaughtUp(_));
                    room -= 1;
                    take(world, &mut own.received, event);
                    if caught_up {
                        self.try_join(world, index);
                    }
                }
                Poll::Pending if self.try_join(world, index) => {}
                Poll::Pending => index += 1,
            }
        }
        true
    }

    /// Hands a subscription over to the live reader. Returns whether that could be.
    fn try_join(&mut self, world: &mut World, index: usize) -> bool {
        let own = &self.catching_up[index];
        if !own.reader.is_caught_up() {
            return false;
        }
        if !self.live.stands_with(&own.reader) {
            self.live.wake_next_round(&Context::from_waker(&Waker::from(self.flag.clone())));
            return false;
        }
        let mut own = self.catching_up.swap_remove(index);
        let cursor = self.live.cursor();
        self.received.stands(&world.oracle, cursor);
        own.received.stands(&world.oracle, cursor);
        self.live.join(&own.reader);
        world.trace.push(format!("join {:?} at {cursor}", own.received.subs[0].terms));
        // A gap that only one of them has heard of may be told to both again.
        self.received.known = self.received.known.min(own.received.known);
        self.received.subs.append(&mut own.received.subs);
        self.received.given.clear();
        self.flag.set();
        true
    }

    pub(crate) fn check_complete(&mut self, world: &mut World) {
        self.socket.take_back(world, &mut self.live, &mut self.received);
        self.socket.lend(world, &self.live);
        assert!(self.catching_up.is_empty(), "a subscription at the tail is not live");
        complete(world, &self.live, &mut self.received);
    }
}

/// A page at once.
pub(crate) fn page(world: &mut World) {
    let (terms, start) = (world.random.terms(), world.start());
    let known = world.known(&terms, start);
    let (mut reader, mut received) = open(world, &terms, start, known);
    let limit = 1 + world.random.below(12);
    let page = world.rig.through(reader.page(limit, None)).expect("a log that can be read");
    world.oracle.reads_done();
    check_page(world, &terms, &mut received, page, limit, world.oracle.committed());
}

/// Whether a page is right. It had to look up to `upto`. Returns whether it says anything.
fn check_page(
    world: &mut World,
    terms: &[&str],
    received: &mut Received,
    page: Page,
    limit: usize,
    upto: u64,
) -> bool {
    received.opened = true;
    let (slices, cursor, more) = match page {
        Page::Gap(gap) => {
            world.trace.push(format!("page {gap:?}"));
            received.gap(&world.oracle, gap);
            return true;
        }
        Page::Messages { slices, cursor, more } => (slices, cursor, more),
    };
    let word = check_slices(&slices);
    world.trace.push(format!("page {word} {cursor} {more}"));
    let count: usize = slices.iter().map(Slice::len).sum();
    assert!(count <= limit, "{count} of at most {limit}");
    if count > 0 {
        received.messages(&world.oracle, slices.iter().flat_map(Slice::messages));
    }
    if count > 0 || !more {
        assert_eq!(cursor, world.oracle.cursor_at(received.position), "where the next page begins");
    }
    let left = world.oracle.alive(terms, received.position).find(|&position| position <= upto);
    assert!(more || left.is_none(), "{left:?} is left, and the page says that nothing is");
    count > 0 || more
}

/// A page that waits.
pub(crate) struct Poller {
    terms: Vec<&'static str>,
    received: Received,
    limit: usize,
    deadline: Instant,
    page: Task<Result<Page, ReadError>>,
}

impl Poller {
    pub(crate) fn new(world: &mut World) -> Self {
        let (terms, start) = (world.random.terms(), world.start());
        let known = world.known(&terms, start);
        let (mut reader, received) = open(world, &terms, start, known);
        let limit = 1 + world.random.below(12);
        let deadline = Instant::now() + Duration::from_millis(world.random.below(40_000) as u64);
        let wait = Some(PageWait { until: Until::Deadline(deadline), shard: 0 });
        let page = Task::new(async move { reader.page(limit, wait).await });
        Self { terms, received, limit, deadline, page }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.page.flag.is_set()
    }

    /// Returns whether it is over.
    pub(crate) fn turn(&mut self, world: &mut World) -> bool {
        let Poll::Ready(page) = self.page.poll_if_woken() else { return false };
        let page = page.expect("a log that can be read");
        let dispatched = world.dispatched;
        let says = check_page(world, &self.terms, &mut self.received, page, self.limit, dispatched);
        assert!(says || world.drained || Instant::now() >= self.deadline, "a poll gave up early");
        true
    }
}
