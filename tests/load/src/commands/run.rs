//! A run that delivers: subscribers in threads of their own, what is published once all are there, and
//! the wait until each has had what its share of the run has.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::connect::LoadTarget;
use crate::error::LoadError;
use crate::measure::process;
use crate::measure::process::{CpuMeter, MeasuredServer};
use crate::measure::report::Progress;
use crate::measure::topic_set::TopicShare;
use crate::publishing::failed::FailedPublishes;
use crate::publishing::outcome::PublishOutcome;
use crate::publishing::plan::PublishPlan;
use crate::publishing::publisher::LoadPublisher;
use crate::subscribing::subscribers::{LoadSubscribers, SubscribePlan};

/// The wait for what is still on its way, counted from the last message that came.
const QUIET: Duration = Duration::from_secs(5);
/// How long a subscriber thread may wait for bytes before it looks whether the run is over.
const TURN: Duration = Duration::from_millis(50);

/// The deliveries of a run, and their cost.
pub(crate) struct Delivered {
    pub(crate) subscribers: Vec<LoadSubscribers>,
    /// Messages that each publisher sent.
    pub(crate) sent: Vec<u32>,
    /// Those that were not acknowledged, and so need not have been delivered.
    pub(crate) failed: FailedPublishes,
    /// Why the server takes no connections, if it went away meanwhile.
    pub(crate) gone: Option<String>,
    /// Of the topics.
    pub(crate) parts: usize,
    pub(crate) start_ns: u64,
    pub(crate) cpu: process::CpuUsed,
}

/// State shared by the threads of a run.
struct RunBoard {
    opened: AtomicUsize,
    /// Messages that each publisher sent; known once publishing is over.
    sent: OnceLock<Vec<u32>>,
    stop: AtomicBool,
}

/// Opens the subscribers, publishes, and waits until all is delivered.
pub(crate) fn deliver(
    readers: &SubscribePlan,
    writers: PublishPlan,
    threads: usize,
    server: Option<MeasuredServer>,
) -> Result<(PublishOutcome, Delivered), LoadError> {
    let board = RunBoard::default();
    let mut progress = Progress::new();
    thread::scope(|scope| {
        let (handles, opened) = spawn(scope, readers, threads, &board);
        let published = (|| {
            for _ in &handles {
                wait_opened(&opened, &board, readers.which.len(), &mut progress)?;
            }
            let publisher = LoadPublisher::open(writers)?;
            let (meter, start_ns) = (CpuMeter::start(server), readers.run.now_ns());
            let outcome =
                publisher.run(|now| progress.show(|| format!("{} messages published", now.messages)))?;
            Ok((outcome, meter, start_ns))
        })();
        board.tell(published.as_ref().map(|(outcome, ..)| outcome));
        let joined: Result<Vec<_>, _> = handles.into_iter().map(join).collect();
        // A thread that failed made the publishing fail as well, and knows better why.
        let (subscribers, (outcome, meter, start_ns)) = (joined?, published?);
        let cpu = meter.used();
        let (sent, failed) = (outcome.sent.clone(), outcome.failed.clone());
        let gone = outcome.gone.clone().or_else(|| gone(&readers.target, &subscribers));
        let parts = readers.topic_set.parts();
        Ok((outcome, Delivered { subscribers, sent, failed, gone, parts, start_ns, cpu }))
    })
}

/// Publishes to subscribers that are open already, and waits until all is delivered.
pub(crate) fn deliver_to(
    mut subscribers: Vec<LoadSubscribers>,
    writers: PublishPlan,
    server: Option<MeasuredServer>,
) -> Result<Delivered, LoadError> {
    let (board, parts, target) = (&RunBoard::default(), writers.topic_set.parts(), writers.target.clone());
    let (meter, start_ns) = (CpuMeter::start(server), writers.run.now_ns());
    let outcome = thread::scope(|scope| {
        let start = |one| scope.spawn(move || follow(one, parts, board));
        let handles: Vec<_> = subscribers.iter_mut().map(start).collect();
        let published = LoadPublisher::open(writers).and_then(|publisher| publisher.run(|_| {}));
        board.tell(published.as_ref());
        handles.into_iter().try_for_each(join)?;
        published
    })?;
    let cpu = meter.used();
    let PublishOutcome { sent, failed, .. } = outcome;
    let gone = outcome.gone.or_else(|| gone(&target, &subscribers));
    Ok(Delivered { subscribers, sent, failed, gone, parts, start_ns, cpu })
}

/// Opens subscribers that have everything to read already: so many messages of one publisher.
pub(crate) fn replay(
    readers: &SubscribePlan,
    messages: u32,
    threads: usize,
    server: Option<MeasuredServer>,
) -> Result<Delivered, LoadError> {
    let board = RunBoard { sent: OnceLock::from(vec![messages]), ..RunBoard::default() };
    let (meter, start_ns) = (CpuMeter::start(server), readers.run.now_ns());
    let joined: Result<Vec<_>, _> = thread::scope(|scope| {
        let (handles, _opened) = spawn(scope, readers, threads, &board);
        handles.into_iter().map(join).collect()
    });
    let subscribers = joined?;
    let (cpu, parts) = (meter.used(), readers.topic_set.parts());
    let (sent, failed, gone) =
        (vec![messages], FailedPublishes::default(), gone(&readers.target, &subscribers));
    Ok(Delivered { subscribers, sent, failed, gone, parts, start_ns, cpu })
}

/// Why the server takes no connections, if some of the subscribers ended.
pub(crate) fn gone(target: &LoadTarget, subscribers: &[LoadSubscribers]) -> Option<String> {
    let ended = subscribers.iter().any(|one| !one.incidents().ended.is_empty());
    ended.then(|| target.gone()).flatten()
}

impl Default for RunBoard {
    fn default() -> RunBoard {
        RunBoard { opened: AtomicUsize::new(0), sent: OnceLock::new(), stop: AtomicBool::new(false) }
    }
}

impl RunBoard {
    /// Publishing is over: so much is to come, or there is nothing to wait for.
    fn tell(&self, published: Result<&PublishOutcome, &LoadError>) {
        match published {
            Ok(outcome) => _ = self.sent.set(outcome.sent.clone()),
            Err(_) => self.stop.store(true, Ordering::Release),
        }
    }
}

impl Delivered {
    /// How many messages a subscriber with this share should have had.
    pub(crate) fn expected(&self, share: TopicShare) -> u64 {
        share.expected(self.parts, &self.sent)
    }
}

type Handle<'scope, T> = thread::ScopedJoinHandle<'scope, Result<T, LoadError>>;

/// Starts the subscriber threads. Each says once whether it could open its subscribers.
fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    readers: &'scope SubscribePlan,
    threads: usize,
    board: &'scope RunBoard,
) -> (Vec<Handle<'scope, LoadSubscribers>>, mpsc::Receiver<bool>) {
    let (ready, opened) = mpsc::channel();
    let start = |part| {
        let ready = ready.clone();
        scope.spawn(move || listen(SubscribePlan { which: part, ..readers.clone() }, board, &ready))
    };
    (parts(&readers.which, threads).into_iter().map(start).collect(), opened)
}

/// Cuts a range into so many parts, or fewer, none of them empty.
fn parts(whole: &Range<usize>, count: usize) -> Vec<Range<usize>> {
    let count = count.clamp(1, whole.len().max(1));
    let cut = |at: usize| whole.start + whole.len() * at / count;
    (0..count).map(|at| cut(at)..cut(at + 1)).collect()
}

fn join<T>(handle: Handle<'_, T>) -> Result<T, LoadError> {
    handle.join().unwrap_or_else(|_| Err(LoadError("a subscriber thread panicked".to_owned())))
}

/// Waits until one more thread has opened its subscribers.
fn wait_opened(
    opened: &mpsc::Receiver<bool>,
    board: &RunBoard,
    count: usize,
    progress: &mut Progress,
) -> Result<(), LoadError> {
    loop {
        match opened.recv_timeout(Duration::from_millis(100)) {
            Ok(true) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let ready = board.opened.load(Ordering::Relaxed);
                progress.show(|| format!("{ready} of {count} subscribed"));
            }
            Ok(false) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(LoadError("the subscribers could not be opened".to_owned()));
            }
        }
    }
}

/// A subscriber thread.
fn listen(
    plan: SubscribePlan,
    board: &RunBoard,
    ready: &mpsc::Sender<bool>,
) -> Result<LoadSubscribers, LoadError> {
    let parts = plan.topic_set.parts();
    let opened = LoadSubscribers::open(plan, |more| {
        board.opened.fetch_add(more, Ordering::Relaxed);
    });
    // The other end waits for this; if it has gone, the run is over, or has begun already.
    let _ = ready.send(opened.is_ok());
    let mut subscribers = opened?;
    follow(&mut subscribers, parts, board)?;
    Ok(subscribers)
}

/// Takes what comes, until each has had all that its share has, or nothing has come for long.
fn follow(subscribers: &mut LoadSubscribers, parts: usize, board: &RunBoard) -> Result<(), LoadError> {
    let mut last = (subscribers.last_ns(), Instant::now());
    while !board.stop.load(Ordering::Acquire) {
        let sent = board.sent.get();
        if sent.is_none() || subscribers.last_ns() != last.0 {
            last = (subscribers.last_ns(), Instant::now());
        }
        if let Some(sent) = sent {
            let has_all = subscribers.have_all(|share| share.expected(parts, sent));
            if has_all || last.1.elapsed() > QUIET {
                break;
            }
        }
        subscribers.turn(TURN)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_whole_and_none_is_empty() {
        assert_eq!(parts(&(5..12), 3), [5..7, 7..9, 9..12]);
        for count in [0, 1, 2, 7, 9] {
            let parts = parts(&(5..12), count);
            assert!(
                parts.len() == count.clamp(1, 7) && parts.iter().all(|part| !part.is_empty()),
                "{parts:?}"
            );
            assert!(parts.into_iter().flatten().eq(5..12), "{count} parts");
        }
    }
}
