//! A client's socket, which takes as much at a time as the test draws, lent to the shard and taken back.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem,
    sync::{Arc, Mutex},
};

use tailwire_core::{Accepted, Reader, Sink, Slice};
use tokio::time::Instant;

use crate::{oracle::Received, simulation::World};

/// See the module.
#[derive(Default)]
pub(crate) struct Socket(Mutex<State>);

#[derive(Default)]
struct State {
    /// The most that each of the next writes takes, and whether it passes that on; all of it, when there are no more of
    /// them.
    room: VecDeque<(usize, bool)>,
    taken: Vec<u8>,
    last: Option<Instant>,
}

impl Sink for Socket {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<Accepted> {
        let mut state = self.0.lock().expect("nobody panicked");
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (room, is_clear) = state.room.pop_front().unwrap_or((usize::MAX, true));
        let count = room.min(bytes.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.taken.extend(&bytes[..count]);
        state.last = Some(Instant::now());
        Ok(Accepted { bytes: count, is_clear })
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
            let room = [usize::MAX, world.random.below(30)][world.random.below(2)];
            state.room.push_back((room, world.random.percent(70)));
        }
        drop(state);
        reader.lend(self.clone());
    }

    /// Takes it back, if it is lent, and tells the oracle what it was given, and the remainder of a partial write.
    pub(crate) fn take_back(&self, world: &mut World, reader: &mut Reader, received: &mut Received) {
        let remainder = reader.take_back();
        let mut state = self.0.lock().expect("nobody panicked");
        let mut bytes = mem::take(&mut state.taken);
        if let Some(remainder) = remainder {
            let all: Vec<u8> = remainder.slices.iter().flat_map(|slice: &Slice| slice.encoded(0)).collect();
            assert!(
                bytes.ends_with(&all[..remainder.written]) && remainder.written < all.len(),
                "a remainder"
            );
            bytes.extend(&all[remainder.written..]);
        }
        let Some(last) = state.last.take() else { return };
        let positions = bytes.chunks(8).map(|chunk| u64::from_be_bytes(chunk.try_into().expect("whole")));
        world.trace.push(format!("lent {:?}", positions.clone().collect::<Vec<_>>()));
        received.takes(&world.oracle, positions, last);
        world.cursors.push(world.oracle.cursor_at(received.position));
    }
}
