//! The subprotocol `tailwire.v1`: lines of JSON, subscriptions and requests.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tailwire_core::{Event, ReadError, Reader};
use tailwire_model::{
    Bye, ByeReason, Principal,
    limits::{AUTHENTICATE_MS_MAX, HEARTBEAT_MS, PERMISSION_RETRY_MS, SOCKET_PENDING_MAX},
    retry,
};
use tailwire_wire::{
    Code, Problem, line,
    line::Welcome,
    request::{self, ClientLine, Id, LineError, Request, Subscribe},
};

use super::{
    opening::{First, WebSocketOpening},
    requests::{self, LineOutcome, Requests},
    subscriptions::{Failed, SubscribeHandle, Subscriptions},
};
use tokio::time::Instant;

use crate::{
    api::app::{App, read_problem},
    connection::{
        pinned::Account,
        protocol::{Incoming, Io, Protocol},
    },
    limiter::Hold,
};

/// Close codes (RFC 6455 §7.4.1, and the registry of §11.7).
const CLOSE_POLICY: u16 = 1008;
const CLOSE_INTERNAL: u16 = 1011;
const CLOSE_RESTART: u16 = 1012;
const CLOSE_TRY_AGAIN: u16 = 1013;
const CLOSE_UNAUTHORIZED: u16 = 3000;

/// Begins a connection: the welcome, and the URL's subscription.
pub(super) fn open(opening: WebSocketOpening, io: &mut Io) -> Box<dyn Protocol> {
    let WebSocketOpening { app, principal, account, subscription, depth, .. } = opening;
    let subscriptions = Subscriptions::default();
    let (unpermitted, requests, identified) = (None, None, Hold::default());
    let mut native =
        Native { app, principal, account, depth, unpermitted, subscriptions, requests, identified };
    native.welcome(matches!(subscription, First::Waits(_)), io);
    match subscription {
        First::None => {}
        First::Open(reader, hold) => {
            let begun = native.subscriptions.begin(Id::url(), reader.filter().terms().len(), hold);
            native.opened(&begun, reader, io);
        }
        First::Waits(ask) => {
            native.unpermitted = Some(ask);
            io.live().end_at(Instant::now() + Duration::from_millis(AUTHENTICATE_MS_MAX));
        }
    }
    Box::new(native)
}

/// See the module.
struct Native {
    app: Arc<App>,
    principal: Principal,
    account: Account,
    /// How many levels below the root the connection's URL is, for references.
    depth: usize,
    /// The URL's subscription, while it waits for a credential.
    unpermitted: Option<Box<Subscribe>>,
    subscriptions: Subscriptions,
    /// Most connections never ask for anything.
    requests: Option<Box<Requests>>,
    /// The connection as that of a principal which it came to be of later.
    identified: Hold,
}

impl Protocol for Native {
    fn review(&mut self, io: &mut Io) {
        if io.live().take_review() {
            self.review_all(io);
        }
    }

    fn event(&mut self, event: Event, io: &mut Io) {
        let mut out = Vec::new();
        match event {
            Event::Messages(slices) => io.send_messages(slices),
            Event::Heartbeat(_) => self.subscriptions.heartbeat(io),
            Event::Gap(gap) => {
                line::gap(&gap, None, &mut out);
                io.send_text(&out);
            }
            // Each subscription says so for itself.
            Event::CaughtUp(_) => {}
            Event::Bye(_) if self.unpermitted.is_some() => io.close(CLOSE_UNAUTHORIZED, "not authenticated"),
            Event::Bye(bye) => say_bye(bye, io),
        }
    }

    fn failed(&mut self, error: ReadError, io: &mut Io) {
        fail(None, error, io);
    }

    fn received(&mut self, message: Incoming<'_>, io: &mut Io, cx: &mut Context<'_>) {
        if let Incoming::Text(text) = message {
            self.take_line(text, io);
            self.gather_answers(io, cx);
        }
    }

    fn poll_more(&mut self, io: &mut Io, cx: &mut Context<'_>) {
        match self.subscriptions.poll(io, cx) {
            Ok(()) => {}
            Err(Failed::Read(id, error)) => fail(Some(&id), error, io),
            Err(Failed::Revoked) => self.revoked(io),
        }
        self.gather_answers(io, cx);
    }

    fn may_receive(&self) -> bool {
        self.requests.as_ref().is_none_or(|requests| requests.len() < SOCKET_PENDING_MAX)
    }

    fn is_lendable(&self) -> bool {
        self.subscriptions.are_live()
    }

    fn stalled(&mut self, cx: &mut Context<'_>) {
        self.subscriptions.release();
        if let Some(requests) = &mut self.requests {
            requests.see_through(cx);
        }
    }
}

impl Native {
    fn welcome(&self, authenticate: bool, io: &mut Io) {
        let welcome = Welcome {
            epoch: self.app.broker.epoch(),
            heartbeat_ms: HEARTBEAT_MS,
            limits: line::WelcomeLimits::default(),
            authenticate,
        };
        let mut out = Vec::with_capacity(256);
        line::welcome(&welcome, &mut out);
        io.send_text(&out);
    }

    /// Takes what requests came to, up to what makes up one write. Of those that are left the task is woken, or it finds
    /// them once that is written.
    fn gather_answers(&mut self, io: &mut Io, cx: &mut Context<'_>) {
        while !io.is_full()
            && let Some(requests) = &mut self.requests
        {
            match requests.poll_next(cx) {
                Poll::Ready(Some(outcome)) => self.take_outcome(outcome, io),
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return,
            }
        }
    }

    fn take_outcome(&mut self, outcome: LineOutcome, io: &mut Io) {
        match outcome {
            LineOutcome::Answer(answer, pinned) => io.send_answer(&answer, pinned),
            LineOutcome::Identified(id, principal) => self.identified(&id, principal, io),
            LineOutcome::Opened(begun, reader) => self.opened(&begun, reader, io),
            LineOutcome::Refused(begun, problem) => {
                self.subscriptions.refused(&begun);
                refuse(Some(&begun.id), &problem, io);
            }
            LineOutcome::Waits(id, ask) => {
                let requests = self.requests.get_or_insert_default();
                requests::wait(&self.app, (&self.principal, &self.account), id, ask, requests);
            }
        }
    }

    fn take_line(&mut self, text: &str, io: &mut Io) {
        let parsed = request::parse(text);
        // To ask for less is free.
        let is_free = matches!(&parsed, Ok(ClientLine { request: Request::Unsubscribe { .. }, .. }));
        if !is_free && let Err(problem) = self.app.count_request(&self.principal, &self.account) {
            let id = match parsed {
                Ok(ClientLine { id, .. }) => Some(id),
                Err(LineError { id, .. }) => id,
            };
            return requests::refuse(id, problem, self.requests.get_or_insert_default());
        }
        match parsed {
            Ok(ClientLine { id, request: Request::Subscribe(ask) }) => {
                let bound = ask.bound.map(|bound| bound.at_depth(self.depth));
                self.subscribe(id, Subscribe { bound, ..ask }, io);
            }
            Ok(ClientLine { id, request: Request::Unsubscribe { sub } }) => self.unsubscribe(&id, &sub, io),
            Ok(mut other) => {
                if let Request::Page(ask) = &mut other.request {
                    ask.bound = ask.bound.map(|bound| bound.at_depth(self.depth));
                }
                let requests = self.requests.get_or_insert_default();
                requests::start(&self.app, (&self.principal, &self.account), other, requests);
            }
            Err(LineError { id, problem }) => refuse(id.as_ref(), &problem, io),
        }
    }

    fn opened(&mut self, begun: &SubscribeHandle, reader: Box<Reader>, io: &mut Io) {
        if !self.subscriptions.opened(begun, reader, &self.principal, io) {
            self.revoked(io);
        }
    }

    /// Gives every subscription what is permitted by now. The connection ends if one of them is left with nothing: its client
    /// hears which when it comes back. So does one whose credential counts no more, also without any.
    fn review_all(&mut self, io: &mut Io) {
        let broker = &self.app.broker;
        if !broker.holds(&self.principal) || !self.subscriptions.review(&self.principal, broker, io) {
            self.revoked(io);
        }
    }

    fn revoked(&self, io: &mut Io) {
        if !io.is_ending() {
            let retry_after_ms = retry::spread(PERMISSION_RETRY_MS, self.app.broker.clock().draw());
            say_bye(Bye { reason: ByeReason::Revoked, retry_after_ms }, io);
        }
    }

    /// Another principal, or the same with a new credential.
    fn identified(&mut self, id: &Id, principal: Principal, io: &mut Io) {
        if principal.scope() != self.principal.scope()
            && let Err(problem) = self.count_as(&principal)
        {
            refuse(Some(id), &problem, io);
            return io.close(CLOSE_TRY_AGAIN, problem.code.as_str());
        }
        self.principal = principal;
        io.live().assign(&self.principal);
        let mut out = Vec::new();
        line::ok(id, b"", &mut out);
        io.send_text(&out);
        self.review_all(io);
        if let Some(ask) = self.unpermitted.take().filter(|_| !io.is_ending()) {
            self.subscribe(Id::url(), *ask, io);
        }
    }

    /// Counts the connection and its subscriptions for a principal, in place of the one whose it was.
    fn count_as(&mut self, principal: &Principal) -> Result<(), Problem> {
        self.identified = Hold::default();
        self.identified = self.app.hold_identified(principal)?;
        self.subscriptions.count_as(|| self.app.hold_identified_subscription(principal))
    }

    fn subscribe(&mut self, id: Id, ask: Subscribe, io: &mut Io) {
        if self.unpermitted.is_some() && id == Id::url() {
            return refuse(Some(&id), &Problem::new(Code::SubscriptionExists), io);
        }
        let hold = match self.app.hold_subscription(&self.principal, &self.account) {
            Ok(hold) => hold,
            Err(problem) => return refuse(Some(&id), &problem, io),
        };
        match self.subscriptions.admit(id, &ask, hold) {
            Ok(begun) => {
                let requests = self.requests.get_or_insert_default();
                requests::subscribe(&self.app, &self.principal, begun, ask, requests);
            }
            Err((id, code)) => refuse(Some(&id), &Problem::new(code), io),
        }
    }

    fn unsubscribe(&mut self, id: &Id, sub: &Id, io: &mut Io) {
        if !self.subscriptions.end(sub, io) {
            return refuse(Some(id), &Problem::new(Code::SubscriptionUnknown), io);
        }
        let mut out = Vec::new();
        line::ok(id, b"", &mut out);
        io.send_text(&out);
    }
}

fn say_bye(bye: Bye, io: &mut Io) {
    let mut out = Vec::new();
    line::bye(bye.reason, bye.retry_after_ms, &mut out);
    io.send_text(&out);
    io.said_bye(bye.reason);
    let code = if bye.reason == ByeReason::Revoked { CLOSE_POLICY } else { CLOSE_RESTART };
    io.close(code, bye.reason.as_str());
}

fn refuse(id: Option<&Id>, problem: &Problem, io: &mut Io) {
    let mut out = Vec::new();
    line::error(id, problem, &mut out);
    io.send_text(&out);
}

/// The log can't be read on for a subscription, or for those that have caught up.
fn fail(id: Option<&Id>, error: ReadError, io: &mut Io) {
    refuse(id, &read_problem(error), io);
    io.close(CLOSE_INTERNAL, "the log could not be read");
}
