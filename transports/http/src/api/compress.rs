//! Content codings of replies. Small bodies are left as they are; large ones are coded by threads that serve nobody.

use std::io::{self, Write};

use axum::http::{HeaderMap, HeaderValue, header};
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use tailwire_model::limits::{CODED_AT_ONCE_BYTES_MAX, CODED_BYTES_MIN, CODING_THREADS_MAX};
use tailwire_wire::Coding;
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Levels at which each coding takes some 10 ms for a page of 1 MiB: what is kept is coded once, and what isn't is small.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: i32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// Of brotli: a window as large as a page.
const BROTLI_WINDOW_BITS: i32 = 20;

static THREADS: Semaphore = Semaphore::const_new(CODING_THREADS_MAX);

/// A body in a coding; nothing where it isn't worth it.
pub(crate) async fn compressed(body: &Bytes, coding: Coding) -> Option<Bytes> {
    if coding == Coding::Identity || body.len() < CODED_BYTES_MIN {
        return None;
    }
    let coded = if body.len() <= CODED_AT_ONCE_BYTES_MAX {
        compress(body, coding)
    } else {
        let permit = THREADS.acquire().await.ok()?;
        let plain = body.clone();
        // The permit goes when the thread is done, also if the request has gone before.
        let work = spawn_blocking(move || {
            let coded = compress(&plain, coding);
            drop(permit);
            coded
        });
        work.await.ok()?
    };
    let coded = coded.ok()?;
    (coded.len() < body.len()).then(|| coded.into())
}

fn compress(body: &[u8], coding: Coding) -> io::Result<Vec<u8>> {
    let room = || Vec::with_capacity(body.len() / 4);
    match coding {
        Coding::Identity => Ok(body.to_vec()),
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(room(), Compression::new(GZIP_LEVEL));
            encoder.write_all(body)?;
            encoder.finish()
        }
        Coding::Brotli => {
            let params = BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW_BITS,
                size_hint: body.len(),
                ..BrotliEncoderParams::default()
            };
            let mut out = room();
            brotli::BrotliCompress(&mut &body[..], &mut out, &params)?;
            Ok(out)
        }
        Coding::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
    }
}

/// Says how a body is coded.
pub(crate) fn set_coding(headers: &mut HeaderMap, coding: Coding) {
    if let Some(name) = coding.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(coded: &[u8], coding: Coding) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Identity => out.extend_from_slice(coded),
            Coding::Gzip => drop(flate2::read::GzDecoder::new(coded).read_to_end(&mut out).unwrap()),
            Coding::Brotli => drop(brotli::Decompressor::new(coded, 4096).read_to_end(&mut out).unwrap()),
            Coding::Zstd => out = zstd::stream::decode_all(coded).unwrap(),
        }
        out
    }

    #[tokio::test]
    async fn each_coding_gives_the_body_back() {
        for size in [CODED_BYTES_MIN, CODED_AT_ONCE_BYTES_MAX, CODED_AT_ONCE_BYTES_MAX + 1, 1 << 20] {
            let body: Bytes = b"{\"text\":\"hello\"},".iter().copied().cycle().take(size).collect();
            for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
                let coded = compressed(&body, coding).await.unwrap();
                assert!(coded.len() < size / 4, "{coding:?} {size}: {}", coded.len());
                assert_eq!(decoded(&coded, coding), body);
            }
        }
    }

    #[tokio::test]
    async fn what_gains_nothing_is_left_as_it_is() {
        let small = Bytes::from(vec![b'a'; CODED_BYTES_MIN - 1]);
        assert_eq!(compressed(&small, Coding::Gzip).await, None);
        assert_eq!(compressed(&Bytes::from(vec![b'a'; 5000]), Coding::Identity).await, None);
        let mut state = 1u32;
        let noise: Bytes = (0..5000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            assert_eq!(compressed(&noise, coding).await, None, "{coding:?}");
        }
    }
}
