//! A connection after its handshake: bytes both ways, down as the mode lets them.

use std::io;

use async_stream::try_stream;
use bytes::BytesMut;
use futures_util::{StreamExt as _, TryStreamExt as _};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, sink, split};
use tokio::time::Instant;

use crate::mode::{Body, Mode, Upgrade};
use crate::shape::{self, Bytewise};

const READ_BYTES: usize = 16 << 10;

type Writer = Box<dyn AsyncWrite + Unpin + Send>;

pub(crate) struct Tunnel {
    client: OnUpgrade,
    broker: OnUpgrade,
    swallows: bool,
    drips: bool,
    cut: Option<Instant>,
}

impl Tunnel {
    pub(crate) fn new(client: OnUpgrade, broker: OnUpgrade, mode: &Mode, cut: Option<Instant>) -> Tunnel {
        let swallows = mode.upgrade == Upgrade::Swallow;
        Tunnel { client, broker, swallows, drips: matches!(mode.body, Body::Drip { .. }), cut }
    }

    /// Ends when either side does, and then ends both.
    pub(crate) async fn run(self) -> io::Result<()> {
        shape::until(self.cut, self.pass()).await
    }

    async fn pass(self) -> io::Result<()> {
        let client = self.client.await.map_err(io::Error::other)?;
        let broker = self.broker.await.map_err(io::Error::other)?;
        let (mut from_client, to_client) = split(TokioIo::new(client));
        let (from_broker, to_broker) = split(TokioIo::new(broker));
        let (mut to_client, mut to_broker): (Writer, Writer) = match self.swallows {
            true => (Box::new(sink()), Box::new(sink())),
            false => (Box::new(to_client), Box::new(to_broker)),
        };
        let down = async {
            let pieces = pieces(from_broker);
            let mut pieces = if self.drips { shape::dripping(pieces).boxed() } else { pieces.boxed() };
            while let Some(piece) = pieces.try_next().await? {
                to_client.write_all(&piece).await?;
            }
            Ok(())
        };
        tokio::select! {
            result = copy(&mut from_client, &mut to_broker) => result.map(drop),
            result = down => result,
        }
    }
}

fn pieces(mut reader: impl AsyncRead + Unpin + Send + 'static) -> impl Bytewise {
    try_stream! {
        loop {
            let mut piece = BytesMut::with_capacity(READ_BYTES);
            if reader.read_buf(&mut piece).await? == 0 {
                break;
            }
            yield piece.freeze();
        }
    }
}
