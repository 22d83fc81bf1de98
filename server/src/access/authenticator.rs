//! Authentication of a request: where credentials travel, and the answer to one that is refused.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use tailwire_access::{Access, Refused};
use tailwire_core::Clock;
use tailwire_http::{
    Authenticated, Authenticator, OriginClass, PROTECTED_RESOURCE, RequestHead, bearer, ticket_of,
};
use tailwire_model::{Principal, retry};
use tailwire_outbound::HookClient;
use tailwire_wire::{Code, Problem};
use tracing::info;

use crate::config::PublicUrl;

use super::{
    Gate,
    certificate::name_of,
    cookie::{cookie_named, is_cookie_heeded},
    deciding::UndecidedRequest,
};

/// So long after its end, a cookie that comes with an `EventSource` may be about to be replaced.
const GRACE_MS: u64 = 60_000;
/// When it should come back then, before jitter.
const GRACE_RETRY_MS: u64 = 2000;

/// How long a request waits for keys that are being fetched.
const KEYS_WAIT: Duration = Duration::from_secs(3);

/// Asks the gate for everybody who comes.
#[derive(Clone)]
pub(crate) struct Doorkeeper {
    pub(crate) gate: Arc<Gate>,
    /// Whether the answer says why: the caller seems to be the operator.
    pub(crate) explains: bool,
    /// What a request without a credential is answered with.
    pub(crate) challenge: HeaderValue,
}

impl Authenticator for Doorkeeper {
    fn request(&self, head: &RequestHead<'_>) -> Authenticated {
        let shown = match bearer(head.headers) {
            Ok(Some(credential)) => self.token(credential),
            Ok(None) => Authenticated::Now(self.find(head)),
            Err(problem) => Authenticated::Now(Err(problem)),
        };
        match self.gate.hook() {
            None => shown,
            Some(client) => self.decided(shown, head, client),
        }
    }

    fn token(&self, token: &str) -> Authenticated {
        match self.gate.access().bearer(token, Clock::system_now()) {
            Ok(principal) => Authenticated::Now(Ok(principal)),
            Err(refused) => match refused.refresh().and_then(|issuer| self.gate.fetching.want(issuer)) {
                None => Authenticated::Now(Err(self.problem(&refused))),
                Some(mut fetched) => {
                    let (own, token) = (self.clone(), token.to_owned());
                    Authenticated::Later(Box::pin(async move {
                        let _ = tokio::time::timeout(KEYS_WAIT, fetched.changed()).await;
                        let found = own.gate.access().bearer(&token, Clock::system_now());
                        found.map_err(|refused| own.problem(&refused))
                    }))
                }
            },
        }
    }

    fn certificate(&self, der: &[u8]) -> Option<Arc<str>> {
        name_of(der).map(Into::into)
    }

    fn challenge(&self) -> Option<HeaderValue> {
        Some(self.challenge.clone())
    }
}

impl Doorkeeper {
    /// The challenge of a broker that clients reach by this URL, if by one: it says where they find out who gives credentials
    /// (RFC 9728 §5.1).
    pub(crate) fn challenge_at(public_url: Option<&PublicUrl>) -> HeaderValue {
        let located = public_url.map(|public| {
            format!("Bearer resource_metadata=\"{}{PROTECTED_RESOURCE}{}\"", public.origin, public.path())
        });
        let challenge = located.and_then(|text| HeaderValue::try_from(text).ok());
        challenge.unwrap_or(HeaderValue::from_static("Bearer"))
    }

    /// What the application has a say in.
    fn decided(&self, shown: Authenticated, head: &RequestHead<'_>, client: HookClient) -> Authenticated {
        let access = self.gate.access();
        let Some(undecided) = access.hook().and_then(|hook| UndecidedRequest::of(hook, head)) else {
            return shown;
        };
        match shown {
            Authenticated::Now(Ok(principal)) => undecided.decide(&self.gate, client, principal),
            Authenticated::Now(Err(problem)) => Authenticated::Now(Err(problem)),
            Authenticated::Later(shown) => {
                let gate = self.gate.clone();
                let decided = async move { undecided.decide(&gate, client, shown.await?).wait().await };
                Authenticated::Later(Box::pin(decided))
            }
        }
    }

    /// Without `Authorization`: a ticket, which was made for this request, wins over the cookie, which comes by itself.
    fn find(&self, head: &RequestHead<'_>) -> Result<Principal, Problem> {
        let (access, now) = (self.gate.access(), Clock::system_now());
        if let Some(ticket) = ticket_of(head.uri) {
            return access.redeem_ticket(ticket, now).map_err(|refused| self.problem(&refused));
        }
        let cookie = access.cookie().filter(|_| is_cookie_heeded(head));
        let Some(token) = cookie.and_then(|name| cookie_named(head.headers, name)) else {
            return match trusted_name(&access, head) {
                Some(name) => access.trusted_header(name).map_err(|refused| self.problem(&refused)),
                // A browser shows it by itself, whatever page asks.
                None => match head.certificate.filter(|_| head.origin != OriginClass::Any) {
                    Some(name) => access.certificate(name).map_err(|refused| self.problem(&refused)),
                    None => Ok(Principal::ANONYMOUS),
                },
            };
        };
        access.bearer(token, now).map_err(|refused| {
            let problem = self.problem(&refused);
            match refused.expired_ago_ms() {
                Some(ago_ms) if ago_ms < GRACE_MS => {
                    problem.with_retry_after_ms(retry::spread(GRACE_RETRY_MS, rand::random()))
                }
                _ => problem,
            }
        })
    }

    fn problem(&self, refused: &Refused) -> Problem {
        let code = Code::ALL.iter().find(|code| code.as_str() == refused.code()).copied();
        let code = code.unwrap_or(Code::TokenInvalid);
        info!(code = code.as_str(), reason = %refused, "a credential is refused");
        let problem =
            if self.explains { Problem::detailed(code, refused.to_string()) } else { Problem::new(code) };
        match code {
            Code::AccessUnavailable => {
                problem.with_retry_after_ms(retry::spread(GRACE_RETRY_MS, rand::random()))
            }
            _ => problem,
        }
    }
}

/// The user whom a trusted proxy names. The proxy knows its users by a cookie, mostly: so the name counts for nothing
/// where the page that asks may be any. Twice is none that holds.
fn trusted_name<'a>(access: &Access, head: &RequestHead<'a>) -> Option<&'a str> {
    let header = access.header_of(head.caller.peer?).filter(|_| head.origin != OriginClass::Any)?;
    let mut values = head.headers.get_all(header).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Some(""),
        (None, _) => None,
    }
}
