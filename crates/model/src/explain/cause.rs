//! Why a Service does not forward a packet, and what to do about it.

mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::PortAsked;
use super::endpoints::{Considered, Skipped, Standing};
use crate::address::{Cidr, Family, Protocol};
use crate::audience::NotProxied;
use crate::decide::{Packet, Verdict};
use crate::desire::{Here, NotServed, Policy};
use crate::desired::{Frontend, Lost, PortName, Reason, Sources};
use crate::endpoints::{LeftOut, Why};
use crate::input::{Service, ServiceKey, ServicePort, ServiceType, Slice};

/// Why a packet does not reach an endpoint of the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No Service has this name.
    NoService(ServiceKey),
    /// The proxy leaves it alone; with the other proxy's name, if it has one, or the name that it is an alias of.
    NotProxied(NotProxied, Option<Arc<str>>),
    /// Its load balancer has given it no IP address; with `spec.loadBalancerClass`.
    NoIngress(Option<Arc<str>>),
    /// It has no ports.
    NoPorts,
    /// It has others.
    NoSuchPort {
        /// What was asked for.
        asked: PortAsked,
        /// What there is.
        known: Vec<ServicePort>,
    },
    /// It has others.
    NoSuchAddress {
        /// What was asked for.
        asked: IpAddr,
        /// What there is, sorted.
        known: Vec<IpAddr>,
    },
    /// The client has no address of the family.
    ClientWithout(Family),
    /// No address of this node serves node ports in this family.
    NoNodePortAddress(Family),
    /// Nodes do not serve the place.
    NotServed(NotServed),
    /// Another Service port has the place.
    HeldBy {
        /// The one that has it.
        port: Arc<PortName>,
        /// By which right.
        why: Lost,
    },
    /// The client is in none of the ranges.
    SourceRange {
        /// The client.
        source: IpAddr,
        /// The ranges of its family; empty if the list names the other one alone.
        ranges: Arc<[Cidr]>,
    },
    /// No slice carries the Service's name.
    NoSlices,
    /// Slices are there, without a single endpoint.
    NoEndpoints,
    /// Endpoints are there, but none of this family.
    OtherFamilyOnly(Family),
    /// All slices are for DNS alone.
    Hidden,
    /// Endpoints are there, but not with this port.
    PortNotNamed {
        /// The Service port's name.
        name: Arc<str>,
        /// Its protocol.
        protocol: Protocol,
        /// Ports that slices name: name and protocol.
        known: BTreeSet<(Arc<str>, Protocol)>,
    },
    /// Endpoints are there, and none can take a connection.
    NoneReady {
        /// How many are not ready.
        not_ready: usize,
        /// How many terminate.
        terminating: usize,
    },
    /// Endpoints are there, but none on this node, and the policy is Local.
    NoLocal {
        /// The policy.
        policy: Policy,
        /// This node.
        node: Arc<str>,
        /// Nodes that have some.
        nodes: BTreeSet<Arc<str>>,
    },
}

/// What causes are found from.
pub(super) struct Seen<'a> {
    pub(super) here: &'a Here,
    pub(super) port: &'a ServicePort,
    pub(super) packet: &'a Packet,
    pub(super) frontend: &'a Frontend,
    pub(super) verdict: &'a Verdict,
    pub(super) policy: Policy,
    pub(super) endpoints: &'a [Considered],
    pub(super) skipped: &'a [Skipped],
    pub(super) slices: &'a [&'a Arc<Slice>],
}

/// Why this verdict, of a packet that is this port's.
pub(super) fn causes(seen: &Seen) -> Vec<Cause> {
    match seen.verdict {
        Verdict::Forward(_) | Verdict::Untouched => Vec::new(),
        Verdict::Drop(Reason::SourceRange) => vec![Cause::SourceRange {
            source: seen.packet.source,
            ranges: match &seen.frontend.sources {
                Sources::Only(ranges) => ranges.clone(),
                Sources::Any => Arc::new([]),
            },
        }],
        Verdict::Drop(_) | Verdict::Reject(Reason::NoLocalEndpoint) => vec![no_local(seen)],
        Verdict::Reject(_) => no_endpoint(seen),
    }
}

fn no_local(seen: &Seen) -> Cause {
    let elsewhere = seen.endpoints.iter();
    let elsewhere = elsewhere.filter(|e| e.standing == Standing::LeftOut(LeftOut::OtherNode));
    Cause::NoLocal {
        policy: seen.policy,
        node: seen.here.node.name.clone(),
        nodes: elsewhere.filter_map(|e| e.node.clone()).collect(),
    }
}

/// Every cause that applies: several may, where slices differ.
fn no_endpoint(seen: &Seen) -> Vec<Cause> {
    let family = Family::of(seen.packet.destination);
    let standings = || seen.endpoints.iter().map(|e| e.standing);
    let count = |wanted: LeftOut| {
        standings()
            .filter(|s| *s == Standing::LeftOut(wanted))
            .count()
    };
    let skipped = |why: Why| {
        let of_why = seen.skipped.iter().filter(move |s| s.why == why);
        of_why.map(|s| s.endpoints).sum::<usize>() > 0
    };
    let (not_ready, terminating) = (count(LeftOut::NotReady), count(LeftOut::Terminating));
    let mut causes = Vec::new();
    if not_ready + terminating > 0 {
        causes.push(Cause::NoneReady {
            not_ready,
            terminating,
        });
    }
    if skipped(Why::PortNotNamed) {
        let of_family = seen.slices.iter().filter(|slice| slice.family == family);
        let ports = of_family.flat_map(|slice| &slice.ports);
        causes.push(Cause::PortNotNamed {
            name: seen.port.name.clone(),
            protocol: seen.port.protocol,
            known: ports
                .map(|port| (port.name.clone(), port.protocol))
                .collect(),
        });
    }
    if skipped(Why::Hidden) {
        causes.push(Cause::Hidden);
    }
    let foreign = standings().any(|s| s == Standing::PassedOver(Why::ForeignAddress));
    if causes.is_empty() && (foreign || skipped(Why::OtherFamily)) {
        causes.push(Cause::OtherFamilyOnly(family));
    }
    if causes.is_empty() {
        causes.push(if seen.slices.is_empty() {
            Cause::NoSlices
        } else {
            Cause::NoEndpoints
        });
    }
    causes
}

impl Cause {
    /// Why the proxy leaves a Service alone.
    pub(super) fn not_proxied(why: NotProxied, service: &Service) -> Self {
        let name = match (&why, &service.kind) {
            (NotProxied::ExternalName, ServiceType::ExternalName(name)) => Some(name.clone()),
            _ => service.proxy_name.clone(),
        };
        Self::NotProxied(why, name)
    }

    /// One word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoService(_) => "no-service",
            Self::NotProxied(NotProxied::ExternalName, _) => "external-name",
            Self::NotProxied(NotProxied::Headless, _) => "headless",
            Self::NotProxied(NotProxied::NoClusterIp, _) => "no-cluster-ip",
            Self::NotProxied(NotProxied::OtherProxy, _) => "other-proxy",
            Self::NoIngress(_) => "no-load-balancer-address",
            Self::NoPorts => "no-ports",
            Self::NoSuchPort { .. } => "no-such-port",
            Self::NoSuchAddress { .. } => "no-such-address",
            Self::ClientWithout(_) => "client-without-family",
            Self::NoNodePortAddress(_) => "no-node-port-address",
            Self::NotServed(NotServed::NoClusterIp) => "no-cluster-ip-of-family",
            Self::NotServed(NotServed::ProxyMode) => "ip-mode-proxy",
            Self::NotServed(NotServed::NotLoadBalancer) => "not-load-balancer",
            Self::NotServed(NotServed::NoNodePorts) => "no-node-ports",
            Self::NotServed(NotServed::NotAllowed) => "external-ip-not-allowed",
            Self::NotServed(NotServed::Special) => "special-address",
            Self::NotServed(NotServed::TooMany) => "too-many-places",
            Self::HeldBy { .. } => "held-by-another",
            Self::SourceRange { .. } => "source-range",
            Self::NoSlices => "no-slices",
            Self::NoEndpoints => "no-endpoints",
            Self::OtherFamilyOnly(_) => "other-family-only",
            Self::Hidden => "hidden-slices",
            Self::PortNotNamed { .. } => "port-not-named",
            Self::NoneReady { .. } => "none-ready",
            Self::NoLocal { .. } => "no-local-endpoint",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoService(_) => {
                "check name and namespace; if the API has it and its clusterIP is None, an agent without DNS is not told of it: clients look \
                 it up in DNS; else daymark status says whether this agent hears the API"
            }
            Self::NotProxied(NotProxied::ExternalName, _) => {
                "clients look its name up in DNS; for an address, give it another type"
            }
            Self::NotProxied(NotProxied::Headless, _) => {
                "clients look its name up in DNS and reach Pods themselves; for an address, create it anew without clusterIP: None"
            }
            Self::NotProxied(NotProxied::NoClusterIp, _) => {
                "the API server allocates it: look at the Service's Events, and whether its ServiceCIDR is full"
            }
            Self::NotProxied(NotProxied::OtherProxy, _) => {
                "ask that proxy, or remove the label service.kubernetes.io/service-proxy-name"
            }
            Self::NoIngress(None) => {
                "without a class the cluster's default load balancer gives the address: daymark's allocator (daymark controller, deploy/load-balancer.yaml) or a \
                 cloud's; look whether one runs, has a free address, and what the Service's Events say"
            }
            Self::NoIngress(Some(_)) => {
                "the controller of that class gives the address, and daymark's allocator does not: look whether it runs, and at the Service's Events; \
                 to have daymark's, create it anew without spec.loadBalancerClass"
            }
            Self::NoPorts => "add what it should serve to spec.ports",
            Self::NoSuchPort { .. } => {
                "use one of its ports, or add this one to spec.ports; any other is refused"
            }
            Self::NoSuchAddress { .. } => "use one of its addresses",
            Self::ClientWithout(_) => "use an address of a family that both have",
            Self::NoNodePortAddress(_) => {
                "give the node such an address (status.addresses of its Node), or name others with nodePortAddresses"
            }
            Self::NotServed(NotServed::NoClusterIp) => {
                "add the family to spec.ipFamilies, with ipFamilyPolicy PreferDualStack"
            }
            Self::NotServed(NotServed::ProxyMode) => {
                "it is the load balancer's own: ask it, not the nodes (ipMode: Proxy)"
            }
            Self::NotServed(NotServed::NotLoadBalancer) => {
                "set spec.type to LoadBalancer, or have the old status removed"
            }
            Self::NotServed(NotServed::NoNodePorts) => {
                "set spec.type to NodePort or LoadBalancer, or remove the number"
            }
            Self::NotServed(NotServed::NotAllowed) => {
                "use an address that this node's setting external-ips allows, or allow this one"
            }
            Self::NotServed(NotServed::Special) => {
                "use an address that other hosts can reach: this one is of one host or link alone"
            }
            Self::NotServed(NotServed::TooMany) => {
                "split the Service, or take addresses out of spec.externalIPs or ports out of spec.ports"
            }
            Self::HeldBy { .. } => "give one of the two another address or port",
            Self::SourceRange { .. } => {
                "add a prefix with the client to spec.loadBalancerSourceRanges, or remove the list"
            }
            Self::NoSlices => {
                "with a selector: is a controller for EndpointSlices running (daymark controller, kube-controller-manager)? \
                 without: create an EndpointSlice with the label kubernetes.io/service-name"
            }
            Self::NoEndpoints => {
                "with a selector: compare it with the labels of the Pods; without: put endpoints into the EndpointSlices"
            }
            Self::OtherFamilyOnly(_) => {
                "give the Pods addresses of both families, or take the family out of spec.ipFamilies"
            }
            Self::Hidden => {
                "remove the label service.kubernetes.io/headless from the Service and its slices"
            }
            Self::PortNotNamed { .. } => {
                "with a selector: spec.ports[].targetPort must be a number, or the name of a container's port of that protocol; without: \
                 ports[].name of the EndpointSlice must be spec.ports[].name of the Service"
            }
            Self::NoneReady { .. } => "look at the Pods' readiness probes: kubectl describe pod",
            Self::NoLocal { .. } => {
                "send it to a node that has one (load balancers ask healthCheckNodePort), or set the policy to Cluster"
            }
        }
    }
}
