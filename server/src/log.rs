//! `tailwire log`: looking at a log, mending it, and carrying its messages elsewhere, while no broker has it open. The
//! findings, and what a repair does, are decided in the storage crate.

mod check;
mod command;
mod export;
mod import;
mod repair;
mod stats;

use std::{io, process::ExitCode};

use clap::{Args, Subcommand};

use crate::{config::LogFormat, logging};
use command::{Soundness, say};

const NOTES: &str = "\
These commands work on the folder itself, while no broker has it open: one that has is a clear error. Looking at a log
changes nothing in it. The engine writes whenever it opens files, so it gets a copy, which takes as much room as the log
has, for as long as the command runs; where there is no such room, --scratch names a folder on another disk.

Exit codes: 0 sound, or done; 1 something is damaged or had to be left out; 2 it could not be done.";

/// Arguments of `tailwire log`.
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
    Check(check::LogCheckArgs),
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

const EXIT_DAMAGED: u8 = 1;
const EXIT_UNDONE: u8 = 2;

/// Runs a command.
pub(crate) fn run(args: &LogArgs) -> ExitCode {
    let _log = match logging::start("error", LogFormat::Text, false) {
        Ok(log) => log,
        Err(error) => {
            say(format_args!("tailwire: can't start threads: {error}"));
            return ExitCode::from(EXIT_UNDONE);
        }
    };
    let done = match &args.command {
        LogCommand::Stats(args) => stats::run(args),
        LogCommand::Check(args) => check::run(args),
        LogCommand::Repair(args) => repair::run(args),
        LogCommand::Export(args) => export::run(args),
        LogCommand::Import(args) => import::run(args),
    };
    match done {
        Ok(Soundness::Sound) => ExitCode::SUCCESS,
        Ok(Soundness::Damaged) => ExitCode::from(EXIT_DAMAGED),
        // The reader of the output has enough of it.
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
