//! The requests of a WebSocket client: each becomes a future whose outcome is a line for the client, or a
//! subscription for the session.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tailwire_core::{Reader, View};
use tailwire_model::{Filter, Options, Principal};
use tailwire_wire::{
    Code, Format, Problem, QueryStart, line, narrowed, page,
    representation::PAGE,
    request::{ClientLine, Id, PageRequest, Request, Subscribe},
};

use super::subscriptions::SubscribeHandle;
use crate::{
    api::{app::App, counted::kept_back, room::answer_room},
    connection::pinned::{Account, Pinned},
};

/// The outcome of a request.
pub(super) enum LineOutcome {
    /// A line for the client, without its frame, and its share of what clients have yet to take.
    Answer(Vec<u8>, Pinned),
    /// A subscription that the session takes over; its `ok` is the session's to say.
    Opened(SubscribeHandle, Box<Reader>),
    /// A subscription that could not be opened.
    Refused(SubscribeHandle, Problem),
    /// From here on the session is this principal's.
    Identified(Id, Principal),
    /// There is nothing to read, and the request wants to wait until there is.
    Waits(Id, PageRequest),
}

type Answering = Pin<Box<dyn Future<Output = LineOutcome> + Send>>;

/// Requests that are not answered yet. Those that look at what is stored take turns, and none begins while its client
/// doesn't take what it is given: answers may be long, and what is read of the log stands against all readers' budget.
#[derive(Default)]
pub(super) struct Requests {
    reads: VecDeque<Answering>,
    /// Whether the first of them has begun, or may.
    reading: bool,
    /// The outcome of one that has ended.
    read: Option<LineOutcome>,
    others: FuturesUnordered<Answering>,
}

impl Requests {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.reads.len() + usize::from(self.read.is_some()) + self.others.len()
    }

    /// The outcome of one of them; `None` when there is none left.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LineOutcome>> {
        if self.read.is_none() {
            self.reading = true;
            self.see_through(cx);
        }
        if let Some(outcome) = self.read.take() {
            return Poll::Ready(Some(outcome));
        }
        match self.others.poll_next_unpin(cx) {
            Poll::Ready(None) if !self.reads.is_empty() => Poll::Pending,
            polled => polled,
        }
    }

    /// Sees the read that has begun to its end, so that it holds nothing of the log for longer.
    pub(super) fn see_through(&mut self, cx: &mut Context<'_>) {
        if self.reading
            && self.read.is_none()
            && let Some(read) = self.reads.front_mut()
            && let Poll::Ready(outcome) = read.as_mut().poll(cx)
        {
            self.reads.pop_front();
            self.read = Some(outcome);
            self.reading = false;
        }
    }

    fn push_read(
        &mut self,
        account: Account,
        id: Id,
        answer: impl Future<Output = Result<Vec<u8>, Problem>> + Send + 'static,
    ) {
        self.reads.push_back(Box::pin(admitted(account, id, |id, _| answered(id, answer))));
    }

    fn push(&self, id: Id, answer: impl Future<Output = Result<Vec<u8>, Problem>> + Send + 'static) {
        self.others.push(Box::pin(answered(id, answer)));
    }
}

/// Refuses a request that is beyond a limit.
pub(super) fn refuse(id: Option<Id>, problem: Problem, requests: &Requests) {
    requests.others.push(Box::pin(async move {
        let problem = kept_back(problem).await;
        let mut out = Vec::with_capacity(256);
        line::error(id.as_ref(), &problem, &mut out);
        let pinned = Pinned::of(out.len());
        LineOutcome::Answer(out, pinned)
    }));
}

/// Opens a subscription.
pub(super) fn subscribe(
    app: &Arc<App>,
    principal: &Principal,
    begun: SubscribeHandle,
    ask: Subscribe,
    requests: &Requests,
) {
    let (app, principal) = (app.clone(), principal.clone());
    requests.others.push(Box::pin(async move {
        let Subscribe { filter, start, gap, bound } = ask;
        let view = View::whole(Format::Frame as usize).bounded(bound);
        match app.open(&principal, filter, start, gap, view).await {
            Ok(reader) => LineOutcome::Opened(begun, Box::new(reader)),
            Err(problem) => LineOutcome::Refused(begun, problem),
        }
    }));
}

/// Starts a request that is answered once. Publishes have their place in the queue when this returns.
pub(super) fn start(
    app: &Arc<App>,
    (principal, account): (&Principal, &Account),
    client_line: ClientLine,
    requests: &mut Requests,
) {
    let ClientLine { id, request } = client_line;
    let (app, principal, account) = (app.clone(), principal.clone(), account.clone());
    if app.listener.rules.read_only && request.is_change() {
        return requests.push(id, async { Err(Problem::new(Code::ReadOnly)) });
    }
    match request {
        Request::Publish(publish) => {
            let answer = app.publish(&principal, &account, publish);
            requests.push(id, async move {
                let published = match answer {
                    Ok(answer) => answer.await,
                    Err(problem) => Err(Box::pin(kept_back(problem)).await),
                };
                published.map(|published| {
                    let mut body = published.body;
                    if published.replayed {
                        add_replayed(&mut body);
                    }
                    body
                })
            });
        }
        Request::Page(ask) => {
            let look = |id, account| async move { look(app, principal, account, id, ask).await };
            requests.reads.push_back(Box::pin(admitted(account, id, look)));
        }
        Request::Delete { topic, key: None } => {
            requests.push(id, async move { app.delete(&principal, topic).await.map(|()| Vec::new()) });
        }
        Request::Delete { topic, key: Some(key) } => requests.push(id, async move {
            let cursor = app.delete_key(&principal, topic, key).await?;
            let mut body = Vec::new();
            page::cursor(cursor, &mut body);
            Ok(body)
        }),
        Request::DeleteMessage { cursor } => {
            requests.push(id, async move { app.remove(&principal, cursor).await.map(|()| Vec::new()) });
        }
        Request::Topics(ask) => {
            requests.push_read(account, id, async move { Ok(app.topics(&principal, &ask).await?.0) });
        }
        Request::Message { cursor } => {
            requests.push_read(account, id, async move {
                let message = app.message(&principal, cursor).await?;
                let mut item = Vec::new();
                tailwire_wire::ENCODERS[Format::Item as usize](&message, &mut item);
                let mut body = Vec::new();
                page::message(&item, &mut body);
                Ok(body)
            });
        }
        Request::Options { term } => requests.push_read(account, id, async move {
            match term {
                Some(term) => app.options(&principal, &term),
                None => app.all_options(&principal).await,
            }
        }),
        Request::SetOptions { term, options } => {
            requests.push(id, async move { app.set_options(&principal, term, options).await });
        }
        Request::DeleteOptions { term } => requests.push(id, async move {
            app.set_options(&principal, term, Options::default()).await.map(|_| Vec::new())
        }),
        Request::Authenticate { token } => requests.others.push(Box::pin(async move {
            match app.settings.authenticator.token(&token).wait().await {
                Ok(principal) => LineOutcome::Identified(id, principal),
                Err(problem) => answered(id, async { Err(problem) }).await,
            }
        })),
        // The session's own, which it has kept for itself.
        Request::Subscribe(_) | Request::Unsubscribe { .. } => {}
    }
}

/// Reads a page of what there is.
async fn look(
    app: Arc<App>,
    principal: Principal,
    account: Account,
    id: Id,
    ask: PageRequest,
) -> LineOutcome {
    let now = PageRequest { wait_ms: 0, ..ask.clone() };
    let reply = app.page(&principal, now, &PAGE, None, (&account, None)).await;
    match reply.map(|reply| reply.made) {
        Ok(made) if ask.wait_ms > 0 && made.retry_after_ms.is_some() => LineOutcome::Waits(
            id,
            PageRequest { start: QueryStart::After(made.cursor), gap: made.gap, ..ask },
        ),
        made => {
            let permitted = app.narrowed(&principal, &ask.filter);
            answered(id, async { made.map(|made| page_body(made.body.into(), permitted.as_ref())) }).await
        }
    }
}

/// Has a page wait for a message. Meanwhile others have their turns.
pub(super) fn wait(
    app: &Arc<App>,
    (principal, account): (&Principal, &Account),
    id: Id,
    ask: PageRequest,
    requests: &Requests,
) {
    let (app, principal, account) = (app.clone(), principal.clone(), account.clone());
    let hold = app.hold_subscription(&principal, &account);
    requests.push(id, async move {
        let _hold = hold?;
        let permitted = app.narrowed(&principal, &ask.filter);
        let reply = app.page(&principal, ask, &PAGE, None, (&account, None)).await?;
        Ok(page_body(reply.made.body.into(), permitted.as_ref()))
    });
}

/// Reads for an answer once there is room for it.
async fn admitted<F: Future<Output = LineOutcome>>(
    account: Account,
    id: Id,
    read: impl FnOnce(Id, Account) -> F,
) -> LineOutcome {
    // Kept until the answer's own share is taken; one that is larger than this room is counted whole all the same.
    match answer_room(&account).await {
        Ok(_room) => read(id, account).await,
        Err(problem) => answered(id, async { Err(problem) }).await,
    }
}

async fn answered(id: Id, answer: impl Future<Output = Result<Vec<u8>, Problem>>) -> LineOutcome {
    let mut out = Vec::with_capacity(128);
    match answer.await {
        Ok(body) => line::ok(&id, &body, &mut out),
        Err(problem) => {
            tracing::debug!(code = problem.code.as_str(), "a request of a WebSocket is refused");
            line::error(Some(&id), &problem, &mut out);
        }
    }
    let pinned = Pinned::of(out.len());
    LineOutcome::Answer(out, pinned)
}

/// A page, with what the header `Tailwire-Narrowed` says over HTTP.
fn page_body(mut body: Vec<u8>, permitted: Option<&Filter>) -> Vec<u8> {
    if let Some(permitted) = permitted
        && body.pop().is_some()
    {
        narrowed::member(permitted, &mut body);
        body.push(b'}');
    }
    body
}

/// The line's twin of the header `Idempotency-Replayed`.
fn add_replayed(body: &mut Vec<u8>) {
    if body.pop().is_some() {
        body.extend_from_slice(br#","idempotency_replayed":true}"#);
    }
}
