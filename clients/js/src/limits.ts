/** Every bound of the client, in milliseconds unless the name says otherwise, each with its reason. */
/** A handshake on a good network takes well under a second. After this the next transport starts beside it. */
export const race = 1_000;
/** Five seconds cover a lost packet and its retries. Without an answer by then the transport is given up. */
export const opening = 5_000;
/** The broker sends its first line at once. If only the head has come by then, something holds the lines back. */
export const first_line = 3_000;
/** Two heartbeats of the broker (15 s each) and 10 s for the way. */
export const silence = 40_000;
/** A connection that lasted this long works: the wait before the next try begins anew. */
export const stable = 10_000;
/** One that is cut within this time after a climb was not worth the climb. */
export const probation = 60_000;
/** This many cuts within the window, and the transport is left. Long enough to see a proxy that cuts every few minutes. */
export const strikes = 3;
export const strike_window = 600_000;
/** The first climb, doubled after each that failed. The last value keeps idle clients from costing the broker anything. */
export const climb_first = 30_000;
export const climb_max = 900_000;
/**
 * A wait between tries is anything from 0 to a thirtieth of the outage, so that the wait adds little to it: at most 1 s
 * for a restart, 2 s after a minute, 30 s from a quarter of an hour on.
 */
export const backoff_share = 30;
export const backoff_min = 1_000;
export const backoff_max = 30_000;
/** While nothing works, one search of so many goes down the whole list: the network may have become another one. */
export const whole_list = 4;
/** A better transport gets another chance so soon after an outage. */
export const climb_soon = 1_000;
/** Where the broker closes for a while without a word on how long: this, and up to a quarter more. */
export const come_back = 3_000;
/**
 * The longest that a word of the other side keeps the client away, as one of a broken proxy could be for ever. To ask once in
 * a quarter of an hour costs nothing.
 */
export const wait_max = 900_000;
/** When lines flowed and then stopped for this long, a page shows whether some are buffered on the way; doubled each time. */
export const audit_first = 3_000;
/** A page may be faster than a stream by a little; lines that have not come by then are buffered on the way. */
export const audit_grace = 1_000;
/** How long a long-poll is asked to wait. Most proxies cut a silent response at 30 s or later. */
export const wait_seconds = 25;
/** An answer to one plain request; a long-poll gets its wait on top. */
export const answer = 10_000;
/** A publish is tried again for this long. The broker knows its key for ten minutes; more than that would not be safe. */
export const publish = 60_000;
export const publish_max = 540_000;
/** Publishes of a hub that wait. More than that is a loop that waits for no answer. */
export const queue = 10_000;
/** Characters that a message of a batch counts beside its own: with a line's length, that makes 6,000 of them at most, and the broker takes 10,000. */
export const line_overhead = 100;
/** Characters of a publish by WebSocket. In UTF-8 one has three bytes at most, and a line of the broker two MiB. */
export const line_length = 600_000;
/** Messages that wait for a reader of one subscription. */
export const buffer_messages = 1_000;
/** Messages of one page while catching up: the broker's own bound. */
export const page_messages = 1_000;
/** Subscriptions of a hub: the broker's own bound for one WebSocket. */
export const subscriptions = 100;
/** Terms that all subscriptions of a hub ask for together: the broker's own bound for one filter. */
export const terms = 100;
/** Characters of a path with its query; beyond, the query goes in a body. Many proxies refuse a request line beyond 8 KiB. */
export const path_length = 7_500;
/** A token that ends within this time is replaced before it is used. */
export const token_early = 30_000;
/** A source of tokens may have to refresh a session over a bad network. What takes longer than this has hung. */
export const token = 30_000;
/** After a source failed, or gave the same token again, it is left alone for so long, however many ask. */
export const token_pause = 3_000;
/** A remembered transport: an hour later the network may be another. */
export const memory = 3_600_000;
/** A timer that fires this late means that the machine slept. Browsers let timers of pages in the background wait up to a minute. */
export const slept = 120_000;
/** Timers can wait for 2^31 - 1 ms at most. What is due later is looked at again by then. */
export const timer = 2_000_000_000;
/** Between a gap and the request for what comes after it. */
export const gap_pause = 100;
