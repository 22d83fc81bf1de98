use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{FutureExt, future::join_all};
use tailwire_model::{Epoch, Term};
use tailwire_wire::{Code, representation::PAGE};

use super::*;

fn words(name: &str) -> Arc<Words> {
    let filter = Filter::from(Term::parse(name).unwrap());
    let part = Part::Page(&PAGE, QueryStart::Earliest);
    Arc::new(Words { permitted: filter.clone(), filter, query: None, part, labels: Labels::default() })
}

fn state(tail: u64) -> TopicsState {
    TopicsState { tail: Position(tail), taken: 0, removed: 0 }
}

fn document(stays: Stays) -> Made {
    let cursor = Cursor { epoch: Epoch::ZERO, position: Position(9) };
    let body = Bytes::from(vec![b'a'; 4000]);
    Made {
        prev: None,
        ends: None,
        body,
        coding: Coding::Identity,
        messages: 1,
        cursor,
        more: true,
        retry_after_ms: None,
        gap: None,
        stays,
    }
}

/// Asks, and says how often a document was made by then.
struct Asked {
    documents: Documents,
    made: AtomicUsize,
    whole_from: Position,
}

impl Asked {
    fn new() -> Self {
        Self { documents: Documents::default(), made: AtomicUsize::new(0), whole_from: Position::ZERO }
    }

    async fn get(&self, name: &str, tail: u64, coding: Coding, stays: Stays) -> (Made, bool) {
        self.get_at(name, state(tail), coding, stays).await
    }

    async fn get_at(&self, name: &str, state: TopicsState, coding: Coding, stays: Stays) -> (Made, bool) {
        let make = async {
            tokio::task::yield_now().await;
            self.made.fetch_add(1, Ordering::SeqCst);
            Ok(document(stays))
        };
        let is_whole = |begins| begins >= self.whole_from;
        self.documents.get(&words(name), state, coding, is_whole, make).await.unwrap()
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn all_who_ask_for_the_same_are_given_what_one_of_them_made() {
    for stays in [Stays::Live, Stays::Settled(Position(1))] {
        let asked = Asked::new();
        let codings = [Coding::Identity, Coding::Gzip, Coding::Zstd];
        let requests = (0..300).map(|number| asked.get("a", 5, codings[number % 3], stays));
        let answers = join_all(requests).await;
        assert_eq!(asked.made(), 1, "{stays:?}");
        assert_eq!(answers.iter().filter(|(_, was_there)| !was_there).count(), 1);
        for (number, (document, _)) in answers.iter().enumerate() {
            assert_eq!(document.coding, codings[number % 3]);
        }
        asked.get("b", 5, Coding::Identity, stays).await;
        assert_eq!(asked.made(), 2, "of another topic");
    }
}

#[tokio::test]
async fn a_live_document_is_made_anew_when_its_topic_has_changed_and_a_settled_one_is_not() {
    let asked = Asked::new();
    for tail in [5, 5, 6, 6] {
        asked.get("live", tail, Coding::Gzip, Stays::Live).await;
    }
    assert_eq!(asked.made(), 2);
    for tail in [5, 6, 7] {
        asked.get("settled", tail, Coding::Gzip, Stays::Settled(Position(1))).await;
    }
    assert_eq!(asked.made(), 3);
    for _ in 0..2 {
        asked.get("once", 5, Coding::Identity, Stays::Once).await;
    }
    assert_eq!(asked.made(), 5);
}

#[tokio::test]
async fn a_settled_document_of_which_something_is_gone_is_not_given() {
    let mut asked = Asked::new();
    asked.get("a", 5, Coding::Gzip, Stays::Settled(Position(3))).await;
    asked.whole_from = Position(3);
    asked.get("a", 5, Coding::Gzip, Stays::Settled(Position(3))).await;
    assert_eq!(asked.made(), 1);
    asked.whole_from = Position(4);
    asked.get("a", 5, Coding::Gzip, Stays::Settled(Position(3))).await;
    assert_eq!(asked.made(), 2);
}

#[tokio::test]
async fn a_message_that_is_taken_by_itself_has_each_document_made_once_more() {
    for (stays, tails) in [(Stays::Live, [5, 5, 5]), (Stays::Settled(Position(3)), [5, 6, 7])] {
        let asked = Asked::new();
        for (removed, made) in [(0, 1), (1, 2)] {
            for tail in tails {
                asked.get_at("a", TopicsState { removed, ..state(tail) }, Coding::Gzip, stays).await;
                assert_eq!(asked.made(), made, "{stays:?}");
            }
        }
    }
}

#[tokio::test]
async fn one_that_fails_or_goes_away_leaves_the_making_to_the_next() {
    let asked = Asked::new();
    let (words, whole) = (words("a"), |_| true);
    let fails = async { Err(Problem::new(Code::Gap)) };
    let refused = asked.documents.get(&words, state(5), Coding::Identity, whole, fails).await;
    assert_eq!(refused.unwrap_err().code, Code::Gap);
    let never = asked.documents.get(&words, state(5), Coding::Identity, whole, std::future::pending());
    let mut never = Box::pin(never);
    assert!((&mut never).now_or_never().is_none());
    let mut next = Box::pin(asked.get("a", 5, Coding::Identity, Stays::Live));
    assert!((&mut next).now_or_never().is_none());
    drop(never);
    assert!(!next.await.1);
}

#[tokio::test]
async fn the_space_is_bounded() {
    let documents = Documents::holding(100_000);
    for number in 0..200 {
        let make = async { Ok(document(Stays::Live)) };
        documents
            .get(&words(&format!("t{number}")), state(5), Coding::Identity, |_| true, make)
            .await
            .unwrap();
        assert!(documents.0.weight() <= 100_000);
    }
    assert!(documents.0.len() > 10);
}
