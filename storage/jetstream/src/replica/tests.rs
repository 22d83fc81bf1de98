//! The verdicts, message by message, and what a token keeps of them.

#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use tailwire_core::log::Group;
use tailwire_model::{Condition, Draft, MediaType, Topic};

use super::*;
use crate::frame::{encode_writes, parts};

const LOG: LogId = LogId(7);
const TIME: u64 = 1_795_000_000_000;

/// A stream that is written by hand, and a replica that takes it.
struct Rig {
    replica: Replica,
    stream: Vec<(u64, Bytes)>,
    time: u64,
}

fn write(text: &str) -> Write {
    let topic = Topic::parse("a").unwrap();
    let draft = Draft::new(topic, MediaType::NONE, text.to_owned().into());
    Write::Publish(Group { drafts: vec![draft], key: None, condition: Condition::None })
}

fn body(writes: &[Write]) -> String {
    let bodies = writes.iter().map(|write| match write {
        Write::Publish(group) => String::from_utf8(group.drafts[0].body.to_vec()).unwrap(),
        other => format!("{other:?}"),
    });
    bodies.collect::<Vec<_>>().join(" ")
}

impl Rig {
    fn new() -> Self {
        Self { replica: Replica::new(LOG, 0), stream: Vec::new(), time: TIME }
    }

    fn frame(&self, incarnation: u64, number: u64, part: Bytes, has_more: bool) -> Frame {
        let applied = self.replica.applied();
        Frame { log: LOG, incarnation, number, has_more, applied, topics_max: 9, part }
    }

    /// Writes a frame to the stream and takes it; says what became of it.
    fn take(&mut self, frame: &Frame) -> String {
        self.take_bytes(&frame.encode())
    }

    fn take_bytes(&mut self, bytes: &Bytes) -> String {
        self.stream.push((self.time, bytes.clone()));
        let sequence = self.stream.len() as u64;
        match self.replica.take(sequence, self.time, bytes) {
            Ok(Seen { disputes: Some(upto), .. }) => format!("disputes {upto}"),
            Ok(Seen { verdict, .. }) => match verdict {
                StreamVerdict::Applies(place, writes) => {
                    assert_eq!((place.first, place.topics_max), (first_position(sequence), 9));
                    format!("applies {}", body(&writes))
                }
                StreamVerdict::Early(next) => format!("early {next}"),
                other => format!("{other:?}").to_lowercase(),
            },
            Err(error) => format!("stops: {error}"),
        }
    }

    fn say(&mut self, incarnation: u64, number: u64, text: &str) -> String {
        let frame = self.frame(incarnation, number, encode_writes([write(text)].iter(), 0), false);
        self.take(&frame)
    }

    /// A replica that goes on from a token that was stored after a message.
    fn resumed(&self, token: &Token) -> Replica {
        let mut replica = Replica::resume(token).unwrap();
        while replica.next() <= self.stream.len() as u64 {
            let next = replica.next();
            let (time, bytes) = &self.stream[next as usize - 1];
            replica.take(next, *time, bytes).unwrap();
        }
        replica
    }
}

#[test]
fn numbers_make_repeats_harmless_and_keep_the_order() {
    let mut rig = Rig::new();
    assert_eq!(rig.say(1, 1, "a"), "applies a");
    assert_eq!(rig.say(1, 1, "a"), "repeat");
    assert_eq!(rig.say(1, 3, "c"), "early 2");
    assert_eq!(rig.say(2, 1, "x"), "applies x");
    assert_eq!(rig.say(1, 2, "b"), "applies b");
    assert_eq!(rig.say(1, 3, "c"), "applies c");
    assert_eq!(rig.say(1, 1, "a"), "repeat");
    assert_eq!(rig.say(3, 5, "e"), "early 1");
    assert_eq!(rig.take_bytes(&Bytes::from_static(b"hello")), "foreign");
    assert_eq!(rig.say(2, 2, "y"), "applies y");
}

#[test]
fn a_replica_goes_on_from_any_token() {
    let mut rig = Rig::new();
    let mut tokens = vec![];
    for (incarnation, number) in [(1, 1), (2, 1), (1, 2), (1, 2), (1, 4), (2, 2), (1, 3), (3, 9), (1, 4)] {
        rig.say(incarnation, number, "m");
        tokens.push(rig.replica.token());
    }
    for token in tokens {
        assert_eq!(rig.resumed(&token).token(), rig.replica.token());
    }
    assert_eq!(rig.resumed(&rig.replica.token()).number_of(1), Some(4));
}

#[test]
fn parts_are_put_together_also_after_a_new_begin() {
    let mut rig = Rig::new();
    let large = "x".repeat(1_200_000);
    let bytes = encode_writes([write(&large)].iter(), 0);
    let pieces = parts(bytes);
    assert_eq!(pieces.len(), 3);
    let mut tokens = vec![rig.replica.token()];
    let part = |rig: &Rig, at: usize| rig.frame(1, at as u64 + 2, pieces[at].clone(), at < 2);
    rig.say(1, 1, "before");
    for at in [0, 0, 2, 1, 0] {
        let frame = part(&rig, at);
        let said = rig.take(&frame);
        assert_eq!(said == "part", rig.replica.number_of(1) == Some(at as u64 + 2) && said != "repeat");
        rig.say(2, rig.replica.number_of(2).unwrap_or(0) + 1, "between");
        tokens.push(rig.replica.token());
    }
    let last = part(&rig, 2);
    assert_eq!(rig.take(&last), format!("applies {large}"));
    for token in tokens.iter().skip(1) {
        let mut replica = Replica::resume(token).unwrap();
        let mut applied = Vec::new();
        while replica.next() <= rig.stream.len() as u64 {
            let next = replica.next();
            let (time, bytes) = &rig.stream[next as usize - 1];
            if let StreamVerdict::Applies(_, writes) = replica.take(next, *time, bytes).unwrap().verdict {
                applied.push(body(&writes).len());
            }
        }
        assert_eq!(applied.last(), Some(&large.len()));
        assert_eq!(replica.token(), rig.replica.token());
    }
}

#[test]
fn another_stream_is_noticed() {
    let mut rig = Rig::new();
    for number in 1..10 {
        rig.say(1, number, "m");
    }
    let Applied { sequence, digest } = rig.replica.applied();
    let mut frame = rig.frame(2, 1, encode_writes([].iter(), 0), false);
    frame.applied = Applied { sequence: sequence - 3, digest };
    let mut good = rig.frame(4, 1, encode_writes([].iter(), 0), false);
    assert_eq!(rig.take(&good), "applies ", "of the message before");
    good.incarnation = 5;
    assert_eq!(rig.take(&good), "applies ", "of one further back");
    assert_eq!(rig.take(&frame), format!("disputes {}", sequence - 3));

    // Of what lies ahead of a message its proposer can't have seen anything.
    for ahead in [10, 11, 1000] {
        let mut frame = rig.frame(ahead, 1, encode_writes([].iter(), 0), false);
        frame.applied = Applied { sequence: rig.replica.applied().sequence + ahead, digest };
        assert!(rig.take(&frame).starts_with("disputes"), "{ahead}");
    }
}

#[test]
fn what_was_disputed_before_a_node_joined_is_no_concern_of_its() {
    let mut rig = Rig::new();
    let token = rig.replica.token();
    rig.say(1, 1, "a");
    let mut frame = rig.frame(2, 1, encode_writes([write("b")].iter(), 0), false);
    frame.applied.digest += 1;
    assert_eq!(rig.take(&frame), "disputes 1");
    let mut replica = Replica::resume(&token).unwrap();
    replica.compare_after(2);
    for (sequence, (time, bytes)) in (1..).zip(&rig.stream) {
        let seen = replica.take(sequence, *time, bytes).unwrap();
        assert_eq!(seen.disputes, None);
        assert!(matches!(seen.verdict, StreamVerdict::Applies(..)), "it is an entry all the same");
    }
    assert_eq!(replica.token(), rig.replica.token());
    frame.incarnation = 3;
    rig.replica = replica;
    assert_eq!(rig.take(&frame), "disputes 1", "what comes later is compared");
}

#[test]
fn a_frame_of_another_log_is_passed_over() {
    let mut rig = Rig::new();
    let mut frame = rig.frame(1, 1, encode_writes([].iter(), 0), false);
    frame.log = LogId(8);
    assert_eq!(rig.take(&frame), "foreign");
    assert_eq!(rig.say(1, 1, "a"), "applies a");
}

/// A proposer that is forgotten, and whose first entry comes once more: from the network, or as it was frozen meanwhile.
#[test]
fn nothing_that_counted_counts_again() {
    for crowd in [0, INCARNATIONS_MAX as u64 + 1] {
        let mut rig = Rig::new();
        let first = rig.frame(1, 1, encode_writes([write("a")].iter(), 0), false);
        assert_eq!(rig.take(&first), "applies a");
        let late = rig.frame(2, 1, encode_writes([write("late")].iter(), 0), false);
        if crowd == 0 {
            rig.time += INCARNATION_MS;
        }
        rig.say(9, 1, "x");
        (100..100 + crowd).for_each(|other| drop(rig.say(other, 1, "y")));
        assert_eq!(rig.replica.number_of(1), None);
        let token = rig.replica.token();
        assert_eq!(rig.take(&first), "forgotten", "after {crowd} others");
        assert_eq!(rig.say(1, 2, "b"), "early 1", "what followed on it");
        assert_eq!(rig.take(&first), "forgotten", "also then");
        // Of one that never counted nobody knows that; it is said anew, as of what is applied by then.
        let verdict = rig.take(&late);
        if crowd > 0 {
            assert_eq!(verdict, "forgotten");
            let restamped = Frame { incarnation: 3, applied: rig.replica.applied(), ..late };
            assert_eq!(rig.take(&restamped), "applies late");
        }
        assert_eq!(rig.resumed(&token).token(), rig.replica.token(), "a token knows it");
    }
}

/// The first frame may come after those that follow on it. Nobody is renamed for that, which would have it count twice.
#[test]
fn a_first_frame_that_comes_late_counts_once() {
    let mut rig = Rig::new();
    rig.say(9, 1, "x");
    let first = rig.frame(1, 1, encode_writes([write("a")].iter(), 0), false);
    assert_eq!(rig.say(1, 2, "b"), "early 1");
    assert_eq!(rig.take(&first), "applies a");
    assert_eq!(rig.say(1, 2, "b"), "applies b");
    assert_eq!(rig.take(&first), "repeat");
}

#[test]
fn a_later_version_stops_a_node() {
    let mut rig = Rig::new();
    let mut bytes = rig.frame(1, 1, encode_writes([].iter(), 0), false).encode().to_vec();
    bytes[0] = 3;
    assert!(rig.take_bytes(&bytes.into()).contains("is of version 3, which this broker does not know"));
}

#[test]
fn incarnations_are_forgotten_by_the_streams_time() {
    let mut rig = Rig::new();
    rig.say(1, 1, "a");
    rig.time += INCARNATION_MS - 1;
    assert_eq!(rig.say(2, 1, "b"), "applies b");
    assert_eq!(rig.say(1, 2, "c"), "applies c");
    rig.time += INCARNATION_MS;
    assert_eq!(rig.say(2, 2, "d"), "early 1");
    // Time that runs backwards is none.
    rig.time -= INCARNATION_MS / 2;
    assert_eq!(rig.say(2, 1, "e"), "applies e");
    for incarnation in 100..100 + INCARNATIONS_MAX as u64 + 5 {
        assert_eq!(rig.say(incarnation, 1, "f"), "applies f");
    }
    assert!(rig.replica.incarnations.len() <= INCARNATIONS_MAX + 1);
    assert!(rig.replica.token().0.len() < 2048, "a token is stored with each commit");
    assert_eq!(rig.replica.number_of(2), None);
}

#[test]
fn a_token_that_is_none_is_refused() {
    let token = Rig::new().replica.token();
    for length in 0..token.0.len() {
        assert!(Replica::resume(&Token(token.0.slice(..length))).is_err(), "{length}");
    }
}
