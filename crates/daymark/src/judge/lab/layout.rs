//! Which namespaces a case needs, and which address lives where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use daymark_case::Case;
use daymark_lab::bare::{BareError, BareLab, Node, Place, Pod, Spec};
use daymark_lab::net::{PodAddresses, Prefix};
use daymark_model::decide::Arrival;
use daymark_model::{Change, Cidr, Family, Packet, World};

/// Where everybody is.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    here: String,
    nodes: BTreeMap<String, BTreeSet<IpAddr>>,
    pods: BTreeMap<IpAddr, String>,
    outside: BTreeSet<IpAddr>,
    /// Pods of other nodes that send through the node under test.
    clients: BTreeSet<IpAddr>,
    destinations: BTreeSet<IpAddr>,
    /// The interfaces of the node under test at which packets of own Pods arrive.
    links: BTreeMap<IpAddr, String>,
    ports: BTreeSet<u16>,
}

impl Layout {
    /// Collects every address that some step of the case names.
    pub(crate) fn of(case: &Case) -> Self {
        let mut layout = Self {
            here: "this".to_owned(),
            ..Self::default()
        };
        let mut world = World::new(case.options.clone());
        let changes = || case.steps.iter().flat_map(|step| &step.changes);
        for change in changes() {
            if let Change::Node(Some(node)) = change {
                layout.here = node.name.to_string();
            }
        }
        for step in &case.steps {
            world.apply(step.changes.iter().cloned());
            layout.add_here(&world);
            layout.add_endpoints(&step.changes);
        }
        let own = world
            .inputs()
            .node
            .as_ref()
            .map(|node| node.pod_cidrs.clone())
            .unwrap_or_default();
        for check in case.steps.iter().flat_map(|step| &step.checks) {
            layout.add_client(&check.packet, &own);
            layout.destinations.insert(check.packet.destination);
            layout.ports.insert(check.packet.port);
        }
        layout
    }

    /// The name of the node under test.
    pub(crate) fn here(&self) -> &str {
        &self.here
    }

    /// Whether the node under test has the address.
    pub(crate) fn is_here(&self, ip: IpAddr) -> bool {
        self.nodes
            .get(&self.here)
            .is_some_and(|own| own.contains(&ip))
    }

    /// The ports that something of the case listens on.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.ports.iter().copied().collect()
    }

    /// Who sends a packet.
    pub(crate) fn place_of(&self, packet: &Packet) -> Place {
        match packet.arrival {
            Arrival::Node => Place::Node(self.here.clone()),
            Arrival::Link if self.pods.contains_key(&packet.source) => {
                Place::Pod(self.pod_name(&packet.source))
            }
            Arrival::Link => self
                .node_of(packet.source)
                .map_or(Place::Outside, Place::Node),
        }
    }

    /// Builds the lab, with the way to every Service address through the node under test.
    pub(crate) fn build(&self) -> Result<BareLab, String> {
        let words = |error: BareError| error.to_string();
        let mut lab = BareLab::new(&self.spec()).map_err(words)?;
        let others = self
            .nodes
            .keys()
            .filter(|name| **name != self.here)
            .cloned();
        let senders: Vec<Place> = others.map(Place::Node).chain([Place::Outside]).collect();
        let known = |ip: &IpAddr| {
            self.pods.contains_key(ip) || self.outside.contains(ip) || self.node_of(*ip).is_some()
        };
        for ip in self.destinations.iter().filter(|ip| !known(ip)) {
            if self.address_here(Family::of(*ip)).is_none() {
                continue;
            }
            for sender in &senders {
                lab.route(sender, Prefix::host(*ip), &self.here)
                    .map_err(words)?;
            }
        }
        self.route_answers(&mut lab).map_err(words)?;
        Ok(lab)
    }

    /// Answers that are not masqueraded come back the way the packet went: every other node sends to
    /// clients through the node under test.
    fn route_answers(&self, lab: &mut BareLab) -> Result<(), BareError> {
        for node in self.nodes.keys().filter(|name| **name != self.here) {
            let elsewhere = |ip: &&IpAddr| {
                let at = self.pods.get(*ip);
                at.is_none_or(|at| at != node && *at != self.here)
            };
            let clients = self.outside.iter().chain(&self.clients).filter(elsewhere);
            for ip in clients.filter(|ip| self.address_here(Family::of(**ip)).is_some()) {
                lab.route(&Place::Node(node.clone()), Prefix::host(*ip), &self.here)?;
            }
        }
        Ok(())
    }

    fn spec(&self) -> Spec {
        let pods_of = |node: &str| {
            let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
            for (ip, _) in self.pods.iter().filter(|(_, at)| *at == node) {
                let name = self.pod_name(ip);
                let pod = pods.entry(name.clone()).or_insert_with(|| Pod {
                    name,
                    addresses: PodAddresses { v4: None, v6: None },
                    link: self.links.get(ip).cloned(),
                });
                match ip {
                    IpAddr::V4(ip) => pod.addresses.v4 = Some(*ip),
                    IpAddr::V6(ip) => pod.addresses.v6 = Some(*ip),
                }
            }
            pods.into_values().collect()
        };
        let node = |(name, addresses): (&String, &BTreeSet<IpAddr>)| Node {
            name: name.clone(),
            addresses: addresses.iter().copied().collect(),
            pods: pods_of(name),
        };
        Spec {
            nodes: self.nodes.iter().map(node).collect(),
            outside: self.outside.iter().copied().collect(),
            ports: self.ports(),
        }
    }

    /// One Pod an address; those at one interface are one Pod, which has an address of each family at most.
    fn pod_name(&self, ip: &IpAddr) -> String {
        let link = self.links.get(ip);
        link.cloned().unwrap_or_else(|| ip.to_string())
    }

    fn address_here(&self, family: Family) -> Option<IpAddr> {
        self.nodes
            .get(&self.here)?
            .iter()
            .copied()
            .find(|ip| Family::of(*ip) == family)
    }

    fn node_of(&self, ip: IpAddr) -> Option<String> {
        let mut found = self
            .nodes
            .iter()
            .filter(|(_, addresses)| addresses.contains(&ip));
        found.next().map(|(name, _)| name.clone())
    }

    fn add_here(&mut self, world: &World) {
        let inputs = world.inputs();
        let own = inputs
            .node
            .iter()
            .flat_map(|node| node.addresses.iter().copied());
        let own: Vec<IpAddr> = own
            .chain(inputs.machine_addresses.iter().copied())
            .collect();
        self.nodes
            .entry(self.here.clone())
            .or_default()
            .extend(own.into_iter().filter(|ip| !ip.is_loopback()));
        for family in Family::BOTH {
            // A node of the lab is reached through an address of the family, whatever the case says.
            if self.address_here(family).is_none() {
                self.nodes
                    .entry(self.here.clone())
                    .or_default()
                    .insert(spare(family, 0));
            }
        }
    }

    fn add_endpoints(&mut self, changes: &[Change]) {
        for change in changes {
            let Change::Slice(_, Some(slice)) = change else {
                continue;
            };
            self.ports.extend(slice.ports.iter().map(|port| port.port));
            for endpoint in &slice.endpoints {
                let at = endpoint.node.as_deref().unwrap_or("elsewhere").to_owned();
                self.place(endpoint.address, at);
            }
        }
    }

    /// An address of the nodes' own network is a node's, any other a Pod's.
    fn place(&mut self, ip: IpAddr, node: String) {
        if !self.nodes.contains_key(&node) {
            let number = u8::try_from(self.nodes.len()).unwrap_or(u8::MAX);
            let addresses = Family::BOTH.map(|family| spare(family, number));
            self.nodes.insert(node.clone(), addresses.into());
        }
        if is_node_network(ip) {
            if self.node_of(ip).is_none() {
                self.nodes.entry(node).or_default().insert(ip);
            }
        } else if !self.outside.contains(&ip) {
            self.pods.entry(ip).or_insert(node);
        }
    }

    fn add_client(&mut self, packet: &Packet, own: &[Cidr]) {
        let ip = packet.source;
        let link = packet.interface.map(|interface| interface.to_string());
        if let Some(link) = link.filter(|link| link != SEGMENT) {
            self.links.insert(ip, link);
            let here = self.here.clone();
            self.place(ip, here);
        }
        if packet.arrival == Arrival::Link && is_pod_network(ip) {
            self.clients.insert(ip);
        }
        if ip.is_loopback()
            || self.pods.contains_key(&ip)
            || self.outside.contains(&ip)
            || self.node_of(ip).is_some()
        {
            return;
        }
        match packet.arrival {
            Arrival::Node => {
                self.nodes.entry(self.here.clone()).or_default().insert(ip);
            }
            Arrival::Link if own.iter().any(|cidr| cidr.contains(ip)) => {
                let here = self.here.clone();
                self.place(ip, here);
            }
            Arrival::Link if is_pod_network(ip) => self.place(ip, "elsewhere".to_owned()),
            Arrival::Link => {
                self.outside.insert(ip);
            }
        }
    }
}

/// The interface of every node to the others.
const SEGMENT: &str = "eth0";

/// An address for a node to which a case gives none.
fn spare(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([172, 30, 0, 60 + number]),
        Family::V6 => IpAddr::from([0xfd00, 0x30, 0, 0, 0, 0, 0, 0x60 + u16::from(number)]),
    }
}

/// `172.30.0.0/24` below the load balancers' addresses and the outside host, `fd00:30::/64` alike.
fn is_node_network(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [172, 30, 0] && ip.octets()[3] < 100,
        IpAddr::V6(ip) => ip.segments()[..2] == [0xfd00, 0x30] && ip.segments()[7] < 0x100,
    }
}

fn is_pod_network(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..2] == [10, 244],
        IpAddr::V6(ip) => ip.segments()[..3] == [0xfd00, 0x10, 0x244],
    }
}
