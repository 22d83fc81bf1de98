//! The steps of a log, and how many of each: the strategies of the three tests.

use proptest::prelude::*;
use tailwire_model::{Bound, Durability, Keep, Options};

use crate::{
    check,
    reference::{Draft, KEY_MS, TERMS},
    subject::End,
};

/// One thing that is done to a log.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Appends groups, in one call.
    Append(Vec<Publish>),
    Delete(usize),
    /// Forgets a topic, if it may be: right after it was deleted, or not.
    Forget(usize, bool),
    /// Removes one message: of those that there ever were, and two that there never were, the one of this number.
    Remove(u64),
    SetOptions(usize, Options),
    Commit,
    /// Commits, and tidies a second later until nothing is due.
    Tidy,
    /// Commits, and does a single step of tidying: what it leaves half done is to show nowhere.
    TidyPartly,
    /// Time goes by.
    Wait(u64),
    Reopen(End),
}

/// A group.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub(crate) drafts: Vec<Draft>,
    /// The name of its idempotency key, and which request it stands for.
    pub(crate) key: Option<(&'static str, u8)>,
    pub(crate) given: Condition,
}

/// The condition on its first topic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Condition {
    Nothing,
    NeverWritten,
    /// It has nothing after its tail as of this step, moved by so much.
    NothingAfter(i8),
}

/// The steps that a test leaves out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) in_memory: bool,
    pub(crate) relaxed: bool,
    /// Bounds of single topics.
    pub(crate) bounds: bool,
    pub(crate) kills: bool,
}

fn topic() -> impl Strategy<Value = String> {
    (0..check::names().len()).prop_map(|at| check::names()[at].to_owned())
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let key = proptest::option::of((0..3u8).prop_map(|key| format!("k{key}")));
    let size = prop_oneof![6 => 0..200usize, 1 => 2000..5000usize, 1 => 7000..20_000usize];
    let letter = 0..26u8;
    let draft = (topic(), key.clone(), size, letter.clone()).prop_map(|(topic, key, size, letter)| Draft {
        topic,
        key,
        body: char::from(b'a' + letter).to_string().repeat(size),
    });
    // Enough small ones to be sealed.
    let many = (topic(), key, 100..260usize, letter).prop_map(|(topic, key, count, letter)| {
        let body = char::from(b'a' + letter).to_string();
        let keyed = |n: usize| key.clone().map(|key| if n.is_multiple_of(3) { key } else { format!("n{n}") });
        (0..count).map(|n| Draft { topic: topic.clone(), key: keyed(n), body: body.repeat(n % 9) }).collect()
    });
    prop_oneof![12 => proptest::collection::vec(draft, 1..5), 1 => many]
}

fn publish() -> impl Strategy<Value = Publish> {
    let key = proptest::option::weighted(0.3, (0..3usize, 0..3u8)).prop_map(|key| {
        // Mostly the same request again.
        key.map(|(name, request)| (["one", "two", "three"][name], request / 2))
    });
    let given = prop_oneof![
        8 => Just(Condition::Nothing),
        1 => Just(Condition::NeverWritten),
        2 => (-2..3i8).prop_map(Condition::NothingAfter),
    ];
    (drafts(), key, given).prop_map(|(drafts, key, given)| Publish { drafts, key, given })
}

fn options(scope: Scope) -> impl Strategy<Value = Options> {
    let bound = |values: Vec<u64>| {
        let set = proptest::sample::select(values).prop_map(Bound);
        proptest::option::weighted(0.3, prop_oneof![4 => set, 1 => Just(Bound::NONE)])
    };
    let durability = if scope.relaxed {
        proptest::option::weighted(0.4, prop_oneof![Just(Durability::Sync), Just(Durability::Relaxed)])
            .boxed()
    } else {
        Just(None).boxed()
    };
    let keep = prop_oneof![1 => Just(Keep::All), 2 => Just(Keep::Compact), 1 => Just(Keep::Last)];
    let keep = proptest::option::weighted(0.4, keep);
    (durability, bound(vec![1, 2, 3, 150]), bound(vec![1, 300, 9000]), bound(vec![1, 5000, 60_000]), keep)
        .prop_map(move |(durability, max_messages, max_bytes, max_age_ms, keep)| {
            let all = Options { durability, max_messages, max_bytes, max_age_ms, keep, ..Options::default() };
            if scope.bounds { all } else { Options { durability, keep, ..Options::default() } }
        })
}

/// One step.
pub(crate) fn step(scope: Scope) -> impl Strategy<Value = Step> {
    let end = match scope.kills {
        true => prop_oneof![Just(End::Closed), Just(End::Dropped), Just(End::Killed)].boxed(),
        false => prop_oneof![Just(End::Closed), Just(End::Dropped)].boxed(),
    };
    let wait = prop_oneof![3 => 0..200u64, 3 => 1000..9000u64, 1 => KEY_MS / 2..KEY_MS * 2];
    // Of a topic that has messages here and there it can't be told from outside how far each was trimmed.
    let partly = if scope.in_memory { Step::Tidy } else { Step::TidyPartly };
    prop_oneof![
        8 => proptest::collection::vec(publish(), 1..4).prop_map(Step::Append),
        2 => (0..check::names().len()).prop_map(Step::Delete),
        3 => (0..check::names().len(), proptest::bool::weighted(0.7)).prop_map(|(at, deletes)| Step::Forget(at, deletes)),
        3 => any::<u64>().prop_map(Step::Remove),
        3 => (0..TERMS.len(), options(scope)).prop_map(|(term, options)| Step::SetOptions(term, options)),
        4 => Just(Step::Commit),
        4 => Just(Step::Tidy),
        2 => Just(partly),
        3 => wait.prop_map(Step::Wait),
        2 => end.prop_map(Step::Reopen),
    ]
}
