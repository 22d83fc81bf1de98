//! `tailwire serve`: from settings to a running broker, and from a signal to its end. What goes wrong before it runs is
//! one sentence on stderr: 2 is the exit code for what was said wrong, 1 for what can't be done.

mod banner;
mod foundation;
mod listeners;
mod problem;
mod signals;
mod start;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use listenfd::ListenFd;
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
use banner::BannerFacts;
use listeners::Listeners;
use problem::StartError;
use signals::{Reload, Signals};

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
/// Shells report the end by a signal as this and the signal's number.
const EXIT_SIGNAL: i32 = 128;

/// Runs the broker until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    // It takes variables out of the environment, and there are no other threads yet.
    let passed = ListenFd::from_env();
    // Another image of this process would not find them.
    let may_start_over = passed.len() == 0;
    let Configured { settings, gate } = match configured(args) {
        Ok(configured) => configured,
        Err(error) => return refuse(EXIT_USAGE, &error),
    };
    let log = match logging::start(&settings.log_level, settings.log_format, settings.access_log) {
        Ok(log) => log,
        Err(error) => return refuse(EXIT_FAILED, &format!("can't start threads: {error}")),
    };
    let failure = run_logged(args, &settings, gate.as_ref(), passed, &log).err();
    // By the log, which doesn't wait for a stderr that nobody reads.
    failure.iter().for_each(|error| log.print(&format!("tailwire: {error}")));
    drop(log);
    let Some(error) = failure else { return ExitCode::SUCCESS };
    if may_start_over && error.downcast_ref::<StartError>().is_some_and(StartError::is_mended_by_a_start) {
        return refuse(EXIT_FAILED, &format!("can't start over: {}", machine::start_over()));
    }
    ExitCode::from(EXIT_FAILED)
}

fn run_logged(
    args: &ServeArgs,
    settings: &ServeSettings,
    gate: Option<&Arc<Gate>>,
    passed: ListenFd,
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
    let outside = Outside { descriptors, passed, log };
    runtime.block_on(serve(settings, gate, outside, reload, &broker))
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

/// What the process has of its system.
struct Outside<'a> {
    /// How many files may be open, if that is known.
    descriptors: Option<u64>,
    /// Sockets that the service manager has opened.
    passed: ListenFd,
    log: &'a LogGuard,
}

async fn serve(
    settings: &ServeSettings,
    gate: Option<&Arc<Gate>>,
    Outside { descriptors, passed, log }: Outside<'_>,
    mut reload: Reload,
    broker: &OnceLock<Broker>,
) -> Result<(), Box<dyn std::error::Error>> {
    let tls = settings.tls.as_ref().map(|tls| ListenerTls::load(tls, &settings.data)).transpose()?;
    if let Some(tls) = &tls {
        reload.add(("TLS certificates", Box::new(tls.reload())));
    }
    let mut signals = Signals::new(reload)?;
    // Before the log: a mistaken second start leaves that alone.
    let Listeners { all, bound, operations, files } = listeners::open(settings, tls.as_ref(), passed)?;
    let started = tokio::select! {
        started = start::start(settings, gate, tls.as_ref(), descriptors, all) => started,
        number = signals.end() => {
            // Nothing was acknowledged yet, so there is nothing to finish.
            info!(number, "stopped while starting");
            listeners::remove(&files);
            return Ok(());
        }
    };
    let mut running = started.inspect_err(|_| listeners::remove(&files))?;
    running.count_lost_lines(log);
    let _ = broker.set(running.broker().clone());
    let shown = BannerFacts {
        bound,
        operations,
        dev_certificate: tls.as_ref().and_then(ListenerTls::dev_certificate),
        is_guarded: gate.is_some(),
    };
    banner::show(&settings.data, &shown, &running.options());

    tokio::select! {
        number = signals.end() => info!(number, "draining"),
        failure = running.failed() => return Err(failure.into()),
    }
    listeners::remove(&files);
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
