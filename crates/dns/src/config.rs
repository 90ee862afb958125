//! Settings of the server.

use std::net::SocketAddr;
use std::time::Duration;

use daymark_model::ServiceKey;

/// Settings of a DNS server. The addresses it answers at are its [`crate::Sockets`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's zone, `cluster.local`.
    pub zone: String,
    /// Reverse zones that are this cluster's alone, such as `96.10.in-addr.arpa`: an address in them
    /// that nobody has does not exist. Outside of them such a question is forwarded.
    pub reverse_zones: Vec<String>,
    /// The Service under which Pods reach this server: the name server in NS and SOA records.
    pub service: ServiceKey,
    /// Whether `1-2-3-4.NAMESPACE.pod.ZONE` is an address.
    pub pods: PodNames,
    /// TTL of the zone's records, seconds.
    pub ttl: u32,
    /// Where all other names are asked; tried in this order.
    pub upstreams: Vec<SocketAddr>,
    /// How long one upstream may take before the next is asked.
    pub upstream_timeout: Duration,
    /// How many questions may be under way to upstreams at once; more fail with SERVFAIL.
    pub max_forwards: usize,
    /// How many upstream answers are cached; each is at most some kilobytes.
    pub cache_entries: usize,
    /// The largest UDP answer, whatever a client announces (DNS flag day 2020: 1232).
    pub max_udp: u16,
    /// Limits of TCP.
    pub tcp: Tcp,
    /// How long the name of a new cluster IP waits for the data plane at most.
    pub hold: Duration,
}

/// Whether names of Pods by their address are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNames {
    /// No such name exists.
    Disabled,
    /// The address is read off the name, with no look at Pods; the namespace must exist.
    #[default]
    Insecure,
}

/// Limits of TCP.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Connections at once; a further one is closed.
    pub connections: usize,
    /// How long a connection may wait for its next whole question, and for its answer to be taken.
    pub idle: Duration,
    /// Questions on one connection, after which it is closed.
    pub questions: usize,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            connections: 256,
            idle: Duration::from_secs(10),
            questions: 10_000,
        }
    }
}

impl Default for Config {
    /// `cluster.local` with TTL 5 s and no upstream.
    fn default() -> Self {
        Self {
            zone: "cluster.local".to_owned(),
            reverse_zones: Vec::new(),
            service: ServiceKey::new("kube-system", "kube-dns"),
            pods: PodNames::Insecure,
            ttl: 5,
            upstreams: Vec::new(),
            upstream_timeout: Duration::from_secs(2),
            max_forwards: 1000,
            cache_entries: 4096,
            max_udp: 1232,
            tcp: Tcp::default(),
            hold: Duration::from_secs(1),
        }
    }
}
