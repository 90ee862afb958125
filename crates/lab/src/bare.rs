//! A lab without an API: nodes and Pods as a list, servers on every address, and probes that say what became of
//! a packet.
//!
//! It exists to judge data planes. The judge programs the tables of a node itself (inside [`BareLab::ns`]) and asks
//! with [`BareLab::probe_all`] where real packets end up. Every namespace, the fabric included, runs a server on
//! every port of [`Spec::ports`], and the fabric accepts packets for any address: a packet that no table
//! translated is seen there, instead of being lost.

mod answer;
mod probe;
mod sctp;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use daymark_sys::ns::NetNs;
use daymark_sys::process::{Isolation, Lifetime};
use thiserror::Error;

pub use answer::{Answer, Outcome, Place, Protocol, Refusal};
pub use probe::{Probe, ProbeError};

use crate::child::{Child, ChildError};
use crate::net::{self, Cable, Host, NetError, PodAddresses, PodLink, Prefix, Segment, Via};
use probe::Prober;
use server::Servers;

/// The nodes, Pods and addresses of a bare lab.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// The nodes, with their Pods.
    pub nodes: Vec<Node>,
    /// The addresses of the one outside host.
    pub outside: Vec<IpAddr>,
    /// The ports that a server listens on, TCP and UDP, in every namespace. SCTP needs none.
    pub ports: Vec<u16>,
}

/// A node of a bare lab.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, unique among nodes.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The Pods that run on it.
    pub pods: Vec<Pod>,
}

/// A Pod of a bare lab.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name, unique among the Pods of all nodes.
    pub name: String,
    /// Its addresses.
    pub addresses: PodAddresses,
    /// The name of the node's end of its link, unique on the node; `None`: any.
    pub link: Option<String>,
}

/// Why a bare lab could not be built or changed.
#[derive(Debug, Error)]
pub enum BareError {
    /// A namespace, link or route.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A server or the prober.
    #[error("probe server in {place}: {source}")]
    Server {
        /// Where it was to listen.
        place: Place,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Two places claim one address.
    #[error("{address} belongs to both {first} and {second}: give each its own")]
    Duplicate {
        /// The address.
        address: IpAddr,
        /// The place that has it.
        first: Place,
        /// The place that wanted it too.
        second: Place,
    },
    /// A process.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// There is no such place in the lab.
    #[error("there is no {0} in this lab")]
    Unknown(Place),
}

/// A running bare lab. Dropping it removes everything.
pub struct BareLab {
    segment: Segment,
    hosts: BTreeMap<String, Host>,
    outside: Host,
    spaces: BTreeMap<Place, NetNs>,
    /// Of nodes, Pods and outside; the fabric takes any address.
    addresses: BTreeMap<Place, Vec<IpAddr>>,
    _pods: Vec<PodLink>,
    servers: Servers,
    prober: Prober,
}

impl BareLab {
    /// Builds the lab. The caller must be inside namespaces of its own ([`daymark_sys::ns::enter`], or a test in
    /// [`daymark_sys::ns::isolated_test`]).
    ///
    /// Every host of the segment has a route to every Pod via its node. Nodes and the outside host send everything
    /// else to the fabric; [`BareLab::route`] changes that.
    ///
    /// # Errors
    /// [`BareError::Duplicate`], or what the kernel refused.
    pub fn new(spec: &Spec) -> Result<Self, BareError> {
        unique(spec)?;
        let fabric_ns = NetNs::create().map_err(|source| NetError::Namespace {
            name: Place::Fabric.to_string(),
            source,
        })?;
        let fabric_addresses = FABRIC.map(Prefix::host);
        let mut segment = Segment::new(fabric_ns.clone(), &fabric_addresses)?;
        segment.fabric().accept_everything()?;
        let mut hosts = BTreeMap::new();
        for node in &spec.nodes {
            hosts.insert(
                node.name.clone(),
                segment.add_node(&node.name, &host_prefixes(&node.addresses))?,
            );
        }
        let mut outside = segment.add_host("outside", &host_prefixes(&spec.outside))?;
        add_routes(spec, segment.fabric(), &mut hosts, &mut outside)?;
        let mut spaces = BTreeMap::from([
            (Place::Fabric, fabric_ns),
            (Place::Outside, outside.ns().clone()),
        ]);
        let pods = add_pods(spec, &mut hosts, &mut spaces)?;
        spaces.extend(
            hosts
                .iter()
                .map(|(name, host)| (Place::Node(name.clone()), host.ns().clone())),
        );
        let prober = Prober::start().map_err(|source| BareError::Server {
            place: Place::Fabric,
            source,
        })?;
        let servers = Servers::start().map_err(|source| BareError::Server {
            place: Place::Fabric,
            source,
        })?;
        for (place, ns) in &spaces {
            let failed = |source| BareError::Server {
                place: place.clone(),
                source,
            };
            servers
                .watch_sctp(place, ns, prober.arrivals())
                .map_err(failed)?;
        }
        let mut lab = Self {
            segment,
            hosts,
            outside,
            spaces,
            addresses: addresses(spec),
            _pods: pods,
            servers,
            prober,
        };
        lab.listen(&spec.ports)?;
        Ok(lab)
    }

    /// Makes every server listen on these ports too.
    ///
    /// # Errors
    /// [`BareError::Server`] with the place where a port could not be bound.
    pub fn listen(&mut self, ports: &[u16]) -> Result<(), BareError> {
        for (place, ns) in &self.spaces {
            let failed = |source| BareError::Server {
                place: place.clone(),
                source,
            };
            self.servers.listen(place, ns, ports).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes the servers of nodes, Pods and outside accept SCTP associations on these ports, at each of their
    /// addresses.
    ///
    /// # Errors
    /// [`BareError::Server`] with the place where a port could not be bound; "Protocol not supported" when the kernel
    /// has no SCTP (`modprobe sctp`).
    pub fn listen_sctp(&self, ports: &[u16]) -> Result<(), BareError> {
        for (place, addresses) in &self.addresses {
            let failed = |source| BareError::Server {
                place: place.clone(),
                source,
            };
            let ns = self.ns(place)?;
            self.servers
                .listen_sctp(place, ns, addresses, ports)
                .map_err(failed)?;
        }
        Ok(())
    }

    /// The network namespace of a place.
    ///
    /// # Errors
    /// [`BareError::Unknown`].
    pub fn ns(&self, place: &Place) -> Result<&NetNs, BareError> {
        self.spaces
            .get(place)
            .ok_or_else(|| BareError::Unknown(place.clone()))
    }

    /// Sends what goes to `to` from the outside host or a node through the named node.
    ///
    /// # Errors
    /// [`BareError::Unknown`] for a Pod or a node that is not there, or what the kernel refused.
    pub fn route(&mut self, from: &Place, to: Prefix, node: &str) -> Result<(), BareError> {
        let unknown = || BareError::Unknown(Place::Node(node.to_owned()));
        let gateway = self
            .hosts
            .get(node)
            .ok_or_else(unknown)?
            .address_like(to.address)
            .ok_or_else(unknown)?;
        let host = match from {
            Place::Outside => &mut self.outside,
            Place::Node(name) => self
                .hosts
                .get_mut(name)
                .ok_or_else(|| BareError::Unknown(from.clone()))?,
            Place::Fabric => self.segment.fabric(),
            Place::Pod(_) => return Err(BareError::Unknown(from.clone())),
        };
        Ok(host.add_routes(&[(to, Via::Gateway(gateway))])?)
    }

    /// Lets a place refuse by ICMP as often as there is reason to, where a kernel otherwise sends one error a second.
    ///
    /// # Errors
    /// [`BareError::Unknown`], or what the kernel refused.
    pub fn lift_icmp_limits(&self, place: &Place) -> Result<(), BareError> {
        Ok(net::lift_icmp_limits(self.ns(place)?, &place.to_string())?)
    }

    /// Starts a process in a place, with a log. It lives as long as the returned value and the calling thread.
    ///
    /// # Errors
    /// [`BareError::Unknown`], [`BareError::Child`].
    pub fn run(
        &self,
        place: &Place,
        name: &str,
        log: PathBuf,
        mut command: Command,
    ) -> Result<Child, BareError> {
        let isolation = Isolation {
            network: Some(self.ns(place)?.clone()),
            lifetime: Lifetime::BoundToThread,
            ..Isolation::default()
        };
        isolation.apply(&mut command);
        Ok(Child::start(name, log, &mut command)?)
    }

    /// Cuts or restores the cable of a node, or of `outside`.
    ///
    /// # Errors
    /// As [`Segment::set_cable`].
    pub fn set_cable(&mut self, host: &str, cable: Cable) -> Result<(), BareError> {
        Ok(self.segment.set_cable(host, cable)?)
    }

    /// Sends one packet (or opens one connection) and says what became of it.
    ///
    /// # Errors
    /// [`ProbeError`] when the probe could not be sent at all.
    pub fn probe(&self, probe: &Probe, patience: Duration) -> Result<Outcome, ProbeError> {
        self.probe_all(std::slice::from_ref(probe), patience)
            .pop()
            .expect("one result a probe")
    }

    /// As [`BareLab::probe`] for many at a time, in order. `patience` is how long each waits for an answer
    /// before it counts as dropped; it is the time that one dropped packet among them costs all.
    pub fn probe_all(
        &self,
        probes: &[Probe],
        patience: Duration,
    ) -> Vec<Result<Outcome, ProbeError>> {
        self.prober.run(&self.spaces, probes, patience)
    }
}

fn host_prefixes(addresses: &[IpAddr]) -> Vec<Prefix> {
    addresses
        .iter()
        .map(|address| Prefix::host(*address))
        .collect()
}

fn addresses(spec: &Spec) -> BTreeMap<Place, Vec<IpAddr>> {
    let nodes = spec.nodes.iter().flat_map(|node| {
        let pods = node.pods.iter().map(|pod| {
            let addresses = pod.addresses.iter().collect();
            (Place::Pod(pod.name.clone()), addresses)
        });
        let own = (Place::Node(node.name.clone()), node.addresses.clone());
        std::iter::once(own).chain(pods)
    });
    let outside = (Place::Outside, spec.outside.clone());
    nodes.chain([outside]).collect()
}

/// Refuses a spec in which one address has two owners.
fn unique(spec: &Spec) -> Result<(), BareError> {
    let nodes = spec.nodes.iter().flat_map(|node| {
        let pods = node.pods.iter().flat_map(|pod| {
            pod.addresses
                .iter()
                .map(|address| (address, Place::Pod(pod.name.clone())))
        });
        node.addresses
            .iter()
            .map(|address| (*address, Place::Node(node.name.clone())))
            .chain(pods)
    });
    let others = spec
        .outside
        .iter()
        .map(|address| (*address, Place::Outside));
    let mut owners = BTreeMap::from(FABRIC.map(|address| (address, Place::Fabric)));
    for (address, second) in nodes.chain(others) {
        if let Some(first) = owners.insert(address, second.clone()) {
            return Err(BareError::Duplicate {
                address,
                first,
                second,
            });
        }
    }
    Ok(())
}

/// Everyone knows the way to everyone, and to every Pod via its node; the rest goes to the fabric.
fn add_routes(
    spec: &Spec,
    fabric: &mut Host,
    hosts: &mut BTreeMap<String, Host>,
    outside: &mut Host,
) -> Result<(), NetError> {
    for host in hosts.values_mut().chain([outside, fabric]) {
        let mut routes = Vec::new();
        if host.name() != FABRIC_NAME {
            let everything =
                FABRIC.map(|gateway| (Prefix::everything(gateway), Via::Gateway(gateway)));
            routes.extend(FABRIC.map(|gateway| (Prefix::host(gateway), Via::Link)));
            routes.extend(everything);
        }
        let others = spec.nodes.iter().filter(|node| node.name != host.name());
        for node in others {
            routes.extend(
                node.addresses
                    .iter()
                    .map(|address| (Prefix::host(*address), Via::Link)),
            );
            for address in node.pods.iter().flat_map(|pod| pod.addresses.iter()) {
                let gateway = node
                    .addresses
                    .iter()
                    .find(|node| node.is_ipv4() == address.is_ipv4());
                routes
                    .extend(gateway.map(|gateway| (Prefix::host(address), Via::Gateway(*gateway))));
            }
        }
        if host.name() != "outside" {
            routes.extend(
                spec.outside
                    .iter()
                    .map(|address| (Prefix::host(*address), Via::Link)),
            );
        }
        host.add_routes(&routes)?;
    }
    Ok(())
}

fn add_pods(
    spec: &Spec,
    hosts: &mut BTreeMap<String, Host>,
    spaces: &mut BTreeMap<Place, NetNs>,
) -> Result<Vec<PodLink>, NetError> {
    let mut links = Vec::new();
    for node in &spec.nodes {
        let Some(host) = hosts.get_mut(&node.name) else {
            continue;
        };
        for (number, pod) in (1..).zip(&node.pods) {
            let link = match &pod.link {
                Some(name) => host.add_pod_at(number, name, pod.addresses)?,
                None => host.add_pod(number, pod.addresses)?,
            };
            spaces.insert(Place::Pod(pod.name.clone()), link.ns.clone());
            links.push(link);
        }
    }
    Ok(links)
}

/// The fabric's own addresses: no node, Pod or outside address may be one of them.
const FABRIC: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(172, 30, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 1)),
];
const FABRIC_NAME: &str = "fabric";
