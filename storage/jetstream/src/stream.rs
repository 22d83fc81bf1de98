//! The stream: how it is set up, what is asked of it, and whether one that is there is the right one.

use serde_json::{Value, json};

use crate::{
    frame::LogId,
    link::{Link, LinkError, Names},
};

/// What the stream's metadata say.
const LOG: &str = "tailwire-log";
const FORMAT: &str = "tailwire-format";
/// The version of what is kept in a stream.
const FORMAT_VERSION: &str = "1";
/// JetStream's code for a stream that is not there.
const NOT_FOUND: &str = "(10059)";

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

/// How the stream is set up.
fn config(names: &Names, log: LogId, replicas: usize) -> Value {
    json!({
        "name": names.stream,
        "description": "The order of a Tailwire cluster",
        "subjects": [names.entries],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "deny_delete": true,
        "allow_direct": true,
        "republish": { "src": names.entries, "dest": names.live },
        "metadata": { LOG: log.to_string(), FORMAT: FORMAT_VERSION },
    })
}

impl Link {
    /// The stream as its leader knows it.
    pub(crate) async fn info(&self) -> Result<StreamInfo, StreamError> {
        let answer = match self.ask("STREAM.INFO", Value::Null).await {
            Err(LinkError::Refused(why)) if why.ends_with(NOT_FOUND) => {
                return Err(StreamError::Absent(self.names.stream.clone()));
            }
            answer => answer?,
        };
        read(&answer).map_err(|why| StreamError::Unfit(self.names.stream.clone(), why))
    }

    /// Makes the stream of a log.
    pub(crate) async fn create(&self, log: LogId, replicas: usize) -> Result<StreamInfo, StreamError> {
        self.ask("STREAM.CREATE", config(&self.names, log, replicas)).await?;
        self.info().await
    }

    /// Holds the stream against how it should be set up.
    pub(crate) async fn check(&self, replicas: usize) -> Result<(), StreamError> {
        let answer = self.ask("STREAM.INFO", Value::Null).await?;
        check(&answer["config"], &self.names, replicas)
            .map_err(|why| StreamError::Unfit(self.names.stream.clone(), why))
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
    Ok(StreamInfo { log, first, last, bytes: number("bytes").unwrap_or(0), leader, replicas })
}

/// What of a stream's configuration would break a promise.
fn check(config: &Value, names: &Names, replicas: usize) -> Result<(), String> {
    let is = |name: &str, want: Value| match &config[name] {
        found if *found == want => Ok(()),
        found => Err(format!("its `{name}` is {found}, where {want} is needed")),
    };
    is("subjects", json!([names.entries]))?;
    is("retention", json!("limits"))?;
    is("storage", json!("file"))?;
    is("discard", json!("new"))?;
    is("deny_delete", json!(true))?;
    is("allow_direct", json!(true))?;
    is("max_age", json!(0))?;
    is("max_msgs", json!(-1))?;
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
