//! Messages that are taken one by one, where it counts in which of the store's trees they are named, and whether they are yet.

use tailwire_core::store::Outcome;

use super::*;

fn opened(dir: &Path) -> SledStore {
    crate::testing::open(dir, Timestamp(2), &LogSettings::default()).unwrap()
}

fn fresh() -> (tempfile::TempDir, SledStore) {
    let dir = tempfile::tempdir().unwrap();
    let log = opened(dir.path());
    (dir, log)
}

fn remove(log: &SledStore, position: u64) {
    let write = Write::Remove(log.epochs().cursor_at(Position(position)), TrimReason::Deleted);
    assert_eq!(log.write(vec![write], Timestamp(2)).unwrap(), [Outcome::Done]);
}

fn settle(log: &SledStore) {
    while log.tidy_at(Timestamp(2)).unwrap() == Some(0) {}
}

fn crash(dir: &Path, log: SledStore) -> SledStore {
    log.store.db.flush().unwrap();
    drop(log);
    opened(dir)
}

fn newest(log: &SledStore, term: &str) -> u64 {
    log.before_newest(&Filter::from(Term::parse(term).unwrap()), 1).unwrap().0 + 1
}

#[test]
fn a_message_that_the_index_forgot_before_it_was_purged_stays_gone() {
    for count in [3, 400] {
        let (dir, log) = fresh();
        log.append(vec![many("a", count)], Timestamp(2)).unwrap();
        while log.index.read().sealable().is_some() {
            let (topic, block) = log.index.read().sealable().unwrap();
            log.store.postings.put(topic, &block).unwrap();
            log.index.write().sealed(topic, &block);
        }
        let taken = [2, count as u64];
        taken.iter().for_each(|&position| remove(&log, position));
        write_index_pages(&log, usize::MAX);
        let log = crash(dir.path(), log);
        let check = |log: &SledStore| {
            for position in taken {
                assert_eq!(log.get(Position(position)).unwrap(), None, "{position} of {count}");
            }
            let left: Vec<u64> = (1..=count as u64).filter(|own| !taken.contains(own)).collect();
            assert_eq!(positions(log, "a"), left);
            assert_eq!(newest(log, "**"), left[left.len() - 1]);
        };
        check(&log);
        settle(&log);
        check(&log);
        assert_eq!(log.topics("a", None, 1)[0].messages, count as u64 - 2);
        assert_eq!(log.index.read().obsolete_count(), 0);
        assert_eq!(log.store.removed.len(), 1, "the farthest is remembered");
    }
}

#[test]
fn the_newest_of_a_pattern_is_found_where_a_topics_newest_was_taken() {
    let (_dir, log) = fresh();
    // A topic all of whose postings are sealed.
    log.append(vec![many("a", 1)], Timestamp(2)).unwrap();
    while log.index.read().sealable().is_none() {
        log.append(vec![many("a", 1)], Timestamp(2)).unwrap();
    }
    settle(&log);
    let last = log.newest().0;
    log.append(vec![many("b", 1)], Timestamp(2)).unwrap();
    log.append(vec![many("a", 1)], Timestamp(2)).unwrap();
    for _ in 0..2 {
        assert_eq!(newest(&log, "**"), last + 2);
        settle(&log);
    }
    remove(&log, last + 2);
    remove(&log, last);
    for _ in 0..2 {
        assert_eq!(newest(&log, "**"), last + 1);
        assert_eq!(newest(&log, "a"), last - 1);
        settle(&log);
    }
}

#[test]
fn a_removal_is_forgotten_once_a_farther_one_tells_more() {
    let (dir, log) = fresh();
    log.append(vec![many("a", 9), many("b", 9)], Timestamp(2)).unwrap();
    for (position, left) in [(3, 1), (1, 1), (5, 1), (4, 1), (12, 2), (11, 2), (18, 2)] {
        remove(&log, position);
        settle(&log);
        assert_eq!(log.store.removed.len(), left, "after {position}");
    }
    [6, 7].iter().for_each(|&position| remove(&log, position));
    let log = crash(dir.path(), log);
    settle(&log);
    assert_eq!(log.store.removed.len(), 2);
    assert_eq!(positions(&log, "a"), [2, 8, 9]);
}

#[test]
fn a_topic_that_lost_its_only_message_is_known() {
    let (dir, log) = fresh();
    let ten = Draft::new(Topic::parse("a").unwrap(), MediaType::NONE, "x".into());
    let group = Group { drafts: vec![ten], key: None, condition: Condition::None };
    log.append(vec![group.clone()], Timestamp(10)).unwrap();
    remove(&log, 1);
    log.append(vec![many("b", 1)], Timestamp(2)).unwrap();
    settle(&log);
    let before = log.topics("a", None, 1);
    assert_eq!((before[0].tail, before[0].tail_time), (Position(1), Timestamp(10)));
    let log = crash(dir.path(), log);
    assert_eq!(log.topics("a", None, 1), before);
    let again = Group { condition: Condition::NeverWritten, ..group };
    let outcome = log.append(vec![again], Timestamp(11)).unwrap();
    assert!(matches!(outcome[0], tailwire_core::log::Appended::ConditionFailed(_)));
}

#[test]
fn a_key_whose_newest_was_taken_is_counted_once() {
    let (_dir, log) = fresh();
    let topic = Topic::parse("a").unwrap();
    let compact = Options { keep: Some(Keep::Compact), ..Options::default() };
    log.set_options(&Term::Topic(topic.clone()), compact).unwrap();
    log.append(vec![keyed(&topic, 0..1000)], Timestamp(2)).unwrap();
    settle(&log);
    assert!(log.index.read().sealed_span(log.index.read().id("a").unwrap(), Position(7)).is_some());
    for (taken, is_purged) in [(7, true), (9, false)] {
        remove(&log, taken);
        if is_purged {
            settle(&log);
        }
        log.append(vec![keyed(&topic, taken as usize - 1..taken as usize)], Timestamp(2)).unwrap();
        assert_eq!(log.topics("a", None, 1)[0].messages, 1000);
    }
    settle(&log);
    assert_eq!((log.topics("a", None, 1)[0].messages, positions(&log, "a").len()), (1000, 1000));
}

#[test]
fn lifetimes_go_with_their_messages() {
    let (_dir, log) = fresh();
    let topic = Topic::parse("a").unwrap();
    let bounded = Options { max_messages: Some(tailwire_model::Bound(2)), ..Options::default() };
    log.set_options(&Term::Topic(topic.clone()), bounded).unwrap();
    let year = 31_536_000_000;
    for size in [1, 10_000, 1, 20_000, 1, 1] {
        let mut draft = Draft::new(topic.clone(), MediaType::NONE, "x".repeat(size).into());
        draft.extras.get_or_insert_default().max_age_ms = Some(year);
        let group = Group { drafts: vec![draft], key: None, condition: Condition::None };
        log.append(vec![group], Timestamp(2)).unwrap();
    }
    assert_eq!(log.store.lifetimes.len(), 6);
    log.trim(&topic, TrimReason::Deleted).unwrap();
    settle(&log);
    assert_eq!(log.store.lifetimes.len(), 0);
    log.append(vec![many("b", 1)], Timestamp(2)).unwrap();
}
