//! The driver over a socket that behaves as TLS does.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tailwire_core::{
    Broker, Encoders, Event, Interest, ReadError, Start,
    testing::{broker, deliver},
};
use tailwire_model::{Filter, Principal, Topic};
use tailwire_wire::ENCODERS;
use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::{
    api::metrics::{HttpMetrics, Transport},
    connection::{
        budget::{READ_BYTES, ReceiveBudget},
        frames::Frames,
        input::Takes,
        protocol::Incoming,
        socket::sealed::{self, Far, RECORD_BYTES_MAX},
    },
    delivery::stream::{Codec, EventStream},
    limiter::Hold,
};

/// A stream of lines over a socket, and its client.
struct Rig {
    broker: Broker,
    far: Far,
    connection: JoinHandle<()>,
    delivered: u64,
}

impl Rig {
    /// With so much room in the kernel.
    async fn new(room: usize) -> Self {
        let broker = broker(Encoders::whole(&ENCODERS));
        tokio::spawn(broker.dispatcher(0));
        let codec = Codec { stream: &tailwire_wire::representation::NDJSON, chunked: false };
        let filter = Filter::from(Topic::parse("a").unwrap());
        let interest =
            Interest { filter, start: Start::Latest, known: None, view: (codec.format() as usize).into() };
        let reader = broker.open(&Principal::ANONYMOUS, interest).await.ok().unwrap();
        let (socket, far) = sealed::pair(room);
        let mut io = Io::new(reader, 0);
        io.send("head\n");
        let connected = HttpMetrics::new(&broker).connected(Transport::Ndjson);
        let stream = EventStream::new(codec, 0, Hold::default());
        let connection = tokio::spawn(Connection::new(socket, connected, io, Input::Ignored, stream));
        Self { broker, far, connection, delivered: 0 }
    }

    fn deliver(&mut self, size: usize) {
        self.delivered += 1;
        deliver(&self.broker, self.delivered, "a", size);
    }

    /// Everybody has their turns.
    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// The client takes so many bytes at a time until nothing more comes.
    async fn take(&mut self, count: usize) {
        loop {
            Self::settle().await;
            if self.far.receive(count) == 0 {
                return;
            }
        }
    }

    /// The kinds of lines that came, and whether each message came once and in order.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.far.plain.clone()).unwrap();
        let kind = |line: &str| line.split('"').nth(3).unwrap_or(line).to_owned();
        let kinds = text.lines().map(kind).collect();
        let cursors = text.lines().filter(|line| line.contains("\"message\""));
        let cursors: Vec<_> = cursors.map(|line| line.split('"').nth(7).unwrap().to_owned()).collect();
        assert!(cursors.is_sorted_by(|one, other| one < other), "{cursors:?}");
        kinds
    }

    fn messages(&self) -> u64 {
        self.lines().iter().filter(|kind| *kind == "message").count() as u64
    }

    async fn ended_after(self, began: Instant) -> u64 {
        self.connection.await.unwrap();
        began.elapsed().as_secs()
    }
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn everything_comes_once_through_a_narrow_socket() {
    for (room, step) in [(40, 25), (100, 70), (5_000, 5_000), (1 << 20, usize::MAX)] {
        let mut rig = Rig::new(room).await;
        rig.take(step).await;
        assert_eq!(rig.lines(), ["head", "heartbeat", "caught_up"], "room {room}");
        // Sparse ones are the dispatcher's, whose writes may leave a tail; a burst is the task's.
        for size in [1, 300, 2_000, 1] {
            rig.deliver(size);
            rig.take(step).await;
        }
        (0..20).for_each(|_| rig.deliver(3_000));
        rig.take(step).await;
        assert_eq!(rig.messages(), 24, "room {room}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_behind_a_tail_waits_for_it() {
    let mut rig = Rig::new(100).await;
    rig.take(usize::MAX).await;
    let before = rig.messages();
    rig.deliver(50);
    Rig::settle().await;
    // The record doesn't fit; what is left of it is the socket's, and the next ones stand behind it.
    rig.deliver(50);
    rig.deliver(50);
    Rig::settle().await;
    assert_eq!(rig.messages(), before);
    pass(1_500).await;
    rig.take(40).await;
    assert_eq!(rig.messages(), before + 3);
}

#[tokio::test(start_paused = true)]
async fn a_message_of_several_records_is_whole_also_when_its_page_was_let_go_of() {
    let mut rig = Rig::new(1_000).await;
    rig.take(usize::MAX).await;
    for _ in 0..3 {
        rig.deliver(3 * RECORD_BYTES_MAX);
    }
    Rig::settle().await;
    rig.far.receive(1_000);
    pass(5_000).await;
    rig.take(1_000).await;
    assert_eq!(rig.messages(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_closed_and_one_that_takes_ciphertext_is_not() {
    let mut rig = Rig::new(100).await;
    rig.take(usize::MAX).await;
    rig.deliver(10_000);
    Rig::settle().await;
    // One record, and not a tenth of it is taken in four minutes: no plaintext is committed, and it is progress.
    for _ in 0..10 {
        pass(25_000).await;
        assert!(!rig.connection.is_finished());
        rig.far.receive(50);
        Rig::settle().await;
    }
    let began = Instant::now();
    assert_eq!(rig.ended_after(began).await, 30);
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_hears_heartbeats_and_is_never_stalled() {
    let mut rig = Rig::new(1_000).await;
    for _ in 0..10 {
        pass(30_000).await;
        rig.take(usize::MAX).await;
    }
    assert!(rig.lines().len() > 10 && !rig.connection.is_finished());
}

#[tokio::test(start_paused = true)]
async fn reading_forces_writing_while_the_socket_is_lent() {
    let mut rig = Rig::new(1_000).await;
    rig.take(usize::MAX).await;
    rig.far.ask_for_new_keys();
    rig.far.send(b"whatever");
    rig.take(usize::MAX).await;
    assert_eq!(rig.far.new_keys, 1);
    rig.deliver(10);
    rig.take(usize::MAX).await;
    assert_eq!(rig.messages(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_behind_the_tail_and_the_client_has_a_moment_to_close() {
    for closes in [true, false] {
        let mut rig = Rig::new(30).await;
        rig.take(usize::MAX).await;
        rig.deliver(500);
        rig.broker.drain(1);
        Rig::settle().await;
        assert!(!rig.far.is_over());
        rig.take(30).await;
        assert_eq!(rig.lines().last().unwrap(), "bye");
        assert!(rig.far.is_over() && rig.messages() == 1);
        assert!(!rig.connection.is_finished());
        let began = Instant::now();
        if closes {
            rig.far.end();
        }
        assert_eq!(rig.ended_after(began).await, if closes { 0 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_for_which_there_is_no_room_is_not_waited_for_long() {
    let mut rig = Rig::new(100).await;
    rig.take(usize::MAX).await;
    rig.broker.drain(1);
    Rig::settle().await;
    // Of the bye and of the end something is left in the kernel, and nobody takes it.
    let began = Instant::now();
    assert!(rig.ended_after(began).await <= 30);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_or_is_lost_ends_the_connection() {
    let mut left = Rig::new(1_000).await;
    left.take(usize::MAX).await;
    left.far.end();
    left.connection.await.unwrap();
    let mut lost = Rig::new(100).await;
    lost.deliver(1_000);
    Rig::settle().await;
    lost.far.fail();
    lost.connection.await.unwrap();
}

/// Gives back what it is sent.
struct Echo;

impl Protocol for Echo {
    fn event(&mut self, _: Event, _: &mut Io) {}

    fn failed(&mut self, _: ReadError, _: &mut Io) {}

    fn received(&mut self, message: Incoming<'_>, io: &mut Io, _: &mut Context<'_>) {
        if let Incoming::Text(text) = message {
            io.send_text(text.as_bytes());
        }
    }
}

/// A WebSocket that echoes, within a budget for what is received.
fn echo(broker: &Broker, budget: &ReceiveBudget) -> (Far, JoinHandle<()>) {
    let (socket, far) = sealed::pair(1 << 20);
    let io = Io::new(broker.open_empty(&Principal::ANONYMOUS, 0.into()), 0);
    let connected = HttpMetrics::new(broker).connected(Transport::WebSocket);
    let input = Input::WebSocket(Frames::new(bytes::Bytes::new(), budget.clone()), Takes::Text);
    (far, tokio::spawn(Connection::new(socket, connected, io, input, Echo)))
}

/// A masked frame of zeros, whose first byte and length these are.
fn zeros(first: u8, len: usize) -> Vec<u8> {
    let mut out = vec![first, 0x80 | 127];
    out.extend((len as u64).to_be_bytes());
    out.extend([0; 4]);
    out.resize(out.len() + len, 0);
    out
}

const BEGIN: u8 = 1;
const CONTINUE: u8 = 0;
const WHOLE: u8 = 0x81;

/// The code with which a connection was closed.
async fn close_code(far: &mut Far) -> u16 {
    Rig::settle().await;
    far.receive(usize::MAX);
    assert_eq!(far.plain[0], 0x88, "a close frame");
    u16::from_be_bytes([far.plain[2], far.plain[3]])
}

#[tokio::test(start_paused = true)]
async fn a_message_has_its_time_and_more_as_long_as_it_comes() {
    let (broker, budget) = (broker(Encoders::whole(&ENCODERS)), ReceiveBudget::new(None));
    let (mut idle, connection) = echo(&broker, &budget);
    idle.send(&zeros(WHOLE, 10));
    Rig::settle().await;
    idle.receive(usize::MAX);
    assert_eq!(idle.plain[..2], [WHOLE, 10]);
    let (mut slow, slow_connection) = echo(&broker, &budget);
    let (mut steady, _steady) = echo(&broker, &budget);
    slow.send(&zeros(BEGIN, 100));
    steady.send(&zeros(BEGIN, 10_000));
    for second in 1..60 {
        pass(1_000).await;
        Rig::settle().await;
        if second < 29 {
            // A byte now and then is no progress that helps.
            slow.send(&zeros(CONTINUE, 1));
        }
        steady.send(&zeros(CONTINUE, 10_000));
        slow.receive(usize::MAX);
        assert!(slow.plain.is_empty() == (second < 30) || second == 30, "after {second} s");
    }
    assert_eq!(close_code(&mut slow).await, 1008);
    assert!(slow_connection.is_finished());
    steady.send(&zeros(0x80, 1));
    Rig::settle().await;
    steady.receive(usize::MAX);
    assert!(steady.plain.len() > 590_000, "it came whole in the end");
    assert!(!connection.is_finished(), "silence between messages has no end");
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_not_whole_have_a_bound_for_all_together() {
    let (broker, budget) = (broker(Encoders::whole(&ENCODERS)), ReceiveBudget::new(Some(2 * READ_BYTES)));
    let (hog, _hog) = echo(&broker, &budget);
    hog.send(&zeros(BEGIN, 14_000));
    (0..4).for_each(|_| hog.send(&zeros(CONTINUE, 14_000)));
    Rig::settle().await;
    assert!(!budget.has_room());
    // A message that comes whole needs none; one that doesn't waits, and is refused.
    let (mut small, _small) = echo(&broker, &budget);
    small.send(&zeros(WHOLE, 100));
    Rig::settle().await;
    small.receive(usize::MAX);
    assert_eq!(small.plain.len(), 102);
    let (mut refused, _refused) = echo(&broker, &budget);
    refused.send(&zeros(BEGIN, 14_000));
    pass(4_900).await;
    refused.receive(usize::MAX);
    assert!(refused.plain.is_empty());
    pass(200).await;
    assert_eq!(close_code(&mut refused).await, 1013);
    // A hog that leaves is read from no sooner than others are, and makes room for them.
    hog.end();
    pass(3_000).await;
    let (mut waits, _waits) = echo(&broker, &budget);
    waits.send(&zeros(BEGIN, 14_000));
    waits.send(&zeros(0x80, 1));
    pass(3_000).await;
    waits.receive(usize::MAX);
    assert_eq!(waits.plain.len(), 14_001 + 4);
    assert!(budget.has_room());
}
