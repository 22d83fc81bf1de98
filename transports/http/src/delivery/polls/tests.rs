//! Groups of long-polls: which waiter looks, which get the answer, and when a wait is over.

#![allow(clippy::unwrap_used)]

use std::{pin::pin, sync::atomic::AtomicUsize, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use tailwire_model::Topic;
use tokio::sync::watch;

use super::*;

/// Something to be found, and how often it was looked for.
struct Source {
    polls: Polls,
    news: watch::Sender<Option<&'static str>>,
    /// Whether there is something stored to read through before.
    reads: watch::Sender<bool>,
    looks: Arc<AtomicUsize>,
    /// It has one owner more for each look that goes on.
    going: Arc<()>,
}

impl Source {
    fn new() -> Self {
        let (looks, going) = (Arc::default(), Arc::default());
        let (news, reads) = (watch::Sender::new(None), watch::Sender::new(false));
        Self { polls: Polls::default(), news, reads, looks, going }
    }

    fn join(&self, query: &str) -> Waiter {
        let key = key(query);
        let (mut news, mut reads) = (self.news.subscribe(), self.reads.subscribe());
        let (looks, going) = (self.looks.clone(), self.going.clone());
        self.polls.join(Arc::new(key), |_, is_at_tail| async move {
            let _going = going;
            looks.fetch_add(1, Ordering::SeqCst);
            reads.wait_for(|reads| !reads).await.unwrap();
            is_at_tail.store(true, Ordering::SeqCst);
            let text = news.wait_for(Option::is_some).await.unwrap().unwrap();
            let mut response = Response::new(Body::from(text));
            if text.is_empty() {
                *response.status_mut() = StatusCode::ACCEPTED;
            }
            if text == "hinted" {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(7));
            }
            Looked { response, messages: 1 }
        })
    }

    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    fn goes_on(&self) -> bool {
        Arc::strong_count(&self.going) > 1
    }
}

fn key(query: &str) -> PollKey {
    PollKey {
        principal: tailwire_model::Principal::ANONYMOUS,
        filter: Filter::from(Topic::parse("a").unwrap()),
        query: Some(query.into()),
        representation: tailwire_wire::Representation::Document {
            format: &tailwire_wire::representation::PAGE,
            wait_ms: 1000,
        },
        varies_by_accept: false,
        coding: Coding::Identity,
        cors: Cors::default(),
    }
}

async fn wait(member: &mut Waiter) -> Poll<Option<Arc<SharedResponse>>> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *member).poll(cx))).await
}

async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap()
}

fn body(found: Option<Arc<SharedResponse>>) -> Option<Bytes> {
    found.map(|found| found.body.clone())
}

#[tokio::test]
async fn those_who_ask_for_the_same_look_once_and_all_are_told() {
    let source = Source::new();
    let mut members: Vec<_> = (0..129).map(|_| source.join("after=1")).collect();
    let mut other = source.join("after=2");
    for member in &mut members {
        assert!(wait(member).await.is_pending());
    }
    assert!(wait(&mut other).await.is_pending());
    assert_eq!(source.looks(), 2);
    source.news.send_replace(Some("news"));
    for member in &mut members {
        assert_eq!(body(soon(member).await).unwrap(), "news");
    }
    assert_eq!(body(other.await).unwrap(), "news");
    assert!(!source.goes_on() && source.polls.0.lock().is_empty());
    // A later poll looks anew.
    assert_eq!(body(source.join("after=1").await).unwrap(), "news");
    assert_eq!(source.looks(), 3);
}

#[tokio::test]
async fn nothing_is_told_as_nothing() {
    let source = Source::new();
    let (first, second) = (source.join(""), source.join(""));
    source.news.send_replace(Some(""));
    assert!(first.await.is_none() && second.await.is_none());
}

#[tokio::test]
async fn who_leaves_leaves_the_looking_to_the_others_and_the_last_one_ends_it() {
    let source = Source::new();
    let (mut first, mut second) = (source.join(""), source.join(""));
    assert!(wait(&mut first).await.is_pending() && wait(&mut second).await.is_pending());
    // The first is called, and leaves before it has looked.
    let waiting = tokio::spawn(second);
    tokio::task::yield_now().await;
    source.news.send_replace(Some("news"));
    drop(first);
    assert_eq!(body(soon(waiting).await.unwrap()).unwrap(), "news");

    let source = Source::new();
    let (mut first, second) = (source.join(""), source.join(""));
    assert!(wait(&mut first).await.is_pending());
    drop(second);
    assert!(source.goes_on());
    drop(first);
    assert!(!source.goes_on() && source.polls.0.lock().is_empty());
}

#[tokio::test]
async fn the_answer_is_written_down_once() {
    let source = Source::new();
    let (first, second) = (source.join(""), source.join(""));
    source.news.send_replace(Some("news"));
    let wire =
        |response, retry_after_s| Share { response, retry_after_s }.wire(&Cors::default()).bytes.clone();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(!first.has_hint());
    let (first, second) = (wire(first, 0), wire(second, 0));
    assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n") && first.ends_with(b"\r\n\r\nnews"));
    assert_eq!(second.as_ptr(), first.as_ptr());
    assert!(!String::from_utf8_lossy(&first).contains("retry-after"));
}

#[tokio::test]
async fn each_comes_back_after_its_own_time() {
    let source = Source::new();
    let members = [7, 9, 7, 0].map(|seconds| (source.join(""), seconds));
    source.news.send_replace(Some("hinted"));
    let mut wires = Vec::new();
    for (member, retry_after_s) in members {
        let response = member.await.unwrap();
        assert!(response.has_hint());
        let share = Share { response, retry_after_s };
        let hint = share.response().headers().get(header::RETRY_AFTER).cloned();
        assert_eq!(hint, (retry_after_s > 0).then(|| HeaderValue::from(retry_after_s)));
        let wire = share.wire(&Cors::default()).bytes.clone();
        let text = String::from_utf8_lossy(&wire).into_owned();
        assert_eq!(text.matches("retry-after").count(), usize::from(retry_after_s > 0), "{text}");
        assert!(retry_after_s == 0 || text.contains(&format!("retry-after: {retry_after_s}\r\n")), "{text}");
        wires.push(wire);
    }
    assert_eq!(wires[0].as_ptr(), wires[2].as_ptr());
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_over_when_its_time_is_and_nothing_is_left_to_read() {
    let deadline = Instant::now() + Duration::from_secs(5);
    let source = Source::new();
    assert!(source.join("").until(deadline).await.is_none());
    assert_eq!(Instant::now(), deadline);
    // Time is over, and who is behind goes on reading.
    source.reads.send_replace(true);
    let (mut first, mut second) = (source.join(""), source.join(""));
    let both = async { (first.until(deadline).await, second.until(deadline).await) };
    let mut both = pin!(both);
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut both).await.is_err());
    source.reads.send_replace(false);
    assert!(matches!(soon(both).await, (None, None)));

    source.reads.send_replace(true);
    let (mut first, second) = (source.join(""), source.join(""));
    let mut first = pin!(first.until(deadline));
    assert!(first.as_mut().now_or_never().is_none());
    let second = tokio::spawn(async move { { second }.until(deadline).await });
    tokio::task::yield_now().await;
    // The first is called, and sees that it isn't alone.
    source.reads.send_replace(false);
    assert!(soon(first).await.is_none() && soon(second).await.unwrap().is_none());
}

#[tokio::test]
async fn messages_count_for_each_and_a_fault_is_told() {
    let source = Source::new();
    let members = [source.join(""), source.join(""), source.join("")];
    source.news.send_replace(Some("news"));
    let mut counted = 1;
    for member in members {
        counted += member.await.unwrap().uncounted();
    }
    assert_eq!(counted, 3);
    let key = Arc::new(PollKey { query: None, ..key("") });
    let fault = source.polls.join(key, |_, _| async { panic!("a fault") });
    assert_eq!(fault.await.unwrap().status(), 500);
}

#[tokio::test]
async fn an_answer_that_came_while_its_time_ran_out_is_given() {
    let source = Source::new();
    let (mut late, other) = (source.join(""), source.join(""));
    source.news.send_replace(Some("news"));
    assert!(other.await.is_some());
    let found = late.until(Instant::now()).await.unwrap();
    assert_eq!(found.status(), StatusCode::OK);
    assert_eq!(body(Some(found)).unwrap(), "news");
}
