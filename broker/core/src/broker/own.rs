//! The broker as a client of itself: its own topics, whose names begin with `$`, are
//! written and followed here, and no policy is asked.

use std::sync::Arc;

use tailwire_model::Principal;

use super::{Broker, Interest};
use crate::{
    error::{PublishError, ReadError},
    log::{Appended, Group},
    reader::{Permission, Reader},
};

impl Broker {
    /// Publishes for the broker itself, also to its own topics.
    ///
    /// # Errors
    /// As for [`Broker::publish`].
    pub fn publish_own(
        &self,
        group: Group,
    ) -> impl Future<Output = Result<Appended, PublishError>> + Send + use<> {
        self.publish_permitted(Ok(()), group)
    }

    /// Opens a reader for the broker itself. It is nobody's: no review and no expiry ends it.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn open_own(&self, interest: Interest) -> Result<Reader, ReadError> {
        let Interest { filter, start, known, view } = interest;
        let permission = Permission::shared(&self.0, &Principal::ANONYMOUS);
        self.open_permitted((permission, Arc::new(filter)), start, known, view).await
    }

    /// Whether a principal's credential still counts.
    pub fn holds(&self, principal: &Principal) -> bool {
        self.0.policy.holds(principal)
    }
}
