//! The nodes of a cluster, as they say themselves: each tells all others every second how far it is. By that an operator sees
//! them, and the nodes agree on the one that decides what retention takes: the one with the smallest incarnation among those
//! that were heard of. Where two believe that it is them, both propose the same.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Subscriber;
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tailwire_core::order::Health;
use tokio::time::{MissedTickBehavior, interval};

use crate::{hub::Hub, link::Link};

const TELL_EVERY: Duration = Duration::from_secs(1);
/// A node that was not heard of for so long is not counted on.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// Nodes that are remembered: what comes beyond is no cluster of ours.
const NODES_MAX: usize = 256;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// The number of this run of it.
    pub incarnation: u64,
    /// The newest message of the stream that it has applied.
    pub applied: u64,
    /// The digest of the stream up to there.
    pub digest: u128,
    /// How it stands: good, behind, detached, misconfigured, diverged.
    pub health: String,
    /// By how many milliseconds it is behind.
    pub behind_ms: u64,
    /// The NATS server that it is connected to.
    pub server: String,
    /// Its version.
    pub version: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    heard: Mutex<BTreeMap<u64, (NodeReport, Instant)>>,
}

impl Nodes {
    /// Whether the node of an incarnation decides for all.
    pub(crate) fn is_first(&self, own: u64) -> bool {
        self.heard.lock().iter().all(|(other, (_, at))| *other >= own || at.elapsed() > GONE_AFTER)
    }

    /// The newest message that all have applied that were heard of.
    pub(crate) fn applied_by_all(&self) -> Option<u64> {
        let heard = self.heard.lock();
        let recent = heard.values().filter(|(_, at)| at.elapsed() <= GONE_AFTER);
        recent.map(|(report, _)| report.applied).min()
    }

    /// How many have seen the same stream as this node, and how many another one: the two that disagree, and all others by what
    /// they said last.
    pub(crate) fn opinions(&self, two: [u64; 2], digest_at: impl Fn(u64) -> Option<u128>) -> (usize, usize) {
        let (mut with, mut against) = (1, 1);
        for (report, _) in self.heard.lock().values().filter(|(_, at)| at.elapsed() <= GONE_AFTER) {
            let Some(digest) = digest_at(report.applied).filter(|_| !two.contains(&report.incarnation))
            else {
                continue;
            };
            *if digest == report.digest { &mut with } else { &mut against } += 1;
        }
        (with, against)
    }

    pub(crate) fn hear(&self, report: NodeReport) {
        let mut heard = self.heard.lock();
        heard.retain(|_, (_, at)| at.elapsed() <= GONE_AFTER);
        if heard.len() < NODES_MAX {
            heard.insert(report.incarnation, (report, Instant::now()));
        }
    }

    /// The nodes that were heard of, by their names.
    pub(crate) fn reports(&self) -> Vec<NodeReport> {
        let heard = self.heard.lock();
        let recent = heard.values().filter(|(_, at)| at.elapsed() <= GONE_AFTER);
        let mut reports: Vec<NodeReport> = recent.map(|(report, _)| report.clone()).collect();
        reports.sort_by(|one, two| one.name.cmp(&two.name));
        reports
    }
}

impl NodeReport {
    fn encode(&self) -> Value {
        json!({
            "node": self.name,
            "incarnation": format!("{:016x}", self.incarnation),
            "applied": self.applied,
            "digest": format!("{:032x}", self.digest),
            "health": self.health,
            "behind_ms": self.behind_ms,
            "server": self.server,
            "version": self.version,
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            name: text("node")?,
            incarnation: u64::from_str_radix(value["incarnation"].as_str()?, 16).ok()?,
            applied: value["applied"].as_u64()?,
            digest: u128::from_str_radix(value["digest"].as_str()?, 16).ok()?,
            health: text("health")?,
            behind_ms: value["behind_ms"].as_u64().unwrap_or(0),
            server: text("server").unwrap_or_default(),
            version: text("version").unwrap_or_default(),
        })
    }
}

/// Tells the others how this node is, until it ends.
pub(crate) async fn tell(link: Link, hub: Arc<Hub>, name: String) {
    let mut tick = interval(TELL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if *hub.stop.borrow() {
            return;
        }
        let (health, behind_ms) = word(hub.health());
        let applied = hub.applied();
        let report = NodeReport {
            name: name.clone(),
            incarnation: hub.proposals.lock().incarnation(),
            applied: applied.sequence,
            digest: applied.digest,
            health: health.to_owned(),
            behind_ms,
            server: link.server(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if link.is_connected() {
            link.send(&link.names.nodes, None, report.encode().to_string().into()).await;
        }
    }
}

/// Hears what others tell.
pub(crate) async fn hear(nodes: Arc<Nodes>, mut told: Subscriber) {
    while let Some(message) = told.next().await {
        if let Some(report) = NodeReport::decode(&message.payload) {
            nodes.hear(report);
        }
    }
}

const fn word(health: Health) -> (&'static str, u64) {
    match health {
        Health::Good => ("good", 0),
        Health::Behind(ms) => ("behind", ms),
        Health::Detached => ("detached", 0),
        Health::Misconfigured => ("misconfigured", 0),
        Health::Diverged => ("diverged", 0),
        Health::Failing => ("failing", 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(incarnation: u64) -> NodeReport {
        NodeReport {
            name: format!("node {incarnation}"),
            incarnation,
            applied: 7,
            digest: 1,
            health: "good".to_owned(),
            behind_ms: 3,
            server: "n1".to_owned(),
            version: "1".to_owned(),
        }
    }

    #[test]
    fn a_report_round_trips() {
        let report = report(u64::MAX);
        assert_eq!(NodeReport::decode(report.encode().to_string().as_bytes()), Some(report));
        assert_eq!(NodeReport::decode(b"{}"), None);
    }

    #[test]
    fn one_of_those_that_are_heard_decides() {
        let nodes = Nodes::default();
        assert!(nodes.is_first(5), "alone");
        nodes.hear(report(5));
        nodes.hear(report(9));
        assert!(nodes.is_first(5));
        nodes.hear(report(2));
        assert!(!nodes.is_first(5));
        assert!(nodes.is_first(1));
        assert_eq!(nodes.reports().len(), 3);
    }

    #[test]
    fn most_say_which_of_two_is_wrong() {
        let nodes = Nodes::default();
        let opinions = |nodes: &Nodes, own: u128| nodes.opinions([5, 6], |_| Some(own));
        nodes.hear(report(5));
        nodes.hear(NodeReport { digest: 2, ..report(6) });
        assert_eq!(opinions(&nodes, 1), (1, 1), "of two nobody knows");
        nodes.hear(report(7));
        assert_eq!(opinions(&nodes, 1), (2, 1));
        assert_eq!(opinions(&nodes, 2), (1, 2));
        assert_eq!(nodes.opinions([5, 6], |_| None), (1, 1), "too far back to be compared");
        assert_eq!(nodes.opinions([5, 99], |_| Some(1)), (2, 2), "one that no node is");
    }
}
