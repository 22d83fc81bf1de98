//! Which resource a request is for. Methods are matched here, so that a wrong one is answered with those that there
//! are; names in paths are decoded by the pure rules.

use std::{future::ready, net::IpAddr, sync::Arc};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderValue, Method, Response, header},
};
use futures_util::future::BoxFuture;
use tailwire_model::Principal;
use tailwire_wire::{Code, Problem, Resource, path, publish::Target, query};

use super::{
    access_log::AccessEntry,
    app::App,
    client,
    counted::kept_back,
    event_source,
    guard::{self, Cors},
    hint,
    identity::{Authenticated, OriginClass, RequestHead},
    keys, options, publish, read,
    reply::{allowed, caught, not_allowed, refuse},
    resources,
    room::admitted,
    session::{self, PROTECTED_RESOURCE},
    via::Via,
};
use crate::{
    connection::{caller::Caller, exchange::Exchange, pinned::Account, remote::Remote},
    limiter::Hold,
};

/// The whole API, for the requests of a connection.
#[derive(Clone)]
pub(crate) struct HttpRoutes {
    app: Arc<App>,
    remote: Remote,
    /// The name in the client's certificate.
    certificate: Option<Arc<str>>,
    /// What the connection holds of answers that clients have yet to take.
    account: Account,
    /// The connection, as limits count it.
    hold: Hold,
}

impl HttpRoutes {
    pub(crate) fn new(app: Arc<App>) -> Self {
        let (remote, account) = (Remote::default(), Account::common());
        Self { app, remote, certificate: None, account, hold: Hold::default() }
    }

    /// Counts the connection, whose other end is here. Operators are not limited.
    ///
    /// # Errors
    /// `rate-limited`: it is one too many.
    pub(crate) fn admit_connection(&mut self, peer: Option<IpAddr>) -> Result<(), Problem> {
        if !self.app.listener.rules.operations {
            self.hold = self.app.hold_connection(peer)?;
        }
        Ok(())
    }

    /// The connection's share of what limits count: it stays where the connection leaves HTTP.
    pub(crate) fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// The requests are those of a connection with this other end.
    pub(crate) fn asked_by(&mut self, mut remote: Remote) {
        let shown = remote.certificate.take();
        self.certificate = shown.and_then(|shown| self.app.settings.authenticator.certificate(&shown));
        self.account = remote.peer.map_or_else(Account::common, Account::new);
        self.remote = remote;
    }

    /// The connection's account.
    pub(crate) const fn account(&self) -> &Account {
        &self.account
    }

    /// The account of a request: a connection of a proxy has requests of many clients, and none may take the room of the others.
    fn account_of(&self, caller: &Caller) -> Account {
        match caller.address {
            Some(address) if caller.address != caller.peer => Account::new(address),
            _ => self.account.clone(),
        }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request, exchange: Option<Exchange>) -> Response<Body> {
        // Not its query, in which there may be secrets.
        tracing::debug!(method = request.method().as_str(), path = request.uri().path(), "a request");
        caught(self.admit(request, exchange)).await
    }

    async fn admit(&self, request: Request, exchange: Option<Exchange>) -> Response<Body> {
        let route = self.route(request.uri().path());
        let Remote { peer, is_secure, .. } = self.remote;
        let caller = self.app.settings.trusted_proxies.caller(peer, is_secure, request.headers());
        let is_logged = self.app.settings.access_log;
        let entry = if is_logged { AccessEntry::begin(&request, &caller) } else { AccessEntry::default() };
        let (mut cors, origin) = match guard::check(
            &self.app.settings,
            &self.app.listener,
            &request,
            &caller,
            route.is_health(),
        ) {
            Ok(admitted) => admitted,
            Err(problem) => {
                let response = guard::refused(&problem);
                let status = response.status().as_u16();
                self.count(status);
                entry.answered(status);
                return response;
            }
        };
        // HTTP/1.1 leaves the body of an answer to `HEAD` away by itself; hyper, for HTTP/2, does not.
        let is_bare = exchange.is_none() && request.method() == Method::HEAD;
        let mut response = if guard::is_preflight(&request) {
            guard::preflight(&request)
        } else {
            let mut request = request;
            let is_counted = !route.is_health() && !self.app.listener.rules.operations;
            let admitted = if is_counted { self.app.count_caller(&caller) } else { Ok(()) };
            let identified = match admitted {
                Ok(()) => self.identify(route, &request, origin, caller).wait().await,
                Err(problem) => Err(problem),
            };
            let admitted = identified.and_then(|principal| {
                let admitted = if is_counted { self.app.count_principal(&principal) } else { Ok(()) };
                admitted.map(|()| principal)
            });
            match admitted {
                Ok(principal) => {
                    entry.identified(&principal);
                    session::strip_ticket(request.uri_mut());
                    cors.show_to(&principal);
                    let (account, cors, entry) = (self.account_of(&caller), cors.clone(), entry.clone());
                    let via = Via { principal, caller, exchange, entry, cors, account };
                    self.dispatch(route, request, via).await
                }
                Err(problem) => {
                    cors.show_to_nobody();
                    // Boxed, because it is rare.
                    let problem = Box::pin(kept_back(problem)).await;
                    let is_stream = *request.method() == Method::GET && event_source::asks(&request);
                    let goodbye = if is_stream { event_source::goodbye(&problem) } else { None };
                    goodbye.unwrap_or_else(|| guard::unidentified(&self.app.settings, &problem))
                }
            }
        };
        guard::finish(&self.app.settings, &self.app.metrics, &mut response, &cors);
        entry.answered(response.status().as_u16());
        if is_bare {
            leave_body(&mut response);
        }
        response
    }

    /// Does for a response what `answer` would have done, where its connection gives the answer itself.
    pub(crate) fn finish(&self, response: &mut Response<Body>, cors: &Cors) {
        guard::finish(&self.app.settings, &self.app.metrics, response, cors);
    }

    /// Whether a `POST` there is a publish.
    pub(crate) fn takes_publishes(path: &str) -> bool {
        path.starts_with(TOPICS) || path == "/stream"
    }

    /// Counts a response that needed nothing else.
    pub(crate) fn count(&self, status: u16) {
        self.app.metrics.responded(status);
    }

    /// What a path names on this listener. Metrics are for operators, and topics are not on their listener.
    fn route(&self, path: &str) -> Route {
        let route = Route::of(path);
        let is_there = match route {
            Route::Health | Route::Readiness => true,
            Route::Metrics => self.app.listener.rules.operations,
            _ => !self.app.listener.rules.operations,
        };
        if is_there { route } else { Route::None }
    }

    fn nothing(&self, method: &Method, path: &str) -> Response<Body> {
        let hint = match Route::of(path) {
            Route::Metrics => Some(METRICS_MOVED),
            Route::None => hint::for_path(method.as_str(), path),
            _ if self.app.listener.rules.operations => Some(OPERATIONS_ONLY),
            _ => hint::for_path(method.as_str(), path),
        };
        let plain = || Problem::new(Code::NotFound);
        refuse(&hint.map_or_else(plain, |hint| Problem::detailed(Code::NotFound, hint)))
    }

    /// Finds out whose a request is, before anything else looks at it.
    fn identify(
        &self,
        route: Route,
        request: &Request,
        origin: OriginClass,
        caller: Caller,
    ) -> Authenticated {
        if matches!((route, origin), (Route::Session, OriginClass::Any)) {
            // Else any page could have its visitors go on as somebody else.
            return Authenticated::Now(Err(Problem::new(Code::ForeignOrigin)));
        }
        if route.is_public() {
            return Authenticated::Now(Ok(Principal::ANONYMOUS));
        }
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let certificate = self.certificate.as_deref();
        let head = RequestHead { method, uri, headers, origin, caller, certificate };
        self.app.settings.authenticator.request(&head)
    }

    /// Each handler has a box of its own size: a publish must not pay for what a long-poll remembers.
    fn dispatch(&self, route: Route, request: Request, via: Via) -> BoxFuture<'_, Response<Body>> {
        let app = &self.app;
        let path = request.uri().path();
        if matches!(route, Route::None) {
            return at_once(self.nothing(request.method(), path));
        }
        if request.method() == Method::OPTIONS {
            return at_once(allowed(route.methods(path)));
        }
        if !route.takes(request.method()) {
            let hint = hint::for_method(request.method().as_str(), path);
            return at_once(not_allowed(route.methods(path), hint));
        }
        if self.app.listener.rules.read_only && route.is_changed_by(request.method()) {
            return at_once(refuse(&Problem::new(Code::ReadOnly)));
        }
        if route.has_no_parameters()
            && let Err(problem) = query::none(request.uri().query())
        {
            return at_once(refuse(&problem));
        }
        match route {
            Route::Topic => topic(app, request, via),
            Route::Stream if request.method() == Method::POST => {
                Box::pin(publish::post(app, Target::Stream, request, via))
            }
            Route::Stream if request.method().as_str() == QUERY => Box::pin(read::query(app, request, via)),
            Route::Stream => Box::pin(read::read(app, Resource::Stream, request, via)),
            Route::Topics => Box::pin(admitted(via.account, resources::topics(app, request, via.principal))),
            Route::OptionsOf => Box::pin(options::term(app, request, via.principal)),
            Route::Options => {
                Box::pin(admitted(via.account, async move { options::list(app, &via.principal).await }))
            }
            Route::Session => Box::pin(session::session(app, request, via.caller.is_secure)),
            Route::Tickets => at_once(session::ticket(app, &via.principal)),
            Route::Keys => Box::pin(keys::keys(app, request, via.principal)),
            Route::KeyOf => Box::pin(keys::key(app, request, via.principal)),
            Route::Revocations => Box::pin(keys::revocations(app, request, via.principal)),
            Route::Message => {
                Box::pin(admitted(via.account, resources::message(app, request, via.principal)))
            }
            Route::Health => at_once(resources::healthz()),
            Route::Readiness => at_once(resources::readyz(app)),
            Route::Metrics => at_once(resources::metrics(app, request.headers())),
            Route::OpenApi => at_once(resources::openapi()),
            Route::Index => at_once(resources::index()),
            Route::Protected => at_once(session::protected(app, path)),
            Route::Client(file) => at_once(file.answer(request.headers())),
            Route::Server | Route::None => at_once(self.nothing(request.method(), request.uri().path())),
        }
    }
}

/// A resource, by its path alone.
#[derive(Clone, Copy)]
enum Route {
    Topic,
    Stream,
    Topics,
    OptionsOf,
    Options,
    Session,
    Tickets,
    Keys,
    KeyOf,
    Revocations,
    Protected,
    Message,
    Health,
    Readiness,
    Metrics,
    OpenApi,
    Index,
    Client(&'static client::File),
    /// `*`: the broker as a whole (RFC 9110 §7.1).
    Server,
    None,
}

const TOPICS: &str = "/topics/";
const METRICS_MOVED: &str = "Metrics are on a listener of their own: start the broker with --admin-listen 127.0.0.1:8246 \
     (admin_listen), and ask there.";
const OPERATIONS_ONLY: &str = "This listener is for operations, and has /metrics, /healthz and /readyz.";
/// The method that asks as `GET` does, with the query in its body.
const QUERY: &str = "QUERY";

impl Route {
    fn of(path: &str) -> Self {
        match path {
            _ if path.starts_with(TOPICS) => Self::Topic,
            "/stream" => Self::Stream,
            "/topics" => Self::Topics,
            "/options" => Self::Options,
            _ if path.starts_with("/options/") => Self::OptionsOf,
            "/session" => Self::Session,
            "/tickets" => Self::Tickets,
            "/keys" => Self::Keys,
            "/revocations" => Self::Revocations,
            _ if path.starts_with(PROTECTED_RESOURCE) => Self::Protected,
            _ if is_key(path) => Self::KeyOf,
            _ if is_message(path) => Self::Message,
            "/healthz" => Self::Health,
            "/readyz" => Self::Readiness,
            "/metrics" => Self::Metrics,
            "/openapi.json" => Self::OpenApi,
            "/client.js" => Self::Client(&client::SCRIPT),
            "/client.mjs" => Self::Client(&client::MODULE),
            "/client-tabs.mjs" => Self::Client(&client::TABS),
            "/" => Self::Index,
            "*" => Self::Server,
            _ => Self::None,
        }
    }

    /// Whether it is the same for everybody, or takes credentials itself, so that one which has run out does no harm.
    const fn is_public(self) -> bool {
        matches!(
            self,
            Self::Health
                | Self::Readiness
                | Self::Metrics
                | Self::OpenApi
                | Self::Protected
                | Self::Index
                | Self::Client(_)
                | Self::Session
                | Self::Server
                | Self::None
        )
    }

    /// Whether it is asked by those who look after the process, under whatever name they have for it.
    const fn is_health(self) -> bool {
        matches!(self, Self::Health | Self::Readiness)
    }

    /// Whether none of its parameters can be meant by a name that others have.
    fn has_no_parameters(self) -> bool {
        match self {
            // A DELETE of a topic minds its own.
            Self::Options | Self::OptionsOf | Self::Message => true,
            _ => false,
        }
    }

    /// Whether a method changes something there that others see. A cookie and a ticket are their caller's own.
    fn is_changed_by(self, method: &Method) -> bool {
        !method.is_safe() && method.as_str() != QUERY && !matches!(self, Self::Session | Self::Tickets)
    }

    /// Whether it has a method. A pattern that is published to says why it can't be.
    fn takes(self, method: &Method) -> bool {
        self.methods("/topics/a").split(", ").any(|own| own == method.as_str())
    }

    /// The methods of the resource at a path.
    fn methods(self, path: &str) -> &'static str {
        match self {
            Self::Topic if path.strip_prefix(TOPICS).is_some_and(|raw| path::topic(raw).is_ok()) => {
                "GET, HEAD, POST, DELETE, OPTIONS"
            }
            Self::Stream => "GET, HEAD, POST, QUERY, OPTIONS",
            Self::OptionsOf => "GET, HEAD, PUT, DELETE, OPTIONS",
            Self::Session => "POST, DELETE, OPTIONS",
            Self::Tickets => "POST, OPTIONS",
            Self::Keys | Self::Revocations => "GET, HEAD, POST, OPTIONS",
            Self::KeyOf => "DELETE, OPTIONS",
            Self::Message => "GET, HEAD, DELETE, OPTIONS",
            Self::Server => "GET, HEAD, POST, PUT, DELETE, QUERY, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

fn is_key(path: &str) -> bool {
    path.strip_prefix("/keys/").is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

fn is_message(path: &str) -> bool {
    path.strip_prefix("/messages/").is_some_and(|cursor| !cursor.is_empty() && !cursor.contains('/'))
}

fn topic(app: &Arc<App>, request: Request, via: Via) -> BoxFuture<'_, Response<Body>> {
    let raw = request.uri().path().strip_prefix(TOPICS).unwrap_or("");
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return match path::term(raw) {
            Ok(term) => Box::pin(read::read(app, Resource::Term(term), request, via)),
            Err(problem) => at_once(refuse(&problem)),
        };
    }
    // A pattern can be read, and nothing else.
    match path::topic(raw) {
        Ok(topic) if request.method() == Method::POST => {
            Box::pin(publish::post(app, Target::Topic(topic), request, via))
        }
        Ok(topic) => {
            let query = request.uri().query().map(str::to_owned);
            Box::pin(publish::delete(app, topic, query, via.principal))
        }
        Err(problem) => at_once(refuse(&problem)),
    }
}

fn at_once(response: Response<Body>) -> BoxFuture<'static, Response<Body>> {
    Box::pin(ready(response))
}

/// The answer to a `HEAD` is that to a `GET` but for the body, whose length it says (RFC 9110 §9.3.2).
fn leave_body(response: &mut Response<Body>) {
    let body = std::mem::take(response.body_mut());
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}
