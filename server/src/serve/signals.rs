//! Signals: some end the broker, one reloads its settings, others are ignored.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

/// Signals by which a person or a supervisor speaks to the broker.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Signal,
    /// Taken and ignored: without a handler they would end the process.
    user: [Signal; 2],
    reload: Reload,
}

/// A setting that can be read again while the broker runs: its name for the log, and the function that does it.
pub(super) type Reloadable = (&'static str, Box<dyn Fn() -> Result<(), String> + Send + Sync>);

/// Everything that SIGHUP reads again, in this order.
#[derive(Default)]
pub(super) struct Reload(Vec<Reloadable>);

impl Reload {
    /// Adds something to read again.
    pub(super) fn add(&mut self, reloadable: Reloadable) {
        self.0.push(reloadable);
    }

    /// Reads everything again. A part that fails stays as it was.
    fn run(&self) {
        if self.0.is_empty() {
            info!("SIGHUP: there is nothing to reload");
        }
        for (name, read) in &self.0 {
            match read() {
                Ok(()) => info!(name, "reloaded"),
                Err(why) => error!(name, %why, "could not be reloaded, and stays as it was"),
            }
        }
    }
}

impl Signals {
    pub(super) fn new(reload: Reload) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            reload,
        })
    }

    /// The number of the next signal that ends the broker. Others are dealt with meanwhile.
    pub(super) async fn end(&mut self) -> i32 {
        let [user1, user2] = &mut self.user;
        loop {
            let kind = tokio::select! {
                _ = self.interrupt.recv() => SignalKind::interrupt(),
                _ = self.terminate.recv() => SignalKind::terminate(),
                _ = self.quit.recv() => SignalKind::quit(),
                _ = self.hang_up.recv() => {
                    self.reload.run();
                    continue;
                }
                _ = user1.recv() => {
                    info!("SIGUSR1 is ignored");
                    continue;
                }
                _ = user2.recv() => {
                    info!("SIGUSR2 is ignored");
                    continue;
                }
            };
            return kind.as_raw_value();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[test]
    fn a_part_that_fails_keeps_no_other_from_being_reloaded() {
        let mut reload = Reload::default();
        let runs = Arc::new(AtomicU32::new(0));
        reload.add(("first", Box::new(|| Err("broken".to_owned()))));
        let count = runs.clone();
        reload.add(("second", Box::new(move || Ok(_ = count.fetch_add(1, Ordering::Relaxed)))));
        reload.run();
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }
}
