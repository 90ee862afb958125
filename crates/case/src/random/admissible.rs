//! Clusters that an API server admits.
//!
//! Four Services, each with addresses and node ports of its own, so that no order of writing is refused. What the
//! API never lets change (families, cluster IPs) follows from the seed of the case alone.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::address::Family;
use daymark_model::input::{
    Affinity, ClusterIps, Ingress, ServicePort, ServiceType, SlicePort, TrafficPolicy,
};
use daymark_model::{Change, Cidr, Endpoint, Protocol, Service, ServiceKey, Slice, SliceKey};

use super::objects::{self, PREFIXES, cidr, ip};
use super::{Random, Size, buildable};

/// Namespace and name, by number.
const SERVICES: [(&str, &str); 4] = [
    ("default", "alpha"),
    ("default", "beta"),
    ("prod", "gamma"),
    ("default", "delta"),
];
/// Names tell the protocol: a slice may not use a name twice.
const PORTS: [(&str, Protocol); 5] = [
    ("http", Protocol::Tcp),
    ("https", Protocol::Tcp),
    ("dns", Protocol::Udp),
    ("dns-tcp", Protocol::Tcp),
    ("sctp", Protocol::Sctp),
];
const NUMBERS: [u16; 4] = [80, 443, 53, 30080];
const TARGETS: [u16; 4] = [80, 8080, 8081, 5353];
const SLICES: usize = 3;

/// The changes of a step: at first everything, later some Services and slices anew.
pub(super) fn changes(random: &mut Random, seed: u64, size: Size, step: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    if step == 0 {
        changes.extend(buildable::start());
    }
    for number in 0..SERVICES.len() {
        if step == 0 || random.below(SERVICES.len()) < size.changes.min(2) {
            changes.push(service(random, seed, number));
        }
        // All slices at once, with Pods in another state, or some of them, with other Pods.
        let all = step == 0 || random.percent(40);
        let state = mix(seed, number, if all { step } else { 0 });
        for family in Family::BOTH {
            for slice in 0..SLICES {
                if all || (step == 1 && random.below(20) < size.changes) {
                    changes.push(self::slice(random, state, (number, family, slice)));
                }
            }
        }
    }
    changes
}

/// A seed out of a seed and two numbers.
fn mix(seed: u64, number: usize, step: usize) -> u64 {
    Random::new(seed ^ (number as u64) << 40 ^ (step as u64) << 52).draw()
}

fn key(number: usize) -> ServiceKey {
    ServiceKey::new(SERVICES[number].0, SERVICES[number].1)
}

fn service(random: &mut Random, seed: u64, number: usize) -> Change {
    let key = key(number);
    if random.percent(5) {
        return Change::Service(key, None);
    }
    let cluster_ips = cluster_ips(seed, number);
    let headless = cluster_ips == ClusterIps::Headless;
    let families: Vec<Family> = match &cluster_ips {
        ClusterIps::Allocated(ips) => ips.iter().map(|ip| Family::of(*ip)).collect(),
        ClusterIps::Unset | ClusterIps::Headless => vec![Family::V4],
    };
    let kind = match random.below(10) {
        0..=2 => ServiceType::ClusterIp,
        _ if headless => ServiceType::ClusterIp,
        3..=5 => ServiceType::NodePort,
        _ => ServiceType::LoadBalancer,
    };
    let outer = kind != ServiceType::ClusterIp;
    let balanced = kind == ServiceType::LoadBalancer;
    let external_ips = if !headless && random.percent(40) {
        addresses(random, number, "172.30.0.20", "fd00:30::20")
    } else {
        Vec::new()
    };
    let service = Service {
        uid: None,
        created: 0,
        ports: ports(random, number, &kind),
        external_policy: if outer || !external_ips.is_empty() {
            policy(random)
        } else {
            TrafficPolicy::Cluster
        },
        internal_policy: if headless {
            TrafficPolicy::Cluster
        } else {
            policy(random)
        },
        ingress: if balanced {
            ingress(random, number)
        } else {
            Vec::new()
        },
        source_ranges: if balanced && random.percent(60) {
            ranges(random)
        } else {
            Vec::new()
        },
        affinity: match random.below(10) {
            _ if headless => Affinity::None,
            0 => Affinity::ClientIp { timeout: 100 },
            1 => Affinity::ClientIp { timeout: 10_800 },
            _ => Affinity::None,
        },
        proxy_name: random.percent(4).then(|| "other".into()),
        health_check_node_port: None,
        load_balancer: None,
        key: key.clone(),
        kind,
        cluster_ips,
        families,
        external_ips,
    };
    Change::Service(key, Some(Arc::new(service)))
}

/// One or two families in either order; seldom headless.
fn cluster_ips(seed: u64, number: usize) -> ClusterIps {
    let mut random = Random::new(mix(seed, number, 0));
    let four = ip(&format!("10.96.0.2{number}"));
    let six = ip(&format!("fd00:10:96::2{number}"));
    ClusterIps::Allocated(match random.below(20) {
        0 => return ClusterIps::Headless,
        1..=4 => vec![four],
        5..=8 => vec![six],
        9..=11 => vec![six, four],
        _ => vec![four, six],
    })
}

/// Up to two addresses of the Service's own.
fn addresses(random: &mut Random, number: usize, four: &str, six: &str) -> Vec<IpAddr> {
    let own = [
        ip(&format!("{four}{number}")),
        ip(&format!("{six}{number}")),
    ];
    let mut drawn: Vec<IpAddr> = random.some(2, &own);
    drawn.sort_unstable();
    drawn.dedup();
    drawn
}

fn ingress(random: &mut Random, number: usize) -> Vec<Ingress> {
    let drawn = addresses(random, number, "172.30.0.22", "fd00:30::22");
    drawn
        .into_iter()
        .map(|ip| objects::ingress(random, ip))
        .collect()
}

fn ranges(random: &mut Random) -> Vec<Cidr> {
    let mut drawn: Vec<Cidr> = random.some(4, &PREFIXES).into_iter().map(cidr).collect();
    drawn.sort_unstable();
    drawn.dedup();
    drawn
}

fn policy(random: &mut Random) -> TrafficPolicy {
    if random.percent(40) {
        TrafficPolicy::Local
    } else {
        TrafficPolicy::Cluster
    }
}

/// One to three ports; no two of one protocol share a number.
fn ports(random: &mut Random, number: usize, kind: &ServiceType) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for _ in 0..=random.below(3) {
        let (name, protocol) = random.pick(&PORTS);
        let port = random.pick(&NUMBERS);
        let taken = |known: &ServicePort| {
            *known.name == *name || (known.protocol, known.port) == (protocol, port)
        };
        if ports.iter().any(taken) {
            continue;
        }
        // Ten node ports of the Service's own.
        let own = u16::try_from(30_100 + 10 * number + ports.len()).unwrap_or_default();
        // The API lets ports of one number share a node port, if their protocols differ.
        let twin = ports.iter().find(|known| known.port == port);
        let shared = twin.and_then(|twin| twin.node_port);
        let asked = match kind {
            ServiceType::NodePort => true,
            ServiceType::LoadBalancer => random.percent(70),
            ServiceType::ClusterIp | ServiceType::ExternalName(_) => false,
        };
        ports.push(ServicePort {
            name: name.into(),
            protocol,
            port,
            node_port: asked.then_some(shared.unwrap_or(own)),
        });
    }
    ports
}

fn slice(random: &mut Random, state: u64, which: (usize, Family, usize)) -> Change {
    let (number, family, slice) = which;
    let service = key(number);
    let letter = match family {
        Family::V4 => "four",
        Family::V6 => "six",
    };
    let key = SliceKey {
        namespace: service.namespace.clone(),
        name: format!("{}-{letter}-{slice}", service.name).into(),
    };
    if random.percent(if slice == 0 { 10 } else { 40 }) {
        return Change::Slice(key, None);
    }
    let mut ports: Vec<SlicePort> = Vec::new();
    for (name, protocol) in PORTS {
        if random.percent(90) {
            ports.push(SlicePort {
                name: name.into(),
                protocol,
                port: random.pick(&TARGETS),
            });
        }
    }
    let slice = Slice {
        key: key.clone(),
        service: service.name,
        family,
        audience: objects::audience(random),
        ports,
        endpoints: (0..random.below(4))
            .map(|_| endpoint(random, state, family))
            .filter(|endpoint| buildable::is_pod(endpoint.address))
            .collect(),
    };
    Change::Slice(key, Some(Arc::new(slice)))
}

/// A Pod of a Service is in one state, whatever slices name it: which of two that disagree counts, kube-proxy
/// leaves to chance. Only a copy that terminates may differ from one that does not.
fn endpoint(random: &mut Random, state: u64, family: Family) -> Endpoint {
    let drawn = objects::endpoint_of(random, family);
    let name = drawn.address.to_string();
    let number = name.bytes().fold(state, |number, byte| {
        number.wrapping_mul(31).wrapping_add(byte.into())
    });
    let mut endpoint = objects::endpoint_of(&mut Random::new(number), family);
    endpoint.address = drawn.address;
    endpoint.node = Some(objects::home(&name).into());
    if !endpoint.conditions.is_terminating() && random.percent(10) {
        endpoint.conditions.terminating = Some(true);
        endpoint.conditions.ready = Some(false);
    }
    endpoint
}
