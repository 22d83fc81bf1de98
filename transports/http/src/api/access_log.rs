//! The access log: a line for each request, at its answer, or where a stream begins. It has no query, header or body, in which
//! there may be secrets. It is off unless it is asked for.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Instant,
};

use axum::extract::Request;
use tailwire_model::{Identity, Principal};

use crate::connection::caller::Caller;

/// The target of its lines, which sets them apart from others.
pub const ACCESS_LOG: &str = "tailwire_access_log";
/// What a line has of a path.
const PATH_BYTES_MAX: usize = 1000;

/// A request's entry, if requests are logged: written when nobody has it any more.
#[derive(Clone, Default)]
pub(crate) struct AccessEntry(Option<Arc<LoggedRequest>>);

struct LoggedRequest {
    began: Instant,
    method: String,
    path: String,
    client: Option<IpAddr>,
    who: OnceLock<String>,
    /// Of the answer; 0 where there was none.
    status: AtomicU16,
}

impl AccessEntry {
    pub(crate) fn begin(request: &Request, caller: &Caller) -> Self {
        let path = request.uri().path();
        let bytes = path.floor_char_boundary(PATH_BYTES_MAX);
        Self(Some(Arc::new(LoggedRequest {
            began: Instant::now(),
            method: request.method().as_str().to_owned(),
            path: path[..bytes].to_owned(),
            client: caller.address,
            who: OnceLock::new(),
            status: AtomicU16::new(0),
        })))
    }

    pub(crate) fn identified(&self, principal: &Principal) {
        let Some(own) = &self.0 else { return };
        let name = match principal.identity() {
            Identity::Anonymous => return,
            Identity::Token(token) => token.subject.to_string(),
            Identity::Key { id, .. } => format!("key:{id}"),
            // One that the application does not name has a digest in its place.
            Identity::Hook { subject } if subject.starts_with('\n') => return,
            Identity::Header { subject } | Identity::Certificate { subject } | Identity::Hook { subject } => {
                subject.to_string()
            }
        };
        let _ = own.who.set(name);
    }

    pub(crate) fn answered(&self, status: u16) {
        if let Some(own) = &self.0 {
            own.status.store(status, Ordering::Relaxed);
        }
    }
}

impl Drop for LoggedRequest {
    fn drop(&mut self) {
        let Self { began, method, path, client, who, status } = self;
        let client = client.map(|address| address.to_string()).unwrap_or_default();
        let (who, status) = (who.get().map_or("", String::as_str), status.load(Ordering::Relaxed));
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        tracing::info!(target: ACCESS_LOG, client, method, path, status, who, ms, "request");
    }
}
