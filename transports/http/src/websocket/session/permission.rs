//! Whose a session is, and what of its subscriptions is permitted: by the policy as of its opening, until that has changed
//! or the client shows another credential.

use std::sync::Arc;

use tailwire_model::{Bye, ByeReason, Principal, limits::PERMISSION_RETRY_MS, retry};
use tailwire_wire::{line, request::Id};

use super::{Session, Stage};

impl Session {
    /// Gives every subscription what its principal is permitted of what it has asked for, by the policy as of now. The
    /// connection ends if one of them is left with nothing: its client hears which when it comes back.
    pub(super) fn review(&mut self) {
        let Self { app, principal, live, subscriptions, .. } = self;
        let is_permitted = subscriptions.iter_mut().all(|own| match &mut own.stage {
            // It is given its principal when it has opened.
            Stage::Opening => true,
            Stage::CatchingUp(reader) => reader.assign(principal),
            Stage::Live { asked, permitted } => {
                let Ok(now) = app.broker.permit_read(principal, (**asked).clone()) else { return false };
                if now != **permitted {
                    live.exchange(permitted, &now);
                    *permitted = Arc::new(now);
                }
                true
            }
        });
        if !is_permitted && self.ending.is_none() {
            self.revoked();
        }
    }

    pub(super) fn revoked(&mut self) {
        let retry_after_ms = retry::spread(PERMISSION_RETRY_MS, self.app.broker.clock().draw());
        self.bye(Bye { reason: ByeReason::Revoked, retry_after_ms });
    }

    /// Another principal, or the same with a new credential.
    pub(super) fn identified(&mut self, id: &Id, principal: Principal) {
        self.principal = principal;
        self.live.assign(&self.principal);
        let mut out = Vec::new();
        line::ok(id, b"", &mut out);
        self.say(&out);
        self.review();
        if let Some(ask) = self.unpermitted.take().filter(|_| self.ending.is_none()) {
            self.subscribe(Id::url(), *ask);
        }
    }
}
