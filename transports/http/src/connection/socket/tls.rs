//! TLS over TCP, with the contract of [`Socket`](super::Socket): what is written is sealed once, into one buffer that all
//! connections of a thread share, and sent in one call; what the kernel doesn't take of it is the tail. Part of a record counts as
//! what is being received, and has its time.

mod partial;
mod session;

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    net::Shutdown,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use self::{
    partial::PartialRecord,
    session::{RECORD_BYTES_MAX, SEALED_BYTES_MAX, Session},
};
use super::{WrittenBytes, is_for_later};
use crate::connection::budget::{Charge, READ_BYTES_SCARCE};

/// Ciphertext that is read at once: one record of TLS 1.2 with its head.
const READ_BYTES: usize = 18 << 10;

thread_local! {
    /// Used within one call: plaintext of several parts, ciphertext to be sent, ciphertext received.
    static PLAIN: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(RECORD_BYTES_MAX));
    static SEALED: RefCell<Vec<u8>> = RefCell::new(vec![0; SEALED_BYTES_MAX]);
    static RECEIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// See the module. The lock is never waited for: a task and the dispatcher of its shard take turns on one thread.
pub(crate) struct Tls {
    stream: TcpStream,
    session: Mutex<Session>,
    /// Locked after the session, where both are.
    partial: Mutex<PartialRecord>,
}

/// A TLS socket between two runtimes.
pub(crate) struct DetachedTls {
    stream: std::net::TcpStream,
    session: Mutex<Session>,
    partial: Mutex<PartialRecord>,
}

/// How bytes go to the kernel.
#[derive(Clone, Copy)]
enum Way {
    /// By the runtime, which learns that the socket is full.
    Runtime,
    /// Past it; see [`Socket::write_lent`](super::Socket::write_lent).
    Past,
}

impl Tls {
    /// Shakes hands with a client. Bytes of half a handshake count in the charge. The caller bounds the wait.
    ///
    /// # Errors
    /// When the client is gone, or doesn't speak TLS as configured.
    pub(crate) async fn accept(
        stream: TcpStream,
        config: Arc<ServerConfig>,
        charge: Charge,
    ) -> io::Result<Self> {
        let session = Mutex::new(Session::new(config)?);
        let own = Self { stream, session, partial: Mutex::new(PartialRecord::new(charge)) };
        std::future::poll_fn(|cx| own.poll_handshake(cx)).await?;
        Ok(own)
    }

    /// See [`Socket::broken`](super::Socket::broken).
    pub(crate) async fn broken(&self) -> io::Result<tokio::io::Ready> {
        self.stream.ready(Interest::ERROR).await
    }

    fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_sent(cx))?;
            if self.session.lock().is_open() {
                return Poll::Ready(Ok(()));
            }
            match self.receive(&mut self.session.lock()) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if is_for_later(&error) => ready!(self.poll_more(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// The client's own certificate, as DER, if it has shown one.
    pub(crate) fn certificate(&self) -> Option<Vec<u8>> {
        self.session.lock().certificate().map(<[u8]>::to_vec)
    }

    /// The application protocol that was agreed on.
    pub(crate) fn is_http2(&self) -> bool {
        self.session.lock().protocol() == Some(b"h2")
    }

    pub(super) fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<WrittenBytes> {
        self.write(parts, Way::Runtime)
    }

    pub(super) fn write_lent(&self, parts: &[IoSlice<'_>]) -> io::Result<WrittenBytes> {
        self.write(parts, Way::Past)
    }

    fn write(&self, parts: &[IoSlice<'_>], way: Way) -> io::Result<WrittenBytes> {
        let mut session = self.session.lock();
        session.prepare()?;
        let taken = self.flush(&mut session, way)?;
        if !session.tail().is_empty() || parts.iter().all(|part| part.is_empty()) {
            return Ok(WrittenBytes { committed: 0, taken });
        }
        let sealed = with_record(parts, |plaintext| {
            SEALED.with_borrow_mut(|sealed| {
                let count = session.seal(plaintext, sealed)?;
                let sent = match self.send(&sealed[..count], way) {
                    Ok(sent) => sent,
                    Err(error) if is_for_later(&error) => 0,
                    Err(error) => return Err(error),
                };
                if sent < count {
                    session.keep(&sealed[sent..count]);
                }
                Ok((plaintext.len(), sent))
            })
        });
        sealed.map(|(committed, sent)| WrittenBytes { committed, taken: taken + sent })
    }

    fn send(&self, bytes: &[u8], way: Way) -> io::Result<usize> {
        let send = || SockRef::from(&self.stream).send(bytes);
        match way {
            Way::Runtime => self.stream.try_io(Interest::WRITABLE, send),
            Way::Past => send(),
        }
    }

    /// Sends the tail, as far as the kernel takes it. `WouldBlock` when it took nothing of one.
    fn flush(&self, session: &mut Session, way: Way) -> io::Result<usize> {
        let mut taken = 0;
        while !session.tail().is_empty() {
            match self.send(session.tail(), way) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    taken += count;
                    session.sent(count);
                }
                Err(error) if is_for_later(&error) && taken > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    pub(super) fn tail(&self) -> usize {
        self.session.lock().tail().len()
    }

    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.lock();
        loop {
            let count = session.take_plain(buffer);
            if count > 0 && !session.is_partial() {
                self.partial.lock().is(session.received(), false);
            }
            if count > 0 || session.has_ended() || buffer.is_empty() {
                return Ok(count);
            }
            // A peer that ends TCP without ending TLS is gone all the same: HTTP's own framing tells what is whole.
            if self.receive(&mut session)? == 0 {
                return Ok(0);
            }
        }
    }

    /// Hears what the kernel has, and answers what has to be answered at once. 0 is the end of TCP. `WouldBlock` also where there
    /// is no room for more of a record that has begun.
    fn receive(&self, session: &mut Session) -> io::Result<usize> {
        RECEIVED.with_borrow_mut(|received| {
            let mut partial = self.partial.lock();
            let bytes = match partial.has_room() {
                true => READ_BYTES,
                false if session.received() == 0 => READ_BYTES_SCARCE,
                false => return Err(io::ErrorKind::WouldBlock.into()),
            };
            let count = self.stream.try_read(&mut received[..bytes])?;
            let heard = session.hear(&received[..count]);
            partial.is(session.received(), session.is_partial());
            drop(partial);
            if !session.tail().is_empty() {
                // Bytes that the kernel doesn't take wait; an alert is sent if it can be.
                match self.flush(session, Way::Runtime) {
                    Err(error) if !is_for_later(&error) => return Err(error),
                    _ => {}
                }
            }
            heard.map(|()| count)
        })
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = self.session.lock();
        if session.has_plain() || session.has_ended() {
            return Poll::Ready(Ok(()));
        }
        drop(session);
        self.poll_more(cx)
    }

    /// Waits for more ciphertext, and for room where a record has begun, for as long as that may take.
    fn poll_more(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.partial.lock().poll(cx))?;
        self.stream.poll_read_ready(cx)
    }

    fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut session = self.session.lock();
            if session.tail().is_empty() {
                return Poll::Ready(Ok(()));
            }
            match self.flush(&mut session, Way::Runtime) {
                Ok(_) => {}
                Err(error) if is_for_later(&error) => {
                    drop(session);
                    ready!(self.stream.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Ends TLS, and then TCP's side.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.lock().end()?;
        ready!(self.poll_sent(cx))?;
        Poll::Ready(SockRef::from(&self.stream).shutdown(Shutdown::Write))
    }

    pub(super) fn detach(self) -> io::Result<DetachedTls> {
        self.partial.lock().leave();
        Ok(DetachedTls { stream: self.stream.into_std()?, session: self.session, partial: self.partial })
    }
}

impl DetachedTls {
    pub(super) fn attach(self) -> io::Result<Tls> {
        Ok(Tls { stream: TcpStream::from_std(self.stream)?, session: self.session, partial: self.partial })
    }
}

/// Gives the plaintext of up to one record: of one part as it is, of several together.
fn with_record<T>(parts: &[IoSlice<'_>], seal: impl FnOnce(&[u8]) -> T) -> T {
    if let [part] = parts {
        return seal(&part[..part.len().min(RECORD_BYTES_MAX)]);
    }
    PLAIN.with_borrow_mut(|plain| {
        plain.clear();
        for part in parts {
            let room = RECORD_BYTES_MAX - plain.len();
            plain.extend_from_slice(&part[..part.len().min(room)]);
            if part.len() >= room {
                break;
            }
        }
        seal(plain)
    })
}

#[cfg(test)]
mod tests;
