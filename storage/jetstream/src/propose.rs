//! The proposer: sends what waits to the stream, again where that is needed, and watches over the connection: a server that
//! brings nothing forward is left for another.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::{
    task::yield_now,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    hub::{FlawOf, Hub},
    link::Link,
    proposals::OUTCOME_WAIT,
    replica::Divergence,
    stream::StreamError,
};

const TICK: Duration = Duration::from_millis(100);
/// How often the stream's leader is asked how far it is.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long there may be no progress, where there should be, before another server is tried.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a stream may be short of what was applied before that is believed: a server that was the leader, and does not
/// know yet that it is no more, may say so for a while.
const SHORT_AFTER: Duration = Duration::from_secs(30);

/// Sends entries, until the node ends.
pub(crate) async fn propose(link: Link, hub: Arc<Hub>, acks: String, random: fn() -> u64) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = hub.stop.subscribe();
    let mut closing = None;
    loop {
        tokio::select! {
            () = hub.wake.notified() => {}
            () = link.signs.renewed.notified() => {}
            _ = tick.tick() => expire(&hub),
            _ = stop.wait_for(|stop| *stop) => return,
        }
        // Those who are about to publish share this entry.
        yield_now().await;
        if link.is_connected() {
            let was_renewed = link.signs.was_renewed.swap(false, Ordering::AcqRel);
            let is_soon = hub.sends_again.swap(false, Ordering::AcqRel) || was_renewed;
            give_up_stale(&hub, random());
            let again = hub.proposals.lock().again(Instant::now(), is_soon);
            if is_soon && again.is_empty() && hub.proposals.lock().awaits() {
                // They were sent just now: at the next tick.
                hub.sends_again.store(true, Ordering::Release);
            }
            send(&link, &acks, again).await;
            send_new(&link, &hub, &acks).await;
        }
        let (is_closed, is_idle) = {
            let proposals = hub.proposals.lock();
            (proposals.is_closed(), proposals.is_idle())
        };
        let since = is_closed.then(|| closing.get_or_insert_with(Instant::now).elapsed());
        // What has no outcome by then has been answered so.
        if since.is_some_and(|since| is_idle || since > OUTCOME_WAIT) {
            hub.stop.send_replace(true);
            return;
        }
    }
}

async fn send_new(link: &Link, hub: &Hub, acks: &str) {
    loop {
        let applied = hub.applied();
        let entry = hub.proposals.lock().next_entry(applied, Instant::now());
        let Some(frames) = entry else { return };
        send(link, acks, frames).await;
    }
}

async fn send(link: &Link, acks: &str, frames: Vec<Bytes>) {
    for frame in frames {
        // What finds no room is sent again.
        link.send(&link.names.entries, Some(acks), frame).await;
    }
}

fn give_up_stale(hub: &Hub, incarnation: u64) {
    let given_up = hub.proposals.lock().give_up_stale(Instant::now(), incarnation);
    if let Some(waiting) = given_up {
        tracing::warn!("entries of this node are given up: the stream has not given them back for too long");
        waiting.into_iter().for_each(|waiting| waiting.fail(true));
    }
}

fn expire(hub: &Hub) {
    let (unknown, undone) = hub.proposals.lock().expire(Instant::now());
    unknown.into_iter().for_each(|waiting| waiting.fail(true));
    undone.into_iter().for_each(|waiting| waiting.fail(false));
}

/// Reads what JetStream says to entries: how far it is, or why it took none.
pub(crate) async fn read_acks(hub: Arc<Hub>, mut acks: Subscriber) {
    let mut complained = None;
    while let Some(ack) = acks.next().await {
        let answer: Value = serde_json::from_slice(&ack.payload).unwrap_or(Value::Null);
        if let Some(sequence) = answer["seq"].as_u64() {
            hub.was_heard();
            hub.has_reached(sequence);
            complained = None;
            continue;
        }
        let why = answer["error"]["description"].as_str();
        let why = why.unwrap_or("no server leads the stream").to_owned();
        if complained.as_ref() != Some(&why) {
            tracing::warn!(why, "the stream takes no entries");
            complained = Some(why);
        }
    }
}

/// Asks the stream's leader again and again how far it is, and leaves a server that brings nothing forward.
pub(crate) async fn watch(link: Link, hub: Arc<Hub>) {
    let mut short_since: Option<Instant> = None;
    let mut left = Instant::now();
    let mut misses = 0;
    // How far this node was when it first had reason to go on, and since when.
    let mut stands: Option<(u64, Instant)> = None;
    loop {
        let asked = Instant::now();
        match link.info().await {
            Ok(info) if info.log != hub.log => hub.diverge(Divergence::Log(info.last)),
            Ok(info) => {
                misses = 0;
                hub.set_flaw(FlawOf::Stream, info.flaw.clone());
                let applied = hub.applied().sequence;
                if info.last < applied {
                    let since = *short_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > SHORT_AFTER {
                        hub.diverge(Divergence::Short { last: info.last, applied });
                    }
                } else {
                    short_since = None;
                    hub.was_heard();
                    hub.has_reached(info.last);
                    *hub.stream.lock() = Some(info);
                }
            }
            Err(error @ (StreamError::Absent(_) | StreamError::Unfit(..))) => {
                hub.set_flaw(FlawOf::Stream, Some(error.to_string()));
            }
            Err(StreamError::Link(error)) => {
                misses += 1;
                tracing::debug!(%error, "the stream's leader does not answer");
            }
        }
        let has_more = *hub.reached().borrow() > hub.applied().sequence || hub.proposals.lock().awaits();
        let applied = hub.applied().sequence;
        stands = stands.filter(|(at, _)| has_more && *at == applied);
        let since = has_more.then(|| stands.get_or_insert_with(|| (applied, Instant::now())).1);
        let is_stuck = misses > 1 || since.is_some_and(|since| since.elapsed() > PATIENCE);
        if is_stuck && link.is_connected() && left.elapsed() > PATIENCE {
            tracing::info!(server = link.server(), "another NATS server is tried");
            left = Instant::now();
            link.leave_server().await;
        }
        if *hub.stop.borrow() {
            return;
        }
        sleep(ASK_EVERY.saturating_sub(asked.elapsed())).await;
    }
}
