//! `tailwire log stats`: what a log holds, in numbers.

use std::{
    convert::Infallible,
    io::{self, Write},
};

use clap::Args;
use serde_json::json;
use tailwire_model::{Cursor, Epoch, Position};
use tailwire_storage::inspect::Figures;

use super::command::{CommandResult, InspectedLog, Soundness, say};

pub(super) const NOTES: &str = "\
`bytes` is what messages count against bounds such as max_bytes: topic, body, key, event, headers, and 64 bytes each.
`files` is what the folder takes. Of a damaged log it counts what can be read, and says so on stderr.
A broker says the same of the log that it has open, at /metrics.";

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    log: InspectedLog,

    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatsArgs) -> CommandResult {
    let survey = args.log.survey()?;
    let Ok(walked) = survey.walk(|_| Ok::<(), Infallible>(()));
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", as_json(&walked.figures))?;
    } else {
        out.write_all(as_text(&walked.figures).as_bytes())?;
    }
    if !walked.findings.is_sound() {
        say("the log is damaged, and this is what can be read of it; `tailwire log check` says more");
    }
    Ok(Soundness::of(&walked.findings))
}

fn as_json(figures: &Figures) -> serde_json::Value {
    json!({
        "format": figures.format,
        "id": figures.id.map(|id| id.to_string()),
        "topics": figures.topics,
        "messages": figures.messages,
        "bytes": figures.bytes,
        "file_bytes": figures.file_bytes,
        "head": figures.head.map(|head| head.0),
        "tail": figures.tail.0,
        "epochs": figures.epochs,
        "epoch": figures.epoch.map(epoch),
        "commits": figures.commits,
        "acknowledged": figures.acknowledged.map(|(commits, newest)| json!({
            "commits": commits,
            "position": newest.0,
        })),
        "trims": figures.trims,
        "keys": figures.keys,
        "options": figures.options,
    })
}

fn as_text(figures: &Figures) -> String {
    let unknown = || "unknown".to_owned();
    let acknowledged = figures
        .acknowledged
        .map_or_else(unknown, |(commits, newest)| format!("commit {commits}, up to position {newest}"));
    let lines = [
        ("log", figures.id.map_or_else(unknown, |id| id.to_string())),
        ("format", figures.format.map_or_else(unknown, |format| format.to_string())),
        ("topics", figures.topics.to_string()),
        ("messages", figures.messages.to_string()),
        ("bytes", figures.bytes.to_string()),
        ("files", figures.file_bytes.to_string()),
        ("head", figures.head.map_or_else(|| "none".to_owned(), |head| head.to_string())),
        ("tail", figures.tail.to_string()),
        ("epochs", figures.epochs.to_string()),
        ("epoch", figures.epoch.map_or_else(unknown, epoch)),
        ("commits", figures.commits.to_string()),
        ("acknowledged", acknowledged),
        ("trims", figures.trims.to_string()),
        ("keys", figures.keys.to_string()),
        ("options", figures.options.to_string()),
    ];
    lines.iter().map(|(name, value)| format!("{name:<13}{value}\n")).collect()
}

/// An epoch as cursors begin with it.
fn epoch(epoch: Epoch) -> String {
    let cursor = Cursor { epoch, position: Position::ZERO }.to_string();
    cursor.split('-').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_log_has_figures_too() {
        let text = as_text(&Figures::default());
        assert!(text.contains("log          unknown\n") && text.contains("head         none\n"), "{text}");
        let epoch = Epoch::opening(1_795_000_000_000, None, 0).unwrap();
        let json = as_json(&Figures { epoch: Some(epoch), ..Figures::default() });
        assert_eq!(json["epoch"].as_str().map(str::len), Some(8));
    }
}
