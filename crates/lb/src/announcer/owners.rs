//! Who answers for what, with nobody elected again whose owner cannot have changed: an election hashes the name of
//! every living node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::election::{Living, Owner};
use crate::view::{Changed, View};

/// The owners as they were elected last, and what has changed since.
#[derive(Debug)]
pub(super) struct Owners {
    owners: BTreeMap<IpAddr, Owner>,
    living: Living,
    stale: Changed,
}

impl Default for Owners {
    /// Nothing was elected yet.
    fn default() -> Self {
        Self {
            owners: BTreeMap::new(),
            living: Living::new(),
            stale: Changed::Everything,
        }
    }
}

impl Owners {
    /// Every address that a Service has.
    pub(super) fn all(&self) -> &BTreeMap<IpAddr, Owner> {
        &self.owners
    }

    /// To be elected again when things settle.
    pub(super) fn changed(&mut self, changed: Changed) {
        let before = std::mem::replace(&mut self.stale, Changed::NOTHING);
        self.stale = before.and(changed);
    }

    /// Elects what changed, and everything if others live than before. What was elected.
    pub(super) fn settle(&mut self, view: &View, living: Living) -> Changed {
        if living != self.living {
            self.living = living;
            self.stale = Changed::Everything;
        }
        let elected = std::mem::replace(&mut self.stale, Changed::NOTHING);
        match &elected {
            Changed::Everything => self.owners = view.owners(&self.living),
            Changed::Addresses(addresses) => {
                for address in addresses {
                    match view.owner_of(*address, &self.living) {
                        Some(owner) => self.owners.insert(*address, owner),
                        None => self.owners.remove(address),
                    };
                }
            }
        }
        elected
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daymark_feed::record::{Balancing, Network};
    use daymark_feed::{Batch, Event, Scope};
    use daymark_model::Cidr;
    use daymark_model::input::{Change, ServiceKey, TrafficPolicy};
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;
    use crate::testing::{advertisement, asks, ip, node, pool, service, slice};

    const NODES: [&str; 3] = ["a", "b", "c"];
    const POOLS: [&str; 2] = ["p", "q"];
    const SERVICES: [&str; 3] = ["s", "t", "u"];
    const VIPS: [&str; 4] = [
        "172.30.0.200",
        "172.30.0.201",
        "172.30.0.202",
        "172.30.0.203",
    ];

    fn batch(number: u64, events: Vec<Event>) -> Batch {
        Batch {
            number,
            scope: Scope::Changes,
            events,
        }
    }

    fn view() -> View {
        View::new(None, "a".into(), "metallb-system".into(), Vec::new())
    }

    fn living(names: &[&str]) -> Living {
        let all = names.iter().map(|name| (Arc::from(*name), Vec::new()));
        all.collect()
    }

    fn some(list: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        subsequence(list, 0..=list.len())
    }

    fn a_service() -> impl Strategy<Value = Event> {
        let policies = select(&[TrafficPolicy::Cluster, TrafficPolicy::Local][..]);
        let given = some(&POOLS);
        (select(&SERVICES[..]), some(&VIPS), policies, given).prop_map(
            |(name, addresses, policy, given)| {
                let mut service = asks(service(name, &addresses), &[], None);
                service.external_policy = policy;
                if let Some(request) = &mut service.load_balancer {
                    request.given_from = given.into_iter().map(Arc::from).collect();
                }
                Event::Model(Change::Service(
                    service.key.clone(),
                    Some(Arc::new(service)),
                ))
            },
        )
    }

    fn a_slice() -> impl Strategy<Value = Event> {
        let states = select(&["ready", "serving", "unready"][..]);
        (select(&SERVICES[..]), some(&NODES), states).prop_map(|(name, nodes, state)| {
            let endpoints: Vec<_> = nodes
                .iter()
                .map(|node| ("10.0.0.1", *node, state))
                .collect();
            let slice = slice(name, &endpoints);
            Event::Model(Change::Slice(slice.key.clone(), Some(Arc::new(slice))))
        })
    }

    fn a_pool() -> impl Strategy<Value = Event> {
        const RANGES: [&str; 2] = ["172.30.0.200-172.30.0.201", "172.30.0.201-172.30.0.203"];
        (select(&POOLS[..]), select(&RANGES[..]), 0..2_i64).prop_map(|(name, range, created)| {
            let mut pool = pool(name, &[range]);
            pool.created = created;
            Event::Pool(pool.key.clone(), Some(Arc::new(pool)))
        })
    }

    fn a_node() -> impl Strategy<Value = Event> {
        let balancing = select(&[Balancing::Included, Balancing::Excluded][..]);
        let network = select(&[Network::Available, Network::Unavailable][..]);
        let addresses = subsequence(&VIPS[..], 0..2);
        (select(&NODES[..]), balancing, network, addresses).prop_map(
            |(name, balancing, network, addresses)| {
                let mut node = node(name);
                (node.balancing, node.network) = (balancing, network);
                node.addresses = addresses.into_iter().map(ip).collect();
                Event::Node(name.into(), Some(Arc::new(node)))
            },
        )
    }

    /// An object that comes or changes, or the same that goes.
    fn an_event() -> impl Strategy<Value = Event> {
        let advertised = some(&POOLS).prop_map(|pools| {
            let one = advertisement("l2", &pools);
            Event::L2Advertisement(one.key.clone(), Some(Arc::new(one)))
        });
        let comes = prop_oneof![
            5 => a_service(), 5 => a_slice(), 2 => a_pool(), 2 => a_node(), 1 => advertised
        ];
        let goes = comes.clone().prop_map(|event| match event {
            Event::Model(Change::Service(key, _)) => Event::Model(Change::Service(key, None)),
            Event::Model(Change::Slice(key, _)) => Event::Model(Change::Slice(key, None)),
            Event::Pool(key, _) => Event::Pool(key, None),
            Event::L2Advertisement(key, _) => Event::L2Advertisement(key, None),
            Event::Node(name, _) => Event::Node(name, None),
            other => other,
        });
        prop_oneof![4 => comes, 1 => goes]
    }

    /// A cluster in which every address has a pool, so that most of what happens later changes an owner.
    fn cluster() -> Vec<Event> {
        let pool = pool("p", &["172.30.0.200-172.30.0.203"]);
        let advertised = advertisement("l2", &[]);
        let mut events = vec![
            Event::Pool(pool.key.clone(), Some(Arc::new(pool))),
            Event::L2Advertisement(advertised.key.clone(), Some(Arc::new(advertised))),
        ];
        let nodes = NODES.map(|name| Event::Node(name.into(), Some(Arc::new(node(name)))));
        events.extend(nodes);
        events
    }

    proptest! {
        #[test]
        fn electing_what_changed_ends_where_electing_everything_would(
            steps in prop::collection::vec((prop::collection::vec(an_event(), 0..4), some(&NODES)), 1..12)
        ) {
            let (mut grown, mut owners) = (view(), Owners::default());
            let mut all = cluster();
            owners.changed(grown.apply(&batch(1, all.clone())));
            let mut alive = living(&NODES);
            for (number, (events, names)) in (2..).zip(steps) {
                // Every third step somebody else lives; elections in between are of what changed alone.
                if number % 3 == 0 {
                    alive = living(&names);
                }
                owners.changed(grown.apply(&batch(number, events.clone())));
                owners.settle(&grown, alive.clone());
                all.extend(events);
                let mut fresh = view();
                let _ = fresh.apply(&batch(number, all.clone()));
                prop_assert_eq!(owners.all(), &fresh.owners(&alive));
            }
        }
    }

    #[test]
    fn only_what_changed_is_elected() {
        let has = |service: daymark_model::Service| {
            let key = service.key.clone();
            Event::Model(Change::Service(key, Some(Arc::new(service))))
        };
        let (mut view, mut owners) = (view(), Owners::default());
        let mut events = cluster();
        events.extend([has(service("s", &VIPS[..2])), has(service("t", &VIPS[2..]))]);
        owners.changed(view.apply(&batch(1, events)));
        let alive = living(&NODES);
        let elected = owners.settle(&view, alive.clone());
        assert_eq!(elected, Changed::Everything);
        assert_eq!(owners.all().len(), 4);
        let of = |addresses: &[&str]| Changed::Addresses(addresses.iter().map(|a| ip(a)).collect());
        let mut check = |events: Vec<Event>, alive: &Living, expected: Changed| {
            owners.changed(view.apply(&batch(2, events)));
            assert_eq!(owners.settle(&view, alive.clone()), expected);
            assert_eq!(owners.all(), &view.owners(alive));
        };
        check(vec![], &alive, of(&[]));
        let elsewhere = slice("internal", &[("10.0.0.9", "b", "ready")]);
        let elsewhere = Change::Slice(elsewhere.key.clone(), Some(Arc::new(elsewhere)));
        check(vec![Event::Model(elsewhere)], &alive, of(&[]));
        let ready = slice("s", &[("10.0.0.1", "a", "ready")]);
        let ready = Change::Slice(ready.key.clone(), Some(Arc::new(ready)));
        check(vec![Event::Model(ready)], &alive, of(&VIPS[..2]));
        let gone = Change::Service(ServiceKey::new("default", "t"), None);
        check(vec![Event::Model(gone)], &alive, of(&VIPS[2..]));
        check(vec![], &living(&NODES[..1]), Changed::Everything);
        let mut near = living(&NODES[..1]);
        near.insert(
            "a".into(),
            Cidr::parse("172.30.0.0/24").into_iter().collect(),
        );
        check(vec![], &near, Changed::Everything);
        check(vec![], &near, of(&[]));
    }
}
