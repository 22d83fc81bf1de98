//! A socket in memory that behaves as TLS does: it takes plaintext in records, keeps what the "kernel" has no room for as
//! a tail, and answers a request for new keys when it reads. The far side sees records, and how much of them it takes is
//! up to the test.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

use super::{Socket, WrittenBytes};

/// The most bytes of one record (RFC 8446 §5.1).
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 10;
/// A record's head: its kind and its length.
const HEAD_BYTES: usize = 5;
/// The overhead of a sealed record.
const SEAL_BYTES: usize = 17;
const KEY: u8 = 0x5a;

const DATA: u8 = 23;
const NEW_KEYS: u8 = 22;
const END: u8 = 21;

/// The near side.
pub(crate) struct SealedSocket(Arc<Mutex<SealedWire>>);

/// The client, and the network to it.
pub(crate) struct Far {
    wire: Arc<Mutex<SealedWire>>,
    /// Ciphertext that was taken and makes no whole record yet.
    begun: VecDeque<u8>,
    /// The content of the records that came.
    pub(crate) plain: Vec<u8>,
    is_over: bool,
    /// How often new keys were agreed to.
    pub(crate) new_keys: usize,
}

#[derive(Default)]
struct SealedWire {
    /// Sealed, and not yet taken by the kernel.
    tail: VecDeque<u8>,
    /// In the kernel's buffer.
    sent: VecDeque<u8>,
    room: usize,
    /// To the near side; and what was opened of it and is yet to be read.
    coming: VecDeque<u8>,
    opened: VecDeque<u8>,
    /// The near side has said that nothing comes any more; the far side has.
    is_ended: bool,
    is_shut: bool,
    is_broken: bool,
    writer: Option<Waker>,
    reader: Option<Waker>,
    far: Option<Waker>,
}

/// Both ends, with so many bytes of room in the kernel.
pub(crate) fn pair(room: usize) -> (Socket, Far) {
    let wire = Arc::new(Mutex::new(SealedWire { room, ..SealedWire::default() }));
    let far =
        Far { wire: wire.clone(), begun: VecDeque::new(), plain: Vec::new(), is_over: false, new_keys: 0 };
    (Socket::Sealed(SealedSocket(wire)), far)
}

impl SealedWire {
    fn seal(&mut self, kind: u8, parts: &[IoSlice<'_>], length: usize) {
        self.tail.push_back(kind);
        self.tail.extend((length as u32).to_be_bytes());
        let content = parts.iter().flat_map(|part| part.iter());
        self.tail.extend(content.take(length).map(|byte| byte ^ KEY));
        self.tail.extend([0; SEAL_BYTES]);
    }

    /// Has the kernel take of the tail what it has room for.
    fn send(&mut self) -> usize {
        let count = self.tail.len().min(self.room - self.sent.len());
        self.sent.extend(self.tail.drain(..count));
        if count > 0 {
            self.far.take().into_iter().for_each(Waker::wake);
        }
        count
    }
}

/// The kind and content of the first record; `None` if it isn't whole.
fn open(bytes: &mut VecDeque<u8>) -> Option<(u8, Vec<u8>)> {
    let head: Vec<u8> = bytes.iter().copied().take(HEAD_BYTES).collect();
    let length = u32::from_be_bytes(head.get(1..)?.try_into().ok()?) as usize;
    if bytes.len() < HEAD_BYTES + length + SEAL_BYTES {
        return None;
    }
    let record: Vec<u8> = bytes.drain(..HEAD_BYTES + length + SEAL_BYTES).collect();
    Some((record[0], record[HEAD_BYTES..HEAD_BYTES + length].iter().map(|byte| byte ^ KEY).collect()))
}

impl SealedSocket {
    pub(super) fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<WrittenBytes> {
        let mut wire = self.0.lock();
        if wire.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut taken = wire.send();
        let mut committed = 0;
        if wire.tail.is_empty() {
            committed = parts.iter().map(|part| part.len()).sum::<usize>().min(RECORD_BYTES_MAX);
            if committed > 0 && wire.sent.len() < wire.room {
                wire.seal(DATA, parts, committed);
                taken += wire.send();
            } else {
                committed = 0;
            }
        }
        match committed + taken {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(WrittenBytes { committed, taken }),
        }
    }

    pub(super) fn tail(&self) -> usize {
        self.0.lock().tail.len()
    }

    pub(super) fn poll_writable(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock();
        if wire.is_broken || wire.sent.len() < wire.room {
            return Poll::Ready(Ok(()));
        }
        wire.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.lock();
        loop {
            if !wire.opened.is_empty() {
                let count = wire.opened.len().min(buffer.len());
                wire.opened.drain(..count).zip(buffer).for_each(|(byte, place)| *place = byte);
                return Ok(count);
            }
            match open(&mut wire.coming) {
                Some((DATA, content)) => wire.opened.extend(content),
                Some((NEW_KEYS, _)) => wire.seal(NEW_KEYS, &[], 0),
                Some(_) => {
                    wire.is_shut = true;
                    return Ok(0);
                }
                None if wire.is_shut => return Ok(0),
                None if wire.is_broken => return Err(io::ErrorKind::ConnectionReset.into()),
                None => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    }

    pub(super) fn poll_readable(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock();
        if wire.is_shut || wire.is_broken || !wire.coming.is_empty() || !wire.opened.is_empty() {
            return Poll::Ready(Ok(()));
        }
        wire.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock();
        if !wire.is_ended {
            wire.is_ended = true;
            wire.seal(END, &[], 0);
        }
        wire.send();
        if wire.tail.is_empty() || wire.is_broken {
            return Poll::Ready(Ok(()));
        }
        wire.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Far {
    /// Receives so many bytes of ciphertext from the kernel, or all that there are. Answers how many.
    pub(crate) fn receive(&mut self, count: usize) -> usize {
        let mut wire = self.wire.lock();
        let count = count.min(wire.sent.len());
        self.begun.extend(wire.sent.drain(..count));
        if count > 0 {
            wire.writer.take().into_iter().for_each(Waker::wake);
        }
        drop(wire);
        while let Some((kind, content)) = open(&mut self.begun) {
            assert!(!self.is_over, "nothing comes behind the end");
            self.is_over = kind == END;
            self.new_keys += usize::from(kind == NEW_KEYS);
            self.plain.extend(content);
        }
        count
    }

    /// Whether the near side has said that nothing comes any more.
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn send(&self, content: &[u8]) {
        self.put(DATA, content);
    }

    pub(crate) fn ask_for_new_keys(&self) {
        self.put(NEW_KEYS, &[]);
    }

    pub(crate) fn end(&self) {
        self.put(END, &[]);
    }

    /// The connection is lost.
    pub(crate) fn fail(&self) {
        let mut wire = self.wire.lock();
        wire.is_broken = true;
        wire.reader.take().into_iter().chain(wire.writer.take()).for_each(Waker::wake);
    }

    fn put(&self, kind: u8, content: &[u8]) {
        let mut wire = self.wire.lock();
        let mut record = SealedWire::default();
        record.seal(kind, &[IoSlice::new(content)], content.len());
        wire.coming.append(&mut record.tail);
        wire.reader.take().into_iter().for_each(Waker::wake);
    }
}

/// Takes what comes, as long as it is asked.
impl AsyncRead for Far {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            self.receive(usize::MAX);
            if !self.plain.is_empty() {
                let count = self.plain.len().min(buffer.remaining());
                buffer.put_slice(&self.plain[..count]);
                self.plain.drain(..count);
                return Poll::Ready(Ok(()));
            }
            if self.is_over {
                return Poll::Ready(Ok(()));
            }
            let mut wire = self.wire.lock();
            if wire.sent.is_empty() {
                wire.far = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    }
}
