//! `tailwire log export`: the messages of a log as lines.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::Args;
use tailwire_storage::inspect::Survey;
use tailwire_wire::stored;

use super::command::{CommandResult, InspectedLog, Soundness, list, say};

pub(super) const NOTES: &str = "\
Writes a line for each message that is retained, oldest first: the lines that the broker's NDJSON streams have. What
can't be read is left out and listed on stderr, and then the exit code is 1. JSON is written on one line: line breaks
between its tokens are dropped. Options and idempotency keys are not exported.";

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    log: InspectedLog,

    /// Write to this file, which must not exist [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &ExportArgs) -> CommandResult {
    let survey = args.log.survey()?;
    match &args.out {
        None => write(&survey, io::stdout().lock()),
        Some(path) => {
            let file = File::create_new(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let done = write(&survey, &file)?;
            file.sync_all()?;
            Ok(done)
        }
    }
}

fn write(survey: &Survey, out: impl Write) -> CommandResult {
    let mut out = BufWriter::new(out);
    let mut line = Vec::new();
    let walked = survey.walk(|message| {
        line.clear();
        stored::write(&message, &mut line);
        out.write_all(&line)
    })?;
    out.flush()?;
    let findings = &walked.findings;
    if !findings.is_sound() {
        list(findings, &mut io::stderr().lock())?;
    }
    say(format_args!("{} messages exported", walked.figures.messages));
    Ok(Soundness::of(findings))
}
