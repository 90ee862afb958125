//! A whole table, read back as of one generation.

use std::collections::{BTreeMap, HashSet};

use daymark_netlink::nft::{Elements, Name, Query, Reply, Rule, Set, SetElem, Snapshot, TableId};

use super::{Collected, NfSocket, QueryError, TRIES};

impl NfSocket {
    /// A whole table as of one generation; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn snapshot(&mut self, table: &TableId) -> Result<Option<Snapshot>, QueryError> {
        self.snapshot_with(table, |_| true)
    }

    /// The same, but elements only of those sets that are wanted: packets may fill a set faster than it can be read.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn snapshot_with(
        &mut self,
        table: &TableId,
        wanted: impl Fn(&Set) -> bool,
    ) -> Result<Option<Snapshot>, QueryError> {
        for _ in 0..TRIES {
            let before = self.generation()?.id;
            match self.read_table(table, before, &wanted) {
                Err(error) if error.is_not_found() => {
                    if self.generation()?.id == before {
                        return Ok(None);
                    }
                }
                Ok(snapshot) if self.generation()?.id == before => return Ok(Some(snapshot)),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Err(QueryError::Unsteady { tries: TRIES })
    }

    /// Every element of a set, once.
    ///
    /// A large answer comes in parts, and the kernel finds the start of each by counting (`nf_tables_dump_set`).
    /// While it moves a grown hash to a larger table, which goes on for some time after a load and is no commit,
    /// the order changes: some elements then come twice and as many are missing, with nothing to tell. Elements
    /// that come twice are the sign to ask again.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn elements(&mut self, table: &TableId, set: &Name) -> Result<Vec<SetElem>, QueryError> {
        let query = Query::Elements {
            table: table.clone(),
            set: set.clone(),
        };
        for _ in 0..TRIES {
            let elems = elements_of(self.query(&query)?);
            if is_distinct(&elems) {
                return Ok(elems);
            }
        }
        Err(QueryError::Unsteady { tries: TRIES })
    }

    /// The elements of a set, each once, for who reads what they count: asked for twice at most, whatever happens meanwhile. While
    /// the set or the ruleset changes ([`Self::elements`]) some of them may be missing.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn elements_at_once(
        &mut self,
        table: &TableId,
        set: &Name,
    ) -> Result<Vec<SetElem>, QueryError> {
        let query = Query::Elements {
            table: table.clone(),
            set: set.clone(),
        };
        let first = match self.query_once(&query)? {
            Collected::OfOneMoment(replies) => {
                let elems = elements_of(replies);
                if is_distinct(&elems) {
                    return Ok(elems);
                }
                elems
            }
            Collected::Torn(replies) => elements_of(replies),
        };
        let (Collected::OfOneMoment(again) | Collected::Torn(again)) = self.query_once(&query)?;
        Ok(union(elements_of(again), first))
    }

    /// How many elements each set of a table has, without reading one; nothing of kernels that do not say. Elements that have run
    /// out count until the kernel has collected them.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn counts(&mut self, table: &TableId) -> Result<BTreeMap<Name, usize>, QueryError> {
        let replies = self.query(&Query::Sets(table.clone()))?;
        let counted = replies.into_iter().filter_map(|reply| match reply {
            Reply::Set { held, count } if held.table == *table => {
                Some((held.object.name, usize::try_from(count?).ok()?))
            }
            _ => None,
        });
        Ok(counted.collect())
    }

    /// One element of a set by its key, and of a range its end; `None` if there is none: about 5 microseconds. Sets of
    /// ranges of a single field are not asked so: there an end is an element of its own.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn element(
        &mut self,
        table: &TableId,
        set: &Name,
        elem: &SetElem,
    ) -> Result<Option<SetElem>, QueryError> {
        let query = Query::Element {
            table: table.clone(),
            set: set.clone(),
            elem: elem.clone(),
        };
        match self.query(&query) {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
            Ok(replies) => Ok(replies.into_iter().find_map(|reply| match reply {
                Reply::Elements { elements, .. } => elements.elems.into_iter().next(),
                _ => None,
            })),
        }
    }

    /// The rules of a chain in order; none if there is no such chain.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn chain_rules(&mut self, table: &TableId, chain: &Name) -> Result<Vec<Rule>, QueryError> {
        let query = Query::ChainRules {
            table: table.clone(),
            chain: chain.clone(),
        };
        let replies = self.query(&query)?.into_iter();
        let rules = replies.filter_map(|reply| match reply {
            Reply::Rule(held) if held.table == *table && held.object.chain == *chain => {
                Some(held.object)
            }
            _ => None,
        });
        Ok(rules.collect())
    }

    fn read_table(
        &mut self,
        table: &TableId,
        generation: u32,
        wanted: &impl Fn(&Set) -> bool,
    ) -> Result<Snapshot, QueryError> {
        let (held, owner) = match self.query(&Query::Table(table.clone()))?.pop() {
            Some(Reply::Table { held, owner }) => (held, owner),
            _ => return Err(QueryError::Cut),
        };
        let mut snapshot = Snapshot {
            generation,
            table: held,
            owner,
            objects: Vec::new(),
            sets: Vec::new(),
            chains: Vec::new(),
            rules: Vec::new(),
            elements: Vec::new(),
        };
        for query in parts(table) {
            self.query(&query)?
                .into_iter()
                .for_each(|reply| add(&mut snapshot, table, reply));
        }
        let sets = snapshot.sets.iter().map(|set| &set.object);
        let sets: Vec<_> = sets
            .filter(|set| wanted(set))
            .map(|set| set.name.clone())
            .collect();
        for set in sets {
            let elems = self.elements(table, &set)?;
            if !elems.is_empty() {
                snapshot.elements.push(Elements { set, elems });
            }
        }
        Ok(snapshot)
    }
}

/// What a table consists of, but for the elements of its sets.
fn parts(table: &TableId) -> [Query; 4] {
    [
        Query::Objects(table.clone()),
        Query::Sets(table.clone()),
        Query::Chains(table.family),
        Query::Rules(table.clone()),
    ]
}

/// Older kernels dump the chains of every table of a family.
fn add(snapshot: &mut Snapshot, table: &TableId, reply: Reply) {
    match reply {
        Reply::Object(held) if held.table == *table => snapshot.objects.push(held),
        Reply::Set { held, .. } if held.table == *table => snapshot.sets.push(held),
        Reply::Chain(held) if held.table == *table => snapshot.chains.push(held),
        Reply::Rule(held) if held.table == *table => snapshot.rules.push(held),
        _ => {}
    }
}

fn elements_of(replies: Vec<Reply>) -> Vec<SetElem> {
    let lists = replies.into_iter().filter_map(|reply| match reply {
        Reply::Elements { elements, .. } => Some(elements.elems),
        _ => None,
    });
    lists.flatten().collect()
}

/// Each element once: as the newer answer has it, if that has it.
fn union(newer: Vec<SetElem>, older: Vec<SetElem>) -> Vec<SetElem> {
    let mut seen = HashSet::with_capacity(newer.len());
    let mut all = newer;
    all.extend(older);
    all.retain(|elem| seen.insert((elem.key.clone(), elem.key_end().cloned(), elem.role())));
    all
}

fn is_distinct(elems: &[SetElem]) -> bool {
    let mut seen = HashSet::with_capacity(elems.len());
    elems
        .iter()
        .all(|elem| seen.insert((&elem.key, elem.key_end(), elem.role())))
}

#[cfg(test)]
mod tests {
    use daymark_netlink::nft::Data;

    use super::*;

    #[test]
    fn a_union_has_each_element_once_as_it_was_last() {
        let elem = |key: u8, timeout| SetElem::key(Data::new(&[key; 4])).with_timeout(timeout);
        // Of a hash that moves: one twice, another missing.
        let older = vec![elem(1, 10), elem(1, 10), elem(2, 10)];
        let newer = vec![elem(2, 20), elem(3, 20), elem(3, 20)];
        assert!(!is_distinct(&older));
        let all = union(newer, older);
        assert_eq!(all, [elem(2, 20), elem(3, 20), elem(1, 10)]);
        assert!(is_distinct(&all));
    }
}
