//! Makes the stored sample of the format of today anew: `cargo run -p tailwire-storage --example sample`. A sample of a
//! format that was released stays as it is; it is what proves that such logs can still be opened.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for a change of the format")]

#[path = "../tests/sample/mod.rs"]
mod sample;

use std::fs;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let open = sample::make(&log);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/format-7.txt");
    // As it stands on the disk while it is open, which is what a crash leaves.
    let text = sample::pack(&log);
    drop(open);
    fs::write(path, &text).unwrap();
    println!("{path}: {} bytes", text.len());
}
