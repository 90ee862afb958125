//! The inputs and what they ask of this node, kept up to date change by change.
//!
//! A batch of changes costs what it touches: only the Services named in it, or named by its slices,
//! are thought through again. A change of the node is a change of every Service.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::claims::{Claim, Claims};
use crate::desire::{Here, Wishes, desire_and_count};
use crate::desired::{
    Delta, Desired, Frontend, FrontendKey, Lost, Origin, PoolKey, PortName, Refusal, Right,
    set_changes,
};
use crate::input::{Change, Inputs, Options, Service, ServiceKey, Slice, SliceKey};
use crate::listeners::{
    HealthCheck, HealthCheckKey, HealthCheckRefusal, health_check_addresses, local_listener,
    loopback_families,
};
use crate::rules::Invalid;

/// All inputs, and the state of the node that follows from them.
///
/// ```
/// use daymark_model::{Options, World};
/// let mut world = World::new(Options::default());
/// assert!(world.apply([]).is_empty());
/// assert!(world.desired().frontends.is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct World {
    inputs: Inputs,
    here: Here,
    known: HashMap<ServiceKey, Known>,
    /// How many ports of Services are not served because they are too many; hardly ever any.
    beyond: BTreeMap<ServiceKey, usize>,
    claims: Claims<FrontendKey, Arc<PortName>, Right, Frontend>,
    /// The older Service has the better right.
    health_claims: Claims<HealthCheckKey, ServiceKey, i64, HealthCheck>,
    addresses: Counted,
    outer_addresses: Counted,
    spared: Counted,
    /// Those of `spared` that are the machine's own.
    own_spared: BTreeSet<IpAddr>,
    local_backends: Counted,
    endpoint_ports: Counted<u16>,
    desired: Desired,
    /// How many endpoints were looked at since the beginning.
    looked_at: u64,
    /// What the next batch has to think through besides what it names: at first, the settings.
    untold: Touched,
}

impl World {
    /// A world without inputs.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut here = Here {
            options,
            ..Here::default()
        };
        here.node = here.unregistered();
        Self {
            here,
            untold: Touched {
                node: true,
                ..Touched::default()
            },
            ..Self::default()
        }
    }

    /// What the kernel should do now.
    #[must_use]
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.here.options
    }

    /// The inputs as they are now.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The place where the rules are applied.
    #[must_use]
    pub fn here(&self) -> &Here {
        &self.here
    }

    /// The slices that carry a Service's name.
    pub fn slices_of(&self, service: &ServiceKey) -> impl Iterator<Item = &Arc<Slice>> {
        let known = self.known.get(service).into_iter();
        known.flat_map(|known| &known.slices)
    }

    /// The slice of a name as it is now. Most often it is of the Service that the next version, if there is one, names.
    pub(crate) fn slice(&self, key: &SliceKey, next: Option<&Slice>) -> Option<&Arc<Slice>> {
        let known = next.and_then(|next| self.known.get(&next.owner()));
        let same = known.and_then(|known| Some(&known.slices[known.place(key).ok()?]));
        same.or_else(|| self.inputs.slices.get(key))
    }

    /// The places that a Service asks for, granted or not.
    pub fn frontends_of(&self, service: &ServiceKey) -> impl Iterator<Item = FrontendKey> + '_ {
        let known = self.known.get(service);
        let wishes = known.and_then(|known| known.wishes.as_ref());
        wishes
            .into_iter()
            .flat_map(|wishes| &wishes.frontends)
            .map(|(at, _)| *at)
    }

    /// Wishes that were not granted because another Service has a better right to the same address and port.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        let refused = self.claims.refused();
        let refusals = refused.map(|(at, loser, holder)| Refusal {
            port: loser.who.clone(),
            at,
            held_by: holder.who.clone(),
            why: Lost::between(holder.right, loser.right),
        });
        refusals.collect()
    }

    /// Health checks that are not served because an older Service has the same port.
    #[must_use]
    pub fn health_check_refusals(&self) -> Vec<HealthCheckRefusal> {
        let refused = self.health_claims.refused();
        let refusals = refused.map(|(at, loser, holder)| HealthCheckRefusal {
            service: loser.who.clone(),
            at,
            held_by: holder.who.clone(),
            why: Lost::between(
                (Origin::NodePort, holder.right),
                (Origin::NodePort, loser.right),
            ),
        });
        refusals.collect()
    }

    /// How many endpoints were looked at since the beginning: each once for a change of its Service, for each set of slices that name a port alike
    /// and each number there.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Services with more places, backends or endpoints to look at than one may have, and how many of their ports, counted once a family, are not served.
    #[must_use]
    pub fn beyond(&self) -> &BTreeMap<ServiceKey, usize> {
        &self.beyond
    }

    /// Whether [`World::refusals`] or [`World::health_check_refusals`] may say something else than when this was asked last.
    pub fn take_refusals_stirred(&mut self) -> bool {
        // Both are asked, whatever the first says.
        self.claims.take_stirred() | self.health_claims.take_stirred()
    }

    /// Takes a batch of changes in and says what the kernel must be told.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Delta {
        let mut touched = std::mem::take(&mut self.untold);
        for change in changes {
            self.take(change, &mut touched);
        }
        let mut delta = Delta::default();
        if touched.node {
            self.apply_node(&mut delta);
            touched
                .services
                .extend(self.inputs.services.keys().cloned());
        }
        if touched.node || touched.networks {
            self.apply_networks(&mut delta);
        }
        let mut contested = Contested::default();
        for key in touched.services {
            self.rethink(&key, &mut contested, &mut delta);
        }
        self.crown(contested, &mut delta);
        self.addresses.settle(
            &mut self.desired.service_addresses,
            &mut delta.service_addresses,
        );
        self.outer_addresses.settle(
            &mut self.desired.outer_addresses,
            &mut delta.outer_addresses,
        );
        self.spared.settle(
            &mut self.desired.spared_addresses,
            &mut delta.spared_addresses,
        );
        self.endpoint_ports
            .settle(&mut self.desired.endpoint_ports, &mut delta.endpoint_ports);
        self.local_backends
            .settle(&mut self.desired.local_backends, &mut delta.local_backends);
        delta
    }

    fn take(&mut self, change: Change, touched: &mut Touched) {
        match change {
            Change::Service(key, service) => {
                self.known_of(&key).service.clone_from(&service);
                put(&mut self.inputs.services, &key, service);
                touched.services.insert(key);
            }
            Change::Slice(key, slice) => self.take_slice(key, slice, touched),
            Change::Node(node) => {
                self.here.node = node
                    .as_deref()
                    .cloned()
                    .unwrap_or_else(|| self.here.unregistered());
                self.inputs.node = node;
                touched.node = true;
            }
            Change::MachineAddresses(addresses) => {
                self.here.machine_addresses = addresses.clone();
                self.inputs.machine_addresses = addresses;
                touched.node = true;
            }
            Change::ServiceCidr(name, cidr) => {
                put(&mut self.inputs.service_cidrs, &name, cidr);
                touched.networks = true;
            }
        }
    }

    fn take_slice(&mut self, key: SliceKey, slice: Option<Arc<Slice>>, touched: &mut Touched) {
        let old = match &slice {
            Some(new) => self.inputs.slices.insert(key.clone(), Arc::clone(new)),
            None => self.inputs.slices.remove(&key),
        };
        let (old, new) = (
            old.map(|old| old.owner()),
            slice.as_ref().map(|new| new.owner()),
        );
        if let Some(old) = old.filter(|old| Some(old) != new.as_ref()) {
            let known = self.known_of(&old);
            known.slices.retain(|known| known.key != key);
            touched.services.insert(old);
        }
        if let Some((owner, slice)) = new.zip(slice) {
            let known = self.known_of(&owner);
            match known.place(&key) {
                Ok(at) => known.slices[at] = slice,
                Err(at) => {
                    known.slices.reserve_exact(1);
                    known.slices.insert(at, slice);
                }
            }
            touched.services.insert(owner);
        }
    }

    fn known_of(&mut self, service: &ServiceKey) -> &mut Known {
        self.known.entry(service.clone()).or_default()
    }

    fn apply_node(&mut self, delta: &mut Delta) {
        let own_pods = self.here.own_pods();
        if self.desired.own_pods != own_pods {
            delta.own_pods = Some(own_pods.clone());
            self.desired.own_pods = own_pods;
        }
        let wanted: BTreeSet<IpAddr> = self.here.own_addresses().collect();
        delta.own_addresses = set_changes(&self.desired.own_addresses, &wanted);
        self.desired.own_addresses = wanted;
        let wanted: BTreeSet<IpAddr> = self.here.node_port_addresses().into_iter().collect();
        delta.node_port_addresses = set_changes(&self.desired.node_port_addresses, &wanted);
        self.desired.node_port_addresses = wanted;
        let wanted = health_check_addresses(&self.here);
        delta.health_check_addresses = set_changes(&self.desired.health_check_addresses, &wanted);
        self.desired.health_check_addresses = wanted;
    }

    fn apply_networks(&mut self, delta: &mut Delta) {
        let service_cidrs = self.inputs.service_cidrs.values();
        let networks = self.here.service_networks(service_cidrs);
        let own = self.here.own_addresses_in(&networks);
        self.spared
            .replace(self.own_spared.iter().copied(), own.iter().copied());
        self.own_spared = own;
        if self.desired.service_networks != networks {
            delta.service_networks = Some(networks.clone());
            self.desired.service_networks = networks;
        }
    }

    /// Thinks one Service through again. Who gets an address and port is settled once all are done:
    /// `contested` collects them.
    fn rethink(&mut self, key: &ServiceKey, contested: &mut Contested, delta: &mut Delta) {
        let Some(known) = self.known.get_mut(key) else {
            return;
        };
        let mut old = known.wishes.take().map(|old| *old).unwrap_or_default();
        let new = known.service.as_ref();
        let new =
            new.map(|service| desire_and_count(service, known.slices.iter(), &self.here, &old));
        let (mut new, looked_at) = new.unwrap_or_default();
        self.looked_at += looked_at as u64;
        if new == old {
            self.keep(key, old);
            return;
        }
        if (new.created, &new.frontends) == (old.created, &old.frontends) {
            // As most often: only endpoints are others. Claims and tables hold the old ones.
            new.frontends = std::mem::take(&mut old.frontends);
            // Their listeners on loopback go by the endpoints.
            let node_ports = new.frontends.iter().map(|(at, _)| *at);
            let node_ports = node_ports.filter(|at| matches!(at, FrontendKey::NodePort { .. }));
            contested.frontends.extend(node_ports);
        } else {
            self.replace_claims(&old, &new);
            let frontends = old.frontends.iter().chain(&new.frontends);
            contested.frontends.extend(frontends.map(|(at, _)| *at));
        }
        self.replace_health_claims(key, &old, &new);
        let checks = old.health_checks.iter().chain(&new.health_checks);
        contested.health_checks.extend(checks.map(|(at, _)| *at));
        self.replace_pools(&old, &new, delta);
        self.addresses
            .replace(old.addresses.iter().copied(), new.addresses.iter().copied());
        self.outer_addresses.replace(
            old.outer_addresses.iter().copied(),
            new.outer_addresses.iter().copied(),
        );
        self.spared
            .replace(old.spared.iter().copied(), new.spared.iter().copied());
        if self.here.options.rules.invalid == Invalid::Drop {
            self.endpoint_ports
                .replace(old.endpoint_ports(), new.endpoint_ports());
        }
        self.local_backends
            .replace(old.local_backends(), new.local_backends());
        self.keep(key, new);
    }

    fn keep(&mut self, key: &ServiceKey, wishes: Wishes) {
        let beyond = (wishes.beyond > 0).then_some(wishes.beyond);
        put(&mut self.beyond, key, beyond);
        let Some(known) = self.known.get_mut(key) else {
            return;
        };
        known.wishes = (!wishes.is_empty()).then(|| Box::new(wishes));
        if known.service.is_none() && known.slices.is_empty() {
            self.known.remove(key);
        }
    }

    fn replace_claims(&mut self, old: &Wishes, new: &Wishes) {
        for (at, frontend) in &old.frontends {
            self.claims.withdraw(*at, &frontend.port);
        }
        for (at, frontend) in &new.frontends {
            let claim = Claim {
                right: (frontend.origin, new.created),
                who: frontend.port.clone(),
                wish: frontend.clone(),
            };
            self.claims.enter(*at, claim);
        }
    }

    fn replace_health_claims(&mut self, key: &ServiceKey, old: &Wishes, new: &Wishes) {
        for (at, _) in &old.health_checks {
            self.health_claims.withdraw(*at, key);
        }
        for (at, check) in &new.health_checks {
            let claim = Claim {
                right: new.created,
                who: key.clone(),
                wish: check.clone(),
            };
            self.health_claims.enter(*at, claim);
        }
    }

    /// Grants what is contested to those with the least claims.
    fn crown(&mut self, contested: Contested, delta: &mut Delta) {
        for at in &contested.frontends {
            let at = *at;
            let winner = self.claims.winner(at);
            if self.desired.frontends.get(&at) != winner.as_ref() {
                put(&mut self.desired.frontends, &at, winner.clone());
                delta.frontends.insert(at, winner);
            }
        }
        for at in contested.health_checks {
            let winner = self.health_claims.winner(at);
            if self.desired.health_checks.get(&at) != winner.as_ref() {
                put(&mut self.desired.health_checks, &at, winner.clone());
                delta.health_checks.insert(at, winner);
            }
        }
        self.listen(&contested.frontends, delta);
    }

    /// Makes the listeners on loopback those of the places as they are now.
    fn listen(&mut self, places: &BTreeSet<FrontendKey>, delta: &mut Delta) {
        let families = loopback_families(&self.here);
        let found = places.iter().filter(|_| !families.is_empty());
        let found: Vec<_> = found
            .filter_map(|at| local_listener(&self.desired, *at, &families))
            .collect();
        for (at, listener) in found {
            if self.desired.local_listeners.get(&at) != listener.as_ref() {
                put(&mut self.desired.local_listeners, &at, listener.clone());
                delta.local_listeners.insert(at, listener);
            }
        }
    }

    fn replace_pools(&mut self, old: &Wishes, new: &Wishes, delta: &mut Delta) {
        fn keys(wishes: &Wishes) -> impl Iterator<Item = &PoolKey> {
            wishes.pools.iter().map(|(key, _)| key)
        }
        if !keys(old).eq(keys(new)) {
            let kept: BTreeSet<_> = keys(new).collect();
            for key in keys(old).filter(|key| !kept.contains(key)) {
                self.desired.pools.remove(key);
                delta.pools.insert(key.clone(), None);
            }
        }
        for (key, pool) in &new.pools {
            match self.desired.pools.get_mut(key) {
                Some(known) if known == pool => continue,
                Some(known) => known.clone_from(pool),
                None => drop(self.desired.pools.insert(key.clone(), pool.clone())),
            }
            delta.pools.insert(key.clone(), Some(pool.clone()));
        }
    }
}

/// All of one Service, found by its name in one step: an ordered map would compare a dozen names, each somewhere else in memory, and between two
/// changes they have left the processor's caches.
#[derive(Clone, Debug, Default)]
struct Known {
    service: Option<Arc<Service>>,
    /// Those that carry its name, sorted by their own: most Services have one, or two.
    slices: Vec<Arc<Slice>>,
    /// Boxed, since a map has room for more than it holds.
    wishes: Option<Box<Wishes>>,
}

impl Known {
    /// Where the slice of this name is, or would be.
    fn place(&self, key: &SliceKey) -> Result<usize, usize> {
        self.slices.binary_search_by(|slice| slice.key.cmp(key))
    }
}

/// What a batch touched.
#[derive(Clone, Debug, Default)]
struct Touched {
    node: bool,
    networks: bool,
    services: BTreeSet<ServiceKey>,
}

/// Places about which a batch has to decide anew who gets them.
#[derive(Default)]
struct Contested {
    frontends: BTreeSet<FrontendKey>,
    health_checks: BTreeSet<HealthCheckKey>,
}

/// Addresses, or ports, that several Services may name: one is there while anybody names it.
#[derive(Clone, Debug)]
struct Counted<T = IpAddr> {
    count: BTreeMap<T, u32>,
    changed: BTreeSet<T>,
}

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self {
            count: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }
}

impl<T: Ord + Copy> Counted<T> {
    fn replace(
        &mut self,
        old: impl Iterator<Item = T> + Clone,
        new: impl Iterator<Item = T> + Clone,
    ) {
        if old.clone().eq(new.clone()) {
            return;
        }
        for ip in new {
            *self.count.entry(ip).or_default() += 1;
            self.changed.insert(ip);
        }
        for ip in old {
            if let Some(count) = self.count.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    self.count.remove(&ip);
                }
            }
            self.changed.insert(ip);
        }
    }

    fn settle(&mut self, present: &mut BTreeSet<T>, delta: &mut BTreeMap<T, bool>) {
        for ip in std::mem::take(&mut self.changed) {
            let wanted = self.count.contains_key(&ip);
            let differs = if wanted {
                present.insert(ip)
            } else {
                present.remove(&ip)
            };
            if differs {
                delta.insert(ip, wanted);
            }
        }
    }
}

fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
}
