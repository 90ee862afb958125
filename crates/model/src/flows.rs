//! Which tracked flows may stay when endpoints change.
//!
//! The kernel decides once where a flow goes, for its first packet. A UDP client that sends from one port is one flow
//! as long as it talks: when its endpoint goes the flow must be forgotten, or the client talks to nobody. A TCP or SCTP
//! connection that stands ends by itself. One that is still being *opened* does not: its SYN is sent again and again to an
//! endpoint that will never answer, and for two minutes any new connection from that port goes there too.
//!
//! A flow is stale, in this order:
//! 1. it was sent to no place of a Service: never, it is not ours;
//! 2. it is a connection that was answered: never, it belongs to its endpoint;
//! 3. that place is no frontend any more: always;
//! 4. the endpoint that it was sent to is neither ready nor serving while it terminates, in no slice of the
//!    frontend's Service port: yes.
//!
//! Policies, hints and affinity are not asked: they choose an endpoint for a new flow and end none that works. A flow that
//! no rule translated went through before its Service was there, and is stale as soon as it is. kube-proxy knows
//! UDP alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::{Family, Protocol};
use crate::desired::{FrontendKey, PortName};
use crate::endpoints;
use crate::input::{Change, ServiceKey, Slice};
use crate::world::World;

/// A flow as the kernel tracks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its protocol.
    pub protocol: Protocol,
    /// How far it has come.
    pub stage: Stage,
    /// Where the client sent it.
    pub original: SocketAddr,
    /// Who answers: the endpoint, or `original` if nothing was translated.
    pub answers: SocketAddr,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nobody has answered.
    Opening,
    /// Packets went both ways.
    Answered,
}

/// Where flows may go on, for the places that some changes touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// The endpoints that still answer, sorted; none for a frontend that is gone.
    living: BTreeMap<FrontendKey, Arc<[SocketAddr]>>,
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

    /// For places that `newer` verdicts are about too: what may go on by those may go on here. For verdicts that wait for
    /// their moment, while endpoints come back.
    pub fn soften(&mut self, newer: &Self) {
        for (at, living) in &mut self.living {
            if let Some(more) = newer.living.get(at).filter(|more| more != &living) {
                let both: BTreeSet<SocketAddr> = living.iter().chain(&**more).copied().collect();
                *living = both.into_iter().collect();
            }
        }
    }

    /// Whether some place among them is of this protocol.
    #[must_use]
    pub fn concern(&self, protocol: Protocol) -> bool {
        self.living
            .keys()
            .any(|at| at.protocol_port().0 == protocol)
    }

    /// Whether a flow must be forgotten.
    #[must_use]
    pub fn is_stale(&self, flow: &Flow) -> bool {
        if flow.protocol != Protocol::Udp && flow.stage == Stage::Answered {
            return false;
        }
        let living = self.at(flow.protocol, flow.original);
        living.is_some_and(|living| living.binary_search(&flow.answers).is_err())
    }

    /// The endpoints of the place that a flow was sent to: the one at its very address first.
    fn at(&self, protocol: Protocol, to: SocketAddr) -> Option<&[SocketAddr]> {
        let (ip, port) = (to.ip(), to.port());
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
        self.living
            .get(&address)
            .or_else(at_node)
            .map(|living| &**living)
    }
}

/// The places of a batch of changes, gathered before it is taken in and judged afterwards.
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
    /// Takes those of further changes in.
    pub fn extend(&mut self, further: Self) {
        self.services.extend(further.services);
        self.frontends.extend(further.frontends);
        self.node_addresses.extend(further.node_addresses);
    }

    /// What may go on of the flows to these places, now that `world` has taken the changes in.
    #[must_use]
    pub fn judge(mut self, world: &World) -> Verdicts {
        self.gather(world);
        let mut of_port: BTreeMap<(Arc<PortName>, Family), Arc<[SocketAddr]>> = BTreeMap::new();
        let mut living = |at: &FrontendKey| {
            let Some(frontend) = world.desired().frontends.get(at) else {
                return Arc::default();
            };
            let key = (frontend.port.clone(), at.family());
            let found = of_port.entry(key);
            let found = found.or_insert_with(|| serving(world, &frontend.port, at.family()));
            Arc::clone(found)
        };
        Verdicts {
            living: self.frontends.iter().map(|at| (*at, living(at))).collect(),
            node_addresses: self.node_addresses,
        }
    }

    /// Adds the places that the Services have now.
    fn gather(&mut self, world: &World) {
        for service in &self.services {
            self.frontends.extend(world.frontends_of(service));
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

/// Every endpoint of a Service port that still answers, sorted.
fn serving(world: &World, name: &PortName, family: Family) -> Arc<[SocketAddr]> {
    let service = world.inputs().services.get(&name.service);
    let mut ports = service.into_iter().flat_map(|service| &service.ports);
    let port = ports.find(|port| port.name == name.port && port.protocol == name.protocol);
    let serving = port.map(|port| endpoints::serving(world.slices_of(&name.service), port, family));
    serving.into_iter().flatten().collect()
}
