//! The addresses and files of a cluster: everything that follows from its name and its number of nodes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use super::Part;
use crate::net::Prefix;

/// What a cluster is built from. Libraries read no environment: the binary hands everything in.
#[derive(Debug)]
pub struct Spec {
    /// How many nodes, 1 to 80.
    pub nodes: u8,
    /// The folder of this lab, there already, readable by its user alone.
    pub state: PathBuf,
    /// The program whose verbs are the parts of the cluster.
    pub binary: PathBuf,
    /// Whose API server and endpoints.
    pub control: Control,
    /// A listener on the machine's own loopback, opened before the namespaces were entered: the API answers there
    /// too.
    pub api_listener: Option<TcpListener>,
    /// This process's id as the machine sees it ([`daymark_sys::ns::Inside`]).
    pub outer_pid: u32,
    /// How long a node may be silent before it counts as dead.
    pub node_grace: Duration,
    /// How often a kubelet renews its node's Lease, and an agent the one that says that it announces.
    pub lease_renew: Duration,
    /// Names that the outside network's DNS server knows, beside which there is nothing: each is the outside host.
    pub outside_names: Vec<String>,
    /// More flags for `daymark node`.
    pub agent_args: Vec<String>,
    /// The longest that [`Cluster::up`](super::Cluster::up) waits for every node to be ready.
    pub patience: Duration,
}

/// Who serves the API of a cluster, and makes endpoints and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Control {
    /// daymark: the embedded API and its own controllers.
    #[default]
    Embedded,
    /// Kubernetes: etcd, kube-apiserver and kube-controller-manager from this folder. daymark only binds Pods, and gives
    /// out load-balancer addresses.
    Real(PathBuf),
}

impl Spec {
    /// A cluster of three nodes with a dead-node delay of 3 s and Leases renewed each second, whose outside host is `example.com`.
    pub fn new(state: PathBuf, binary: PathBuf, outer_pid: u32) -> Self {
        Self {
            nodes: 3,
            state,
            binary,
            control: Control::Embedded,
            api_listener: None,
            outer_pid,
            node_grace: Duration::from_secs(3),
            lease_renew: Duration::from_secs(1),
            outside_names: vec!["example.com".to_owned(), "www.example.com".to_owned()],
            agent_args: Vec::new(),
            patience: Duration::from_secs(30),
        }
    }

    /// How long an agent may be silent before others answer for its addresses: [`Spec::node_grace`] in whole seconds.
    pub fn announce_lapse(&self) -> Duration {
        whole_seconds(self.node_grace)
    }

    /// The kubeconfig that works inside the cluster.
    pub fn inner_kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig.lab")
    }

    /// The kubeconfig for the machine's own shells.
    pub fn outer_kubeconfig(&self) -> PathBuf {
        self.state.join(OUTER_KUBECONFIG)
    }

    /// The kubeconfig of a part of the cluster, with the rights of its role.
    pub(super) fn part_kubeconfig(&self, part: &Part) -> PathBuf {
        self.state.join(format!("kubeconfig.{part}"))
    }

    /// The folder of a part's files.
    pub(super) fn folder(&self, part: &str) -> PathBuf {
        self.state.join("parts").join(part)
    }

    pub(super) fn log(&self, part: &str) -> PathBuf {
        self.state.join("logs").join(format!("{part}.log"))
    }

    pub(super) fn control_socket(&self, node: &str) -> PathBuf {
        self.state.join(format!("{node}.sock"))
    }

    /// The socket at which a node's agent answers.
    pub(super) fn agent_socket(&self, node: &str) -> PathBuf {
        self.state.join(format!("{node}.agent.sock"))
    }

    pub(super) fn api_port(&self) -> Option<u16> {
        self.api_listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
            .map(|address| address.port())
    }

    pub(super) fn node_plans(&self) -> Vec<NodePlan> {
        (1..=self.nodes).map(node_plan).collect()
    }
}

/// Rounded up: a Lease counts whole seconds.
pub fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// A node's name and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// `node-1` and so on.
    pub name: String,
    /// Its addresses on the segment, IPv4 first.
    pub addresses: Vec<Prefix>,
    /// Where its Pods' addresses come from, IPv4 first.
    pub pod_cidrs: Vec<Prefix>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
}

/// The plan of node `number`, counted from 1: 172.30.0.11 and `fd00:30::11`, Pods in 10.244.1.0/24 and
/// `fd00:10:244:1::/64`, zones a and b in turn.
pub fn node_plan(number: u8) -> NodePlan {
    let name = format!("node-{number}");
    let last = 10 + number;
    let zone = if number % 2 == 1 { "zone-a" } else { "zone-b" };
    // The IPv6 addresses repeat the decimal digits of the IPv4 ones, so that people recognise them.
    let (last6, number6) = (as_hex_digits(last), as_hex_digits(number));
    NodePlan {
        addresses: vec![
            Prefix::new(Ipv4Addr::new(172, 30, 0, last), 24),
            Prefix::new(Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, last6), 64),
        ],
        pod_cidrs: vec![
            Prefix::new(Ipv4Addr::new(10, 244, number, 0), 24),
            Prefix::new(Ipv6Addr::new(0xfd00, 0x10, 0x244, number6, 0, 0, 0, 0), 64),
        ],
        labels: [
            ("kubernetes.io/hostname", name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("topology.kubernetes.io/region", "lab"),
            ("topology.kubernetes.io/zone", zone),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        name,
    }
}

/// 11 becomes 0x11.
fn as_hex_digits(number: u8) -> u16 {
    let number = u16::from(number);
    number % 10 + (number / 10 % 10) * 16 + (number / 100) * 256
}

/// The addresses of a lab's outside host, IPv4 first.
pub fn outside_addresses() -> [IpAddr; 2] {
    OUTSIDE.map(|prefix| prefix.address)
}

/// The fabric: the API server's address, and the gateway of every node.
pub(super) const FABRIC: [Prefix; 2] = segment(1, 1);
/// The host outside the cluster.
pub(super) const OUTSIDE: [Prefix; 2] = segment(100, 0x100);
/// The cluster's DNS Service.
pub(super) const DNS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa)),
];
pub(super) const API_PORT: u16 = 6443;
pub(super) const OUTER_KUBECONFIG: &str = "kubeconfig";

const fn segment(v4: u8, v6: u16) -> [Prefix; 2] {
    [
        Prefix {
            address: IpAddr::V4(Ipv4Addr::new(172, 30, 0, v4)),
            length: 24,
        },
        Prefix {
            address: IpAddr::V6(Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, v6)),
            length: 64,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_move_when_a_node_counts_as_dead_and_not_before() {
        let mut spec = Spec::new(PathBuf::new(), PathBuf::new(), 1);
        let mut check = |grace, lapse| {
            spec.node_grace = Duration::from_millis(grace);
            assert_eq!(spec.announce_lapse(), Duration::from_secs(lapse), "{grace}");
        };
        check(3000, 3);
        check(1500, 2);
        check(100, 1);
    }

    #[test]
    fn a_node_has_the_addresses_the_documentation_names() {
        let shown = |number| {
            let plan = node_plan(number);
            let list = plan
                .addresses
                .iter()
                .chain(&plan.pod_cidrs)
                .map(ToString::to_string);
            list.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            shown(1),
            "172.30.0.11/24 fd00:30::11/64 10.244.1.0/24 fd00:10:244:1::/64"
        );
        assert_eq!(
            shown(12),
            "172.30.0.22/24 fd00:30::22/64 10.244.12.0/24 fd00:10:244:12::/64"
        );
        assert_eq!(node_plan(2).labels.last().unwrap().1, "zone-b");
    }
}
