//! A port that clients connect to, with faults of its own. It knows who is told of a change, not what it means.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

use crate::connection::{self, FaultyNetwork};
use crate::mode::Mode;

/// Breaks that a connection has not looked at yet. The first of them is all that it needs.
const BREAKS_PENDING: usize = 16;

pub(crate) struct Port {
    number: u16,
    network: FaultyNetwork,
}

impl Port {
    pub(crate) async fn open(broker: SocketAddr, mode: Mode) -> io::Result<Port> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let number = listener.local_addr()?.port();
        let network = FaultyNetwork {
            broker,
            mode: watch::Sender::new(Arc::new(mode)),
            breaks: broadcast::Sender::new(BREAKS_PENDING),
        };
        tokio::spawn(accept(listener, network.clone()));
        Ok(Port { number, network })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn turn(&self, mode: Mode) {
        let breaks = mode.breaks;
        self.network.mode.send_replace(Arc::new(mode));
        if let Some(breaks) = breaks {
            // Without a connection there is nobody to tell.
            let _ = self.network.breaks.send(breaks);
        }
    }
}

async fn accept(listener: TcpListener, network: FaultyNetwork) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let network = network.clone();
                // That a connection ends badly is what this program is for.
                tokio::spawn(async move { connection::run(socket, &network).await.ok() });
            }
            // The client was gone before it was let in.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return eprintln!("proxy: accept: {error}"),
        }
    }
}
