//! One TLS session (RFC 8446, RFC 5246) without a socket: ciphertext in, plaintext out, and the reverse. rustls' unbuffered
//! API keeps no buffers of its own, so that an idle session holds no more than its keys.

use std::{io, sync::Arc};

use rustls::{
    ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};

/// Plaintext of one record (RFC 8446 §5.1).
pub(super) const RECORD_BYTES_MAX: usize = 16 << 10;
/// The overhead of a sealed record, generously: header, nonce, tag, content type.
const SEAL_BYTES_MAX: usize = 64;
/// Ciphertext of one sealed record.
pub(super) const SEALED_BYTES_MAX: usize = RECORD_BYTES_MAX + SEAL_BYTES_MAX;
/// The bytes that may wait to be sent: a record, and a handshake flight beside it. A peer that asks for answers (key
/// updates) and takes none is a hostile one.
const TAIL_BYTES_MAX: usize = 64 << 10;
/// Ciphertext that is kept while its record is incomplete. A record is at most 18 KB in TLS 1.2, a handshake message 64 KB.
const INCOMING_BYTES_MAX: usize = 96 << 10;

/// The same once the handshake is over: clients send no long messages but data then (RFC 8446 §5.2, RFC 5246 §6.2.3).
const INCOMING_OPEN_BYTES_MAX: usize = 20 << 10;

/// See the module.
pub(super) struct Session {
    connection: UnbufferedServerConnection,
    /// Ciphertext of an incomplete record.
    incoming: Vec<u8>,
    /// Plaintext that was not asked for yet, and how much of it was given.
    plain: Vec<u8>,
    plain_given: usize,
    /// Ciphertext that was not sent yet, and how much of it was.
    tail: Vec<u8>,
    tail_sent: usize,
    /// The peer has said that nothing comes any more.
    has_ended: bool,
    /// The end of our side is in the tail, or sent.
    is_ending: bool,
    /// The peer broke the protocol: nothing but the alert is sent.
    has_failed: bool,
}

impl Session {
    pub(super) fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self {
            connection,
            incoming: Vec::new(),
            plain: Vec::new(),
            plain_given: 0,
            tail: Vec::new(),
            tail_sent: 0,
            has_ended: false,
            is_ending: false,
            has_failed: false,
        })
    }

    /// Whether the handshake is over.
    pub(super) fn is_open(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Whether the peer has ended its side, and all that it said was given.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended && self.plain.len() == self.plain_given
    }

    /// The application protocol that the handshake chose (RFC 7301).
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The peer's own certificate, as DER.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        self.connection.peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// Bytes that were received and not taken, of incomplete records too.
    pub(super) fn received(&self) -> usize {
        self.incoming.len() + self.plain.len() - self.plain_given
    }

    /// Whether a record has begun that is not whole.
    pub(super) const fn is_partial(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Ciphertext that is to be sent.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail[self.tail_sent..]
    }

    /// So much of the tail was sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.tail_sent += count;
        if self.tail_sent == self.tail.len() {
            self.tail = Vec::new();
            self.tail_sent = 0;
        }
    }

    /// Keeps ciphertext to be sent later.
    pub(super) fn keep(&mut self, sealed: &[u8]) {
        self.tail.extend_from_slice(sealed);
    }

    /// Takes plaintext; 0 if there is none.
    pub(super) fn take_plain(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.plain[self.plain_given..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.plain_given += count;
        if self.plain_given == self.plain.len() {
            self.plain = Vec::new();
            self.plain_given = 0;
        }
        count
    }

    /// Whether plaintext waits to be taken.
    pub(super) fn has_plain(&self) -> bool {
        self.plain.len() > self.plain_given
    }

    /// Hears ciphertext of the peer. What has to be answered is in the tail afterwards, an alert too where this fails.
    pub(super) fn hear(&mut self, ciphertext: &[u8]) -> io::Result<()> {
        self.incoming.extend_from_slice(ciphertext);
        let heard = self.process();
        if heard.is_err() {
            self.incoming.clear();
            self.has_failed = true;
            // A last pass over nothing gives the alert.
            let _ = self.advance();
        }
        let bytes_max = if self.is_open() { INCOMING_OPEN_BYTES_MAX } else { INCOMING_BYTES_MAX };
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        } else if self.incoming.len() > bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS record without an end"));
        }
        heard
    }

    /// Seals up to one record of plaintext into `sealed`; returns how long that became. The tail has to be empty before,
    /// and still is.
    pub(super) fn seal(&mut self, plaintext: &[u8], sealed: &mut [u8]) -> io::Result<usize> {
        debug_assert!(plaintext.len() <= RECORD_BYTES_MAX && self.tail().is_empty());
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        match state.map_err(invalid)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                traffic.encrypt(plaintext, sealed).map_err(|error: EncryptError| io::Error::other(error))
            }
            _ => Err(io::Error::other("TLS is not ready to write")),
        }
    }

    /// Makes what is due of the handshake, key updates and alerts: afterwards it is in the tail, and [`seal`](Self::seal)
    /// may be called once that is empty.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        self.process()
    }

    /// Says that nothing more comes (RFC 8446 §6.1).
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.is_ending {
            return Ok(());
        }
        self.is_ending = true;
        self.process()?;
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let mut alert = [0; SEAL_BYTES_MAX];
            let count = traffic.queue_close_notify(&mut alert).map_err(io::Error::other)?;
            self.tail.extend_from_slice(&alert[..count]);
        }
        Ok(())
    }

    /// The memory of the buffers, for tests: an idle session has none.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.tail.capacity()
    }

    fn process(&mut self) -> io::Result<()> {
        if self.has_failed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "TLS has failed"));
        }
        self.advance()
    }

    /// Goes on until the peer has to say something, or there is nothing left to do.
    fn advance(&mut self) -> io::Result<()> {
        let mut done = 0;
        let result = loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut self.incoming[done..]);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    done += discard;
                    break Err(invalid(error));
                }
            };
            let mut is_waiting = false;
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = self.tail.len();
                    if let Err(EncodeError::InsufficientSize(error)) = data.encode(&mut []) {
                        self.tail.resize(start + error.required_size, 0);
                        data.encode(&mut self.tail[start..]).map_err(io::Error::other)?;
                    }
                }
                // The tail keeps the order, so that nothing has to wait for it here.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.has_ended = true,
                // Early data is never enabled.
                _ => is_waiting = true,
            }
            done += discard;
            if is_waiting {
                break Ok(());
            }
            if self.tail.len() - self.tail_sent > TAIL_BYTES_MAX {
                break Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS peer takes no answers"));
            }
        };
        self.incoming.drain(..done);
        result
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
