//! Requests as limits count them, whatever carries them: over HTTP, and as lines of a WebSocket.

use std::{net::IpAddr, time::Duration};

use tailwire_model::{
    Draft, Principal, QuotaExceeded, client_network,
    limits::{LIMITED_PAUSE_MS, STORAGE_RETRY_MS},
    retry,
};
use tailwire_wire::{Code, Problem};

use super::app::App;
use crate::{
    connection::{caller::Caller, pinned::Account},
    limiter::{Counting, Flow, HeldKind, Hold, LimitLabel},
};

impl App {
    /// Counts a request for an address, before anything is found out about it.
    pub(super) fn count_caller(&self, caller: &Caller) -> Result<(), Problem> {
        let whom = Counting { address: caller.address.map(client_network), ..Counting::default() };
        self.limiter.take(whom, &[(Flow::Requests, 1)])
    }

    /// Counts the same request for its principal, and for all: what an address or a principal is refused is nobody else's.
    pub(super) fn count_principal(&self, principal: &Principal) -> Result<(), Problem> {
        let whom = Counting { principal: Some(principal), in_total: true, ..Counting::default() };
        self.limiter.take(whom, &[(Flow::Requests, 1)])
    }

    /// Counts a request of a client that is known.
    pub(crate) fn count_request(&self, principal: &Principal, account: &Account) -> Result<(), Problem> {
        self.limiter.take(client(principal, account), &[(Flow::Requests, 1)])
    }

    pub(super) fn count_publish(
        &self,
        principal: &Principal,
        account: &Account,
        drafts: &[Draft],
    ) -> Result<(), Problem> {
        let is_there = |topic: &_| self.broker.has_topic(topic);
        self.limiter.publish(client(principal, account), drafts, is_there)
    }

    /// Counts a stream, a subscription, or a poll that waits, for as long as it is open.
    pub(crate) fn hold_subscription(
        &self,
        principal: &Principal,
        account: &Account,
    ) -> Result<Hold, Problem> {
        self.limiter.hold(client(principal, account), HeldKind::Subscriptions)
    }

    /// Counts a connection, when it is accepted. That of a proxy is no single client's.
    pub(super) fn hold_connection(&self, peer: Option<IpAddr>) -> Result<Hold, Problem> {
        let is_proxy = self.settings.trusted_proxies.trust(peer);
        let address = peer.filter(|_| !is_proxy).map(client_network);
        let whom = Counting { address, in_total: true, ..Counting::default() };
        self.limiter.take(whom, &[(Flow::Connects, 1)])?;
        self.limiter.hold(whom, HeldKind::Connections)
    }

    /// Counts a connection that becomes a stream or WebSocket: it is its principal's then, and behind a proxy its client's.
    pub(super) fn hold_stream(&self, principal: &Principal, caller: &Caller) -> Result<Hold, Problem> {
        let address = caller.address.filter(|_| caller.address != caller.peer).map(client_network);
        self.hold_stream_of(Counting { address, principal: Some(principal), in_total: false })
    }

    /// The same, for a WebSocket whose client says who it is later.
    pub(crate) fn hold_identified(&self, principal: &Principal) -> Result<Hold, Problem> {
        self.hold_stream_of(Counting { principal: Some(principal), ..Counting::default() })
    }

    fn hold_stream_of(&self, whom: Counting<'_>) -> Result<Hold, Problem> {
        self.limiter.take(whom, &[(Flow::Connects, 1)])?;
        self.limiter.hold(whom, HeldKind::Connections)
    }

    /// The refusal of a publish that a quota has no room for. The standard for quotas of what is stored has this status (RFC 4331 §6): it
    /// is no matter of pace, as what is 429 is. Retention or a removal makes room.
    pub(super) fn over_quota(&self, exceeded: &QuotaExceeded) -> Problem {
        self.metrics.limited().get_or_create(&LimitLabel::quota(exceeded.kind)).inc();
        let retry_ms = retry::spread(STORAGE_RETRY_MS, self.broker.clock().draw());
        Problem::detailed(Code::QuotaExceeded, exceeded.to_string()).with_retry_after_ms(retry_ms)
    }

    /// Counts a subscription that was opened as somebody else's.
    pub(crate) fn hold_identified_subscription(&self, principal: &Principal) -> Result<Hold, Problem> {
        let whom = Counting { principal: Some(principal), ..Counting::default() };
        self.limiter.hold(whom, HeldKind::Subscriptions)
    }
}

/// Keeps a refusal by a limit back for a moment: a client that asks again as soon as it is answered would take others' time.
pub(crate) async fn kept_back(problem: Problem) -> Problem {
    let Some(retry_after_ms) = problem.retry_after_ms().filter(|_| problem.code == Code::RateLimited) else {
        return problem;
    };
    tokio::time::sleep(Duration::from_millis(LIMITED_PAUSE_MS)).await;
    problem.with_retry_after_ms(retry_after_ms.saturating_sub(LIMITED_PAUSE_MS).max(1))
}

fn client<'a>(principal: &'a Principal, account: &Account) -> Counting<'a> {
    Counting { address: account.address(), principal: Some(principal), in_total: true }
}
