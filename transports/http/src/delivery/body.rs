//! SSE and NDJSON where the socket can't be taken over: HTTP/2, and whatever hyper must frame. The same reader and the
//! same encodings, as the body of an ordinary response.

use std::convert::Infallible;

use async_stream::stream;
use bytes::Bytes;
use futures_util::Stream;
use smallvec::SmallVec;
use tailwire_core::{Event, Reader};

use super::stream::Codec;
use crate::api::metrics::Metrics;

/// The body of an endless response. hyper asks for the next piece only when the client's window has room; until then all
/// that it holds is the encoding of one event. What was read of the log is let go of before: it counts against what all
/// readers may hold.
pub(crate) fn endless(
    mut reader: Reader,
    shard: usize,
    codec: Codec,
    retry_ms: u64,
    metrics: Metrics,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream! {
        reader.follow(shard);
        let connected = metrics.connected(codec.transport());
        let mut retry_ms = Some(retry_ms);
        while let Ok(event) = reader.next().await {
            match event {
                Event::Messages(slices) => {
                    let format = codec.format() as usize;
                    let encoded: SmallVec<[Bytes; 2]> =
                        slices.into_iter().map(|slice| slice.encoded(format)).collect();
                    for bytes in encoded {
                        connected.wrote(bytes.len());
                        yield Ok(bytes);
                    }
                }
                event => {
                    yield Ok(codec.control(&event, retry_ms.take()));
                    if let Event::Bye(bye) = event {
                        connected.ended(bye.reason);
                        break;
                    }
                }
            }
        }
    }
}
