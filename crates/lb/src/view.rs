//! What an announcer knows of the cluster, and whom it follows from that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use daymark_feed::record::{self, ClusterNode, L2Advertisement, ObjectKey};
use daymark_feed::{Batch, Event, PlaneStatus};
use daymark_model::input::{Change, IngressMode, SliceKey};
use daymark_model::{Cidr, Family, Service, ServiceKey, Slice, audience};

use crate::election::{Living, Nobody, Owner, elect};
use crate::pool::Pools;
use crate::reserved::{self, Reserved};
use crate::usable::{Usable, usable};

/// Services with addresses of ours, their endpoints, pools and nodes.
#[derive(Debug)]
pub struct View {
    class: Option<Arc<str>>,
    own: Arc<str>,
    pool_namespace: Arc<str>,
    service_cidrs: Vec<Cidr>,
    services: BTreeMap<ServiceKey, Arc<Service>>,
    slices: BTreeMap<ServiceKey, BTreeMap<SliceKey, Arc<Slice>>>,
    owner_of_slice: BTreeMap<SliceKey, ServiceKey>,
    addresses: BTreeMap<IpAddr, BTreeMap<ServiceKey, Place>>,
    /// The way back from a Service to its keys in `addresses`, without which a change of one would look at all.
    addresses_of: BTreeMap<ServiceKey, Vec<IpAddr>>,
    records: BTreeMap<ObjectKey, Arc<record::Pool>>,
    pools: Pools,
    advertisements: BTreeMap<ObjectKey, Arc<L2Advertisement>>,
    nodes: BTreeMap<Arc<str>, Arc<ClusterNode>>,
}

/// Which addresses may have another owner after a batch than before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These, whose Services or endpoints changed: none if the batch was about something else.
    Addresses(BTreeSet<IpAddr>),
    /// All: a node, a pool or an advertisement changed.
    Everything,
}

impl Changed {
    /// No address.
    pub const NOTHING: Self = Self::Addresses(BTreeSet::new());

    /// What two changes after each other add up to.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        match (self, later) {
            (Self::Addresses(mut all), Self::Addresses(more)) => {
                all.extend(more);
                Self::Addresses(all)
            }
            _ => Self::Everything,
        }
    }
}

/// Where an address of a Service can be served.
#[derive(Clone, Debug)]
struct Place {
    usable: Usable,
    /// The number of the batch since which this node can serve it.
    here_since: Option<u64>,
}

impl View {
    /// Knows nothing yet. `class` is the `spec.loadBalancerClass` served, `own` the name of this node, and only
    /// pools and advertisements of `pool_namespace` count. Addresses of Nodes, Pods and `service_cidrs` are nobody's.
    #[must_use]
    pub fn new(
        class: Option<Arc<str>>,
        own: Arc<str>,
        pool_namespace: Arc<str>,
        service_cidrs: Vec<Cidr>,
    ) -> Self {
        Self {
            class,
            own,
            pool_namespace,
            service_cidrs,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            owner_of_slice: BTreeMap::new(),
            addresses: BTreeMap::new(),
            addresses_of: BTreeMap::new(),
            records: BTreeMap::new(),
            pools: Pools::default(),
            advertisements: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// Takes a batch in, and says whose owners it may have changed.
    #[must_use = "owners that were elected before may be wrong now"]
    pub fn apply(&mut self, batch: &Batch) -> Changed {
        let mut touched: BTreeSet<ServiceKey> = BTreeSet::new();
        let mut changed = Changed::NOTHING;
        let mut pools = false;
        for event in &batch.events {
            match event {
                Event::Model(Change::Service(key, service)) => {
                    touched.extend(self.take_service(key, service.as_ref()))
                }
                Event::Model(Change::Slice(key, slice)) => {
                    touched.extend(self.take_slice(key, slice.as_ref()))
                }
                // The controller says so on the object.
                Event::Pool(key, _) | Event::L2Advertisement(key, _)
                    if key.namespace != self.pool_namespace => {}
                // The controller counts in a pool's status what it gave: most events of a pool change nothing.
                Event::Pool(key, pool) => {
                    if put(&mut self.records, key, pool.as_ref()) == Put::News {
                        pools = true;
                        changed = Changed::Everything;
                    }
                }
                Event::L2Advertisement(key, one) => {
                    if put(&mut self.advertisements, key, one.as_ref()) == Put::News {
                        changed = Changed::Everything;
                    }
                }
                Event::Node(name, node) => {
                    pools |= !reserved::same(self.nodes.get(name), node.as_ref());
                    if put(&mut self.nodes, name, node.as_ref()) == Put::News {
                        changed = Changed::Everything;
                    }
                }
                Event::Model(
                    Change::Node(_) | Change::MachineAddresses(_) | Change::ServiceCidr(..),
                )
                | Event::Triggered(..)
                | Event::Unusable(..)
                | Event::Eligibility(_)
                | Event::Namespace(..)
                | Event::Lease(..) => {}
            }
        }
        if pools {
            let reserved = Reserved::new(self.nodes.values(), &self.service_cidrs);
            self.pools = Pools::new(self.records.values(), reserved);
        }
        for key in touched {
            let addresses = self.rethink(&key, batch.number);
            changed = changed.and(Changed::Addresses(addresses));
        }
        changed
    }

    fn take_service(
        &mut self,
        key: &ServiceKey,
        service: Option<&Arc<Service>>,
    ) -> Option<ServiceKey> {
        let ours =
            service.filter(|service| audience::load_balancer(service, self.class.as_deref()));
        let before = self.services.contains_key(key);
        if put(&mut self.services, key, ours) == Put::Known {
            return None;
        }
        (before || ours.is_some()).then(|| key.clone())
    }

    fn take_slice(&mut self, key: &SliceKey, slice: Option<&Arc<Slice>>) -> Vec<ServiceKey> {
        let mut touched = Vec::new();
        if let Some(old) = self.owner_of_slice.remove(key) {
            if let Some(slices) = self.slices.get_mut(&old) {
                slices.remove(key);
                if slices.is_empty() {
                    self.slices.remove(&old);
                }
            }
            touched.push(old);
        }
        if let Some(slice) = slice {
            let owner = slice.owner();
            self.slices
                .entry(owner.clone())
                .or_default()
                .insert(key.clone(), Arc::clone(slice));
            self.owner_of_slice.insert(key.clone(), owner.clone());
            touched.push(owner);
        }
        touched.retain(|owner| self.services.contains_key(owner));
        touched
    }

    /// Thinks through where the addresses of one Service can be served: those it had, and those it has.
    fn rethink(&mut self, key: &ServiceKey, number: u64) -> BTreeSet<IpAddr> {
        let usable = self.usable(key);
        let before = self.withdraw(key);
        let touched = before.keys().chain(usable.keys()).copied().collect();
        if !usable.is_empty() {
            let addresses = usable.keys().copied().collect();
            self.addresses_of.insert(key.clone(), addresses);
        }
        for (address, usable) in usable {
            let known = before.get(&address).and_then(|place| place.here_since);
            let here_since = usable.on(&self.own).then(|| known.unwrap_or(number));
            self.addresses
                .entry(address)
                .or_default()
                .insert(key.clone(), Place { usable, here_since });
        }
        touched
    }

    /// The addresses of a Service, each with the nodes that can serve it.
    fn usable(&self, key: &ServiceKey) -> BTreeMap<IpAddr, Usable> {
        let Some(service) = self.services.get(key) else {
            return BTreeMap::new();
        };
        let slices = self.slices.get(key).into_iter().flat_map(BTreeMap::values);
        let slices: Vec<_> = slices.collect();
        let vips = service
            .ingress
            .iter()
            .filter(|ingress| ingress.mode == IngressMode::Vip);
        vips.map(|ingress| {
            let family = Family::of(ingress.ip);
            (ingress.ip, usable(service, &slices, family))
        })
        .collect()
    }

    /// Forgets the addresses of a Service; where they could be served is what is left of them.
    fn withdraw(&mut self, key: &ServiceKey) -> BTreeMap<IpAddr, Place> {
        let mut places = BTreeMap::new();
        for address in self.addresses_of.remove(key).unwrap_or_default() {
            let Some(of) = self.addresses.get_mut(&address) else {
                continue;
            };
            if let Some(place) = of.remove(key) {
                places.insert(address, place);
            }
            if of.is_empty() {
                self.addresses.remove(&address);
            }
        }
        places
    }

    /// Who answers for each address, with these announcers alive.
    #[must_use]
    pub fn owners(&self, living: &Living) -> BTreeMap<IpAddr, Owner> {
        self.addresses
            .iter()
            .map(|(address, of)| (*address, self.owner(*address, of, living)))
            .collect()
    }

    /// Who answers for the address, with these announcers alive; `None` if no Service has it.
    #[must_use]
    pub fn owner_of(&self, address: IpAddr, living: &Living) -> Option<Owner> {
        let of = self.addresses.get(&address)?;
        Some(self.owner(address, of, living))
    }

    fn owner(&self, address: IpAddr, of: &BTreeMap<ServiceKey, Place>, living: &Living) -> Owner {
        if self.pools.reserved().holder(address).is_some() {
            return Owner::Nobody(Nobody::Reserved);
        }
        // The oldest pool, unless the first of its Services says that another one gave the address.
        let service = of.keys().next().and_then(|key| self.services.get(key));
        let pool = service.map_or_else(
            || self.pools.of(address),
            |service| self.pools.of_given(address, service),
        );
        let Some(pool) = pool else {
            return Owner::Nobody(Nobody::NoPool);
        };
        if !is_advertised(self.advertisements.values(), &pool.key().name) {
            return Owner::Nobody(Nobody::NotAdvertised);
        }
        let usable: Vec<_> = of
            .values()
            .map(|place| &place.usable)
            .filter(|u| **u != Usable::Nowhere)
            .collect();
        if usable.is_empty() {
            return Owner::Nobody(Nobody::NoEndpoint);
        }
        match elect(address, living, &self.nodes, &usable) {
            Some(node) => Owner::Node(node),
            None => Owner::Nobody(Nobody::NoNode),
        }
    }

    /// Whether the data plane of this node serves the address: it has committed everything up to the batch
    /// that made this node able to.
    #[must_use]
    pub fn is_committed(&self, address: IpAddr, plane: PlaneStatus) -> bool {
        let places = self
            .addresses
            .get(&address)
            .into_iter()
            .flat_map(BTreeMap::values);
        places
            .filter(|place| place.usable != Usable::Nowhere)
            .all(|place| place.here_since.is_some_and(|number| plane.holds(number)))
    }

    /// The addresses of this node's Node object.
    #[must_use]
    pub fn own_addresses(&self) -> &[IpAddr] {
        self.nodes
            .get(&self.own)
            .map_or(&[], |node| &node.addresses)
    }

    /// The Services that have the address.
    pub fn services_of(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Service>> {
        let keys = self.addresses.get(&address).into_iter();
        keys.flat_map(BTreeMap::keys)
            .filter_map(|key| self.services.get(key))
    }
}

/// Whether an L2Advertisement covers the pool: it names it, or names none at all. One that sets a field this
/// version does not know (`nodeSelectors`, `interfaces`) covers nothing: announcing from everywhere what was
/// meant to be announced from somewhere would be worse than not announcing it.
pub(crate) fn is_advertised<'a>(
    advertisements: impl IntoIterator<Item = &'a Arc<L2Advertisement>>,
    pool: &str,
) -> bool {
    advertisements
        .into_iter()
        .filter(|one| one.other_fields.is_empty())
        .any(|one| one.pools.is_empty() || one.pools.iter().any(|name| **name == *pool))
}

/// Whether something was known before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    News,
    Known,
}

fn put<K: Ord + Clone, V: PartialEq>(
    map: &mut BTreeMap<K, Arc<V>>,
    key: &K,
    value: Option<&Arc<V>>,
) -> Put {
    if map.get(key) == value {
        return Put::Known;
    }
    match value {
        Some(value) => map.insert(key.clone(), Arc::clone(value)),
        None => map.remove(key),
    };
    Put::News
}

#[cfg(test)]
mod tests {
    use daymark_feed::Scope;
    use daymark_model::input::{IngressMode, LoadBalancerRequest, ServiceType, TrafficPolicy};

    use super::*;
    use crate::testing::{advertisement, ip, node, pool, service, slice};

    fn batch(number: u64, events: Vec<Event>) -> Batch {
        Batch {
            number,
            scope: Scope::Changes,
            events,
        }
    }

    fn has(service: Service) -> Event {
        Event::Model(Change::Service(
            service.key.clone(),
            Some(Arc::new(service)),
        ))
    }

    fn endpoints(endpoints: &[(&str, &str, &str)]) -> Event {
        let slice = slice("web", endpoints);
        Event::Model(Change::Slice(slice.key.clone(), Some(Arc::new(slice))))
    }

    fn advertises(pools: &[&str]) -> Event {
        let one = advertisement("l2", pools);
        Event::L2Advertisement(one.key.clone(), Some(Arc::new(one)))
    }

    fn cluster() -> Vec<Event> {
        let pool = pool("p", &["172.30.0.200-172.30.0.250"]);
        let mut events = vec![
            Event::Pool(pool.key.clone(), Some(Arc::new(pool))),
            advertises(&["p"]),
        ];
        events.extend(["a", "b"].map(|name| Event::Node(name.into(), Some(Arc::new(node(name))))));
        events.push(has(service("web", &["172.30.0.200"])));
        events.push(endpoints(&[("10.0.0.1", "a", "ready")]));
        events
    }

    fn living(names: &[&str]) -> Living {
        names
            .iter()
            .map(|name| (Arc::from(*name), Vec::new()))
            .collect()
    }

    fn check(view: &View, expected: &[(&str, &str)]) {
        let found: Vec<_> = view
            .owners(&living(&["a", "b"]))
            .iter()
            .map(|(ip, owner)| (ip.to_string(), owner.to_string()))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(ip, owner)| (ip.to_string(), owner.to_string()))
            .collect();
        assert_eq!(found, expected);
    }

    /// The view of node `a` after one more event.
    fn after(event: Event) -> View {
        let mut view = View::new(None, "a".into(), "metallb-system".into(), Vec::new());
        let _ = view.apply(&batch(1, cluster()));
        let _ = view.apply(&batch(2, vec![event]));
        view
    }

    #[test]
    fn an_address_is_answered_for_or_the_reason_is_known() {
        let vip = "172.30.0.200";
        check(&after(advertises(&[])), &[(vip, "b")]);
        let not_advertised = Nobody::NotAdvertised.to_string();
        check(
            &after(advertises(&["q"])),
            &[(vip, &format!("nobody: {not_advertised}"))],
        );
        let mut selective = advertisement("l2", &["p"]);
        selective.other_fields = vec!["nodeSelectors".into()];
        let event = Event::L2Advertisement(selective.key.clone(), Some(Arc::new(selective)));
        check(
            &after(event),
            &[(vip, &format!("nobody: {not_advertised}"))],
        );
        check(
            &after(endpoints(&[])),
            &[(vip, "nobody: its Service has no ready endpoint")],
        );
        check(
            &after(has(service("web", &["192.0.2.1"]))),
            &[("192.0.2.1", "nobody: the address is in no IPAddressPool")],
        );
        let mut local = service("web", &[vip]);
        local.external_policy = TrafficPolicy::Local;
        check(&after(has(local)), &[(vip, "a")]);
        let gone = ServiceKey::new("default", "web");
        check(&after(Event::Model(Change::Service(gone, None))), &[]);
    }

    #[test]
    fn an_address_that_a_node_takes_is_no_longer_answered_for() {
        let mut new = node("c");
        new.addresses = vec![ip("172.30.0.200")];
        let view = after(Event::Node("c".into(), Some(Arc::new(new))));
        let nobody = format!("nobody: {}", Nobody::Reserved);
        check(&view, &[("172.30.0.200", &nobody)]);
    }

    #[test]
    fn pools_and_advertisements_of_another_namespace_do_not_count() {
        let elsewhere = |name: &str| ObjectKey {
            namespace: "default".into(),
            name: name.into(),
        };
        let mut stray = pool("p", &["192.0.2.0/24"]);
        stray.key = elsewhere("p");
        let mut view = after(Event::Pool(stray.key.clone(), Some(Arc::new(stray))));
        check(&view, &[("172.30.0.200", "b")]);
        let _ = view.apply(&batch(3, vec![has(service("web", &["192.0.2.1"]))]));
        check(
            &view,
            &[("192.0.2.1", "nobody: the address is in no IPAddressPool")],
        );
        let mut view = after(advertises(&["q"]));
        let mut stray = advertisement("l2", &["p"]);
        stray.key = elsewhere("l2");
        let stray = Event::L2Advertisement(stray.key.clone(), Some(Arc::new(stray)));
        let _ = view.apply(&batch(3, vec![stray]));
        let nobody = format!("nobody: {}", Nobody::NotAdvertised);
        check(&view, &[("172.30.0.200", &nobody)]);
    }

    #[test]
    fn addresses_of_others_are_left_alone() {
        let mut other = service("web", &["172.30.0.200"]);
        let request = LoadBalancerRequest {
            class: Some("other.example/lb".into()),
            ..Default::default()
        };
        other.load_balancer = Some(Box::new(request));
        check(&after(has(other)), &[]);
        let mut proxied = service("web", &["172.30.0.200"]);
        proxied.ingress[0].mode = IngressMode::Proxy;
        check(&after(has(proxied)), &[]);
    }

    #[test]
    fn a_batch_says_whose_owners_it_may_have_changed() {
        let check = |events: Vec<Event>, expected: &[&str]| {
            let mut view = after(has(service("other", &["172.30.0.201"])));
            let changed = view.apply(&batch(3, events));
            let expected = expected.iter().map(|text| ip(text)).collect();
            assert_eq!(changed, Changed::Addresses(expected));
        };
        check(vec![], &[]);
        // What is said again, as every pool is whose status counts.
        check(cluster().into_iter().take(5).collect(), &[]);
        let internal = Service {
            kind: ServiceType::ClusterIp,
            ..service("internal", &[])
        };
        let mut endpoint = slice("internal", &[("10.0.0.9", "b", "ready")]);
        endpoint.key.name = "internal".into();
        let endpoint = Change::Slice(endpoint.key.clone(), Some(Arc::new(endpoint)));
        let machine = Change::MachineAddresses([ip("172.30.0.11")].into());
        let unrelated = [endpoint, Change::Node(None), machine].map(Event::Model);
        check([vec![has(internal)], unrelated.into()].concat(), &[]);
        check(vec![endpoints(&[])], &["172.30.0.200"]);
        check(
            vec![has(service("web", &["172.30.0.202"]))],
            &["172.30.0.200", "172.30.0.202"],
        );
        let mut view = after(advertises(&["p"]));
        let changed = view.apply(&batch(3, vec![endpoints(&[]), advertises(&["q"])]));
        assert_eq!(changed, Changed::Everything);
        let changed = view.apply(&batch(4, vec![Event::Node("b".into(), None)]));
        assert_eq!(changed, Changed::Everything);
    }

    #[test]
    fn services_share_an_address_until_each_has_left_it() {
        let mut view = after(has(service("other", &["172.30.0.200", "172.30.0.201"])));
        let of = |view: &View| {
            let of = |ip: &IpAddr| {
                view.services_of(*ip)
                    .map(|service| service.key.name.to_string())
            };
            let shown = |ip| format!("{ip}: {}", of(ip).collect::<Vec<_>>().join(" "));
            view.addresses.keys().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(
            of(&view),
            ["172.30.0.200: other web", "172.30.0.201: other"]
        );
        let _ = view.apply(&batch(3, vec![has(service("web", &["172.30.0.201"]))]));
        assert_eq!(
            of(&view),
            ["172.30.0.200: other", "172.30.0.201: other web"]
        );
        let _ = view.apply(&batch(4, vec![has(service("other", &[]))]));
        assert_eq!(of(&view), ["172.30.0.201: web"]);
        let gone = Change::Service(ServiceKey::new("default", "web"), None);
        let _ = view.apply(&batch(5, vec![Event::Model(gone)]));
        assert!(view.addresses.is_empty() && view.addresses_of.is_empty());
    }

    #[test]
    fn an_address_waits_for_the_batch_that_made_this_node_able_to_serve_it() {
        let vip = ip("172.30.0.200");
        let at = |generation| PlaneStatus::Committed { generation };
        let mut view = View::new(None, "a".into(), "metallb-system".into(), Vec::new());
        let _ = view.apply(&batch(1, cluster()));
        assert!(!view.is_committed(vip, PlaneStatus::Starting));
        assert!(view.is_committed(vip, at(1)) && view.is_committed(vip, PlaneStatus::NoPlane));
        // A further endpoint changes nothing; none at all, and a new one, do.
        let _ = view.apply(&batch(
            2,
            vec![endpoints(&[
                ("10.0.0.1", "b", "ready"),
                ("10.0.0.2", "b", "ready"),
            ])],
        ));
        assert!(view.is_committed(vip, at(1)));
        let _ = view.apply(&batch(3, vec![endpoints(&[])]));
        let _ = view.apply(&batch(4, vec![endpoints(&[("10.0.0.3", "b", "ready")])]));
        assert!(!view.is_committed(vip, at(3)) && view.is_committed(vip, at(4)));
    }
}
