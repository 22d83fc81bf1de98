//! Arguments that the commands share, and how their values are read.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::client::connect::LoadTarget;
use crate::client::transport::ReadTransport;
use crate::error::LoadError;
use crate::measure::payload;
use crate::measure::process::MeasuredServer;

/// Arguments of every command.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8245")]
    pub(crate) url: String,
    /// The topic; by default one that nobody else has.
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// How long to load it, or to hold idle connections. A replay ends when all is read.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// The server's process, on this machine, to report its CPU time and memory.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Print the report as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl CommonArgs {
    pub(crate) fn target(&self) -> Result<LoadTarget, LoadError> {
        LoadTarget::parse(&self.url)
    }

    pub(crate) fn server(&self) -> Result<Option<MeasuredServer>, LoadError> {
        self.pid.map(MeasuredServer::new).transpose()
    }

    pub(crate) fn topic(&self) -> String {
        self.topic.clone().unwrap_or_else(|| format!("bench/{}", uuid::Uuid::new_v4()))
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// One of the transports with these names.
pub(crate) fn transports(names: &'static [&'static str]) -> impl TypedValueParser<Value = ReadTransport> {
    PossibleValuesParser::new(names).try_map(|name| {
        ReadTransport::ALL.into_iter().find(|one| one.name() == name).ok_or("no such transport")
    })
}

/// One of the transports that wait for messages to come.
pub(crate) fn listening() -> impl TypedValueParser<Value = ReadTransport> {
    transports(&["ws", "sse", "ndjson", "longpoll"])
}

/// A rate a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1e6).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.1 to 1,000,000".to_owned()),
    }
}

/// A number of things, so many at most.
pub(crate) fn count(most: u64) -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=most)
}

/// A message's size in bytes.
pub(crate) fn size() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(payload::SIZE_MIN as u64..=payload::SIZE_MAX as u64)
}
