//! A client's socket, which takes as much at a time as the test draws, lent to the shard and taken back.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem,
    sync::{Arc, Mutex},
};

use tailwire_core::{Reader, Sink, Slice};
use tokio::time::Instant;

use crate::{oracle::Told, simulation::World};

/// See the module.
#[derive(Default)]
pub(crate) struct Socket(Mutex<State>);

#[derive(Default)]
struct State {
    /// What each of the next writes takes at most; all of it, when there are no more of them.
    room: VecDeque<usize>,
    taken: Vec<u8>,
    last: Option<Instant>,
}

impl Sink for Socket {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock().expect("nobody panicked");
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let count = state.room.pop_front().unwrap_or(usize::MAX).min(bytes.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.taken.extend(&bytes[..count]);
        state.last = Some(Instant::now());
        Ok(count)
    }
}

impl Socket {
    /// Lends it, most of the time.
    pub(crate) fn lend(self: &Arc<Self>, world: &mut World, reader: &Reader) {
        if world.random.percent(20) {
            return;
        }
        let mut state = self.0.lock().expect("nobody panicked");
        state.room.clear();
        while world.random.percent(40) {
            state.room.push_back([usize::MAX, world.random.below(30)][world.random.below(2)]);
        }
        drop(state);
        reader.lend(self.clone());
    }

    /// Takes it back, if it is lent, and tells the oracle what it was given, and what it is owed.
    pub(crate) fn take_back(&self, world: &mut World, reader: &mut Reader, told: &mut Told) {
        let owed = reader.take_back();
        let mut state = self.0.lock().expect("nobody panicked");
        let mut bytes = mem::take(&mut state.taken);
        if let Some(owed) = owed {
            let all: Vec<u8> = owed.slices.iter().flat_map(|slice: &Slice| slice.encoded(0)).collect();
            assert!(bytes.ends_with(&all[..owed.written]) && owed.written < all.len(), "what is owed");
            bytes.extend(&all[owed.written..]);
        }
        let Some(last) = state.last.take() else { return };
        let positions = bytes.chunks(8).map(|chunk| u64::from_be_bytes(chunk.try_into().expect("whole")));
        world.trace.push(format!("lent {:?}", positions.clone().collect::<Vec<_>>()));
        told.takes(&world.oracle, positions, last);
        world.cursors.push(world.oracle.cursor_at(told.position));
    }
}
