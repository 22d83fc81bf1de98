//! Room on the disk: whether there is enough for messages that come, and for tidying up. The kernel is asked before each
//! commit where room is short, and a few times a second where there is plenty.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Room that the disk must have beyond what a commit brings. The engine does not recover from a full disk without
/// being opened again, so the log stops first, with enough left to trim, tidy and close.
const RESERVE_BYTES: u64 = 32 << 20;
/// Of that, what others must have left for the log to trim and to tidy: both write before they give anything back.
const TIDY_BYTES: u64 = 8 << 20;
/// The engine writes a message more than once: as it comes, and again with its page.
const WRITE_FACTOR: u64 = 4;
/// From so many free bytes on an answer of the kernel holds for [`ASK_EVERY`]: no other program fills them in that time.
const PLENTY_BYTES: u64 = 2 << 30;
const ASK_EVERY: Duration = Duration::from_millis(100);

/// The free bytes of the disk that a folder is on.
pub(crate) struct Room {
    dir: Box<Path>,
    plenty: Mutex<Option<Plenty>>,
}

/// An answer of the kernel that still holds, less what was granted since.
struct Plenty {
    asked: Instant,
    available: u64,
}

impl Room {
    pub(crate) fn of(dir: &Path) -> Self {
        Self { dir: dir.into(), plenty: Mutex::default() }
    }

    /// Whether there is room for `bytes` more of messages. An unknown answer is yes: then the commit will tell.
    pub(crate) fn suffices(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let available = self.available(bytes.saturating_mul(WRITE_FACTOR));
        available.is_none_or(|available| suffices(available, bytes))
    }

    /// Whether there is room for what frees room in the end: trims, options, and what tidying writes.
    pub(crate) fn suffices_to_tidy(&self) -> bool {
        self.available(0).is_none_or(|available| available >= TIDY_BYTES)
    }

    /// The free bytes, of which some are about to be taken.
    fn available(&self, taken: u64) -> Option<u64> {
        let mut plenty = self.plenty.lock();
        if let Some(known) = &mut *plenty
            && known.asked.elapsed() < ASK_EVERY
            && known.available >= PLENTY_BYTES.saturating_add(taken)
        {
            known.available -= taken;
            return Some(known.available + taken);
        }
        let available = fs2::available_space(&self.dir).ok()?;
        *plenty = Some(Plenty { asked: Instant::now(), available: available.saturating_sub(taken) });
        Some(available)
    }
}

fn suffices(available: u64, bytes: u64) -> bool {
    available >= RESERVE_BYTES.saturating_add(bytes.saturating_mul(WRITE_FACTOR))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_disk_is_full_before_the_engine_finds_out() {
        assert!(suffices(RESERVE_BYTES + 400, 100));
        assert!(!suffices(RESERVE_BYTES + 399, 100));
        assert!(!suffices(u64::MAX - 1, u64::MAX));
    }

    #[test]
    fn an_answer_holds_only_while_there_is_plenty_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::of(dir.path());
        let known = |available| *room.plenty.lock() = Some(Plenty { asked: Instant::now(), available });
        let real = fs2::available_space(dir.path()).unwrap();

        known(PLENTY_BYTES + 100);
        assert_eq!(room.available(60), Some(PLENTY_BYTES + 100));
        assert_eq!(room.available(40), Some(PLENTY_BYTES + 40));
        // Less than plenty is left: the kernel is asked, and others may have taken or given some of what it says.
        known(1);
        assert!(room.available(0).unwrap() > real / 2);
    }
}
