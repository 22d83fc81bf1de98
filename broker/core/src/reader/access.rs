//! Access of a reader: its principal, the part of its filter that is permitted, for how long, and what becomes of it when
//! the policy's answers change.

use std::sync::{Arc, atomic::Ordering};

use tailwire_model::{ByeReason, Filter, Forbidden, Principal};
use tokio::time::{Duration, Instant};

use super::Reader;
use crate::shared::BrokerShared;

/// The permission that a reader was opened with.
pub(crate) struct Permission {
    principal: Principal,
    /// The filter that was asked for, of which the reader has the permitted part. `None` on the shared side of a
    /// connection: there each subscription has asked for its own.
    asked: Option<Arc<Filter>>,
    /// When the principal's credential ends.
    ends: Option<Instant>,
    /// How many reviews there had been when the policy was asked.
    reviews: u64,
}

impl Permission {
    /// Asks the policy. Answers the permission, and the part of the filter that is permitted.
    pub(crate) fn ask(
        shared: &BrokerShared,
        principal: &Principal,
        asked: Filter,
    ) -> Result<(Self, Arc<Filter>), Forbidden> {
        let reviews = shared.reviews.load(Ordering::Acquire);
        let permitted = Arc::new(shared.policy.permit_read(principal, asked.clone())?);
        // Most ask for no more than they may have.
        let asked = if asked == *permitted { permitted.clone() } else { Arc::new(asked) };
        let ends = ends(shared, principal);
        Ok((Self { principal: principal.clone(), asked: Some(asked), ends, reviews }, permitted))
    }

    /// For the shared side of a connection, which asks for nothing itself.
    pub(crate) fn shared(shared: &BrokerShared, principal: &Principal) -> Self {
        let reviews = shared.reviews.load(Ordering::Acquire);
        Self { principal: principal.clone(), asked: None, ends: ends(shared, principal), reviews }
    }
}

/// The end of a principal's credential on the monotonic clock.
fn ends(shared: &BrokerShared, principal: &Principal) -> Option<Instant> {
    let now = (shared.clock.now)();
    let left_ms = principal.ends(now)?.since(now);
    Instant::now().checked_add(Duration::from_millis(left_ms))
}

impl Reader {
    /// Its principal.
    pub const fn principal(&self) -> &Principal {
        &self.permission.principal
    }

    /// The filter that was asked for, of which [`Reader::filter`] is the permitted part.
    pub fn asked(&self) -> &Arc<Filter> {
        self.permission.asked.as_ref().unwrap_or(&self.filter)
    }

    /// What is permitted, where that is less than what was asked for.
    pub fn narrowed(&self) -> Option<&Filter> {
        (**self.asked() != *self.filter).then_some(&*self.filter)
    }

    /// Ends the reader at a time, unless its principal's credential ends before that.
    pub fn end_at(&mut self, end: Instant) {
        let ends = &mut self.permission.ends;
        *ends = Some(ends.map_or(end, |own| own.min(end)));
    }

    /// Gives the reader to another principal, or to the same with a new credential. False if that may read nothing of
    /// what was asked for: the reader must not be polled any more.
    pub fn assign(&mut self, principal: &Principal) -> bool {
        self.permission.principal = principal.clone();
        self.permission.ends = ends(&self.shared, principal);
        if let Some(following) = &self.following {
            following.assign(principal.clone());
        }
        self.ask_again()
    }

    /// Whether the policy has to be asked again, by those who know what was asked for. Says so once.
    pub fn take_review(&self) -> bool {
        self.following.as_ref().is_some_and(|following| following.slot.take_review())
    }

    /// Puts terms in the place of others, on the shared side of a connection.
    pub fn exchange(&mut self, old: &Filter, new: &Filter) {
        if let Some(following) = &mut self.following {
            // Terms that stay keep their tails.
            new.terms().iter().for_each(|term| following.attach(term));
            old.terms().iter().for_each(|term| following.detach(term));
        }
        self.refilter();
    }

    /// Called when the reader has its place on a shard: from here on reviews reach it, and one that has passed meanwhile
    /// counts.
    pub(super) fn review_if_missed(&self) {
        let reviews = self.shared.reviews.load(Ordering::Acquire);
        if let Some(following) = self.following.as_ref().filter(|_| reviews != self.permission.reviews) {
            following.slot.call_for_review();
        }
    }

    /// Why the reader has to end now, if it does. What is permitted is narrowed or widened on the way.
    pub(super) fn permission_ended(&mut self) -> Option<ByeReason> {
        if self.is_expired() {
            return Some(ByeReason::Expired);
        }
        if self.permission.asked.is_none() || !self.take_review() || self.ask_again() {
            return None;
        }
        Some(ByeReason::Revoked)
    }

    /// Whether a page has to end its wait: its client asks again, and then gets the refusal.
    pub(crate) fn is_in_question(&self) -> bool {
        self.is_expired() || self.take_review()
    }

    pub(crate) const fn ends(&self) -> Option<Instant> {
        self.permission.ends
    }

    fn is_expired(&self) -> bool {
        self.permission.ends.is_some_and(|ends| Instant::now() >= ends)
    }

    /// Asks the policy again. False if nothing is permitted.
    fn ask_again(&mut self) -> bool {
        let Some(asked) = &self.permission.asked else { return true };
        let permitted = self.shared.policy.permit_read(&self.permission.principal, (**asked).clone());
        let Ok(permitted) = permitted else { return false };
        if permitted != *self.filter {
            if self.following.is_some() {
                let old = self.filter.clone();
                self.exchange(&old, &permitted);
            }
            self.filter = Arc::new(permitted);
            self.release();
        }
        true
    }
}
