//! Pages: their limits, what they say of more, and how they wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use tailwire_core::{Event, Page, PageWait, ReadError, Slice, Start, Until};
use tailwire_model::{GapReason, Position};
use tokio::time::{Duration, Instant};

use crate::rig::{Rig, Task, advance, draft, paused};

/// A page in a word: its messages, its cursor's position, `+` when there is more; or a gap.
fn word(page: Result<Page, ReadError>) -> String {
    match page.expect("a log that can be read") {
        Page::Gap(gap) => format!("{}..{}", gap.from.position, gap.to.position),
        Page::Messages { slices, cursor, more } => {
            let messages = slices.iter().flat_map(Slice::messages);
            let positions: Vec<u64> = messages.map(|message| message.position().0).collect();
            format!("{positions:?} {}{}", cursor.position, if more { "+" } else { "" })
        }
    }
}

fn page(rig: &Rig, terms: &[&str], after: u64, limit: usize) -> String {
    let after = Start::After(rig.broker.cursor_at(Position(after)));
    let mut reader = rig.open(terms, after, None);
    word(rig.through(reader.page(limit, None)))
}

fn waiting(rig: &Rig, terms: &[&str], limit: usize, ms: u64) -> Task<Result<Page, ReadError>> {
    let mut reader = rig.open(terms, Start::Latest, None);
    let wait =
        Some(PageWait { until: Until::Deadline(Instant::now() + Duration::from_millis(ms)), shard: 0 });
    let mut task = Task::new(async move { reader.page(limit, wait).await });
    assert!(task.poll().is_pending());
    task
}

#[test]
fn a_page_ends_at_its_limit_and_says_whether_there_is_more() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    rig.publish_now(&["a/x", "b", "a/y", "a/x", "b"]);
    assert_eq!(page(&rig, &["a/x"], 0, 1), "[1] 1+");
    assert_eq!(page(&rig, &["a/x"], 0, 2), "[1, 4] 4");
    assert_eq!(page(&rig, &["a/x"], 1, 1), "[4] 4", "one topic's last page says so");
    assert_eq!(page(&rig, &["a/*"], 0, 2), "[1, 3] 3+");
    assert_eq!(page(&rig, &["a/*"], 3, 2), "[4] 4");
    assert_eq!(page(&rig, &["a/x"], 4, 2), "[] 4", "the cursor stays where it was asked");
    assert_eq!(page(&rig, &["never/written"], 2, 2), "[] 2");
    assert_eq!(page(&rig, &["**"], 0, 100), "[1, 2, 3, 4, 5] 5");
}

#[test]
fn a_page_that_was_read_ahead_is_given_once_and_leaves_no_seam() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    rig.publish_now(&["a", "b", "a"]);
    let mut reader = rig.open(&["a"], Start::Earliest, None);
    rig.through(reader.read_ahead(Duration::from_secs(1))).expect("a log that can be read");
    // Published between the page and the place on the tails.
    rig.publish_now(&["a"]);
    reader.follow(0);
    let (mut positions, mut caught_up) = (Vec::new(), false);
    while !caught_up {
        match rig.through(reader.next()).expect("a log that can be read") {
            Event::Messages(slices) => {
                let messages = slices.iter().flat_map(Slice::messages);
                positions.extend(messages.map(|message| message.position().0));
            }
            event => caught_up = matches!(event, Event::CaughtUp(_)),
        }
    }
    assert_eq!(positions, [1, 3, 4]);
}

#[test]
fn a_page_ends_at_its_bytes_with_at_least_one_message() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let _sizes = rig.publish([1, 600 << 10, 600 << 10, 1200 << 10].map(|size| draft("a/x", size)).into());
    rig.settle();
    assert_eq!(page(&rig, &["a/x"], 0, 10), "[1, 2] 2+");
    assert_eq!(page(&rig, &["a/x"], 2, 10), "[3] 3+");
    assert_eq!(page(&rig, &["a/x"], 3, 10), "[4] 4");
}

#[test]
fn a_page_that_has_looked_at_much_answers_with_where_it_got_to() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    for _ in 0..10 {
        let _others = rig.publish(vec![draft("b", 1 << 20); 5]);
        rig.settle();
    }
    rig.publish_now(&["a/x"]);
    let (mut after, mut pages) = (0, 0);
    loop {
        let page = page(&rig, &["a/*"], after, 10);
        pages += 1;
        if page == "[51] 51" {
            break;
        }
        let moved = page.strip_prefix("[] ").and_then(|rest| rest.strip_suffix('+')).expect(&page);
        let moved: u64 = moved.parse().unwrap();
        assert!(moved > after && moved < 51, "{page}");
        after = moved;
    }
    assert_eq!(pages, 2, "four turns of 8 MB, and the rest");
}

#[test]
fn a_page_tells_a_gap_until_the_client_says_that_it_knows() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    rig.publish_now(&["a/x", "a/x", "a/y", "a/x", "a/y"]);
    rig.delete_now("a/x");
    assert_eq!(page(&rig, &["a/*"], 1, 10), "1..4");
    let (from, to) = (rig.broker.cursor_at(Position(1)), rig.broker.cursor_at(Position(4)));
    let mut reader = rig.open(&["a/*"], Start::After(from), Some(to));
    assert_eq!(word(rig.through(reader.page(1, None))), "[3] 3+");
    assert_eq!(
        reader.known_gap(rig.broker.cursor_at(Position(3))),
        Some(to),
        "the next page must know of it too"
    );
    let mut reader = rig.open(&["a/*"], Start::After(rig.broker.cursor_at(Position(3))), Some(to));
    assert_eq!(word(rig.through(reader.page(10, None))), "[5] 5");
    assert_eq!(reader.known_gap(rig.broker.cursor_at(Position(5))), None, "passed");
}

#[test]
fn an_empty_page_keeps_the_known_gap_with_its_cursor() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    rig.publish_now(&["a/x", "a/x"]);
    rig.delete_now("a/x");
    let (from, to) = (rig.broker.cursor_at(Position(1)), rig.broker.cursor_at(Position(2)));
    let mut reader = rig.open(&["a/x"], Start::After(from), Some(to));
    assert_eq!(word(rig.through(reader.page(10, None))), "[] 1");
    assert_eq!(
        reader.known_gap(from),
        Some(to),
        "the cursor has not passed the gap, so the next page must know of it"
    );
}

#[test]
fn a_page_that_waits_is_woken_by_what_it_asked_for() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut poll = waiting(&rig, &["a/*"], 2, 25_000);
    rig.publish_now(&["b"]);
    advance(&runtime, 20_000);
    assert!(poll.poll().is_pending(), "neither other topics nor a heartbeat's time end it");
    rig.publish_now(&["a/x", "b", "a/y", "a/x"]);
    assert!(poll.flag.is_set());
    let Poll::Ready(page) = poll.poll() else { panic!("still waiting") };
    assert_eq!(word(page), "[2, 4] 4+", "at most its limit");
}

#[test]
fn a_page_that_waits_gives_up_at_its_deadline() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    rig.publish_now(&["a/x"]);
    let mut poll = waiting(&rig, &["a/x"], 2, 25_000);
    rig.publish_now(&["b"]);
    advance(&runtime, 24_999);
    assert!(poll.poll_if_woken().is_pending());
    advance(&runtime, 2);
    assert!(poll.flag.is_set());
    let Poll::Ready(page) = poll.poll() else { panic!("still waiting") };
    assert_eq!(word(page), "[] 1", "its cursor is the one that was asked");
}

#[test]
fn a_drain_ends_a_page_that_waits() {
    let runtime = paused();
    let _entered = runtime.enter();
    let rig = Rig::new();
    let mut poll = waiting(&rig, &["a/x"], 2, 25_000);
    rig.broker.drain(1);
    assert!(poll.flag.is_set());
    let Poll::Ready(page) = poll.poll() else { panic!("still waiting") };
    assert_eq!(word(page), "[] 0");
    // And one that comes now doesn't begin to wait.
    let mut reader = rig.open(&["a/x"], Start::Latest, None);
    let wait = Some(PageWait { until: Until::Deadline(Instant::now() + Duration::from_secs(25)), shard: 0 });
    let mut late = Task::new(async move { reader.page(1, wait).await });
    assert!(late.poll().is_ready());
}

#[test]
fn a_page_that_waits_hears_of_what_came_and_went() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let mut poll = waiting(&rig, &["a/x"], 2, 25_000);
    let _published = rig.publish(vec![draft("a/x", 1)]);
    let _deleted = rig.delete("a/x");
    rig.settle();
    assert!(poll.poll_if_woken().is_pending());
    rig.flush_reads();
    let Poll::Ready(Ok(Page::Gap(gap))) = poll.poll_if_woken() else { panic!("no gap") };
    assert_eq!((gap.from.position.0, gap.to.position.0, gap.reason), (0, 1, GapReason::Deleted));
}

#[test]
fn a_page_that_waits_for_as_long_as_somebody_asks_says_whether_it_reads() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    let stands = Arc::new(AtomicBool::new(false));
    let asked = |rig: &Rig, start| {
        let mut reader = rig.open(&["a/x"], start, None);
        let wait = Some(PageWait { until: Until::Dropped(stands.clone()), shard: 0 });
        Task::new(async move { reader.page(2, wait).await })
    };
    let mut poll = asked(&rig, Start::Latest);
    assert!(poll.poll().is_pending());
    assert!(stands.load(Ordering::SeqCst));
    advance(&runtime, 1_000_000);
    assert!(poll.poll_if_woken().is_pending());
    // New messages have to be read from the log, since they are gone from the tail.
    let _published = rig.publish(vec![draft("a/x", 1)]);
    let _deleted = rig.delete("a/x");
    rig.settle();
    assert!(poll.poll_if_woken().is_pending());
    assert!(!stands.load(Ordering::SeqCst));
    rig.flush_reads();
    assert!(matches!(poll.poll_if_woken(), Poll::Ready(Ok(Page::Gap(_)))));
    // One that is behind never stood.
    rig.publish_now(&["a/x"]);
    let mut poll = asked(&rig, Start::Earliest);
    assert!(poll.poll().is_pending());
    assert!(!stands.load(Ordering::SeqCst));
    rig.flush_reads();
    let Poll::Ready(page) = poll.poll_if_woken() else { panic!("still waiting") };
    assert_eq!(word(page), "[2] 2");
    // A drain ends it.
    let mut poll = asked(&rig, Start::Latest);
    assert!(poll.poll().is_pending());
    rig.broker.drain(1);
    assert!(matches!(poll.poll_if_woken(), Poll::Ready(Ok(_))));
}
