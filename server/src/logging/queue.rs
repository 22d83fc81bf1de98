//! The queue between the threads that log and the one that writes to stderr. A thread that serves never waits for the
//! reader of stderr: what the queue has no room for is dropped and counted.

use std::{
    io::{self, Write},
    sync::OnceLock,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Bytes of lines that wait; as many may be under way in the write that blocks. Some thousand lines: enough for a reader
/// that pauses for a moment, and little beside what the broker takes otherwise.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// How often a writer looks again whether a non-blocking stderr takes bytes.
const RETRY: Duration = Duration::from_millis(20);

/// Lines that wait to be written.
pub(super) struct LogQueue {
    state: Mutex<LineQueueState>,
    /// There are lines.
    filled: Condvar,
    /// All lines are written.
    drained: Condvar,
    on_drop: OnceLock<OnLoss>,
}

/// Called for every line that is lost.
pub(super) type OnLoss = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct LineQueueState {
    bytes: Vec<u8>,
    writing: bool,
    /// Lines dropped since the last report of them.
    dropped: u64,
    /// Lines dropped before there was somebody to count them.
    uncounted: u64,
}

/// The outcome of a wait for lines.
pub(super) enum QueueWait {
    /// Lines to write.
    Lines(Vec<u8>),
    /// None came in time.
    TimedOut,
}

impl LogQueue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            on_drop: OnceLock::new(),
        }
    }

    /// Has every dropped line counted, those before this call too.
    pub(super) fn count_dropped(&self, count: OnLoss) {
        let mut state = self.state.lock();
        (0..std::mem::take(&mut state.uncounted)).for_each(|_| count());
        // Only the start of the broker calls this; a second counter would change nothing.
        let _ = self.on_drop.set(count);
    }

    /// Takes a line, or drops it where there is no room. Never waits for the writer.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.bytes.len() + line.len() > QUEUE_BYTES_MAX {
            self.drop_lines(&mut state, 1);
        } else {
            state.bytes.extend_from_slice(line);
            self.filled.notify_one();
        }
    }

    /// Waits for lines, and takes them all; without a timeout as long as it takes.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> QueueWait {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.state.lock();
        while state.bytes.is_empty() {
            let Some(deadline) = deadline else {
                self.filled.wait(&mut state);
                continue;
            };
            if self.filled.wait_until(&mut state, deadline).timed_out() && state.bytes.is_empty() {
                return QueueWait::TimedOut;
            }
        }
        state.writing = true;
        QueueWait::Lines(std::mem::take(&mut state.bytes))
    }

    /// Writes lines that were taken, for as long as the output blocks. If that succeeds, answers how many lines were
    /// dropped since the last report: only an output that takes lines can get the report, and only a queue that has room takes the
    /// report.
    pub(super) fn write(&self, lines: &[u8], output: &mut impl Write) -> u64 {
        let written = write_whole(lines, output);
        let mut state = self.state.lock();
        state.writing = false;
        if written.is_err() {
            let count = lines.iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.drop_lines(&mut state, count);
        }
        if state.bytes.is_empty() {
            self.drained.notify_all();
        }
        let has_room = state.bytes.len() < QUEUE_BYTES_MAX / 2;
        if written.is_ok() && has_room { std::mem::take(&mut state.dropped) } else { 0 }
    }

    /// Waits until all lines are written, but no longer than this.
    pub(super) fn flush(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut state = self.state.lock();
        while state.writing || !state.bytes.is_empty() {
            if self.drained.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    fn drop_lines(&self, state: &mut LineQueueState, count: u64) {
        state.dropped += count;
        match self.on_drop.get() {
            Some(on_drop) => (0..count).for_each(|_| on_drop()),
            None => state.uncounted += count,
        }
    }
}

/// The formatter writes a whole line at a time.
impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `write_all` that also waits for an output that another process has made non-blocking.
fn write_whole(mut bytes: &[u8], output: &mut impl Write) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    fn taken(queue: &LogQueue) -> Vec<u8> {
        match queue.wait(Some(Duration::ZERO)) {
            QueueWait::Lines(lines) => lines,
            QueueWait::TimedOut => Vec::new(),
        }
    }

    #[test]
    fn lines_beyond_the_bound_are_dropped_counted_and_reported_once() {
        let queue = LogQueue::new();
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        (0..1026).for_each(|_| queue.push(&line));
        let counted = Arc::new(AtomicU64::new(0));
        let count = counted.clone();
        queue.count_dropped(Box::new(move || _ = count.fetch_add(1, Ordering::Relaxed)));
        queue.push(&line);
        assert_eq!(counted.load(Ordering::Relaxed), 3);
        let lines = taken(&queue);
        assert_eq!(lines.len(), QUEUE_BYTES_MAX);
        let mut output = Vec::new();
        assert_eq!(queue.write(&lines, &mut output), 3);
        assert_eq!(output, lines);
        queue.push(b"after\n");
        let lines = taken(&queue);
        assert_eq!(queue.write(&lines, &mut output), 0);
    }

    #[test]
    fn a_queue_that_is_still_full_takes_no_report() {
        let queue = LogQueue::new();
        queue.push(b"under way\n");
        let under_way = taken(&queue);
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        (0..1030).for_each(|_| queue.push(&line));
        assert_eq!(queue.write(&under_way, &mut io::sink()), 0);
        let lines = taken(&queue);
        assert_eq!(queue.write(&lines, &mut io::sink()), 6);
    }

    #[test]
    fn an_output_that_fails_is_not_told_what_it_lost_before_it_works_again() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = LogQueue::new();
        queue.push(b"one\ntwo\n");
        let lines = taken(&queue);
        assert_eq!(queue.write(&lines, &mut Full), 0);
        queue.push(b"three\n");
        let lines = taken(&queue);
        assert_eq!(queue.write(&lines, &mut io::sink()), 2);
    }

    #[test]
    fn a_flush_waits_for_a_blocked_output_no_longer_than_it_may() {
        let queue = LogQueue::new();
        queue.flush(Duration::from_secs(60));
        queue.push(b"stuck\n");
        let lines = taken(&queue);
        queue.flush(Duration::from_millis(1));
        queue.write(&lines, &mut io::sink());
        queue.flush(Duration::from_secs(60));
    }
}
