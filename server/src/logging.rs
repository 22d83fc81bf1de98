//! The log of the process: lines on stderr, as much of it as the settings ask for.

use std::{
    io::{self, IsTerminal},
    panic,
};

use tracing_subscriber::EnvFilter;

use crate::machine;

/// Sends the log to stderr; stdout is for the person at the terminal.
pub(crate) fn log_to_stderr(directives: &str) {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(io::stderr)
        // It would panic where stderr can't be written, as on a full disk.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && machine::colour_is_welcome())
        .init();
}

/// Leaves out what the storage engine prints when it panics over a damaged store: the panic is caught, and told in a
/// sentence. Every other panic is a fault of ours, and shown in full.
pub(crate) fn mute_engine_panics() {
    let show = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let of_engine = info.location().is_some_and(|location| location.file().contains("/sled-"));
        if of_engine {
            tracing::debug!(panic = %info, "the storage engine panicked");
        } else {
            show(info);
        }
    }));
}
