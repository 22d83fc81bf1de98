//! One exchange: a request to the broker, and its response back, each with what the mode does to heads and bodies.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::mode::{Body, Mode, Upgrade};
use crate::shape;
use crate::tunnel::Tunnel;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// The response, and what is to run once the client has it, if it is a handshake's. An error cuts the connection.
pub(crate) async fn forward(
    mut request: Request<Incoming>,
    broker: SocketAddr,
    mode: &Mode,
) -> io::Result<(Reply, Option<Tunnel>)> {
    let asked_at = Instant::now();
    let upgrades = request.headers().contains_key(UPGRADE);
    if let Some(status) = mode.answer {
        return Ok((own(status), None));
    }
    match mode.upgrade {
        Upgrade::Refuse(status) if upgrades => return Ok((own(status), None)),
        Upgrade::Strip if upgrades => {
            request.headers_mut().remove(UPGRADE);
            request.headers_mut().remove(CONNECTION);
        }
        _ => {}
    }
    if mode.strip_last_event_id {
        request.headers_mut().remove(LAST_EVENT_ID);
    }
    let takes_gzip = request.headers().get(ACCEPT_ENCODING).is_some_and(names_gzip);
    let client = hyper::upgrade::on(&mut request);
    let cut = mode.cut.map(|after| asked_at + after);
    let mut response = shape::until(cut, send(request, broker)).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let cut = cut.into_iter().chain(mode.cut_websocket.map(|after| asked_at + after)).min();
        let tunnel = Tunnel::new(client, hyper::upgrade::on(&mut response), mode, cut);
        return Ok((response.map(|_| own_body(Bytes::new())), Some(tunnel)));
    }
    Ok((respond(response, mode, takes_gzip, cut).await?, None))
}

/// Over a connection of its own, so that no exchange can break another.
async fn send(request: Request<Incoming>, broker: SocketAddr) -> io::Result<Response<Incoming>> {
    let socket = TcpStream::connect(broker).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(io::Error::other)
}

async fn respond(
    response: Response<Incoming>,
    mode: &Mode,
    takes_gzip: bool,
    cut: Option<Instant>,
) -> io::Result<Reply> {
    let (mut head, body) = response.into_parts();
    let endless = body.size_hint().exact().is_none();
    let bytes = BodyDataStream::new(body).map_err(io::Error::other);
    let bytes = shape::cut(bytes, cut);
    let shaped = match &mode.body {
        Body::Buffer(size) => boxed(shape::buffered(bytes, *size)),
        Body::BufferAll => boxed(shape::whole(bytes).await?),
        Body::Drip { streams_only } if endless || !streams_only => boxed(shape::dripping(bytes)),
        Body::Gzip { flush } if takes_gzip && !head.headers.contains_key(CONTENT_ENCODING) => {
            head.headers.remove(CONTENT_LENGTH);
            head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            boxed(shape::gzipped(bytes, *flush))
        }
        Body::Lose(text) => boxed(shape::losing(bytes, text.clone().into_bytes())),
        Body::Pass | Body::Drip { .. } | Body::Gzip { .. } => boxed(bytes),
    };
    Ok(Response::from_parts(head, shaped))
}

fn boxed(bytes: impl shape::Bytewise) -> UnsyncBoxBody<Bytes, io::Error> {
    StreamBody::new(bytes.map_ok(Frame::data)).boxed_unsync()
}

/// The proxy's own answer, in the broker's place.
fn own(status: StatusCode) -> Reply {
    let mut response = Response::new(own_body(Bytes::from_static(b"said by a proxy\n")));
    *response.status_mut() = status;
    response
}

fn own_body(text: Bytes) -> UnsyncBoxBody<Bytes, io::Error> {
    Full::new(text).map_err(|never| match never {}).boxed_unsync()
}

fn names_gzip(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|encodings| encodings.contains("gzip"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use crate::mode::Mode;
    use crate::port::Port;

    const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    /// The head as the broker gets it, and the answer as the client gets it.
    async fn through(faults: &str, head: &str, answer: &str) -> (String, String) {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mode = Mode::parse(faults.split_whitespace()).unwrap();
        let port = Port::open(broker.local_addr().unwrap(), mode).await.unwrap();
        let mut client = tokio::net::TcpStream::connect(("127.0.0.1", port.number())).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        let answered = async {
            let (mut socket, _) = broker.accept().await.unwrap();
            let mut heard = vec![0; 4096];
            let length = socket.read(&mut heard).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
            String::from_utf8_lossy(&heard[..length]).into_owned()
        };
        let mut said = Vec::new();
        let (heard, _) = tokio::join!(answered, client.read_to_end(&mut said));
        (heard.to_lowercase(), String::from_utf8_lossy(&said).into_owned())
    }

    const UPGRADE: &str = "GET /stream HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                           sec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n";
    const PLAIN: &str = "GET /stream HTTP/1.1\r\nhost: a\r\nlast-event-id: 7\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn passes_what_it_is_not_told_to_touch() {
        let (heard, said) = through("", PLAIN, EMPTY).await;
        assert!(heard.contains("last-event-id: 7"), "{heard}");
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    }

    #[tokio::test]
    async fn takes_headers_out() {
        let (heard, _) = through("strip-last-event-id", PLAIN, EMPTY).await;
        assert!(heard.contains("host: a") && !heard.contains("last-event-id"), "{heard}");
        let closing = EMPTY.replace("content-length", "connection: close\r\ncontent-length");
        let (heard, _) = through("strip-upgrade", UPGRADE, &closing).await;
        assert!(heard.contains("sec-websocket-key") && !heard.contains("upgrade"), "{heard}");
    }

    #[tokio::test]
    async fn swallows_what_comes_after_a_handshake() {
        let handshake =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let both = format!("{handshake}frames");
        let (_, said) = through("", UPGRADE, &both).await;
        assert!(said.starts_with("HTTP/1.1 101 ") && said.ends_with("\r\n\r\nframes"), "{said}");
        let (_, said) = through("swallow-frames", UPGRADE, &both).await;
        assert!(said.starts_with("HTTP/1.1 101 ") && said.ends_with("\r\n\r\n"), "{said}");
    }

    #[tokio::test]
    async fn compresses_for_those_that_take_it() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntext";
        let (_, said) = through("gzip=flush", PLAIN, text).await;
        assert!(said.ends_with("\r\n\r\ntext"), "{said}");
        let takes = PLAIN.replace("host", "accept-encoding: gzip, br\r\nhost");
        let (_, said) = through("gzip=flush", &takes, text).await;
        assert!(said.contains("content-encoding: gzip") && !said.contains("content-length"), "{said}");
    }
}
