//! Where connections come from: a listening socket, and what holds for its clients. What a client has to do before its first
//! request, and in what time, stands here too.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::ServerConfig;
use tailwire_model::limits::{PEER_GONE_MS, REQUEST_HEAD_MS_MAX};
use tailwire_wire::Problem;
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::{
    budget::ReceiveBudget,
    caller::TrustedProxies,
    proxy_protocol::{self, ProxyHeaderSource},
    remote::Remote,
    socket::{Socket, tls::Tls},
};

/// The application protocol of HTTP/2 (RFC 9113 §3.2).
const HTTP2: &[u8] = b"h2";

/// A listening socket, and what holds for its connections.
pub struct Listener {
    socket: Listening,
    rules: Arc<ListenerRules>,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What holds for the connections of a listener.
#[derive(Clone, Default)]
pub struct ListenerRules {
    /// TLS by this configuration; its application protocols (RFC 7301) decide which versions of HTTP there are. A Unix
    /// socket has none.
    pub tls: Option<Arc<ServerConfig>>,
    /// Each connection begins with a header of the PROXY protocol, from these proxies, or from this machine.
    pub proxy_protocol: Option<Arc<TrustedProxies>>,
    /// Nothing can be changed there, by any transport.
    pub read_only: bool,
    /// It is for those who look after the process, and serves no topics.
    pub operations: bool,
}

/// What requests have to know of their listener.
#[derive(Clone, Default)]
pub(crate) struct ListenerFacts {
    pub(crate) rules: Arc<ListenerRules>,
    /// Whether it has a loopback address.
    pub(crate) is_loopback: bool,
}

/// A connection that was accepted.
pub(crate) struct Inbound {
    pub(crate) socket: Socket,
    pub(crate) source: InboundSource,
}

/// A connection's source, as its listener knows it.
pub(crate) struct InboundSource {
    /// Which of the listeners that is.
    pub(crate) listener: usize,
    pub(crate) rules: Arc<ListenerRules>,
    remote: Remote,
}

/// What a connection came to before its first request.
pub(crate) enum OpenedSocket {
    Ready(Socket, Remote),
    /// It speaks clear text where TLS is spoken.
    ClearText(Socket),
    /// It is one too many, and its client can be told so in clear text.
    Refused(Socket, Problem),
    /// It is lost, which concerns its client alone.
    Lost,
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket: Listening::Tcp(socket), rules: Arc::default() }
    }
}

impl From<UnixListener> for Listener {
    fn from(socket: UnixListener) -> Self {
        Self { socket: Listening::Unix(socket), rules: Arc::default() }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Listener {
    /// The same with these rules.
    #[must_use]
    pub fn with(self, rules: ListenerRules) -> Self {
        Self { rules: Arc::new(rules), ..self }
    }

    /// Where it listens. `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Listening::Tcp(tcp) => tcp.local_addr().ok(),
            Listening::Unix(_) => None,
        }
    }

    /// Whether it has a loopback address, which a browser of this machine can be led to by any name.
    pub fn is_loopback(&self) -> bool {
        self.local_addr().is_some_and(|address| address.ip().is_loopback())
    }

    pub(crate) fn facts(&self) -> ListenerFacts {
        ListenerFacts { rules: self.rules.clone(), is_loopback: self.is_loopback() }
    }

    /// The rules for clients that speak HTTP/1.1.
    pub(crate) fn rules_without_http2(&self) -> Arc<ListenerRules> {
        let mut rules = ListenerRules::clone(&self.rules);
        if let Some(tls) = &mut rules.tls {
            Arc::make_mut(tls).alpn_protocols.retain(|protocol| protocol != HTTP2);
        }
        Arc::new(rules)
    }

    /// Accepts a connection.
    fn poll_accept(&self, listener: usize, cx: &mut Context<'_>) -> Poll<io::Result<Inbound>> {
        let (socket, peer) = match &self.socket {
            Listening::Tcp(tcp) => {
                let (stream, peer) = ready!(tcp.poll_accept(cx))?;
                (stream.into(), Some(peer.ip().to_canonical()))
            }
            Listening::Unix(unix) => (ready!(unix.poll_accept(cx))?.0.into(), None),
        };
        let source = InboundSource { listener, rules: self.rules.clone(), remote: Remote::new(peer) };
        Poll::Ready(Ok(Inbound { socket, source }))
    }
}

/// Accepts a connection on any of the listeners, in turn: one that is flooded leaves room for the others.
pub(crate) async fn accept(
    listeners: impl ExactSizeIterator<Item = &Listener> + Clone,
    next: &mut usize,
) -> io::Result<Inbound> {
    let count = listeners.len();
    poll_fn(|cx| {
        for (index, listener) in listeners.clone().enumerate().cycle().skip(*next + 1).take(count) {
            if let Poll::Ready(accepted) = listener.poll_accept(index, cx) {
                *next = index;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

impl Inbound {
    /// Gets a connection ready for HTTP, within the time of a request's head. `admit` is asked as soon as it is known whose it is,
    /// before anything else is done for it.
    pub(crate) async fn open(
        self,
        budget: &ReceiveBudget,
        admit: impl FnOnce(Option<IpAddr>) -> Result<(), Problem> + Send,
    ) -> OpenedSocket {
        let Self { socket, source: InboundSource { rules, mut remote, .. } } = self;
        let peer = remote.peer;
        let mut admit = Some(admit);
        if rules.proxy_protocol.is_none()
            && let Some(admit) = admit.take()
            && let Err(problem) = admit(peer)
        {
            return refused(socket, &rules, problem);
        }
        let opened = match (prepare(&socket), &*rules) {
            (Err(error), _) => Err(error),
            (Ok(()), ListenerRules { tls: None, proxy_protocol: None, .. }) => {
                return OpenedSocket::Ready(socket, remote);
            }
            (Ok(()), rules) => {
                let limit = Duration::from_millis(REQUEST_HEAD_MS_MAX);
                // Boxed, because it is large, and gone before the first request.
                let begin = Box::pin(begin(socket, &mut remote, rules, budget, admit));
                match tokio::time::timeout(limit, begin).await {
                    Ok(begun) => begun,
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            }
        };
        match opened {
            Ok(BeforeHttp::Http(socket)) => OpenedSocket::Ready(socket, remote),
            Ok(BeforeHttp::ClearText(stream)) => OpenedSocket::ClearText(stream.into()),
            Ok(BeforeHttp::Refused(socket, problem)) => refused(socket, &rules, problem),
            Err(error) => {
                tracing::debug!(?peer, %error, "a connection was lost before HTTP");
                OpenedSocket::Lost
            }
        }
    }
}

fn refused(socket: Socket, rules: &ListenerRules, problem: Problem) -> OpenedSocket {
    tracing::debug!(detail = problem.detail.as_deref(), "a connection is refused");
    // A handshake would cost more than all that the limit is to save.
    if rules.tls.is_some() { OpenedSocket::Lost } else { OpenedSocket::Refused(socket, problem) }
}

enum BeforeHttp {
    Http(Socket),
    ClearText(TcpStream),
    Refused(Socket, Problem),
}

/// What stands before HTTP: a proxy's header, and TLS.
async fn begin(
    socket: Socket,
    remote: &mut Remote,
    rules: &ListenerRules,
    budget: &ReceiveBudget,
    admit: Option<impl FnOnce(Option<IpAddr>) -> Result<(), Problem>>,
) -> io::Result<BeforeHttp> {
    if let Some(proxies) = &rules.proxy_protocol {
        if !(remote.is_local() || proxies.trust(remote.peer)) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the peer is none of trusted_proxies",
            ));
        }
        if let ProxyHeaderSource::Source(address, is_secure) = proxy_protocol::read(&socket).await? {
            remote.peer = Some(address.to_canonical());
            remote.is_secure = is_secure;
        }
        if let Some(admit) = admit
            && let Err(problem) = admit(remote.peer)
        {
            return Ok(BeforeHttp::Refused(socket, problem));
        }
    }
    let (socket, config) = match (socket, &rules.tls) {
        (Socket::Tcp(stream), Some(config)) => (stream, config.clone()),
        (socket, _) => return Ok(BeforeHttp::Http(socket)),
    };
    let mut first = [0];
    let is_text = socket.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase();
    if is_text {
        // A method: no record of TLS begins with a letter.
        return Ok(BeforeHttp::ClearText(socket));
    }
    let tls = Tls::accept(socket, config, budget.charge()).await?;
    remote.is_secure = true;
    remote.certificate = tls.certificate();
    Ok(BeforeHttp::Http(tls.into()))
}

fn prepare(socket: &Socket) -> io::Result<()> {
    let Socket::Tcp(stream) = socket else { return Ok(()) };
    stream.set_nodelay(true)?;
    // A peer that is gone without a word is noticed when it doesn't acknowledge a heartbeat.
    let socket = socket2::SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_millis(PEER_GONE_MS)))?;
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tailwire_model::Network;
    use tokio::{io::AsyncWriteExt, net::UnixStream};

    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// Opens a connection from a peer that sends a header, where one proxy is believed; gives the address that counts.
    async fn opened(peer: Option<&str>, header: &[u8]) -> Option<Option<IpAddr>> {
        let networks = vec!["10.0.0.0/8".parse::<Network>().unwrap()];
        let proxies = TrustedProxies { networks, ..TrustedProxies::default() };
        let rules = ListenerRules { proxy_protocol: Some(Arc::new(proxies)), ..ListenerRules::default() };
        let (mut client, socket) = UnixStream::pair().unwrap();
        client.write_all(header).await.unwrap();
        let remote = Remote::new(peer.and_then(address));
        let source = InboundSource { listener: 0, rules: Arc::new(rules), remote };
        let mut asked = None;
        let admit = |peer| {
            asked = Some(peer);
            Ok(())
        };
        match (Inbound { socket: socket.into(), source }).open(&ReceiveBudget::new(None), admit).await {
            OpenedSocket::Ready(_, remote) => {
                assert_eq!(asked, Some(remote.peer), "the client that the header names is asked about");
                Some(remote.peer)
            }
            OpenedSocket::ClearText(_) | OpenedSocket::Refused(..) | OpenedSocket::Lost => None,
        }
    }

    #[tokio::test]
    async fn a_proxys_header_counts_from_proxies_and_from_this_machine() {
        let header = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n";
        let told = Some(address("203.0.113.7"));
        for peer in [Some("10.1.2.3"), Some("127.0.0.1"), Some("::1"), None] {
            assert_eq!(opened(peer, header).await, told, "{peer:?}");
        }
        for peer in ["203.0.113.7", "11.0.0.1", "2001:db8::1", "::"] {
            assert_eq!(opened(Some(peer), header).await, None, "{peer}");
        }
        // A proxy that asks whether we are there has its own address.
        assert_eq!(opened(Some("10.1.2.3"), b"PROXY UNKNOWN\r\n").await, Some(address("10.1.2.3")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_end_is_waited_for_no_longer_than_a_head() {
        let began = tokio::time::Instant::now();
        assert_eq!(opened(Some("10.1.2.3"), b"PROXY TCP4 203").await, None);
        let waited = began.elapsed().as_millis() as u64;
        assert!(waited <= REQUEST_HEAD_MS_MAX + 10, "{waited}");
    }
}
