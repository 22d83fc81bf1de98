//! A disk that fails: what can't be shown from outside.

#![allow(clippy::unwrap_used)]

use std::io;

use bytes::Bytes;
use tailwire_core::log::{Budget, Group, Log, LogError};
use tailwire_model::{Condition, Draft, Filter, MediaType, Position, Timestamp, Topic, TrimReason};

use super::{LogSettings, SledLog, store::Disk};

struct BrokenDisk;

impl Disk for BrokenDisk {
    fn sync(&self) -> io::Result<()> {
        Err(io::Error::other("broken"))
    }
}

fn group(topic: &Topic, body: &'static str) -> Group {
    let draft = Draft::new(topic.clone(), MediaType::NONE, Bytes::from_static(body.as_bytes()));
    Group { drafts: vec![draft], key: None, condition: Condition::None }
}

#[test]
fn after_a_failed_sync_the_log_reads_and_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SledLog::open(dir.path(), Timestamp(0), &LogSettings::default()).unwrap();
    let topic = Topic::parse("a").unwrap();
    log.append(vec![group(&topic, "1")], Timestamp(1)).unwrap();
    log.commit().unwrap();

    log.store.disk = Box::new(BrokenDisk);
    log.append(vec![group(&topic, "2")], Timestamp(1)).unwrap();
    assert!(matches!(log.commit(), Err(LogError::Unknown(_))));
    assert!(matches!(log.append(vec![group(&topic, "3")], Timestamp(1)), Err(LogError::Failed(_))));
    assert!(matches!(log.trim(&topic, TrimReason::Deleted), Err(LogError::Failed(_))));
    assert!(matches!(log.tidy(Timestamp(0)), Err(LogError::Failed(_))));
    assert!(matches!(log.close(), Err(LogError::Failed(_))));
    assert_eq!(log.commit(), Ok(Position(1)));
    let budget = Budget { messages: 9, bytes: 999, scan_bytes: 9999 };
    let page = log.read(&Filter::from(topic), Position::ZERO, Position::MAX, budget).unwrap();
    assert_eq!(page.messages.len(), 1);
}
