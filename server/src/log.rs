//! `tailwire log`: looking at a log, mending it, and carrying its messages elsewhere, while no broker has it open. Here are
//! the command line and what its commands share; what is found and what a repair does is decided in the storage crate.

mod check;
mod export;
mod import;
mod repair;
mod stats;

use std::{
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use tailwire_model::Position;
use tailwire_storage::inspect::{Finding, Findings, InspectError, Severity, Survey};

use crate::serve::machine;

const NOTES: &str = "\
These commands work on the folder itself, while no broker has it open: one that has is a clear error. Looking at a log
changes nothing in it. The engine writes whenever it opens files, so it gets a copy, which takes as much room as the log
has, for as long as the command runs; where there is no such room, --scratch names a folder on another disk.

Exit codes: 0 sound, or done; 1 something is damaged or had to be left out; 2 it could not be done.";

/// What `tailwire log` may be told.
#[derive(Debug, Args)]
#[command(after_help = NOTES, arg_required_else_help = true)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Count what a log holds: topics, messages, bytes, epochs, commits
    #[command(after_help = stats::NOTES)]
    Stats(stats::StatsArgs),
    /// Read everything, and say what is not as it was written
    #[command(after_help = check::NOTES)]
    Check(check::CheckArgs),
    /// Make a sound log of what is left of a damaged one
    #[command(after_help = repair::NOTES)]
    Repair(repair::RepairArgs),
    /// Write all messages that can be read, as lines of JSON
    #[command(after_help = export::NOTES)]
    Export(export::ExportArgs),
    /// Append messages from lines of JSON
    #[command(after_help = import::NOTES)]
    Import(import::ImportArgs),
}

/// The log that a command is about.
#[derive(Debug, Args)]
struct Folder {
    /// The folder that holds the messages
    #[arg(
        long,
        value_name = "DIR",
        env = "TAILWIRE_DATA",
        hide_env_values = true,
        default_value = "./tailwire-data"
    )]
    data: PathBuf,
}

/// The same, for commands that look at it.
#[derive(Debug, Args)]
struct LookedAt {
    #[command(flatten)]
    folder: Folder,

    /// Where the engine's copy stands while the command runs [default: beside the log]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

impl LookedAt {
    fn survey(&self) -> Result<Survey, InspectError> {
        Survey::open(&self.folder.data, self.scratch.as_deref())
    }
}

/// How a command ended, when it could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Sound,
    Damaged,
}

impl Outcome {
    fn of(findings: &Findings) -> Self {
        if findings.is_sound() { Self::Sound } else { Self::Damaged }
    }
}

type Done = Result<Outcome, Box<dyn std::error::Error>>;

const EXIT_DAMAGED: u8 = 1;
const EXIT_UNDONE: u8 = 2;

/// Runs a command.
pub(crate) fn run(args: &LogArgs) -> ExitCode {
    machine::log_to_stderr("error");
    machine::quiet_the_engine();
    let done = match &args.command {
        LogCommand::Stats(args) => stats::run(args),
        LogCommand::Check(args) => check::run(args),
        LogCommand::Repair(args) => repair::run(args),
        LogCommand::Export(args) => export::run(args),
        LogCommand::Import(args) => import::run(args),
    };
    match done {
        Ok(Outcome::Sound) => ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => ExitCode::from(EXIT_DAMAGED),
        // Whoever reads the output has enough of it.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("tailwire: {error}"));
            ExitCode::from(EXIT_UNDONE)
        }
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes a line to stderr. That nobody reads it is no reason to stop.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes what was found, a line each.
fn list(findings: &Findings, out: &mut dyn Write) -> io::Result<()> {
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
