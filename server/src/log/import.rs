//! `tailwire log import`: messages from lines into a log.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    mem,
    path::PathBuf,
};

use clap::Args;
use tailwire_core::{
    Clock, Store,
    log::{Appended, Group},
    order::{begin_epoch, local_entry},
    store::{Outcome, Write},
};
use tailwire_model::{Condition, Draft, Timestamp, limits::MESSAGE_BYTES_MAX};
use tailwire_storage::{LogSettings, SledStore};
use tailwire_wire::{Problem, stored};

use super::command::{CommandResult, DataFolder, Soundness, say};

pub(super) const NOTES: &str = "\
Takes the lines that `tailwire log export` writes, or a broker's NDJSON stream: an object with `topic` and `data`, and
where a message has them `time`, `type`, `encoding`, `key`, `event` and `headers`. Messages get new cursors. They keep
their times. The log is made if there is none.

Nothing is compared with the messages that the log has: lines that are imported twice are there twice. Where the log had
messages before, the output says so.

Lines are read in batches, and a batch is checked whole before any of it is appended. At a bad line it ends, with the
line's number and the number of lines before it that were imported; the log is sound then, and has exactly those.";

/// Bounds of a batch, which is appended and made durable at once.
const BATCH_MESSAGES: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;
/// A line is at most a message in base64, or in JSON that escapes every byte, and some names.
const LINE_BYTES_MAX: u64 = 6 * MESSAGE_BYTES_MAX as u64 + (64 << 10);

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file of lines; `-` is stdin
    #[arg(value_name = "FILE")]
    from: PathBuf,

    #[command(flatten)]
    folder: DataFolder,
}

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}; {} before it were imported", lines(*.imported))]
struct BadLine {
    line: u64,
    what: String,
    imported: u64,
}

fn lines(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

pub(super) fn run(args: &ImportArgs) -> CommandResult {
    let input: Box<dyn BufRead> = if args.from.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.from).map_err(|error| format!("{}: {error}", args.from.display()))?;
        Box::new(BufReader::new(file))
    };
    let store = SledStore::open(&args.folder.data, &LogSettings::default())?;
    begin_epoch(&store, Clock::system_now(), rand::random())?;
    let before = store.stats().messages;
    let result = import(&store, input);
    store.close()?;
    say(format_args!("{} imported", lines(result?)));
    if before > 0 {
        let had = lines(before);
        say(format_args!(
            "the log had {had} before; none was compared, so a line that it had is there twice"
        ));
    }
    Ok(Soundness::Sound)
}

/// Answers how many messages were imported.
fn import(store: &impl Store, mut input: impl BufRead) -> Result<u64, Box<dyn std::error::Error>> {
    let mut batch = ImportBatch::default();
    let (mut line, mut number, mut imported) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        Read::by_ref(&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(imported + batch.append(store)?);
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match stored::read(line.trim_ascii()) {
            Ok(Some((draft, time))) => batch.push(draft, time),
            Ok(None) => {}
            Err(problem) => {
                return Err(BadLine { line: number, what: in_words(&problem), imported }.into());
            }
        }
        if batch.is_full() {
            imported += batch.append(store)?;
        }
    }
}

fn in_words(problem: &Problem) -> String {
    problem.detail.as_ref().map_or_else(|| problem.code.title().to_owned(), ToString::to_string)
}

/// Messages that were read and not yet appended, by runs of one time.
#[derive(Default)]
struct ImportBatch {
    runs: Vec<(Timestamp, Vec<Write>)>,
    count: usize,
    bytes: usize,
    /// The time of a message that has none.
    time: Timestamp,
}

impl ImportBatch {
    fn push(&mut self, draft: Draft, time: Option<Timestamp>) {
        let time = time.unwrap_or_else(|| self.time.max(Clock::system_now()));
        self.time = time.max(self.time);
        self.count += 1;
        self.bytes += draft.cost();
        let group = Group { drafts: vec![draft], key: None, condition: Condition::None };
        let write = Write::Publish(group);
        match self.runs.last_mut() {
            Some((last, writes)) if *last == time => writes.push(write),
            _ => self.runs.push((time, vec![write])),
        }
    }

    fn is_full(&self) -> bool {
        self.count >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES
    }

    /// Appends them all and makes them durable. Answers how many those were.
    fn append(&mut self, store: &impl Store) -> Result<u64, Box<dyn std::error::Error>> {
        let mut entries = Vec::with_capacity(self.runs.len());
        let mut next = store.newest().next();
        for (time, writes) in mem::take(&mut self.runs) {
            let mut entry = local_entry(store, time, time, writes);
            entry.place.first = next;
            // Each write is a message.
            next.0 += entry.writes.len() as u64;
            entries.push(entry);
        }
        if !entries.is_empty() && !store.has_room(self.bytes) {
            return Err("the disk is full".into());
        }
        (self.count, self.bytes) = (0, 0);
        let outcomes = store.apply(entries, true)?;
        let is_stored = |outcome: &&Outcome| matches!(outcome, Outcome::Published(Appended::Stored(_)));
        Ok(outcomes.iter().filter(is_stored).count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use tailwire_core::log::Budget;
    use tailwire_model::{Filter, Position, Term};
    use tailwire_storage::MemoryStore;

    use super::*;

    fn imported(text: &str) -> (Result<u64, String>, Vec<(String, u64)>) {
        let log = MemoryStore::default();
        begin_epoch(&log, Timestamp(0), 0).unwrap();
        let result = import(&log, text.as_bytes()).map_err(|error| error.to_string());
        let budget = Budget { messages: usize::MAX, bytes: usize::MAX, scan_bytes: usize::MAX };
        let filter = Filter::from(Term::parse("**").unwrap());
        let page = log.read(&filter, Position::ZERO, Position::MAX, budget).unwrap();
        let messages = page.messages.iter();
        (result, messages.map(|message| (message.topic().to_string(), message.time.0)).collect())
    }

    #[test]
    fn times_are_kept_also_where_they_run_backwards() {
        let lines = r#"{"topic":"a","data":1,"time":"2026-01-02T00:00:00.000Z"}

            {"kind":"heartbeat","cursor":"x"}
            {"topic":"b","data":1,"time":"2026-01-01T00:00:00.000Z"}
            {"topic":"c","data":1,"time":"2026-01-03T00:00:00.000Z"}"#;
        let (result, messages) = imported(lines);
        let day = 86_400_000;
        let second = 1_767_225_600_000 + day;
        let expect = [("a", second), ("b", second - day), ("c", second + day)];
        assert_eq!(result, Ok(3));
        assert_eq!(messages, expect.map(|(topic, time)| (topic.to_owned(), time)));
    }

    #[test]
    fn a_bad_line_is_named_and_nothing_of_its_batch_is_there() {
        let good = "{\"topic\":\"a\",\"data\":1}\n";
        let (result, messages) = imported(&format!("{good}{good}{{\"topic\":\"a\"}}\n{good}"));
        assert_eq!(result, Err("line 3: `data` is missing; 0 messages before it were imported".to_owned()));
        assert!(messages.is_empty());
        let (result, messages) = imported(&format!("{}nonsense", good.repeat(BATCH_MESSAGES + 5)));
        assert!(result.is_err_and(|error| error.contains("line 1006") && error.contains("1000 messages")));
        assert_eq!(messages.len(), BATCH_MESSAGES);
    }
}
