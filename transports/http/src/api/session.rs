//! `/session` and `/tickets`: ways to show a credential for clients that can set no header. A browser keeps a token in a
//! cookie that no script sees; a ticket is a secret for one URL.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, Response, StatusCode, Uri, header},
};
use tailwire_model::{Principal, limits::TOKEN_BYTES_MAX};
use tailwire_wire::{Code, Problem};

use super::{
    app::App,
    identity::bearer,
    keys::{configured, told},
    publish::receive,
    reply::{JSON, NO_CACHE, done, refuse, reply},
};

/// Browsers drop a cookie that is longer, name and attributes included, without a word.
const COOKIE_BYTES_MAX: usize = 4096;
/// Where clients look for who gives credentials.
pub const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";
/// The parameter that carries a ticket.
const TICKET: &str = "ticket=";

/// `POST` and `DELETE /session`. It needs no principal: a cookie that has run out is to be replaced here.
pub(crate) async fn session(app: &Arc<App>, request: Request, is_secure: bool) -> Response<Body> {
    let answer = match *request.method() {
        Method::DELETE => cookie(app, "", 0, is_secure),
        _ => begin(app, request, is_secure).await,
    };
    match answer {
        Ok(cookie) => {
            let mut response = done();
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(problem) => refuse(&problem),
    }
}

async fn begin(app: &App, request: Request, is_secure: bool) -> Result<HeaderValue, Problem> {
    configured(app)?;
    let (parts, body) = request.into_parts();
    let body = receive(&parts.headers, body, TOKEN_BYTES_MAX).await?;
    let token = match bearer(&parts.headers)? {
        Some(token) => token,
        None => std::str::from_utf8(&body).unwrap_or("").trim(),
    };
    if token.is_empty() {
        let detail = "Send the token as the body, or as Authorization: Bearer.";
        return Err(Problem::detailed(Code::Unauthorized, detail));
    }
    let principal = app.settings.authenticator.token(token).wait().await?;
    let now = (app.broker.clock().now)();
    let left_ms = principal.expiry().map(|expiry| expiry.refused_from().since(now));
    // Without an end, as long as browsers keep any: 400 days (RFC 6265bis §5.5).
    cookie(app, token, left_ms.map_or(400 * 24 * 3600, |ms| ms.div_ceil(1000)), is_secure)
}

/// The header that sets the cookie, or takes it back.
fn cookie(app: &App, token: &str, max_age_s: u64, is_secure: bool) -> Result<HeaderValue, Problem> {
    let off = || Problem::detailed(Code::NotFound, "This broker takes no cookies: see `cookie` of [access].");
    let name = configured(app)?.cookie().ok_or_else(off)?;
    let is_tls = is_secure || app.settings.public_origins.iter().any(|origin| origin.starts_with("https:"));
    // Names with a prefix are taken with `Secure` only (RFC 6265bis §4.1.3); browsers count loopback as secure.
    let secure = if !app.listener.is_loopback || is_tls || name.starts_with("__") { "; Secure" } else { "" };
    let text = format!("{name}={token}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}");
    if text.len() > COOKIE_BYTES_MAX {
        let detail = format!("The token has {} bytes, and a cookie has room for about 4,000.", token.len());
        return Err(Problem::detailed(Code::BodyTooLarge, detail));
    }
    let mut value = HeaderValue::from_str(&text).map_err(|_| Problem::new(Code::TokenInvalid))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `POST /tickets`
pub(crate) fn ticket(app: &App, principal: &Principal) -> Response<Body> {
    let issued = configured(app).and_then(|credentials| {
        if principal.is_anonymous() {
            return Err(Problem::detailed(Code::Unauthorized, "A ticket stands for somebody's credential."));
        }
        credentials.issue_ticket(principal)
    });
    issued.map_or_else(|problem| refuse(&problem), |body| told(StatusCode::CREATED, body))
}

/// `GET /.well-known/oauth-protected-resource`, with the path of a public URL behind it, if that has one (RFC 9728 §3.1).
pub(crate) fn protected(app: &App, path: &str) -> Response<Body> {
    let own = path.strip_prefix(PROTECTED_RESOURCE).unwrap_or_default();
    let metadata =
        app.settings.credentials.as_ref().and_then(|credentials| credentials.resource_metadata(own));
    let Some(metadata) = metadata else {
        let detail = "There is none: see public_urls and [access].";
        return refuse(&Problem::detailed(Code::NotFound, detail));
    };
    let mut response = reply(StatusCode::OK, JSON, metadata);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_CACHE);
    response
}

/// Takes a ticket out of a URL, once its principal is known: nothing that repeats the query, as a link, may have it.
pub(crate) fn strip_ticket(uri: &mut Uri) {
    let Some(query) = uri.query().filter(|query| query.contains(TICKET)) else { return };
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with(TICKET)).collect();
    let kept = kept.join("&");
    let target = if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{kept}", uri.path()) };
    if let Ok(stripped) = target.parse::<axum::http::uri::PathAndQuery>() {
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(stripped);
        // The parts are those of a URI, with less in one of them.
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// The ticket in a query.
pub fn ticket_of(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix(TICKET))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_taken_out_of_a_url_and_nothing_else() {
        for (given, expect) in [
            ("/stream?topic=a&ticket=abc&last=1", "/stream?topic=a&last=1"),
            ("/stream?ticket=abc", "/stream"),
            ("/stream?myticket=abc", "/stream?myticket=abc"),
            ("/topics/ticket=a", "/topics/ticket=a"),
            ("http://host:1/stream?ticket=abc&x", "http://host:1/stream?x"),
        ] {
            let mut uri: Uri = given.parse().unwrap();
            strip_ticket(&mut uri);
            assert_eq!(uri.to_string(), expect);
        }
        assert_eq!(ticket_of(&"/a?b=c&ticket=x".parse().unwrap()), Some("x"));
    }
}
