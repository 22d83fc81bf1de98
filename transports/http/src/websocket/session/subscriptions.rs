//! How subscriptions of a session begin and end.

use tailwire_core::Reader;
use tailwire_model::limits::{SOCKET_SUBSCRIPTIONS_MAX, SOCKET_TERMS_MAX};
use tailwire_wire::{
    Code, Problem, line,
    request::{Id, Subscribe},
};

use super::{
    super::requests::{self, Opening},
    Session, Stage, Subscription,
};

impl Session {
    /// A subscription that has yet to open takes its id.
    pub(super) fn begin(&mut self, id: Id, terms: usize) -> Opening {
        self.generations += 1;
        let generation = self.generations;
        self.subscriptions.push(Subscription { id: id.clone(), generation, terms, stage: Stage::Opening });
        Opening { id, generation }
    }

    /// A subscription's reader is open: its `ok` comes before its lines.
    pub(super) fn opened(&mut self, opening: &Opening, mut reader: Box<Reader>) {
        let mut out = Vec::new();
        line::ok_cursor(&opening.id, reader.cursor(), &mut out);
        self.say(&out);
        // It may have been ended again meanwhile.
        if let Some(own) = self.subscriptions.iter_mut().find(|own| own.generation == opening.generation) {
            reader.follow(self.shard);
            // The session may have become somebody else's meanwhile.
            let is_permitted = *reader.principal() == self.principal || reader.assign(&self.principal);
            own.stage = Stage::CatchingUp(reader);
            if !is_permitted {
                self.revoked();
            }
        }
    }

    pub(super) fn subscribe(&mut self, id: Id, ask: Subscribe) {
        let is_url = self.unpermitted.is_some() && id == Id::url();
        if is_url || self.subscriptions.iter().any(|own| own.id == id) {
            return self.refuse(Some(&id), &Problem::new(Code::SubscriptionExists));
        }
        if self.subscriptions.len() >= SOCKET_SUBSCRIPTIONS_MAX {
            return self.refuse(Some(&id), &Problem::new(Code::SubscriptionsTooMany));
        }
        let terms = self.subscriptions.iter().map(|own| own.terms).sum::<usize>() + ask.filter.terms().len();
        if terms > SOCKET_TERMS_MAX {
            return self.refuse(Some(&id), &Problem::new(Code::FilterTooLarge));
        }
        let opening = self.begin(id, ask.filter.terms().len());
        let requests = self.requests.get_or_insert_default();
        requests::subscribe(&self.app, &self.principal, opening, ask, requests);
    }

    pub(super) fn unsubscribe(&mut self, id: &Id, sub: &Id) {
        let Some(index) = self.subscriptions.iter().position(|own| own.id == *sub) else {
            return self.refuse(Some(id), &Problem::new(Code::SubscriptionUnknown));
        };
        let subscription = self.subscriptions.swap_remove(index);
        if let Stage::Live { permitted, .. } = subscription.stage {
            self.live.part(&permitted);
        }
        let mut out = Vec::new();
        line::ok(id, b"", &mut out);
        self.say(&out);
    }
}
