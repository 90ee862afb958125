//! Address pools: which addresses there are, which pool an address belongs to, where pools overlap.
//!
//! An address belongs to the oldest pool that holds it (of one age: by namespace and name), so that a new
//! pool takes nothing over from one in use. Overlapping pools are reported and still used: an address is given once, whichever pool it came from, because the
//! allocator keeps one set of what is taken.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use daymark_feed::record::{self, AddressRange, Assignment, BuggyIps, ObjectKey};
use daymark_model::{Family, Service};

use crate::reserved::Reserved;

/// All pools, in the order in which they are asked: by age, oldest first, then namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pools: Vec<Pool>,
    reserved: Reserved,
}

/// The namespace whose pools and advertisements count unless another is set: MetalLB's own.
pub const POOL_NAMESPACE: &str = "metallb-system";

/// One pool, its ranges sorted and merged, without what is reserved.
#[derive(Clone, Debug)]
pub struct Pool {
    record: Arc<record::Pool>,
    ranges: Vec<AddressRange>,
}

/// Addresses that two pools both hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The pool that the addresses belong to.
    pub owner: ObjectKey,
    /// The other one.
    pub other: ObjectKey,
    /// The addresses.
    pub range: AddressRange,
}

impl fmt::Display for Overlap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "spec.addresses: {} belongs to IPAddressPool {} and to IPAddressPool {}; it is used as part of {}: \
             remove it from one of them",
            Shown(self.range),
            self.owner,
            self.other,
            self.owner
        )
    }
}

/// A range as people write it.
pub(crate) struct Shown(pub(crate) AddressRange);

impl fmt::Display for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.first == self.0.last {
            write!(out, "{}", self.0.first)
        } else {
            write!(out, "{}-{}", self.0.first, self.0.last)
        }
    }
}

impl Pools {
    /// The pools of these records, without the addresses that are reserved.
    #[must_use]
    pub fn new<'a>(
        records: impl IntoIterator<Item = &'a Arc<record::Pool>>,
        reserved: Reserved,
    ) -> Self {
        let mut pools: Vec<Pool> = records
            .into_iter()
            .map(|record| Pool::new(record, &reserved))
            .collect();
        pools.sort_by(|a, b| a.age().cmp(&b.age()));
        Self { pools, reserved }
    }

    /// What no pool may give.
    #[must_use]
    pub fn reserved(&self) -> &Reserved {
        &self.reserved
    }

    /// Every pool, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter()
    }

    /// Whether there is none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// The first pool of this name, whatever its namespace: a Service asks by name alone.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| &*pool.key().name == name)
    }

    /// The pool that the address belongs to.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.contains(address))
    }

    /// The pool that a Service's address belongs to: of those that hold it the one that gave it, as far as
    /// the Service says so, or else the oldest.
    #[must_use]
    pub fn of_given(&self, address: IpAddr, service: &Service) -> Option<&Pool> {
        let from = service
            .load_balancer
            .as_ref()
            .map_or(&[][..], |request| &request.given_from);
        let gave = |pool: &&Pool| from.contains(&pool.key().name) && pool.contains(address);
        self.pools.iter().find(gave).or_else(|| self.of(address))
    }

    /// Addresses that are in two pools, one entry for each pair of pools and each run of addresses.
    #[must_use]
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut all: Vec<(AddressRange, usize)> = Vec::new();
        for (index, pool) in self.pools.iter().enumerate() {
            all.extend(pool.ranges.iter().map(|range| (*range, index)));
        }
        all.sort_unstable();
        let mut found = Vec::new();
        for (at, (range, one)) in all.iter().enumerate() {
            // Sorted by first address, IPv4 first: whatever starts after this range ends cannot meet it.
            let near = all[at + 1..]
                .iter()
                .take_while(|(next, _)| next.first <= range.last);
            for (next, other) in near.filter(|(_, other)| other != one) {
                let both = AddressRange {
                    first: next.first,
                    last: range.last.min(next.last),
                };
                found.push((*one.min(other), *one.max(other), both));
            }
        }
        found.sort_unstable();
        let key = |index: usize| self.pools[index].key().clone();
        found
            .into_iter()
            .map(|(owner, other, range)| Overlap {
                owner: key(owner),
                other: key(other),
                range,
            })
            .collect()
    }
}

impl Pool {
    fn new(record: &Arc<record::Pool>, reserved: &Reserved) -> Self {
        let written = merged(record.ranges.clone());
        Self {
            record: Arc::clone(record),
            ranges: written
                .into_iter()
                .flat_map(|range| without(range, reserved))
                .collect(),
        }
    }

    fn age(&self) -> (i64, &ObjectKey) {
        (self.record.created, self.key())
    }

    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> &ObjectKey {
        &self.record.key
    }

    /// The record that it was made of.
    #[must_use]
    pub fn record(&self) -> &Arc<record::Pool> {
        &self.record
    }

    /// Whether a Service that names neither pool nor address may get one of its addresses.
    #[must_use]
    pub fn assignment(&self) -> Assignment {
        self.record.assignment
    }

    /// Fields of its `spec` that restrict its use in a way this version does not know. Nothing new is given
    /// from such a pool, because that could give an address to whom it was meant to be kept from.
    #[must_use]
    pub fn unknown_fields(&self) -> &[Arc<str>] {
        &self.record.other_fields
    }

    /// Whether the address is one that the pool may give.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let after = self.ranges.partition_point(|range| range.first <= address);
        let inside = after
            .checked_sub(1)
            .is_some_and(|at| address <= self.ranges[at].last);
        inside && !self.avoids(address)
    }

    /// Whether it has any address of the family.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.size(family) > 0
    }

    /// How many addresses of the family it may give; `u128::MAX` stands for more.
    #[must_use]
    pub fn size(&self, family: Family) -> u128 {
        self.ranges_of(family).fold(0, |sum, range| {
            let (first, last) = (bits(range.first), bits(range.last));
            let all = (last - first).saturating_add(1);
            sum.saturating_add(all - self.avoided(*range))
        })
    }

    /// The lowest address of the family that is at least `from` (if given) and that `is_free` accepts.
    #[must_use]
    pub fn first_free(
        &self,
        family: Family,
        from: Option<IpAddr>,
        is_free: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let start = from.map_or(0, bits);
        for range in self.ranges_of(family) {
            let mut at = bits(range.first).max(start);
            while at <= bits(range.last) {
                let address = address(family, at);
                if !self.avoids(address) && is_free(address) {
                    return Some(address);
                }
                let Some(next) = at.checked_add(1) else { break };
                at = next;
            }
        }
        None
    }

    fn ranges_of(&self, family: Family) -> impl Iterator<Item = &AddressRange> {
        self.ranges
            .iter()
            .filter(move |range| Family::of(range.first) == family)
    }

    /// `avoidBuggyIPs`: MetalLB leaves out IPv4 addresses that end in .0 and .255, which some old
    /// firewalls drop as broadcasts.
    fn avoids(&self, address: IpAddr) -> bool {
        let IpAddr::V4(four) = address else {
            return false;
        };
        self.record.buggy_ips == BuggyIps::Avoid && matches!(four.octets()[3], 0 | 255)
    }

    /// How many addresses of a range are avoided.
    fn avoided(&self, range: AddressRange) -> u128 {
        let (IpAddr::V4(first), IpAddr::V4(last)) = (range.first, range.last) else {
            return 0;
        };
        if self.record.buggy_ips == BuggyIps::Give {
            return 0;
        }
        // Addresses up to and including `bits` that end in .0, and in .255.
        let until = |bits: u64| bits / 256 + 1 + (bits + 1) / 256;
        let (first, last) = (u64::from(first.to_bits()), u64::from(last.to_bits()));
        let before = if first == 0 { 0 } else { until(first - 1) };
        u128::from(until(last) - before)
    }
}

/// What is left of a range when what is reserved is taken out, in order.
fn without(range: AddressRange, reserved: &Reserved) -> Vec<AddressRange> {
    let family = Family::of(range.first);
    let mut left = Vec::new();
    let mut at = bits(range.first);
    for (part, _) in reserved.within(range) {
        if bits(part.first) > at {
            left.push(AddressRange {
                first: address(family, at),
                last: address(family, bits(part.first) - 1),
            });
        }
        if part.last == range.last {
            return left;
        }
        at = at.max(bits(part.last) + 1);
    }
    left.push(AddressRange {
        first: address(family, at),
        last: range.last,
    });
    left
}

/// Sorted, and joined where they overlap or touch.
fn merged(mut ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    ranges
        .retain(|range| range.first.is_ipv4() == range.last.is_ipv4() && range.first <= range.last);
    ranges.sort_unstable();
    let mut merged: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(known) if meets(known.last, range.first) => {
                known.last = known.last.max(range.last)
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Whether a range that starts at `first` continues one that ends at `last` and starts no later.
fn meets(last: IpAddr, first: IpAddr) -> bool {
    last.is_ipv4() == first.is_ipv4() && bits(first) <= bits(last).saturating_add(1)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_bits().into(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => {
            Ipv4Addr::from_bits(u32::try_from(bits).expect("within an IPv4 range")).into()
        }
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::pool;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pool_counts_and_gives_its_addresses() {
        let check = |ranges: &[&str], family: Family, size: u128, first: Option<&str>| {
            let pools = Pools::new([&Arc::new(pool("p", ranges))], Reserved::default());
            let pool = pools.named("p").unwrap();
            assert_eq!(pool.size(family), size, "{ranges:?}");
            assert_eq!(
                pool.first_free(family, None, |_| true),
                first.map(ip),
                "{ranges:?}"
            );
        };
        check(&["10.0.0.0/24"], Family::V4, 256, Some("10.0.0.0"));
        check(&["10.0.0.0/24"], Family::V6, 0, None);
        check(
            &["10.0.0.5-10.0.0.9", "10.0.0.7-10.0.0.12"],
            Family::V4,
            8,
            Some("10.0.0.5"),
        );
        check(&["10.0.0.5-10.0.0.5"], Family::V4, 1, Some("10.0.0.5"));
        check(
            &["fd00::10-fd00::1f", "10.0.0.1-10.0.0.2"],
            Family::V6,
            16,
            Some("fd00::10"),
        );
        check(&["::/0"], Family::V6, u128::MAX, Some("::"));
        check(&["0.0.0.0/0"], Family::V4, 1 << 32, Some("0.0.0.0"));
        check(&[], Family::V4, 0, None);
    }

    #[test]
    fn buggy_addresses_are_left_out_when_asked() {
        let mut record = pool("p", &["10.0.0.250-10.0.2.3"]);
        record.buggy_ips = BuggyIps::Avoid;
        let pools = Pools::new([&Arc::new(record)], Reserved::default());
        let pool = pools.named("p").unwrap();
        // 522 addresses, without .255 of two and .0 of two networks.
        assert_eq!(pool.size(Family::V4), 266 - 4);
        assert!(!pool.contains(ip("10.0.0.255")) && !pool.contains(ip("10.0.1.0")));
        let after = pool.first_free(Family::V4, Some(ip("10.0.0.255")), |_| true);
        assert_eq!(after, Some(ip("10.0.1.1")));
    }

    #[test]
    fn overlapping_pools_are_found_by_pair_and_range() {
        let check = |pools: &[(&str, &[&str])], expected: &[(&str, &str, &str)]| {
            let records: Vec<_> = pools
                .iter()
                .map(|(name, ranges)| Arc::new(pool(name, ranges)))
                .collect();
            let found: Vec<_> = Pools::new(&records, Reserved::default())
                .overlaps()
                .into_iter()
                .map(|o| {
                    (
                        o.owner.name.to_string(),
                        o.other.name.to_string(),
                        Shown(o.range).to_string(),
                    )
                })
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(a, b, r)| (a.to_string(), b.to_string(), r.to_string()))
                .collect();
            assert_eq!(found, expected, "{pools:?}");
        };
        check(&[("a", &["10.0.0.0/24"]), ("b", &["10.0.1.0/24"])], &[]);
        check(&[("a", &["10.0.0.0/24", "10.0.0.128/25"])], &[]);
        check(
            &[("b", &["10.0.0.250-10.0.1.5"]), ("a", &["10.0.0.0/24"])],
            &[("a", "b", "10.0.0.250-10.0.0.255")],
        );
        check(
            &[
                ("a", &["10.0.0.0/8", "fd00::/64"]),
                ("b", &["10.1.1.1/32"]),
                ("c", &["10.1.1.0/24", "fd00::7/128"]),
            ],
            &[
                ("a", "b", "10.1.1.1"),
                ("a", "c", "10.1.1.0-10.1.1.255"),
                ("a", "c", "fd00::7"),
                ("b", "c", "10.1.1.1"),
            ],
        );
    }

    #[test]
    fn what_is_reserved_is_in_no_pool() {
        let check = |written: &[&str], reserved: &[&str], left: &[&str]| {
            let cidrs: Vec<_> = reserved
                .iter()
                .map(|text| daymark_model::Cidr::parse(text).unwrap())
                .collect();
            let records = [Arc::new(pool("p", written))];
            let pools = Pools::new(&records, Reserved::new([], &cidrs));
            let found: Vec<_> = pools.pools[0]
                .ranges
                .iter()
                .map(|range| Shown(*range).to_string())
                .collect();
            assert_eq!(found, left, "{written:?} without {reserved:?}");
        };
        check(&["10.0.0.0/30"], &[], &["10.0.0.0-10.0.0.3"]);
        check(&["10.0.0.0/30"], &["10.0.0.0/30"], &[]);
        check(&["10.0.0.0/30"], &["10.0.0.0/8", "10.0.0.2/32"], &[]);
        check(
            &["10.0.0.0/29"],
            &["10.0.0.2/32", "10.0.0.2/31", "10.0.0.7/32"],
            &["10.0.0.0-10.0.0.1", "10.0.0.4-10.0.0.6"],
        );
        check(&["10.0.0.0/30"], &["10.0.0.0/32"], &["10.0.0.1-10.0.0.3"]);
        check(
            &["::/0"],
            &["::/1"],
            &["8000::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        );
        check(&["::/0"], &["::/0", "0.0.0.0/0"], &[]);
        check(&["fd00::/126"], &["10.0.0.0/8"], &["fd00::-fd00::3"]);
    }

    #[test]
    fn an_address_of_two_pools_belongs_to_the_older_whatever_their_names() {
        let mut old = pool("z", &["10.0.0.0/30"]);
        let mut new = pool("a", &["10.0.0.2-10.0.0.9"]);
        (old.created, new.created) = (1, 2);
        let pools = Pools::new(&[Arc::new(new), Arc::new(old)], Reserved::default());
        let owner = |text| pools.of(ip(text)).map(|pool| pool.key().name.to_string());
        assert_eq!(owner("10.0.0.2"), Some("z".to_owned()));
        assert_eq!(owner("10.0.0.5"), Some("a".to_owned()));
        assert_eq!(&*pools.overlaps()[0].owner.name, "z");
    }

    #[test]
    fn an_overlap_names_both_pools_and_the_remedy() {
        let records = [
            Arc::new(pool("a", &["10.0.0.0/30"])),
            Arc::new(pool("b", &["10.0.0.2/32"])),
        ];
        let shown = Pools::new(&records, Reserved::default()).overlaps()[0].to_string();
        assert_eq!(
            shown,
            "spec.addresses: 10.0.0.2 belongs to IPAddressPool metallb-system/a and to IPAddressPool metallb-system/b; \
             it is used as part of metallb-system/a: remove it from one of them"
        );
    }

    proptest! {
        #[test]
        fn size_and_contains_agree_with_counting(
            ranges in prop::collection::vec((0u32..2000, 0u32..600), 0..6), avoid: bool
        ) {
            let base = u32::from_be_bytes([10, 0, 0, 0]);
            let mut record = pool("p", &[]);
            record.ranges = ranges
                .iter()
                .map(|(start, length)| AddressRange {
                    first: Ipv4Addr::from_bits(base + start).into(),
                    last: Ipv4Addr::from_bits(base + start + length).into(),
                })
                .collect();
            record.buggy_ips = if avoid { BuggyIps::Avoid } else { BuggyIps::Give };
            let plain = record.clone();
            let pools = Pools::new([&Arc::new(record)], Reserved::default());
            let pool = pools.named("p").unwrap();
            let inside = |address: IpAddr| {
                let last = match address { IpAddr::V4(a) => a.octets()[3], IpAddr::V6(_) => 1 };
                let buggy = avoid && (last == 0 || last == 255);
                !buggy && plain.ranges.iter().any(|r| r.first <= address && address <= r.last)
            };
            let all: Vec<IpAddr> = (0..2700).map(|i| Ipv4Addr::from_bits(base + i).into()).collect();
            let counted = all.iter().filter(|a| inside(**a)).count();
            prop_assert_eq!(pool.size(Family::V4), counted as u128);
            prop_assert!(all.iter().all(|a| pool.contains(*a) == inside(*a)));
            prop_assert_eq!(pool.first_free(Family::V4, None, |_| true), all.iter().copied().find(|a| inside(*a)));
        }
    }
}
