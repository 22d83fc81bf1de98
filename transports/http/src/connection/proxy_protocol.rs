//! The PROXY protocol (versions 1 and 2, as HAProxy has written it down): a header before the first byte of anything else, in
//! which a proxy that passes bytes on says whose they are. Where a listener expects one, a connection without it is none.

use std::{io, net::IpAddr};

use ppp::{HeaderResult, v1, v2};
use tailwire_model::limits::PROXY_HEADER_BYTES_MAX;

use super::socket::Socket;

/// The signature of version 2, which is longer than the shortest beginning of version 1.
const SIGNATURE: &[u8] = v2::PROTOCOL_PREFIX;
/// The head of version 2: the signature, what it is, and how many bytes follow.
const HEAD_BYTES: usize = 16;
/// A line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;
/// A value that says how the client came over TLS, and the bit for that it did.
const TLV_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 1;

/// What a header says of the connection that the proxy passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyHeaderSource {
    /// It is the proxy's own, as to see whether we are there; or the proxy does not know.
    Nothing,
    /// Whose it is, and whether the proxy took TLS off.
    Source(IpAddr, bool),
}

/// Reads the header, and not a byte more. The caller bounds the wait.
///
/// # Errors
/// When there is none, or it is malformed or too long.
pub(super) async fn read(socket: &Socket) -> io::Result<ProxyHeaderSource> {
    let mut header = vec![0; SIGNATURE.len()];
    fill(socket, &mut header, 0).await?;
    if header == SIGNATURE {
        header.resize(HEAD_BYTES, 0);
        fill(socket, &mut header, SIGNATURE.len()).await?;
        let length = u16::from_be_bytes([header[HEAD_BYTES - 2], header[HEAD_BYTES - 1]]);
        let bytes = HEAD_BYTES + usize::from(length);
        if bytes > PROXY_HEADER_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        header.resize(bytes, 0);
        fill(socket, &mut header, HEAD_BYTES).await?;
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        // Byte by byte, since nothing says where it ends, and what follows is somebody else's to read.
        while !header.ends_with(b"\n") {
            if header.len() == LINE_BYTES_MAX {
                return Err(malformed("its line is too long"));
            }
            let read = header.len();
            header.push(0);
            fill(socket, &mut header, read).await?;
        }
    }
    parse(&header)
}

async fn fill(socket: &Socket, header: &mut [u8], mut filled: usize) -> io::Result<()> {
    while filled < header.len() {
        match std::future::poll_fn(|cx| socket.poll_read_into(cx, &mut header[filled..])).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(())
}

fn parse(header: &[u8]) -> io::Result<ProxyHeaderSource> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(line)) => Ok(match line.addresses {
            v1::Addresses::Tcp4(own) => ProxyHeaderSource::Source(own.source_address.into(), false),
            v1::Addresses::Tcp6(own) => ProxyHeaderSource::Source(own.source_address.into(), false),
            v1::Addresses::Unknown => ProxyHeaderSource::Nothing,
        }),
        HeaderResult::V2(Ok(head)) if head.command == v2::Command::Proxy => Ok(match head.addresses {
            v2::Addresses::IPv4(own) => ProxyHeaderSource::Source(own.source_address.into(), was_tls(&head)),
            v2::Addresses::IPv6(own) => ProxyHeaderSource::Source(own.source_address.into(), was_tls(&head)),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => ProxyHeaderSource::Nothing,
        }),
        HeaderResult::V2(Ok(_)) => Ok(ProxyHeaderSource::Nothing),
        HeaderResult::V1(Err(error)) => Err(malformed(&error.to_string())),
        HeaderResult::V2(Err(error)) => Err(malformed(&error.to_string())),
    }
}

fn was_tls(head: &v2::Header<'_>) -> bool {
    let mut values = head.tlvs().map_while(Result::ok);
    values.any(|tlv| tlv.kind == TLV_SSL && tlv.value.first().is_some_and(|flags| flags & CLIENT_SSL != 0))
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no header of the PROXY protocol: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::{io::AsyncWriteExt, net::UnixStream};

    use super::*;

    const BEHIND: &[u8] = b"GET / HTTP/1.1\r\n";

    /// Sends a header in pieces of a size, with a request behind it, and gives what it says.
    async fn told(header: &[u8], piece: usize) -> io::Result<ProxyHeaderSource> {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = Socket::from(far);
        let all = [header, BEHIND].concat();
        let send = async {
            for part in all.chunks(piece) {
                // The other end refuses a header without reading on, and is gone.
                if near.write_all(part).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            let _ = near.shutdown().await;
        };
        let receive = async move {
            let told = read(&far).await?;
            let mut rest = vec![0; BEHIND.len()];
            fill(&far, &mut rest, 0).await.unwrap();
            assert_eq!(rest, BEHIND, "nothing behind the header is read");
            Ok(told)
        };
        tokio::join!(receive, send).0
    }

    async fn check(header: &[u8], expect: Option<ProxyHeaderSource>) {
        for piece in [1, 7, 4096] {
            assert_eq!(told(header, piece).await.ok(), expect, "{:?}", String::from_utf8_lossy(header));
        }
    }

    fn source(address: &str, is_secure: bool) -> Option<ProxyHeaderSource> {
        Some(ProxyHeaderSource::Source(address.parse().unwrap(), is_secure))
    }

    /// A header of version 2 with this command, family and rest.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn both_versions_are_read_to_their_last_byte() {
        check(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n", source("203.0.113.7", false)).await;
        check(b"PROXY TCP6 2001:db8::1 fd00::1 4711 443\r\n", source("2001:db8::1", false)).await;
        check(b"PROXY UNKNOWN\r\n", Some(ProxyHeaderSource::Nothing)).await;
        check(b"PROXY UNKNOWN anything at all\r\n", Some(ProxyHeaderSource::Nothing)).await;
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb];
        check(&binary(0x21, 0x11, &v4), source("203.0.113.7", false)).await;
        check(&binary(0x20, 0, &[]), Some(ProxyHeaderSource::Nothing)).await;
        check(&binary(0x20, 0x11, &v4), Some(ProxyHeaderSource::Nothing)).await;
        let over_tls = [&v4[..], &[TLV_SSL, 0, 5, CLIENT_SSL, 0, 0, 0, 0]].concat();
        check(&binary(0x21, 0x11, &over_tls), source("203.0.113.7", true)).await;
        check(&binary(0x21, 0x11, &[&v4[..], &[4, 4, 0], &[0; 1024]].concat()), source("203.0.113.7", false))
            .await;
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for wrong in [
            &b""[..],
            b"PROXY",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\n",
            b"PROXY TCP4 2001:db8::1 fd00::1 4711 443\r\n",
            b"PROXY TCP4 203.0.113.777 10.0.0.1 4711 443\r\n",
            b"proxy TCP4 203.0.113.7 10.0.0.1 4711 443\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            &[b"PROXY UNKNOWN ", &[b'x'; 200][..], b"\r\n"].concat(),
            &binary(0x31, 0x11, &[0; 12]),
            &binary(0x22, 0x11, &[0; 12]),
            &binary(0x21, 0x11, &[0; 11]),
            &binary(0x21, 0x11, &[0; PROXY_HEADER_BYTES_MAX]),
        ] {
            check(wrong, None).await;
        }
    }
}
