//! Names of addresses: the cluster IP of a Service before the endpoints of any.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RecordType};

use super::answer::{Answer, Maker, Outcome, prefixed};
use super::lookup::{labels, service_name};
use super::{Synced, Zone, endpoints};

impl Zone {
    /// The answer to a question under a reverse zone; `None` if the name is under none of them and
    /// no address of the cluster either.
    pub(super) fn answer_reverse(&self, name: &Name, kind: RecordType) -> Option<Outcome> {
        let own = self.reverse_zones.iter().find(|zone| zone.zone_of(name));
        let address = address(name);
        if own.is_none() && address.is_none() {
            return None;
        }
        if self.synced == Synced::NotYet {
            // A miss cannot be told from ignorance yet, and must not be taken elsewhere.
            return Some(Outcome::NotReady);
        }
        let targets = address.map_or_else(Vec::new, |address| self.names_of(address));
        if targets.is_empty() && own.is_none() {
            return None;
        }
        let zone = own.cloned().unwrap_or_else(|| name.trim_to(2));
        let maker = Maker {
            ttl: self.ttl,
            serial: self.serial,
        };
        let soa = || maker.soa(&zone, self.name_server(&self.origin));
        Some(Outcome::Answer(
            if targets.is_empty() && address.is_some() {
                Answer::no_name(soa())
            } else if targets.is_empty() || kind != RecordType::PTR {
                Answer::no_data(soa())
            } else {
                let records = targets.into_iter().map(|target| maker.ptr(name, target));
                Answer::records(records.collect(), Vec::new())
            },
        ))
    }

    /// The names that an address has: of its Service, else one for each Service it is an endpoint of.
    fn names_of(&self, address: IpAddr) -> Vec<Name> {
        let services = self.store.cluster_ip_owners(address);
        if !services.is_empty() {
            return services
                .iter()
                .filter_map(|key| service_name(key, &self.origin))
                .collect();
        }
        let mut names = Vec::new();
        for key in self.store.endpoint_owners(address) {
            if self.store.service(&key.namespace, &key.name).is_none() {
                continue;
            }
            let Some(service) = service_name(key, &self.origin) else {
                continue;
            };
            for slice in self.store.slices(key) {
                let found = slice
                    .endpoints
                    .iter()
                    .find(|endpoint| endpoint.address == address && endpoint.conditions.is_ready());
                if let Some(endpoint) = found
                    && let Some(name) = prefixed(&endpoints::label(endpoint), &service)
                    && !names.contains(&name)
                {
                    names.push(name);
                }
            }
        }
        names
    }
}

/// The whole address that a reverse name spells (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn address(name: &Name) -> Option<IpAddr> {
    let labels = labels(name)?;
    let (rest, tail) = labels.split_at(labels.len().checked_sub(2)?);
    match (tail[0].as_str(), tail[1].as_str(), rest.len()) {
        ("in-addr", "arpa", 4) => {
            let mut octets = [0u8; 4];
            for (octet, label) in octets.iter_mut().zip(rest.iter().rev()) {
                *octet = label
                    .parse()
                    .ok()
                    .filter(|octet: &u8| octet.to_string() == *label)?;
            }
            Some(IpAddr::V4(Ipv4Addr::from(octets)))
        }
        ("ip6", "arpa", 32) => {
            let mut bits = 0u128;
            for label in rest.iter().rev() {
                let nibble = u128::from_str_radix(label, 16)
                    .ok()
                    .filter(|_| label.len() == 1)?;
                bits = bits << 4 | nibble;
            }
            Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
        _ => None,
    }
}
