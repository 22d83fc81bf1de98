//! Requests of HTTP/1.1, and a connection to send them on.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::client::http::ReplyHead;

/// The nonce of RFC 6455 §1.3 and the answer that proves a WebSocket server: a client that only measures needs no
/// other, and so no SHA-1.
const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const NONCE_ACCEPTED: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Connects, and waits for at most some seconds, then and at every read.
///
/// # Errors
/// Those of the system.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_WAIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CONNECT_WAIT))?;
    Ok(stream)
}

/// A request for a representation of a resource.
pub fn get(authority: &str, path: &str, accept: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: {accept}\r\n\r\n")
}

/// A request that opens a WebSocket, with a subprotocol if one is named.
pub fn upgrade(authority: &str, path: &str, subprotocol: &str) -> String {
    let offer = match subprotocol {
        "" => String::new(),
        name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
    };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {NONCE}\r\n{offer}\r\n"
    )
}

/// Whether a reply's head, the first of these bytes, opened a WebSocket.
pub(crate) fn upgraded(head: &ReplyHead, bytes: &[u8]) -> bool {
    head.status == 101 && head.accept.clone().is_some_and(|at| &bytes[at] == NONCE_ACCEPTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http;

    #[test]
    fn only_the_right_answer_opens_a_websocket() {
        for (accept, good) in [("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", true), ("x", false)] {
            let reply = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
            let head = http::head(reply.as_bytes()).unwrap().unwrap();
            assert_eq!(upgraded(&head, reply.as_bytes()), good);
        }
    }
}
