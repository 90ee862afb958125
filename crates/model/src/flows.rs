//! Which tracked flows may stay when endpoints change.
//!
//! The kernel decides once where a flow goes, for its first packet. A UDP client that sends from one port is one flow
//! as long as it talks: when its endpoint goes the flow must be forgotten, or the client talks to nobody. A TCP or SCTP
//! connection that stands ends by itself. One that is still being *opened* does not: its SYN is sent again and again to an
//! endpoint that will never answer, and for two minutes any new connection from that port goes there too.
//!
//! A flow is stale, in this order:
//! 1. it was sent to no place of a Service: never, it is not ours;
//! 2. it is a connection that was answered: it belongs to its endpoint. Only if [`GoneEndpoints::Reset`] says so, one of TCP
//!    is stale whose place is a frontend and whose endpoint no slice names any more, in whatever condition;
//! 3. that place is no frontend any more, or the address serves node ports no more: always;
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
use crate::input::{Change, ServiceKey, ServicePort, Slice};
use crate::rules::GoneEndpoints;
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
    places: BTreeMap<FrontendKey, Place>,
    /// Addresses at which the node ports among them answer, or did.
    node_addresses: BTreeMap<IpAddr, Serves>,
}

/// The endpoints of a place, sorted; none at one that is no frontend any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    /// Those that still answer.
    living: Arc<[SocketAddr]>,
    /// Those that some slice names, whatever their condition; `None` where connections that stand are nobody's business.
    named: Option<Arc<[SocketAddr]>>,
}

/// Whether an address serves node ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Serves {
    NoMore,
    Now,
}

impl Verdicts {
    /// Whether no flow can be stale.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes newer verdicts in: where both know a place, the newer one counts.
    pub fn extend(&mut self, newer: Self) {
        self.places.extend(newer.places);
        self.node_addresses.extend(newer.node_addresses);
    }

    /// For places that `newer` verdicts are about too: what may go on by those may go on here. For verdicts that wait for
    /// their moment, while endpoints come back.
    pub fn soften(&mut self, newer: &Self) {
        for (at, place) in &mut self.places {
            if let Some(more) = newer.places.get(at).filter(|more| more != &place) {
                place.living = union(&place.living, &more.living);
                let both = place.named.as_ref().zip(more.named.as_ref());
                place.named = both.map(|(mine, more)| union(mine, more));
            }
        }
        for (ip, serves) in &mut self.node_addresses {
            let newer = newer.node_addresses.get(ip);
            *serves = newer.map_or(*serves, |newer| (*serves).max(*newer));
        }
    }

    /// Whether some place among them is of this protocol.
    #[must_use]
    pub fn concern(&self, protocol: Protocol) -> bool {
        self.places
            .keys()
            .any(|at| at.protocol_port().0 == protocol)
    }

    /// Whether connections that were answered can be stale.
    #[must_use]
    pub fn concern_standing(&self) -> bool {
        self.places.values().any(|place| place.named.is_some())
    }

    /// Whether a flow must be forgotten.
    #[must_use]
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let place = self.at(flow.protocol, flow.original);
        let stands = flow.protocol != Protocol::Udp && flow.stage == Stage::Answered;
        let among = |all: &[SocketAddr]| all.binary_search(&flow.answers).is_ok();
        match place {
            None => false,
            Some(At::Nowhere) => !stands,
            Some(At::Place(place)) if !stands => !among(&place.living),
            Some(At::Place(place)) => {
                let is_ours = flow.protocol == Protocol::Tcp && flow.answers != flow.original;
                let named = place.named.as_deref();
                is_ours && named.is_some_and(|named| !among(named))
            }
        }
    }

    /// The place that a flow was sent to: the one at its very address first.
    fn at(&self, protocol: Protocol, to: SocketAddr) -> Option<At<'_>> {
        let (ip, port) = (to.ip(), to.port());
        let address = FrontendKey::Address { ip, protocol, port };
        if let Some(place) = self.places.get(&address) {
            return Some(At::Place(place));
        }
        let serves = self.node_addresses.get(&ip)?;
        let family = Family::of(ip);
        let node_port = FrontendKey::NodePort {
            family,
            protocol,
            port,
        };
        let place = self.places.get(&node_port)?;
        Some(match serves {
            Serves::Now => At::Place(place),
            Serves::NoMore => At::Nowhere,
        })
    }
}

/// Where a flow was sent to.
enum At<'a> {
    Place(&'a Place),
    /// A node port at an address that serves none any more.
    Nowhere,
}

fn union(one: &Arc<[SocketAddr]>, other: &Arc<[SocketAddr]>) -> Arc<[SocketAddr]> {
    let both: BTreeSet<SocketAddr> = one.iter().chain(&**other).copied().collect();
    both.into_iter().collect()
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
    /// The addresses that served node ports before one of the changes that may alter that.
    served: Option<BTreeSet<IpAddr>>,
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
            Change::Node(_) | Change::MachineAddresses(_) => {
                suspects.served = Some(world.desired().node_port_addresses.clone());
            }
            Change::ServiceCidr(..) => {}
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
        // The oldest is what the last judgement left.
        self.served = self.served.take().or(further.served);
    }

    /// Adds places that were captured before: those of tables that an agent found when it came.
    pub fn remember(
        &mut self,
        frontends: impl IntoIterator<Item = FrontendKey>,
        node_addresses: impl IntoIterator<Item = IpAddr>,
    ) {
        self.frontends.extend(frontends);
        self.node_addresses.extend(node_addresses);
    }

    /// What may go on of the flows to these places, now that `world` has taken the changes in.
    #[must_use]
    pub fn judge(mut self, world: &World) -> Verdicts {
        self.gather(world);
        self.gather_node_ports(world);
        let mut of_port: BTreeMap<(Arc<PortName>, Family), Place> = BTreeMap::new();
        let mut place = |at: &FrontendKey| {
            let Some(frontend) = world.desired().frontends.get(at) else {
                return Place::default();
            };
            let key = (frontend.port.clone(), at.family());
            let found = of_port.entry(key);
            let found = found.or_insert_with(|| Place::of(world, &frontend.port, at.family()));
            found.clone()
        };
        let serving = &world.desired().node_port_addresses;
        let serves = |ip: &IpAddr| match serving.contains(ip) {
            true => Serves::Now,
            false => Serves::NoMore,
        };
        let addresses = self.node_addresses.iter();
        Verdicts {
            places: self.frontends.iter().map(|at| (*at, place(at))).collect(),
            node_addresses: addresses.map(|ip| (*ip, serves(ip))).collect(),
        }
    }

    /// Every node port, if the addresses at which they answer are others now.
    fn gather_node_ports(&mut self, world: &World) {
        let now = &world.desired().node_port_addresses;
        let Some(before) = self.served.take().filter(|before| before != now) else {
            return;
        };
        let is_node_port = |at: &&FrontendKey| matches!(at, FrontendKey::NodePort { .. });
        let all = world.desired().frontends.keys();
        self.frontends.extend(all.filter(is_node_port));
        self.node_addresses.extend(before.iter().chain(now));
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

impl Place {
    /// That of a Service port.
    fn of(world: &World, name: &PortName, family: Family) -> Self {
        let service = world.inputs().services.get(&name.service);
        let mut ports = service.into_iter().flat_map(|service| &service.ports);
        let is_meant =
            |port: &&ServicePort| port.name == name.port && port.protocol == name.protocol;
        let Some(port) = ports.find(is_meant) else {
            return Self::default();
        };
        let sorted = |all: BTreeSet<SocketAddr>| all.into_iter().collect();
        let slices = || world.slices_of(&name.service);
        let resets = world.options().rules.gone_endpoints == GoneEndpoints::Reset;
        Self {
            living: sorted(endpoints::serving(slices(), port, family)),
            named: resets.then(|| sorted(endpoints::named(slices(), port, family))),
        }
    }
}
