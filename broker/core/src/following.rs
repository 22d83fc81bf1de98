//! A reader's place on a shard: its terms' tails, its subscriber slot, its timer.

use std::sync::Arc;

use smallvec::SmallVec;
use tailwire_model::{Filter, Position, Principal, Term};
use tokio::time::Instant;

use crate::{
    segment::{Slices, View},
    shard::Shard,
    slot::{Sink, SubscriberSlot},
    tail::{Tail, merge},
    timer::Timer,
};

/// A reader's place on a shard, once it follows the tails.
pub(crate) struct Following {
    pub(crate) shard: Arc<Shard>,
    pub(crate) slot: Arc<SubscriberSlot>,
    place: usize,
    terms: SmallVec<[Attached; 1]>,
    pub(crate) timer: Timer,
    pub(crate) last_write: Instant,
}

struct Attached {
    term: Term,
    tail: Arc<Tail>,
    key: usize,
    /// How many of the reader's subscriptions ask for this term.
    count: usize,
}

impl Following {
    /// A place without terms.
    pub(crate) fn new(shard: Arc<Shard>, principal: Principal) -> Self {
        let slot = Arc::new(SubscriberSlot::default());
        let place = shard.enter(slot.clone(), principal);
        let (terms, timer, last_write) = (SmallVec::new(), Timer::default(), Instant::now());
        Self { shard, slot, place, terms, timer, last_write }
    }

    pub(crate) fn attach(&mut self, term: &Term) {
        if let Some(own) = self.terms.iter_mut().find(|own| own.term == *term) {
            own.count += 1;
            return;
        }
        let (tail, key) = self.shard.attach(term, &self.slot);
        self.terms.push(Attached { term: term.clone(), tail, key, count: 1 });
    }

    pub(crate) fn detach(&mut self, term: &Term) {
        let Some(index) = self.terms.iter().position(|own| own.term == *term) else { return };
        self.terms[index].count -= 1;
        if self.terms[index].count == 0 {
            let own = self.terms.swap_remove(index);
            self.shard.detach(&own.term, &own.tail, own.key);
        }
    }

    pub(crate) fn filter(&self) -> Filter {
        Filter::union(self.terms.iter().map(|own| &own.term))
    }

    /// From here on it is this principal's.
    pub(crate) fn assign(&self, principal: Principal) {
        self.shard.assign(self.place, principal);
    }

    /// Lends a sink that has been given everything up to `position`, if that is all there is, and of one term: the order
    /// of several is the reader's to find.
    pub(crate) fn lend(&self, sink: Arc<dyn Sink>, view: View, position: Position) {
        if self.terms.len() == 1 && position == self.shard.dispatched() && !self.shard.is_draining() {
            self.slot.lend(sink, view, position, self.last_write);
        }
    }

    /// The slices of the tails, merged; `None` when one of them doesn't reach back that far.
    pub(crate) fn between(&self, after: Position, upto: Position) -> Option<Slices> {
        let slices: Option<SmallVec<[Slices; 2]>> =
            self.terms.iter().map(|own| own.tail.between(after, upto)).collect();
        slices.map(merge)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        for own in self.terms.drain(..) {
            self.shard.detach(&own.term, &own.tail, own.key);
        }
        self.shard.leave(self.place);
    }
}
