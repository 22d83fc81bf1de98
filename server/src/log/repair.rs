//! `tailwire log repair`: a sound log in the place of a damaged one, which is kept beside it.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use tailwire_core::Clock;
use tailwire_model::Timestamp;
use tailwire_storage::inspect::{self, Repaired};
use tailwire_wire::time::rfc3339;

use super::command::{CommandResult, InspectedLog, Soundness, list, say};

pub(super) const NOTES: &str = "\
Builds a new log of every message that can be read, at its position and with its cursor, opens it to prove it, and puts
it in the place of the damaged one, which is kept as `<folder>.damaged-<time>`: remove it once you don't want it any more.
Nothing is written into the damaged log. Room for two copies of the log is needed for the time of the repair, and for one
after it. A sound log is left alone.

Clients whose cursors stand before the last message that may be lost are told of a gap, on every topic, and read on; no
cursor is given a second time. Options and idempotency keys are kept as far as they can be read.

The swap renames the folder, so it can't be a mount point: then let the new log be built elsewhere, with --into.";

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    log: InspectedLog,

    /// Build the new log in this folder, which must not exist, and leave the damaged one where it is
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

pub(super) fn run(args: &RepairArgs) -> CommandResult {
    let now = Clock::system_now();
    let survey = args.log.survey()?;
    let data = args.log.folder.data.canonicalize()?;
    let Ok(walked) = survey.walk(|_| Ok::<(), Infallible>(()));
    if walked.findings.is_sound() {
        say("the log is sound; there is nothing to repair");
        return Ok(Soundness::Sound);
    }
    let built = args.into.clone().unwrap_or_else(|| beside(&data, "repaired", now));
    if built.exists() {
        return Err(format!("{} exists already", built.display()).into());
    }
    let repaired = match inspect::repair(&survey, &built, now) {
        Ok(repaired) => repaired,
        Err(error) => {
            // Half a log must not be taken for one.
            let _ = fs::remove_dir_all(&built);
            return Err(error.into());
        }
    };
    report(&repaired)?;
    if args.into.is_some() {
        say(format_args!("the repaired log is in {}", built.display()));
        return Ok(Soundness::Sound);
    }
    let kept = beside(&data, "damaged", now);
    inspect::swap(&data, &built, &kept).map_err(|error| {
        let built = built.display();
        format!("the repaired log is in {built}, and could not be put into its place: {error}")
    })?;
    // Only here: until then nobody may open the damaged one.
    drop(survey);
    say(format_args!("the repaired log is in its place; the damaged one is kept in {}", kept.display()));
    Ok(Soundness::Sound)
}

fn report(repaired: &Repaired) -> io::Result<()> {
    list(&repaired.walked.findings, &mut io::stderr().lock())?;
    say(format_args!("{} messages saved", repaired.messages));
    match (repaired.walked.lost_upto, repaired.walked.figures.acknowledged) {
        (Some(upto), _) => {
            say(format_args!("messages may be lost up to position {upto}; readers are told so"));
        }
        (None, Some(_)) => say("no message is lost"),
        (None, None) => say("nobody knows whether messages are lost: what was acknowledged can't be read"),
    }
    Ok(())
}

/// A name beside the log's: `tailwire-data.damaged-20261121T100000Z`.
fn beside(data: &Path, word: &str, now: Timestamp) -> PathBuf {
    let name = data.file_name().unwrap_or_default().to_string_lossy();
    let time = rfc3339(now);
    let time: String =
        time[..19].iter().map(|&byte| char::from(byte)).filter(|c| !"-:".contains(*c)).collect();
    data.with_file_name(format!("{name}.{word}-{time}Z"))
}
