//! TLS against rustls' own client, over real TCP.

#![allow(clippy::unwrap_used)]

use std::{
    future::poll_fn,
    io::{Read, Write},
    net,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, ServerName},
    version::{TLS12, TLS13},
};
use tokio::net::TcpListener;

use super::*;
use crate::connection::{
    budget::{self, ReceiveBudget},
    socket::Socket,
};

type Client = StreamOwned<ClientConnection, net::TcpStream>;

fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    (Arc::new(server), Arc::new(client))
}

/// A connection, and what the client does with it on a thread of its own.
async fn pair<T: Send + 'static>(
    version: &'static SupportedProtocolVersion,
    client: impl FnOnce(Client) -> T + Send + 'static,
) -> (Socket, tokio::task::JoinHandle<T>) {
    let (server, config) = configs(version);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = tokio::task::spawn_blocking(move || {
        let stream = net::TcpStream::connect(address).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        client(StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream))
    });
    let (stream, _) = listener.accept().await.unwrap();
    let tls = Tls::accept(stream, server, ReceiveBudget::new(None).charge()).await.unwrap();
    assert!(!tls.is_http2());
    (tls.into(), client)
}

async fn read(socket: &Socket, buffer: &mut [u8]) -> usize {
    poll_fn(|cx| socket.poll_read_into(cx, buffer)).await.unwrap()
}

fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|number| (number / 7) as u8).collect()
}

#[tokio::test]
async fn both_sides_are_heard_and_end() {
    for version in [&TLS12, &TLS13] {
        let (socket, client) = pair(version, |mut client| {
            client.write_all(b"hello").unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        })
        .await;
        let mut buffer = [0; 3];
        assert_eq!(read(&socket, &mut buffer).await, 3);
        assert_eq!(&buffer, b"hel");
        // Decrypted bytes that were not taken are there at once, without an event from the kernel.
        assert_eq!(read(&socket, &mut buffer).await, 2);
        let socket = socket.detach().unwrap().attach().unwrap();
        let parts = [IoSlice::new(b"one "), IoSlice::new(b"two "), IoSlice::new(b"three")];
        let written = poll_fn(|cx| socket.poll_write_parts(cx, &parts)).await.unwrap();
        assert_eq!(written.committed, 13);
        poll_fn(|cx| socket.poll_end(cx)).await.unwrap();
        assert_eq!(socket.tail(), 0);
        assert_eq!(client.await.unwrap(), b"one two three");
        assert_eq!(read(&socket, &mut buffer).await, 0);
    }
}

#[tokio::test]
async fn what_a_slow_peer_does_not_take_is_the_tail_and_arrives_whole() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let (socket, client) = pair(&TLS13, move |mut client| {
        client.conn.complete_io(&mut client.sock).unwrap();
        gone.recv().unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    })
    .await;
    let sent = bytes(20_000_000);
    let mut committed = 0;
    // Until nothing goes: then a record is begun and not sent whole, or the kernel ended just between two.
    loop {
        match socket.try_write(&[IoSlice::new(&sent[committed..])]) {
            Ok(written) => {
                assert!(written.committed <= RECORD_BYTES_MAX);
                assert!(socket.tail() <= SEALED_BYTES_MAX);
                committed += written.committed;
            }
            Err(error) => {
                assert!(is_for_later(&error), "{error}");
                break;
            }
        }
    }
    assert!(socket.tail() > 0 && committed < sent.len());
    let tail = socket.tail();
    assert!(socket.write_lent(&[IoSlice::new(b"x")]).is_err_and(|error| is_for_later(&error)));
    assert_eq!(socket.tail(), tail, "nothing is sealed before the tail is sent");
    go.send(()).unwrap();
    while committed < sent.len() {
        let parts = [IoSlice::new(&sent[committed..])];
        committed += poll_fn(|cx| socket.poll_write_parts(cx, &parts)).await.unwrap().committed;
    }
    poll_fn(|cx| socket.poll_end(cx)).await.unwrap();
    assert!(client.await.unwrap() == sent);
}

#[tokio::test]
async fn an_idle_session_holds_no_buffers() {
    let (socket, client) = pair(&TLS13, |mut client| {
        client.write_all(&bytes(100_000)).unwrap();
        let mut ten = [0; 10];
        client.read_exact(&mut ten).unwrap();
        client
    })
    .await;
    let (mut buffer, mut count) = (vec![0; 4096], 0);
    while count < 100_000 {
        count += read(&socket, &mut buffer).await;
    }
    poll_fn(|cx| socket.poll_write_parts(cx, &[IoSlice::new(&[7; 10])])).await.unwrap();
    let _client = client.await.unwrap();
    let Socket::Tls(tls) = &socket else { panic!("it is TLS") };
    assert_eq!(tls.session.lock().capacity(), 0);
}

#[tokio::test]
async fn a_key_update_is_answered_by_the_reading_side() {
    let (socket, client) = pair(&TLS13, |mut client| {
        client.conn.complete_io(&mut client.sock).unwrap();
        for round in 0..5 {
            client.conn.refresh_traffic_keys().unwrap();
            client.write_all(&[round; 100]).unwrap();
            let mut echo = [0; 100];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(echo, [round; 100]);
        }
    })
    .await;
    let mut buffer = [0; 100];
    for _ in 0..5 {
        let mut count = 0;
        while count < buffer.len() {
            count += read(&socket, &mut buffer[count..]).await;
        }
        poll_fn(|cx| socket.poll_write_parts(cx, &[IoSlice::new(&buffer)])).await.unwrap();
    }
    client.await.unwrap();
}

#[tokio::test]
async fn what_is_not_tls_is_refused_with_an_alert() {
    let (server, _) = configs(&TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for hostile in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 100], b""] {
        let client = tokio::task::spawn_blocking(move || {
            let mut stream = net::TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.write_all(hostile).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            answer
        });
        let (stream, _) = listener.accept().await.unwrap();
        assert!(Tls::accept(stream, server.clone(), ReceiveBudget::new(None).charge()).await.is_err());
        let answer = client.await.unwrap();
        // Alerts are records of type 21.
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
}

#[tokio::test]
async fn part_of_a_record_counts_and_has_an_end() {
    // Room for some of it.
    let budget = ReceiveBudget::new(Some(budget::READ_BYTES + 200));
    let (server, config) = configs(&TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = net::TcpStream::connect(address).unwrap();
        let mut connection =
            ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        connection.complete_io(&mut stream).unwrap();
        // The head of a record of 16 KB (RFC 8446 section 5.2), and some of it.
        stream.write_all(&[23, 3, 3, 0x40, 0]).unwrap();
        stream.write_all(&[0; 300]).unwrap();
        (connection, stream)
    });
    let (stream, _) = listener.accept().await.unwrap();
    let socket = Socket::from(Tls::accept(stream, server, budget.charge()).await.unwrap());
    let (_connection, mut stream) = client.await.unwrap();
    let mut buffer = [0; 64];
    let mut begun = poll_fn(|cx| socket.poll_read_into(cx, &mut buffer));
    while budget.used() < 305 {
        let read = tokio::time::timeout(Duration::from_millis(1), &mut begun).await;
        assert!(read.is_err(), "{read:?}");
    }
    // There is no room for more of it, so nothing more is read.
    let count = budget.used();
    stream.write_all(&[0; 3000]).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut begun).await.is_err());
    assert_eq!(budget.used(), count);
    tokio::time::pause();
    let error = begun.await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(socket);
    assert_eq!(budget.used(), 0);
}
