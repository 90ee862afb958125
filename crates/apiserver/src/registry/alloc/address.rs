//! Service addresses from all ready ServiceCIDRs.
//!
//! Source: KEP-1880; `pkg/registry/core/service/ipallocator` of Kubernetes.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use rand::rand_core::RngCore;
use serde_json::{Value, json};
use thiserror::Error;

use super::Owner;
use super::band::{self, pick};
use crate::registry::validate::ip::{Cidr, Family, number, parse_cidr, parse_sloppy};
use crate::registry::validate::read::{deep, list, text, texts};
use crate::registry::{Effects, View};

/// Where IPAddress objects are stored.
pub const IP_ADDRESSES: &str = "networking.k8s.io/ipaddresses";

/// Where ServiceCIDR objects are stored.
pub const SERVICE_CIDRS: &str = "networking.k8s.io/servicecidrs";

/// The ServiceCIDR that the server creates: its families are the cluster's, its first one the default.
pub const DEFAULT_CIDR: &str = "kubernetes";

/// The value of the managed-by label on IPAddress objects of Services.
pub const MANAGED_BY: &str = "ipallocator.k8s.io";

/// Why an address was not allocated.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// No ready ServiceCIDR can hand it out (network and broadcast addresses included).
    #[error("the provided network does not match the current range")]
    OutOfRange,
    /// Somebody has it.
    #[error("provided IP is already allocated")]
    Taken,
    /// Every address of the family is taken.
    #[error("range is full")]
    Full,
}

/// The addresses of a cluster, as one request sees and changes them.
pub struct Addresses<'a> {
    view: &'a dyn View,
    families: Vec<Family>,
    ready: Vec<Cidr>,
    claimed: Vec<IpAddr>,
}

impl<'a> Addresses<'a> {
    /// The addresses as the store has them.
    pub fn new(view: &'a dyn View) -> Self {
        let cidrs = |object: &Value| -> Vec<Cidr> {
            texts(&object["spec"], "cidrs")
                .into_iter()
                .filter_map(|text| parse_cidr(text).ok())
                .collect()
        };
        let mut ready = Vec::new();
        for object in view
            .list(SERVICE_CIDRS, None)
            .filter(|object| is_ready(object))
        {
            ready.extend(cidrs(object));
        }
        let own = view
            .get(SERVICE_CIDRS, "", DEFAULT_CIDR)
            .map(cidrs)
            .unwrap_or_default();
        let mut families: Vec<Family> = Vec::new();
        for cidr in if own.is_empty() { &ready } else { &own } {
            if !families.contains(&cidr.family()) {
                families.push(cidr.family());
            }
        }
        Self {
            view,
            families,
            ready,
            claimed: Vec::new(),
        }
    }

    /// The families of the cluster, the default one first.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Takes the address that the client asked for.
    ///
    /// # Errors
    /// [`AddressError::OutOfRange`] or [`AddressError::Taken`].
    pub fn claim(&mut self, ip: IpAddr) -> Result<(), AddressError> {
        let usable =
            |cidr: &Cidr| cidr.family() == Family::of(ip) && usable(cidr).contains(&number(ip));
        if !self.ready.iter().any(usable) {
            return Err(AddressError::OutOfRange);
        }
        if !self.is_free(ip) {
            return Err(AddressError::Taken);
        }
        self.claimed.push(ip);
        Ok(())
    }

    /// Takes a free address of a family.
    ///
    /// # Errors
    /// [`AddressError::Full`].
    pub fn next(&mut self, family: Family, rng: &mut dyn RngCore) -> Result<IpAddr, AddressError> {
        let cidrs = self.ready.iter().filter(|cidr| cidr.family() == family);
        let found = cidrs.map(|cidr| self.next_in(cidr, rng)).find_map(|ip| ip);
        let ip = found.ok_or(AddressError::Full)?;
        self.claimed.push(ip);
        Ok(ip)
    }

    fn next_in(&self, cidr: &Cidr, rng: &mut dyn RngCore) -> Option<IpAddr> {
        let size = 1_u128
            .checked_shl(cidr.host_bits().into())
            .unwrap_or(u128::MAX);
        let lower = band::ADDRESSES.width(size);
        let free = |n: u128| self.is_free(cidr.address(n));
        pick(usable(cidr), lower, rng, free).map(|n| cidr.address(n))
    }

    fn is_free(&self, ip: IpAddr) -> bool {
        !self.claimed.contains(&ip) && self.view.get(IP_ADDRESSES, "", &ip.to_string()).is_none()
    }

    /// Writes an IPAddress for each address that was taken.
    pub fn commit(&self, owner: Owner<'_>, effects: &mut Effects) {
        for ip in &self.claimed {
            effects.put(IP_ADDRESSES, ip_address(*ip, owner));
        }
    }

    /// Gives an address back, if it is this Service's. Works for addresses outside of every ServiceCIDR too.
    pub fn release(view: &dyn View, owner: Owner<'_>, ip: &str, effects: &mut Effects) {
        let Some(name) = parse_sloppy(ip).map(|ip| ip.to_string()) else {
            return;
        };
        if view
            .get(IP_ADDRESSES, "", &name)
            .is_some_and(|object| belongs_to(object, owner))
        {
            effects.delete(IP_ADDRESSES, "", &name);
        }
    }
}

fn is_ready(cidr: &Value) -> bool {
    let ready = |c: &Value| text(c, "type") == "Ready" && text(c, "status") == "True";
    list(&cidr["status"], "conditions").iter().any(ready)
        && deep(cidr, &["metadata", "deletionTimestamp"]).is_none()
}

/// The addresses that can be handed out: for IPv4 all but the network's own and broadcast, for IPv6 all but the first
/// (the subnet-router anycast address, RFC 4291 section 2.6.1).
pub fn usable(cidr: &Cidr) -> RangeInclusive<u128> {
    match (cidr.family(), cidr.host_bits()) {
        (_, 0) => RangeInclusive::new(1, 0),
        (Family::V4, _) => cidr.first() + 1..=cidr.last() - 1,
        (Family::V6, _) => cidr.first() + 1..=cidr.last(),
    }
}

/// The IPAddress object of a Service's address.
pub fn ip_address(ip: IpAddr, owner: Owner<'_>) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": Family::of(ip).as_str(),
                "ipaddress.kubernetes.io/managed-by": MANAGED_BY,
            },
        },
        "spec": {
            "parentRef": { "resource": "services", "namespace": owner.namespace, "name": owner.name },
        },
    })
}

pub(super) fn belongs_to(ip_address: &Value, owner: Owner<'_>) -> bool {
    deep(ip_address, &["spec", "parentRef"]).is_some_and(|parent| {
        (text(parent, "group"), text(parent, "resource")) == ("", "services")
            && text(parent, "namespace") == owner.namespace
            && text(parent, "name") == owner.name
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::registry::alloc::testing::Memory;

    const OWNER: Owner<'_> = Owner {
        namespace: "ns",
        name: "web",
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn asked_for_addresses() {
        let mut memory = Memory::with_cidrs(&["10.96.0.0/16", "fd00:10:96::/112"]);
        memory.put(IP_ADDRESSES, ip_address(ip("10.96.0.10"), OWNER));
        let rows = [
            ("10.96.0.11", Ok(())),
            ("10.96.0.1", Ok(())),
            ("10.96.200.1", Ok(())),
            ("fd00:10:96::a", Ok(())),
            ("10.96.0.10", Err(AddressError::Taken)),
            ("10.96.0.0", Err(AddressError::OutOfRange)),
            ("10.96.255.255", Err(AddressError::OutOfRange)),
            ("fd00:10:96::", Err(AddressError::OutOfRange)),
            ("fd00:10:96::ffff", Ok(())),
            ("1.2.3.4", Err(AddressError::OutOfRange)),
        ];
        for (text, expected) in rows {
            assert_eq!(Addresses::new(&memory).claim(ip(text)), expected, "{text}");
        }
        let mut addresses = Addresses::new(&memory);
        assert_eq!(addresses.claim(ip("10.96.0.11")), Ok(()));
        assert_eq!(addresses.claim(ip("10.96.0.11")), Err(AddressError::Taken));
    }

    #[test]
    fn a_small_range_is_used_up_and_then_the_next_one() {
        let mut memory = Memory::with_cidrs(&["10.0.0.0/29"]);
        let mut given = Vec::new();
        for seed in 0..6 {
            let next = Addresses::new(&memory)
                .next(Family::V4, &mut StdRng::seed_from_u64(seed))
                .expect("room for six");
            memory.put(IP_ADDRESSES, ip_address(next, OWNER));
            given.push(next);
        }
        given.sort();
        assert_eq!(
            given,
            [
                "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"
            ]
            .map(ip)
        );
        let mut rng = StdRng::seed_from_u64(9);
        assert_eq!(
            Addresses::new(&memory).next(Family::V4, &mut rng),
            Err(AddressError::Full)
        );
        memory.put(
            SERVICE_CIDRS,
            crate::registry::alloc::testing::cidr("more", &["10.1.0.0/29"], "True"),
        );
        assert!(
            Addresses::new(&memory)
                .next(Family::V4, &mut rng)
                .is_ok_and(|ip| ip.to_string().starts_with("10.1.0."))
        );
    }

    #[test]
    fn dynamic_addresses_stay_above_the_lower_band() {
        let memory = Memory::with_cidrs(&["10.96.0.0/16", "fd00:10:96::/112"]);
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let next = Addresses::new(&memory)
                .next(Family::V4, &mut rng)
                .expect("room");
            assert!(next > ip("10.96.1.0"), "{next}");
            let next = Addresses::new(&memory)
                .next(Family::V6, &mut rng)
                .expect("room");
            assert!(next > ip("fd00:10:96::100"), "{next}");
        }
    }

    #[test]
    fn a_network_that_is_not_ready_or_goes_away_hands_out_nothing_and_still_takes_back() {
        let mut memory = Memory::default();
        memory.put(
            SERVICE_CIDRS,
            crate::registry::alloc::testing::cidr("kubernetes", &["10.96.0.0/16"], "False"),
        );
        assert_eq!(Addresses::new(&memory).families(), [Family::V4]);
        assert_eq!(
            Addresses::new(&memory).claim(ip("10.96.0.11")),
            Err(AddressError::OutOfRange)
        );
        memory.put(IP_ADDRESSES, ip_address(ip("10.96.0.11"), OWNER));
        let mut effects = Effects::default();
        Addresses::release(&memory, OWNER, "10.96.0.11", &mut effects);
        assert_eq!(effects.operations.len(), 1);
    }

    #[test]
    fn an_address_of_another_service_is_not_given_back() {
        let mut memory = Memory::with_cidrs(&["10.96.0.0/16"]);
        memory.put(IP_ADDRESSES, ip_address(ip("10.96.0.11"), OWNER));
        let mut effects = Effects::default();
        Addresses::release(
            &memory,
            Owner {
                namespace: "ns",
                name: "other",
            },
            "10.96.0.11",
            &mut effects,
        );
        assert_eq!(effects.operations, []);
    }
}
