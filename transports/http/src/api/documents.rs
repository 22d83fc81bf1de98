//! Documents that are there already: made for one request, and given to all that ask for the same. Those who ask at the same
//! time wait for one of them to make it, and each coding is made once. They are kept in a bounded space.
//!
//! Two kinds are told apart. A *settled* document is one that no message to come changes: a full page, an archive. It is good
//! until its topic loses a message by itself, or all up to one that the document may hold. Any other is good for one state of
//! its topics, which is part of its key.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter, sync::Cache, sync::DefaultLifecycle};
use tailwire_core::TopicsState;
use tailwire_model::{
    Cursor, Filter, Position, Timestamp,
    limits::{CODED_BYTES_MIN, DOCUMENTS_BYTES_MAX},
};
use tailwire_wire::{Coding, Problem, QueryStart, representation::DocumentFormat};

use super::compress::compressed;

/// What a document takes beside its body and its query, roughly.
const OVERHEAD_BYTES: usize = 512;
/// Bytes of a document, in the mean: what is remembered of those that are gone follows from it.
const MEAN_BYTES: usize = 16 << 10;

/// See the module.
pub(crate) struct Documents(Cache<DocumentKey, Made, Weight>);

/// A document, and what its reply says of it.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) body: Bytes,
    /// How the body is coded.
    pub(crate) coding: Coding,
    pub(crate) messages: usize,
    pub(crate) cursor: Cursor,
    pub(crate) more: bool,
    /// What to send as `before` for the page before this one, if there may be one and it was not asked for what comes after.
    pub(crate) prev: Option<Cursor>,
    /// When the first of its messages ends that has a lifetime of its own.
    pub(crate) ends: Option<Timestamp>,
    /// When to come back, if it found nothing.
    pub(crate) retry_after_ms: Option<u64>,
    /// The end of a gap that the client knows of and has not passed.
    pub(crate) gap: Option<Cursor>,
    pub(crate) stays: Stays,
}

/// How long a document is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stays {
    /// For the request that it was made for.
    Once,
    /// As long as the state is that it was made for.
    Live,
    /// Until its topic loses a message by itself, or all messages up to one after this position.
    Settled(Position),
}

/// What is asked for, in all that has a say in it but for the state of the topics.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Words {
    /// The topics that were asked for, which the document names.
    pub(crate) filter: Filter,
    /// Those of them whose messages may be read.
    pub(crate) permitted: Filter,
    /// As it was written, since links have it.
    pub(crate) query: Option<Box<str>>,
    pub(crate) part: Part,
    pub(crate) labels: Labels,
}

/// What the options of a feed's term call it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Labels {
    pub(crate) title: Option<Arc<str>>,
    pub(crate) description: Option<Arc<str>>,
}

/// Which messages, and how they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Those from a place on.
    Page(&'static DocumentFormat, QueryStart),
    /// The newest, as readers subscribe to them.
    Subscription(&'static DocumentFormat),
    /// Those up to one that ends an archive.
    Archive(&'static DocumentFormat, Cursor),
    /// One, as itself.
    Message(Cursor),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DocumentKey {
    words: Arc<Words>,
    /// None of a settled document.
    state: Option<TopicsState>,
    /// How often topics had lost single messages: of any document.
    removed: u64,
    coding: Coding,
}

#[derive(Clone)]
struct Weight;

impl Weighter<DocumentKey, Made> for Weight {
    fn weight(&self, key: &DocumentKey, document: &Made) -> u64 {
        let query = key.words.query.as_deref().map_or(0, str::len);
        (document.body.len() + query + OVERHEAD_BYTES) as u64
    }
}

impl Default for Documents {
    fn default() -> Self {
        Self::holding(DOCUMENTS_BYTES_MAX)
    }
}

impl Documents {
    fn holding(bytes: usize) -> Self {
        let mut options = OptionsBuilder::new();
        options.weight_capacity(bytes as u64).estimated_items_capacity(bytes / MEAN_BYTES).shards(1);
        // Only a missing capacity is refused.
        let options = options.build().unwrap_or_else(|error| unreachable!("{error}"));
        Self(Cache::with_options(options, Weight, DefaultHashBuilder::default(), DefaultLifecycle::default()))
    }

    /// A document in a coding: one that is there, or else the one that `make` makes, for all that ask meanwhile. `is_whole`
    /// says whether the topic still has messages from a position on, but for single ones. Tells whether it was there.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) async fn get(
        &self,
        words: &Arc<Words>,
        state: TopicsState,
        coding: Coding,
        is_whole: impl Fn(Position) -> bool,
        make: impl Future<Output = Result<Made, Problem>>,
    ) -> Result<(Made, bool), Problem> {
        if coding == Coding::Identity {
            return self.get_or(words, state, coding, &is_whole, make).await;
        }
        let mut was_there = true;
        let coded = async {
            let (plain, found) = self.get_or(words, state, Coding::Identity, &is_whole, make).await?;
            was_there = found;
            Ok(plain.coded(coding).await)
        };
        let (document, found) = self.get_or(words, state, coding, &is_whole, coded).await?;
        Ok((document, found || was_there))
    }

    /// The body of a message in a coding, which it is put into once; nothing where that isn't worth it. Whether the message is
    /// there and may be read is known before.
    pub(crate) async fn message(
        &self,
        cursor: Cursor,
        body: &Bytes,
        coding: Coding,
    ) -> Option<(Bytes, Coding)> {
        if coding == Coding::Identity || body.len() < CODED_BYTES_MIN {
            return None;
        }
        let nothing = Filter::union([]);
        let (part, labels) = (Part::Message(cursor), Labels::default());
        let words = Words { filter: nothing.clone(), permitted: nothing, query: None, part, labels };
        let key = DocumentKey { words: Arc::new(words), state: None, removed: 0, coding };
        let make = async { Ok::<_, Infallible>(Made::new(body.clone(), 1, cursor).coded(coding).await) };
        let Ok(made) = self.0.get_or_insert_async(&key, make).await;
        (made.coding == coding).then_some((made.body, coding))
    }

    async fn get_or(
        &self,
        words: &Arc<Words>,
        state: TopicsState,
        coding: Coding,
        is_whole: &impl Fn(Position) -> bool,
        make: impl Future<Output = Result<Made, Problem>>,
    ) -> Result<(Made, bool), Problem> {
        let settled = DocumentKey { words: words.clone(), state: None, removed: state.removed, coding };
        if let Some(document) = self.settled(&settled, is_whole) {
            return Ok((document, true));
        }
        let live = DocumentKey { state: Some(state), ..settled.clone() };
        let guard = match self.0.get_value_or_guard_async(&live).await {
            Ok(document) => return Ok((document, true)),
            Err(guard) => guard,
        };
        // Somebody may have made it while this one waited for its turn.
        if let Some(document) = self.settled(&settled, is_whole) {
            return Ok((document, true));
        }
        let document = make.await?;
        match document.stays {
            Stays::Once => {}
            // It is refused where it was taken out meanwhile, and does without.
            Stays::Live => drop(guard.insert(document.clone())),
            Stays::Settled(_) => self.0.insert(settled, document.clone()),
        }
        Ok((document, false))
    }

    fn settled(&self, key: &DocumentKey, is_whole: &impl Fn(Position) -> bool) -> Option<Made> {
        let document = self.0.get(key)?;
        match document.stays {
            Stays::Settled(begins) if !is_whole(begins) => {
                self.0.remove(key);
                None
            }
            _ => Some(document),
        }
    }
}

impl Made {
    /// A document that shows all up to a cursor, for one request.
    pub(crate) const fn new(body: Bytes, messages: usize, cursor: Cursor) -> Self {
        let (coding, stays) = (Coding::Identity, Stays::Once);
        Self {
            body,
            coding,
            messages,
            cursor,
            more: false,
            prev: None,
            ends: None,
            retry_after_ms: None,
            gap: None,
            stays,
        }
    }

    /// The same in a coding, where that is worth it.
    pub(crate) async fn coded(self, coding: Coding) -> Self {
        match compressed(&self.body, coding).await {
            Some(body) => Self { body, coding, ..self },
            None => self,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
