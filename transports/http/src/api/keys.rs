//! `/keys` and `/revocations`: the administration of access, for those who may manage `$access/**`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, Response, StatusCode, header},
};
use tailwire_model::{Principal, Term, limits::OPTIONS_BYTES_MAX};
use tailwire_wire::{Code, Problem};

use super::{
    app::App,
    credentials::Credentials,
    publish::receive,
    reply::{JSON, NO_STORE, done, refuse, reply},
};

/// The grant that the administration of access needs.
const RECORDS: &str = "$access/**";

/// `/keys`
pub(crate) async fn keys(app: &Arc<App>, request: Request, principal: Principal) -> Response<Body> {
    let answer = async {
        let credentials = administered(app, &principal)?;
        if *request.method() != Method::POST {
            return Ok(told(StatusCode::OK, credentials.keys()));
        }
        let (parts, body) = request.into_parts();
        let body = receive(&parts.headers, body, OPTIONS_BYTES_MAX).await?;
        let created = credentials.create_key(&body).await?;
        tracing::info!(by = ?principal.identity(), "a key was made");
        Ok(told(StatusCode::CREATED, created))
    };
    answer.await.unwrap_or_else(|problem: Problem| refuse(&problem))
}

/// `DELETE /keys/{id}`
pub(crate) async fn key(app: &Arc<App>, request: Request, principal: Principal) -> Response<Body> {
    let id = request.uri().path().trim_start_matches("/keys/");
    let answer = async {
        administered(app, &principal)?.revoke_key(id).await?;
        tracing::info!(id, by = ?principal.identity(), "a key was revoked");
        Ok(done())
    };
    answer.await.unwrap_or_else(|problem: Problem| refuse(&problem))
}

/// `/revocations`
pub(crate) async fn revocations(app: &Arc<App>, request: Request, principal: Principal) -> Response<Body> {
    let answer = async {
        let credentials = administered(app, &principal)?;
        if *request.method() != Method::POST {
            return Ok(told(StatusCode::OK, credentials.revocations()));
        }
        let (parts, body) = request.into_parts();
        let body = receive(&parts.headers, body, OPTIONS_BYTES_MAX).await?;
        let revoked = credentials.revoke(&body).await?;
        tracing::info!(by = ?principal.identity(), "tokens were revoked");
        Ok(told(StatusCode::CREATED, revoked))
    };
    answer.await.unwrap_or_else(|problem: Problem| refuse(&problem))
}

fn administered<'a>(app: &'a App, principal: &Principal) -> Result<&'a dyn Credentials, Problem> {
    let credentials = configured(app)?;
    let records = Term::parse(RECORDS).map_err(Problem::from)?;
    app.options(principal, &records)?;
    Ok(credentials)
}

/// Access control, where there is any.
pub(super) fn configured(app: &App) -> Result<&dyn Credentials, Problem> {
    let missing = || Problem::detailed(Code::NotFound, "This broker has no access control: see [access].");
    app.settings.credentials.as_deref().ok_or_else(missing)
}

pub(super) fn told(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = reply(status, JSON, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
