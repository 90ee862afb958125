//! The addresses of Pods: a new one at every start, the oldest freed last.

use std::collections::BTreeSet;

use crate::net::{PodAddresses, Prefix};

/// Hands out Pod addresses of a node, counting up through its prefixes.
#[derive(Debug)]
pub(super) struct Addresses {
    v4: Option<Prefix>,
    v6: Option<Prefix>,
    next: u64,
    used: BTreeSet<u64>,
}

/// An address in use, by its place in the prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) addresses: PodAddresses,
    offset: u64,
}

impl Addresses {
    pub(super) fn new(prefixes: &[Prefix]) -> Self {
        let family = |v4| {
            prefixes
                .iter()
                .copied()
                .find(|prefix| prefix.address.is_ipv4() == v4)
        };
        Self {
            v4: family(true),
            v6: family(false),
            next: FIRST,
            used: BTreeSet::new(),
        }
    }

    /// The next free address of each family, or `None` when all are in use.
    pub(super) fn take(&mut self) -> Option<Lease> {
        let count = self.count();
        let offset = (0..=count)
            .map(|step| FIRST + (self.next - FIRST + step) % count)
            .find(|o| !self.used.contains(o))?;
        self.next = FIRST + (offset - FIRST + 1) % count;
        self.used.insert(offset);
        let v4 = self
            .v4
            .and_then(|prefix| prefix.nth(offset))
            .and_then(as_v4);
        let v6 = self
            .v6
            .and_then(|prefix| prefix.nth(offset))
            .and_then(as_v6);
        Some(Lease {
            addresses: PodAddresses { v4, v6 },
            offset,
        })
    }

    pub(super) fn free(&mut self, lease: Lease) {
        self.used.remove(&lease.offset);
    }

    /// How many offsets every prefix has, without the first two and the last: network, gateway, broadcast.
    fn count(&self) -> u64 {
        let free = |prefix: Prefix| {
            u32::from(if prefix.address.is_ipv4() { 32 } else { 128 } - prefix.length).min(24)
        };
        let smallest = [self.v4, self.v6]
            .into_iter()
            .flatten()
            .map(free)
            .min()
            .unwrap_or(0);
        (1_u64 << smallest).saturating_sub(FIRST + 1).max(1)
    }
}

fn as_v4(address: std::net::IpAddr) -> Option<std::net::Ipv4Addr> {
    match address {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    }
}

fn as_v6(address: std::net::IpAddr) -> Option<std::net::Ipv6Addr> {
    match address {
        std::net::IpAddr::V6(address) => Some(address),
        std::net::IpAddr::V4(_) => None,
    }
}

/// Offsets 0 and 1 are the prefix itself and, by habit, a gateway.
const FIRST: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses::new(&[
            "10.244.1.0/29".parse().unwrap(),
            "fd00:10:244:1::/64".parse().unwrap(),
        ])
    }

    #[test]
    fn a_freed_address_comes_back_only_after_all_others() {
        let mut addresses = addresses();
        let mut seen = Vec::new();
        for _ in 0..6 {
            let lease = addresses.take().unwrap();
            seen.push(lease.addresses.v4.unwrap().octets()[3]);
            addresses.free(lease);
        }
        assert_eq!(seen, [2, 3, 4, 5, 6, 2]);
    }

    #[test]
    fn both_families_count_together() {
        let lease = addresses().take().unwrap();
        assert_eq!(lease.addresses.v4, Some("10.244.1.2".parse().unwrap()));
        assert_eq!(
            lease.addresses.v6,
            Some("fd00:10:244:1::2".parse().unwrap())
        );
    }

    #[test]
    fn a_full_prefix_has_nothing_to_give_until_one_is_freed() {
        let mut addresses = addresses();
        let leases: Vec<_> = std::iter::from_fn(|| addresses.take()).collect();
        assert_eq!(leases.len(), 5);
        addresses.free(leases[3]);
        assert_eq!(addresses.take(), Some(leases[3]));
    }
}
