//! The keys that issuers publish (JWKS, RFC 7517): fetched in good time, and once more where a token names a key that is not
//! known. One task fetches for all, so nobody who sends tokens can have it ask more often, or somebody else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tailwire_core::Broker;
use tailwire_outbound::fetch_keys;
use tracing::{info, warn};

use super::Gate;

/// How often it is looked at what is due, where nobody asks.
const ROUND: Duration = Duration::from_secs(1);

/// Keeps the keys of all issuers until the broker drains.
pub(crate) async fn keep(gate: Arc<Gate>, broker: Broker) {
    while !broker.is_draining() {
        let due = due(&gate);
        if !due.is_empty() {
            join_all(due.into_iter().map(|(issuer, url)| refresh(&gate, issuer, url))).await;
            gate.fetching.end_round();
        }
        let _ = tokio::time::timeout(ROUND, gate.fetching.wanted()).await;
    }
}

/// The issuers whose turn it is, each with where its keys are.
fn due(gate: &Gate) -> Vec<(String, String)> {
    let access = gate.access();
    let sources = access.jwks_sources().filter(|(issuer, _)| gate.fetching.is_due(issuer));
    sources.map(|(issuer, url)| (issuer.to_owned(), url.to_owned())).collect()
}

async fn refresh(gate: &Gate, issuer: String, url: String) {
    let begun = Instant::now();
    let fetched = tokio::task::spawn_blocking(move || fetch_keys(&url)).await;
    let outcome = fetched
        .map_err(|error| error.to_string())
        .and_then(|document| gate.access().set_jwks(&issuer, &document?).map_err(|error| error.to_string()));
    let is_good = outcome.is_ok();
    match outcome {
        Ok(skipped) => {
            let unused: Vec<String> = skipped.iter().map(|(key, why)| format!("{key}: {why}")).collect();
            info!(issuer, unused = unused.join(", "), "keys were fetched");
        }
        Err(why) => warn!(issuer, why, "keys could not be fetched; those that are known stay"),
    }
    gate.fetching.ended(issuer, begun, is_good);
}
