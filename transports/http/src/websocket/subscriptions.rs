//! The subscriptions of a native WebSocket.
//!
//! A subscription begins with a reader of its own, whose lines are tagged. Once that has caught up and stands where the
//! connection's live reader stands, the live reader takes its terms over, and its lines are the shared encoding, sent
//! once however many subscriptions they are for.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use smallvec::SmallVec;
use tailwire_core::{Broker, Event, ReadError, Reader};
use tailwire_model::{
    ByeReason, Cursor, Filter, Principal,
    limits::{SOCKET_SUBSCRIPTIONS_MAX, SOCKET_TERMS_MAX},
};
use tailwire_wire::{
    Code, Problem, framing, line,
    request::{Id, Subscribe},
};

use crate::{connection::protocol::Io, limiter::Hold};

/// See the module.
#[derive(Default)]
pub(super) struct Subscriptions {
    all: SmallVec<[Subscription; 1]>,
    /// How many subscriptions there ever were.
    generations: u64,
    /// A heartbeat was due while a subscription had yet to begin.
    is_heartbeat_due: bool,
}

struct Subscription {
    id: Id,
    /// Tells it from others that had the id before.
    generation: u64,
    /// How many terms it asks for.
    terms: usize,
    stage: SubscriptionStage,
    /// The subscription as limits count it: for the principal that has opened it, and for one that the connection came to be of
    /// later.
    holds: [Hold; 2],
}

enum SubscriptionStage {
    /// Its reader is being opened.
    Opening,
    /// Its own reader gives it what is stored.
    CatchingUp(Box<Reader>),
    /// The live reader does, for the permitted part of what was asked, among others.
    Live { asked: Arc<Filter>, permitted: Arc<Filter> },
}

/// Why the connection can't go on as it is.
pub(super) enum Failed {
    /// The log can't be read on for a subscription.
    Read(Id, ReadError),
    /// The filter of one of them is no longer permitted.
    Revoked,
}

/// Which subscribe something came of: its id may be free again, and taken by another, before it has opened.
pub(super) struct SubscribeHandle {
    pub(super) id: Id,
    generation: u64,
}

impl Subscriptions {
    /// A subscription that has yet to open takes its id, if there is room for it.
    pub(super) fn admit(
        &mut self,
        id: Id,
        ask: &Subscribe,
        hold: Hold,
    ) -> Result<SubscribeHandle, (Id, Code)> {
        let terms = ask.filter.terms().len();
        let refused = if self.all.iter().any(|own| own.id == id) {
            Some(Code::SubscriptionExists)
        } else if self.all.len() >= SOCKET_SUBSCRIPTIONS_MAX {
            Some(Code::SubscriptionsTooMany)
        } else if self.all.iter().map(|own| own.terms).sum::<usize>() + terms > SOCKET_TERMS_MAX {
            Some(Code::FilterTooLarge)
        } else {
            None
        };
        match refused {
            Some(code) => Err((id, code)),
            None => Ok(self.begin(id, terms, hold)),
        }
    }

    /// The same for the URL's, which is the first.
    pub(super) fn begin(&mut self, id: Id, terms: usize, hold: Hold) -> SubscribeHandle {
        self.generations += 1;
        let generation = self.generations;
        let (stage, holds) = (SubscriptionStage::Opening, [hold, Hold::default()]);
        self.all.push(Subscription { id: id.clone(), generation, terms, stage, holds });
        SubscribeHandle { id, generation }
    }

    /// Counts each for another principal, in place of the one before.
    ///
    /// # Errors
    /// That of `hold`.
    pub(super) fn count_as(&mut self, hold: impl Fn() -> Result<Hold, Problem>) -> Result<(), Problem> {
        self.all.iter_mut().for_each(|own| own.holds[1] = Hold::default());
        self.all.iter_mut().try_for_each(|own| hold().map(|hold| own.holds[1] = hold))
    }

    /// A subscription's reader is open: its `ok` comes before its lines. False if what it asked for is not permitted to
    /// this principal: the connection may have become somebody else's meanwhile.
    pub(super) fn opened(
        &mut self,
        begun: &SubscribeHandle,
        mut reader: Box<Reader>,
        principal: &Principal,
        io: &mut Io,
    ) -> bool {
        let mut out = Vec::new();
        line::ok_cursor(&begun.id, reader.cursor(), reader.narrowed(), &mut out);
        io.send_text(&out);
        // It may have been ended again meanwhile.
        if let Some(own) = self.all.iter_mut().find(|own| own.generation == begun.generation) {
            reader.follow(io.shard());
            // Whose line it is that is too large makes no difference to who reads them.
            io.live().tighten(reader.view());
            let is_permitted = reader.principal() == principal || reader.assign(principal);
            own.stage = SubscriptionStage::CatchingUp(reader);
            return is_permitted;
        }
        true
    }

    /// Gives every subscription what the principal is permitted of what it has asked for, by the policy as of now. False if
    /// one of them is left with nothing.
    pub(super) fn review(&mut self, principal: &Principal, broker: &Broker, io: &mut Io) -> bool {
        self.all.iter_mut().all(|own| match &mut own.stage {
            // It is given its principal when it has opened.
            SubscriptionStage::Opening => true,
            SubscriptionStage::CatchingUp(reader) => reader.assign(principal),
            SubscriptionStage::Live { asked, permitted } => {
                let Ok(now) = broker.permit_read(principal, (**asked).clone()) else { return false };
                if now != **permitted {
                    io.live().exchange(permitted, &now);
                    *permitted = Arc::new(now);
                }
                true
            }
        })
    }

    /// A subscription could not be opened.
    pub(super) fn refused(&mut self, begun: &SubscribeHandle) {
        self.all.retain(|own| own.generation != begun.generation);
    }

    /// Ends a subscription. False if there is none of that id.
    pub(super) fn end(&mut self, sub: &Id, io: &mut Io) -> bool {
        let Some(index) = self.all.iter().position(|own| own.id == *sub) else { return false };
        let subscription = self.all.swap_remove(index);
        if let SubscriptionStage::Live { permitted, .. } = subscription.stage {
            io.live().part(&permitted);
        }
        true
    }

    /// Whether nobody but the live reader has anything to say.
    pub(super) fn are_live(&self) -> bool {
        self.all.iter().all(|own| matches!(own.stage, SubscriptionStage::Live { .. }))
    }

    /// Pages that can't be written must not keep others from reading.
    pub(super) fn release(&mut self) {
        for own in &mut self.all {
            if let SubscriptionStage::CatchingUp(reader) = &mut own.stage {
                reader.release();
            }
        }
    }

    /// Lets each subscription that is catching up go one write further, and joins those that have.
    ///
    /// # Errors
    /// When one of them can't go on.
    pub(super) fn poll(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Result<(), Failed> {
        for index in 0..self.all.len() {
            while !io.is_ending() && !io.is_full() {
                let subscription = &mut self.all[index];
                let SubscriptionStage::CatchingUp(reader) = &mut subscription.stage else { break };
                let is_opening = !reader.is_open();
                match reader.poll_next(cx) {
                    // Its `ok` was that.
                    Poll::Ready(Ok(Event::Heartbeat(_))) if is_opening => {}
                    Poll::Ready(Ok(Event::Bye(bye))) if bye.reason == ByeReason::Revoked => {
                        return Err(Failed::Revoked);
                    }
                    Poll::Ready(Ok(event)) => self.take(index, event, io, cx),
                    Poll::Ready(Err(error)) => {
                        return Err(Failed::Read(subscription.id.clone(), error));
                    }
                    Poll::Pending => {
                        self.try_join(index, io, cx);
                        break;
                    }
                }
            }
        }
        if self.is_heartbeat_due {
            self.heartbeat(io);
        }
        Ok(())
    }

    fn take(&mut self, index: usize, event: Event, io: &mut Io, cx: &Context<'_>) {
        let id = &self.all[index].id;
        match event {
            Event::Messages(slices) => {
                io.send_prefixed(slices, |_, out| framing::tag(id.as_str(), out));
            }
            Event::Gap(gap) => {
                let mut out = Vec::new();
                line::gap(&gap, Some(id), &mut out);
                io.send_text(&out);
            }
            // It says so when the live reader takes over.
            Event::CaughtUp(_) => self.try_join(index, io, cx),
            Event::Heartbeat(_) => self.heartbeat(io),
            // The live reader has it for the whole connection.
            Event::Bye(_) => {}
        }
    }

    /// Hands a subscription that is at the tail to the live reader, where that stands at the same place.
    fn try_join(&mut self, index: usize, io: &mut Io, cx: &Context<'_>) {
        let subscription = &mut self.all[index];
        let SubscriptionStage::CatchingUp(reader) = &mut subscription.stage else { return };
        if !reader.is_caught_up() {
            return;
        }
        if !io.live().stands_with(reader) {
            // One of them has seen a round that the other has not; the next round brings them together.
            io.live().wake_next_round(cx);
            return;
        }
        io.live().join(reader);
        let mut out = Vec::new();
        line::caught_up(reader.cursor(), Some(&subscription.id), &mut out);
        subscription.stage =
            SubscriptionStage::Live { asked: reader.asked().clone(), permitted: reader.permitted().clone() };
        io.send_text(&out);
    }

    /// The place up to which every subscription has been given everything; `None` while one has yet to begin.
    fn lowest_cursor(&self, live: Cursor) -> Option<Cursor> {
        self.all.iter().try_fold(live, |lowest, own| match &own.stage {
            SubscriptionStage::Live { .. } => Some(lowest),
            SubscriptionStage::CatchingUp(reader) if reader.is_open() => Some(lowest.min(reader.cursor())),
            SubscriptionStage::CatchingUp(_) | SubscriptionStage::Opening => None,
        })
    }

    /// A sign of life. A client that keeps its cursor as the connection's must not skip what a subscription has yet to
    /// catch up with.
    pub(super) fn heartbeat(&mut self, io: &mut Io) {
        let cursor = self.lowest_cursor(io.live().cursor());
        self.is_heartbeat_due = cursor.is_none();
        if let Some(cursor) = cursor {
            let mut out = Vec::new();
            line::heartbeat(cursor, &mut out);
            io.send_heartbeat_text(&out);
        }
    }
}
