//! One connection of a client: requests one after the other, then perhaps a WebSocket; and how it is broken from
//! outside. It knows nothing of what is in a request.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::Socket;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, broadcast, watch};

use crate::forward::forward;
use crate::mode::{Break, Mode};

/// The network that a connection runs over: its broker, its faults.
#[derive(Clone)]
pub(crate) struct FaultyNetwork {
    pub(crate) broker: SocketAddr,
    pub(crate) mode: watch::Sender<Arc<Mode>>,
    /// Faults of the connections that are open. Apart from the mode, as that may be over before they look.
    pub(crate) breaks: broadcast::Sender<Break>,
}

pub(crate) async fn run(socket: TcpStream, network: &FaultyNetwork) -> io::Result<()> {
    let mut breaks = network.breaks.subscribe();
    socket.set_nodelay(true)?;
    let socket = socket.into_std()?;
    // hyper has the socket; this is the same one, to say how it is to be closed.
    let handle = Socket::from(socket.try_clone()?);
    let mut served = pin!(serve(TcpStream::from_std(socket)?, network));
    // `answer` closes what is open, but new requests shall have their answer.
    let at_once = network.mode.borrow().breaks.filter(|&breaks| breaks != Break::Close);
    let breaks = match at_once {
        Some(breaks) => breaks,
        None => tokio::select! {
            result = &mut served => return result,
            breaks = breaks.recv() => breaks.unwrap_or(Break::Close),
        },
    };
    match breaks {
        Break::Close => Ok(()),
        Break::Reset => handle.set_linger(Some(Duration::ZERO)),
        // A connection that isn't polled neither reads, nor writes, nor closes.
        Break::Stall => pending().await,
    }
}

async fn serve(socket: TcpStream, network: &FaultyNetwork) -> io::Result<()> {
    let tunnel = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let mode = network.mode.borrow().clone();
        let tunnel = Arc::clone(&tunnel);
        async move {
            let (response, upgraded) = forward(request, network.broker, &mode).await?;
            *tunnel.lock().await = upgraded;
            Ok::<_, io::Error>(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades();
    connection.await.map_err(io::Error::other)?;
    match tunnel.lock().await.take() {
        Some(tunnel) => tunnel.run().await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::port::Port;

    fn mode(faults: &str) -> Mode {
        Mode::parse(faults.split_whitespace()).unwrap()
    }

    /// A port that answers by itself, and a connection over which it has.
    async fn in_use() -> (Port, TcpStream) {
        let port = Port::open(([127, 0, 0, 1], 9).into(), mode("answer=502")).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port.number())).await.unwrap();
        ask(&mut client).await;
        (port, client)
    }

    async fn ask(client: &mut TcpStream) {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let length = client.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 502 "));
    }

    #[tokio::test]
    async fn resets_what_is_open_and_what_comes() {
        let (port, mut old) = in_use().await;
        port.turn(mode("reset"));
        assert_eq!(old.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let mut new = TcpStream::connect(("127.0.0.1", port.number())).await.unwrap();
        assert_eq!(new.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn closes_what_is_open_when_the_broker_is_gone() {
        let (port, mut old) = in_use().await;
        port.turn(mode("answer=502"));
        assert_eq!(old.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_has_stalled_never_recovers() {
        let (port, mut old) = in_use().await;
        port.turn(mode("half-open"));
        port.turn(mode("answer=502"));
        old.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut new = TcpStream::connect(("127.0.0.1", port.number())).await.unwrap();
        ask(&mut new).await;
        assert_eq!(old.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
