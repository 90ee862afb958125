//! The interfaces of this machine, and which of them is on the link of an address.

use std::io;
use std::net::IpAddr;

use daymark_model::Cidr;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};

use super::Mac;

/// An interface that frames can be answered on: Ethernet, up, with a carrier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The interface's index in this network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The prefixes that are on its link. Host routes and link-local prefixes are none.
    pub prefixes: Vec<Cidr>,
}

impl Link {
    fn reaches(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(address))
    }
}

/// The links on which an address is announced: those with a prefix that holds it. If there is none, the
/// one that holds an address of the Node object in the same family: a router there can be told to look
/// for the address on that link.
#[must_use]
pub fn links_of<'l>(links: &'l [Link], address: IpAddr, node: &[IpAddr]) -> Vec<&'l Link> {
    let near: Vec<_> = links.iter().filter(|link| link.reaches(address)).collect();
    if !near.is_empty() {
        return near;
    }
    let own = |link: &&Link| {
        let mut own = link
            .addresses
            .iter()
            .filter(|own| own.is_ipv4() == address.is_ipv4());
        own.any(|own| node.contains(own))
    };
    links.iter().filter(own).take(1).collect()
}

/// Every prefix that this machine is on the link of, each once.
#[must_use]
pub fn prefixes(links: &[Link]) -> Vec<Cidr> {
    let mut all: Vec<Cidr> = links
        .iter()
        .flat_map(|link| link.prefixes.iter().copied())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Follows the interfaces of the network namespace it was opened in.
pub(crate) struct Links {
    handle: Handle,
    news: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: tokio::task::JoinHandle<()>,
}

impl Links {
    /// Opens the route socket and subscribes to what changes.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub(crate) fn open() -> io::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, handle, news) = new_multicast_connection(&groups)?;
        let connection = tokio::spawn(connection);
        Ok(Self {
            handle,
            news,
            connection,
        })
    }

    /// Opens the socket anew if what reads it has ended.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn mend(&mut self) -> io::Result<()> {
        if self.connection.is_finished() {
            *self = Self::open()?;
        }
        Ok(())
    }

    /// Waits until something changed. What came together counts as one change. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.news.next().await.is_none() {
            // The socket is gone; it is mended before the interfaces are listed again.
            futures::future::pending::<()>().await;
        }
        while self.news.try_recv().is_ok() {}
    }

    /// The interfaces as they are now.
    ///
    /// # Errors
    /// When the kernel refuses the dump, or the socket is gone.
    pub(crate) async fn list(&self) -> Result<Vec<Link>, rtnetlink::Error> {
        let mut links = Vec::new();
        let mut messages = self.handle.link().get().execute();
        while let Some(message) = messages.try_next().await? {
            links.extend(usable(&message));
        }
        let mut messages = self.handle.address().get().execute();
        while let Some(message) = messages.try_next().await? {
            let Some(link) = links
                .iter_mut()
                .find(|link| link.index == message.header.index)
            else {
                continue;
            };
            add(link, &message.attributes, message.header.prefix_len);
        }
        links.sort_unstable();
        Ok(links)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn usable(message: &LinkMessage) -> Option<Link> {
    let header = &message.header;
    let up = header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    let speaks = !header
        .flags
        .intersects(LinkFlags::Noarp | LinkFlags::Loopback);
    if header.link_layer_type != LinkLayerType::Ether || !up || !speaks {
        return None;
    }
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: [0; 6],
        addresses: Vec::new(),
        prefixes: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok()?,
            _ => {}
        }
    }
    Some(link)
}

fn add(link: &mut Link, attributes: &[AddressAttribute], length: u8) {
    // On a point-to-point link IFA_ADDRESS is the peer and IFA_LOCAL the own address; otherwise one or both
    // carry the own one (net/ipv4/devinet.c, net/ipv6/addrconf.c).
    let mut own = None;
    let mut subnet = None;
    for attribute in attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => subnet = Some(*address),
            _ => {}
        }
    }
    let Some(subnet) = subnet.or(own) else { return };
    link.addresses.push(own.unwrap_or(subnet));
    let link_local = match subnet {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    };
    let host = if subnet.is_ipv4() { 32 } else { 128 };
    if let Some(prefix) = Cidr::new(subnet, length).filter(|_| !link_local && length < host) {
        link.prefixes.push(prefix);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::ip;

    fn link(name: &str, addresses: &[&str]) -> Link {
        let mut link = Link {
            index: 1,
            name: name.into(),
            mac: [2; 6],
            addresses: vec![],
            prefixes: vec![],
        };
        for text in addresses {
            let (address, length) = text.split_once('/').unwrap();
            add(
                &mut link,
                &[AddressAttribute::Address(ip(address))],
                length.parse().unwrap(),
            );
        }
        link
    }

    #[test]
    fn an_address_is_announced_on_the_link_it_belongs_to() {
        let links = [
            link("eth0", &["172.30.0.11/24", "fd00:30::11/64", "fe80::1/64"]),
            link("eth1", &["10.0.0.1/8", "172.30.0.12/24"]),
            link("pod7", &["169.254.1.1/16", "10.244.1.7/32"]),
        ];
        let node = [ip("172.30.0.11"), ip("fd00:30::11")];
        let check = |address: &str, expected: &[&str]| {
            let found: Vec<_> = links_of(&links, ip(address), &node)
                .iter()
                .map(|link| link.name.as_str())
                .collect();
            assert_eq!(found, expected, "{address}");
        };
        check("172.30.0.200", &["eth0", "eth1"]);
        check("10.1.2.3", &["eth1"]);
        check("fd00:30::200", &["eth0"]);
        // On no link: where the Node's own address is.
        check("192.0.2.1", &["eth0"]);
        check("fd00:99::1", &["eth0"]);
        check("169.254.7.7", &["eth0"]);
    }

    #[tokio::test]
    async fn a_socket_that_nobody_reads_any_more_is_opened_anew() {
        let mut links = Links::open().unwrap();
        let there = links.list().await.unwrap();
        links.connection.abort();
        let ended = async {
            while !links.connection.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let soon = tokio::time::timeout(Duration::from_secs(5), ended);
        soon.await.expect("it ends");
        links.list().await.unwrap_err();
        links.mend().unwrap();
        assert_eq!(links.list().await.unwrap(), there);
    }
}
