//! Every bound of the broker, each with its reason. Sizes are in bytes, times in milliseconds.

/// A topic's name: fits a URL, a file name and a log line.
pub const TOPIC_BYTES_MAX: usize = 255;
/// Topics, by default: with the longest names they take some 100 MB of memory.
pub const TOPICS_MAX: u64 = 250_000;
/// How long a topic that holds nothing is known after its newest message, by default: its memory is for others then. Only a cursor
/// that is older may be told of a gap that it doesn't have.
pub const FORGET_TOPICS_AFTER_MS: u64 = 24 * 60 * 60 * 1_000;
/// Terms of one filter: a URL of a hundred topics still fits common proxies' 8 KB.
pub const FILTER_TERMS_MAX: usize = 100;
/// The body of a QUERY: all terms that a filter may have, at their greatest length and percent-encoded, and then some.
pub const QUERY_BYTES_MAX: usize = 128 << 10;
/// Terms of a filter that was narrowed to what is granted: `**` may stand for as many topics as a client is granted. Also
/// the terms that a token or key grants for one action: both bound what a subscription costs.
pub const NARROWED_TERMS_MAX: usize = 1000;

/// One message's body. Real-time messages are small; larger content belongs elsewhere, with its URL in the message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// One batch's body: large enough that a flush is shared by thousands, small enough to hold in memory per request.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Messages of one batch.
pub const BATCH_MESSAGES_MAX: usize = 10_000;
/// A message's `key`, as long as a topic.
pub const MESSAGE_KEY_BYTES_MAX: usize = 255;
/// A message's `event`.
pub const EVENT_BYTES_MAX: usize = 64;
/// A message's own headers: how many, and all their bytes.
pub const HEADERS_MAX: usize = 16;
/// See [`HEADERS_MAX`].
pub const HEADERS_BYTES_MAX: usize = 4096;
/// A media type, with parameters.
pub const MEDIA_TYPE_BYTES_MAX: usize = 255;
/// An idempotency key, between its quotes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// How long an idempotency key is remembered: longer than any sane client retries.
pub const IDEMPOTENCY_WINDOW_MS: u64 = 10 * 60 * 1000;

/// How long a compacted topic keeps the message that says of a key that it is deleted: a client that was away for a day gets it.
pub const DELETION_MS: u64 = 24 * 60 * 60 * 1000;

/// Topics and patterns that clients can set options for.
pub const OPTIONS_MAX: usize = 1000;
/// Nodes of the tree of patterns with options that one topic's look-up may visit beyond one for each of its segments: some
/// 2 µs, so that resolving a batch of 10,000 new topics takes less than half of the 50 ms that preparing a commit may take.
pub const OPTIONS_DETOURS_MAX: usize = 64;
/// The title of a term's feeds: a line.
pub const TITLE_BYTES_MAX: usize = 255;
/// What a term's feeds are about: a paragraph.
pub const DESCRIPTION_BYTES_MAX: usize = 1_000;
/// The options of one term, as JSON: some times what they can take.
pub const OPTIONS_BYTES_MAX: usize = 4096;
/// A bound that an option sets: the greatest whole number that every parser of JSON reads as it is (RFC 8259 §6).
pub const OPTION_MAX: u64 = (1 << 53) - 1;
/// How long a message that was published as `relaxed` may be acknowledged and not yet on the disk.
pub const RELAXED_FLUSH_MS: u64 = 100;
/// Messages that are published as `memory`, of all topics together: the newest stay.
pub const RING_BYTES_MAX: usize = 32 << 20;
/// How often the bounds on age are looked after.
pub const RETENTION_EVERY_MS: u64 = 1_000;

/// Messages of a page when the client doesn't say.
pub const PAGE_MESSAGES_DEFAULT: usize = 100;
/// Messages of a page, at most.
pub const PAGE_MESSAGES_MAX: usize = 1000;
/// Bodies of a page; one message is always given.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// Stored bytes that one turn of a read looks at, matching or not: bounds what a sparse filter costs.
pub const SCAN_BYTES_MAX: usize = 8 << 20;
/// Turns that a page may take before it answers with `more` and nothing in it.
pub const PAGE_TURNS_MAX: usize = 4;
/// `last=n`: as far back as a page reaches.
pub const LAST_MAX: usize = PAGE_MESSAGES_MAX;
/// Topics in one page of the list of topics.
pub const TOPICS_PAGE_MAX: usize = 1000;
/// The same, when the client doesn't say.
pub const TOPICS_PAGE_DEFAULT: usize = 100;

/// Names that are gone through at a time, for a list of topics or the bounds of a pattern: some 0.1 ms, for which a commit may
/// have to wait.
pub const LISTED_PER_TURN: usize = 256;

/// `max_bytes`, at least: the longest metadata of a message, which is given where the message is too large.
pub const SIZE_BOUND_MIN: u32 = 4096;
/// Of `max_bytes`, what is left to what stands around a message: a frame's head, the name of a subscription, a page.
pub const SIZE_BOUND_ROOM: u32 = 256;

/// How long a long-poll may be held: under the 60 s after which common proxies give up.
pub const WAIT_MS_MAX: u64 = 55_000;
/// Retry-After, at least: a poll a second is what an impatient client would do anyway.
pub const RETRY_MS_MIN: u64 = 1_000;
/// Retry-After, at most, before load stretches it.
pub const RETRY_MS_MAX: u64 = 30_000;

/// Retry-After of a poll that has waited in vain, at most: when the committer's queue is full.
pub const RETRY_WAITED_MS_MAX: u64 = 8_000;
/// How full the committer's queue is before such a poll gets a longer Retry-After at all.
pub const RETRY_LOAD_MIN: f64 = 0.1;

/// Silence on a stream before the broker gives a sign of life: proxies cut at 30 s or more.
pub const HEARTBEAT_MS: u64 = 15_000;
/// A reader that can't write for this long lets go of the page that it holds.
pub const STALL_RELEASE_MS: u64 = 1_000;
/// A reader that can't write for this long is closed; its cursor resumes.
pub const STALL_CLOSE_MS: u64 = 30_000;
/// Memory for answers that clients have yet to take, of all connections together, from their first byte: room for seventy
/// large ones, in a process that is to live in 256 MiB with ten thousand such clients.
pub const PINNED_BYTES_MAX: usize = 80 << 20;
/// What one connection may hold of that: four answers in the making, or sixteen pages; the rest is for others.
pub const PINNED_CONNECTION_BYTES_MAX: usize = 16 << 20;
/// What all connections of one address may hold of it, of a network of 64 bits with IPv6: a quarter is always left to others.
pub const PINNED_ADDRESS_BYTES_MAX: usize = 60 << 20;
/// How long a request waits for its share of that before it is refused: who holds it has to go on taking it meanwhile.
pub const PINNED_WAIT_MS_MAX: u64 = 5_000;
/// How many requests may wait for that room, which takes memory, too: some 17 KB each.
pub const PINNED_WAITING_MAX: usize = 3_072;
/// How many of them from the connections of one address.
pub const PINNED_ADDRESS_WAITING_MAX: usize = 2_048;
/// Bytes a second that a client has to take of its share, while others wait for theirs.
pub const PINNED_RATE_MIN: usize = 16 << 10;
/// After a drain no client is told to come back sooner: a broker that starts again needs some of it.
pub const DRAIN_RETRY_MS_MIN: u64 = 250;
/// The time over which clients come back after a drain, so that they don't come all at once: at least so long.
pub const DRAIN_SPAN_MS_MIN: u64 = 500;
/// See [`DRAIN_SPAN_MS_MIN`]: at most. Beyond, clients would rather be refused than wait.
pub const DRAIN_SPAN_MS_MAX: u64 = 120_000;
/// How many of them a second: half of the TLS handshakes that one core does, which are the greater part of coming back.
pub const DRAIN_CLIENTS_PER_SECOND: u64 = 2_500;
/// How long a WebSocket may stand without the credential that its URL's topics need.
pub const AUTHENTICATE_MS_MAX: u64 = 10_000;
/// When a client whose permission has ended may come back, with a new one.
pub const PERMISSION_RETRY_MS: u64 = 1_000;
/// When a client should try again after the store failed: a person may have to look.
pub const STORAGE_RETRY_MS: u64 = 5_000;

/// How long a peer may leave what was sent to it unacknowledged: longer than a slow one keeps its window shut.
pub const PEER_GONE_MS: u64 = 90_000;

/// Messages of one segment, in bytes of bodies: a few socket buffers' worth, cheap to keep alive for one slow reader.
pub const SEGMENT_BYTES_MAX: usize = 32 << 10;
/// One term's hot tail: what a reader can be behind without asking the log.
pub const TAIL_BYTES_MAX: usize = 1 << 20;
/// All hot tails of a shard together.
pub const TAILS_BYTES_MAX: usize = 16 << 20;
/// The bytes that one call of a reader hands to its transport, and that are written to a connection before others of its
/// shard have their turn: when five thousand are all behind, a round of it takes some 0.2 s.
pub const BATCH_READ_BYTES_MAX: usize = 64 << 10;
/// One turn of a read from the log, for catch-up.
pub const READ_BYTES_MAX: usize = 128 << 10;
/// Messages of one such turn.
pub const READ_MESSAGES_MAX: usize = 2000;
/// After a page of old data, how many times as long as it took no other is read, if anybody publishes: all who
/// catch up take a seventh of a core from those who do, and what writing the pages costs.
pub const CATCH_UP_THROTTLE_FACTOR: u32 = 6;
/// Since a commit, nobody publishes any more: live messages that come one by one don't meet a machine that is busy either.
pub const CATCH_UP_QUIET_MS: u64 = 20;
/// Such a throttling pause at most: a page that waited long for its disk is no reason to stop.
pub const CATCH_UP_THROTTLE_MS_MAX: u64 = 50;
/// How long throttling delays such a page after it was asked for: from then on only those before it do. So a reader that
/// catches up gets ten pages of [`READ_BYTES_MAX`] a second, as far as the machine can, and doesn't fall behind for good.
pub const CATCH_UP_WAIT_MS_MAX: u64 = 100;
/// How long a stream's head waits for its first page, by which it is known whether the log can be read there.
pub const READ_AHEAD_MS_MAX: u64 = 1_000;
/// Pages that are read but not yet written, for all readers together, with their encodings.
pub const READ_BYTES_IN_FLIGHT_MAX: usize = 64 << 20;
/// The part of that which streams leave to requests for a page, whose answers are not held for slow clients.
pub const READ_BYTES_KEPT: usize = 16 << 20;

/// Publishes that wait for the committer: their bytes and number. Beyond is 503.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// See [`QUEUE_BYTES_MAX`].
pub const QUEUE_COUNT_MAX: usize = 65_536;
/// The bytes that one commit takes from the queue.
pub const COMMIT_BYTES_MAX: usize = 8 << 20;

/// Open files that connections leave to the rest of the process: a store of many segments opens some at a time.
pub const DESCRIPTORS_KEPT: u64 = 64;

/// A request's head: method, URL and headers.
pub const REQUEST_HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request: hyper's default.
pub const REQUEST_HEADERS_MAX: usize = 100;
/// Time for a connection to send a whole head.
pub const REQUEST_HEAD_MS_MAX: u64 = 10_000;
/// A header of the PROXY protocol: addresses, and some hundred bytes of values beside them, as a certificate's name.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;
/// Requests of one HTTP/2 connection that are answered at a time: what a standard asks at least for (RFC 9113 §6.5.2), and
/// each may hold a page.
pub const HTTP2_STREAMS_MAX: u32 = 100;
/// Time that a connection may be idle between two requests: longer than the pause between two polls.
pub const KEEP_ALIVE_MS: u64 = 75_000;
/// Time for a request to send its whole body, and for a WebSocket message in parts; longer only for what comes at
/// [`RECEIVE_RATE_MIN`].
pub const REQUEST_BODY_MS_MAX: u64 = 30_000;
/// Bytes a second at which a body may come for longer, on average: the slowest of mobile networks.
pub const RECEIVE_RATE_MIN: usize = 8 << 10;
/// Memory for what all clients have begun to send and not yet sent whole, by default: eight of the largest batches, in a
/// process that is to live in 256 MiB.
pub const RECEIVE_BYTES_MAX: usize = 64 << 20;
/// How long a connection waits for room there before its request is refused.
pub const RECEIVE_WAIT_MS_MAX: u64 = 5_000;
/// Publishes of one connection that are under way at a time: enough to share a commit with hundreds of others'.
pub const PIPELINED_PUBLISHES_MAX: usize = 64;
/// Their bytes; as much again may be read ahead.
pub const PIPELINED_BYTES_MAX: usize = 64 << 10;

/// The rest of a body that nobody wants and that is read for its connection's sake: less than a new connection costs.
pub const SKIP_BYTES_MAX: usize = 64 << 10;
/// Bytes that are read and thrown away of a client whose connection ends, so that it sees the answer: a batch and more.
pub const DISCARD_BYTES_MAX: usize = 32 << 20;
/// See [`DISCARD_BYTES_MAX`].
pub const DISCARD_MS_MAX: u64 = 30_000;
/// How long such a client may send nothing.
pub const DISCARD_QUIET_MS_MAX: u64 = 2_000;

/// Unanswered requests of one WebSocket; beyond, the broker stops reading from it.
pub const SOCKET_PENDING_MAX: usize = 64;
/// Subscriptions of one WebSocket.
pub const SOCKET_SUBSCRIPTIONS_MAX: usize = 100;
/// Terms of all subscriptions of one WebSocket: each message is merged from as many tails.
pub const SOCKET_TERMS_MAX: usize = 1000;
/// One line from a WebSocket client: a message as a JSON string, with room for escapes.
pub const SOCKET_LINE_BYTES_MAX: usize = 2 << 20;
/// Documents that were made for one request and may be given to others, with their codings: a few hundred pages.
pub const DOCUMENTS_BYTES_MAX: usize = 16 << 20;
/// Smaller bodies are not coded: they fit a packet as they are.
pub const CODED_BYTES_MIN: usize = 1_024;
/// Larger bodies are coded by threads that serve nobody: on others it would keep requests waiting for more than 0.1 ms.
pub const CODED_AT_ONCE_BYTES_MAX: usize = 8 << 10;
/// How many bodies such threads code at a time.
pub const CODING_THREADS_MAX: usize = 2;
/// How long a shared cache may keep an archive: it never changes, and a reader may come for it years later.
pub const ARCHIVE_CACHE_MS_MAX: u64 = 365 * 24 * 3_600_000;
/// How long a shared cache may keep a feed of one topic that anonymous may read, at most: a tenth of what it takes for the
/// next message to come.
pub const FEED_CACHE_MS_MAX: u64 = 60_000;
/// How long a shared cache may keep a page that never changes: what it holds may be removed by a DELETE.
pub const CACHE_MS_MAX: u64 = 3_600_000;

/// A token, as sent: what fits a request's head with room for the rest. Longer ones are refused unread.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// A subject, an issuer, a token's id: as long as a topic, and no longer than OpenID Connect lets a subject be (Core §2).
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Keys of one issuer that a token without a key id is tried with: each costs a verification.
pub const ISSUER_KEYS_MAX: usize = 32;
/// A document of an issuer's public keys (JWKS).
pub const JWKS_BYTES_MAX: usize = 256 << 10;
/// An answer of the application that decides: some thousand patterns.
pub const HOOK_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Answers of it that are remembered, and what they may take.
pub const HOOK_ANSWERS_MAX: usize = 16_384;
/// See [`HOOK_ANSWERS_MAX`].
pub const HOOK_ANSWERS_BYTES_MAX: usize = 16 << 20;
/// Questions that it is asked at a time: each has a thread meanwhile, and a connection.
pub const HOOK_ASKS_MAX: usize = 32;
/// Questions that wait for that. Beyond, none could be answered in time.
pub const HOOK_ASKS_WAITING_MAX: usize = 1024;
/// Rules of the configuration: each is looked at when a credential is verified.
pub const ACCESS_RULES_MAX: usize = 1000;
/// Verified tokens that are remembered: their number.
pub const TOKENS_CACHED_MAX: usize = 32_768;
/// Verified tokens that are remembered: what they take.
pub const TOKENS_CACHED_BYTES_MAX: usize = 32 << 20;
/// API keys, revoked ones included: all are held in memory.
pub const KEYS_MAX: usize = 100_000;
/// Revocations of tokens that have not expired yet: all are held in memory.
pub const REVOCATIONS_MAX: usize = 100_000;
/// How long a ticket can be used: enough for a page to open a connection on a bad network.
pub const TICKET_MS: u64 = 30_000;
/// Unused tickets, of all principals together.
pub const TICKETS_MAX: usize = 65_536;
/// Unused tickets of one principal: a browser with many tabs that all come back at once.
pub const TICKETS_PER_PRINCIPAL_MAX: usize = 64;

/// Addresses, and networks of 64 bits of IPv6, that limits remember at a time, 56 bytes each; those that owe the least go first.
pub const LIMITED_ADDRESSES_MAX: usize = 1 << 20;
/// Principals that limits remember at a time: more than have verified tokens in memory.
pub const LIMITED_PRINCIPALS_MAX: usize = 1 << 17;
/// When a client may come back that has as much open as it may, before jitter.
pub const LIMITED_RETRY_MS: u64 = 5_000;
/// How long a refusal by a limit is kept back: a client that asks again as soon as it is answered would take others' time. What a rate
/// lets through meanwhile is not lost to it.
pub const LIMITED_PAUSE_MS: u64 = 100;
/// Quotas of the configuration: each that a topic matches is looked at with every publish.
pub const QUOTAS_MAX: usize = 10_000;
