//! A Pod's link: a routed veth between its own namespace and its node's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use daymark_sys::ns::NetNs;
use rtnetlink::LinkVeth;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};

use super::routes::{Hop, Request, Route};
use super::segment::{ETH0, LOOPBACK, peer};
use super::sysctl::{self, Role};
use super::{Host, NetError, Prefix, RouteSocket};

/// The addresses of a Pod, at most one of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddresses {
    /// Its IPv4 address, if it has one.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address, if it has one.
    pub v6: Option<Ipv6Addr>,
}

impl PodAddresses {
    /// The addresses, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4
            .map(IpAddr::V4)
            .into_iter()
            .chain(self.v6.map(IpAddr::V6))
    }
}

/// A Pod's network namespace, linked to its node. Dropping it leaves the link to [`Host::remove_pod`], or to the
/// kernel once the last process in the namespace has ended.
#[derive(Clone, Debug)]
pub struct PodLink {
    /// The Pod's network namespace.
    pub ns: NetNs,
    /// Index of the node's end.
    pub index: u32,
}

impl Host {
    /// Makes a Pod's namespace with `lo`, `eth0`, its addresses and routes, and the node's routes to it.
    ///
    /// `number` tells the Pods of a node apart: 1 to 16 million, unique at any time.
    ///
    /// # Errors
    /// Any [`NetError`].
    pub fn add_pod(&mut self, number: u32, addresses: PodAddresses) -> Result<PodLink, NetError> {
        self.add_pod_at(number, &format!("pod{number}"), addresses)
    }

    /// The same, with a name for the node's end of the link: 15 bytes at most.
    ///
    /// # Errors
    /// Any [`NetError`].
    pub fn add_pod_at(
        &mut self,
        number: u32,
        name: &str,
        addresses: PodAddresses,
    ) -> Result<PodLink, NetError> {
        let ns = NetNs::create().map_err(|source| NetError::Namespace {
            name: name.to_owned(),
            source,
        })?;
        sysctl::configure(&ns, name, Role::Host)?;
        let index = FIRST_POD + number;
        self.routes
            .apply(self.node_side(name, index, number, &ns, addresses))?;
        let mut inside = RouteSocket::open(&ns)?;
        inside.apply(pod_side(addresses))?;
        inside.wait_until_usable(ETH0, &addresses.iter().collect::<Vec<_>>())?;
        self.routes.wait_until_usable(index, &[])?;
        Ok(PodLink { ns, index })
    }

    /// Removes a Pod's link: nothing reaches the Pod any more.
    ///
    /// # Errors
    /// What the kernel refused: ENODEV when the namespace has gone already.
    pub fn remove_pod(&mut self, link: &PodLink) -> Result<(), NetError> {
        self.routes.apply(vec![Request::delete_link(link.index)])
    }

    fn node_side(
        &self,
        name: &str,
        index: u32,
        number: u32,
        ns: &NetNs,
        addresses: PodAddresses,
    ) -> Vec<Request> {
        let hardware = pod_hardware(number);
        let veth = LinkVeth::new(name, "eth0")
            .index(index)
            .address(GATEWAY_HARDWARE.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer(ns, hardware))))
            .up()
            .build();
        let mut requests = vec![
            Request::add_link(veth, format!("{name} type veth peer eth0")),
            Request::address(index, Prefix::new(GATEWAY_V6, 64)),
        ];
        for address in addresses.iter() {
            requests.push(Request::neighbour(index, address, hardware));
            let route = Route::new(Prefix::host(address), Hop::Link, index);
            requests.push(Request::route(Route {
                source: self.address_like(address),
                ..route
            }));
        }
        requests
    }
}

fn pod_side(addresses: PodAddresses) -> Vec<Request> {
    let mut requests = vec![Request::up(LOOPBACK), Request::up(ETH0)];
    for address in addresses.iter() {
        let gateway = if address.is_ipv4() {
            IpAddr::V4(GATEWAY_V4)
        } else {
            IpAddr::V6(GATEWAY_V6)
        };
        requests.push(Request::address(ETH0, Prefix::host(address)));
        requests.push(Request::neighbour(ETH0, gateway, GATEWAY_HARDWARE));
        if gateway.is_ipv4() {
            requests.push(Request::route(Route::new(
                Prefix::host(gateway),
                Hop::Link,
                ETH0,
            )));
        }
        requests.push(Request::route(Route::new(
            Prefix::everything(address),
            Hop::Gateway(gateway),
            ETH0,
        )));
    }
    requests
}

fn pod_hardware(number: u32) -> [u8; 6] {
    let [_, a, b, c] = number.to_be_bytes();
    [0x02, 0xda, 0x9d, a, b, c]
}

/// The gateway every Pod has; no interface holds it, a static neighbour answers for it.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The gateway every Pod has; each of the node's ends holds it.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The node's end of every Pod's link.
const GATEWAY_HARDWARE: [u8; 6] = [0xee; 6];
/// A node's ends are numbered from here.
const FIRST_POD: u32 = 1000;
