//! Which sockets there is room for: every connection is an open file, and so is what the process needs beside them. A
//! store that can't open a file can't tidy, no matter which connections hold them.

use std::{io, os::fd::RawFd, time::Duration};

use tailwire_model::limits::DESCRIPTORS_KEPT;
use tokio::time::Instant;

use super::{
    listener::{Inbound, InboundSource},
    socket::Detached,
};

/// How often it is said that something is short.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Descriptors {
    /// Connections have descriptors below this number. The system gives the lowest that is free, so that a higher one
    /// means that there are as many open files as that.
    end: u64,
    /// A connection that was accepted, and has to wait for room. Those behind it wait where the system keeps them.
    held: Option<(Detached, InboundSource)>,
    said: Option<Instant>,
}

impl Descriptors {
    /// For a process that may have so many files open. Where that is few, connections get at least half.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        let end = limit.map_or(u64::MAX, |limit| limit - DESCRIPTORS_KEPT.min(limit / 2));
        Self { end, held: None, said: None }
    }

    /// Whether a connection waits for room, so that no other is accepted.
    pub(crate) fn is_full(&self) -> bool {
        self.held.is_some()
    }

    /// A connection that was accepted, unless it has to wait.
    pub(crate) fn admit(&mut self, inbound: Inbound) -> Option<Inbound> {
        if self.has_room(inbound.socket.descriptor()) {
            return Some(inbound);
        }
        if self.may_say() {
            tracing::warn!(
                "too many open files: connections wait until others end; raise the limit (`ulimit -n`, `LimitNOFILE=`)"
            );
        }
        // A socket that fails here is lost to its client alone.
        self.held = Some((inbound.socket.detach().ok()?, inbound.source));
        None
    }

    /// The connection that waits, if there is room by now.
    pub(crate) fn retry(&mut self) -> Option<Inbound> {
        let (socket, source) = self.held.take()?;
        // A copy has the lowest number that is free.
        match socket.try_clone() {
            Ok(copy) if self.has_room(copy.descriptor()) => {
                Some(Inbound { socket: copy.attach().ok()?, source })
            }
            Ok(_) | Err(_) => {
                self.held = Some((socket, source));
                None
            }
        }
    }

    /// A connection could not be accepted.
    pub(crate) fn failed(&mut self, error: &io::Error) {
        if self.may_say() {
            tracing::warn!(%error, "a connection could not be accepted");
        }
    }

    fn has_room(&self, descriptor: Option<RawFd>) -> bool {
        descriptor.is_none_or(|number| u64::try_from(number).is_ok_and(|number| number < self.end))
    }

    fn may_say(&mut self) -> bool {
        let now = Instant::now();
        let may = self.said.is_none_or(|said| now - said >= SAY_EVERY);
        if may {
            self.said = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_shared() {
        let end = |limit| Descriptors::new(limit).end;
        assert_eq!([end(Some(1024)), end(Some(128)), end(Some(20)), end(None)], [960, 64, 10, u64::MAX]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_short_is_said_once_in_a_while() {
        let mut descriptors = Descriptors::new(None);
        assert!(descriptors.may_say());
        tokio::time::sleep(SAY_EVERY / 2).await;
        assert!(!descriptors.may_say());
        tokio::time::sleep(SAY_EVERY / 2).await;
        assert!(descriptors.may_say());
    }
}
