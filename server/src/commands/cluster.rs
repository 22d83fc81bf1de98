//! `tailwire cluster`: a cluster as it stands, by its stream and by what its nodes say.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use tailwire_jetstream::{Cluster, ClusterStatus, NodeReport};
use tokio::runtime::Builder;

use super::{Failure, SettingsFile, end, print};
use crate::{cluster::jetstream_settings, config::ServeArgs};

/// Arguments of `tailwire cluster`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Show the stream, the servers that hold it, and the nodes. Exit codes: 0 all is well; 1 a server or a node is not, or
    /// none speaks; 2 NATS can't be asked
    Status(StatusArgs),
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    settings: SettingsFile,

    /// URLs of the NATS servers, separated by commas
    /// [env: TAILWIRE_CLUSTER]
    #[arg(long, value_name = "URLS")]
    cluster: Option<String>,
}

/// Runs a command.
pub(crate) fn run(args: &ClusterArgs) -> ExitCode {
    end(match &args.command {
        ClusterCommand::Status(args) => status(args),
    })
}

fn status(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let asked = ServeArgs { cluster: args.cluster.clone(), ..ServeArgs::default() };
    let settings = args.settings.configured_with(asked)?.settings;
    let cluster =
        settings.cluster.as_ref().ok_or("no cluster is named: say --cluster, or have a section [cluster]")?;
    let stream = jetstream_settings(&settings, cluster)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(Cluster::look(&stream))?;
    print(show(&cluster.stream, &found));
    Ok(if is_well(&found, cluster.replicas) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_well(ClusterStatus { stream, nodes }: &ClusterStatus, replicas: usize) -> bool {
    let current = stream.replicas.iter().filter(|(_, is_current)| *is_current).count();
    let has_leader = replicas == 1 || stream.leader.is_some() && current >= replicas;
    stream.flaw.is_none() && has_leader && !nodes.is_empty() && nodes.iter().all(|node| node.health == "good")
}

fn show(name: &str, ClusterStatus { stream, nodes }: &ClusterStatus) -> String {
    let mut lines = vec![
        format!("stream   {name}: messages {} to {}, {} bytes", stream.first, stream.last, stream.bytes),
        format!("log      {}", stream.log),
        format!("leader   {}", stream.leader.as_deref().unwrap_or("none")),
    ];
    if let Some(flaw) = &stream.flaw {
        lines.push(format!("flaw     {flaw}"));
    }
    for (server, is_current) in &stream.replicas {
        lines.push(format!("server   {server}: {}", if *is_current { "current" } else { "behind, or away" }));
    }
    if nodes.is_empty() {
        lines.push("nodes    none speaks".to_owned());
    }
    for NodeReport { name, applied, health, behind_ms, server, version, .. } in nodes {
        let lag = stream.last.saturating_sub(*applied);
        let behind = if *behind_ms > 0 { format!(", behind since {behind_ms} ms") } else { String::new() };
        lines.push(format!(
            "node     {name}: {health}{behind}, applied {applied} (lag {lag}), by {server}, version {version}"
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use tailwire_jetstream::{LogId, StreamInfo};

    use super::*;

    #[test]
    fn a_status_shows_what_is_not_well() {
        let replicas = vec![("n1".to_owned(), true), ("n2".to_owned(), true), ("n3".to_owned(), false)];
        let stream = StreamInfo {
            log: LogId(1),
            first: 1,
            last: 9,
            bytes: 5,
            leader: Some("n1".to_owned()),
            replicas,
            flaw: None,
        };
        let node = NodeReport {
            name: "a".to_owned(),
            incarnation: 1,
            applied: 7,
            digest: 1,
            health: "behind".to_owned(),
            behind_ms: 300,
            server: "n2".to_owned(),
            version: "0".to_owned(),
        };
        let mut status = ClusterStatus { stream, nodes: vec![node] };
        assert!(show("T", &status).ends_with(
            "server   n3: behind, or away\nnode     a: behind, behind since 300 ms, applied 7 (lag 2), by n2, version 0"
        ));
        assert!(!is_well(&status, 3));
        status.stream.replicas[2].1 = true;
        assert!(!is_well(&status, 3));
        status.nodes[0].health = "good".to_owned();
        assert!(is_well(&status, 3));
        status.stream.flaw = Some("its `max_age` is 1, where 0 is needed".to_owned());
        assert!(!is_well(&status, 3));
        assert!(show("T", &status).contains("flaw     its `max_age`"));
        status.stream.flaw = None;
        status.nodes.clear();
        assert!(!is_well(&status, 3));
    }
}
