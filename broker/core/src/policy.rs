//! Who asks, and what they may. Every request has a principal; one policy is asked, at open and at publish, never per
//! delivery. Access narrows the filter before a reader opens.

pub use tailwire_model::Principal;
use tailwire_model::{Filter, Term, Topic};

/// The principal may not do that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not permitted")]
pub struct Forbidden;

/// Decides what principals may do.
pub trait Policy: Send + Sync + 'static {
    /// The part of the filter that may be read.
    ///
    /// # Errors
    /// [`Forbidden`] when none of it may be.
    fn permit_read(&self, principal: &Principal, filter: Filter) -> Result<Filter, Forbidden>;

    /// Whether a topic may be published to, or deleted.
    ///
    /// # Errors
    /// [`Forbidden`] when it may not.
    fn permit_write(&self, principal: &Principal, topic: &Topic) -> Result<(), Forbidden>;

    /// Whether the options of a topic or pattern may be set.
    ///
    /// # Errors
    /// [`Forbidden`] when they may not.
    fn permit_options(&self, principal: &Principal, term: &Term) -> Result<(), Forbidden>;
}

/// Everybody may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn permit_read(&self, _: &Principal, filter: Filter) -> Result<Filter, Forbidden> {
        Ok(filter)
    }

    fn permit_write(&self, _: &Principal, _: &Topic) -> Result<(), Forbidden> {
        Ok(())
    }

    fn permit_options(&self, _: &Principal, _: &Term) -> Result<(), Forbidden> {
        Ok(())
    }
}
