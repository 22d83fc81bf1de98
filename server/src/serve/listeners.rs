//! The sockets that the broker listens on: opened before anything else, since a mistaken second start must find them taken
//! before it touches the log; the files of Unix sockets are removed when the broker drains.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use listenfd::ListenFd;
use tailwire_http::{Listener, ListenerRules};

use crate::{
    config::{ListenAddress, ListenSettings, ServeSettings},
    machine,
    tls::ListenerTls,
};

/// All listeners of the broker.
pub(super) struct Listeners {
    /// Those for clients, and behind them that for operators, if there is one.
    pub(super) all: Vec<Listener>,
    /// Where each of those for clients listens.
    pub(super) bound: Vec<BoundListener>,
    /// Where that for operators does.
    pub(super) operations: Option<ListenPlace>,
    /// Files of Unix sockets, which outlive the sockets.
    pub(super) files: Vec<PathBuf>,
}

/// Where a listener for clients listens, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BoundListener {
    pub(super) place: ListenPlace,
    pub(super) is_tls: bool,
    pub(super) is_read_only: bool,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListenPlace {
    /// With the port that the system chose.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl ListenPlace {
    /// Its address, if other machines can reach it.
    pub(super) fn public(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) if !address.ip().is_loopback() => Some(*address),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

/// Why the broker can't listen.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error("{}", problem(listen, error, flag))]
    Socket { listen: ListenAddress, error: io::Error, flag: &'static str },
    #[error("{listen} is taken by another listener of this broker; choose another with {flag}")]
    Twice { listen: ListenAddress, flag: &'static str },
    #[error(
        "{0} can be reached by others, and everybody could read, write and delete there: say who may by a section [access] \
         of the settings file, listen on 127.0.0.1, or take the risk with --insecure-public"
    )]
    Public(SocketAddr),
    #[error(
        "no socket {0} is passed to listen on: systemd:{0} needs socket activation, as by a unit tailwire.socket"
    )]
    NotPassed(usize),
    #[error("socket {0} is passed, and no listener is for it: add systemd:{0} to `listen`, or don't pass it")]
    Unused(usize),
}

/// Opens all sockets. `passed` are those that the service manager has opened.
pub(super) fn open(
    settings: &ServeSettings,
    tls: Option<&ListenerTls>,
    passed: ListenFd,
) -> Result<Listeners, ListenError> {
    let mut own = Listeners { all: Vec::new(), bound: Vec::new(), operations: None, files: Vec::new() };
    match own.open_all(settings, tls, passed) {
        Ok(()) => Ok(own),
        Err(error) => {
            remove(&own.files);
            Err(error)
        }
    }
}

impl Listeners {
    fn open_all(
        &mut self,
        settings: &ServeSettings,
        tls: Option<&ListenerTls>,
        mut passed: ListenFd,
    ) -> Result<(), ListenError> {
        let refuses_public = settings.access.is_none() && !settings.insecure_public;
        let proxies = Arc::new(settings.trusted_proxies.clone());
        for listen in &settings.listen {
            let (listener, place) = self.open(&listen.address, listen.mode, &mut passed, "--listen")?;
            if let Some(address) = place.public().filter(|_| refuses_public) {
                return Err(ListenError::Public(address));
            }
            let tls = tls.filter(|_| listen.tls && matches!(place, ListenPlace::Tcp(_)));
            let is_read_only = listen.read_only;
            let rules = ListenerRules {
                tls: tls.map(ListenerTls::config),
                proxy_protocol: listen.proxy_protocol.then(|| proxies.clone()),
                read_only: is_read_only,
                operations: false,
            };
            self.all.push(listener.with(rules));
            self.bound.push(BoundListener { place, is_tls: tls.is_some(), is_read_only });
        }
        if let Some(address) = &settings.admin_listen {
            let mode = ListenSettings::default().mode;
            let (listener, place) = self.open(address, mode, &mut passed, "--admin-listen")?;
            if let Some(address) = place.public() {
                tracing::warn!(%address, "others can reach the listener for operations, and see metrics there");
            }
            self.all.push(listener.with(ListenerRules { operations: true, ..ListenerRules::default() }));
            self.operations = Some(place);
        }
        match (0..passed.len()).find(|&number| passed.take_raw_fd(number).ok().flatten().is_some()) {
            Some(number) => Err(ListenError::Unused(number)),
            None => Ok(()),
        }
    }

    fn open(
        &mut self,
        listen: &ListenAddress,
        mode: u32,
        passed: &mut ListenFd,
        flag: &'static str,
    ) -> Result<(Listener, ListenPlace), ListenError> {
        let is_ours = self.has(listen);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse if is_ours => ListenError::Twice { listen: listen.clone(), flag },
            _ => ListenError::Socket { listen: listen.clone(), error, flag },
        };
        match listen {
            ListenAddress::Tcp(host, port) => machine::listen(host, *port).and_then(tcp).map_err(failed),
            ListenAddress::Unix(path) => {
                let socket = machine::listen_unix(path, mode).map_err(failed)?;
                self.files.push(path.clone());
                unix(socket, path).map_err(failed)
            }
            ListenAddress::Passed(number) => {
                // One that is no socket of TCP stays where it is.
                if let Ok(Some(socket)) = passed.take_tcp_listener(*number) {
                    return socket.set_nonblocking(true).and_then(|()| tcp(socket)).map_err(failed);
                }
                let socket = passed.take_unix_listener(*number).map_err(failed)?;
                let socket = socket.ok_or(ListenError::NotPassed(*number))?;
                let address = socket.local_addr().map_err(failed)?;
                let path = address.as_pathname().unwrap_or(Path::new("?")).to_owned();
                socket.set_nonblocking(true).and_then(|()| unix(socket, &path)).map_err(failed)
            }
        }
    }

    /// Whether one of these may be what an address is taken by.
    fn has(&self, listen: &ListenAddress) -> bool {
        let mut places = self.bound.iter().map(|bound| &bound.place);
        places.any(|place| match (place, listen) {
            (ListenPlace::Tcp(own), ListenAddress::Tcp(_, port)) => own.port() == *port,
            (ListenPlace::Unix(own), ListenAddress::Unix(path)) => own == path,
            _ => false,
        })
    }
}

/// Removes the files of Unix sockets that the broker no longer listens on.
pub(super) fn remove(files: &[PathBuf]) {
    for path in files {
        if let Err(error) = fs::remove_file(path) {
            tracing::debug!(path = %path.display(), %error, "the file of a socket stays");
        }
    }
}

fn tcp(socket: std::net::TcpListener) -> io::Result<(Listener, ListenPlace)> {
    let address = socket.local_addr()?;
    Ok((tokio::net::TcpListener::from_std(socket)?.into(), ListenPlace::Tcp(address)))
}

fn unix(socket: std::os::unix::net::UnixListener, path: &Path) -> io::Result<(Listener, ListenPlace)> {
    Ok((tokio::net::UnixListener::from_std(socket)?.into(), ListenPlace::Unix(path.to_owned())))
}

fn problem(listen: &ListenAddress, error: &io::Error, flag: &str) -> String {
    match (listen, error.kind()) {
        (ListenAddress::Tcp(host, port), io::ErrorKind::AddrInUse) => {
            format!("port {port} of {host} is in use; choose another with {flag}")
        }
        (ListenAddress::Tcp(_, port), io::ErrorKind::PermissionDenied) => {
            format!("this user may not listen on port {port}; choose one above 1023 with {flag}")
        }
        (ListenAddress::Tcp(host, _), io::ErrorKind::AddrNotAvailable) => {
            format!("this machine has no address {host}; choose another with {flag}")
        }
        (_, io::ErrorKind::AddrInUse) => format!("{listen} is in use by another process, or is no socket"),
        _ => format!("can't listen on {listen}: {}", machine::describe(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_one_sentence() {
        let listen = ListenAddress::Tcp("127.0.0.1".to_owned(), 80);
        let text = |kind: io::ErrorKind| problem(&listen, &kind.into(), "--admin-listen");
        assert_eq!(
            text(io::ErrorKind::AddrInUse),
            "port 80 of 127.0.0.1 is in use; choose another with --admin-listen"
        );
        assert!(text(io::ErrorKind::PermissionDenied).contains("above 1023"));
    }
}
