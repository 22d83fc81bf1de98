//! `tailwire serve`: from settings to a running broker, and from a signal to its end. What goes wrong before it runs is
//! one sentence on stderr: 2 is the exit code for what was said wrong, 1 for what can't be done.

mod banner;
mod foundation;
mod problem;
mod signals;
mod start;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use tailwire_core::Broker;

use tracing::{debug, info, warn};

use crate::{
    access::Gate,
    config::{ServeArgs, ServeSettings},
    logging::{self, LogGuard},
    machine,
    settings::{Configured, configured, read_again},
    tls::ListenerTls,
};
use banner::Spoken;
use problem::StartError;
use signals::{Reload, Signals};

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
/// Shells report the end by a signal as this and the signal's number.
const EXIT_SIGNAL: i32 = 128;

/// Runs the broker until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    let Configured { settings, gate } = match configured(args) {
        Ok(configured) => configured,
        Err(error) => return refuse(EXIT_USAGE, &error),
    };
    let log = match logging::start(&settings.log_level, settings.log_format) {
        Ok(log) => log,
        Err(error) => return refuse(EXIT_FAILED, &format!("can't start threads: {error}")),
    };
    let code = match run_logged(args, &settings, gate.as_ref(), &log) {
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

fn run_logged(
    args: &ServeArgs,
    settings: &ServeSettings,
    gate: Option<&Arc<Gate>>,
    log: &LogGuard,
) -> Result<(), Box<dyn std::error::Error>> {
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
    let broker = Arc::default();
    let mut reload = Reload::default();
    if let Some(gate) = gate {
        reload.add(("access", access_reload(args.clone(), gate.clone(), Arc::clone(&broker))));
    }
    runtime.block_on(serve(settings, gate, descriptors, reload, (log, &broker)))
}

fn refuse(code: u8, error: &(impl std::fmt::Display + ?Sized)) -> ExitCode {
    eprintln!("tailwire: {error}");
    ExitCode::from(code)
}

/// Reads the section `[access]` again, and has everything that is open ask by it.
fn access_reload(
    args: ServeArgs,
    gate: Arc<Gate>,
    broker: Arc<OnceLock<Broker>>,
) -> Box<dyn Fn() -> Result<(), String> + Send + Sync> {
    Box::new(move || {
        read_again(&args, &gate).map_err(|error| error.to_string())?;
        if let Some(broker) = broker.get() {
            broker.review(|_| true);
        }
        Ok(())
    })
}

async fn serve(
    settings: &ServeSettings,
    gate: Option<&Arc<Gate>>,
    descriptors: Option<u64>,
    mut reload: Reload,
    (log, broker): (&LogGuard, &OnceLock<Broker>),
) -> Result<(), Box<dyn std::error::Error>> {
    let tls = settings.tls.as_ref().map(|tls| ListenerTls::load(tls, &settings.data)).transpose()?;
    if let Some(tls) = &tls {
        reload.add(("TLS certificates", Box::new(tls.reload())));
    }
    let mut signals = Signals::new(reload)?;
    let mut running = tokio::select! {
        started = start::start(settings, gate, tls.as_ref(), descriptors) => started?,
        number = signals.end() => {
            // Nothing was acknowledged yet, so there is nothing to finish.
            info!(number, "stopped while starting");
            return Ok(());
        }
    };
    running.count_lost_lines(log);
    let _ = broker.set(running.broker().clone());
    let spoken = Spoken::by(tls.as_ref());
    banner::show(&settings.data, running.address(), gate.is_some(), &spoken, &running.options());

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
