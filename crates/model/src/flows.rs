//! Which tracked flows may stay when endpoints change.
//!
//! A UDP client that sends from one port is one flow for the kernel, and a flow keeps the endpoint of its
//! first packet as long as it talks. When that endpoint goes, the flow must be forgotten, or the client talks to
//! nobody. TCP needs none of this: a connection to an endpoint that left ends by itself.
//!
//! A flow is stale, in this order:
//! 1. it is not UDP, or was sent to no place of a Service: never, it is not ours;
//! 2. that place is no frontend any more: always;
//! 3. the endpoint that it was sent to is neither ready nor serving while it terminates, in no slice of the
//!    frontend's Service port: yes.
//!
//! Policies, hints and affinity are not asked: they choose an endpoint for a new flow and end none that works. A flow that
//! no rule translated went through before its Service was there, and is stale as soon as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::address::{Family, Protocol};
use crate::desired::{FrontendKey, PortName};
use crate::endpoints;
use crate::input::{Change, ServiceKey, Slice};
use crate::world::World;

/// A UDP flow as the kernel tracks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the client sent it.
    pub original: SocketAddr,
    /// Who answers: the endpoint, or `original` if nothing was translated.
    pub answers: SocketAddr,
}

/// Where flows may go on, for the places that some changes touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// The endpoints that still answer, none for a frontend that is gone.
    living: BTreeMap<FrontendKey, BTreeSet<SocketAddr>>,
    /// Addresses at which the node ports among them answer, or did.
    node_addresses: BTreeSet<IpAddr>,
}

impl Verdicts {
    /// Whether no flow can be stale.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.living.is_empty()
    }

    /// Takes newer verdicts in: where both know a place, the newer one counts.
    pub fn extend(&mut self, newer: Self) {
        self.living.extend(newer.living);
        self.node_addresses.extend(newer.node_addresses);
    }

    /// Whether a flow must be forgotten.
    #[must_use]
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let living = self.at(flow.original);
        living.is_some_and(|living| !living.contains(&flow.answers))
    }

    /// The endpoints of the place that a flow was sent to: the one at its very address first.
    fn at(&self, to: SocketAddr) -> Option<&BTreeSet<SocketAddr>> {
        let (ip, port, protocol) = (to.ip(), to.port(), Protocol::Udp);
        let address = FrontendKey::Address { ip, protocol, port };
        let node_port = FrontendKey::NodePort {
            family: Family::of(ip),
            protocol,
            port,
        };
        let at_node = || {
            let served = self.node_addresses.contains(&ip);
            served.then(|| self.living.get(&node_port)).flatten()
        };
        self.living.get(&address).or_else(at_node)
    }
}

/// The UDP places of a batch of changes, gathered before it is taken in and judged afterwards.
///
/// ```
/// use daymark_model::{Options, World, flows};
/// let mut world = World::new(Options::default());
/// let changes = Vec::new();
/// let suspects = flows::suspects(&world, &changes);
/// world.apply(changes);
/// assert!(suspects.judge(&world).is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    services: BTreeSet<ServiceKey>,
    frontends: BTreeSet<FrontendKey>,
    node_addresses: BTreeSet<IpAddr>,
}

/// The places that `changes` may make flows stale at, while `world` has not taken them in.
#[must_use]
pub fn suspects(world: &World, changes: &[Change]) -> Suspects {
    let mut suspects = Suspects::default();
    for change in changes {
        match change {
            Change::Service(key, _) => suspects.services.extend([key.clone()]),
            Change::Slice(key, new) => {
                let old = world.inputs().slices.get(key);
                let owners = old.into_iter().chain(new).map(|slice| owner(slice));
                suspects.services.extend(owners);
            }
            Change::Node(_) | Change::MachineAddresses(_) => {}
        }
    }
    suspects.gather(world);
    suspects
}

impl Suspects {
    /// What may go on of the flows to these places, now that `world` has taken the changes in.
    #[must_use]
    pub fn judge(mut self, world: &World) -> Verdicts {
        self.gather(world);
        let living = |at: &FrontendKey| {
            let frontend = world.desired().frontends.get(at);
            frontend
                .map(|frontend| serving(world, &frontend.port, at.family()))
                .unwrap_or_default()
        };
        Verdicts {
            living: self.frontends.iter().map(|at| (*at, living(at))).collect(),
            node_addresses: self.node_addresses,
        }
    }

    /// Adds the UDP places that the Services have now.
    fn gather(&mut self, world: &World) {
        for service in &self.services {
            let all = world.frontends_of(service);
            let udp = all.filter(|at| at.protocol_port().0 == Protocol::Udp);
            self.frontends.extend(udp);
        }
        let is_node_port = |at: &FrontendKey| matches!(at, FrontendKey::NodePort { .. });
        if self.frontends.iter().any(is_node_port) {
            let addresses = &world.desired().node_port_addresses;
            self.node_addresses.extend(addresses);
        }
    }
}

fn owner(slice: &Slice) -> ServiceKey {
    ServiceKey {
        namespace: slice.key.namespace.clone(),
        name: slice.service.clone(),
    }
}

/// Every endpoint of a Service port that still answers.
fn serving(world: &World, name: &PortName, family: Family) -> BTreeSet<SocketAddr> {
    let service = world.inputs().services.get(&name.service);
    let mut ports = service.into_iter().flat_map(|service| &service.ports);
    let port = ports.find(|port| port.name == name.port && port.protocol == name.protocol);
    port.map(|port| endpoints::serving(world.slices_of(&name.service), port, family))
        .unwrap_or_default()
}
