//! The process's requests to its machine: colour, open files, memory pages, threads, a listening socket.

use std::{
    env,
    fs::{self, Permissions},
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::runtime::{Builder, Runtime};

use crate::config::Threads;

/// Connections that the system holds while none is accepted: a thousand clients that come back at once after a restart
/// must not run into refusals. The system cuts it to its own limit.
const BACKLOG: i32 = 4096;

/// Whether colour may be used where there is a terminal: `NO_COLOR` by its convention, and terminals that have none.
#[allow(clippy::disallowed_methods, reason = "the binary reads the environment")]
pub(crate) fn colour_is_welcome() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb
}

/// Raises the soft limit of open files to the hard one, and says what it is: every connection is a file, and the usual
/// soft limit of 1,024 is for programs that use `select`.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Keeps the kernel from backing memory with pages of 2 MB, of which a process that holds many small things for many
/// connections fills little: they are half of what it takes otherwise, and save it no time.
#[cfg(target_os = "linux")]
pub(crate) fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay");
    }
}

/// Other systems back memory with huge pages only on request.
#[cfg(not(target_os = "linux"))]
pub(crate) fn use_small_pages() {}

/// Niceness of a thread that reads the log: under full load it gets a tenth of the share of the others. Not less, because
/// others wait for its locks, if only for moments, and a reader that catches up must get on.
#[cfg(target_os = "linux")]
const CATCH_UP_NICENESS: i32 = 10;

/// Lowers the calling thread's priority, so that commits and deliveries go before it. On systems without priorities of
/// threads it does nothing.
pub(crate) fn lower_priority() {
    #[cfg(target_os = "linux")]
    // On Linux a niceness is a thread's own, and the system keeps it to its greatest.
    if let Err(error) = rustix::process::nice(CATCH_UP_NICENESS) {
        tracing::debug!(%error, "a thread's priority could not be lowered");
    }
}

/// Begins this process's program anew in the same process, with the same arguments: all that it had open is closed, as by a kill.
/// Comes back only with the reason why that can't be done.
pub(crate) fn start_over() -> io::Error {
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).exec()
}

/// The name of this machine, with a port.
pub(crate) fn name(port: u16) -> String {
    let name = rustix::system::uname();
    format!("{}:{port}", name.nodename().to_string_lossy())
}

/// The runtime that accepts, parses, publishes and answers.
pub(crate) fn front_runtime(threads: Threads) -> io::Result<Runtime> {
    let workers = if threads.front == 0 { half_of_the_cores() } else { threads.front };
    Builder::new_multi_thread().worker_threads(workers).thread_name("front").enable_all().build()
}

/// How many shards of delivery there are, each with a thread of its own.
pub(crate) fn delivery_shards(threads: Threads) -> usize {
    if threads.delivery == 0 { half_of_the_cores() } else { threads.delivery }
}

/// Default threads of each side: either of them may be the busy one, and neither may starve the other.
fn half_of_the_cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.div_ceil(2)
}

/// Listens on the first of the name's addresses that can be had.
pub(crate) fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    // `localhost` is both families on most machines; clients that are given 127.0.0.1 are the more common ones.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for the last run's connections to fade. Another listener still keeps the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Listens on a Unix socket, whose file gets these permissions. One that a killed process has left is replaced.
pub(crate) fn listen_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let (socket, address) = (Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?);
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    // Nobody can connect before it listens.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether a path is a socket on which nobody listens.
fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A system error in words, without its number.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_and_a_free_one_is_not() {
        let first = listen("127.0.0.1", 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listen("127.0.0.1", port);
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_that_was_left_is_replaced_and_another_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.sock");
        let first = listen_unix(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listen_unix(&path, 0o660).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(listen_unix(&path, 0o666).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(listen_unix(&path, 0o660).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn localhost_is_ipv4_where_there_is_any() {
        let listener = listen("localhost", 0).unwrap();
        assert!(listener.local_addr().unwrap().is_ipv4());
    }

    #[test]
    fn system_errors_read_as_words() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(describe(&error), "no such file or directory");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_calling_thread_gets_a_lower_priority() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let lowered = std::thread::spawn(move || {
            lower_priority();
            niceness()
        });
        assert_eq!((lowered.join().unwrap(), niceness()), ((before + CATCH_UP_NICENESS).min(19), before));
    }

    #[test]
    fn open_files_end_at_the_hard_limit() {
        let once = raise_open_files().unwrap();
        assert_eq!(raise_open_files().unwrap(), once);
    }
}
