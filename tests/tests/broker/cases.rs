//! Streams: cases that need a certain order of things, and the timing of heartbeats and byes.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tailwire_core::{Event, PublishError, Reader, Slice, Start, WriteError, order::Health};
use tailwire_model::{ByeReason, Epoch, GapReason, Position};

use crate::rig::{Flag, Rig, advance, draft, filter, paused};

/// A reader that is polled by hand.
pub(crate) struct Polled {
    reader: Reader,
    pub(crate) flag: Arc<Flag>,
}

impl Polled {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader, flag: Flag::raised() }
    }

    /// Its next event, in a word: `4,5` for messages, `@5` for caught up, `-5` for a heartbeat, `3..5` for a gap.
    fn next(&mut self) -> Option<String> {
        self.flag.take();
        let waker = Waker::from(self.flag.clone());
        let Poll::Ready(event) = self.reader.poll_next(&mut Context::from_waker(&waker)) else { return None };
        Some(match event.expect("a log that can be read") {
            Event::Messages(slices) => {
                let messages = slices.iter().flat_map(Slice::messages);
                let words: Vec<String> = messages.map(|message| message.position().to_string()).collect();
                words.join(",")
            }
            Event::Gap(gap) => format!("{}..{}", gap.from.position, gap.to.position),
            Event::CaughtUp(cursor) => format!("@{}", cursor.position),
            Event::Heartbeat(cursor) => format!("-{}", cursor.position),
            Event::Bye(bye) => format!("bye {:?} {}", bye.reason, bye.retry_after_ms),
        })
    }

    /// All that it says until it waits.
    pub(crate) fn all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).take(100).collect()
    }

    /// The same, with the reads that it takes.
    pub(crate) fn all_read(&mut self, rig: &Rig) -> Vec<String> {
        let mut all = self.all();
        for _ in 0..10 {
            rig.flush_reads();
            all.append(&mut self.all());
        }
        all
    }
}

fn live(rig: &Rig, terms: &[&str]) -> Polled {
    let mut live = Polled::new(rig.open_following(terms, Start::Latest));
    let tail = rig.broker.tail().position;
    assert_eq!(live.all(), [format!("-{tail}"), format!("@{tail}")]);
    live
}

#[test]
fn a_stream_catches_up_and_then_is_live() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    rig.publish_now(&["a/x", "b", "a/y"]);
    let mut stream = Polled::new(rig.open_following(&["a/*"], Start::Earliest));
    assert_eq!(stream.all(), ["-0"], "then it waits for a read");
    rig.flush_reads();
    assert!(stream.flag.is_set(), "the read wakes it");
    assert_eq!(stream.all(), ["1,3", "@3"]);
    rig.publish_now(&["b"]);
    assert!(!stream.flag.is_set(), "what it didn't ask for doesn't wake it");
    rig.publish_now(&["a/x", "b", "a/y"]);
    assert!(stream.flag.is_set());
    assert_eq!(stream.all(), ["5,7"]);
}

#[test]
fn nothing_is_given_before_its_round() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut stream = live(&rig, &["a/x"]);
    let answer = rig.publish(vec![draft("a/x", 1)]);
    assert_eq!(stream.all(), [""; 0]);
    rig.committer.step();
    assert!(answer.flag.is_set(), "it is durable");
    assert_eq!(stream.all(), [""; 0]);
    rig.dispatch();
    assert_eq!(stream.all(), ["1"]);
}

#[test]
fn nothing_of_a_commit_that_failed_is_given() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut stream = live(&rig, &["a/x"]);
    rig.fail_commits(true);
    let mut answer = rig.publish(vec![draft("a/x", 1)]);
    rig.settle();
    let unknown = Err(PublishError::Write(WriteError::Unknown));
    assert_eq!(answer.poll(), Poll::Ready(unknown), "it may be there or not");
    assert_eq!(rig.broker.health(), Health::Failing);
    assert_eq!(rig.broker.tail().position, Position(0));
    assert_eq!(stream.all_read(&rig), [""; 0]);
}

#[test]
fn a_gap_comes_once_and_before_what_is_behind_it() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    rig.publish_now(&["a/x", "a/x", "a/y", "a/x"]);
    let mut stream =
        Polled::new(rig.open_following(&["a/*"], Start::After(rig.broker.cursor_at(Position(1)))));
    assert_eq!(stream.next(), Some("-1".into()));
    rig.delete_now("a/x");
    assert_eq!(stream.all_read(&rig), ["1..4", "3", "@4"]);
    rig.publish_now(&["a/x"]);
    assert_eq!(stream.all(), ["5"]);
    rig.delete_now("a/x");
    assert_eq!(stream.all_read(&rig), [""; 0], "it has seen all that is gone");
}

#[test]
fn what_one_commit_brings_and_takes_is_told_as_a_gap() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut stream = live(&rig, &["a/x"]);
    let _published = rig.publish(vec![draft("a/x", 1), draft("a/x", 1)]);
    let _deleted = rig.delete("a/x");
    rig.settle();
    assert_eq!(stream.all_read(&rig), ["0..2"]);
}

#[test]
fn a_rewound_reader_gives_the_same_again() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut stream = live(&rig, &["a/x", "b"]);
    rig.publish_now(&["a/x", "b", "a/x", "c"]);
    assert_eq!(stream.all(), ["1,2,3"]);
    stream.reader.rewind(Position(1));
    assert_eq!(stream.all(), ["2,3"]);
    rig.delete_now("b");
    stream.reader.rewind(Position(1));
    assert_eq!(stream.all_read(&rig), ["1..2", "3"], "what is gone meanwhile is told");
}

/// Lets a round come that takes the readers' tails away, so that they ask the log.
fn trim_the_tail(rig: &mut Rig, others: &[&str]) {
    let _first = rig.publish(vec![draft("a/x", 1)]);
    let _deleted = rig.delete("a/x");
    let _others = rig.publish(others.iter().map(|name| draft(name, 1)).collect());
    rig.settle();
}

#[test]
fn a_reader_that_joins_one_that_reads_the_log_loses_nothing() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut connection = live(&rig, &["a/*"]);
    let mut joining = live(&rig, &["**"]);
    trim_the_tail(&mut rig, &["b"]);
    assert_eq!((connection.all().len(), joining.all().len()), (0, 0));
    rig.flush_reads();
    assert_eq!((connection.all(), joining.all()), (vec!["0..1".into()], vec!["0..1".into()]));
    // Behind the gap both of them wait for the log again, and stand at the same place.
    assert!(connection.reader.stands_with(&joining.reader));
    connection.reader.join(&joining.reader);
    drop(joining);
    assert_eq!(connection.all_read(&rig), ["2"]);
}

#[test]
fn nothing_comes_for_a_reader_that_has_parted_from_one_that_reads_the_log() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut connection = live(&rig, &["a/*"]);
    connection.reader.join(&live(&rig, &["b"]).reader);
    trim_the_tail(&mut rig, &["b", "a/y"]);
    // The gap, and then it waits for the log.
    let mut all = connection.all();
    rig.flush_reads();
    all.append(&mut connection.all());
    assert_eq!(all, ["0..1"]);
    connection.reader.part(&filter(&["b"]));
    assert_eq!(connection.all_read(&rig), ["3"]);
}

#[test]
fn terms_that_two_subscriptions_ask_for_stay_until_both_have_parted() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut connection = live(&rig, &["a/*", "b"]);
    connection.reader.join(&live(&rig, &["b", "c"]).reader);
    rig.publish_now(&["a/x", "b", "c"]);
    assert_eq!(connection.all(), ["1,2,3"]);
    connection.reader.part(&filter(&["a/*", "b"]));
    rig.publish_now(&["a/x", "b", "c"]);
    assert_eq!(connection.all(), ["5,6"]);
    connection.reader.part(&filter(&["b", "c"]));
    rig.publish_now(&["a/x", "b", "c"]);
    assert_eq!(connection.all(), [""; 0]);
}

#[test]
fn a_gap_that_was_told_before_a_join_does_not_hide_one_of_who_joined() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut connection = live(&rig, &["a/x"]);
    trim_the_tail(&mut rig, &["b"]);
    let mut joining = live(&rig, &["c"]);
    // The log is ahead of the round: what it says is gone, the tails don't know yet.
    let _published = rig.publish(vec![draft("c", 1), draft("a/x", 1)]);
    let _deleted = [rig.delete("c"), rig.delete("a/x")];
    rig.committer.step();
    assert_eq!(connection.all_read(&rig), ["0..4"], "it is told of more than its round has");
    assert_eq!(joining.all(), [""; 0]);
    assert!(connection.reader.stands_with(&joining.reader));
    connection.reader.join(&joining.reader);
    drop(joining);
    rig.dispatch();
    // The one that joined has not heard of it. For the others it may come again.
    assert_eq!(
        connection.all_read(&rig),
        ["2..4"],
        "the 3rd message is gone, and who joined has not been told"
    );
}

#[test]
fn a_heartbeat_comes_at_once_and_after_every_15_s_of_silence() {
    let runtime = paused();
    let _entered = runtime.enter();
    let rig = Rig::new();
    let mut stream = live(&rig, &["a/x"]);
    for _ in 0..3 {
        advance(&runtime, 14_999);
        assert_eq!(stream.all(), [""; 0]);
        advance(&runtime, 2);
        assert!(stream.flag.is_set(), "its timer wakes it");
        assert_eq!(stream.all(), ["-0"]);
    }
}

#[test]
fn no_heartbeat_comes_while_messages_do() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut stream = live(&rig, &["a/x"]);
    for position in 1..=6 {
        rig.publish_now(&["a/x"]);
        assert_eq!(stream.all(), [position.to_string()]);
        advance(&runtime, 10_000);
        assert_eq!(stream.all(), [""; 0]);
    }
    advance(&runtime, 5_001);
    assert_eq!(stream.all(), ["-6"]);
}

#[test]
fn a_heartbeats_cursor_moves_only_with_the_reader() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut stream = live(&rig, &["a/x"]);
    rig.publish_now(&["b", "b"]);
    let _uncommitted = rig.publish(vec![draft("b", 1)]);
    advance(&runtime, 15_001);
    assert_eq!(stream.all(), ["-2"], "beyond other topics' messages, and not beyond the watermark");
}

#[test]
fn a_drain_gives_everybody_a_bye_of_their_own() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    rig.publish_now(&["a/x"]);
    let mut waiting: Vec<Polled> = (0..8).map(|_| live(&rig, &["a/x"])).collect();
    let mut behind = Polled::new(rig.open_following(&["a/x"], Start::Earliest));
    rig.broker.drain(1);
    assert!(waiting.iter().all(|stream| stream.flag.is_set()), "a drain wakes who waits");
    let mut byes: Vec<String> = waiting.iter_mut().filter_map(Polled::next).collect();
    assert!(byes.iter().all(|bye| bye.starts_with(&format!("bye {:?} ", ByeReason::Drain))), "{byes:?}");
    byes.sort();
    byes.dedup();
    assert_eq!(byes.len(), 8, "each comes back at a time of its own");
    assert_eq!(behind.all(), ["-0"]);
    rig.flush_reads();
    let rest: Vec<String> = (0..3).filter_map(|_| behind.next()).collect();
    assert_eq!(rest[..2], ["1", "@1"], "it gets what there is first");
    assert!(rest[2].starts_with("bye"));
}

#[test]
fn nothing_comes_after_a_bye() {
    let runtime = paused();
    let _entered = runtime.enter();
    let rig = Rig::new();
    let mut stream = live(&rig, &["a/x"]);
    rig.broker.drain(1);
    assert!(stream.next().is_some_and(|bye| bye.starts_with("bye")));
    assert_eq!(stream.next(), None, "the last event comes once: a loop over events would never end");
}

#[test]
fn a_foreign_cursor_begins_with_the_oldest_message() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    rig.publish_now(&["b", "a/x", "a/x"]);
    let mut foreign = rig.broker.cursor_at(Position(2));
    foreign.epoch = Epoch::new(foreign.epoch.number() - 1).unwrap();
    let mut reader = rig.open_following(&["a/x"], Start::After(foreign));
    assert_eq!(reader.cursor().position.0, 1);
    let waker = Waker::noop();
    let mut first = || reader.poll_next(&mut Context::from_waker(waker));
    let Poll::Ready(Ok(Event::Gap(gap))) = first() else { panic!("no gap") };
    assert_eq!((gap.reason, gap.from.position.0), (GapReason::Epoch, 1));
    assert!(matches!(first(), Poll::Ready(Ok(Event::Heartbeat(_)))));
    assert_eq!(Polled::new(reader).all_read(&rig), ["2,3", "@3"]);
}
