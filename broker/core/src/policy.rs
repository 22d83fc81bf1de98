//! The access policy. It is asked once, when a reader opens or a write comes, and never per delivery: a filter
//! is narrowed before its reader opens. When the answers have changed, [`Broker::review`](crate::Broker::review) asks
//! again for the readers that are open.

use tailwire_model::{Filter, Forbidden, Principal, Term, Topic};

/// Decides what principals may do.
pub trait Policy: Send + Sync + 'static {
    /// The part of the filter that may be read.
    ///
    /// # Errors
    /// [`Forbidden`] when none of it may be.
    fn permit_read(&self, principal: &Principal, filter: Filter) -> Result<Filter, Forbidden>;

    /// The topics that may stand in the list of topics; `None` is all of them.
    fn permit_list(&self, principal: &Principal) -> Option<Filter>;

    /// Whether a topic may be published to.
    ///
    /// # Errors
    /// [`Forbidden`] when it may not.
    fn permit_write(&self, principal: &Principal, topic: &Topic) -> Result<(), Forbidden>;

    /// Whether the options of a topic or pattern may be seen and set, or the messages of a topic removed.
    ///
    /// # Errors
    /// [`Forbidden`] when they may not.
    fn permit_manage(&self, principal: &Principal, term: &Term) -> Result<(), Forbidden>;

    /// Whether a principal's credential still counts. One that was revoked ends what it has open, also where nothing is
    /// asked of it.
    fn holds(&self, _principal: &Principal) -> bool {
        true
    }
}

/// Everybody may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn permit_read(&self, _: &Principal, filter: Filter) -> Result<Filter, Forbidden> {
        Ok(filter)
    }

    fn permit_list(&self, _: &Principal) -> Option<Filter> {
        None
    }

    fn permit_write(&self, _: &Principal, _: &Topic) -> Result<(), Forbidden> {
        Ok(())
    }

    fn permit_manage(&self, _: &Principal, _: &Term) -> Result<(), Forbidden> {
        Ok(())
    }
}
