//! The stream: how it is set up, what is asked of it, and whether one that is there is the right one.

use serde_json::{Value, json};

use crate::{
    frame::{LogId, PART_BYTES_MAX},
    link::{Link, LinkError, Names},
};

/// What the stream's metadata say.
pub(crate) const LOG: &str = "tailwire-log";
const FORMAT: &str = "tailwire-format";
/// The version of what is kept in a stream.
const FORMAT_VERSION: &str = "1";
/// JetStream's code for a stream that is not there.
pub(crate) const NOT_FOUND: &str = "(10059)";

/// A stream as it stands.
#[derive(Debug, Clone)]
pub struct StreamInfo {
    /// The log that it holds.
    pub log: LogId,
    /// Its oldest message; one beyond the newest if it has none.
    pub first: u64,
    /// Its newest message.
    pub last: u64,
    /// Bytes that it takes.
    pub bytes: u64,
    /// The server that leads it.
    pub leader: Option<String>,
    /// All servers that hold it, and whether each has all of it.
    pub replicas: Vec<(String, bool)>,
    /// The first of its settings that would break a promise, if there is one. A sentence.
    pub flaw: Option<String>,
}

/// Why a stream is not gone on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// NATS did not answer.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// There is none.
    #[error("there is no stream {0}")]
    Absent(String),
    /// It is somebody else's, or was changed.
    #[error("the stream {0} is not one that this broker goes on with: {1}")]
    Unfit(String, String),
}

/// The settings with which the stream is made, and that have to stay: nothing that was acknowledged may be refused, changed,
/// left out or removed by the stream itself.
fn fixed(names: &Names) -> [(&'static str, Value); 10] {
    [
        ("subjects", json!([names.entries])),
        ("retention", json!("limits")),
        ("storage", json!("file")),
        ("discard", json!("new")),
        ("max_age", json!(0)),
        ("max_msgs", json!(-1)),
        ("max_bytes", json!(-1)),
        ("max_msgs_per_subject", json!(-1)),
        ("deny_delete", json!(true)),
        ("allow_direct", json!(true)),
    ]
}

/// Settings that are off by default, and have to stay so for the same reason.
const OFF: [&str; 6] =
    ["deny_purge", "allow_rollup_hdrs", "allow_msg_ttl", "allow_msg_counter", "no_ack", "sealed"];

/// How the stream is set up.
fn config(names: &Names, log: LogId, replicas: usize) -> Value {
    let mut config = json!({
        "name": names.stream,
        "description": "The order of a Tailwire cluster",
        "num_replicas": replicas,
        "max_msg_size": -1,
        "republish": { "src": names.entries, "dest": names.live },
        "metadata": { LOG: log.to_string(), FORMAT: FORMAT_VERSION },
    });
    for (name, value) in fixed(names) {
        config[name] = value;
    }
    config
}

impl Link {
    /// The stream as its leader knows it.
    pub(crate) async fn info(&self) -> Result<StreamInfo, StreamError> {
        match self.ask("STREAM.INFO", Value::Null).await {
            Err(LinkError::Refused(why)) if why.ends_with(NOT_FOUND) => {
                Err(StreamError::Absent(self.names.stream.clone()))
            }
            answer => self.read_info(&answer?),
        }
    }

    /// Makes the stream of a log.
    pub(crate) async fn create(&self, log: LogId) -> Result<StreamInfo, StreamError> {
        self.read_info(&self.ask("STREAM.CREATE", config(&self.names, log, self.replicas)).await?)
    }

    fn read_info(&self, answer: &Value) -> Result<StreamInfo, StreamError> {
        let info = read(answer).map_err(|why| StreamError::Unfit(self.names.stream.clone(), why))?;
        Ok(StreamInfo { flaw: check(&answer["config"], &self.names, self.replicas).err(), ..info })
    }
}

fn read(answer: &Value) -> Result<StreamInfo, String> {
    let (config, state, cluster) = (&answer["config"], &answer["state"], &answer["cluster"]);
    let log = config["metadata"][LOG].as_str().and_then(|id| id.parse().ok());
    let log = log.ok_or("it has no log's name in its metadata")?;
    match config["metadata"][FORMAT].as_str() {
        Some(FORMAT_VERSION) => {}
        other => return Err(format!("it is of format {}", other.unwrap_or("none"))),
    }
    let number = |name: &str| state[name].as_u64();
    let last = number("last_seq").ok_or("it does not say how far it is")?;
    let first = number("first_seq").filter(|first| *first > 0).unwrap_or(last + 1);
    let leader = cluster["leader"].as_str().map(str::to_owned);
    let others = cluster["replicas"].as_array().into_iter().flatten();
    let replicas = leader.iter().map(|leader| (leader.clone(), true)).chain(others.map(|peer| {
        let is_current = peer["current"].as_bool() == Some(true) && peer["offline"].as_bool() != Some(true);
        (peer["name"].as_str().unwrap_or_default().to_owned(), is_current)
    }));
    let replicas = replicas.collect();
    Ok(StreamInfo { log, first, last, bytes: number("bytes").unwrap_or(0), leader, replicas, flaw: None })
}

/// What of a stream's configuration would break a promise.
fn check(config: &Value, names: &Names, replicas: usize) -> Result<(), String> {
    let differs = |name: &str, want: Value| match &config[name] {
        found if *found == want => None,
        // Servers leave out what is false, nothing, or their default.
        Value::Null if want == json!(false) || want == json!(0) => None,
        found => Some(format!("its `{name}` is {found}, where {want} is needed")),
    };
    let off = OFF.map(|name| (name, json!(false)));
    if let Some(flaw) = fixed(names).into_iter().chain(off).find_map(|(name, want)| differs(name, want)) {
        return Err(flaw);
    }
    for name in ["mirror", "sources", "subject_transform"] {
        if !matches!(&config[name], Value::Null) {
            return Err(format!("it has a `{name}`"));
        }
    }
    if config["max_msg_size"].as_i64().is_some_and(|size| size >= 0 && size < (PART_BYTES_MAX * 2) as i64) {
        return Err(format!(
            "its `max_msg_size` is {}, which some entries are too large for",
            config["max_msg_size"]
        ));
    }
    if config["republish"]["dest"] != json!(names.live) || config["republish"]["headers_only"] == json!(true)
    {
        return Err(format!("it does not republish to {}", names.live));
    }
    if config["persist_mode"] == json!("async") {
        return Err(
            "its `persist_mode` is async, by which a power cut takes what was acknowledged".to_owned()
        );
    }
    match config["num_replicas"].as_u64() {
        Some(count) if count >= replicas as u64 => Ok(()),
        count => Err(format!("it has {} replicas, where {replicas} are asked for", count.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_changes_is_noticed() {
        let names = Names::of("T");
        let good = config(&names, LogId(1), 3);
        assert_eq!(check(&good, &names, 3), Ok(()));
        assert_eq!(check(&good, &names, 1), Ok(()));
        for (name, value) in [
            ("max_age", json!(60_000_000_000_u64)),
            ("max_bytes", json!(1 << 30)),
            ("max_msgs", json!(9)),
            ("max_msgs_per_subject", json!(9)),
            ("max_msg_size", json!(1000)),
            ("discard", json!("old")),
            ("subjects", json!(["T.entries", "more"])),
            ("retention", json!("interest")),
            ("storage", json!("memory")),
            ("sealed", json!(true)),
            ("deny_purge", json!(true)),
            ("deny_delete", json!(false)),
            ("allow_direct", json!(false)),
            ("allow_rollup_hdrs", json!(true)),
            ("allow_msg_ttl", json!(true)),
            ("no_ack", json!(true)),
            ("persist_mode", json!("async")),
            ("republish", Value::Null),
            ("mirror", json!({ "name": "other" })),
            ("subject_transform", json!({ "src": ">", "dest": "x.>" })),
            ("num_replicas", json!(1)),
        ] {
            let mut changed = good.clone();
            changed[name] = value;
            assert!(check(&changed, &names, 3).is_err(), "{name}");
        }
    }
}
