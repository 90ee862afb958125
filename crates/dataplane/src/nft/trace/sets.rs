//! Look-ups in sets, as the kernel's set back ends do them.

use daymark_netlink::nft::{Data, Role, SetElem, SetFlags};

use crate::nft::program::Filled;

/// The element that `key` finds.
///
/// Plain sets compare whole keys. An interval set of one field finds the last boundary not behind the
/// key and asks whether a range begins there (`nft_set_rbtree.c`); one of several fields compares field
/// by field (`nft_set_pipapo.c`).
pub(super) fn find(filled: &Filled, key: &[u8]) -> Option<SetElem> {
    if !filled.set.flags.contains(SetFlags::INTERVAL) {
        return filled.elems.get(key);
    }
    if filled.set.key.fields().len() == 1 {
        let boundary = filled.elems.last_not_behind(key)?;
        return (boundary.role() == Role::Key).then_some(boundary);
    }
    filled.elems.iter().find(|elem| covers(filled, elem, key))
}

fn covers(filled: &Filled, elem: &SetElem, key: &[u8]) -> bool {
    let last: &Data = elem.key_end().unwrap_or(&elem.key);
    let mut offset = 0;
    for field in filled.set.key.fields() {
        let part = offset..offset + field.len();
        let (Some(from), Some(to), Some(value)) = (
            elem.key.get(part.clone()),
            last.get(part.clone()),
            key.get(part),
        ) else {
            return false;
        };
        if value < from || to < value {
            return false;
        }
        offset += field.len().next_multiple_of(4);
    }
    true
}
