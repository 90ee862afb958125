//! The segment that nodes, the fabric and the outside host share.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use daymark_sys::ns::NetNs;
use rtnetlink::packet_route::link::{InfoBridge, InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth};

use super::routes::{Hop, Request, Route};
use super::sysctl::{self, Role};
use super::{NetError, Prefix, RouteSocket};

/// A bridge in the fabric namespace, and what hangs on it.
pub struct Segment {
    fabric: Host,
    /// Interface index of each host's bridge port.
    ports: BTreeMap<String, u32>,
}

/// A namespace on the segment: a node, the outside host, or the fabric itself.
pub struct Host {
    name: String,
    ns: NetNs,
    pub(super) routes: RouteSocket,
    addresses: Vec<Prefix>,
}

/// Whether a host's cable is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// Frames pass.
    Connected,
    /// No frame passes, and the host cannot tell: its link stays up, as behind a dead switch.
    Cut,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// To a neighbour on the segment.
    Link,
    /// Through this neighbour.
    Gateway(IpAddr),
    /// Nowhere: what no longer route takes is refused.
    Nowhere,
}

impl Segment {
    /// Makes `ns` the fabric: a bridge with these addresses.
    ///
    /// # Errors
    /// Any [`NetError`].
    pub fn new(ns: NetNs, addresses: &[Prefix]) -> Result<Self, NetError> {
        sysctl::configure(&ns, FABRIC, Role::Router)?;
        let mut fabric = Host::open(FABRIC, ns, addresses)?;
        let bridge = LinkBridge::new("br0")
            .index(ETH0)
            .address(hardware(0, 0).to_vec())
            // A port forwards at once, and no snooping keeps a neighbour solicitation away.
            .append_info_data(InfoBridge::ForwardDelay(0))
            .append_info_data(InfoBridge::MulticastSnooping(false))
            .build();
        let mut requests = vec![
            Request::up(LOOPBACK),
            Request::add_link(bridge, "br0 type bridge"),
            link_local_address(0),
        ];
        requests.extend(
            addresses
                .iter()
                .map(|prefix| Request::address(ETH0, *prefix)),
        );
        fabric.routes.apply(requests)?;
        Ok(Self {
            fabric,
            ports: BTreeMap::new(),
        })
    }

    /// The fabric's own namespace.
    pub fn fabric(&mut self) -> &mut Host {
        &mut self.fabric
    }

    /// Makes a node: a host that forwards.
    ///
    /// # Errors
    /// Any [`NetError`].
    pub fn add_node(&mut self, name: &str, addresses: &[Prefix]) -> Result<Host, NetError> {
        self.add(name, addresses, Role::Router)
    }

    /// Makes a host that does not forward.
    ///
    /// # Errors
    /// Any [`NetError`].
    pub fn add_host(&mut self, name: &str, addresses: &[Prefix]) -> Result<Host, NetError> {
        self.add(name, addresses, Role::Host)
    }

    fn add(&mut self, name: &str, addresses: &[Prefix], role: Role) -> Result<Host, NetError> {
        let ns = NetNs::create().map_err(|source| NetError::Namespace {
            name: name.to_owned(),
            source,
        })?;
        sysctl::configure(&ns, name, role)?;
        let number = u8::try_from(self.ports.len() + 1).unwrap_or(u8::MAX);
        let port = FIRST_PORT + u32::from(number);
        let mut veth = LinkVeth::new(&format!("port{number}"), "eth0")
            .index(port)
            .address(hardware(2, number).to_vec())
            .controller(ETH0)
            .up();
        veth = veth.set_info_data(InfoData::Veth(InfoVeth::Peer(peer(
            &ns,
            hardware(1, number),
        ))));
        self.fabric.routes.apply(vec![Request::add_link(
            veth.build(),
            format!("port{number} type veth peer {name}"),
        )])?;
        self.ports.insert(name.to_owned(), port);
        let mut host = Host::open(name, ns, addresses)?;
        let mut requests = vec![
            Request::up(LOOPBACK),
            Request::up(ETH0),
            link_local_address(number),
        ];
        requests.extend(
            addresses
                .iter()
                .map(|prefix| Request::address(ETH0, *prefix)),
        );
        host.routes.apply(requests)?;
        self.fabric.routes.wait_until_usable(port, &[])?;
        let mut own: Vec<IpAddr> = addresses.iter().map(|prefix| prefix.address).collect();
        own.push(link_local(number).into());
        host.routes.wait_until_usable(ETH0, &own)?;
        Ok(host)
    }

    /// Plugs a host's cable in or out.
    ///
    /// # Errors
    /// [`NetError::UnknownHost`], or what the kernel refused.
    pub fn set_cable(&mut self, name: &str, cable: Cable) -> Result<(), NetError> {
        let Some(port) = self.ports.get(name) else {
            let known = self.ports.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(NetError::UnknownHost {
                name: name.to_owned(),
                known,
            });
        };
        let link = LinkUnspec::new_with_index(*port);
        let request = match cable {
            Cable::Connected => {
                Request::set_link(link.controller(ETH0).build(), format!("{name} master br0"))
            }
            Cable::Cut => {
                Request::set_link(link.nocontroller().build(), format!("{name} nomaster"))
            }
        };
        self.fabric.routes.apply(vec![request])
    }
}

impl Host {
    fn open(name: &str, ns: NetNs, addresses: &[Prefix]) -> Result<Self, NetError> {
        let routes = RouteSocket::open(&ns)?;
        Ok(Self {
            name: name.to_owned(),
            ns,
            routes,
            addresses: addresses.to_vec(),
        })
    }

    /// Takes hold of a host's namespace that another process built: `addresses` are those of its `eth0`.
    ///
    /// # Errors
    /// [`NetError::Socket`].
    pub fn adopt(name: &str, ns: NetNs, addresses: &[Prefix]) -> Result<Self, NetError> {
        Self::open(name, ns, addresses)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// Its addresses on the segment.
    pub fn addresses(&self) -> &[Prefix] {
        &self.addresses
    }

    /// Its first address of the family of `like`.
    pub(crate) fn address_like(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses
            .iter()
            .map(|prefix| prefix.address)
            .find(|address| address.is_ipv4() == like.is_ipv4())
    }

    /// Adds routes over `eth0`, replacing those to the same prefixes.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn add_routes(&mut self, routes: &[(Prefix, Via)]) -> Result<(), NetError> {
        let requests = routes
            .iter()
            .map(|(to, via)| Request::route(self.route(*to, *via)))
            .collect();
        self.routes.apply(requests)
    }

    /// Removes routes that [`Host::add_routes`] added.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn remove_routes(&mut self, routes: &[(Prefix, Via)]) -> Result<(), NetError> {
        let requests = routes
            .iter()
            .map(|(to, via)| Request::delete_route(self.route(*to, *via)))
            .collect();
        self.routes.apply(requests)
    }

    /// Accepts every packet that no better route takes elsewhere, whatever its address.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn accept_everything(&mut self) -> Result<(), NetError> {
        sysctl::allow_foreign_sources(&self.ns, &self.name)?;
        let everything = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let route = |address| Route::new(Prefix::everything(address), Hop::Local, LOOPBACK);
        self.routes.apply(
            everything
                .map(|address| Request::route(route(address)))
                .into(),
        )
    }

    fn route(&self, to: Prefix, via: Via) -> Route {
        let hop = match via {
            Via::Link => Hop::Link,
            Via::Gateway(gateway) => Hop::Gateway(gateway),
            Via::Nowhere => Hop::Unreachable,
        };
        let sends = via != Via::Nowhere;
        Route {
            source: sends.then(|| self.address_like(to.address)).flatten(),
            ..Route::new(to, hop, ETH0)
        }
    }
}

/// The far end of a veth: `eth0`, made inside `ns`. It is set up later, because a peer cannot be made up.
pub(super) fn peer(ns: &NetNs, hardware: [u8; 6]) -> rtnetlink::packet_route::link::LinkMessage {
    LinkUnspec::new_with_index(ETH0)
        .name("eth0")
        .address(hardware.to_vec())
        .append_extra_attribute(LinkAttribute::NetNsFd(ns.as_raw_fd()))
        .build()
}

/// The link-local address of a host on the segment.
fn link_local(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xda7a, 0x0100 | u16::from(number))
}

fn link_local_address(number: u8) -> Request {
    Request::address(ETH0, Prefix::new(link_local(number), 64))
}

/// A locally administered hardware address.
fn hardware(kind: u8, number: u8) -> [u8; 6] {
    [0x02, 0xda, 0x7a, 0x00, kind, number]
}

/// The fabric's name among the hosts.
const FABRIC: &str = "fabric";
/// `lo` is the first link of every namespace.
pub(super) const LOOPBACK: u32 = 1;
/// `eth0`, or the bridge in the fabric: made under this index everywhere.
pub(super) const ETH0: u32 = 2;
/// Bridge ports are numbered from here.
const FIRST_PORT: u32 = 10;
