//! The fault proxy: a network between clients and a broker that does to them what real ones do.
//!
//! It opens as many ports as it is asked for, each with faults of its own (`mode` lists them), and changes them in
//! mid-run. It is driven by lines, one answer each, and ends when its input does:
//!
//! ```text
//! open <faults>          answered by the port's number
//! turn <port> <faults>   answered by "ok"
//! ```
//!
//! Impossible requests are answered by "error: …". No faults at all is a network that lets everything pass. It listens
//! on loopback only, speaks HTTP/1.1 in clear text, and knows nothing of what topics or messages are.
//!
//! `proxy --to 127.0.0.1:8245`

mod connection;
mod forward;
mod mode;
mod port;
mod shape;
mod tunnel;

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use mode::Mode;
use port::Port;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let ["--to", broker] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        eprintln!("usage: proxy --to <address>");
        return ExitCode::from(2);
    };
    match broker.parse().map_err(io::Error::other).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(broker: SocketAddr) -> io::Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut ports = HashMap::new();
    for line in io::stdin().lock().lines() {
        let answer =
            execute(&line?, broker, &runtime, &mut ports).unwrap_or_else(|error| format!("error: {error}"));
        writeln!(io::stdout(), "{answer}")?;
    }
    // Connections that stall would never end by themselves.
    runtime.shutdown_background();
    Ok(())
}

fn execute(
    line: &str,
    broker: SocketAddr,
    runtime: &Runtime,
    ports: &mut HashMap<u16, Port>,
) -> Result<String, String> {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("open") => {
            let mode = Mode::parse(words)?;
            let port = runtime.block_on(Port::open(broker, mode)).map_err(|error| error.to_string())?;
            let number = port.number();
            ports.insert(number, port);
            Ok(number.to_string())
        }
        Some("turn") => {
            let number: u16 = words.next().and_then(|word| word.parse().ok()).ok_or("turn needs a port")?;
            let port = ports.get(&number).ok_or("there is no such port")?;
            port.turn(Mode::parse(words)?);
            Ok(String::from("ok"))
        }
        _ => Err(String::from("open or turn?")),
    }
}
