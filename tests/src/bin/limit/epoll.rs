//! The system calls that std has no name for.

#![allow(unsafe_code)] // A yardstick calls the kernel itself, with no runtime between.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub(crate) struct Epoll(OwnedFd);

#[derive(Clone, Copy)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

pub(crate) struct EpollEvents(Vec<libc::epoll_event>, usize);

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: takes no pointer; the descriptor that it returns is owned by nobody else.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open, checked above.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Edge-triggered, both ways: nothing has to be registered again when a socket is full.
    pub(crate) fn add(&self, fd: RawFd) -> io::Result<()> {
        let flags = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: flags as u32, u64: fd as u64 };
        // SAFETY: `event` lives through the call, which keeps no pointer to it.
        match unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn wait(&self, events: &mut EpollEvents) -> io::Result<()> {
        // SAFETY: the pointer and the length are those of one live vector.
        let n =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.0.as_mut_ptr(), events.0.len() as i32, -1) };
        events.1 = usize::try_from(n).unwrap_or(0);
        match io::Error::last_os_error() {
            error if n < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

impl EpollEvents {
    pub(crate) fn new(capacity: usize) -> EpollEvents {
        EpollEvents(vec![libc::epoll_event { events: 0, u64: 0 }; capacity], 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RawFd, Readiness)> {
        self.0[..self.1].iter().map(|event| {
            let flags = event.events as i32;
            let gone = flags & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0;
            let readable = flags & libc::EPOLLIN != 0 || gone;
            (event.u64 as RawFd, Readiness { readable, writable: flags & libc::EPOLLOUT != 0 })
        })
    }
}
