//! What a feed watches, and how patiently.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::pauses::Pauses;

/// A kind of object that a feed can watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nodes: this one, or all (see [`Nodes`]).
    Node,
    /// Namespaces.
    Namespace,
    /// Services.
    Service,
    /// EndpointSlices (`discovery.k8s.io/v1`).
    EndpointSlice,
    /// ServiceCIDRs (`networking.k8s.io/v1`, from Kubernetes 1.33 on); a cluster without the kind has none.
    ServiceCidr,
    /// IPAddressPools (`metallb.io/v1beta1`); a cluster without the kind has none.
    Pool,
    /// L2Advertisements (`metallb.io/v1beta1`); a cluster without the kind has none.
    L2Advertisement,
    /// Leases of the namespace `kube-node-lease`.
    Lease,
}

impl Kind {
    /// Every kind, in the order in which a first batch holds them.
    pub const ALL: [Self; 8] = [
        Self::Node,
        Self::Namespace,
        Self::Service,
        Self::EndpointSlice,
        Self::ServiceCidr,
        Self::Pool,
        Self::L2Advertisement,
        Self::Lease,
    ];

    /// The path of the kind's collection.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Node => "/api/v1/nodes",
            Self::Namespace => "/api/v1/namespaces",
            Self::Service => "/api/v1/services",
            Self::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::ServiceCidr => "/apis/networking.k8s.io/v1/servicecidrs",
            Self::Pool => "/apis/metallb.io/v1beta1/ipaddresspools",
            Self::L2Advertisement => "/apis/metallb.io/v1beta1/l2advertisements",
            Self::Lease => "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Pool => "IPAddressPool",
            Self::L2Advertisement => "L2Advertisement",
            Self::Lease => "Lease",
        })
    }
}

/// Whether a kind is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// It is not.
    #[default]
    No,
    /// It is.
    Yes,
}

/// Which Node objects are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nodes {
    /// None: a part that runs on no node (the controller, a bare DNS server).
    #[default]
    None,
    /// The Node of this name: what a proxy needs.
    Own(Arc<str>),
    /// All of them, for a load balancer; with a name, that one is also this agent's own.
    All {
        /// The agent's own Node, if it runs on one.
        own: Option<Arc<str>>,
    },
}

/// Which Services and EndpointSlices are asked for. The API server leaves out the others: what changes between the two is an
/// object that comes or goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All: DNS has names for what no proxy serves.
    #[default]
    All,
    /// As kube-proxy does (kubernetes `cmd/kube-proxy/app/server.go`): no Service whose `spec.clusterIP` is `None`, and no slice
    /// with the label `service.kubernetes.io/headless`. To `model::audience` neither is there for a proxy or a load balancer. Services
    /// of another proxy are asked for: their addresses are left alone.
    Proxied,
}

/// What a feed watches. Services and EndpointSlices always are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which of those.
    pub selection: Selection,
    /// Node objects.
    pub nodes: Nodes,
    /// Namespaces, for DNS.
    pub namespaces: Wanted,
    /// ServiceCIDRs, for a proxy.
    pub service_cidrs: Wanted,
    /// IPAddressPools and L2Advertisements, for a load balancer.
    pub pools: Wanted,
    /// Node Leases, for a load balancer.
    pub leases: Wanted,
    /// How long to wait before trying again.
    pub retry: Retry,
    /// A watch that says nothing for so long, not even a bookmark, is opened again where it stood:
    /// its connection may be dead with no one to tell. A watch is asked for 290 s at most, so that more than that is late; a
    /// quiet kind may say nothing all the while, since kube-apiserver sends bookmarks only where something changed.
    pub silence: Duration,
    /// A kind that the API does not have, or lets us not see, is looked for again after so long.
    pub absent: Retry,
    /// How long changes wait for each other at most, while more than fifty a second come without end.
    pub longest_pause: Duration,
    /// When Services and EndpointSlices are read on, for a thread that wants to sleep meanwhile.
    pub pauses: Pauses,
}

/// A quarter of what kube-proxy waits between two syncs.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(250);

impl Default for Config {
    /// Services and EndpointSlices alone, nodes none.
    fn default() -> Self {
        Self {
            selection: Selection::All,
            nodes: Nodes::None,
            namespaces: Wanted::No,
            service_cidrs: Wanted::No,
            pools: Wanted::No,
            leases: Wanted::No,
            retry: Retry::default(),
            silence: Duration::from_secs(320),
            absent: Retry {
                first: Duration::from_secs(10),
                longest: Duration::from_secs(10),
                longest_away: Duration::from_secs(300),
            },
            longest_pause: LONGEST_PAUSE,
            pauses: Pauses::default(),
        }
    }
}

impl Config {
    /// What the agent of a node needs for proxy and DNS: its Node, the Namespaces and the ServiceCIDRs besides.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self {
            nodes: Nodes::Own(name.into()),
            namespaces: Wanted::Yes,
            service_cidrs: Wanted::Yes,
            ..Self::default()
        }
    }

    /// And what the load balancer part of a node's agent needs: all Nodes, their Leases, the pools.
    #[must_use]
    pub fn node_with_load_balancer(name: &str) -> Self {
        Self {
            nodes: Nodes::All {
                own: Some(name.into()),
            },
            pools: Wanted::Yes,
            leases: Wanted::Yes,
            ..Self::node(name)
        }
    }

    /// Without what DNS alone reads: Namespaces, headless Services and their slices.
    #[must_use]
    pub fn without_dns(self) -> Self {
        Self {
            namespaces: Wanted::No,
            selection: Selection::Proxied,
            ..self
        }
    }

    /// The kinds to watch, in the order of [`Kind::ALL`].
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        let wanted = |kind: &Kind| match kind {
            Kind::Service | Kind::EndpointSlice => true,
            Kind::Node => self.nodes != Nodes::None,
            Kind::Namespace => self.namespaces == Wanted::Yes,
            Kind::ServiceCidr => self.service_cidrs == Wanted::Yes,
            Kind::Pool | Kind::L2Advertisement => self.pools == Wanted::Yes,
            Kind::Lease => self.leases == Wanted::Yes,
        };
        Kind::ALL.into_iter().filter(wanted).collect()
    }

    /// The Node that the agent runs on.
    #[must_use]
    pub fn own_node(&self) -> Option<&Arc<str>> {
        match &self.nodes {
            Nodes::None => None,
            Nodes::Own(name) => Some(name),
            Nodes::All { own } => own.as_ref(),
        }
    }
}

/// Waiting between attempts: doubled each time, with up to half of it taken off by chance. Whatever the waits come to, what the API
/// asks for (`Retry-After`) is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The first wait after a watch that worked.
    pub first: Duration,
    /// The longest wait while the API has been away for less than a minute: a server that is started anew is found soon.
    pub longest: Duration,
    /// The longest wait afterwards: when an API comes back that was away for long, all nodes come with whole lists.
    pub longest_away: Duration,
}

impl Default for Retry {
    /// 20 ms to 5 s, and to 30 s after a minute.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(20),
            longest: Duration::from_secs(5),
            longest_away: Duration::from_secs(30),
        }
    }
}
