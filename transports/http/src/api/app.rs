//! Every request that is answered once, whatever carries it: the HTTP handlers and the lines of a WebSocket are two
//! faces of these functions, so that both have the same fields, the same bounds and the same codes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tailwire_core::{
    Broker, Interest, MessageError, Page, PageWait, PublishError, ReadError, Reader, ReaderError, Slice,
    Slices, Start, Until, View, WriteError,
    log::{Appended, Group, Stored},
};
use tailwire_model::{
    Cursor, Filter, Forbidden, IdempotencyKey, MediaType, Message, Options, Principal, Term, Timestamp,
    Topic, limits::STORAGE_RETRY_MS, retry,
};
use tailwire_wire::{
    Code, Format, Problem, Publish,
    document::{About, Archives, Document},
    options, page,
    page::TopicEntry,
    query::{self, TopicsRequest},
    representation::DocumentFormat,
    request::PageRequest,
};
use tokio::time::Instant;

use super::{
    documents::{Documents, Labels, Made, Stays},
    metrics::HttpMetrics,
    room::take_room,
};
use crate::{
    HttpSettings,
    connection::{
        listener::ListenerFacts,
        pinned::{Account, Pinned},
    },
    delivery::polls::Polls,
};

/// State that all requests share, and that of one listener.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) broker: Broker,
    pub(crate) metrics: HttpMetrics,
    pub(crate) settings: Arc<HttpSettings>,
    pub(crate) next_shard: Arc<AtomicUsize>,
    pub(crate) polls: Polls,
    pub(crate) documents: Arc<Documents>,
    /// The listener that its requests come by.
    pub(crate) listener: ListenerFacts,
}

/// What an entry of the list of topics takes, about.
const TOPIC_ENTRY_BYTES: usize = 192;

/// A publish that is durable.
pub(crate) struct Published {
    /// The first message, and the cursor behind the last.
    pub(crate) first: Cursor,
    pub(crate) last: Cursor,
    /// The receipt, or the receipts of a batch.
    pub(crate) body: Vec<u8>,
    pub(crate) batch: bool,
    /// The answer was given before, to the same key.
    pub(crate) replayed: bool,
}

/// A page, encoded, and the room that was taken for one that was waited for.
pub(crate) struct PageReply {
    pub(crate) made: Made,
    pub(crate) room: Option<Pinned>,
}

/// What a document is about, in the words of its request.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) query: Option<&'a str>,
}

/// What a document says beside its messages.
pub(super) struct Composition {
    pub(super) cursor: Cursor,
    pub(super) more: bool,
    /// The time of its newest message.
    pub(super) updated: Option<Timestamp>,
    pub(super) archives: Archives,
}

impl App {
    /// The shard for the next stream: each in turn.
    pub(crate) fn pick_shard(&self) -> usize {
        self.next_shard.fetch_add(1, Ordering::Relaxed) % self.broker.shards()
    }

    /// Publishes. The messages have their place in the queue when this returns.
    pub(crate) fn publish(
        self: &Arc<Self>,
        principal: &Principal,
        publish: Publish,
    ) -> impl Future<Output = Result<Published, Problem>> + Send + use<> {
        let key = publish.idempotency_key.as_ref().map(|key| IdempotencyKey {
            scoped: format!("{}\n{key}", principal.scope()),
            request: publish.fingerprint(),
        });
        let Publish { drafts, batch, condition, .. } = publish;
        let kept = drafts.iter().map(|draft| (draft.topic.clone(), draft.media_type.clone()));
        let kept: Vec<(Topic, MediaType)> = kept.collect();
        let answer = self.broker.publish(principal, Group { drafts, key, condition });
        let (app, principal) = (self.clone(), principal.clone());
        async move {
            match answer.await.map_err(|error| app.publish_problem(&principal, error))? {
                Appended::Stored(stored) => Ok(published(stored, &kept, batch, false)),
                Appended::Replayed(stored) => Ok(published(stored, &kept, batch, true)),
                Appended::KeyReused => Err(Problem::new(Code::IdempotencyKeyReused)),
                Appended::ConditionFailed(cursor) => {
                    Err(Problem::new(Code::ConditionFailed).with_cursor(cursor))
                }
            }
        }
    }

    /// Removes a topic's messages.
    pub(crate) async fn delete(&self, principal: &Principal, topic: Topic) -> Result<(), Problem> {
        let deleted = self.broker.delete(principal, topic.clone()).await;
        deleted.map_err(|error| self.publish_problem(principal, error))?;
        tracing::info!(topic = topic.as_str(), by = ?principal.identity(), "a topic's messages were deleted");
        Ok(())
    }

    /// Opens a reader.
    pub(crate) async fn open(
        &self,
        principal: &Principal,
        filter: Filter,
        start: query::QueryStart,
        known: Option<Cursor>,
        view: View,
    ) -> Result<Reader, Problem> {
        let interest = Interest { filter, start: start_of(start), known, view };
        self.broker.open(principal, interest).await.map_err(|error| match error {
            ReaderError::Forbidden(forbidden) => self.forbidden(principal, &forbidden),
            ReaderError::Read(error) => read_problem(error),
        })
    }

    /// Reads a page, waiting for a first message as long as asked; or until it is dropped, where several have asked, and
    /// then it tells whether it `stands` at the tail.
    pub(crate) async fn page(
        &self,
        principal: &Principal,
        request: PageRequest,
        format: &DocumentFormat,
        query: Option<&str>,
        (account, stands): (&Account, Option<Arc<AtomicBool>>),
    ) -> Result<PageReply, Problem> {
        let PageRequest { filter, start, gap, limit, bound, wait_ms } = request;
        let view = View::whole(format.slot as usize).bounded(bound);
        let mut reader = self.open(principal, filter.clone(), start, gap, view).await?;
        let wait = (wait_ms > 0).then(|| {
            let deadline = || Until::Deadline(Instant::now() + Duration::from_millis(wait_ms));
            PageWait { until: stands.map_or_else(deadline, Until::Dropped), shard: self.pick_shard() }
        });
        let (slices, cursor, more) = match reader.page(limit, wait).await.map_err(read_problem)? {
            Page::Messages { slices, cursor, more } => (slices, cursor, more),
            Page::Gap(gap) => return Err(Problem::gap(gap)),
        };
        let gap = reader.known_gap(cursor);
        let subject = Subject { filter: &filter, query };
        if slices.is_empty() && !more {
            let made = self.empty_page(format, subject, cursor, gap, wait_ms).await?;
            return Ok(PageReply { made, room: None });
        }
        let items = items_of(format, &slices, view);
        // A request that doesn't wait has taken room before; many that waited for one message are answered at the same
        // time.
        let room = match wait_ms {
            0 => None,
            _ => Some(take_room(account, bytes_of(&items)).await?),
        };
        let updated = slices.last().and_then(|slice| slice.messages().last()).map(|message| message.time);
        let archives = Archives::default();
        let composition = Composition { cursor, more, updated, archives };
        let body = self.compose(format, subject, &items, &composition).await?;
        // A full page between two places stays what it is; any other is outdated by the next message.
        let stays = match start {
            query::QueryStart::After(after) if more && filter.only_topic().is_some() => {
                Stays::Settled(after.position)
            }
            _ if !more => Stays::Live,
            _ => Stays::Once,
        };
        let messages = slices.iter().map(Slice::len).sum();
        let made = Made { more, gap, stays, ..Made::new(body, messages, cursor) };
        Ok(PageReply { made, room })
    }

    /// What the patterns of a filter are narrowed to, if they are.
    pub(crate) fn narrowed(&self, principal: &Principal, asked: &Filter) -> Option<Filter> {
        let is_named = asked.terms().iter().all(|term| matches!(term, Term::Topic(_)));
        let permitted = if is_named { None } else { self.broker.permit_read(principal, asked.clone()).ok() };
        permitted.filter(|permitted| permitted != asked)
    }

    /// The page of who has seen everything, and has waited so long for more.
    pub(crate) async fn empty_page(
        &self,
        format: &DocumentFormat,
        subject: Subject<'_>,
        cursor: Cursor,
        gap: Option<Cursor>,
        waited_ms: u64,
    ) -> Result<Made, Problem> {
        // A feed reader knows documents without entries, and no 202.
        let retry_after_ms = (!format.is_feed).then(|| self.retry_after_ms(subject.filter, waited_ms, false));
        let labels = self.labels(format, subject.filter);
        let about = self.about(format, subject, None, Archives::default(), &labels).await?;
        let mut body = Vec::with_capacity(128);
        format.write(&Document { items: &[], cursor, more: false, retry_after_ms, about: &about }, &mut body);
        Ok(Made { retry_after_ms, gap, ..Made::new(body.into(), 0, cursor) })
    }

    /// A document of encodings.
    pub(super) async fn compose(
        &self,
        format: &DocumentFormat,
        subject: Subject<'_>,
        items: &[Bytes],
        &Composition { cursor, more, updated, archives }: &Composition,
    ) -> Result<Bytes, Problem> {
        let mut body = Vec::with_capacity(bytes_of(items));
        let items: Vec<&[u8]> = items.iter().map(|item| &item[..]).collect();
        let labels = self.labels(format, subject.filter);
        let about = self.about(format, subject, updated, archives, &labels).await?;
        format
            .write(&Document { items: &items, cursor, more, retry_after_ms: None, about: &about }, &mut body);
        Ok(body.into())
    }

    /// The description of a document; pages have none, and need no lookup.
    async fn about<'a>(
        &'a self,
        format: &DocumentFormat,
        Subject { filter, query }: Subject<'a>,
        newest: Option<Timestamp>,
        archives: Archives,
        labels: &'a Labels,
    ) -> Result<About<'a>, Problem> {
        let updated = match newest {
            None if format.is_feed => self.broker.newest_time(filter).await.map_err(read_problem)?,
            known => known,
        };
        let has_pace = format.is_feed && !archives.is_archive;
        Ok(About {
            filter,
            query,
            public_url: self.settings.public_url.as_deref(),
            updated: updated.unwrap_or_default(),
            pace_ms: has_pace.then(|| retry::feed_ms(self.broker.pace(filter))),
            title: labels.title.as_deref(),
            description: labels.description.as_deref(),
            hub: self.settings.hub.as_deref(),
            archives,
        })
    }

    /// What the options of a feed's only term call it.
    pub(super) fn labels(&self, format: &DocumentFormat, filter: &Filter) -> Labels {
        match filter.terms() {
            [term] if format.is_feed => {
                let Options { title, description, .. } = self.broker.rules().own(term);
                Labels { title, description }
            }
            _ => Labels::default(),
        }
    }

    /// When a poll should come again that was ready to wait so long, and is given all up to the newest message or nothing.
    pub(super) fn retry_after_ms(&self, filter: &Filter, wait_ms: u64, has_found: bool) -> u64 {
        if self.broker.is_draining() {
            return self.broker.drain_retry_ms();
        }
        self.broker.retry_after_ms(filter, wait_ms, has_found)
    }

    /// The newest message of a filter. Where the client has `seen` that, waits for another one as long as asked.
    pub(crate) async fn newest(
        &self,
        principal: &Principal,
        filter: Filter,
        seen: impl Fn(Cursor) -> bool,
        wait_ms: u64,
    ) -> Result<Option<Message>, Problem> {
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        let mut start = query::QueryStart::Last(1);
        let mut newest = None;
        loop {
            let view = View::whole(Format::Item as usize);
            let mut reader = self.open(principal, filter.clone(), start, None, view).await?;
            let wait = (wait_ms > 0)
                .then(|| PageWait { until: Until::Deadline(deadline), shard: self.pick_shard() });
            let page = reader.page(1, wait).await.map_err(read_problem)?;
            let Page::Messages { slices, .. } = page else { return Ok(newest) };
            match slices.last().and_then(|slice| slice.messages().last()) {
                Some(message) if wait_ms > 0 && seen(message.cursor) => {
                    start = query::QueryStart::After(message.cursor);
                    newest = Some(message.clone());
                }
                Some(message) => return Ok(Some(message.clone())),
                None => return Ok(newest),
            }
        }
    }

    /// One stored message.
    pub(crate) async fn message(&self, principal: &Principal, cursor: Cursor) -> Result<Message, Problem> {
        self.broker.message(principal, cursor).await.map_err(|error| match error {
            MessageError::Unknown => Problem::new(Code::MessageNotFound),
            MessageError::Gone => Problem::new(Code::MessageGone),
            MessageError::Forbidden(forbidden) => self.forbidden(principal, &forbidden),
            MessageError::Read(error) => read_problem(error),
        })
    }

    /// The list of topics as JSON, and the name after which the next page begins. It is read and written on threads that nobody
    /// waits for who publishes.
    pub(crate) async fn topics(
        &self,
        principal: &Principal,
        request: &TopicsRequest,
    ) -> Result<(Vec<u8>, Option<String>), Problem> {
        let TopicsRequest { prefix, from, limit } = request;
        // One more than asked tells whether there is a next page.
        let topics = self.broker.topics(principal, prefix, from.as_deref(), limit + 1).await;
        let mut topics = topics.map_err(read_problem)?;
        let is_last = topics.len() <= *limit;
        topics.truncate(*limit);
        let next = topics.last().filter(|_| !is_last).map(|last| last.topic.as_str().to_owned());
        let broker = self.broker.clone();
        let written = self.broker.aside(move || {
            let entries = topics.iter().map(|info| TopicEntry {
                topic: &info.topic,
                head: info.head.map(|head| broker.cursor_at(head)),
                tail: broker.cursor_at(info.tail),
                messages: info.messages,
                time: info.tail_time,
            });
            let mut body = Vec::with_capacity(TOPIC_ENTRY_BYTES * topics.len());
            page::topics(entries, next.as_deref(), &mut body);
            (body, next)
        });
        written.await.map_err(read_problem)
    }

    /// The options of a term, and for a topic its rule, as JSON.
    pub(crate) fn options(&self, principal: &Principal, term: &Term) -> Result<Vec<u8>, Problem> {
        let own = self
            .broker
            .options(principal, term)
            .map_err(|forbidden| self.forbidden(principal, &forbidden))?;
        let rule = match term {
            Term::Topic(topic) => Some(self.broker.rule(topic)),
            Term::Pattern(_) => None,
        };
        let mut body = Vec::new();
        options::body(term, &own, rule, &mut body);
        Ok(body)
    }

    /// The list of all options as JSON.
    pub(crate) async fn all_options(&self, principal: &Principal) -> Result<Vec<u8>, Problem> {
        let (broker, principal) = (self.broker.clone(), principal.clone());
        let written = self.broker.aside(move || {
            let all = broker.all_options(&principal);
            let mut body = Vec::new();
            options::list(all.iter().map(|(term, options)| (term, options)), &mut body);
            body
        });
        written.await.map_err(read_problem)
    }

    /// Sets what holds for a term; empty options take back what was set. Gives what is set then, as JSON.
    pub(crate) async fn set_options(
        &self,
        principal: &Principal,
        term: Term,
        options: Options,
    ) -> Result<Vec<u8>, Problem> {
        let set = self.broker.set_options(principal, term.clone(), options).await;
        set.map_err(|error| self.publish_problem(principal, error))?;
        tracing::info!(term = term.as_str(), by = ?principal.identity(), "options were set");
        self.options(principal, &term)
    }

    /// The refusal for a principal: to show a credential, where it has shown none and there are any.
    pub(super) fn forbidden(&self, principal: &Principal, forbidden: &Forbidden) -> Problem {
        let asked = principal.is_anonymous() && self.settings.authenticator.challenge().is_some();
        let code = if asked { Code::Unauthorized } else { Code::Forbidden };
        Problem::detailed(code, forbidden.to_string())
    }

    /// Why a change was not made.
    fn publish_problem(&self, principal: &Principal, error: PublishError) -> Problem {
        let code = match error {
            PublishError::Forbidden(forbidden) => return self.forbidden(principal, &forbidden),
            PublishError::Reserved => Code::TopicReserved,
            PublishError::Write(WriteError::Overloaded) => {
                let retry_ms = retry::spread(1000, self.broker.clock().draw());
                return Problem::new(Code::Overloaded).with_retry_after_ms(retry_ms);
            }
            PublishError::Write(WriteError::Draining) => {
                return Problem::new(Code::Draining).with_retry_after_ms(self.broker.drain_retry_ms());
            }
            PublishError::Write(WriteError::TooManyOptions) => Code::OptionsTooMany,
            PublishError::Write(WriteError::TooManyTopics) => Code::TopicsTooMany,
            PublishError::Write(WriteError::Full) => Code::StorageFull,
            PublishError::Write(WriteError::Failed) => Code::StorageFailed,
            PublishError::Write(WriteError::Unknown) => Code::OutcomeUnknown,
        };
        let problem = Problem::new(code);
        if problem.status() < 500 {
            return problem;
        }
        problem.with_retry_after_ms(retry::spread(STORAGE_RETRY_MS, self.broker.clock().draw()))
    }
}

fn published(stored: Stored, kept: &[(Topic, MediaType)], batch: bool, replayed: bool) -> Published {
    let cursor_of = |index: usize| Cursor {
        epoch: stored.first.epoch,
        position: tailwire_model::Position(stored.first.position.0 + index as u64),
    };
    let mut body = Vec::with_capacity(112 * kept.len());
    if batch {
        let kept = kept.iter().enumerate();
        let receipts = kept.map(|(index, (topic, media_type))| (cursor_of(index), topic, media_type));
        page::receipts(receipts, stored.time, &mut body);
    } else if let Some((topic, media_type)) = kept.first() {
        page::receipt(stored.first, topic, media_type, stored.time, &mut body);
    }
    let last = cursor_of(kept.len().saturating_sub(1));
    Published { first: stored.first, last, body, batch, replayed }
}

/// The encodings of messages, each by itself and the newest first where it is a feed.
pub(super) fn items_of(format: &DocumentFormat, slices: &Slices, view: View) -> Vec<Bytes> {
    if !format.is_feed {
        return slices.iter().map(|slice| slice.encoded(view)).collect();
    }
    slices.iter().rev().flat_map(|slice| slice.each().rev()).map(|one| one.encoded(view)).collect()
}

/// What a document of encodings takes, roughly.
fn bytes_of(items: &[Bytes]) -> usize {
    128 + items.iter().map(Bytes::len).sum::<usize>()
}

fn start_of(start: query::QueryStart) -> Start {
    match start {
        query::QueryStart::After(cursor) => Start::After(cursor),
        query::QueryStart::Earliest => Start::Earliest,
        query::QueryStart::Last(count) => Start::Last(count),
        // Requests come with their default resolved.
        query::QueryStart::Latest | query::QueryStart::Default => Start::Latest,
    }
}

pub(crate) fn read_problem(error: ReadError) -> Problem {
    match error {
        ReadError::Failed => Problem::new(Code::StorageFailed).with_retry_after_ms(STORAGE_RETRY_MS),
        ReadError::Damaged => Problem::new(Code::StorageDamaged),
        ReadError::Behind => Problem::new(Code::Behind).with_retry_after_ms(STORAGE_RETRY_MS),
    }
}
