//! The decision hook at work: what a request wants, asked of the application, and the principal with what it grants.

use std::sync::Arc;

use http::{HeaderMap, header};
use tailwire_access::{Access, Hook, HookQuestion};
use tailwire_http::{Authenticated, RequestHead};
use tailwire_model::{Action, Principal, Term, retry};
use tailwire_outbound::{HookClient, HookError, HookHolding};
use tailwire_wire::{Code, Problem, Wanted, wanted::wanted};

use super::{Gate, cookie::is_cookie_heeded};

/// When a request should come back that could not be decided, before jitter.
const RETRY_MS: u64 = 2000;

/// A request that the hook may be asked about.
pub(super) struct UndecidedRequest {
    wanted: Vec<(Action, Term)>,
    /// More than what is wanted now may be asked later, so that what is permitted by now doesn't settle it.
    is_open_ended: bool,
    headers: Vec<(Box<str>, String)>,
}

impl UndecidedRequest {
    /// What there is to decide of a request.
    pub(super) fn of(hook: &Hook, head: &RequestHead<'_>) -> Option<Self> {
        let is_upgrade = head.headers.contains_key(header::UPGRADE);
        let wanted = wanted(head.method.as_str(), head.uri.path(), head.uri.query(), is_upgrade)?;
        let all = |action: Action| hook.topics().iter().map(move |term| (action, term.clone()));
        let (wanted, is_open_ended): (Vec<_>, _) = match wanted {
            Wanted::Terms(action, terms) => (terms.into_iter().map(|term| (action, term)).collect(), false),
            Wanted::Unnamed(action) => (all(action).collect(), true),
            Wanted::Everything => (hook.actions().iter().copied().flat_map(all).collect(), true),
        };
        // Most requests may be about topics that are not the hook's: nothing is copied of those.
        if !wanted.iter().any(|(action, term)| hook.concerns(*action, term)) {
            return None;
        }
        // A page that may be anybody's must not have its visitors' names decide.
        let headers = if is_cookie_heeded(head) { shown(hook, head.headers) } else { Vec::new() };
        Some(Self { wanted, is_open_ended, headers })
    }

    /// The principal with what the application grants to it, who may have to be waited for.
    pub(super) fn decide(self, gate: &Arc<Gate>, client: HookClient, principal: Principal) -> Authenticated {
        let Some(question) = self.question(&gate.access(), &principal) else {
            return Authenticated::Now(Ok(principal));
        };
        if let Some(holding) = client.remembered(&question) {
            return Authenticated::Now(Ok(with(&gate.access(), &principal, &question, holding)));
        }
        let gate = gate.clone();
        Authenticated::Later(Box::pin(async move {
            let holding = client.ask(&question).await.map_err(|error| unavailable(&error))?;
            Ok(with(&gate.access(), &principal, &question, holding))
        }))
    }

    /// What is to be asked, if anything: not what is permitted without an answer.
    fn question(&self, access: &Access, principal: &Principal) -> Option<HookQuestion> {
        let grants = access.grants(principal);
        let is_open = |(action, term): &&(Action, Term)| {
            self.is_open_ended || grants.permitting(*action, term).is_none()
        };
        access.hook()?.question(principal, self.wanted.iter().filter(is_open).cloned(), &self.headers)
    }
}

fn with(access: &Access, principal: &Principal, question: &HookQuestion, holding: HookHolding) -> Principal {
    let HookHolding { answer, until } = holding;
    if answer.subject.is_none() && answer.grants.all().next().is_none() {
        return principal.clone();
    }
    access.with_hook(principal, question.shown(), (*answer).clone(), Some(until))
}

/// The headers that the application gets. Several of one name are one (RFC 9110 §5.3, RFC 9113 §8.2.3).
fn shown(hook: &Hook, headers: &HeaderMap) -> Vec<(Box<str>, String)> {
    let value = |name: &str| {
        let separator = if name == header::COOKIE { "; " } else { ", " };
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(separator)
    };
    let present = hook.headers.iter().filter(|name| headers.contains_key(&***name));
    present.map(|name| (name.clone(), value(name))).collect()
}

fn unavailable(error: &HookError) -> Problem {
    tracing::info!(%error, "a request is not decided");
    let problem = Problem::detailed(Code::AccessUnavailable, "The application that decides can't be asked.");
    problem.with_retry_after_ms(retry::spread(RETRY_MS, rand::random()))
}
