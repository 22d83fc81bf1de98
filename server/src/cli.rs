//! The command line's commands. The arguments of each stand beside the code that takes them.

use clap::{Parser, Subcommand};

use tailwire_load::BenchArgs;

use crate::{
    commands::{
        access::AccessArgs, cluster::ClusterArgs, config::ConfigArgs, key::KeyArgs, token::TokenArgs,
    },
    config::{self, ServeArgs},
    log::LogArgs,
};

/// A pub/sub message broker whose topics are URLs.
#[derive(Debug, Parser)]
#[command(name = "tailwire", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker.
    #[command(after_help = config::SERVE_NOTES, next_line_help = true)]
    Serve(Box<ServeArgs>),
    /// Measure a broker.
    Bench(BenchArgs),
    /// Look at a log, mend it, carry its messages elsewhere.
    Log(LogArgs),
    /// Make, list and revoke the API keys of a running broker.
    Key(KeyArgs),
    /// Make tokens of your own, look into others, and hold them against a configuration.
    Token(TokenArgs),
    /// Say what somebody may, and why.
    Access(AccessArgs),
    /// Check a configuration, and show what holds.
    Config(ConfigArgs),
    /// Look at a cluster.
    Cluster(ClusterArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_taken_as_text() {
        let cli = Cli::try_parse_from([
            "tailwire",
            "serve",
            "--listen",
            ":1",
            "--allow-origin",
            "a",
            "--allow-origin",
            "b",
        ])
        .unwrap();
        let Command::Serve(args) = cli.command else { panic!("another command") };
        assert_eq!(args.listen, [":1"]);
        assert_eq!(args.allow_origins, ["a", "b"]);
    }
}
