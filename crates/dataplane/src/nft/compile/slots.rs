//! Backends keep their slots, so that a change of one is a change of one slot.
//!
//! What a pool holds is a set; in which slot each stands is history. A backend that stays keeps its slot as long as there is one of that
//! number, a new one gets a slot that is free, and whoever had a slot behind the last moves to one before. The numbers of the slots
//! are always those from zero on.
//!
//! A slot that gets another backend changes it in one piece, so that it is never empty. What may be drawn meanwhile is the old backend or
//! the new one; and one that is drawn for a number that is no more is drawn again (`plan.rs`).

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::desired::{Backend, Place, Pool};
use daymark_netlink::nft::Value;

use super::draft::Draft;
use super::{Contents, Plane, Port, wanted};
use crate::nft::layout::{backend_of, set};
use crate::nft::program::Program;

impl Plane {
    /// Contents with each backend in the slot that it has in the kernel, as far as can be.
    pub(super) fn arranged(&self, found: &Program, port: &Port, contents: Contents) -> Contents {
        let was_known = port.contents != Contents::default();
        let old = |old: &Option<Arc<Pool>>, number| match was_known {
            true => old.clone(),
            false => self.found_pool(found, number),
        };
        Contents {
            cluster: arrange(contents.cluster, old(&port.contents.cluster, port.pool)),
            local: arrange(contents.local, old(&port.contents.local, port.pool | 1)),
            ..contents
        }
    }

    /// What the kernel holds under a pool's number, by slot.
    fn found_pool(&self, found: &Program, number: u32) -> Option<Arc<Pool>> {
        // No pool has the number zero.
        let contents = found.table(&self.words.table()).filter(|_| number > 1)?;
        let slots = contents.elements_from(set::SLOTS, &number.to_ne_bytes());
        let mut slots: Vec<(u32, Backend)> = slots
            .filter_map(|slot| {
                let Value::Data(data) = &slot.value else {
                    return None;
                };
                let to = backend_of(&self.words, data)?;
                let backend = Backend {
                    address: to.ip(),
                    port: to.port(),
                    // The kernel does not know.
                    place: Place::Elsewhere,
                };
                Some((slot.key.host_word(1)?, backend))
            })
            .collect();
        slots.sort_unstable_by_key(|(slot, _)| *slot);
        let backends = slots.into_iter().map(|(_, backend)| backend).collect();
        Some(Arc::new(Pool { backends }))
    }
}

/// A sorted pool with the backends that it shares with `old` in the slots that they have there.
fn arrange(new: Option<Arc<Pool>>, old: Option<Arc<Pool>>) -> Option<Arc<Pool>> {
    let (new, old) = match (new, old) {
        (Some(new), Some(old)) if new != old => (new, old),
        (new, _) => return new,
    };
    let len = new.backends.len();
    let mut placed = vec![false; len];
    let mut claim = |backend: &Backend| {
        let found = new.backends.binary_search_by_key(&to(backend), to);
        let at = found.ok()?;
        (!std::mem::replace(&mut placed[at], true)).then_some(at)
    };
    let old = old.backends.iter().take(len);
    let mut slots: Vec<Option<usize>> = old.map(&mut claim).collect();
    slots.resize(len, None);
    let mut others = (0..len).filter(|at| !placed[*at]);
    let slots = slots
        .into_iter()
        .filter_map(|at| at.or_else(|| others.next()));
    let backends: Vec<Backend> = slots.map(|at| new.backends[at]).collect();
    if backends == new.backends {
        return Some(new);
    }
    Some(Arc::new(Pool { backends }))
}

/// What a slot says of a backend.
fn to(backend: &Backend) -> (IpAddr, u16) {
    (backend.address, backend.port)
}

impl Contents {
    /// Whether the pools of `old` can become these slot by slot. With affinity they cannot: whether a backend is one of its pool is
    /// asked after the choice.
    pub(super) fn can_follow(&self, old: &Self) -> bool {
        let is_empty = |one: &Self| one.cluster.is_none() && one.local.is_none();
        !is_empty(self) && !is_empty(old) && !self.sticky && !old.sticky
    }

    /// Makes the pools of `old`, which have this number, these.
    pub(super) fn follow(&self, old: &Self, number: u32, draft: &mut Draft) {
        for (number, old, new) in [
            (number, &old.cluster, &self.cluster),
            (number | 1, &old.local, &self.local),
        ] {
            follow(number, backends(old), backends(new), draft);
        }
    }
}

fn backends(pool: &Option<Arc<Pool>>) -> &[Backend] {
    pool.as_ref().map_or(&[], |pool| &pool.backends)
}

fn follow(number: u32, old: &[Backend], new: &[Backend], draft: &mut Draft) {
    for slot in 0..old.len().max(new.len()) {
        let elem = |backend| wanted::slot(number, slot, backend);
        match (old.get(slot), new.get(slot)) {
            (Some(old), Some(new)) if to(old) == to(new) => {}
            (Some(old), Some(new)) => draft.change_place(set::SLOTS, elem(old), elem(new)),
            (None, Some(new)) => draft.publish(set::SLOTS, elem(new)),
            (Some(old), None) => draft.bury(set::SLOTS, elem(old)),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(last: &[u8]) -> Arc<Pool> {
        let backend = |last: &u8| Backend {
            address: [10, 0, 0, *last].into(),
            port: 80,
            place: Place::Elsewhere,
        };
        let backends = last.iter().map(backend).collect();
        Arc::new(Pool { backends })
    }

    fn sorted(all: &[u8]) -> Vec<u8> {
        let mut all = all.to_vec();
        all.sort_unstable();
        all.dedup();
        all
    }

    proptest! {
        #[test]
        fn nobody_is_lost_or_doubled_and_who_can_stay_stays(
            // What was found may hold anything, also the same twice.
            old in prop::collection::vec(0..12u8, 0..9),
            new in prop::collection::vec(0..12u8, 1..9),
        ) {
            let new = sorted(&new);
            let arranged = arrange(Some(pool(&new)), Some(pool(&old))).expect("a pool");
            let mut back = arranged.backends.clone();
            back.sort_unstable();
            prop_assert_eq!(&back, &pool(&new).backends);
            for (slot, last) in old.iter().enumerate().take(new.len()) {
                let is_first = !old[..slot].contains(last);
                if is_first && new.contains(last) {
                    prop_assert_eq!(arranged.backends[slot], pool(&[*last]).backends[0]);
                }
            }
        }
    }
}
