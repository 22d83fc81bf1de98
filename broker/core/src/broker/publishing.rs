//! Publishing: what is permitted and within its quotas is handed to the order.

use tailwire_model::{Principal, Quota, Topic, Usage};

use super::Broker;
use crate::{
    error::PublishError,
    log::{Appended, Group},
    order::WriteError,
    quotas::QuotaShare,
    store::{Outcome, Write},
};

impl Broker {
    /// Publishes a group. It has its place in the queue when this returns, so that publishes that are handed in one
    /// after the other are appended so; the future answers once it is durable.
    ///
    /// # Errors
    /// A [`PublishError`]; of all but [`WriteError::Unknown`], nothing was published.
    pub fn publish(
        &self,
        principal: &Principal,
        group: Group,
    ) -> impl Future<Output = Result<Appended, PublishError>> + Send + use<> {
        let permitted =
            group.drafts.iter().try_for_each(|draft| self.permit_publish(principal, &draft.topic));
        let admitted = permitted.and_then(|()| Ok(self.0.quotas.admit(&group, &*self.0.store)?));
        let (permitted, share) = match admitted {
            Ok(share) => (Ok(()), share),
            Err(error) => (Err(error), QuotaShare::default()),
        };
        let answer = self.publish_permitted(permitted, group);
        async {
            let _share = share;
            answer.await
        }
    }

    pub(super) fn publish_permitted(
        &self,
        permitted: Result<(), PublishError>,
        group: Group,
    ) -> impl Future<Output = Result<Appended, PublishError>> + Send + use<> {
        let outcome = self.submit(permitted, Write::Publish(group));
        async {
            match outcome.await? {
                Outcome::Published(appended) => Ok(appended),
                // An order answers a publish with what became of it.
                Outcome::Done | Outcome::NoMessage | Outcome::TooManyOptions | Outcome::TooManyTopics => {
                    Err(WriteError::Unknown.into())
                }
            }
        }
    }

    /// Each quota, and what its topics have by what is committed.
    pub fn quotas(&self) -> Vec<(Quota, Usage)> {
        self.0.quotas.usage(&*self.0.store)
    }

    /// Whether a topic was ever written to, by what is committed.
    pub fn has_topic(&self, topic: &Topic) -> bool {
        self.0.store.has_topic(topic)
    }
}
