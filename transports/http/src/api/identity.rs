//! The identity of a request. One place decides it, before any handler and on every path: [`Authenticator::request`] for
//! what comes with a head, [`Authenticator::token`] for the `authenticate` line of a WebSocket.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use tailwire_model::Principal;
use tailwire_wire::{Code, Problem};

use crate::connection::caller::Caller;

/// Finds the principal of a request.
pub trait Authenticator: Send + Sync + 'static {
    /// The principal that a request's credentials name; anonymous without any. A problem is 401 or 403, or 503 where
    /// nobody can tell at the moment.
    fn request(&self, head: &RequestHead<'_>) -> Authenticated;

    /// The principal that a token names, as it comes in an `authenticate` line.
    fn token(&self, token: &str) -> Authenticated;

    /// The name of a client by the certificate that it has shown, and that was verified, as DER.
    fn certificate(&self, _: &[u8]) -> Option<Arc<str>> {
        None
    }

    /// The `WWW-Authenticate` of a 401 (RFC 9110 §11.6.1). `None` where there are no credentials: then nobody is asked for
    /// any, and forbidden is 403 also for anonymous.
    fn challenge(&self) -> Option<HeaderValue>;
}

/// The parts of a request that an authenticator looks at.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The class of the page that sends the request.
    pub origin: OriginClass,
    /// Who sends it, by address.
    pub caller: Caller,
    /// The name in the client's certificate.
    pub certificate: Option<&'a str>,
}

/// The class of a page that sends a request, by its `Origin`. A foreign one can only read, and doesn't see the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginClass {
    /// Not said: no browser, or a request that browsers make without.
    Absent,
    /// The broker's own.
    Own,
    /// One that was allowed by its name.
    Allowed,
    /// One among all, which are allowed: it gets what anybody gets, and no cookie speaks for its users.
    Any,
    /// Another.
    Foreign,
}

/// The answer of an [`Authenticator`].
pub enum Authenticated {
    /// Known at once, as nearly always.
    Now(Result<Principal, Problem>),
    /// Somebody else has to be asked first.
    Later(BoxFuture<'static, Result<Principal, Problem>>),
}

impl Authenticated {
    /// The answer, whenever it comes.
    pub async fn wait(self) -> Result<Principal, Problem> {
        match self {
            Self::Now(result) => result,
            Self::Later(result) => result.await,
        }
    }
}

/// The token or key behind `Authorization: Bearer` (RFC 6750 §2.1). Other schemes are somebody else's, as a proxy's, and
/// prove nothing here.
///
/// # Errors
/// `token-invalid`, where the header stands more than once: nobody can tell which of them is meant.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        let detail = "The header Authorization stands more than once.";
        return Err(Problem::detailed(Code::TokenInvalid, detail));
    }
    let Some(value) = first.and_then(|value| value.to_str().ok()) else { return Ok(None) };
    let Some((scheme, credential)) = value.split_once(' ') else { return Ok(None) };
    Ok(scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim()))
}

/// Without access control: everybody is anonymous, and no token is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl Authenticator for NoCredentials {
    fn request(&self, _: &RequestHead<'_>) -> Authenticated {
        Authenticated::Now(Ok(Principal::ANONYMOUS))
    }

    fn token(&self, _: &str) -> Authenticated {
        Authenticated::Now(Err(Problem::new(Code::Unauthorized)))
    }

    fn challenge(&self) -> Option<HeaderValue> {
        None
    }
}
