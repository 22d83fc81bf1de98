//! What the process asks of its machine: where logs go, open files, threads, a socket.

use std::{
    io::{self, IsTerminal},
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    panic,
};

use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use crate::config::{Listen, Threads};

/// Connections that the system holds while none is accepted: a thousand clients that come back at once after a restart
/// must not run into refusals. The system cuts it to its own limit.
const BACKLOG: i32 = 4096;

/// Sends the log to stderr; stdout is for the person at the terminal.
pub(crate) fn log_to_stderr(directives: &str) {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(io::stderr)
        // It would panic where stderr can't be written, as on a full disk.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && colour_is_welcome())
        .init();
}

/// Leaves out what the storage engine prints when it panics over a damaged store: the panic is caught, and told in a
/// sentence. Every other panic is a fault of ours, and shown in full.
pub(crate) fn quiet_the_engine() {
    let show = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let of_engine = info.location().is_some_and(|location| location.file().contains("/sled-"));
        if of_engine {
            tracing::debug!(panic = %info, "the storage engine panicked");
        } else {
            show(info);
        }
    }));
}

/// Whether colour may be used where there is a terminal: `NO_COLOR` by its convention, and terminals that have none.
#[allow(clippy::disallowed_methods, reason = "the binary reads the environment")]
pub(super) fn colour_is_welcome() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb
}

/// Raises the soft limit of open files to the hard one, and says what it is: every connection is a file, and the usual
/// soft limit of 1,024 is for programs that use `select`.
#[allow(
    unsafe_code,
    reason = "two system calls without a safe face in std; both get a valid struct of our own"
)]
pub(super) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, exclusively borrowed rlimit for the length of the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit, only read by the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Keeps the kernel from backing memory with pages of 2 MB, of which a process that holds many small things for many
/// connections fills little: they are half of what it takes otherwise, and save it no time.
#[cfg(target_os = "linux")]
pub(super) fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay");
    }
}

/// There are none that come by themselves.
#[cfg(not(target_os = "linux"))]
pub(super) fn use_small_pages() {}

/// How much nicer a thread that reads the log is than the others: where there is not enough for all, it gets a tenth of
/// what they get. Not less, because others wait for what it holds, if only for moments, and who catches up must get on.
#[cfg(target_os = "linux")]
const STANDS_BACK: i32 = 10;

/// Has the calling thread give way to all others: to commits, and to deliveries. Where a system knows no such thing of
/// threads it stays as it is.
pub(super) fn stand_back() {
    #[cfg(target_os = "linux")]
    // On Linux a niceness is a thread's own, and the system keeps it to its greatest.
    if let Err(error) = rustix::process::nice(STANDS_BACK) {
        tracing::debug!(%error, "a thread's priority could not be lowered");
    }
}

/// The runtime that accepts, parses, publishes and answers.
pub(super) fn front_runtime(threads: Threads) -> io::Result<Runtime> {
    let workers = if threads.front == 0 { half_of_the_cores() } else { threads.front };
    Builder::new_multi_thread().worker_threads(workers).thread_name("front").enable_all().build()
}

/// How many shards of delivery there are, each with a thread of its own.
pub(super) fn delivery_shards(threads: Threads) -> usize {
    if threads.delivery == 0 { half_of_the_cores() } else { threads.delivery }
}

/// What each side gets when nobody says: either of them may be the busy one, and neither may starve the other.
fn half_of_the_cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.div_ceil(2)
}

/// Listens on the first of the name's addresses that can be had.
pub(super) fn listen(listen: &Listen) -> io::Result<TcpListener> {
    let mut addresses: Vec<SocketAddr> = (listen.host.as_str(), listen.port).to_socket_addrs()?.collect();
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

/// A system error in words, without its number.
pub(super) fn describe(error: &io::Error) -> String {
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
        let first = listen(&Listen { host: "127.0.0.1".to_owned(), port: 0 }).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listen(&Listen { host: "127.0.0.1".to_owned(), port });
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn localhost_is_ipv4_where_there_is_any() {
        let listener = listen(&Listen { host: "localhost".to_owned(), port: 0 }).unwrap();
        assert!(listener.local_addr().unwrap().is_ipv4());
    }

    #[test]
    fn system_errors_read_as_words() {
        let error = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(describe(&error), "no such file or directory");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_thread_that_stands_back_does() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let lowered = std::thread::spawn(move || {
            stand_back();
            niceness()
        });
        assert_eq!((lowered.join().unwrap(), niceness()), ((before + STANDS_BACK).min(19), before));
    }

    #[test]
    fn open_files_end_at_the_hard_limit() {
        let once = raise_open_files().unwrap();
        assert_eq!(raise_open_files().unwrap(), once);
    }
}
