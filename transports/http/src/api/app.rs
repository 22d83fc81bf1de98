//! Every request that is answered once, whatever carries it: the HTTP handlers and the lines of a WebSocket are two
//! faces of these functions, so that both have the same fields, the same bounds and the same codes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tailwire_core::{
    Broker, Interest, MessageError, PublishError, ReadError, Reader, ReaderError, RemoveError, Start, View,
    WriteError,
    log::{Appended, Group, Stored},
};
use tailwire_model::{
    Cursor, Filter, Forbidden, IdempotencyKey, MediaType, Message, Options, Principal, Term, Topic,
    limits::STORAGE_RETRY_MS, retry,
};
use tailwire_wire::{
    Code, Problem, Publish, QueryStart, options, page, page::TopicEntry, query::TopicsRequest,
};

use super::{documents::Documents, metrics::HttpMetrics};
use crate::{
    HttpSettings,
    connection::{listener::ListenerFacts, pinned::Account},
    delivery::polls::Polls,
    limiter::Limiter,
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
    pub(crate) limiter: Limiter,
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

impl App {
    /// The shard for the next stream: each in turn.
    pub(crate) fn pick_shard(&self) -> usize {
        self.next_shard.fetch_add(1, Ordering::Relaxed) % self.broker.shards()
    }

    /// Publishes. The messages have their place in the queue when this returns.
    ///
    /// # Errors
    /// The client has published more than it may.
    pub(crate) fn publish(
        self: &Arc<Self>,
        principal: &Principal,
        account: &Account,
        publish: Publish,
    ) -> Result<impl Future<Output = Result<Published, Problem>> + Send + use<>, Problem> {
        self.count_publish(principal, account, &publish.drafts)?;
        let key = publish.idempotency_key.as_ref().map(|key| IdempotencyKey {
            scoped: format!("{}\n{key}", principal.scope()),
            request: publish.fingerprint(),
        });
        let Publish { drafts, batch, condition, .. } = publish;
        let kept = drafts.iter().map(|draft| (draft.topic.clone(), draft.media_type.clone()));
        let kept: Vec<(Topic, MediaType)> = kept.collect();
        let answer = self.broker.publish(principal, Group { drafts, key, condition });
        let (app, principal) = (self.clone(), principal.clone());
        Ok(async move {
            match answer.await.map_err(|error| app.publish_problem(&principal, error))? {
                Appended::Stored(stored) => Ok(published(stored, &kept, batch, false)),
                Appended::Replayed(stored) => Ok(published(stored, &kept, batch, true)),
                Appended::KeyReused => Err(Problem::new(Code::IdempotencyKeyReused)),
                Appended::ConditionFailed(cursor) => {
                    Err(Problem::new(Code::ConditionFailed).with_cursor(cursor))
                }
            }
        })
    }

    /// Removes a topic's messages.
    pub(crate) async fn delete(&self, principal: &Principal, topic: Topic) -> Result<(), Problem> {
        let deleted = self.broker.delete(principal, topic.clone()).await;
        deleted.map_err(|error| self.publish_problem(principal, error))?;
        tracing::info!(topic = topic.as_str(), by = ?principal.identity(), "a topic's messages were deleted");
        Ok(())
    }

    /// Deletes a key of a compacted topic. Gives the cursor of the message that says so.
    pub(crate) async fn delete_key(
        &self,
        principal: &Principal,
        topic: Topic,
        key: String,
    ) -> Result<Cursor, Problem> {
        let deleted = self.broker.delete_key(principal, topic.clone(), key);
        match deleted.await.map_err(|error| self.publish_problem(principal, error))? {
            Appended::Stored(stored) => {
                let by = principal.identity();
                tracing::info!(topic = topic.as_str(), ?by, "a key was deleted");
                Ok(stored.first)
            }
            // It has neither a key nor a condition.
            _ => Err(Problem::new(Code::Internal)),
        }
    }

    /// Removes one message.
    pub(crate) async fn remove(&self, principal: &Principal, cursor: Cursor) -> Result<(), Problem> {
        self.broker.remove(principal, cursor).await.map_err(|error| match error {
            RemoveError::Message(error) => self.message_problem(principal, error),
            RemoveError::Write(error) => self.publish_problem(principal, error),
        })?;
        tracing::info!(%cursor, by = ?principal.identity(), "a message was deleted");
        Ok(())
    }

    /// Opens a reader.
    pub(crate) async fn open(
        &self,
        principal: &Principal,
        filter: Filter,
        start: QueryStart,
        known: Option<Cursor>,
        view: View,
    ) -> Result<Reader, Problem> {
        let interest = Interest { filter, start: self.start_of(start), known, view };
        self.broker.open(principal, interest).await.map_err(|error| self.reader_problem(principal, error))
    }

    fn start_of(&self, start: QueryStart) -> Start {
        match start {
            QueryStart::After(cursor) => Start::After(cursor),
            QueryStart::Since(moment) => Start::Since(moment.time((self.broker.clock().now)())),
            QueryStart::Earliest => Start::Earliest,
            QueryStart::Last(count) => Start::Last(count),
            // Requests come with their default resolved, and what lies before a cursor is not read onwards.
            QueryStart::Latest | QueryStart::Default | QueryStart::Before(_) => Start::Latest,
        }
    }

    /// Why nothing can be read.
    pub(super) fn reader_problem(&self, principal: &Principal, error: ReaderError) -> Problem {
        match error {
            ReaderError::Forbidden(forbidden) => self.forbidden(principal, &forbidden),
            ReaderError::Read(error) => read_problem(error),
        }
    }

    /// One stored message.
    pub(crate) async fn message(&self, principal: &Principal, cursor: Cursor) -> Result<Message, Problem> {
        self.broker.message(principal, cursor).await.map_err(|error| self.message_problem(principal, error))
    }

    fn message_problem(&self, principal: &Principal, error: MessageError) -> Problem {
        match error {
            MessageError::Unknown => Problem::new(Code::MessageNotFound),
            MessageError::Gone => Problem::new(Code::MessageGone),
            MessageError::Forbidden(forbidden) => self.forbidden(principal, &forbidden),
            MessageError::Read(error) => read_problem(error),
        }
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
            PublishError::Quota(exceeded) => return self.over_quota(&exceeded),
            PublishError::Reserved => Code::TopicReserved,
            PublishError::NotCompacted => Code::TopicNotCompacted,
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

pub(crate) fn read_problem(error: ReadError) -> Problem {
    match error {
        ReadError::Failed => Problem::new(Code::StorageFailed).with_retry_after_ms(STORAGE_RETRY_MS),
        ReadError::Damaged => Problem::new(Code::StorageDamaged),
        ReadError::Behind => Problem::new(Code::Behind).with_retry_after_ms(STORAGE_RETRY_MS),
    }
}
