//! The end of a connection in good order: the connection is shut down for writing, and the client has a moment to close. A socket
//! that is closed with unread input would take back what was written last.

use std::{
    io,
    task::{Context, Poll, ready},
};

use tailwire_core::Timer;

use super::{
    patience::{Patience, Wait},
    socket::{Socket, is_for_later},
};

/// See the module.
#[derive(Default)]
pub(crate) struct Ending {
    patience: Option<Patience>,
    /// Whether the connection is shut down for writing.
    is_said: bool,
}

impl Ending {
    /// Ready when the connection is over.
    pub(crate) fn poll(
        &mut self,
        socket: &Socket,
        timer: Option<&mut Timer>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let patience = *self.patience.get_or_insert_with(|| Patience::new(Wait::HangUp));
        if !self.is_said {
            match socket.poll_end(cx) {
                Poll::Ready(Ok(())) => self.is_said = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        match timer.map(|timer| patience.poll(timer, cx)) {
            Some(Poll::Pending) if self.is_said => poll_closed(socket, cx),
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(())) | None => Poll::Ready(()),
        }
    }
}

/// Ready when the client has closed its side. What it may send until then is thrown away.
fn poll_closed(socket: &Socket, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        match ready!(poll_discard(socket, cx)) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Poll::Ready(()),
        }
    }
}

/// Reads something and throws it away. False at the client's end.
pub(crate) fn poll_discard(socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
    let mut waste = [0; 512];
    loop {
        ready!(socket.poll_readable(cx))?;
        match socket.try_read(&mut waste) {
            Ok(count) => return Poll::Ready(Ok(count > 0)),
            Err(error) if is_for_later(&error) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
