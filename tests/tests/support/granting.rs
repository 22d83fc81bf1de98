//! A policy and an authenticator's rule for tests: a principal may do what it was granted, and a token is a name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tailwire_core::Policy;
use tailwire_model::{
    Action, Credential, Expiry, Filter, Forbidden, Grants, Identity, Principal, Term, Timestamp, Topic,
};

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Granting(Arc<Mutex<HashMap<String, Grants>>>);

impl Granting {
    /// The grants of a principal from here on, as `subscribe chat/**`.
    pub(crate) fn grant(&self, principal: &Principal, granted: &[&str]) {
        let grants = Grants::new(granted.iter().map(|words| {
            let (action, term) = words.split_once(' ').expect("an action and a term");
            (Action::named(action).expect("an action"), Term::parse(term).expect("a term"))
        }));
        self.0.lock().unwrap().insert(principal.scope().to_owned(), grants);
    }

    fn of(&self, principal: &Principal) -> Grants {
        self.0.lock().unwrap().get(principal.scope()).cloned().unwrap_or_default()
    }
}

impl Policy for Granting {
    fn permit_read(&self, principal: &Principal, filter: Filter) -> Result<Filter, Forbidden> {
        self.of(principal).permit_subscribe(filter)
    }

    fn permit_list(&self, principal: &Principal) -> Option<Filter> {
        Some(Filter::union(self.of(principal).terms(Action::Subscribe)))
    }

    fn permit_write(&self, principal: &Principal, topic: &Topic) -> Result<(), Forbidden> {
        self.of(principal).permit_publish(topic)
    }

    fn permit_manage(&self, principal: &Principal, term: &Term) -> Result<(), Forbidden> {
        self.of(principal).permit_manage(term)
    }
}

/// Somebody of that name, until then.
pub(crate) fn principal(name: &str, expires: Option<Timestamp>) -> Principal {
    Principal::new(Credential {
        identity: Identity::Key { id: name.into(), revision: 0 },
        expiry: expires.map(|at| Expiry { at, leeway_ms: 0 }),
        claims: Vec::new(),
        grants: Grants::NONE,
    })
}
