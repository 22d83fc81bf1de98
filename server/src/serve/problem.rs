//! Why a broker does not start, or goes on no longer: each problem in one sentence.

use std::{io, net::SocketAddr};

use tailwire_core::StoreError;
use tailwire_jetstream::Divergence;

use crate::{cluster::ClusterError, config::ListenAddress, machine};

/// Why the broker can't run, or no longer. Each is one sentence, and says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{}", listen_problem(listen, error))]
    Listen { listen: ListenAddress, error: io::Error },
    #[error("data folder {folder}: {error}{}", open_advice(error))]
    Open { folder: String, error: tailwire_storage::OpenError },
    #[error(
        "{0} can be reached by others, and everybody could read, write and delete there: say who may by a section [access] \
         of the settings file, listen on 127.0.0.1, or take the risk with --insecure-public"
    )]
    Public(SocketAddr),
    #[error("keys and revocations can't be read: {0}")]
    Records(tailwire_core::ReadError),
    #[error("can't start threads: {0}")]
    Threads(io::Error),
    #[error("{0}")]
    Cluster(Box<ClusterError>),
    #[error("the node stops, as what it has may differ from what others have: {0}")]
    Diverged(Divergence),
    #[error("the log could not be begun: {0}")]
    Begin(StoreError),
    #[error("the log could not be closed in good order: {0}")]
    Close(StoreError),
    #[error("the log's writer stopped unexpectedly; what was acknowledged is on disk")]
    Committer,
}

/// Advice to the operator of a log that can't be opened.
fn open_advice(error: &tailwire_storage::OpenError) -> &'static str {
    use tailwire_storage::OpenError::{Corrupt, Io, Short};
    match error {
        Short(_) => {
            "; look first, with `tailwire log check`; then restore a backup, mend it with `tailwire log repair`, \
             or start once with --accept-loss to go on with what is left"
        }
        Corrupt(_) => {
            "; `tailwire log check` tells what is wrong, `tailwire log repair` saves what can be read"
        }
        Io(why) if why.contains("No space left") => "; opening a log writes some MB: make room",
        _ => "",
    }
}

fn listen_problem(listen: &ListenAddress, error: &io::Error) -> String {
    let ListenAddress { host, port } = listen;
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} of {host} is in use; choose another with --listen"),
        io::ErrorKind::PermissionDenied => {
            format!("this user may not listen on port {port}; choose one above 1023 with --listen")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no address {host}; choose another with --listen")
        }
        _ => format!("can't listen on {listen}: {}", machine::describe(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_one_sentence() {
        let listen = ListenAddress { host: "127.0.0.1".to_owned(), port: 80 };
        let text = |kind: io::ErrorKind| listen_problem(&listen, &kind.into());
        assert_eq!(
            text(io::ErrorKind::AddrInUse),
            "port 80 of 127.0.0.1 is in use; choose another with --listen"
        );
        assert!(text(io::ErrorKind::PermissionDenied).contains("above 1023"));
    }
}
