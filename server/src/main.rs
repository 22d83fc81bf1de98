//! The `tailwire` binary: command line, settings, signals, and the wiring of the other crates. Nothing else reads the
//! environment or ends the process, and nothing here knows a rule of the broker.

mod access;
mod cli;
mod cluster;
mod commands;
mod config;
mod log;
mod logging;
mod machine;
mod serve;
mod settings;
mod tls;

use std::process::ExitCode;

use clap::Parser;

/// Publishing allocates and frees small buffers on several threads at once, where the system's allocator contends.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Serve(args) => serve::run(&args),
        cli::Command::Bench(args) => tailwire_load::run(args),
        cli::Command::Log(args) => log::run(&args),
        cli::Command::Key(args) => commands::key::run(&args),
        cli::Command::Token(args) => commands::token::run(&args),
        cli::Command::Access(args) => commands::access::run(&args),
        cli::Command::Config(args) => commands::config::run(&args),
        cli::Command::Cluster(args) => commands::cluster::run(&args),
    }
}
