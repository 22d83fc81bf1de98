//! A node without its network: what it proposes is written to a stream by hand, and taken from there.

#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use tailwire_core::{
    log::{Appended, Budget, Group},
    store::Write,
};
use tailwire_model::{
    Bound, Condition, Draft, Epoch, Filter, MediaType, Opening, Options, Position, Term, Topic,
};
use tailwire_storage::MemoryStore;

use super::*;
use crate::{
    frame::{Applied, Frame, LogId, encode_writes},
    nodes::NodeReport,
};

const LOG: LogId = LogId(7);
const TIME: u64 = 1_795_000_000_000;
const OWN: u64 = 1;

type Answer = oneshot::Receiver<Result<Outcome, WriteError>>;

struct Rig {
    applier: Applier,
    sequence: u64,
    time: u64,
}

fn publish(text: &str) -> Write {
    let draft = Draft::new(Topic::parse("a").unwrap(), MediaType::NONE, text.to_owned().into());
    Write::Publish(Group { drafts: vec![draft], key: None, condition: Condition::None })
}

impl Rig {
    fn new() -> Self {
        let applied = Applied { sequence: 0, digest: 0 };
        let (_, feed) = mpsc::channel(1);
        let applier = Applier {
            store: Arc::new(MemoryStore::default()),
            replica: Replica::new(LOG, 0),
            hub: Arc::new(Hub::new(LOG, OWN, 9, applied)),
            nodes: Arc::new(Nodes::default()),
            feed,
            runtime: Handle::current(),
            instruments: Instruments::default(),
            random: || OWN + 1,
            tidying: TidySchedule::default(),
            retaining: Vec::new(),
            time_at: Instant::now(),
        };
        let mut rig = Self { applier, sequence: 0, time: TIME };
        let opening = Write::Opening(Epoch::opening(TIME, None, 0).unwrap(), Opening::Created);
        rig.other(99, 1, &[opening]).unwrap();
        rig
    }

    /// What came to the stream.
    fn take(&mut self, bytes: bytes::Bytes) -> Result<(), Divergence> {
        self.sequence += 1;
        let message = StreamMessage { sequence: self.sequence, time: self.time, bytes };
        self.applier.take(vec![message])
    }

    fn frame(&self, incarnation: u64, number: u64, writes: &[Write]) -> Frame {
        let (applied, part) = (self.applier.hub.applied(), encode_writes(writes.iter(), 0));
        Frame { log: LOG, incarnation, number, has_more: false, applied, topics_max: 9, part }
    }

    /// Another node's entry.
    fn other(&mut self, incarnation: u64, number: u64, writes: &[Write]) -> Result<(), Divergence> {
        self.take(self.frame(incarnation, number, writes).encode())
    }

    fn submit(&self, write: Write) -> Answer {
        let (done, answer) = oneshot::channel();
        self.applier.hub.proposals.lock().push(Some(write), done, Instant::now()).unwrap();
        answer
    }

    /// The frames of what is new, or of all that is under way.
    fn frames(&self, is_again: bool) -> Vec<bytes::Bytes> {
        let now = Instant::now();
        let mut proposals = self.applier.hub.proposals.lock();
        if is_again {
            return proposals.again(now + Duration::from_secs(2), true);
        }
        std::iter::from_fn(|| proposals.next_entry(self.applier.hub.applied(), now)).flatten().collect()
    }

    fn bodies(&self) -> Vec<String> {
        let filter = Filter::from(Topic::parse("a").unwrap());
        let all = Budget { messages: 100, bytes: usize::MAX, scan_bytes: usize::MAX };
        let page = self.applier.store.read(&filter, Position::ZERO, Position::MAX, all).unwrap();
        page.messages
            .into_iter()
            .map(|message| String::from_utf8(message.draft.body.to_vec()).unwrap())
            .collect()
    }

    fn report(&self, incarnation: u64, digest: u128) -> NodeReport {
        let (health, server, version) = ("good".to_owned(), String::new(), String::new());
        let name = format!("{incarnation}");
        let applied = self.applier.hub.applied().sequence;
        NodeReport { name, incarnation, applied, digest, health, behind_ms: 0, server, version }
    }
}

fn is_stored(answer: &mut Answer) -> bool {
    matches!(answer.try_recv(), Ok(Ok(Outcome::Published(Appended::Stored(_)))))
}

/// A node whose first entry counted, and that is forgotten while it is frozen: it sends again what it does not know to have
/// counted, goes on with what is new, and nothing is there twice.
#[tokio::test]
async fn a_node_that_was_forgotten_begins_anew_and_nothing_counts_twice() {
    let mut rig = Rig::new();
    let mut first = rig.submit(publish("first"));
    let [frame] = &rig.frames(false)[..] else { panic!("one frame") };
    let copies = rig.frames(true);
    rig.take(frame.clone()).unwrap();
    assert!(is_stored(&mut first));
    rig.time += 2 * 3600 * 1000;
    rig.other(98, 1, &[publish("other")]).unwrap();
    let mut second = rig.submit(publish("second"));
    let [frame] = &rig.frames(false)[..] else { panic!("one frame") };
    copies.iter().for_each(|copy| rig.take(copy.clone()).unwrap());
    rig.take(frame.clone()).unwrap();
    assert_eq!(rig.applier.hub.proposals.lock().incarnation(), OWN + 1);
    assert!(second.try_recv().is_err(), "it did not count");
    for frame in rig.frames(true) {
        rig.take(frame.clone()).unwrap();
        rig.take(frame).unwrap();
    }
    assert!(is_stored(&mut second));
    assert_eq!(rig.bodies(), ["first", "other", "second"]);
}

/// The first entry of a node that lags comes after a node was forgotten that it still knew: it is said anew.
#[tokio::test]
async fn a_first_entry_that_is_refused_is_said_anew() {
    let mut rig = Rig::new();
    let mut answer = rig.submit(publish("late"));
    let frames = rig.frames(false);
    rig.other(98, 1, &[]).unwrap();
    rig.other(98, 2, &[]).unwrap();
    rig.time += 2 * 3600 * 1000;
    rig.other(97, 1, &[]).unwrap();
    frames.into_iter().for_each(|frame| rig.take(frame).unwrap());
    assert!(answer.try_recv().is_err());
    rig.frames(true).into_iter().for_each(|frame| rig.take(frame).unwrap());
    assert!(is_stored(&mut answer));
    assert_eq!(rig.bodies(), ["late"]);
}

#[tokio::test]
async fn the_node_stops_that_most_have_not_seen_the_same_as() {
    let mut rig = Rig::new();
    let mut wrong = rig.frame(50, 1, &[]);
    wrong.applied.digest ^= 1;
    let digest = rig.applier.hub.applied().digest;
    rig.applier.nodes.hear(rig.report(60, digest));
    rig.take(wrong.encode()).unwrap();
    let digest = rig.applier.hub.applied().digest;
    rig.applier.nodes.hear(rig.report(60, digest ^ 1));
    let mut wrong = rig.frame(51, 1, &[]);
    wrong.applied.digest ^= 1;
    let upto = wrong.applied.sequence;
    assert_eq!(rig.take(wrong.encode()), Err(Divergence::Digest(upto + 1, upto)));
}

#[tokio::test]
async fn what_retention_asks_for_is_proposed_once() {
    let mut rig = Rig::new();
    let options = Options { max_messages: Some(Bound(1)), ..Options::default() };
    let term = Term::parse("a").unwrap();
    rig.other(98, 1, &[Write::Options(term, options), publish("1"), publish("2")]).unwrap();
    rig.applier.hub.was_heard();
    assert!(rig.applier.retain().unwrap().is_some());
    let proposed = rig.frames(false);
    assert_eq!(proposed.len(), 1, "the oldest has to go");
    for _ in 0..3 {
        rig.applier.retain().unwrap();
        assert!(rig.frames(false).is_empty(), "it is under way");
    }
    proposed.into_iter().for_each(|frame| rig.take(frame).unwrap());
    assert_eq!(rig.bodies(), ["2"]);
    rig.other(98, 2, &[publish("3")]).unwrap();
    rig.applier.retain().unwrap();
    assert_eq!(rig.frames(false).len(), 1, "and what comes later is decided then");
}
