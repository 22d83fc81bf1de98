//! `tailwire serve`: from settings to a running broker, and from a signal to its end. What goes wrong before it runs is
//! one sentence on stderr: 2 is the exit code for what was said wrong, 1 for what can't be done.

mod banner;
mod signals;
mod start;

use std::{fs, process::ExitCode};

use tracing::{debug, info, warn};

use crate::{
    config::{self, ConfigError, Environment, FileText, ServeArgs, ServeSettings},
    logging::{self, LogGuard},
    machine,
};
use signals::{Reload, Signals};
use start::StartError;

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
/// Shells report the end by a signal as this and the signal's number.
const EXIT_SIGNAL: i32 = 128;

/// Runs the broker until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    let settings = match read_settings(args) {
        Ok(settings) => settings,
        Err(error) => return refuse(EXIT_USAGE, &error),
    };
    let log = match logging::start(&settings.log_level, settings.log_format) {
        Ok(log) => log,
        Err(error) => return refuse(EXIT_FAILED, &format!("can't start threads: {error}")),
    };
    let code = match run_logged(&settings, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // By the log, which doesn't wait for a stderr that nobody reads.
            log.print(&format!("tailwire: {error}"));
            ExitCode::from(EXIT_FAILED)
        }
    };
    drop(log);
    code
}

fn run_logged(settings: &ServeSettings, log: &LogGuard) -> Result<(), Box<dyn std::error::Error>> {
    machine::use_small_pages();
    let descriptors = match machine::raise_open_files() {
        Ok(files) => {
            debug!(files, "open files allowed");
            Some(files)
        }
        Err(error) => {
            warn!(%error, "can't raise the limit of open files");
            None
        }
    };
    let runtime = machine::front_runtime(settings.threads).map_err(StartError::Threads)?;
    runtime.block_on(serve(settings, descriptors, log))
}

fn refuse(code: u8, error: &(impl std::fmt::Display + ?Sized)) -> ExitCode {
    eprintln!("tailwire: {error}");
    ExitCode::from(code)
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is where the environment is read, for everything behind it"
)]
fn read_settings(args: &ServeArgs) -> Result<ServeSettings, ConfigError> {
    let env = Environment::new(std::env::vars_os());
    let Some((path, origin)) = config::file_path(args, &env) else {
        return config::settle(args, &env, None);
    };
    let text = fs::read_to_string(&path).map_err(|error| {
        let problem = machine::describe(&error);
        ConfigError::Unreadable { origin, path: path.clone(), problem }
    })?;
    config::settle(args, &env, Some(FileText { path: &path, text: &text }))
}

async fn serve(
    settings: &ServeSettings,
    descriptors: Option<u64>,
    log: &LogGuard,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new(Reload::default())?;
    let mut running = tokio::select! {
        started = start::start(settings, descriptors) => started?,
        number = signals.end() => {
            // Nothing was promised to anybody yet, so there is nothing to finish.
            info!(number, "stopped while starting");
            return Ok(());
        }
    };
    running.count_lost_lines(log);
    banner::show(&settings.data, running.address(), &running.options());

    tokio::select! {
        number = signals.end() => info!(number, "draining"),
        failure = running.failed() => return Err(failure.into()),
    }
    tokio::select! {
        drained = running.drain() => drained?,
        number = signals.end() => end_at_once(number),
    }
    info!("stopped");
    Ok(())
}

/// The second signal's way out: the log is safe at any moment, so only what is unanswered is lost.
#[allow(clippy::disallowed_methods, reason = "a drain that hangs must not keep the process from ending")]
fn end_at_once(number: i32) -> ! {
    std::process::exit(EXIT_SIGNAL + number)
}
