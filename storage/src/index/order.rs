//! Topics in the order of their names: blocks of numbers, four bytes each. A place is found by halving twice, first among
//! the blocks, then in one; an insertion moves the rest of one block, half of it into a block of its own when it is
//! full. The names themselves are the caller's.

const BLOCK: usize = 512;

/// A topic's number, for as long as it is known; then another may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId(pub(crate) u32);

impl TopicId {
    pub(super) fn at(self) -> usize {
        self.0 as usize
    }
}

/// Numbers in the order of what they name. No block is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct NameOrder(Vec<Vec<TopicId>>);

impl NameOrder {
    /// The order of these topics.
    pub(super) fn sorted<'a>(mut ids: Vec<TopicId>, name: impl Fn(TopicId) -> &'a str) -> Self {
        // Topics often come in order, of which this sort makes use.
        ids.sort_by(|&a, &b| name(a).cmp(name(b)));
        // Not filled up, so that the next names don't split every block.
        Self(ids.chunks(BLOCK * 3 / 4).map(<[TopicId]>::to_vec).collect())
    }

    /// Puts a topic, which is not there, into its place.
    pub(super) fn insert<'a>(&mut self, id: TopicId, name: impl Fn(TopicId) -> &'a str) {
        let text = name(id);
        let at = self.0.partition_point(|block| name(block[0]) <= text).saturating_sub(1);
        let Some(block) = self.0.get_mut(at) else {
            self.0.push(vec![id]);
            return;
        };
        let place = block.partition_point(|&other| name(other) < text);
        if block.len() < BLOCK {
            block.insert(place, id);
        } else if place == BLOCK {
            // Names that come in order leave full blocks behind them.
            self.0.insert(at + 1, vec![id]);
        } else {
            let mut upper = block.split_off(BLOCK / 2);
            match place.checked_sub(BLOCK / 2) {
                Some(place) => upper.insert(place, id),
                None => block.insert(place, id),
            }
            self.0.insert(at + 1, upper);
        }
    }

    /// Takes a topic out. Blocks of which little is left are joined.
    pub(super) fn remove<'a>(&mut self, id: TopicId, name: impl Fn(TopicId) -> &'a str) {
        let text = name(id);
        let at = self.0.partition_point(|block| name(block[0]) <= text).saturating_sub(1);
        let Some(block) = self.0.get_mut(at) else { return };
        let place = block.partition_point(|&other| name(other) < text);
        if block.get(place) == Some(&id) {
            block.remove(place);
        }
        match block.len() {
            0 => drop(self.0.remove(at)),
            few if few <= BLOCK / 4 => {
                let is_few = |at: usize| self.0.get(at).is_some_and(|other| other.len() <= BLOCK / 4);
                let left = [Some(at), at.checked_sub(1)]
                    .into_iter()
                    .flatten()
                    .find(|&left| is_few(left) && is_few(left + 1));
                if let Some(left) = left {
                    let right = self.0.remove(left + 1);
                    self.0[left].extend(right);
                }
            }
            _ => {}
        }
    }

    /// The bytes that it takes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.0.iter().map(|block| block.capacity() * size_of::<TopicId>()).sum()
    }

    /// The topics whose names are `from` or after it.
    pub(super) fn from<'a>(
        &self,
        from: &str,
        name: impl Fn(TopicId) -> &'a str,
    ) -> impl Iterator<Item = TopicId> {
        let at = self.0.partition_point(|block| name(block[0]) < from).saturating_sub(1);
        let skip = self.0.get(at).map_or(0, |block| block.partition_point(|&id| name(id) < from));
        self.0[at.min(self.0.len())..].iter().flatten().skip(skip).copied()
    }
}
