//! The guard, before anything else looks at a request: hosts (against DNS rebinding) and origins (against pages from
//! elsewhere), and the headers by which a browser learns of it (CORS, as in the Fetch standard).

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header},
};
use tailwire_model::Principal;
use tailwire_wire::{Code, Problem};

use super::{
    identity::OriginClass,
    metrics::HttpMetrics,
    reply::{HEAD_BYTES_MAX, ascii, empty, refuse, vary_by},
};
use crate::{
    HttpSettings,
    connection::{caller::Caller, host, listener::ListenerFacts},
};

/// Response headers that scripts of other origins may see: by name for requests with credentials, to which `*` is only a
/// name, and all of them for others.
const EXPOSED: &str = "tailwire-cursor, tailwire-type, tailwire-topic, tailwire-time, tailwire-event, tailwire-key, \
     tailwire-max-age, tailwire-deleted, tailwire-narrowed, link, location, retry-after, ratelimit, ratelimit-policy, preference-applied, idempotency-replayed, etag, *";

/// The CORS headers of a reply, by the request's origin; handlers that write their own head add them too.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cors {
    /// The origin whose pages may see the reply, if it isn't the broker's own.
    origin: Option<HeaderValue>,
    /// Another origin might get another reply.
    varies: bool,
    /// A request with another credential, or none, might get another reply.
    identified: bool,
    /// The origin was allowed by its name, so that its pages may send cookies (Fetch §3.2.5).
    credentials: bool,
}

impl Cors {
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            if self.credentials {
                let permitted = HeaderValue::from_static("true");
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, permitted);
            }
        }
        if self.varies {
            vary_by(headers, "origin");
        }
        if self.identified {
            vary_by(headers, "authorization, cookie");
        }
    }

    /// The reply is for a principal.
    pub(crate) const fn show_to(&mut self, principal: &Principal) {
        self.identified = !principal.is_anonymous();
    }

    /// The reply is for a credential that is refused.
    pub(crate) const fn show_to_nobody(&mut self) {
        self.identified = true;
    }
}

/// The answer to a request that isn't let through. A page of a foreign origin may read why: there is nothing private in it.
pub(crate) fn refused(problem: &Problem) -> Response<Body> {
    let mut response = refuse(problem);
    if problem.code == Code::ForeignOrigin {
        let any = HeaderValue::from_static("*");
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    }
    response
}

/// The headers that every response gets on its way out, also one that comes by another way.
pub(crate) fn finish<B>(
    settings: &HttpSettings,
    metrics: &HttpMetrics,
    response: &mut Response<B>,
    cors: &Cors,
) {
    cors.apply(response.headers_mut());
    if response.status() == StatusCode::UNAUTHORIZED
        && let Some(challenge) = settings.authenticator.challenge()
    {
        response.headers_mut().entry(header::WWW_AUTHENTICATE).or_insert(challenge);
    }
    metrics.responded(response.status().as_u16());
}

/// The answer to a request whose credential is refused: what is wrong with it stands in the challenge (RFC 6750 §3).
pub(crate) fn unidentified(settings: &HttpSettings, problem: &Problem) -> Response<Body> {
    let mut response = refuse(problem);
    if matches!(problem.code, Code::TokenInvalid | Code::TokenExpired)
        && let Some(challenge) = settings.authenticator.challenge()
    {
        let challenge = challenge.to_str().unwrap_or("Bearer");
        let separator = if challenge.contains('=') { ", " } else { " " };
        let code = problem.code.as_str();
        let challenge =
            format!("{challenge}{separator}error=\"invalid_token\", error_description=\"{code}\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, ascii(challenge.as_bytes()));
    }
    response
}

/// Whether a request is let through at all: the CORS headers of its reply, and the class of its origin.
/// `any_host`: whatever host it is for.
pub(crate) fn check(
    settings: &HttpSettings,
    at: &ListenerFacts,
    request: &Request,
    caller: &Caller,
    any_host: bool,
) -> Result<(Cors, OriginClass), Problem> {
    let headers = request.headers();
    for name in [header::HOST, header::ORIGIN] {
        if headers.get_all(&name).iter().nth(1).is_some() {
            return Err(Problem::detailed(
                Code::RequestInvalid,
                format!("The header {name} stands more than once."),
            ));
        }
    }
    let host = request
        .uri()
        .authority()
        .map(axum::http::uri::Authority::as_str)
        .or_else(|| text(headers, &header::HOST));
    if host.is_none() && request.version() == Version::HTTP_11 {
        return Err(Problem::detailed(Code::RequestInvalid, "A request of HTTP/1.1 has a Host header."));
    }
    let named = host.map(host::parse);
    if named == Some(None) {
        return Err(Problem::detailed(Code::RequestInvalid, "The host is no host with a port."));
    }
    // A browser always says where it believes to be; only other clients, of HTTP/1.0, may not.
    if !any_host
        && let Some(text) = host
        && let Some(parsed) = named.flatten()
        && !is_answered(settings, at, text, parsed.is_loopback())
    {
        return Err(foreign_host(settings, at));
    }
    let varies = !settings.allow_origins.is_empty();
    let cors = |origin| Cors { origin, varies, ..Cors::default() };
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok((cors(None), OriginClass::Absent)) };
    let own = host.is_some_and(|host| is_same_origin(origin.as_bytes(), host, caller.is_secure));
    if own || settings.public_origins.iter().any(|public| origin == public) {
        return Ok((cors(None), OriginClass::Own));
    }
    if settings.allow_origins.iter().any(|allowed| origin == allowed) {
        let credentials = settings.credentials.is_some();
        return Ok((Cors { credentials, ..cors(Some(origin.clone())) }, OriginClass::Allowed));
    }
    if settings.allow_origins.iter().any(|allowed| allowed == "*") {
        return Ok((cors(Some(origin.clone())), OriginClass::Any));
    }
    let upgrade = headers.contains_key(header::UPGRADE);
    if request.method().is_safe() && !upgrade && !is_preflight(request) {
        // The browser keeps the reply from the page, because nothing says that it may see it.
        return Ok((cors(None), OriginClass::Foreign));
    }
    let origin = origin.to_str().unwrap_or("?").to_owned();
    Err(Problem::detailed(
        Code::ForeignOrigin,
        format!(
            "The origin {origin} is not this broker's own. To let its pages in, start the broker with --allow-origin {origin}."
        ),
    ))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().unwrap_or("\u{fffd}"))
}

/// Whether requests for a host are answered: where public URLs are set, for theirs, and for loopback, where tools of this
/// machine ask; without them, a listener that others reach answers for any. Operators reach their listener by none of these names.
fn is_answered(settings: &HttpSettings, at: &ListenerFacts, host: &str, is_loopback: bool) -> bool {
    let public: &[String] = if at.rules.operations { &[] } else { &settings.public_origins };
    (public.is_empty() && !at.is_loopback)
        || is_loopback
        || public.iter().any(|origin| is_same_origin(origin.as_bytes(), host, false))
}

fn foreign_host(settings: &HttpSettings, at: &ListenerFacts) -> Problem {
    let detail = if settings.public_origins.is_empty() || at.rules.operations {
        "This listener is on loopback, and answers only requests for a loopback host. \
         If it stands behind a proxy, name the site's address in public_urls (--public-url)."
    } else {
        "This broker answers only requests for the hosts of its public_urls (--public-url), and for loopback."
    };
    Problem::detailed(Code::ForeignHost, detail)
}

/// Whether an origin names the host that the request was made to. Where TLS isn't known of, the scheme may differ: a proxy may
/// have taken it off. With it, a page of `http` is another's: anybody between may have written it.
fn is_same_origin(origin: &[u8], host: &str, is_secure: bool) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    if is_secure && scheme != "https" {
        return false;
    }
    let default = if scheme == "https" { ":443" } else { ":80" };
    let strip = |text: &str| text.to_ascii_lowercase().trim_end_matches(default).to_owned();
    strip(authority) == strip(host)
}

pub(crate) fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

pub(crate) fn preflight(request: &Request) -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, QUERY");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let asked = request.headers().get_all(header::ACCESS_CONTROL_REQUEST_HEADERS);
    if asked.iter().map(HeaderValue::len).sum::<usize>() <= HEAD_BYTES_MAX / 2 {
        asked.iter().for_each(|asked| {
            headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        });
    } else {
        // A head has no room for so many names. Only `Authorization` is not among any (Fetch standard, CORS protocol).
        let any = HeaderValue::from_static("*, authorization");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, any);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}
