//! Authentication of a request: where credentials travel, and the answer to one that is refused.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use tailwire_access::{Access, Refused};
use tailwire_core::Clock;
use tailwire_http::{Authenticated, Authenticator, OriginClass, RequestHead, bearer, ticket_of};
use tailwire_model::{Principal, retry};
use tailwire_wire::{Code, Problem};
use tracing::info;

use super::Gate;

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
}

impl Authenticator for Doorkeeper {
    fn request(&self, head: &RequestHead<'_>) -> Authenticated {
        match bearer(head.headers) {
            Ok(Some(credential)) => self.token(credential),
            Ok(None) => Authenticated::Now(self.find(head)),
            Err(problem) => Authenticated::Now(Err(problem)),
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

    fn challenge(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("Bearer"))
    }
}

impl Doorkeeper {
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
                None => Ok(Principal::ANONYMOUS),
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
    let header = access.header_of(head.peer?).filter(|_| head.origin != OriginClass::Any)?;
    let mut values = head.headers.get_all(header).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Some(""),
        (None, _) => None,
    }
}

/// A browser sends a cookie with whatever page asks. So it speaks for its user only where a page can do no harm without
/// seeing the answer, and where the page is known.
fn is_cookie_heeded(head: &RequestHead<'_>) -> bool {
    let is_known = matches!(head.origin, OriginClass::Own | OriginClass::Allowed);
    is_known || head.method.is_safe() && !head.headers.contains_key(header::UPGRADE)
}

/// The value of a cookie (RFC 6265 §5.4). A browser sends several in one header, and HTTP/2 may have several headers.
fn cookie_named<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(own, value)| (own == name && !value.is_empty()).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; xt=no; t=; n"));
        headers.append(header::COOKIE, HeaderValue::from_static("c=d;t=e=f"));
        assert_eq!(cookie_named(&headers, "t"), Some("e=f"));
        assert_eq!(cookie_named(&headers, "x"), None);
    }
}
