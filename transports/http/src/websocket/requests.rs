//! What a WebSocket client asks for, done: each request becomes a future whose outcome is a line for the client, or a
//! subscription for the session.

use std::{pin::Pin, sync::Arc};

use futures_util::stream::FuturesUnordered;
use tailwire_core::{Principal, Reader};
use tailwire_model::Options;
use tailwire_wire::{
    Code, Format, Problem, line, page,
    request::{ClientLine, Id, Request, Subscribe},
};

use crate::api::App;

/// What came of a request.
pub(super) enum Outcome {
    /// A line for the client, without its frame.
    Answer(Vec<u8>),
    /// A subscription that the session takes over; its `ok` is the session's to say.
    Opened(Opening, Box<Reader>),
    /// A subscription that could not be opened.
    Refused(Opening, Problem),
}

/// Which subscribe an outcome is of: its id may be free again, and taken by another, before it has opened.
pub(super) struct Opening {
    pub(super) id: Id,
    pub(super) generation: u64,
}

/// Requests that are not answered yet.
pub(super) type Requests = FuturesUnordered<Pin<Box<dyn Future<Output = Outcome> + Send>>>;

/// Opens a subscription.
pub(super) fn subscribe(
    app: &Arc<App>,
    principal: &Principal,
    opening: Opening,
    ask: Subscribe,
    requests: &Requests,
) {
    let (app, principal) = (app.clone(), principal.clone());
    requests.push(Box::pin(async move {
        let Subscribe { filter, start, gap } = ask;
        match app.open(&principal, filter, start, gap, Format::Frame).await {
            Ok(reader) => Outcome::Opened(opening, Box::new(reader)),
            Err(problem) => Outcome::Refused(opening, problem),
        }
    }));
}

/// Starts a request that is answered once. Publishes have their place in the queue when this returns.
pub(super) fn start(app: &Arc<App>, principal: &Principal, client_line: ClientLine, requests: &Requests) {
    let ClientLine { id, request } = client_line;
    let (app, principal) = (app.clone(), principal.clone());
    match request {
        Request::Publish(publish) => {
            let answer = app.publish(&principal, publish);
            push(requests, id, async move {
                answer.await.map(|published| {
                    let mut body = published.body;
                    if published.replayed {
                        add_replayed(&mut body);
                    }
                    body
                })
            });
        }
        Request::Page(ask) => {
            push(requests, id, async move { app.page(&principal, ask).await.map(|reply| reply.body.into()) });
        }
        Request::Delete { topic } => {
            push(requests, id, async move { app.delete(&principal, topic).await.map(|()| Vec::new()) });
        }
        Request::Topics(ask) => {
            push(requests, id, async move { Ok(app.topics(&principal, &ask).0) });
        }
        Request::Message { cursor } => {
            push(requests, id, async move {
                let message = app.message(&principal, cursor).await?;
                let mut item = Vec::new();
                tailwire_wire::ENCODERS[Format::Item as usize](&message, &mut item);
                let mut body = Vec::new();
                page::message(&item, &mut body);
                Ok(body)
            });
        }
        Request::Options { term } => push(requests, id, async move {
            match term {
                Some(term) => app.options(&principal, &term),
                None => Ok(app.all_options(&principal)),
            }
        }),
        Request::SetOptions { term, options } => {
            push(requests, id, async move { app.set_options(&principal, term, options).await });
        }
        Request::DeleteOptions { term } => push(requests, id, async move {
            app.set_options(&principal, term, Options::default()).await.map(|_| Vec::new())
        }),
        // Nobody is anybody yet, so that any credential is one that the broker doesn't know.
        Request::Authenticate { .. } => {
            push(requests, id, async { Err(Problem::new(Code::Unauthorized)) });
        }
        // The session's own, which it has kept for itself.
        Request::Subscribe(_) | Request::Unsubscribe { .. } => {}
    }
}

fn push(
    requests: &Requests,
    id: Id,
    answer: impl Future<Output = Result<Vec<u8>, Problem>> + Send + 'static,
) {
    requests.push(Box::pin(async move {
        let mut out = Vec::with_capacity(128);
        match answer.await {
            Ok(body) => line::ok(&id, &body, &mut out),
            Err(problem) => line::error(Some(&id), &problem, &mut out),
        }
        Outcome::Answer(out)
    }));
}

/// What the header `Idempotency-Replayed` says over HTTP.
fn add_replayed(body: &mut Vec<u8>) {
    if body.pop().is_some() {
        body.extend_from_slice(br#","idempotency_replayed":true}"#);
    }
}
