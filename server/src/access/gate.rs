//! [`Gate`]: the access control that is in force, and that a reload replaces while requests ask it.

use std::{fs, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use tailwire_access::{
    Access, AccessError,
    config::{AccessConfig, Source},
};
use tailwire_core::{Clock, Policy};
use tailwire_model::{Filter, Forbidden, Position, Principal, Term, Topic};
use tailwire_outbound::HookClient;
use tokio::sync::watch;

use super::fetching::Fetching;
use crate::machine;

/// See the module.
pub(crate) struct Gate {
    current: ArcSwap<Access>,
    /// Who asks the application that decides, if one does.
    hook: ArcSwapOption<HookClient>,
    /// Up to which position of the log its records are in force.
    pub(super) applied: watch::Sender<Position>,
    /// Issuers whose keys are fetched.
    pub(super) fetching: Fetching,
}

impl Gate {
    /// Checks the section, and reads its keys.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub(crate) fn new(config: &AccessConfig) -> Result<Self, AccessError> {
        refuse_open_keys(config)?;
        let access = Access::new(config, &mut read_source)?;
        Ok(Self {
            hook: ArcSwapOption::new(client(&access)),
            current: ArcSwap::from_pointee(access),
            applied: watch::Sender::default(),
            fetching: Fetching::default(),
        })
    }

    /// The access control as of now.
    pub(crate) fn access(&self) -> Arc<Access> {
        self.current.load_full()
    }

    /// The client that asks the application, if one is to be asked.
    pub(super) fn hook(&self) -> Option<HookClient> {
        self.hook.load().as_deref().cloned()
    }

    /// Puts another configuration in force. Keys, revocations and tickets stay. The broker has to review its readers then.
    ///
    /// # Errors
    /// As for [`Gate::new`]; then the earlier one goes on.
    pub(crate) fn reload(&self, config: &AccessConfig) -> Result<(), AccessError> {
        refuse_open_keys(config)?;
        let access = self.current.load().reload(config, &mut read_source)?;
        // What was answered to an earlier hook holds no more.
        self.hook.store(client(&access));
        self.current.store(Arc::new(access));
        self.fetching.wake();
        Ok(())
    }
}

fn client(access: &Access) -> Option<Arc<HookClient>> {
    access.hook().map(|hook| Arc::new(HookClient::new(hook, Clock::system_now)))
}

/// Keys that anybody on the way could put others in the place of.
fn refuse_open_keys(config: &AccessConfig) -> Result<(), AccessError> {
    let mut urls = config.issuer.iter().map(|issuer| issuer.jwks.as_deref());
    match urls.position(|url| url.is_some_and(is_open_to_all)) {
        Some(index) => Err(AccessError {
            at: format!("access.issuer[{index}].jwks"),
            problem: "over plain http anybody on the way could put keys of their own there: it is an https URL, or one \
                      of this machine"
                .to_owned(),
        }),
        None => Ok(()),
    }
}

fn is_open_to_all(url: &str) -> bool {
    let Ok(url) = url.parse::<http::Uri>() else { return true };
    let host = url.host().unwrap_or_default();
    let is_own = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|own| own.is_loopback());
    url.scheme_str() != Some("https") && !is_own
}

/// The content of a source, or why it can't be had.
///
/// # Errors
/// A reason for people, without the secret.
#[allow(
    clippy::disallowed_methods,
    reason = "the configuration names variables that it takes secrets from; this is where the process reads them"
)]
pub(crate) fn read_source(source: &Source) -> Result<Vec<u8>, String> {
    match source {
        Source::Inline(text) => Ok(text.clone().into_bytes()),
        Source::File(path) => fs::read(path)
            .map_err(|error| format!("can't read {}: {}", path.display(), machine::describe(&error))),
        Source::Env(name) => match std::env::var_os(name) {
            Some(value) => Ok(value.into_encoded_bytes()),
            None => Err(format!("the variable {name} is not set")),
        },
    }
}

impl Policy for Gate {
    fn permit_read(&self, principal: &Principal, filter: Filter) -> Result<Filter, Forbidden> {
        self.current.load().permit_subscribe(principal, filter)
    }

    fn permit_list(&self, principal: &Principal) -> Option<Filter> {
        Some(self.current.load().permit_list(principal))
    }

    fn permit_write(&self, principal: &Principal, topic: &Topic) -> Result<(), Forbidden> {
        self.current.load().permit_publish(principal, topic)
    }

    fn permit_manage(&self, principal: &Principal, term: &Term) -> Result<(), Forbidden> {
        self.current.load().permit_manage(principal, term)
    }

    fn holds(&self, principal: &Principal) -> bool {
        self.current.load().check(principal, Clock::system_now()).is_ok()
    }
}
