//! Whether the NATS servers sync what they acknowledge: each is asked by its monitor. Without `sync_interval: always` a
//! server acknowledges what it has yet to write, for up to two minutes, and a power cut that meets several takes it.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use crate::access::agent;

/// How long a monitor may take to answer, and how long an answer may be.
const WAIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What is wrong with the servers' settings, or why that is not known. Each is a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MonitorError {
    #[error("monitor {0} can't be asked whether its NATS server syncs: {1}")]
    Unreachable(String, String),
    #[error("monitor {0} is not one of a NATS server with JetStream")]
    Foreign(String),
    #[error(
        "NATS server {0} does not sync what it acknowledges: set `sync_interval: always` in its section `jetstream`, \
         or a power cut takes messages"
    )]
    Unsynced(String),
    #[error(
        "{found} NATS servers are named by monitors, and {replicas} hold the stream: name the monitor of each"
    )]
    TooFew { found: usize, replicas: usize },
}

/// Asks all servers.
pub(super) fn check(monitors: &[String], replicas: usize) -> Result<(), MonitorError> {
    let agent = agent(WAIT);
    let mut servers = BTreeSet::new();
    for monitor in monitors {
        let unreachable = |why: String| MonitorError::Unreachable(monitor.clone(), why);
        let mut answer =
            agent.get(format!("{monitor}/jsz")).call().map_err(|error| unreachable(error.to_string()))?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| unreachable(error.to_string()))?;
        let answer = serde_json::from_str(&body).unwrap_or(Value::Null);
        servers.insert(read(monitor, &answer)?);
    }
    if servers.len() < replicas {
        return Err(MonitorError::TooFew { found: servers.len(), replicas });
    }
    Ok(())
}

/// The server that answers, if it syncs.
fn read(monitor: &str, answer: &Value) -> Result<String, MonitorError> {
    let foreign = || MonitorError::Foreign(monitor.to_owned());
    let id = answer["server_id"].as_str().ok_or_else(foreign)?;
    let config = answer["config"].as_object().ok_or_else(foreign)?;
    // Servers leave it out where it is false.
    match config.get("sync_always") {
        Some(Value::Bool(true)) => Ok(id.to_owned()),
        _ => Err(MonitorError::Unsynced(monitor.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_server_that_syncs_will_do() {
        let read = |answer: Value| read("http://a", &answer);
        assert_eq!(read(json!({"server_id": "A", "config": {"sync_always": true}})), Ok("A".to_owned()));
        for config in [json!({}), json!({"sync_always": false}), json!({"sync_interval": 1})] {
            let answer = read(json!({"server_id": "A", "config": config}));
            assert_eq!(answer, Err(MonitorError::Unsynced("http://a".to_owned())));
        }
        assert_eq!(read(json!({"server_id": "A"})), Err(MonitorError::Foreign("http://a".to_owned())));
        assert_eq!(read(Value::Null), Err(MonitorError::Foreign("http://a".to_owned())));
    }
}
