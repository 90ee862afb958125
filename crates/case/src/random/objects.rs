//! Random objects.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::address::{Family, parse_address};
use daymark_model::input::{
    Affinity, ClusterIps, Conditions, Detector, Hints, Ingress, IngressMode, LoadBalancerRequest,
    MasqueradeAll, ServicePort, ServiceType, SliceAudience, SlicePort, TrafficPolicy,
};
use daymark_model::node_ports::{NodePortAddress, NodePortAddresses};
use daymark_model::rules::{self, Mode, Rules};
use daymark_model::{
    Change, Cidr, Endpoint, InterfacePattern, Node, Options, Protocol, Service, ServiceCidr,
    ServiceKey, Slice, SliceKey,
};

use super::Random;

const NAMESPACES: [&str; 4] = ["default", "default", "default", "prod"];
const SERVICES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
/// The ports that most Services and slices agree on.
const PORT_NAMES: [(&str, Protocol); 4] = [
    ("", Protocol::Tcp),
    ("http", Protocol::Tcp),
    ("dns", Protocol::Udp),
    ("dns", Protocol::Sctp),
];
const PORTS: [u16; 4] = [80, 443, 53, 30080];
const NODE_PORTS: [u16; 3] = [30080, 30081, 30053];
const TARGETS: [u16; 4] = [80, 8080, 8081, 5353];
const CLUSTER_IPS: [[&str; 2]; 6] = [
    ["10.96.0.20", "fd00:10:96::20"],
    ["10.96.0.21", "fd00:10:96::21"],
    ["10.96.0.22", "fd00:10:96::22"],
    ["10.96.0.23", "fd00:10:96::23"],
    ["10.96.0.24", "fd00:10:96::24"],
    ["10.96.0.25", "fd00:10:96::25"],
];
/// External and load-balancer addresses: shared by all Services, two of them the node's own.
const OUTER_IPS: [&str; 8] = [
    "172.30.0.200",
    "172.30.0.201",
    "172.30.0.240",
    "172.30.0.11",
    "fd00:30::200",
    "fd00:30::201",
    "fd00:30::240",
    "fd00:30::11",
];
/// The last one is a Service's: IPVS leaves such on an interface.
const NODE_IPS: [&str; 7] = [
    "172.30.0.11",
    "172.30.0.111",
    "127.0.0.1",
    "fd00:30::11",
    "fd00:30::111",
    "::1",
    "10.96.0.20",
];
const ENDPOINTS_V4: [&str; 7] = [
    "10.244.1.5",
    "10.244.1.6",
    "10.244.1.7",
    "10.244.2.5",
    "10.244.2.6",
    "10.244.3.5",
    "172.30.0.11",
];
const ENDPOINTS_V6: [&str; 7] = [
    "fd00:10:244:1::5",
    "fd00:10:244:1::6",
    "fd00:10:244:1::7",
    "fd00:10:244:2::5",
    "fd00:10:244:2::6",
    "fd00:10:244:3::5",
    "fd00:30::11",
];
/// Source ranges and pod prefixes, many inside each other.
pub(super) const PREFIXES: [&str; 12] = [
    "172.30.0.0/24",
    "172.30.0.100/32",
    "172.30.0.8/29",
    "10.244.0.0/16",
    "10.244.1.0/24",
    "0.0.0.0/0",
    "fd00:30::/64",
    "fd00:30::100/128",
    "fd00:10:244::/48",
    "fd00:10:244:1::/64",
    "fd00::/8",
    "::/0",
];
/// The last two hold external addresses, and the node's own.
const SERVICE_CIDRS: [&str; 6] = [
    "10.96.0.0/16",
    "10.96.0.16/28",
    "fd00:10:96::/112",
    "fd00:10:96::20/127",
    "172.30.0.192/26",
    "fd00:30::/64",
];
const POD_CIDRS: [&str; 4] = [
    "10.244.1.0/24",
    "fd00:10:244:1::/64",
    "10.244.1.128/25",
    "10.244.9.0/24",
];

/// Random settings; mostly the default ones.
pub fn options(random: &mut Random) -> Options {
    Options {
        detector: match random.below(10) {
            0 => Detector::None,
            3 => {
                let pattern = InterfacePattern::parse(random.pick(&["cni0", "veth*", "v*"]));
                Detector::Interface(pattern.expect("a pattern"))
            }
            1 | 2 => Detector::Cidrs(cidrs(random, 3, &PREFIXES)),
            _ => Detector::NodeCidr,
        },
        node_port_addresses: match random.below(10) {
            0..=4 => node_port_addresses(random),
            _ => NodePortAddresses::default(),
        },
        node_name: if random.percent(20) {
            "node-1".into()
        } else {
            "".into()
        },
        masquerade_all: if random.percent(10) {
            MasqueradeAll::Yes
        } else {
            MasqueradeAll::No
        },
        rules: rules(random),
    }
}

/// A mixed list; now and then an empty one.
fn node_port_addresses(random: &mut Random) -> NodePortAddresses {
    let mut entries: Vec<NodePortAddress> = cidrs(random, 3, &PREFIXES)
        .into_iter()
        .map(NodePortAddress::Cidr)
        .collect();
    for (_, keyword) in NodePortAddress::KEYWORDS {
        if random.percent(25) {
            entries.push(keyword);
        }
    }
    NodePortAddresses(entries)
}

/// Random choices; mostly daymark's own.
fn rules(random: &mut Random) -> Rules {
    let mut rules = match random.below(20) {
        0 => Rules::of_mode(random.pick(&Mode::ALL)),
        _ => Rules::default(),
    };
    for (name, words) in rules::NAMES {
        if random.percent(10) {
            let words: Vec<&str> = words.split(", ").collect();
            let word = random.pick(&words);
            let word = word.replace("PREFIX,...", "172.30.0.240/28,fd00:30::200/120");
            rules.set(name, &word).expect("a choice has its own words");
        }
    }
    rules
}

/// The random change of a seed. It depends on nothing else, so that a sequence of seeds is a sequence
/// of changes from which a test may leave some out.
#[must_use]
pub fn change(seed: u64) -> Change {
    let mut random = Random::new(seed);
    match random.below(100) {
        0..=37 => {
            let service = service(&mut random);
            let there = !random.percent(20);
            Change::Service(service.key.clone(), there.then(|| Arc::new(service)))
        }
        38..=89 => {
            let slice = slice(&mut random);
            let there = !random.percent(20);
            Change::Slice(slice.key.clone(), there.then(|| Arc::new(slice)))
        }
        90..=91 => {
            let name: Arc<str> = random.pick(&["kubernetes", "extra"]).into();
            let cidr = ServiceCidr {
                name: name.clone(),
                cidrs: cidrs(&mut random, 2, &SERVICE_CIDRS),
            };
            let there = !random.percent(30) && !cidr.cidrs.is_empty();
            Change::ServiceCidr(name, there.then(|| Arc::new(cidr)))
        }
        92..=95 if random.percent(80) => node(&mut random),
        92..=95 => Change::Node(None),
        _ => Change::MachineAddresses(addresses(&mut random, 4, &NODE_IPS).into()),
    }
}

/// Mostly the node of the cases: a start from which most clusters make sense.
pub(super) fn start(random: &mut Random) -> Change {
    if random.percent(20) {
        return node(random);
    }
    Change::Node(Some(Arc::new(node_1())))
}

/// The node of the cases.
pub(super) fn node_1() -> Node {
    Node {
        name: "node-1".into(),
        zone: "zone-a".into(),
        addresses: vec![ip("172.30.0.11"), ip("fd00:30::11")],
        pod_cidrs: vec![cidr("10.244.1.0/24"), cidr("fd00:10:244:1::/64")],
    }
}

fn node(random: &mut Random) -> Change {
    let zone = if random.percent(20) {
        ""
    } else {
        random.pick(&ZONES)
    };
    Change::Node(Some(Arc::new(Node {
        name: if random.percent(90) {
            "node-1".into()
        } else {
            random.pick(&NODES).into()
        },
        zone: zone.into(),
        addresses: addresses(random, 4, &NODE_IPS),
        pod_cidrs: cidrs(random, 3, &POD_CIDRS),
    })))
}

fn service(random: &mut Random) -> Service {
    let key = ServiceKey::new(random.pick(&NAMESPACES), random.pick(&SERVICES));
    let cluster_ips = cluster_ips(random, &key);
    Service {
        key,
        uid: None,
        created: random.pick(&[0, 1000, 1000, 2000]),
        kind: match random.below(10) {
            0..=2 => ServiceType::ClusterIp,
            3..=5 => ServiceType::NodePort,
            6.. if random.percent(90) => ServiceType::LoadBalancer,
            _ => ServiceType::ExternalName("example.com".into()),
        },
        families: random.some(2, &Family::BOTH),
        cluster_ips,
        external_ips: if random.percent(40) {
            addresses(random, 3, &OUTER_IPS)
        } else {
            Vec::new()
        },
        ingress: addresses(random, 3, &OUTER_IPS)
            .into_iter()
            .map(|ip| ingress(random, ip))
            .collect(),
        ports: (0..random.below(4)).map(|_| port(random)).collect(),
        internal_policy: policy(random),
        external_policy: policy(random),
        affinity: match random.below(10) {
            0 => Affinity::ClientIp { timeout: 10 },
            1 => Affinity::ClientIp { timeout: 10_800 },
            _ => Affinity::None,
        },
        source_ranges: if random.percent(40) {
            cidrs(random, 4, &PREFIXES)
        } else {
            Vec::new()
        },
        health_check_node_port: random.percent(25).then_some(32000),
        proxy_name: random.percent(5).then(|| "other".into()),
        load_balancer: random.percent(10).then(|| Box::new(request(random))),
    }
}

/// Mostly the Service's own, one a family; sometimes another's, two of a family, or none.
fn cluster_ips(random: &mut Random, key: &ServiceKey) -> ClusterIps {
    let own = SERVICES.iter().position(|name| *name == &*key.name);
    let own = own.unwrap_or(0) + if &*key.namespace == "prod" { 2 } else { 0 };
    let both = CLUSTER_IPS[own].map(ip);
    let [four, six] = both;
    ClusterIps::Allocated(match random.below(20) {
        0 => return ClusterIps::Unset,
        1 => return ClusterIps::Headless,
        2 => Vec::new(),
        3 => random.pick(&CLUSTER_IPS).map(ip).to_vec(),
        4 => vec![four, ip(OUTER_IPS[0])],
        5 => vec![ip(OUTER_IPS[0])],
        6..=8 => vec![four],
        9..=11 => vec![six],
        12..=14 => vec![six, four],
        _ => vec![four, six],
    })
}

pub(super) fn ingress(random: &mut Random, ip: IpAddr) -> Ingress {
    let mode = if random.percent(15) {
        IngressMode::Proxy
    } else {
        IngressMode::Vip
    };
    Ingress { ip, mode }
}

fn request(random: &mut Random) -> LoadBalancerRequest {
    LoadBalancerRequest {
        class: Some("example.com/lb".into()),
        addresses: addresses(random, 2, &OUTER_IPS),
        unreadable: Vec::new(),
        given_from: Vec::new(),
        pool: random.percent(50).then(|| "pool".into()),
    }
}

fn port(random: &mut Random) -> ServicePort {
    let (name, protocol) = port_name(random);
    ServicePort {
        name: name.into(),
        protocol,
        port: random.pick(&PORTS),
        node_port: random.percent(60).then(|| random.pick(&NODE_PORTS)),
    }
}

fn port_name(random: &mut Random) -> (&'static str, Protocol) {
    let (name, protocol) = random.pick(&PORT_NAMES);
    if random.percent(10) {
        (name, random.pick(&Protocol::ALL))
    } else {
        (name, protocol)
    }
}

fn policy(random: &mut Random) -> TrafficPolicy {
    if random.percent(30) {
        TrafficPolicy::Local
    } else {
        TrafficPolicy::Cluster
    }
}

fn slice(random: &mut Random) -> Slice {
    let namespace = random.pick(&NAMESPACES);
    let service = random.pick(&SERVICES);
    let family = random.pick(&Family::BOTH);
    // A third of the names do not tell the Service, so that slices move between Services.
    let suffix = family.to_string().to_lowercase();
    let name = match random.below(3) {
        0 => format!("{service}-{suffix}"),
        1 => format!("{service}-more"),
        _ => format!("slice-{}", random.below(3)),
    };
    Slice {
        key: SliceKey {
            namespace: namespace.into(),
            name: name.into(),
        },
        service: service.into(),
        family,
        audience: audience(random),
        ports: slice_ports(random),
        endpoints: (0..random.below(6))
            .map(|_| endpoint(random, family))
            .collect(),
    }
}

pub(super) fn audience(random: &mut Random) -> SliceAudience {
    if random.percent(8) {
        SliceAudience::DnsOnly
    } else {
        SliceAudience::Everyone
    }
}

/// Mostly a number for each port that a Service may have; sometimes a few, or doubles.
fn slice_ports(random: &mut Random) -> Vec<SlicePort> {
    let names: Vec<(&str, Protocol)> = if random.percent(70) {
        PORT_NAMES.to_vec()
    } else {
        (0..random.below(4)).map(|_| port_name(random)).collect()
    };
    let port = |(name, protocol): (&str, Protocol)| SlicePort {
        name: name.into(),
        protocol,
        port: random.pick(&TARGETS),
    };
    names.into_iter().map(port).collect()
}

fn endpoint(random: &mut Random, family: Family) -> Endpoint {
    let right = random.percent(95) == (family == Family::V4);
    endpoint_of(random, if right { Family::V4 } else { Family::V6 })
}

/// An endpoint whose address is of the family.
pub(super) fn endpoint_of(random: &mut Random, family: Family) -> Endpoint {
    let address = random.pick(match family {
        Family::V4 => &ENDPOINTS_V4,
        Family::V6 => &ENDPOINTS_V6,
    });
    Endpoint {
        address: ip(address),
        conditions: conditions(random),
        node: match random.below(10) {
            0 => None,
            1 => Some(random.pick(&NODES).into()),
            _ => Some(home(address).into()),
        },
        hints: random.percent(60).then(|| Box::new(hints(random, address))),
        hostname: random.percent(10).then(|| "host-0".into()),
    }
}

/// The node on whose pod CIDR an address is.
pub(super) fn home(address: &str) -> &'static str {
    if address.contains("244.2.") || address.contains("244:2:") {
        "node-2"
    } else if address.contains("244.3.") || address.contains("244:3:") {
        "node-3"
    } else {
        "node-1"
    }
}

fn conditions(random: &mut Random) -> Conditions {
    let mut maybe = |yes| match random.below(10) {
        0 => None,
        drawn => Some(drawn <= yes),
    };
    Conditions {
        ready: maybe(6),
        serving: maybe(7),
        terminating: maybe(3),
    }
}

fn hints(random: &mut Random, address: &str) -> Hints {
    let zone = if home(address) == "node-2" {
        "zone-b"
    } else {
        "zone-a"
    };
    Hints {
        zones: if random.percent(70) {
            vec![zone.into()]
        } else {
            random.some(2, &ZONES.map(Into::into))
        },
        nodes: if random.percent(50) {
            vec![home(address).into()]
        } else {
            random.some(2, &NODES.map(Into::into))
        },
    }
}

fn addresses(random: &mut Random, most: usize, from: &[&str]) -> Vec<IpAddr> {
    random.some(most, from).into_iter().map(ip).collect()
}

fn cidrs(random: &mut Random, most: usize, from: &[&str]) -> Vec<Cidr> {
    random.some(most, from).into_iter().map(cidr).collect()
}

pub(super) fn ip(text: &str) -> IpAddr {
    parse_address(text).expect("the addresses of this file can be read")
}

pub(super) fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).expect("the prefixes of this file can be read")
}
