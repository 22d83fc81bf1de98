//! Parts that the commands share: which log they are about, how they end, and what they print.

use std::{
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use tailwire_model::Position;
use tailwire_storage::inspect::{Finding, Findings, InspectError, Severity, Survey};

/// The log that a command is about.
#[derive(Debug, Args)]
pub(super) struct DataFolder {
    /// The folder that holds the messages
    #[arg(
        long,
        value_name = "DIR",
        env = "TAILWIRE_DATA",
        hide_env_values = true,
        default_value = "./tailwire-data"
    )]
    pub(super) data: PathBuf,
}

/// The same, for commands that read a copy of it.
#[derive(Debug, Args)]
pub(super) struct InspectedLog {
    #[command(flatten)]
    pub(super) folder: DataFolder,

    /// Where the engine's copy stands while the command runs [default: beside the log]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

impl InspectedLog {
    pub(super) fn survey(&self) -> Result<Survey, InspectError> {
        Survey::open(&self.folder.data, self.scratch.as_deref())
    }
}

/// How a command ended, when it could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Soundness {
    Sound,
    Damaged,
}

impl Soundness {
    pub(super) fn of(findings: &Findings) -> Self {
        if findings.is_sound() { Self::Sound } else { Self::Damaged }
    }
}

pub(super) type CommandResult = Result<Soundness, Box<dyn std::error::Error>>;

/// Writes a line to stderr. That nobody reads it is no reason to stop.
pub(super) fn say(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes what was found, a line each.
pub(super) fn list(findings: &Findings, out: &mut dyn Write) -> io::Result<()> {
    for Finding { severity, positions, what } in findings.iter() {
        let severity = match severity {
            Severity::Note => "note",
            Severity::Damage => "damage",
        };
        writeln!(out, "{severity}: {}{what}", positions.map_or_else(String::new, span))?;
    }
    match findings.left_off() {
        0 => Ok(()),
        more => writeln!(out, "and {more} more of the same kinds"),
    }
}

fn span((first, last): (Position, Position)) -> String {
    if first == last { format!("position {first}: ") } else { format!("positions {first} to {last}: ") }
}
