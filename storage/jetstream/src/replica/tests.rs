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
        Frame { log: LOG, incarnation, number, has_more, applied: self.replica.applied(), part }
    }

    /// Writes a frame to the stream and takes it; says what became of it.
    fn take(&mut self, frame: &Frame) -> String {
        self.take_bytes(&frame.encode())
    }

    fn take_bytes(&mut self, bytes: &Bytes) -> String {
        self.stream.push((self.time, bytes.clone()));
        let sequence = self.stream.len() as u64;
        match self.replica.take(sequence, self.time, bytes) {
            Ok(Seen { verdict, .. }) => match verdict {
                StreamVerdict::Applies(place, writes) => {
                    assert_eq!(place.first, first_position(sequence));
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
    assert_eq!(rig.say(3, 5, "e"), "forgotten");
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
    assert!(
        rig.take(&frame).starts_with("stops: message 12 of the stream says that another node"),
        "{frame:?}"
    );

    // Of what lies ahead of a message its proposer can't have seen anything.
    for sequence in [10, 11, 1000] {
        let mut frame = rig.frame(3, 1, encode_writes([].iter(), 0), false);
        frame.applied = Applied { sequence: rig.replica.applied().sequence + sequence, digest };
        assert!(rig.take(&frame).starts_with("stops"), "{sequence}");
    }
    let mut other = Rig::new();
    let mut frame = other.frame(1, 1, encode_writes([].iter(), 0), false);
    frame.log = LogId(8);
    assert_eq!(other.take(&frame), "stops: message 1 of the stream is of another log");
}

#[test]
fn a_later_version_stops_a_node() {
    let mut rig = Rig::new();
    let mut bytes = rig.frame(1, 1, encode_writes([].iter(), 0), false).encode().to_vec();
    bytes[0] = 2;
    assert!(rig.take_bytes(&bytes.into()).contains("is of version 2, which is later than this broker"));
}

#[test]
fn incarnations_are_forgotten_by_the_streams_time() {
    let mut rig = Rig::new();
    rig.say(1, 1, "a");
    rig.time += INCARNATION_MS - 1;
    assert_eq!(rig.say(2, 1, "b"), "applies b");
    assert_eq!(rig.say(1, 2, "c"), "applies c");
    rig.time += INCARNATION_MS;
    assert_eq!(rig.say(2, 2, "d"), "forgotten");
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
