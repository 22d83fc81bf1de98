//! A request's body as its framing has it, decoded as it comes. Pure.

use bytes::Bytes;

use super::{
    chunked::{BadChunk, Chunked},
    head::Framing,
};

/// The decoder of one body.
#[derive(Debug)]
pub(crate) enum BodyDecoder {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunked),
}

impl From<Framing> for BodyDecoder {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
        }
    }
}

impl BodyDecoder {
    /// Whether the body's end has been read.
    pub(crate) fn is_at_end(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_at_end(),
        }
    }

    /// Takes from `received` up to some data, which is given; to the end of the body; or all that is there.
    ///
    /// # Errors
    /// When that is no chunked body.
    pub(crate) fn next(&mut self, received: &mut Bytes) -> Result<Option<Bytes>, BadChunk> {
        match self {
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                *left -= count as u64;
                Ok((count > 0).then(|| received.split_to(count)))
            }
            Self::Chunked(chunked) => chunked.next(received),
        }
    }

    /// How many bytes of the body are still to come, where that is known.
    pub(crate) const fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) => None,
        }
    }
}
