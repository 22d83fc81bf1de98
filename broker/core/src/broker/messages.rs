//! Single messages: one is given, removed, or takes the place of those of its key.

use tailwire_model::{
    Condition, Cursor, Draft, Durability, Filter, Keep, Message, Position, Principal, Term, Topic,
    TrimReason, epochs::CursorValidity, limits::READ_BYTES_MAX,
};

use super::Broker;
use crate::{
    error::{MessageError, PublishError, RemoveError},
    log::{Appended, Group},
    pool::Priority,
    store::{Outcome, Write},
};

impl Broker {
    /// The message that a cursor names.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub async fn message(&self, principal: &Principal, cursor: Cursor) -> Result<Message, MessageError> {
        let message = self.stored_message(cursor).await?;
        self.permit_read(principal, Filter::from(Term::Topic(message.topic().clone())))?;
        Ok(message)
    }

    async fn stored_message(&self, cursor: Cursor) -> Result<Message, MessageError> {
        self.0.arrival_of(cursor).await?;
        let validity = self.0.store.epochs().validity(cursor, self.0.store.newest());
        if validity != CursorValidity::Good || cursor.position == Position::ZERO {
            return Err(MessageError::Unknown);
        }
        let read = self
            .0
            .pool
            .run(READ_BYTES_MAX, Priority::Answer, move |store, _| store.get(cursor.position))
            .await;
        self.0.readable(read)?.ok_or(MessageError::Gone)
    }

    /// Removes the message that a cursor names, and nothing else.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub async fn remove(&self, principal: &Principal, cursor: Cursor) -> Result<(), RemoveError> {
        let message = self.stored_message(cursor).await?;
        let permitted = self.permit_manage(principal, &Term::Topic(message.topic().clone()));
        match self.submit(permitted, Write::Remove(cursor, TrimReason::Deleted)).await? {
            // Another client was faster.
            Outcome::NoMessage => Err(MessageError::Gone.into()),
            _ => Ok(()),
        }
    }

    /// Says of a key of a compacted topic that it is deleted, by a message that takes the place of the key's newest.
    ///
    /// # Errors
    /// As for [`Broker::publish`].
    pub fn delete_key(
        &self,
        principal: &Principal,
        topic: Topic,
        key: String,
    ) -> impl Future<Output = Result<Appended, PublishError>> + Send + use<> {
        let rule = self.rule(&topic);
        let is_compacted = rule.keep == Keep::Compact && rule.durability != Durability::Memory;
        let permitted = self.permit_manage(principal, &Term::Topic(topic.clone()));
        let permitted = permitted.and(if is_compacted { Ok(()) } else { Err(PublishError::NotCompacted) });
        let drafts = vec![Draft::deletion(topic, key)];
        self.publish_permitted(permitted, Group { drafts, key: None, condition: Condition::None })
    }
}
