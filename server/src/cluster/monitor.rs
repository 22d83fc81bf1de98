//! Whether the NATS servers sync what they acknowledge: each is asked by its monitor. Without `sync_interval: always` a
//! server acknowledges what it has yet to write, for up to two minutes, and a power cut that meets several takes it.

use std::{collections::BTreeSet, thread, time::Duration};

use serde_json::Value;
use tailwire_outbound::agent;

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

/// Asks all servers at once. Those that sync have to be enough to go on with, since some may be down: answers the monitors that
/// said nothing, which are to be asked again.
pub(super) fn check(monitors: &[String], replicas: usize) -> Result<Vec<String>, MonitorError> {
    evaluate(monitors, replicas, ask_all(monitors))
}

/// The servers by their monitors, or why one is not known.
type Answers = Vec<Result<String, MonitorError>>;

fn evaluate(monitors: &[String], replicas: usize, answers: Answers) -> Result<Vec<String>, MonitorError> {
    let (mut servers, mut silent, mut last) = (BTreeSet::new(), Vec::new(), None);
    for (monitor, answer) in monitors.iter().zip(answers) {
        match answer {
            Ok(server) => drop(servers.insert(server)),
            Err(why @ MonitorError::Unreachable(..)) => {
                silent.push(monitor.clone());
                last = Some(why);
            }
            Err(wrong) => return Err(wrong),
        }
    }
    let found = servers.len() + silent.len();
    if found < replicas {
        return Err(MonitorError::TooFew { found, replicas });
    }
    match last {
        Some(why) if servers.len() <= replicas / 2 => Err(why),
        _ => Ok(silent),
    }
}

/// Asks those that said nothing once more: the ones that still do, and what is wrong with one of the others.
pub(super) fn check_again(monitors: &[String]) -> (Vec<String>, Option<MonitorError>) {
    let (mut left, mut flaw) = (Vec::new(), None);
    for (monitor, answer) in monitors.iter().zip(ask_all(monitors)) {
        match answer {
            Ok(_) => continue,
            Err(MonitorError::Unreachable(..)) => {}
            Err(wrong) => flaw = Some(wrong),
        }
        left.push(monitor.clone());
    }
    (left, flaw)
}

fn ask_all(monitors: &[String]) -> Answers {
    thread::scope(|scope| {
        let asked: Vec<_> = monitors.iter().map(|monitor| scope.spawn(|| ask(monitor))).collect();
        let answers = asked.into_iter().zip(monitors).map(|(asked, monitor)| {
            let failed =
                |_| Err(MonitorError::Unreachable(monitor.clone(), "the question failed".to_owned()));
            asked.join().unwrap_or_else(failed)
        });
        answers.collect()
    })
}

fn ask(monitor: &str) -> Result<String, MonitorError> {
    let unreachable = |why: String| MonitorError::Unreachable(monitor.to_owned(), why);
    let answer = agent(WAIT).get(format!("{monitor}/jsz")).call();
    let mut answer = answer.map_err(|error| unreachable(error.to_string()))?;
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let body = body.map_err(|error| unreachable(error.to_string()))?;
    read(monitor, &serde_json::from_str(&body).unwrap_or(Value::Null))
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
    use std::{net::TcpListener, time::Instant};

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

    #[test]
    fn one_server_that_is_down_keeps_no_node_from_starting() {
        let monitors: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let up = |name: &str| Ok(name.to_owned());
        let down = |name: &str| Err(MonitorError::Unreachable(name.to_owned(), "down".to_owned()));
        let unsynced = Err(MonitorError::Unsynced("c".to_owned()));
        let evaluate = |answers: [Result<String, MonitorError>; 3]| evaluate(&monitors, 3, answers.into());
        assert_eq!(evaluate([up("A"), up("B"), up("C")]), Ok(vec![]));
        assert_eq!(evaluate([up("A"), down("b"), up("C")]), Ok(vec!["b".to_owned()]));
        assert_eq!(evaluate([up("A"), down("b"), down("c")]), down("c").map(|_: String| vec![]));
        assert_eq!(evaluate([down("a"), up("B"), unsynced.clone()]), unsynced.map(|_| vec![]));
        let twice = evaluate([up("A"), up("A"), up("C")]);
        assert_eq!(twice, Err(MonitorError::TooFew { found: 2, replicas: 3 }));
    }

    #[test]
    fn all_are_asked_at_once() {
        // They accept, and say nothing.
        let silent: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let monitors: Vec<String> =
            silent.iter().map(|one| format!("http://{}", one.local_addr().unwrap())).collect();
        let began = Instant::now();
        assert!(matches!(check(&monitors, 3), Err(MonitorError::Unreachable(..))));
        assert!(began.elapsed() < 2 * WAIT, "as long as one of them may take");
    }
}
