//! The digest of a store's state: of all that clients can ever learn of it, and of nothing that
//! depends on how it is stored. Two stores that applied the same entries have the same.

use std::collections::BTreeMap;

use tailwire_core::{Store, StoreError, log::Budget};
use tailwire_model::{Filter, Message, Position, Term};
use xxhash_rust::xxh3::Xxh3;

/// Messages that are read at once.
const PAGE: Budget = Budget { messages: 1000, bytes: 4 << 20, scan_bytes: 16 << 20 };
/// Topics that are listed at once.
const TOPICS: usize = 1000;

/// A digest in parts, so that a difference has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDigest {
    /// The newest position, and the epochs.
    pub epochs: u128,
    /// Every retained message: cursor, time, topic, type, key, event, headers and body.
    pub messages: u128,
    /// Of every topic its tail, how many messages it has, and how far it was trimmed and why; and how far those had come that are
    /// forgotten.
    pub topics: u128,
    /// The idempotency keys that still count.
    pub keys: u128,
    /// The options that are set.
    pub options: u128,
}

/// The digest of a store that nobody applies to meanwhile.
///
/// # Errors
/// When it can't be read.
pub fn digest(store: &dyn Store) -> Result<StateDigest, StoreError> {
    let mut epochs = Xxh3::new();
    part(&mut epochs, &[&store.newest(), &store.epochs().starts()]);
    let mut keys = BTreeMap::new();
    store.keys(&mut |name, record| {
        keys.insert(name.to_owned(), *record);
    })?;
    let mut key_digest = Xxh3::new();
    keys.iter().for_each(|(name, record)| part(&mut key_digest, &[name, record]));
    let mut options = Xxh3::new();
    let rules = store.rules();
    let set: BTreeMap<&str, _> = rules.iter().map(|(term, own)| (term.as_str(), own)).collect();
    set.iter().for_each(|(term, own)| part(&mut options, &[term, own]));
    Ok(StateDigest {
        epochs: epochs.digest128(),
        messages: messages(store)?,
        topics: topics(store),
        keys: key_digest.digest128(),
        options: options.digest128(),
    })
}

fn messages(store: &dyn Store) -> Result<u128, StoreError> {
    let (mut digest, mut after) = (Xxh3::new(), Position::ZERO);
    // The broker's own topics are matched by no wildcard of a first segment.
    let terms = ["**", "$sys/**", "$presence/**"].into_iter().filter_map(|term| Term::parse(term).ok());
    let filter = Filter::new(terms.collect()).unwrap_or_else(|_| unreachable!("three terms are a filter"));
    while after < store.newest() {
        let page = store.read(&filter, after, Position::MAX, PAGE)?;
        after = page.scanned;
        page.messages.iter().for_each(|message| add_message(&mut digest, message));
    }
    Ok(digest.digest128())
}

fn add_message(digest: &mut Xxh3, message: &Message) {
    let Message { cursor, time, draft } = message;
    part(digest, &[cursor, time, &draft.topic, &draft.media_type, &draft.extras]);
    digest.update(&(draft.body.len() as u64).to_le_bytes());
    digest.update(&draft.body);
}

fn topics(store: &dyn Store) -> u128 {
    let (mut digest, mut from) = (Xxh3::new(), None::<String>);
    // A pattern that no topic matches.
    let none = Term::parse("$none/*").ok().map(|term| store.bounds(&Filter::from(term)).trimmed);
    part(&mut digest, &[&none]);
    loop {
        let page = store.topics("", from.as_deref(), TOPICS);
        for info in &page {
            let trimmed = store.bounds(&Filter::from(info.topic.clone())).trimmed;
            part(
                &mut digest,
                &[&info.topic, &info.head, &info.tail, &info.messages, &info.tail_time, &trimmed],
            );
        }
        let Some(last) = page.last().filter(|_| page.len() == TOPICS) else { return digest.digest128() };
        from = Some(last.topic.as_str().to_owned());
    }
}

/// Values by their debug form, which says all that they hold, and ends where the next begins.
fn part(digest: &mut Xxh3, values: &[&dyn std::fmt::Debug]) {
    for value in values {
        let text = format!("{value:?}");
        digest.update(&(text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    }
}
