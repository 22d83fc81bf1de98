//! Streams where the socket is not theirs: HTTP/2, and whatever hyper must frame. The same reader and the same protocol, as the
//! body of an ordinary response.

use std::convert::Infallible;

use async_stream::stream;
use bytes::Bytes;
use futures_util::Stream;
use tailwire_core::Reader;

use super::stream::EventStream;
use crate::{
    api::metrics::HttpMetrics,
    connection::protocol::{Io, Protocol},
    limiter::Hold,
};

/// The body of an endless response. hyper asks for the next piece only when the client's window has room; until then all
/// that it holds is the encoding of one event. What was read of the log is let go of before: it counts against what all
/// readers may hold.
pub(crate) fn endless(
    reader: Reader,
    shard: usize,
    mut protocol: EventStream,
    metrics: HttpMetrics,
    hold: Hold,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream! {
        let mut io = Io::new(reader, shard);
        let holds = [Hold::default(), hold];
        let connected = metrics.connected(protocol.codec.transport()).holding(holds);
        while !io.is_ending() {
            match io.live().next().await {
                Ok(event) => protocol.event(event, &mut io),
                Err(error) => protocol.failed(error, &mut io),
            }
            io.bye.take().into_iter().for_each(|reason| connected.ended(reason));
            for bytes in io.out.take_bytes() {
                connected.wrote(bytes.len());
                yield Ok(bytes);
            }
        }
    }
}
