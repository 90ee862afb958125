//! Rows of bytes, all of one length, sorted by the key that each begins with.
//!
//! They lie in blocks of at most [`BLOCK`] bytes, so that a row that comes or goes moves a block, not all. A
//! block that is full is divided in the middle, but one at the end is left full: a load comes in order. Two
//! neighbours that fit half a block become one.

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    key: usize,
    data: usize,
    /// Never an empty one.
    blocks: Vec<Vec<u8>>,
    len: usize,
}

/// Bytes of a block at most, and at least one row.
const BLOCK: usize = 4096;

/// A place between rows: the block, and the byte in it.
#[derive(Clone, Copy, Debug)]
struct At {
    block: usize,
    byte: usize,
}

impl Rows {
    /// None yet, of `key` bytes and `data` more.
    pub(super) fn new(key: usize, data: usize) -> Self {
        Self {
            key,
            data,
            blocks: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.len = 0;
    }

    /// Whether a row of these parts belongs here.
    pub(super) fn fits(&self, key: &[u8], data: &[u8]) -> bool {
        self.key > 0 && key.len() == self.key && data.len() == self.data
    }

    /// Key and data of a row.
    pub(super) fn split<'a>(&self, row: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        row.split_at(self.key)
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let row = self.row(self.seek(key))?;
        (row[..self.key] == *key).then_some(row)
    }

    /// Puts a row in its place, or in that of the row with its key.
    pub(super) fn insert(&mut self, row: &[u8]) {
        let at = self.seek(&row[..self.key]);
        if self.is_at(at, row) {
            let width = self.width();
            self.blocks[at.block][at.byte..at.byte + width].copy_from_slice(row);
            return;
        }
        self.insert_at(at, row);
    }

    /// Puts a row in its place unless there is one with its key: that one is returned.
    pub(super) fn add(&mut self, row: &[u8]) -> Result<(), &[u8]> {
        let at = self.seek(&row[..self.key]);
        if self.is_at(at, row) {
            let width = self.width();
            return Err(&self.blocks[at.block][at.byte..at.byte + width]);
        }
        self.insert_at(at, row);
        Ok(())
    }

    /// Whether the row at `at` has the key of `row`.
    fn is_at(&self, at: At, row: &[u8]) -> bool {
        let known = self.row(at);
        known.is_some_and(|known| known[..self.key] == row[..self.key])
    }

    fn insert_at(&mut self, mut at: At, row: &[u8]) {
        let width = self.width();
        self.len += 1;
        // Rather at the end of a block than before the first row of the next.
        if at.byte == 0 && at.block > 0 {
            at.block -= 1;
            at.byte = self.blocks[at.block].len();
        }
        let full = self
            .blocks
            .get(at.block)
            .is_none_or(|block| block.len() + width > BLOCK);
        if full {
            at = self.make_room(at);
        }
        let block = &mut self.blocks[at.block];
        if block.len() + width > block.capacity() {
            // Doubling, but never beyond what a block may hold.
            let room = BLOCK.saturating_sub(block.len()).max(width);
            block.reserve_exact(block.len().clamp(width, room));
        }
        let end = block.len();
        block.extend_from_slice(row);
        block.copy_within(at.byte..end, at.byte + width);
        block[at.byte..at.byte + width].copy_from_slice(row);
    }

    /// A place for the row that belongs at `at`, whose block is full or not there.
    fn make_room(&mut self, at: At) -> At {
        let last = at.block + 1 >= self.blocks.len();
        let Some(block) = self.blocks.get_mut(at.block) else {
            self.blocks.push(Vec::new());
            return At { byte: 0, ..at };
        };
        if last && at.byte == block.len() {
            self.blocks.push(Vec::new());
            return At {
                block: at.block + 1,
                byte: 0,
            };
        }
        let middle = block.len() / self.width() / 2 * self.width();
        let right = self.blocks[at.block].split_off(middle);
        self.blocks[at.block].shrink_to_fit();
        self.blocks.insert(at.block + 1, right);
        if at.byte <= middle {
            return at;
        }
        At {
            block: at.block + 1,
            byte: at.byte - middle,
        }
    }

    /// Removes the row of a key; whether there was one.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let width = self.width();
        let at = self.seek(key);
        if self.row(at).is_none_or(|row| row[..self.key] != *key) {
            return false;
        }
        self.len -= 1;
        let block = &mut self.blocks[at.block];
        block.copy_within(at.byte + width.., at.byte);
        block.truncate(block.len() - width);
        self.merge(at.block);
        true
    }

    /// Makes one of a block that became smaller and a neighbour, if both are small.
    fn merge(&mut self, index: usize) {
        if self.blocks[index].is_empty() {
            self.blocks.remove(index);
            return;
        }
        let size = |index: usize| self.blocks.get(index).map(Vec::len);
        let small = |left: usize| {
            size(left)
                .zip(size(left + 1))
                .is_some_and(|(left, right)| left + right <= BLOCK / 2)
        };
        let left = [Some(index), index.checked_sub(1)];
        if let Some(left) = left.into_iter().flatten().find(|left| small(*left)) {
            let right = self.blocks.remove(left + 1);
            self.blocks[left].extend_from_slice(&right);
            self.blocks[left].shrink_to_fit();
        }
    }

    /// Rows whose keys are not before `first`, in order.
    pub(super) fn from<'a>(&'a self, first: &[u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let at = self.seek(first);
        let begun = self.blocks.get(at.block).map(|block| &block[at.byte..]);
        let later = self.blocks.iter().skip(at.block + 1).map(Vec::as_slice);
        let blocks = begun.into_iter().chain(later);
        let width = self.width();
        blocks.flat_map(move |block| block.chunks_exact(width))
    }

    /// The last row whose key is not behind `key`.
    pub(super) fn last_not_behind(&self, key: &[u8]) -> Option<&[u8]> {
        let at = self.seek(key);
        if let Some(row) = self.row(at).filter(|row| row[..self.key] == *key) {
            return Some(row);
        }
        let before = if at.byte > 0 {
            self.blocks.get(at.block).map(|block| &block[..at.byte])
        } else {
            let block = at.block.checked_sub(1);
            block.map(|block| &*self.blocks[block])
        };
        before?.chunks_exact(self.width()).next_back()
    }

    /// The first row whose key is not before `key`; behind the last block if there is none.
    fn seek(&self, key: &[u8]) -> At {
        let behind = |block: &Vec<u8>| {
            let last = block.len() - self.width();
            block[last..last + self.key] < *key
        };
        let block = self.blocks.partition_point(behind);
        let Some(rows) = self.blocks.get(block) else {
            return At { block, byte: 0 };
        };
        let (mut low, mut high) = (0, rows.len() / self.width());
        while low < high {
            let middle = low.midpoint(high);
            let at = middle * self.width();
            if rows[at..at + self.key] < *key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        At {
            block,
            byte: low * self.width(),
        }
    }

    fn row(&self, at: At) -> Option<&[u8]> {
        self.blocks
            .get(at.block)?
            .get(at.byte..at.byte + self.width())
    }

    fn width(&self) -> usize {
        self.key + self.data
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u8),
        Add(u16, u8),
        Remove(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..900u16, any::<u8>()).prop_map(|(key, data)| Step::Insert(key, data)),
            1 => (0..900u16, any::<u8>()).prop_map(|(key, data)| Step::Add(key, data)),
            2 => (0..900u16).prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..2500)
    }

    /// A row of 24 bytes, so that a block holds 170.
    fn row(key: u16, data: u8) -> Vec<u8> {
        [&key.to_be_bytes()[..], &[data; 22]].concat()
    }

    fn check(rows: &Rows, model: &BTreeMap<u16, u8>) {
        let all: Vec<Vec<u8>> = rows.from(&[]).map(<[u8]>::to_vec).collect();
        let expected: Vec<Vec<u8>> = model.iter().map(|(key, data)| row(*key, *data)).collect();
        assert_eq!(all, expected);
        assert_eq!(rows.len(), model.len());
        assert!(
            rows.blocks
                .iter()
                .all(|block| !block.is_empty() && block.capacity() <= BLOCK)
        );
    }

    proptest! {
        #[test]
        fn rows_are_a_sorted_map(load in 0..900u16, steps in steps(), probe in 0..900u16) {
            let mut rows = Rows::new(2, 22);
            let mut model = BTreeMap::new();
            // In order, as a load comes.
            for key in 0..load {
                rows.insert(&row(key, 0));
                model.insert(key, 0);
            }
            for step in steps {
                match step {
                    Step::Insert(key, data) => {
                        rows.insert(&row(key, data));
                        model.insert(key, data);
                    }
                    Step::Add(key, data) => {
                        let known = rows.add(&row(key, data)).err().map(<[u8]>::to_vec);
                        prop_assert_eq!(known, model.get(&key).map(|data| row(key, *data)));
                        model.entry(key).or_insert(data);
                    }
                    Step::Remove(key) => {
                        let gone = rows.remove(&key.to_be_bytes());
                        prop_assert_eq!(gone, model.remove(&key).is_some());
                    }
                }
            }
            check(&rows, &model);
            let key = probe.to_be_bytes();
            let found = |entry: Option<(&u16, &u8)>| entry.map(|(key, data)| row(*key, *data));
            let at = model.get_key_value(&probe);
            prop_assert_eq!(rows.get(&key).map(<[u8]>::to_vec), found(at));
            let before = rows.last_not_behind(&key).map(<[u8]>::to_vec);
            prop_assert_eq!(before, found(model.range(..=probe).next_back()));
            let after = rows.from(&key).next().map(<[u8]>::to_vec);
            prop_assert_eq!(after, found(model.range(probe..).next()));
        }
    }

    #[test]
    fn a_load_in_order_leaves_full_blocks() {
        let mut rows = Rows::new(2, 22);
        (0..1700).for_each(|key| rows.insert(&row(key, 1)));
        assert_eq!(rows.blocks.len(), 10);
        // Most go: what is left does not keep their blocks.
        (0..1700_u16).filter(|key| key % 20 > 0).for_each(|key| {
            rows.remove(&key.to_be_bytes());
        });
        assert_eq!((rows.len(), rows.blocks.len() < 3), (85, true));
    }
}
