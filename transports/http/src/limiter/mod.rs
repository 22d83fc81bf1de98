//! Limits: how much of each kind one address, one principal, or all together may do. What is beyond is refused with the time
//! after which to come back. Without limits there is nothing here, and a request costs one look.
//!
//! Of a client each rate is one number ([`Rate`]), and its row stands in a table of fixed size ([`table`]). The crate `governor`
//! has the same rule over maps that grow with their keys until they are swept, one for each kind; here one row has all kinds,
//! and memory is bounded for any number of clients. Each node of a cluster counts by itself.

mod begun;
mod bounds;
mod kinds;
mod row;
mod table;

use std::{hash::Hash, net::IpAddr, sync::Arc, time::Instant};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use tailwire_core::Clock;
use tailwire_model::{
    Draft, Principal, QuotaKind, Topic,
    limits::{LIMITED_ADDRESSES_MAX, LIMITED_PRINCIPALS_MAX, LIMITED_RETRY_MS},
    retry,
};
use tailwire_wire::{Code, Problem, QuotaPolicy};

pub use self::bounds::{ClientBounds, Limits};
pub(crate) use self::kinds::{Flow, HeldKind};
use self::{
    begun::BegunTopics,
    kinds::Scope,
    row::Row,
    table::{RowName, Table},
};

/// How far apart those come back who were all refused for what all did together.
const TOTAL_SPREAD_MS: f64 = 1000.0;

/// By whom something is done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counting<'a> {
    /// An address, as clients are told apart.
    pub(crate) address: Option<IpAddr>,
    /// A principal. An anonymous one is nobody.
    pub(crate) principal: Option<&'a Principal>,
    /// Whether it counts for all together.
    pub(crate) in_total: bool,
}

/// See the module. Cloning is cheap.
#[derive(Clone, Default)]
pub(crate) struct Limiter(Option<Arc<LimiterState>>);

struct LimiterState {
    limits: Limits,
    addresses: Option<Table>,
    principals: Option<Table>,
    total: Mutex<Row>,
    /// Where new topics are limited.
    begun: Option<BegunTopics>,
    refusals: Refusals,
    began: Instant,
    clock: Clock,
}

/// Something that is open, and counts until the last copy of this is dropped. Nothing, where nothing is limited.
#[derive(Clone, Default)]
pub(crate) struct Hold(Option<Arc<HeldCount>>);

struct HeldCount {
    inner: Arc<LimiterState>,
    held: HeldKind,
    rows: Rows,
}

/// The rows that something counts in.
#[derive(Debug, Clone, Copy)]
struct Rows {
    address: Option<RowName>,
    principal: Option<RowName>,
    in_total: bool,
}

/// Refusals, by the limit and the kind.
pub(crate) type Refusals = Family<LimitLabel, Counter>;

/// See [`Refusals`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LimitLabel {
    limit: &'static str,
    kind: &'static str,
}

impl LimitLabel {
    /// That of a quota.
    pub(crate) const fn quota(kind: QuotaKind) -> Self {
        Self { limit: "quota", kind: kind.as_str() }
    }
}

/// A bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exceeded {
    scope: Scope,
    policy: QuotaPolicy,
    /// How long it takes until it is open again, where that is known.
    wait_ms: Option<u64>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits, clock: Clock, refusals: Refusals) -> Self {
        if limits == Limits::default() {
            return Self(None);
        }
        let table =
            |bounds: ClientBounds, rows| (bounds != ClientBounds::default()).then(|| Table::new(rows));
        Self(Some(Arc::new(LimiterState {
            addresses: table(limits.address, LIMITED_ADDRESSES_MAX),
            principals: table(limits.principal, LIMITED_PRINCIPALS_MAX),
            total: Mutex::default(),
            begun: limits.all().any(|bounds| bounds.new_topics.is_some()).then(BegunTopics::default),
            refusals,
            began: Instant::now(),
            clock,
            limits,
        })))
    }

    /// Counts so much of each kind, or nothing of it where a bound is met.
    ///
    /// # Errors
    /// `rate-limited`.
    pub(crate) fn take(&self, whom: Counting<'_>, amounts: &[(Flow, u64)]) -> Result<(), Problem> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let now_ns = inner.now_ns();
        let rows = inner.rows(whom, |bounds| amounts.iter().any(|(flow, _)| bounds.rate(*flow).is_some()));
        let taken = inner.change(rows, now_ns, |scope, row| {
            row.take(inner.limits.of(scope), amounts, now_ns)
                .map_err(|(flow, wait_ns)| inner.late(scope, flow, wait_ns))
        });
        taken.map_err(|exceeded| inner.refuse(exceeded))
    }

    /// Counts a publish: its messages, what they take, and the topics that begin with it.
    ///
    /// # Errors
    /// `rate-limited`: then nothing of it counts.
    pub(crate) fn publish(
        &self,
        whom: Counting<'_>,
        drafts: &[Draft],
        is_there: impl Fn(&Topic) -> bool,
    ) -> Result<(), Problem> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let bytes = drafts.iter().map(|draft| draft.cost() as u64).sum();
        let new = inner.begun.as_ref().map(|begun| begun.new_among(drafts, is_there, inner.now_ns()));
        let topics = new.as_ref().map_or(0, |new| new.len() as u64);
        let messages = drafts.len() as u64;
        self.take(whom, &[(Flow::Publishes, messages), (Flow::Bytes, bytes), (Flow::NewTopics, topics)])?;
        if let (Some(begun), Some(new)) = (&inner.begun, new) {
            begun.add(new);
        }
        Ok(())
    }

    /// Counts something that is opened, for as long as it is open.
    ///
    /// # Errors
    /// `rate-limited`.
    pub(crate) fn hold(&self, whom: Counting<'_>, held: HeldKind) -> Result<Hold, Problem> {
        let Some(inner) = &self.0 else { return Ok(Hold::default()) };
        let rows = inner.rows(whom, |bounds| bounds.held(held).is_some());
        let counted = inner.change(rows, inner.now_ns(), |scope, row| {
            let bound = inner.limits.of(scope).held(held);
            row.hold(held, bound).map_err(|quota| inner.full(scope, held, quota))
        });
        counted.map_err(|exceeded| inner.refuse(exceeded))?;
        Ok(Hold(Some(Arc::new(HeldCount { inner: inner.clone(), held, rows }))))
    }
}

impl Hold {
    /// Whether anything counts.
    pub(crate) const fn is_counted(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for HeldCount {
    fn drop(&mut self) {
        let Self { inner, held, rows } = self;
        // Nothing refuses to be released.
        let _: Result<(), Exceeded> = inner.change(*rows, inner.now_ns(), |_, row| {
            row.release(*held);
            Ok(())
        });
    }
}

impl LimiterState {
    fn now_ns(&self) -> u64 {
        // 584 years.
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The rows of a client in those scopes that have a say.
    fn rows(&self, whom: Counting<'_>, concerns: impl Fn(&ClientBounds) -> bool) -> Rows {
        let Limits { address, principal, total } = &self.limits;
        let known = whom.principal.filter(|principal| !principal.is_anonymous());
        Rows {
            address: name(self.addresses.as_ref(), whom.address.filter(|_| concerns(address))),
            principal: name(
                self.principals.as_ref(),
                known.filter(|_| concerns(principal)).map(Principal::scope),
            ),
            in_total: whom.in_total && concerns(total),
        }
    }

    /// Changes rows, all of them or none: a client that is refused by one of them has used nothing up of the others, which it
    /// may share. The locks are taken in this order only.
    fn change(
        &self,
        rows: Rows,
        now_ns: u64,
        change: impl Fn(Scope, &mut Row) -> Result<(), Exceeded>,
    ) -> Result<(), Exceeded> {
        let in_total = || if rows.in_total { change(Scope::Total, &mut self.total.lock()) } else { Ok(()) };
        let by_principal = || match (&self.principals, rows.principal) {
            (Some(table), Some(name)) => table.change(name, now_ns, |row| {
                change(Scope::Principal, row)?;
                in_total()
            }),
            _ => in_total(),
        };
        match (&self.addresses, rows.address) {
            (Some(table), Some(name)) => table.change(name, now_ns, |row| {
                change(Scope::Address, row)?;
                by_principal()
            }),
            _ => by_principal(),
        }
    }

    fn late(&self, scope: Scope, flow: Flow, wait_ns: u64) -> Exceeded {
        let rate = self.limits.of(scope).rate(flow);
        let (quota, window_s) = rate.map_or((0, None), |rate| (rate.quota(), Some(rate.window_s())));
        let policy = QuotaPolicy { limit: scope.as_str(), kind: flow.as_str(), quota, window_s };
        Exceeded { scope, policy, wait_ms: Some(wait_ns.div_ceil(1_000_000)) }
    }

    fn full(&self, scope: Scope, held: HeldKind, quota: u32) -> Exceeded {
        let policy = QuotaPolicy { limit: scope.as_str(), kind: held.as_str(), quota, window_s: None };
        Exceeded { scope, policy, wait_ms: None }
    }

    /// The refusal, counted.
    fn refuse(&self, Exceeded { scope, policy, wait_ms }: Exceeded) -> Problem {
        let QuotaPolicy { limit, kind, .. } = policy;
        self.refusals.get_or_create(&LimitLabel { limit, kind }).inc();
        let draw = self.clock.draw();
        let retry_after_ms = match (wait_ms, scope) {
            // Nobody knows when a client lets go of something.
            (None, _) => retry::spread(LIMITED_RETRY_MS, draw),
            (Some(wait_ms), Scope::Total) => wait_ms.saturating_add((draw * TOTAL_SPREAD_MS) as u64),
            (Some(wait_ms), Scope::Address | Scope::Principal) => wait_ms,
        };
        Problem::detailed(Code::RateLimited, detail(scope, &policy))
            .with_policy(policy)
            .with_retry_after_ms(retry_after_ms)
    }
}

fn detail(scope: Scope, policy: &QuotaPolicy) -> String {
    let QuotaPolicy { kind, quota, window_s, .. } = policy;
    let whose = match scope {
        Scope::Address => "of one address",
        Scope::Principal => "of one principal",
        Scope::Total => "of all clients together",
    };
    match window_s {
        None => format!("At most {quota} {kind} {whose} are open at a time."),
        Some(1) => format!("At most {quota} {kind} {whose} are taken a second."),
        Some(window_s) => format!("At most {quota} {kind} {whose} are taken in {window_s} s."),
    }
}

fn name(table: Option<&Table>, client: Option<impl Hash>) -> Option<RowName> {
    Some(table?.name(client?))
}

#[cfg(test)]
mod tests;
