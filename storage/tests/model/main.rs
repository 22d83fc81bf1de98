//! The log against a plain `Vec` of messages and the documented rules: whatever is published, deleted, set, tidied and
//! ended in whatever way, both answer the same. Where the rules leave it open when something is done (a obsolete
//! message may go at any time before the log is told to tidy), the reference takes over what the log did, after checking
//! that it may.
//!
//! `PROPTEST_CASES` sets how many cases each test tries; the default takes seconds, and tries the same ones each time.
//! `PROPTEST_RNG_SEED` sets others.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod check;
#[path = "../common/mod.rs"]
mod common;
mod reference;
mod steps;
mod subject;

use std::sync::Arc;

use check::{Check, names};
use common::{Recorder, START, UNBOUNDED, topic};
use proptest::{prelude::*, test_runner::RngSeed};
use reference::{Fate, Given, Reference, TERMS};
use steps::{Publish, Scope, Step, step};
use subject::{End, OnDisk, Subject};
use tailwire_core::{
    log::{Appended, Budget, Group},
    store::{Entry, Outcome, Place, Token, Write},
};
use tailwire_model::{
    Condition, Draft, Durability, Fingerprint, IdempotencyKey, MediaType, Options, Position, Term, Timestamp,
    TrimReason, message::Extras,
};
use tailwire_storage::{MemoryStore, testing::Writes as _};

/// Steps of tidying after which it must be at an end.
const TIDY_CALLS_MAX: usize = 10_000;

/// Cases of each test, and what proptest would take.
const CASES: u32 = 64;
const PROPTEST_DEFAULT: u32 = 256;
const SEED: u64 = 3;

struct Run<S> {
    subject: S,
    wanted: Reference,
    /// Entries that are to be applied in one call, and what has to become of their publishes.
    pending: Vec<Entry>,
    fates: Vec<Fate>,
    feed: Arc<Recorder>,
    /// Commits of the feed that were looked at, and the newest message in them.
    fed: (usize, u64),
    now: u64,
    budget: Budget,
    /// Not all was tidied since the last opening: obsolete messages may be back, and counts those of a crash.
    uncounted: bool,
    /// The last end was no close in good order, and not all was tidied since.
    unclean: bool,
}

impl<S: Subject> Run<S> {
    fn new(max_bytes: Option<u64>, budget: Budget) -> Self {
        let subject = S::new(max_bytes, START);
        let epoch = subject.log().epochs().current().epoch;
        let wanted = Reference::new(epoch, max_bytes);
        let mut run = Self {
            subject,
            wanted,
            pending: Vec::new(),
            fates: Vec::new(),
            feed: Arc::default(),
            fed: (0, 0),
            now: START,
            budget,
            uncounted: false,
            unclean: false,
        };
        run.follow();
        run
    }

    fn follow(&mut self) {
        self.feed = Arc::new(Recorder::default());
        self.fed = (0, self.wanted.committed);
        self.subject.log().follow(self.feed.clone());
    }

    fn set_options(&mut self, term: &'static str, options: Options) {
        self.enter(vec![Write::Options(Term::parse(term).unwrap(), options.clone())]);
        self.wanted.set_options(term, options);
    }

    /// Puts an entry behind those that are to be applied.
    fn enter(&mut self, writes: Vec<Write>) {
        let place = Place {
            first: Position(self.wanted.newest + 1),
            time: Timestamp(self.now),
            steady: Timestamp(self.now),
            token: Token::default(),
            topics_max: u64::MAX,
        };
        self.pending.push(Entry { place, writes });
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append(groups) => self.append(&groups),
            Step::Delete(name) => {
                let name = names()[name];
                self.enter(vec![Write::Delete(topic(name))]);
                self.wanted.delete(name);
            }
            Step::Forget(name, deletes) => self.forget(names()[name], deletes),
            Step::Remove(number) => {
                // Alone, so that what becomes of it is known.
                self.commit();
                let position = Position(number % (self.wanted.newest + 3));
                let cursor = self.subject.log().epochs().cursor_at(position);
                let log = self.subject.log();
                let write = Write::Remove(cursor, TrimReason::Deleted);
                let outcome = log.write(vec![write], Timestamp(self.now)).unwrap()[0];
                self.wanted.remove(position.0, outcome == Outcome::Done);
                self.check();
            }
            Step::SetOptions(term, options) => self.set_options(TERMS[term], options),
            Step::Commit => self.commit(),
            Step::Tidy => self.tidy(),
            // From outside it can't be told how far a topic was trimmed before the last one that was removed.
            Step::TidyPartly if self.wanted.has_removed() => self.tidy(),
            Step::TidyPartly => {
                self.commit();
                self.tidy_partly();
            }
            Step::Wait(ms) => self.now += ms,
            Step::Reopen(end) => self.reopen(end),
        }
    }

    fn forget(&mut self, name: &'static str, deletes: bool) {
        if deletes {
            self.enter(vec![Write::Delete(topic(name))]);
            self.wanted.delete(name);
        }
        // What asks for nothing, and is on the disk when it is answered: with all before it.
        let synced = Write::Options(Term::parse("none").unwrap(), Options::default());
        self.enter(vec![Write::Forget(topic(name), Position(self.wanted.newest)), synced]);
        self.commit_and_forget(name);
    }

    fn commit_and_forget(&mut self, name: &'static str) {
        let outcomes = self.subject.log().apply(std::mem::take(&mut self.pending), true).unwrap();
        let fates: Vec<Fate> = outcomes.into_iter().filter_map(fate_of).collect();
        assert_eq!(fates, std::mem::take(&mut self.fates));
        self.wanted.commit();
        self.wanted.forget(name);
        self.check_feed();
        self.check();
    }

    fn append(&mut self, groups: &[Publish]) {
        let told: Vec<Group> = groups.iter().map(|publish| self.group(publish)).collect();
        // As of the call, not of the groups before it.
        let given: Vec<Given> = groups.iter().map(|publish| self.given(publish)).collect();
        self.enter(told.into_iter().map(Write::Publish).collect());
        for (publish, given) in groups.iter().zip(given) {
            self.fates.push(self.wanted.append(&publish.drafts, publish.key, given, self.now));
        }
    }

    fn group(&self, publish: &Publish) -> Group {
        let drafts = publish.drafts.iter().map(|plan| {
            let mut draft = Draft::new(topic(&plan.topic), MediaType::JSON, plan.body.clone().into());
            draft.extras = plan
                .key
                .as_deref()
                .map(|key| Box::new(Extras { key: Some(key.into()), ..Extras::default() }));
            draft
        });
        let key = |(name, request): (&str, u8)| IdempotencyKey {
            scoped: name.into(),
            request: Fingerprint([request; 16]),
        };
        let condition = match self.given(publish) {
            Given::Nothing => Condition::None,
            Given::NeverWritten => Condition::NeverWritten,
            Given::NothingAfter(upto) => {
                Condition::NothingAfter(self.subject.log().epochs().cursor_at(Position(upto)))
            }
        };
        Group { drafts: drafts.collect(), key: publish.key.map(key), condition }
    }

    fn given(&self, publish: &Publish) -> Given {
        match publish.given {
            steps::Condition::Nothing => Given::Nothing,
            steps::Condition::NeverWritten => Given::NeverWritten,
            steps::Condition::NothingAfter(moved) => {
                let tail = self.wanted.tail(&publish.drafts[0].topic);
                Given::NothingAfter(tail.saturating_add_signed(i64::from(moved)))
            }
        }
    }

    fn commit(&mut self) {
        let outcomes = self.subject.log().apply(std::mem::take(&mut self.pending), true).unwrap();
        let fates: Vec<Fate> = outcomes.into_iter().filter_map(fate_of).collect();
        assert_eq!(fates, std::mem::take(&mut self.fates));
        self.wanted.commit();
        assert_eq!(self.subject.log().newest(), Position(self.wanted.committed));
        self.check_feed();
        self.check();
    }

    /// The feed has every message once and in order.
    fn check_feed(&mut self) {
        let commits = self.feed.0.lock();
        let (seen, mut newest) = self.fed;
        for commit in &commits[seen..] {
            for message in &commit.messages {
                assert_eq!(message.position().0, newest + 1, "the feed");
                newest += 1;
            }
            assert_eq!(commit.watermark.0, newest, "the feed's watermark");
        }
        assert_eq!(newest, self.wanted.committed, "the feed's end");
        self.fed = (commits.len(), newest);
    }

    fn check(&mut self) {
        let log = self.subject.log();
        let page = log.read(&common::filter(&["**"]), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
        let there = common::positions(&page.messages);
        self.wanted.observe(|position| there.binary_search(&position).is_ok(), !self.uncounted);
        Check { log, wanted: &self.wanted, budget: self.budget, tidied: !self.uncounted }.all();
    }

    fn tidy(&mut self) {
        self.commit();
        // Bounds on age are looked after once a second.
        self.now += 1000;
        let log = self.subject.log();
        let steps = (0..TIDY_CALLS_MAX).find(|_| log.tidy_at(Timestamp(self.now)).unwrap() != Some(0));
        assert!(steps.is_some(), "tidying comes to no end");
        if self.unclean && self.wanted.max_bytes.is_some() {
            // Its messages are counted before it is bounded, and compaction comes with that.
            self.wanted.compact_all();
        }
        self.wanted.tidy(self.now);
        (self.uncounted, self.unclean) = (false, false);
        Check { log, wanted: &self.wanted, budget: self.budget, tidied: true }.all();
        self.check_feed();
    }

    fn tidy_partly(&mut self) {
        let log = self.subject.log();
        log.tidy_at(Timestamp(self.now)).unwrap();
        self.wanted.tidied_partly(self.now, |topic| log.bounds(&common::filter(&[topic])).trimmed);
        self.check();
        self.check_feed();
    }

    fn reopen(&mut self, end: End) {
        if end == End::Closed {
            self.commit();
        } else {
            self.wanted.forget_pending();
            self.pending.clear();
            self.fates.clear();
        }
        self.subject.reopen(end, self.now);
        let log = self.subject.log();
        let newest = log.newest().0;
        let must = if end == End::Closed {
            self.wanted.committed
        } else {
            self.wanted.must_have(end == End::Killed)
        };
        assert!((must..=self.wanted.committed).contains(&newest), "{must} had to be there, and {newest} is");
        let epoch = log.epochs().current().epoch;
        assert!(epoch > self.wanted.epoch);
        self.wanted.reopened(newest, epoch);
        for name in
            names().into_iter().filter(|name| self.wanted.names.contains_key(*name)).collect::<Vec<_>>()
        {
            match log.topics(name, None, 1).first().filter(|info| info.topic.as_str() == name) {
                Some(info) => {
                    let trimmed = log.bounds(&common::filter(&[name])).trimmed;
                    let (tail, time) = (info.tail.0, info.tail_time.0);
                    self.wanted.adopt(name, trimmed, tail, time, end == End::Killed);
                }
                None => self.wanted.forget_topic(name),
            }
        }
        self.wanted.flushed();
        self.uncounted = true;
        self.unclean = end != End::Closed;
        self.follow();
        self.check();
    }
}

fn fate_of(outcome: Outcome) -> Option<Fate> {
    let Outcome::Published(appended) = outcome else { return None };
    Some(match appended {
        Appended::Stored(stored) => {
            Fate::Stored { first: stored.first, count: stored.count as usize, time: stored.time.0 }
        }
        Appended::Replayed(stored) => {
            Fate::Replayed { first: stored.first, count: stored.count as usize, time: stored.time.0 }
        }
        Appended::KeyReused => Fate::KeyReused,
        Appended::ConditionFailed(cursor) => Fate::ConditionFailed(cursor.position.0),
    })
}

fn budget() -> impl Strategy<Value = Budget> {
    (1..9usize, 100..20_000usize, 100..40_000usize).prop_map(|(messages, bytes, scan_bytes)| Budget {
        messages,
        bytes,
        scan_bytes,
    })
}

fn steps(scope: Scope) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(scope), 1..24)
}

const STORED: Scope = Scope { in_memory: false, relaxed: true, bounds: true, kills: true };

fn run<S: Subject>(max_bytes: Option<u64>, scope: Scope, budget: Budget, steps: Vec<Step>) {
    let mut run = Run::<S>::new(max_bytes, budget);
    if scope.in_memory {
        run.set_options("m/*", Options { durability: Some(Durability::Memory), ..Options::default() });
        run.commit();
    }
    for step in steps {
        run.take(step);
    }
    run.tidy();
}

fn config() -> ProptestConfig {
    // Reads the variable itself, and has its own default.
    let asked = ProptestConfig::default();
    let cases = if asked.cases == PROPTEST_DEFAULT { CASES } else { asked.cases };
    let rng_seed = match asked.rng_seed {
        RngSeed::Random => RngSeed::Fixed(SEED),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    ProptestConfig { cases, rng_seed, failure_persistence: None, max_shrink_iters: 3000, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_log_on_disk_is_what_it_must_be(budget in budget(), steps in steps(STORED)) {
        run::<OnDisk>(None, STORED, budget, steps);
    }

    #[test]
    fn a_log_in_memory_is_what_it_must_be(
        budget in budget(),
        steps in steps(Scope { relaxed: false, kills: false, ..STORED }),
    ) {
        run::<Arc<MemoryStore>>(None, Scope { kills: false, ..STORED }, budget, steps);
    }

    #[test]
    fn messages_in_memory_are_what_they_must_be(
        budget in budget(),
        steps in steps(Scope { in_memory: true, relaxed: false, ..STORED }),
    ) {
        run::<OnDisk>(None, Scope { in_memory: true, ..STORED }, budget, steps);
    }

    #[test]
    fn a_bounded_log_is_what_it_must_be(
        budget in budget(),
        steps in steps(Scope { bounds: false, ..STORED }),
        max_bytes in 1..30_000u64,
    ) {
        run::<OnDisk>(Some(max_bytes), STORED, budget, steps);
    }
}
