//! HTTP/1.1 messages: whatever the bytes are, what is read of them whole, byte by byte, and in parts is the same.

#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../../transports/http/src/connection/http1"]
mod http1 {
    pub(crate) mod chunked;
    pub(crate) mod decoder;
    pub(crate) mod head;
    pub(crate) mod messages;
    pub(crate) mod refusal;
}

fuzz_target!(|bytes: &[u8]| {
    // The first bytes say where the rest is cut.
    let (cuts, bytes) = bytes.split_at(bytes.len().min(4));
    http1::messages::check(cuts, bytes);
});
