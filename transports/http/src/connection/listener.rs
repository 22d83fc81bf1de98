//! Where connections come from: a listening socket, and whether its clients speak TLS. What a client has to do before its
//! first request, and in what time, stands here too.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tailwire_model::limits::{PEER_GONE_MS, REQUEST_HEAD_MS_MAX};
use tokio::net::{TcpListener, TcpStream};

use super::{
    budget::ReceiveBudget,
    socket::{Socket, tls::Tls},
};

/// The application protocol of HTTP/2 (RFC 9113 §3.2).
const HTTP2: &[u8] = b"h2";

/// A listening socket, and what is spoken there below HTTP.
pub struct Listener {
    tcp: TcpListener,
    /// TLS by this configuration; its application protocols (RFC 7301) decide which versions of HTTP there are.
    tls: Option<Arc<ServerConfig>>,
}

/// A connection that was accepted.
pub(crate) struct Inbound {
    pub(crate) stream: TcpStream,
    pub(crate) source: InboundSource,
}

/// A connection's source, as its listener knows it.
pub(crate) struct InboundSource {
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// Marks requests, as an extension, that came over TLS of this process: their scheme is `https`, whatever they say
/// themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverTls;

impl From<TcpListener> for Listener {
    /// Without TLS.
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("tcp", &self.tcp).field("tls", &self.tls.is_some()).finish()
    }
}

impl Listener {
    /// With TLS alone.
    pub const fn with_tls(tcp: TcpListener, config: Arc<ServerConfig>) -> Self {
        Self { tcp, tls: Some(config) }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The same for clients that speak HTTP/1.1.
    pub(crate) fn tls_without_http2(&self) -> Option<Arc<ServerConfig>> {
        let mut config = ServerConfig::clone(self.tls.as_ref()?);
        config.alpn_protocols.retain(|protocol| protocol != HTTP2);
        Some(Arc::new(config))
    }

    /// Accepts a connection.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Inbound>> {
        let accepted =
            |(stream, peer)| Inbound { stream, source: InboundSource { peer, tls: self.tls.clone() } };
        self.tcp.poll_accept(cx).map_ok(accepted)
    }
}

/// Accepts a connection on any of the listeners, in turn: one that is flooded leaves room for the others.
pub(crate) async fn accept(listeners: &[Listener], next: &mut usize) -> io::Result<Inbound> {
    poll_fn(|cx| {
        for _ in listeners {
            *next = (*next + 1) % listeners.len();
            if let Poll::Ready(accepted) = listeners[*next].poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

impl Inbound {
    /// Gets a connection ready for HTTP. `None` when that fails, which concerns its client alone.
    pub(crate) async fn open(self, budget: &ReceiveBudget) -> Option<Socket> {
        let Self { stream, source: InboundSource { peer, tls } } = self;
        let opened = match (prepare(&stream), tls) {
            (Err(error), _) => Err(error),
            (Ok(()), None) => Ok(stream.into()),
            // Boxed, because it is large, and gone before the first request.
            (Ok(()), Some(config)) => Box::pin(secure(stream, config, budget)).await,
        };
        opened.inspect_err(|error| tracing::debug!(%peer, %error, "a connection was lost before HTTP")).ok()
    }
}

/// Shakes hands within the time of a request's head.
async fn secure(stream: TcpStream, config: Arc<ServerConfig>, budget: &ReceiveBudget) -> io::Result<Socket> {
    let limit = Duration::from_millis(REQUEST_HEAD_MS_MAX);
    match tokio::time::timeout(limit, Tls::accept(stream, config, budget.charge())).await {
        Ok(tls) => tls.map(Socket::from),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")),
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A peer that is gone without a word is noticed when it doesn't acknowledge a heartbeat.
    let socket = socket2::SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_millis(PEER_GONE_MS)))?;
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}
