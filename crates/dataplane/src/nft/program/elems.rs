//! The elements of one set, sorted by key.
//!
//! Nearly all are a key and data of lengths that the set fixes. Those are held as rows of bytes without
//! anything around them (16 bytes for an IPv4 slot, where a [`SetElem`] has 80), because a node holds one for
//! every endpoint of its cluster; the others, with a timeout, a range or a verdict, stay as they are.

use std::collections::BTreeMap;

use daymark_netlink::nft::{Data, Set, SetElem, SetKind, Value};

use super::rows::Rows;

/// Elements by key. In an interval set of one field the end of a range is an element too.
#[derive(Clone, Debug)]
pub struct Elems {
    plain: Rows,
    /// Whether a plain element carries data.
    kind: Plain,
    others: BTreeMap<Data, SetElem>,
}

/// What a plain element is in this set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plain {
    Key,
    KeyAndData,
}

impl Elems {
    /// No elements yet of this set.
    #[must_use]
    pub fn of(set: &Set) -> Self {
        let (kind, data) = match &set.kind {
            SetKind::Map(of) => (Plain::KeyAndData, of.len()),
            SetKind::Set | SetKind::Verdicts | SetKind::Objects(_) => (Plain::Key, 0),
        };
        Self {
            plain: Rows::new(set.key.len(), data),
            kind,
            others: BTreeMap::new(),
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plain.len() + self.others.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.plain.clear();
        self.others.clear();
    }

    /// The element of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<SetElem> {
        let row = self.plain.get(key).map(|row| self.decode(row));
        row.or_else(|| self.others.get(key).cloned())
    }

    /// Adds an element unless there is one of the same key: that one is returned.
    pub(super) fn add(&mut self, elem: &SetElem) -> Option<SetElem> {
        if let Some(known) = self.others.get(&*elem.key) {
            return Some(known.clone());
        }
        let Some(row) = self.encode(elem) else {
            let known = self.plain.get(&elem.key).map(|row| self.decode(row));
            if known.is_none() {
                self.others.insert(elem.key.clone(), elem.clone());
            }
            return known;
        };
        let known = self.plain.add(&row).err().map(<[u8]>::to_vec);
        known.map(|row| self.decode(&row))
    }

    /// Adds an element, in the place of one of the same key.
    pub fn insert(&mut self, elem: SetElem) {
        match self.encode(&elem) {
            Some(row) => {
                self.others.remove(&elem.key);
                self.plain.insert(&row);
            }
            None => {
                self.plain.remove(&elem.key);
                self.others.insert(elem.key.clone(), elem);
            }
        }
    }

    /// Removes the element of a key; whether there was one.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.plain.remove(key) || self.others.remove(key).is_some()
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = SetElem> + '_ {
        self.from(&[])
    }

    /// Those whose keys are not before `first`, in order.
    pub fn from<'a>(&'a self, first: &[u8]) -> impl Iterator<Item = SetElem> + use<'a> {
        let rows = self.plain.from(first).map(|row| self.decode(row));
        let others = self.others.range(Data::new(first)..);
        let (mut rows, mut others) = (rows.peekable(), others.map(|(_, elem)| elem).peekable());
        std::iter::from_fn(move || match (rows.peek(), others.peek()) {
            (Some(row), Some(other)) if other.key < row.key => others.next().cloned(),
            (None, Some(_)) => others.next().cloned(),
            _ => rows.next(),
        })
    }

    /// The last whose key is not behind `key`.
    #[must_use]
    pub fn last_not_behind(&self, key: &[u8]) -> Option<SetElem> {
        let row = self.plain.last_not_behind(key).map(|row| self.decode(row));
        let other = self.others.range(..=Data::new(key)).next_back();
        let other = other.map(|(_, elem)| elem);
        match (row, other) {
            (Some(row), Some(other)) if row.key < other.key => Some(other.clone()),
            (Some(row), _) => Some(row),
            (None, other) => other.cloned(),
        }
    }

    /// The row of a plain element.
    fn encode(&self, elem: &SetElem) -> Option<Vec<u8>> {
        let data: &[u8] = match (&elem.value, self.kind) {
            (Value::None, Plain::Key) => &[],
            (Value::Data(data), Plain::KeyAndData) => data,
            _ => return None,
        };
        let fits = elem.is_plain() && self.plain.fits(&elem.key, data);
        fits.then(|| [&*elem.key, data].concat())
    }

    fn decode(&self, row: &[u8]) -> SetElem {
        let (key, data) = self.plain.split(row);
        match self.kind {
            Plain::Key => SetElem::key(Data::new(key)),
            Plain::KeyAndData => SetElem::data(Data::new(key), Data::new(data)),
        }
    }
}

impl PartialEq for Elems {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Elems {}
