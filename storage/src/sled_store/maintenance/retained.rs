//! What retention sees of the store: how much a topic holds, its oldest messages, and those of all topics in their order.

use tailwire_core::{
    StoreError,
    log::{Budget, TopicInfo},
};
use tailwire_model::{Filter, Message, Position, Timestamp, Topic};

use crate::{
    index::IdleTopic,
    retention::{RetentionView, SeenMessage},
    sled_store::SledStore,
};

/// Messages of a topic that one step of compaction looks at.
const STEP_COMPACTED: Budget = Budget { messages: 200, bytes: 1 << 20, scan_bytes: 1 << 20 };

impl RetentionView for SledStore {
    fn is_exact(&self) -> bool {
        self.recount.lock().is_done()
    }

    fn next_of(&self, topic: &Topic, after: Position) -> Result<(Vec<Message>, Position), StoreError> {
        let filter = Filter::from(topic.clone());
        let page = self.read_stored(&filter, after, Position::MAX, STEP_COMPACTED)?;
        Ok((page.messages, page.scanned))
    }

    fn has_volatile(&self, topic: &Topic) -> bool {
        self.ring.read().has(topic)
    }

    fn size(&self, topic: &Topic) -> (u64, u64) {
        self.index.read().size(topic.as_str())
    }

    fn bytes(&self) -> u64 {
        self.index.read().bytes()
    }

    fn idle(&self, from: u32, now: Timestamp, after_ms: u64) -> (Vec<IdleTopic>, Option<u32>) {
        self.index.read().idle(from, now, after_ms)
    }

    fn topics(&self, after: &str, limit: usize) -> Vec<TopicInfo> {
        self.index.read().list("", Some(after), limit)
    }

    fn walk(
        &self,
        after: Position,
        visit: &mut dyn FnMut(&SeenMessage<'_>) -> bool,
    ) -> Result<(), StoreError> {
        self.walk_live(after, visit)
    }

    fn oldest(&self, topic: &Topic, count: usize) -> Result<Vec<(Position, u64)>, StoreError> {
        let filter = Filter::from(topic.clone());
        let (mut oldest, mut after) = (Vec::new(), Position::ZERO);
        // A page may come short of what there is.
        while oldest.len() < count && after < self.newest_committed() {
            let budget = Budget { messages: count - oldest.len(), bytes: usize::MAX, scan_bytes: usize::MAX };
            let page = self.read_stored(&filter, after, Position::MAX, budget)?;
            after = page.scanned;
            oldest.extend(
                page.messages.iter().map(|message| (message.position(), message.draft.cost() as u64)),
            );
        }
        Ok(oldest)
    }
}
