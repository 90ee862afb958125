//! Random packets, aimed at what is there.

use std::net::IpAddr;

use daymark_model::address::{Family, parse_address};
use daymark_model::decide::Arrival;
use daymark_model::{FrontendKey, Interface, Packet, Protocol, World};

use super::Random;

const PORTS: [u16; 8] = [80, 443, 53, 8080, 30080, 30081, 30053, 9];
const CLIENTS: [[&str; 7]; 2] = [
    [
        "10.244.1.9",
        "10.244.1.200",
        "10.244.2.9",
        "10.244.9.9",
        "172.30.0.100",
        "172.30.0.9",
        "192.0.2.7",
    ],
    [
        "fd00:10:244:1::9",
        "fd00:10:244:1::200",
        "fd00:10:244:2::9",
        "fd00:10:244:9::9",
        "fd00:30::100",
        "fd00:30::9",
        "2001:db8::7",
    ],
];
const INTERFACES: [Option<&str>; 4] = [None, Some("eth0"), Some("cni0"), Some("veth1")];
const ELSEWHERE: [[&str; 3]; 2] = [
    ["10.96.0.99", "172.30.0.12", "127.0.0.1"],
    ["fd00:10:96::99", "fd00:30::12", "::1"],
];

/// Random packets for a world: most of them hit a frontend, or miss one narrowly.
pub fn packets(random: &mut Random, world: &World, count: usize) -> Vec<Packet> {
    let aims: Vec<FrontendKey> = world.desired().frontends.keys().copied().collect();
    (0..count).map(|_| packet(random, world, &aims)).collect()
}

fn packet(random: &mut Random, world: &World, aims: &[FrontendKey]) -> Packet {
    let aim = (!aims.is_empty() && random.percent(85)).then(|| random.pick(aims));
    let (destination, protocol, port) = match aim {
        Some(FrontendKey::Address { ip, protocol, port }) => (ip, protocol, port),
        Some(FrontendKey::NodePort {
            family,
            protocol,
            port,
        }) => (node_address(random, world, family), protocol, port),
        None => (
            stray(random, world),
            random.pick(&Protocol::ALL),
            random.pick(&PORTS),
        ),
    };
    let family = Family::of(destination);
    let arrival = if random.percent(25) {
        Arrival::Node
    } else {
        Arrival::Link
    };
    let interface = match arrival {
        Arrival::Node => None,
        Arrival::Link => random.pick(&INTERFACES).and_then(Interface::parse),
    };
    Packet {
        arrival,
        interface,
        source: source(random, world, family, arrival),
        destination,
        protocol: if random.percent(8) {
            random.pick(&Protocol::ALL)
        } else {
            protocol
        },
        port: if random.percent(8) {
            random.pick(&PORTS)
        } else {
            port
        },
    }
}

fn source(random: &mut Random, world: &World, family: Family, arrival: Arrival) -> IpAddr {
    let of_family = |ip: &IpAddr| Family::of(*ip) == family;
    match (arrival, random.below(10)) {
        (Arrival::Node, 0..=6) => node_address(random, world, family),
        // An address of a Service, which a load balancer may have put on the node.
        (Arrival::Node, 7) => {
            let own = world.desired().service_addresses.iter().copied();
            let own: Vec<IpAddr> = own.filter(of_family).collect();
            one_of(random, &own).unwrap_or_else(|| client(random, family))
        }
        // A hairpin, or nearly one.
        (Arrival::Link, 0..=3) => {
            let pools = world.desired().pools_in_order();
            let backends = pools.into_iter().flat_map(|(_, pool)| &pool.backends);
            let backends: Vec<IpAddr> = backends.map(|b| b.address).filter(of_family).collect();
            one_of(random, &backends).unwrap_or_else(|| client(random, family))
        }
        _ => client(random, family),
    }
}

fn client(random: &mut Random, family: Family) -> IpAddr {
    ip(random.pick(&CLIENTS[index(family)]))
}

/// An address that no frontend is sought at: a Service's with any port, be it another proxy's Service, or a stranger's.
fn stray(random: &mut Random, world: &World) -> IpAddr {
    let family = random.pick(&Family::BOTH);
    let mut known: Vec<IpAddr> = world.desired().service_addresses.iter().copied().collect();
    let services = world.inputs().services.values();
    let others = services.filter(|service| service.proxy_name.is_some());
    known.extend(others.flat_map(|service| service.cluster_ips.all()));
    let there = random.percent(50).then(|| one_of(random, &known)).flatten();
    there.unwrap_or_else(|| ip(random.pick(&ELSEWHERE[index(family)])))
}

fn node_address(random: &mut Random, world: &World, family: Family) -> IpAddr {
    let inputs = world.inputs();
    let node = inputs.node.iter().flat_map(|node| &node.addresses);
    let serving = world.desired().node_port_addresses.iter();
    let all = node.chain(serving).chain(inputs.machine_addresses.iter());
    let all: Vec<IpAddr> = all
        .copied()
        .filter(|ip| Family::of(*ip) == family)
        .collect();
    let default = ip(["172.30.0.11", "fd00:30::11"][index(family)]);
    one_of(random, &all).unwrap_or(default)
}

fn one_of(random: &mut Random, values: &[IpAddr]) -> Option<IpAddr> {
    (!values.is_empty()).then(|| random.pick(values))
}

fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

fn ip(text: &str) -> IpAddr {
    parse_address(text).expect("the addresses of this file can be read")
}
