//! The shaping of bytes on their way down: a stream of pieces becomes another. Each function is one thing that
//! proxies do; none knows what the bytes mean, or whether they are a response's or a WebSocket's.

use std::future::Future;
use std::io::{self, ErrorKind, Write as _};
use std::mem;
use std::time::Duration;

use async_stream::try_stream;
use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::time::{Instant, sleep, timeout_at};

/// A stream of pieces, which may break off with an error.
pub(crate) trait Bytewise: Stream<Item = io::Result<Bytes>> + Send + 'static {}
impl<S: Stream<Item = io::Result<Bytes>> + Send + 'static> Bytewise for S {}

const DRIP: Duration = Duration::from_secs(1);

/// Breaks off at this time, if there is one.
pub(crate) async fn until<T>(at: Option<Instant>, run: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match at {
        Some(at) => timeout_at(at, run).await.unwrap_or_else(|_| Err(ErrorKind::ConnectionAborted.into())),
        None => run.await,
    }
}

/// Breaks off at this time, if there is one.
pub(crate) fn cut(input: impl Bytewise, at: Option<Instant>) -> impl Bytewise {
    try_stream! {
        let mut input = Box::pin(input);
        while let Some(piece) = until(at, input.try_next()).await? {
            yield piece;
        }
    }
}

/// Keeps pieces back until they are so many bytes together, or until the end.
pub(crate) fn buffered(input: impl Bytewise, size: usize) -> impl Bytewise {
    try_stream! {
        let mut held = BytesMut::new();
        for await piece in input {
            held.extend_from_slice(&piece?);
            if held.len() >= size {
                yield held.split().freeze();
            }
        }
        if !held.is_empty() {
            yield held.freeze();
        }
    }
}

/// Waits for the end; only then there is anything at all.
pub(crate) async fn whole(input: impl Bytewise) -> io::Result<impl Bytewise> {
    let pieces: Vec<Bytes> = input.try_collect().await?;
    Ok(futures_util::stream::iter(pieces.into_iter().map(Ok)))
}

/// One byte a second.
pub(crate) fn dripping(input: impl Bytewise) -> impl Bytewise {
    try_stream! {
        for await piece in input {
            let piece = piece?;
            for at in 0..piece.len() {
                sleep(DRIP).await;
                yield piece.slice(at..=at);
            }
        }
    }
}

/// As gzip. With `flush` all that is known goes out after each piece; else what the compressor is done with.
pub(crate) fn gzipped(input: impl Bytewise, flush: bool) -> impl Bytewise {
    try_stream! {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        for await piece in input {
            encoder.write_all(&piece?)?;
            if flush {
                encoder.flush()?;
            }
            if !encoder.get_ref().is_empty() {
                yield Bytes::from(mem::take(encoder.get_mut()));
            }
        }
        yield Bytes::from(encoder.finish()?);
    }
}

/// Throws the piece away that has this text in it.
pub(crate) fn losing(input: impl Bytewise, text: Vec<u8>) -> impl Bytewise {
    input
        .try_filter(move |piece| {
            let has = piece.windows(text.len()).any(|window| window == text);
            std::future::ready(!has)
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use futures_util::stream;

    use super::*;

    fn pieces(texts: &[&'static str]) -> impl Bytewise + use<> {
        let pieces: Vec<_> = texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect();
        stream::iter(pieces)
    }

    async fn all(shaped: impl Bytewise) -> Vec<Bytes> {
        shaped.try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn buffers_until_there_is_enough_or_no_more() {
        assert_eq!(all(buffered(pieces(&["ab", "cd", "ef", "g"]), 4)).await, ["abcd", "efg"]);
        assert_eq!(all(buffered(pieces(&[]), 4)).await, [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn holds_all_of_an_endless_body() {
        let endless = pieces(&["a"]).chain(stream::pending());
        timeout_at(Instant::now() + Duration::from_secs(3600), whole(endless)).await.err().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn drips_a_byte_a_second() {
        let began = Instant::now();
        assert_eq!(all(dripping(pieces(&["ab", "c"]))).await, ["a", "b", "c"]);
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_in_the_middle_of_silence() {
        let began = Instant::now();
        let mut shaped =
            Box::pin(cut(pieces(&["a"]).chain(stream::pending()), Some(began + Duration::from_secs(5))));
        assert_eq!(shaped.try_next().await.unwrap().unwrap(), "a");
        assert_eq!(shaped.try_next().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn compresses_at_once_or_when_it_has_to() {
        let texts = ["one ", "two ", "three"];
        for (flush, pieces_min) in [(true, 4), (false, 2)] {
            let out = all(gzipped(pieces(&texts), flush)).await;
            assert_eq!(out.len(), pieces_min, "flush: {flush}");
            let mut text = String::new();
            GzDecoder::new(&out.concat()[..]).read_to_string(&mut text).unwrap();
            assert_eq!(text, texts.concat());
        }
    }

    #[tokio::test]
    async fn loses_what_it_is_told_to() {
        assert_eq!(all(losing(pieces(&["n:1", "n:2", "n:3"]), b"n:2".to_vec())).await, ["n:1", "n:3"]);
    }
}
