//! A broker in memory with two WebSocket subprotocols that the product doesn't have, to which a suite such as Autobahn's can be
//! pointed: `echo ADDRESS`, then `ws://ADDRESS/stream` with the subprotocol `echo`. It prints its address once it listens.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a helper of the tests reports by ending")]

use tailwire_tests::subprotocols;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address).await.expect("an address to listen on");
    let (_broker, server) = subprotocols::serve(listener).expect("threads for a broker");
    println!("{}", server.address().expect("an address of TCP"));
    std::future::pending::<()>().await;
}
