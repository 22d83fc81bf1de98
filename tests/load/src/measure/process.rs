//! Resources used by a process: CPU time by its own clock, memory by `/proc`.

#![allow(unsafe_code)] // Process clocks are system calls that std has no name for.

use std::fs;
use std::time::Duration;

use crate::error::LoadError;

/// The measured server's process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeasuredServer {
    pid: u32,
    clock: libc::clockid_t,
}

impl MeasuredServer {
    /// Fails if there is no such process, or no way to ask for its time.
    pub(crate) fn new(pid: u32) -> Result<MeasuredServer, LoadError> {
        let unknown = || LoadError(format!("--pid {pid}: no such process here"));
        let clock = cpu_clock(pid).ok_or_else(unknown)?;
        read_clock(clock).map(|_| MeasuredServer { pid, clock }).ok_or_else(unknown)
    }

    /// CPU time of all its threads so far, also of those that have ended.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        read_clock(self.clock)
    }

    /// Its resident memory in bytes; what the kernel holds for its sockets is not in it.
    pub(crate) fn resident(&self) -> Option<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid));
        let exact = rollup.ok().and_then(|text| kilobytes(&text, "Rss:"));
        // Older kernels have only this, whose counters may lag behind by some pages a thread.
        let status = || fs::read_to_string(format!("/proc/{}/status", self.pid)).ok();
        exact.or_else(|| kilobytes(&status()?, "VmRSS:"))
    }
}

/// CPU time that a part of a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuUsed {
    /// The server's; none if its process isn't known.
    pub(crate) server: Option<Duration>,
    pub(crate) bench: Duration,
}

/// Measures CPU time from its start on.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    watched: Option<MeasuredServer>,
    before: CpuUsed,
}

impl CpuMeter {
    pub(crate) fn start(server: Option<MeasuredServer>) -> CpuMeter {
        CpuMeter { watched: server, before: CpuUsed::so_far(server) }
    }

    pub(crate) fn used(&self) -> CpuUsed {
        let after = CpuUsed::so_far(self.watched);
        let server = after.server.zip(self.before.server);
        CpuUsed {
            server: server.map(|(after, before)| after.saturating_sub(before)),
            bench: after.bench.saturating_sub(self.before.bench),
        }
    }
}

impl CpuUsed {
    fn so_far(server: Option<MeasuredServer>) -> CpuUsed {
        CpuUsed { server: server.and_then(|one| one.cpu()), bench: own_cpu() }
    }
}

/// CPU time of this process so far.
fn own_cpu() -> Duration {
    read_clock(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

#[cfg(target_os = "linux")]
fn cpu_clock(pid: u32) -> Option<libc::clockid_t> {
    let mut clock = 0;
    // SAFETY: the pointer is to a live integer of the right type.
    let failed = unsafe { libc::clock_getcpuclockid(libc::pid_t::try_from(pid).ok()?, &raw mut clock) };
    (failed == 0).then_some(clock)
}

#[cfg(not(target_os = "linux"))]
fn cpu_clock(_pid: u32) -> Option<libc::clockid_t> {
    None
}

fn read_clock(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live struct of the right type.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (failed == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// A `/proc` file's `name   123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_a_line_of_kilobytes() {
        let text = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:               10240 kB\nPss:  1 kB\n";
        assert_eq!(kilobytes(text, "Rss:"), Some(10_485_760));
        assert_eq!(kilobytes(text, "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_can_be_watched_and_a_missing_one_is_an_error() {
        let own = MeasuredServer::new(std::process::id()).unwrap();
        let before = own.cpu().unwrap();
        assert!((0..1_000_000_u64).fold(1, |sum: u64, n| std::hint::black_box(sum ^ n)) > 0);
        assert!(own.cpu().unwrap() > before);
        assert!(own.resident().unwrap() > 0);
        assert!(MeasuredServer::new(u32::MAX).is_err());
    }
}
