//! The log of the process: lines on stderr, as much of it as the settings ask for. Threads that log never wait for the
//! reader of stderr, and no client can fill it: see [`queue`] and [`limit`].

mod limit;
mod queue;

use std::{
    io::{self, IsTerminal, Write},
    panic,
    sync::Arc,
    thread,
    time::Duration,
};

use tailwire_http::ACCESS_LOG;
use tracing::Level;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

use self::{
    limit::{RateLimit, RateLimitLayer, SELF_TARGET, Suppressed},
    queue::{LogQueue, QueueWait},
};
use crate::{config::LogFormat, machine};

/// Lines about the log itself come so much later than what they report, at most.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for a stderr that takes no bytes.
const FLUSH_WAIT: Duration = Duration::from_secs(1);
/// Parts of the broker in the targets of lines: all its crates' names begin so.
const OWN_TARGETS: &str = "tailwire";

/// The running log. Its end writes what is left, for as long as stderr takes it, but no longer than a second.
pub(crate) struct LogGuard {
    queue: Arc<LogQueue>,
    limit: Arc<RateLimit>,
}

impl LogGuard {
    /// Has lost lines counted: those that stderr did not take, and those beyond the limit of their kind.
    pub(crate) fn count_losses(
        &self,
        dropped: impl Fn() + Send + Sync + 'static,
        suppressed: impl Fn() + Send + Sync + 'static,
    ) {
        self.queue.count_dropped(Box::new(dropped));
        self.limit.count_suppressed(Box::new(suppressed));
    }

    /// Writes a line of its own to stderr, without waiting for it.
    pub(crate) fn print(&self, line: &str) {
        self.queue.push(format!("{line}\n").as_bytes());
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.queue.flush(FLUSH_WAIT);
    }
}

/// Sends the log to stderr; stdout is for the person at the terminal.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn start(level: &str, format: LogFormat, access_log: bool) -> io::Result<LogGuard> {
    let (queue, limit) = (Arc::new(LogQueue::new()), Arc::new(RateLimit::new()));
    let guard = LogGuard { queue: queue.clone(), limit: limit.clone() };
    thread::Builder::new().name("log-write".to_owned()).spawn(move || write(&queue, &limit))?;
    tracing_subscriber::registry()
        .with(lines(format, guard.queue.clone()))
        .with(RateLimitLayer(guard.limit.clone()))
        .with(EnvFilter::new(directives(level, access_log)))
        .init();
    replace_panic_hook();
    Ok(guard)
}

/// The layer that formats lines.
fn lines(format: LogFormat, queue: Arc<LogQueue>) -> Box<dyn Layer<Registry> + Send + Sync> {
    // Errors of the formatter would be printed to stderr, where that may block.
    let layer = tracing_subscriber::fmt::layer().with_writer(queue).log_internal_errors(false);
    match format {
        LogFormat::Text => {
            layer.with_ansi(io::stderr().is_terminal() && machine::colour_is_welcome()).boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// Levels of the settings as directives of the filter. A level alone is the broker's; other crates, many of whose lines
/// clients can cause, log errors alone, unless they are named.
fn directives(level: &str, access_log: bool) -> String {
    let mut all = Vec::new();
    for directive in level.split(',').map(str::trim) {
        if directive.contains('=') {
            all.push(directive.to_owned());
        } else {
            let others = if directive.eq_ignore_ascii_case("off") { "off" } else { "error" };
            all.extend([others.to_owned(), format!("{OWN_TARGETS}={directive}")]);
        }
    }
    if access_log {
        // The level doesn't decide: an operator has asked for these lines by a setting of their own.
        all.push(format!("{ACCESS_LOG}=info"));
    }
    all.join(",")
}

/// The thread that writes, and reports lost lines once stderr takes lines again.
fn write(queue: &LogQueue, limit: &RateLimit) {
    let mut unreported = true;
    loop {
        match queue.wait(unreported.then_some(REPORT_EVERY)) {
            QueueWait::Lines(lines) => {
                let dropped = queue.write(&lines, &mut Stderr);
                if dropped > 0 {
                    tracing::warn!(target: SELF_TARGET, lines = dropped, "log lines were dropped: nobody took them from stderr");
                }
                unreported = true;
            }
            QueueWait::TimedOut => {
                let (suppressed, more) = limit.take_suppressed();
                suppressed.iter().for_each(report);
                unreported = more;
            }
        }
    }
}

/// Stderr by its descriptor, since `io::stderr()` holds a lock for as long as a write blocks.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As severe as the lines were, as far as it is worth telling.
fn report(Suppressed { kind, level, lines }: &Suppressed) {
    if *level == Level::ERROR {
        tracing::error!(target: SELF_TARGET, kind, lines, "log lines were left out: too many of one kind in a second");
    } else {
        tracing::warn!(target: SELF_TARGET, kind, lines, "log lines were left out: too many of one kind in a second");
    }
}

/// Panics go to the log, whose writer doesn't block. A panic of the storage engine over a damaged store is caught, and
/// printed as a sentence; every other one is a fault of ours, and shown in full.
fn replace_panic_hook() {
    panic::set_hook(Box::new(|info| {
        let of_engine = info.location().is_some_and(|location| location.file().contains("/sled-"));
        if of_engine {
            tracing::debug!(panic = %info, "the storage engine panicked");
        } else {
            let thread = thread::current();
            let backtrace = std::backtrace::Backtrace::capture();
            tracing::error!(%backtrace, "thread '{}' {info}", thread.name().unwrap_or("unnamed"));
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_the_brokers_and_others_log_errors() {
        for (level, expect) in [
            ("info", "error,tailwire=info"),
            ("OFF", "off,tailwire=OFF"),
            ("warn,tailwire_http=debug", "error,tailwire=warn,tailwire_http=debug"),
            ("tailwire_http=debug,h2=trace", "tailwire_http=debug,h2=trace"),
        ] {
            assert_eq!(directives(level, false), expect);
            assert_eq!(directives(level, true), format!("{expect},tailwire_access_log=info"));
        }
    }
}
