//! The transports by which a load generator reads.

/// How messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadTransport {
    Ws,
    Sse,
    Ndjson,
    Longpoll,
    /// One page after another up to the tail, for what is stored.
    Page,
}

impl ReadTransport {
    pub(crate) const ALL: [ReadTransport; 5] = [
        ReadTransport::Ws,
        ReadTransport::Sse,
        ReadTransport::Ndjson,
        ReadTransport::Longpoll,
        ReadTransport::Page,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            ReadTransport::Ws => "ws",
            ReadTransport::Sse => "sse",
            ReadTransport::Ndjson => "ndjson",
            ReadTransport::Longpoll => "longpoll",
            ReadTransport::Page => "page",
        }
    }
}
