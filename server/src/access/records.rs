//! The records of access in the broker's own log: keys and revocations. They are read before anybody is answered, and
//! followed from then on, so that one that another wrote has its effect as well.

use std::{sync::Arc, time::Duration};

use tailwire_access::{AccessKeyRecord, AccessRecord, RecordError, Revocation};
use tailwire_core::{Broker, Clock, Interest, Page, PageWait, ReadError, Slice, Slices, Start, Until, View};
use tailwire_model::{
    Bound, Cursor, Durability, Filter, Keep, Message, Options, Term, limits::PAGE_MESSAGES_MAX,
};
use tailwire_wire::Format;
use tokio::time::Instant;
use tracing::{error, warn};

use super::Gate;

pub(super) const KEYS: &str = "$access/keys";
pub(super) const REVOCATIONS: &str = "$access/revocations";

/// How long a look at the log waits for a record; then it is begun anew.
const LOOK: Duration = Duration::from_secs(600);
/// How long until it is tried again, where the log can't be read.
const PAUSE: Duration = Duration::from_secs(1);

/// The rule of the topics of records, which options don't change: the newest of each stays.
pub(crate) fn record_options() -> Vec<(Term, Options)> {
    let options = Options {
        durability: Some(Durability::Sync),
        max_age_ms: Some(Bound::NONE),
        max_messages: Some(Bound::NONE),
        max_bytes: Some(Bound::NONE),
        keep: Some(Keep::Compact),
        ..Options::default()
    };
    terms().into_iter().map(|term| (term, options.clone())).collect()
}

fn terms() -> Vec<Term> {
    // Both are topics.
    [KEYS, REVOCATIONS].iter().filter_map(|name| Term::parse(name).ok()).collect()
}

/// Puts all records in force that there are. Gives the place up to where.
///
/// # Errors
/// When the log can't be read: then nobody can tell who may do what.
pub(crate) async fn load(gate: &Gate, broker: &Broker) -> Result<Cursor, ReadError> {
    let mut start = Start::Earliest;
    let mut known = None;
    loop {
        let mut reader = broker.open_own(interest(start, known)).await?;
        match reader.page(PAGE_MESSAGES_MAX, None).await? {
            Page::Messages { slices, cursor, more } => {
                apply(gate, None, &slices);
                if !more {
                    return Ok(cursor);
                }
                start = Start::After(cursor);
            }
            Page::Gap(gap) => known = Some(gap.to),
        }
    }
}

/// Puts records in force as they are written, until the broker drains.
pub(crate) async fn follow(gate: Arc<Gate>, broker: Broker, mut cursor: Cursor) {
    let mut known = None;
    while !broker.is_draining() {
        let wait = PageWait { until: Until::Deadline(Instant::now() + LOOK), shard: 0 };
        let page = async {
            let mut reader = broker.open_own(interest(Start::After(cursor), known)).await?;
            reader.page(PAGE_MESSAGES_MAX, Some(wait)).await
        };
        match page.await {
            Ok(Page::Messages { slices, cursor: reached, .. }) => {
                apply(&gate, Some(&broker), &slices);
                cursor = reached;
            }
            Ok(Page::Gap(gap)) => known = Some(gap.to),
            Err(why) => {
                error!(%why, "keys and revocations can't be read; those that come now are not heeded");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn interest(start: Start, known: Option<Cursor>) -> Interest {
    Interest { filter: Filter::union(&terms()), start, known, view: View::whole(Format::Item as usize) }
}

fn apply(gate: &Gate, broker: Option<&Broker>, slices: &Slices) {
    for message in slices.iter().flat_map(Slice::messages) {
        let position = message.cursor.position;
        match parse(message) {
            Ok(record) => match gate.access().apply(record, Clock::system_now()) {
                Ok(change) => {
                    if let Some(broker) = broker {
                        broker.review(|principal| change.concerns(principal));
                    }
                }
                Err(full) => error!(%full, %position, "a record of access is not heeded"),
            },
            Err(why) => warn!(%why, %position, "a record of access is not heeded"),
        }
        gate.applied.send_replace(position);
    }
}

fn parse(message: &Message) -> Result<AccessRecord, RecordError> {
    let body = &message.draft.body;
    if message.topic().as_str() == KEYS {
        return AccessKeyRecord::parse(body).map(AccessRecord::Key);
    }
    Revocation::parse(body).map(AccessRecord::Revocation)
}
