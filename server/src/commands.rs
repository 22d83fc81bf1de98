//! Commands beside the broker: for its keys, tokens, rules and settings. What they decide is decided in the access crate.

pub(crate) mod access;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod grants;
pub(crate) mod key;
pub(crate) mod token;

use std::{
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use tailwire_access::config::Source;

use crate::{
    access::read_source,
    config::ServeArgs,
    settings::{Configured, configured},
};

/// The request is not permitted, or the token is not valid.
const EXIT_REFUSED: u8 = 1;
const EXIT_UNDONE: u8 = 2;

/// The settings that a command is about.
#[derive(Debug, Args)]
pub(crate) struct SettingsFile {
    /// The settings file, as `serve` takes it
    /// [env: TAILWIRE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SettingsFile {
    fn configured(&self) -> Result<Configured, Failure> {
        self.configured_with(ServeArgs::default())
    }

    fn configured_with(&self, args: ServeArgs) -> Result<Configured, Failure> {
        let args = ServeArgs { config: self.config.clone(), ..args };
        configured(&args).map_err(|error| error.to_string().into())
    }
}

type Failure = Box<dyn std::error::Error>;

/// The end of a command: what it answers, or why it could not be done.
fn end(result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|error| {
        say(format_args!("tailwire: {error}"));
        ExitCode::from(EXIT_UNDONE)
    })
}

/// A secret of the command line: `file:PATH`, `env:NAME`, or the text itself, which others see in the list of processes.
fn secret(given: &str) -> Result<Vec<u8>, Failure> {
    let source: Source = given.parse()?;
    let content = read_source(&source)?;
    Ok(source.secret(&content).to_owned())
}

fn secret_text(given: &str) -> Result<String, Failure> {
    let text = String::from_utf8(secret(given)?).map_err(|_| "the secret is not UTF-8")?;
    Ok(text.trim().to_owned())
}

/// Writes a line to stdout. That nobody reads it is no reason to stop.
fn print(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The same for stderr.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
