//! Differences of what is desired: their parts, how they are found, and how they are carried out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Desired, Frontend, FrontendKey, List, OwnPods, Pool, PoolKey, PortName};
use crate::address::{Cidr, Family};
use crate::listeners::{HealthCheck, HealthCheckKey, LocalListener, LocalListenerKey};

/// What changed between two [`Desired`] values. `None`, or `false` in a set, means gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Frontends that came, changed or went.
    pub frontends: BTreeMap<FrontendKey, Option<Arc<Frontend>>>,
    /// Pools that came, changed or went.
    pub pools: BTreeMap<PoolKey, Option<Arc<Pool>>>,
    /// Service addresses that came or went.
    pub service_addresses: BTreeMap<IpAddr, bool>,
    /// External addresses that came or went.
    pub outer_addresses: BTreeMap<IpAddr, bool>,
    /// The new networks of cluster IPs, if they changed.
    pub service_networks: Option<Vec<Cidr>>,
    /// Spared addresses that came or went.
    pub spared_addresses: BTreeMap<IpAddr, bool>,
    /// Ports of endpoints that came or went.
    pub endpoint_ports: BTreeMap<u16, bool>,
    /// Local backends that came or went.
    pub local_backends: BTreeMap<IpAddr, bool>,
    /// How own Pods are told now, if that changed.
    pub own_pods: Option<OwnPods>,
    /// The node's own addresses that came or went.
    pub own_addresses: BTreeMap<IpAddr, bool>,
    /// Node-port addresses that came or went.
    pub node_port_addresses: BTreeMap<IpAddr, bool>,
    /// Health checks that came, changed or went.
    pub health_checks: BTreeMap<HealthCheckKey, Option<Arc<HealthCheck>>>,
    /// Addresses for health checks that came or went.
    pub health_check_addresses: BTreeMap<IpAddr, bool>,
    /// Listeners on loopback that came, changed or went.
    pub local_listeners: BTreeMap<LocalListenerKey, Option<Arc<LocalListener>>>,
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The steps from nothing to `desired`: each has `size` frontends, or some more so that those of one Service
    /// port stay together, and refers to nothing that a later one brings. Each step is a valid state: addresses at
    /// which unknown ports are refused come last.
    pub fn from_nothing(desired: &Desired, size: usize) -> impl Iterator<Item = Self> + '_ {
        let mut by_port: Vec<(&Arc<PortName>, FrontendKey)> = desired
            .frontends
            .iter()
            .map(|(at, frontend)| (&frontend.port, *at))
            .collect();
        by_port.sort_unstable();
        let all = |ips: &BTreeSet<IpAddr>| ips.iter().map(|ip| (*ip, true)).collect();
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let from = next?;
            let mut to = by_port.len().min(from + size.max(1));
            while to < by_port.len() && by_port[to - 1].0 == by_port[to].0 {
                to += 1;
            }
            let mut delta = Self::default();
            let piece = &by_port[from..to];
            for (_, at) in piece {
                delta
                    .frontends
                    .insert(*at, desired.frontends.get(at).cloned());
            }
            for of_port in piece.chunk_by(|(a, _), (b, _)| a == b) {
                delta.pools.extend(pools_of(desired, of_port[0].0));
            }
            if from == 0 {
                delta.own_pods = Some(desired.own_pods.clone());
                delta.local_backends = all(&desired.local_backends);
            }
            next = (to < by_port.len()).then_some(to);
            if next.is_none() {
                // Those of ports that lost every place to other Services.
                let named = |port| by_port.binary_search_by(|(known, _)| (*known).cmp(port));
                let rest = desired.pools.iter();
                let rest = rest.filter(|(key, _)| named(&key.port).is_err());
                let rest = rest.map(|(key, pool)| (key.clone(), Some(pool.clone())));
                delta.pools.extend(rest);
                delta.service_addresses = all(&desired.service_addresses);
                let ports = desired.endpoint_ports.iter();
                delta.endpoint_ports = ports.map(|port| (*port, true)).collect();
                delta.outer_addresses = all(&desired.outer_addresses);
                delta.spared_addresses = all(&desired.spared_addresses);
                delta.service_networks = Some(desired.service_networks.clone());
                delta.own_addresses = all(&desired.own_addresses);
                delta.node_port_addresses = all(&desired.node_port_addresses);
                let checks = desired.health_checks.iter();
                delta.health_checks = checks.map(|(at, one)| (*at, Some(one.clone()))).collect();
                delta.health_check_addresses = all(&desired.health_check_addresses);
                let local = desired.local_listeners.iter();
                delta.local_listeners = local.map(|(at, one)| (*at, Some(one.clone()))).collect();
            }
            Some(delta)
        })
    }

    /// The step from `old` to `new`: applied to `old`, it gives `new`.
    #[must_use]
    pub fn between(old: &Desired, new: &Desired) -> Self {
        Self {
            frontends: map_changes(&old.frontends, &new.frontends),
            pools: map_changes(&in_order(&old.pools), &in_order(&new.pools)),
            service_addresses: set_changes(&old.service_addresses, &new.service_addresses),
            outer_addresses: set_changes(&old.outer_addresses, &new.outer_addresses),
            spared_addresses: set_changes(&old.spared_addresses, &new.spared_addresses),
            service_networks: (old.service_networks != new.service_networks)
                .then(|| new.service_networks.clone()),
            endpoint_ports: set_changes(&old.endpoint_ports, &new.endpoint_ports),
            local_backends: set_changes(&old.local_backends, &new.local_backends),
            own_pods: (old.own_pods != new.own_pods).then(|| new.own_pods.clone()),
            own_addresses: set_changes(&old.own_addresses, &new.own_addresses),
            node_port_addresses: set_changes(&old.node_port_addresses, &new.node_port_addresses),
            health_checks: map_changes(&old.health_checks, &new.health_checks),
            health_check_addresses: set_changes(
                &old.health_check_addresses,
                &new.health_check_addresses,
            ),
            local_listeners: map_changes(&old.local_listeners, &new.local_listeners),
        }
    }

    /// Carries the changes out.
    pub fn apply_to(&self, desired: &mut Desired) {
        apply_map(&self.frontends, &mut desired.frontends);
        for (key, pool) in &self.pools {
            match pool {
                Some(pool) => desired.pools.insert(key.clone(), pool.clone()),
                None => desired.pools.remove(key),
            };
        }
        apply_set(&self.service_addresses, &mut desired.service_addresses);
        apply_set(&self.outer_addresses, &mut desired.outer_addresses);
        apply_set(&self.spared_addresses, &mut desired.spared_addresses);
        if let Some(networks) = &self.service_networks {
            desired.service_networks.clone_from(networks);
        }
        apply_set(&self.endpoint_ports, &mut desired.endpoint_ports);
        apply_set(&self.local_backends, &mut desired.local_backends);
        apply_set(&self.own_addresses, &mut desired.own_addresses);
        apply_set(&self.node_port_addresses, &mut desired.node_port_addresses);
        apply_map(&self.health_checks, &mut desired.health_checks);
        apply_set(
            &self.health_check_addresses,
            &mut desired.health_check_addresses,
        );
        apply_map(&self.local_listeners, &mut desired.local_listeners);
        if let Some(own) = &self.own_pods {
            desired.own_pods.clone_from(own);
        }
    }
}

/// The pools of a Service port, as additions.
fn pools_of<'a>(
    desired: &'a Desired,
    port: &'a Arc<PortName>,
) -> impl Iterator<Item = (PoolKey, Option<Arc<Pool>>)> + use<'a> {
    let keys = Family::BOTH.into_iter().flat_map(move |family| {
        let key = move |list| PoolKey {
            port: port.clone(),
            family,
            list,
        };
        [List::Cluster, List::Local].map(key)
    });
    keys.filter_map(|key| {
        let pool = desired.pools.get(&key)?.clone();
        Some((key, Some(pool)))
    })
}

fn map_changes<K: Ord + Clone, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let gone = old
        .keys()
        .filter(|key| !new.contains_key(key))
        .map(|key| (key.clone(), None));
    let fresh = new
        .iter()
        .filter(|(key, value)| old.get(key) != Some(value));
    gone.chain(fresh.map(|(key, value)| (key.clone(), Some(value.clone()))))
        .collect()
}

fn in_order(pools: &HashMap<PoolKey, Arc<Pool>>) -> BTreeMap<PoolKey, Arc<Pool>> {
    let pools = pools.iter();
    pools
        .map(|(key, pool)| (key.clone(), Arc::clone(pool)))
        .collect()
}

/// What has to go from `old` (`false`) and come to it (`true`) to make it `new`.
pub(crate) fn set_changes<K: Ord + Copy>(
    old: &BTreeSet<K>,
    new: &BTreeSet<K>,
) -> BTreeMap<K, bool> {
    let gone = old.difference(new).map(|key| (*key, false));
    gone.chain(new.difference(old).map(|key| (*key, true)))
        .collect()
}

fn apply_map<K: Ord + Clone, V: Clone>(changes: &BTreeMap<K, Option<V>>, to: &mut BTreeMap<K, V>) {
    for (key, value) in changes {
        match value {
            Some(value) => to.insert(key.clone(), value.clone()),
            None => to.remove(key),
        };
    }
}

fn apply_set<K: Ord + Copy>(changes: &BTreeMap<K, bool>, to: &mut BTreeSet<K>) {
    for (key, present) in changes {
        if *present {
            to.insert(*key);
        } else {
            to.remove(key);
        }
    }
}
