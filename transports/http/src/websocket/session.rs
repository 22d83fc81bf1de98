//! One WebSocket connection, as one task: its subscriptions, its requests, its socket.
//!
//! A subscription begins with a reader of its own, whose lines are tagged. Once that has caught up and stands where the
//! connection's live reader stands, the live reader takes its terms over, and its lines are the shared encoding, sent
//! once however many subscriptions they are for.

mod permission;
mod subscriptions;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use smallvec::SmallVec;
use tailwire_core::{Event, ReadError, Reader};
use tailwire_model::{
    Bye, ByeReason, Cursor, Filter, Principal,
    limits::{AUTHENTICATE_MS_MAX, HEARTBEAT_MS, SOCKET_PENDING_MAX},
};
use tailwire_wire::{
    Format, Problem, framing, line,
    line::Welcome,
    request::{self, ClientLine, Id, LineError, Request, Subscribe},
};
use tokio::{net::TcpStream, time::Instant};

use super::{
    First, Start,
    inbound::{Broken, Inbound, Received},
    requests::{self, Outcome, Requests},
};
use crate::{
    api::{
        app::{App, read_problem},
        metrics::Transport,
    },
    connection::outgoing::{HangUp, Outgoing, Outlet, WriteError},
};

/// Close codes (RFC 6455 §7.4.1, and the registry of §11.7).
const CLOSE_UNSUPPORTED: u16 = 1003;
const CLOSE_POLICY: u16 = 1008;
const CLOSE_INTERNAL: u16 = 1011;
const CLOSE_RESTART: u16 = 1012;
const CLOSE_UNAUTHORIZED: u16 = 3000;

const FORMAT: usize = Format::Frame as usize;
/// By how much a line grows when it is tagged, beside the id: the member's name, and a longer head of its frame.
const TAG_BYTES_MAX: usize = 16;

/// See the module.
pub(crate) struct Session {
    app: Arc<App>,
    principal: Principal,
    /// The URL's subscription, while it waits for a credential.
    unpermitted: Option<Box<Subscribe>>,
    outlet: Arc<Outlet>,
    shard: usize,
    out: Outgoing,
    inbound: Inbound,
    /// Gives what is for all subscriptions that have caught up.
    live: Reader,
    subscriptions: SmallVec<[Subscription; 1]>,
    /// How many subscriptions there ever were.
    generations: u64,
    /// Most connections never ask for anything.
    requests: Option<Box<Requests>>,
    /// A heartbeat was due while a subscription had yet to begin.
    heartbeat_owed: bool,
    /// Nothing comes behind what is pending.
    ending: Option<HangUp>,
}

struct Subscription {
    id: Id,
    /// Tells it from others that had the id before.
    generation: u64,
    /// How many terms it asks for.
    terms: usize,
    stage: Stage,
}

enum Stage {
    /// Its reader is being opened.
    Opening,
    /// Its own reader gives it what is stored.
    CatchingUp(Box<Reader>),
    /// The live reader does, for the permitted part of what was asked, among others.
    Live { asked: Arc<Filter>, permitted: Arc<Filter> },
}

/// The connection is over.
struct Over;

impl Future for Session {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let session = self.get_mut();
        session.out.take_back(&mut session.live, FORMAT);
        loop {
            match session.poll_turn(cx) {
                Poll::Ready(Ok(())) if session.out.has_had_its_turn() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Over)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        session.lend();
        Poll::Pending
    }
}

impl Session {
    pub(crate) fn new(stream: TcpStream, received: Bytes, shard: usize, start: Start) -> Self {
        let Start { app, principal, head, subscription } = start;
        let mut live = app.broker.open_empty(&principal, FORMAT);
        live.follow(shard);
        let connected = app.metrics.connected(Transport::WebSocket);
        let mut session = Self {
            outlet: Arc::new(Outlet { stream, connected }),
            app,
            principal,
            unpermitted: None,
            shard,
            out: Outgoing::default(),
            inbound: Inbound::new(received),
            live,
            subscriptions: SmallVec::new(),
            generations: 0,
            requests: None,
            heartbeat_owed: false,
            ending: None,
        };
        session.out.push(head);
        session.welcome(matches!(subscription, First::Waits(_)));
        match subscription {
            First::None => {}
            First::Open(reader) => {
                let opening = session.begin(Id::url(), reader.filter().terms().len());
                session.opened(&opening, reader);
            }
            First::Waits(ask) => {
                session.unpermitted = Some(ask);
                session.live.end_at(Instant::now() + Duration::from_millis(AUTHENTICATE_MS_MAX));
            }
        }
        session
    }

    fn welcome(&mut self, authenticate: bool) {
        let welcome = Welcome {
            epoch: self.app.broker.epoch(),
            heartbeat_ms: HEARTBEAT_MS,
            limits: line::WelcomeLimits::default(),
            authenticate,
        };
        let mut out = Vec::with_capacity(256);
        line::welcome(&welcome, &mut out);
        self.say(&out);
    }

    /// One turn: take what readers and requests have, write it, and then hear what the client says.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        // What follows is gathered when that is written: a stuck connection holds no more than one write.
        let waits_for_all = self.out.is_empty() && self.gather(cx).is_pending();
        let Outlet { stream, connected } = &*self.outlet;
        match (self.out.poll_write(stream, cx, |bytes| connected.wrote(bytes)), &mut self.ending) {
            (Poll::Ready(Ok(())), Some(ending)) => {
                ending.poll(stream, self.live.timer(), cx).map(|()| Err(Over))
            }
            (Poll::Ready(Ok(())), None) if waits_for_all => self.poll_receive(cx),
            (Poll::Ready(Ok(())), None) => Poll::Ready(Ok(())),
            (Poll::Ready(Err(_)), _) => Poll::Ready(Err(Over)),
            (Poll::Pending, _) => self.poll_stalled(cx),
        }
    }

    /// Lends the socket, if nobody but the live reader has anything to say on it.
    fn lend(&self) {
        let is_live = |own: &Subscription| matches!(own.stage, Stage::Live { .. });
        if self.subscriptions.iter().all(is_live) {
            self.out.lend(&self.outlet, &self.live, self.ending.is_some());
        }
    }

    /// Takes what makes up one write. Pending when nobody has anything more, and all will wake the task.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.live.take_review() {
            self.review();
        }
        let live = self.gather_live(cx);
        let count = self.out.len();
        self.gather_catching_up(cx);
        self.gather_answers(cx);
        // Whoever said something may have more to say, and what it said may concern the live reader.
        if self.out.len() == count { live } else { Poll::Ready(()) }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        // Pages that can't be written must not keep others from reading.
        for own in &mut self.subscriptions {
            if let Stage::CatchingUp(reader) = &mut own.stage {
                reader.release();
            }
        }
        if let Some(requests) = &mut self.requests {
            requests.see_through(cx);
        }
        let Some(timer) = self.live.timer() else { return Poll::Pending };
        match ready!(self.out.poll_stall(timer, cx)) {
            Ok(position) => {
                self.live.rewind(position);
                Poll::Ready(Ok(()))
            }
            Err(WriteError::Stalled) => {
                self.outlet.connected.ended(ByeReason::Slow);
                Poll::Ready(Err(Over))
            }
            Err(WriteError::Closed) => Poll::Ready(Err(Over)),
        }
    }

    /// Takes from the live reader what makes up one write.
    fn gather_live(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.ending.is_none() && !self.out.is_full() {
            match ready!(self.live.poll_next(cx)) {
                Ok(event) => self.take_live(event),
                Err(error) => self.fail(None, error),
            }
        }
        Poll::Ready(())
    }

    fn take_live(&mut self, event: Event) {
        let mut out = Vec::new();
        match event {
            Event::Messages(slices) => {
                slices.into_iter().for_each(|slice| self.out.push_messages(slice, FORMAT));
            }
            Event::Heartbeat(_) => self.heartbeat(),
            Event::Gap(gap) => {
                line::gap(&gap, None, &mut out);
                self.say(&out);
            }
            // Each subscription says so for itself.
            Event::CaughtUp(_) => {}
            Event::Bye(_) if self.unpermitted.is_some() => {
                self.close(CLOSE_UNAUTHORIZED, "not authenticated");
            }
            Event::Bye(bye) => self.bye(bye),
        }
    }

    fn bye(&mut self, bye: Bye) {
        let mut out = Vec::new();
        line::bye(bye.reason, bye.retry_after_ms, &mut out);
        self.say(&out);
        self.outlet.connected.ended(bye.reason);
        let code = if bye.reason == ByeReason::Revoked { CLOSE_POLICY } else { CLOSE_RESTART };
        self.close(code, bye.reason.as_str());
    }

    /// Lets each subscription that is catching up go one write further, and joins those that have.
    fn gather_catching_up(&mut self, cx: &mut Context<'_>) {
        for index in 0..self.subscriptions.len() {
            while self.ending.is_none() && !self.out.is_full() {
                let subscription = &mut self.subscriptions[index];
                let Stage::CatchingUp(reader) = &mut subscription.stage else { break };
                let is_opening = !reader.is_open();
                match reader.poll_next(cx) {
                    // Its `ok` was that.
                    Poll::Ready(Ok(Event::Heartbeat(_))) if is_opening => {}
                    Poll::Ready(Ok(event)) => self.take_catching_up(index, event, cx),
                    Poll::Ready(Err(error)) => {
                        let id = subscription.id.clone();
                        self.fail(Some(&id), error);
                    }
                    Poll::Pending => {
                        self.try_join(index, cx);
                        break;
                    }
                }
            }
        }
        if self.heartbeat_owed {
            self.heartbeat();
        }
    }

    fn take_catching_up(&mut self, index: usize, event: Event, cx: &Context<'_>) {
        let id = &self.subscriptions[index].id;
        let mut out = Vec::new();
        match event {
            Event::Messages(slices) => {
                let mut frames = Vec::new();
                for slice in &slices {
                    let lines = slice.encoded(FORMAT);
                    frames.reserve(lines.len() + slice.len() * (TAG_BYTES_MAX + id.as_str().len()));
                    framing::tag_line(id.as_str(), &lines, &mut frames);
                }
                self.out.push_own(frames, slices);
            }
            Event::Gap(gap) => {
                line::gap(&gap, Some(id), &mut out);
                self.say(&out);
            }
            // It says so when the live reader takes over.
            Event::CaughtUp(_) => self.try_join(index, cx),
            Event::Heartbeat(_) => self.heartbeat(),
            Event::Bye(bye) if bye.reason == ByeReason::Revoked => self.bye(bye),
            // The live reader has it for the whole connection.
            Event::Bye(_) => {}
        }
    }

    /// Hands a subscription that is at the tail to the live reader, where that stands at the same place.
    fn try_join(&mut self, index: usize, cx: &Context<'_>) {
        let subscription = &mut self.subscriptions[index];
        let Stage::CatchingUp(reader) = &mut subscription.stage else { return };
        if !reader.is_caught_up() {
            return;
        }
        if !self.live.stands_with(reader) {
            // One of them has seen a round that the other has not; the next round brings them together.
            self.live.wake_next_round(cx);
            return;
        }
        self.live.join(reader);
        let mut out = Vec::new();
        line::caught_up(reader.cursor(), Some(&subscription.id), &mut out);
        subscription.stage =
            Stage::Live { asked: reader.asked().clone(), permitted: reader.permitted().clone() };
        self.say(&out);
    }

    /// The place up to which every subscription has been given everything; `None` while one has yet to begin.
    fn lowest_cursor(&self) -> Option<Cursor> {
        self.subscriptions.iter().try_fold(self.live.cursor(), |lowest, own| match &own.stage {
            Stage::Live { .. } => Some(lowest),
            Stage::CatchingUp(reader) if reader.is_open() => Some(lowest.min(reader.cursor())),
            Stage::CatchingUp(_) | Stage::Opening => None,
        })
    }

    /// A sign of life. A client that keeps its cursor as the connection's must not skip what a subscription has yet to
    /// catch up with.
    fn heartbeat(&mut self) {
        let Some(cursor) = self.lowest_cursor() else {
            self.heartbeat_owed = true;
            return;
        };
        self.heartbeat_owed = false;
        let mut out = Vec::new();
        line::heartbeat(cursor, &mut out);
        self.out.push_heartbeat(framed(&out));
    }

    /// Takes what requests came to, up to what makes up one write. Of those that are left the task is woken, or it finds
    /// them once that is written.
    fn gather_answers(&mut self, cx: &mut Context<'_>) {
        while !self.out.is_full()
            && let Some(requests) = &mut self.requests
        {
            match requests.poll_next(cx) {
                Poll::Ready(Some(outcome)) => self.take_outcome(outcome),
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return,
            }
        }
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answer(answer) => self.say(&answer),
            Outcome::Identified(id, principal) => self.identified(&id, principal),
            Outcome::Opened(opening, reader) => self.opened(&opening, reader),
            Outcome::Refused(opening, problem) => {
                self.subscriptions.retain(|own| own.generation != opening.generation);
                self.refuse(Some(&opening.id), &problem);
            }
            Outcome::Waits(id, ask) => {
                let requests = self.requests.get_or_insert_default();
                requests::wait(&self.app, &self.principal, id, ask, requests);
            }
        }
    }

    /// Takes what the client sends. Ready when there is something to write, or the connection is over.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        loop {
            if self.ending.is_some() {
                return Poll::Ready(Ok(()));
            }
            // A client that asks faster than it can be answered, or doesn't take its answers, is not read from.
            let too_many =
                self.requests.as_ref().is_some_and(|requests| requests.len() >= SOCKET_PENDING_MAX);
            let may_ask = !too_many && !self.out.is_full();
            if may_ask && self.inbound.has_unread() && self.take_received() {
                self.gather_answers(cx);
                continue;
            }
            if !self.out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if too_many {
                return Poll::Pending;
            }
            let stream = &self.outlet.stream;
            if ready!(stream.poll_read_ready(cx)).is_err() || self.inbound.read(stream).is_err() {
                return Poll::Ready(Err(Over));
            }
        }
    }

    /// Takes one message of what was received. False when it needs more.
    fn take_received(&mut self) -> bool {
        let mut answer = Vec::new();
        let received = self.inbound.next(&mut answer);
        self.out.push(answer);
        match received {
            Ok(Received::Line(line)) => self.take_line(&line),
            Ok(Received::Nothing) => return false,
            Ok(Received::Binary) => self.close(CLOSE_UNSUPPORTED, "lines are text"),
            // The protocol has written the reply already.
            Ok(Received::Close) => self.ending = Some(HangUp::default()),
            Err(Broken(code)) => self.close(code, ""),
        }
        true
    }

    fn take_line(&mut self, text: &str) {
        match request::parse(text) {
            Ok(ClientLine { id, request: Request::Subscribe(ask) }) => self.subscribe(id, ask),
            Ok(ClientLine { id, request: Request::Unsubscribe { sub } }) => self.unsubscribe(&id, &sub),
            Ok(other) => {
                let requests = self.requests.get_or_insert_default();
                requests::start(&self.app, &self.principal, other, requests);
            }
            Err(LineError { id, problem }) => self.refuse(id.as_ref(), &problem),
        }
    }

    fn refuse(&mut self, id: Option<&Id>, problem: &Problem) {
        let mut out = Vec::new();
        line::error(id, problem, &mut out);
        self.say(&out);
    }

    /// The log can't be read on for a subscription, or for those that have caught up.
    fn fail(&mut self, id: Option<&Id>, error: ReadError) {
        self.refuse(id, &read_problem(error));
        self.close(CLOSE_INTERNAL, "the log could not be read");
    }

    fn say(&mut self, line: &[u8]) {
        self.out.push(framed(line));
    }

    fn close(&mut self, code: u16, reason: &str) {
        let mut frame = Vec::new();
        framing::frame_close(code, reason, &mut frame);
        self.out.push(frame);
        self.ending = Some(HangUp::default());
    }
}

fn framed(line: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(line.len() + 10);
    framing::frame_text(line, &mut frame);
    frame
}
