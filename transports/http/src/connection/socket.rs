//! The socket of a connection, whatever carries it: bytes in and out, with readiness. Nothing above it knows TCP from a
//! Unix socket, or clear text from TLS.
//!
//! The contract is that of TLS, since the others keep it by themselves:
//!
//! - A write answers how much plaintext is *committed*: it may not be given again, whether or not the kernel has taken
//!   it. A record is sealed once, so that what the kernel didn't take of it stays in the socket as a ciphertext *tail*, is sent
//!   before anything else, counts as pinned memory and can never be taken back.
//! - "Empty" is therefore no pending pieces and no [`tail`](Socket::tail): for lending the socket, for what is written
//!   next, and for the end.
//! - A stall is measured by what the kernel *took*. A write that commits nothing may yet have moved the tail.
//! - Reading can force writing (a key update, an alert): after a read, the caller looks at the tail.
//!
//! All methods take `&self`, because a task and the dispatcher of its shard share the socket; they run on one thread, in
//! turn.

#[cfg(test)]
pub(crate) mod sealed;
pub(crate) mod tls;

use std::{
    io::{self, IoSlice},
    net::{self, Shutdown},
    os::{
        fd::{AsRawFd, RawFd},
        unix,
    },
    pin::Pin,
    task::{Context, Poll, ready},
};

use self::tls::{DetachedTls, Tls};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// See the module.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Tls>),
    /// Behaves as TLS does, over memory.
    #[cfg(test)]
    Sealed(sealed::SealedSocket),
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrittenBytes {
    /// Bytes of the parts that are the socket's from here on.
    pub(crate) committed: usize,
    /// Bytes that the kernel took, by its own count: of TLS they are ciphertext, and some of them may be the tail's.
    pub(crate) taken: usize,
}

/// A socket between two runtimes.
pub(crate) enum Detached {
    Tcp(net::TcpStream),
    Unix(unix::net::UnixStream),
    Tls(Box<DetachedTls>),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<Tls> for Socket {
    fn from(tls: Tls) -> Self {
        Self::Tls(Box::new(tls))
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl Socket {
    /// Writes what the socket takes at once, in one call.
    ///
    /// # Errors
    /// `WouldBlock` when it took nothing; then [`poll_writable`](Self::poll_writable) waits. Anything else is the end.
    pub(crate) fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<WrittenBytes> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, || send(&SockRef::from(stream), parts)),
            Self::Unix(stream) => stream.try_io(Interest::WRITABLE, || send(&SockRef::from(stream), parts)),
            Self::Tls(tls) => tls.try_write(parts),
            #[cfg(test)]
            Self::Sealed(sealed) => sealed.try_write(parts),
        }
    }

    /// The same past the runtime, which goes on to take the socket for writable: for the dispatcher, which writes to a
    /// thousand of them. The owner finds out by its own next write whether it is full or broken.
    pub(crate) fn write_lent(&self, parts: &[IoSlice<'_>]) -> io::Result<WrittenBytes> {
        match self {
            Self::Tcp(stream) => send(&SockRef::from(stream), parts),
            Self::Unix(stream) => send(&SockRef::from(stream), parts),
            Self::Tls(tls) => tls.write_lent(parts),
            #[cfg(test)]
            Self::Sealed(sealed) => sealed.try_write(parts),
        }
    }

    /// Bytes that are committed and not yet sent.
    pub(crate) fn tail(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) => 0,
            Self::Tls(tls) => tls.tail(),
            #[cfg(test)]
            Self::Sealed(sealed) => sealed.tail(),
        }
    }

    /// The number of its open file, before anything was spoken on it.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Tcp(stream) => Some(stream.as_raw_fd()),
            Self::Unix(stream) => Some(stream.as_raw_fd()),
            Self::Tls(_) => None,
            #[cfg(test)]
            Self::Sealed(_) => None,
        }
    }

    /// Whether HTTP/2 was agreed on before the first byte of HTTP (RFC 7301).
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.is_http2())
    }

    /// Sends of the tail what the kernel takes at once, and answers how much that was.
    ///
    /// # Errors
    /// As for [`try_write`](Self::try_write).
    pub(crate) fn try_flush(&self) -> io::Result<usize> {
        if self.tail() == 0 {
            return Ok(0);
        }
        self.try_write(&[]).map(|written| written.taken)
    }

    /// Ready when the kernel may take something again.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
            Self::Tls(tls) => tls.poll_writable(cx),
            #[cfg(test)]
            Self::Sealed(sealed) => sealed.poll_writable(cx),
        }
    }

    /// Reads what has come; 0 is the client's end.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; then [`poll_readable`](Self::poll_readable) waits.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
            #[cfg(test)]
            Self::Sealed(sealed) => sealed.try_read(buffer),
        }
    }

    /// Ready when there may be something to read.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tls(tls) => tls.poll_readable(cx),
            #[cfg(test)]
            Self::Sealed(sealed) => sealed.poll_readable(cx),
        }
    }

    /// Waits until the connection is broken. A client that has only shut its sending side has not broken it.
    pub(crate) async fn broken(&self) {
        let broken = match self {
            Self::Tcp(stream) => stream.ready(Interest::ERROR).await,
            Self::Unix(stream) => stream.ready(Interest::ERROR).await,
            Self::Tls(tls) => tls.broken().await,
            #[cfg(test)]
            Self::Sealed(_) => std::future::pending().await,
        };
        drop(broken);
    }

    /// Waits for something to read, and reads it.
    pub(crate) fn poll_read_into(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            match self.try_read(buffer) {
                Err(error) if is_for_later(&error) => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Waits until the socket takes something of the parts.
    pub(crate) fn poll_write_parts(
        &self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<WrittenBytes>> {
        loop {
            match self.try_write(parts) {
                Err(error) if is_for_later(&error) => ready!(self.poll_writable(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    /// Waits until there is no tail.
    pub(crate) fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tail() > 0 {
            match self.try_flush() {
                Ok(_) => {}
                Err(error) if is_for_later(&error) => ready!(self.poll_writable(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the client that nothing comes any more, once everything before has been sent.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        Poll::Ready(match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Self::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Self::Tls(tls) => return tls.poll_end(cx),
            #[cfg(test)]
            Self::Sealed(sealed) => return sealed.poll_end(cx),
        })
    }

    /// Takes the socket from its runtime, for another one.
    ///
    /// # Errors
    /// When the system doesn't let go of it.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Detached::Tcp),
            Self::Unix(stream) => stream.into_std().map(Detached::Unix),
            Self::Tls(tls) => tls.detach().map(|tls| Detached::Tls(Box::new(tls))),
            #[cfg(test)]
            Self::Sealed(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Detached {
    /// See [`Socket::descriptor`].
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Tcp(stream) => Some(stream.as_raw_fd()),
            Self::Unix(stream) => Some(stream.as_raw_fd()),
            Self::Tls(_) => None,
        }
    }

    /// Another open file of the same socket, before anything was spoken on it.
    ///
    /// # Errors
    /// When the system has none left.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Gives the socket to the runtime that this runs on.
    ///
    /// # Errors
    /// When it has no room for it.
    pub(crate) fn attach(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Socket::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Socket::Unix),
            Self::Tls(tls) => tls.attach().map(Socket::from),
        }
    }
}

fn send(socket: &SockRef<'_>, parts: &[IoSlice<'_>]) -> io::Result<WrittenBytes> {
    let count = match parts {
        [] => 0,
        [part] => socket.send(part)?,
        parts => socket.send_vectored(parts)?,
    };
    Ok(WrittenBytes { committed: count, taken: count })
}

/// Whether to try again, once the socket is ready.
pub(crate) fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// For hyper, and whatever else brings its own loop.
impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            own => {
                let count = ready!(own.poll_read_into(cx, buffer.initialize_unfilled()))?;
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let written = ready!(self.poll_write_parts(cx, parts))?;
            // A write that only moved the tail is no answer here: 0 would be the end.
            if written.committed > 0 || written.taken == 0 {
                return Poll::Ready(Ok(written.committed));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn tcp() -> (Socket, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap().into(), far.unwrap().0.into())
    }

    /// Everything that is written arrives, in order, and then the end does, also when the other side is slow.
    async fn carries(mut near: Socket, mut far: impl AsyncRead + Unpin + Send + 'static) {
        let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7) as u8).collect();
        let expected = sent.clone();
        let received = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(near.tail(), 0);
        assert!(received.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn every_kind_carries_bytes_and_their_end() {
        let (near, far) = tcp().await;
        carries(near.detach().unwrap().attach().unwrap(), far).await;
        let (near, far) = UnixStream::pair().unwrap();
        carries(Socket::from(near).detach().unwrap().attach().unwrap(), Socket::from(far)).await;
        let (near, far) = sealed::pair(1000);
        carries(near, far).await;
    }

    #[tokio::test]
    async fn a_sealed_one_commits_a_record_and_keeps_its_tail() {
        let (near, mut far) = sealed::pair(100);
        let part = vec![7; 40_000];
        let written = near.try_write(&[IoSlice::new(&part), IoSlice::new(&part)]).unwrap();
        assert_eq!(written, WrittenBytes { committed: sealed::RECORD_BYTES_MAX, taken: 100 });
        let tail = near.tail();
        assert!(tail > sealed::RECORD_BYTES_MAX - 100);
        let again = near.try_write(&[IoSlice::new(&part)]);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // Room for a part of the tail commits nothing, and is progress.
        far.receive(60);
        let written = near.try_write(&[IoSlice::new(&part)]).unwrap();
        assert_eq!(written, WrittenBytes { committed: 0, taken: 60 });
        assert_eq!(near.tail(), tail - 60);
    }

    #[tokio::test]
    async fn reading_a_sealed_one_can_force_writing() {
        let (near, far) = sealed::pair(100);
        far.ask_for_new_keys();
        far.send(b"hello");
        let mut buffer = [0; 16];
        assert_eq!(near.try_read(&mut buffer).unwrap(), 5);
        assert!(near.tail() > 0);
        near.try_flush().unwrap();
        assert_eq!(near.tail(), 0);
        far.end();
        assert_eq!(near.try_read(&mut buffer).unwrap(), 0);
    }
}
