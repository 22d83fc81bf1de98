//! `tailwire log check`: what is wrong with a log.

use std::{
    convert::Infallible,
    io::{self, Write},
};

use clap::Args;

use super::command::{CommandResult, InspectedLog, Soundness, list};

pub(super) const NOTES: &str = "\
Reads every message and everything else that is stored, and looks at checksums, order, positions, the parts of large
messages, epochs, trims, options and idempotency keys, and at whether all is there that was acknowledged. Where the
engine refuses its files, it says so, and says how many messages can still be read from them.

Exit codes: 0 sound, 1 damaged, 2 it could not be done.";

#[derive(Debug, Args)]
pub(super) struct LogCheckArgs {
    #[command(flatten)]
    log: InspectedLog,
}

pub(super) fn run(args: &LogCheckArgs) -> CommandResult {
    let survey = args.log.survey()?;
    let Ok(walked) = survey.walk(|_| Ok::<(), Infallible>(()));
    let findings = &walked.findings;
    let mut out = io::stdout().lock();
    list(findings, &mut out)?;
    let messages = walked.figures.messages;
    if findings.is_sound() {
        writeln!(out, "sound: {messages} messages, up to position {}", walked.figures.tail)?;
    } else {
        writeln!(out, "damaged: {messages} messages can be read; `tailwire log repair` saves them")?;
    }
    Ok(Soundness::of(findings))
}
