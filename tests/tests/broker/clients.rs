//! Clients, as the transports have them: streams on a reader of their own, sessions whose subscriptions share one once
//! they have caught up, pages, and pages that wait.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tailwire_core::{Event, Page, ReadError, Reader, Slice, Start, Until, Wait};
use tailwire_model::{Cursor, Principal};
use tokio::time::{Duration, Instant};

use crate::{
    oracle::Told,
    rig::{Flag, Task, filter},
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
fn take(world: &mut World, told: &mut Told, event: Event) -> bool {
    let (oracle, dispatched) = (&world.oracle, world.dispatched);
    match event {
        Event::Messages(slices) => {
            world.trace.push(check_slices(&slices));
            told.messages(oracle, slices.iter().flat_map(Slice::messages));
            world.cursors.push(oracle.cursor_at(told.position));
        }
        Event::Gap(gap) => {
            world.trace.push(format!("{gap:?}"));
            told.gap(oracle, gap);
        }
        Event::CaughtUp(cursor) => {
            world.trace.push(format!("caught up {cursor}"));
            told.caught_up(oracle, cursor, dispatched);
            world.cursors.push(cursor);
        }
        Event::Heartbeat(cursor) => {
            world.trace.push(format!("heartbeat {cursor}"));
            told.heartbeat(oracle, cursor);
            world.cursors.push(cursor);
        }
        Event::Bye(bye) => {
            world.trace.push(format!("{bye:?}"));
            assert!(world.drained && told.caught_up, "a bye out of place");
            assert!((3_000..=5_000).contains(&bye.retry_after_ms), "{bye:?}");
            return true;
        }
    }
    false
}

/// One reader, one client.
pub(crate) struct Stream {
    reader: Reader,
    told: Told,
    socket: Arc<Socket>,
    following: bool,
    pub(crate) flag: Arc<Flag>,
    pub(crate) over: bool,
}

impl Stream {
    pub(crate) fn open(world: &mut World) -> Self {
        let (terms, start) = (world.random.terms(), world.start());
        let known = world.known(&terms, start);
        let (reader, told) = open(world, &terms, start, known);
        let (socket, flag) = (Arc::default(), Flag::raised());
        Self { reader, told, socket, following: false, flag, over: false }
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
        self.socket.take_back(world, &mut self.reader, &mut self.told);
        if world.random.percent(8) && rewind(world, &mut self.reader, &mut self.told) {
            self.flag.set();
            return;
        }
        for _ in 0..1 + world.random.below(5) {
            match poll_with(&self.flag, |cx| self.reader.poll_next(cx)) {
                Poll::Pending => return self.socket.lend(world, &self.reader),
                Poll::Ready(event) => {
                    self.over = take(world, &mut self.told, event.expect("a log that can be read"));
                    assert!(self.over || self.reader.cursor().position.0 >= self.told.position);
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
        self.socket.take_back(world, &mut self.reader, &mut self.told);
        self.socket.lend(world, &self.reader);
        assert!(self.told.caught_up, "a stream that waits has caught up");
        complete(world, &self.reader, &mut self.told);
    }
}

fn open(world: &mut World, terms: &[&'static str], start: Start, known: Option<Cursor>) -> (Reader, Told) {
    let told = Told::new(&world.oracle, terms, start, known);
    if matches!(start, Start::Last(_)) {
        // It needs a read, and lets through those before it.
        world.oracle.reads_done();
    }
    let reader = world.rig.open(terms, start, known);
    assert_eq!(reader.cursor(), world.oracle.cursor_at(told.position), "{terms:?} from {start:?}");
    (reader, told)
}

/// Whether there was something to go back to.
fn rewind(world: &mut World, reader: &mut Reader, told: &mut Told) -> bool {
    if told.given.is_empty() {
        return false;
    }
    let index = world.random.below(told.given.len());
    let position = told.rewind(index, world.random.percent(50));
    reader.rewind(position);
    world.trace.push(format!("back to {position}"));
    true
}

/// The reader waits, and there is nothing for it. What others get doesn't wake it, so it may stand before that.
fn complete(world: &World, reader: &Reader, told: &mut Told) {
    told.stands(&world.oracle, reader.cursor());
    let left = world.oracle.alive(&told.terms(), told.position).next();
    assert_eq!(left, None, "a reader at {} has more to give, and nothing wakes it", told.position);
}

/// A connection with many subscriptions, all of them woken by one waker.
pub(crate) struct Session {
    live: Reader,
    told: Told,
    socket: Arc<Socket>,
    catching_up: Vec<Catching>,
    pub(crate) flag: Arc<Flag>,
    pub(crate) over: bool,
}

struct Catching {
    reader: Reader,
    told: Told,
}

impl Session {
    pub(crate) fn open(world: &mut World) -> Self {
        let mut live = world.rig.broker.open_empty(&Principal::ANONYMOUS, 0);
        live.follow(0);
        let told = Told::empty(&world.oracle);
        let (socket, flag) = (Arc::default(), Flag::raised());
        let mut session = Self { live, told, socket, catching_up: Vec::new(), flag, over: false };
        session.subscribe(world);
        session
    }

    pub(crate) fn subscribe(&mut self, world: &mut World) {
        if self.over {
            return;
        }
        self.socket.take_back(world, &mut self.live, &mut self.told);
        let (terms, start) = (world.random.terms(), world.start());
        let known = world.known(&terms, start);
        let (mut reader, told) = open(world, &terms, start, known);
        reader.follow(0);
        self.catching_up.push(Catching { reader, told });
        self.flag.set();
    }

    pub(crate) fn unsubscribe(&mut self, world: &mut World) {
        if !self.told.subs.is_empty() && !self.over {
            self.socket.take_back(world, &mut self.live, &mut self.told);
            let sub = self.told.subs.swap_remove(world.random.below(self.told.subs.len()));
            self.live.part(&filter(&sub.terms));
            world.trace.push(format!("part {:?}", sub.terms));
            // Its answer stands behind what was given, and is kept.
            self.told.given.clear();
            self.flag.set();
        }
    }

    pub(crate) fn turn(&mut self, world: &mut World) {
        let spurious = world.random.percent(10);
        if !(self.flag.take() || spurious) || self.over {
            return;
        }
        self.socket.take_back(world, &mut self.live, &mut self.told);
        if world.random.percent(8) && rewind(world, &mut self.live, &mut self.told) {
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
                    self.over = take(world, &mut self.told, event.expect("a log that can be read"));
                    if self.over {
                        return;
                    }
                }
            }
        }
        // What has no room waits, as do all behind it.
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
                    take(world, &mut own.told, event);
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
        self.told.stands(&world.oracle, cursor);
        own.told.stands(&world.oracle, cursor);
        self.live.join(&own.reader);
        world.trace.push(format!("join {:?} at {cursor}", own.told.subs[0].terms));
        // What only one of them has heard of may be told to both again.
        self.told.known = self.told.known.min(own.told.known);
        self.told.subs.append(&mut own.told.subs);
        self.told.given.clear();
        self.flag.set();
        true
    }

    pub(crate) fn check_complete(&mut self, world: &mut World) {
        self.socket.take_back(world, &mut self.live, &mut self.told);
        self.socket.lend(world, &self.live);
        assert!(self.catching_up.is_empty(), "a subscription at the tail is not live");
        complete(world, &self.live, &mut self.told);
    }
}

/// A page at once.
pub(crate) fn page(world: &mut World) {
    let (terms, start) = (world.random.terms(), world.start());
    let known = world.known(&terms, start);
    let (mut reader, mut told) = open(world, &terms, start, known);
    let limit = 1 + world.random.below(12);
    let page = world.rig.through(reader.page(limit, None)).expect("a log that can be read");
    world.oracle.reads_done();
    check_page(world, &terms, &mut told, page, limit, world.oracle.committed());
}

/// Whether a page is right. It had to look up to `upto`. Returns whether it says anything.
fn check_page(
    world: &mut World,
    terms: &[&str],
    told: &mut Told,
    page: Page,
    limit: usize,
    upto: u64,
) -> bool {
    told.opened = true;
    let (slices, cursor, more) = match page {
        Page::Gap(gap) => {
            world.trace.push(format!("page {gap:?}"));
            told.gap(&world.oracle, gap);
            return true;
        }
        Page::Messages { slices, cursor, more } => (slices, cursor, more),
    };
    let word = check_slices(&slices);
    world.trace.push(format!("page {word} {cursor} {more}"));
    let count: usize = slices.iter().map(Slice::len).sum();
    assert!(count <= limit, "{count} of at most {limit}");
    if count > 0 {
        told.messages(&world.oracle, slices.iter().flat_map(Slice::messages));
    }
    if count > 0 || !more {
        assert_eq!(cursor, world.oracle.cursor_at(told.position), "where the next page begins");
    }
    let left = world.oracle.alive(terms, told.position).find(|&position| position <= upto);
    assert!(more || left.is_none(), "{left:?} is left, and the page says that nothing is");
    count > 0 || more
}

/// A page that waits.
pub(crate) struct Poller {
    terms: Vec<&'static str>,
    told: Told,
    limit: usize,
    deadline: Instant,
    page: Task<Result<Page, ReadError>>,
}

impl Poller {
    pub(crate) fn new(world: &mut World) -> Self {
        let (terms, start) = (world.random.terms(), world.start());
        let known = world.known(&terms, start);
        let (mut reader, told) = open(world, &terms, start, known);
        let limit = 1 + world.random.below(12);
        let deadline = Instant::now() + Duration::from_millis(world.random.below(40_000) as u64);
        let wait = Some(Wait { until: Until::Deadline(deadline), shard: 0 });
        let page = Task::new(async move { reader.page(limit, wait).await });
        Self { terms, told, limit, deadline, page }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.page.flag.is_set()
    }

    /// Returns whether it is over.
    pub(crate) fn turn(&mut self, world: &mut World) -> bool {
        let Poll::Ready(page) = self.page.poll_if_woken() else { return false };
        let page = page.expect("a log that can be read");
        let dispatched = world.dispatched;
        let says = check_page(world, &self.terms, &mut self.told, page, self.limit, dispatched);
        assert!(says || world.drained || Instant::now() >= self.deadline, "a poll gave up early");
        true
    }
}
