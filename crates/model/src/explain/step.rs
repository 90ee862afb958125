//! The rules that a packet meets, each with the field that says so.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::cause::Cause;
use crate::address::Cidr;
use crate::decide::{Client, Decision, Packet, SourceSeen, Verdict};
use crate::desire::{Here, Policy};
use crate::desired::{Frontend, List, Masquerade, Origin, OwnPods, Sources};
use crate::endpoints::{Choice, Taken, Topology};
use crate::input::{Affinity, Detector, Service};

/// A rule and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Whether the place is this Service port's.
    Place(Origin, Result<(), Cause>),
    /// Whether the client may come.
    Sources {
        /// Its address.
        source: IpAddr,
        /// The range that lets it in; `None`: it is in none.
        admitted_by: Option<Cidr>,
        /// All ranges of the family; none if everybody may come.
        ranges: Option<Arc<[Cidr]>>,
    },
    /// Which kind of client it is.
    Client {
        /// The kind.
        client: Client,
        /// Its address.
        source: IpAddr,
        /// Prefixes of this node's own Pods.
        own_pods: OwnPods,
        /// The setting that they come from.
        detector: Detector,
    },
    /// Which traffic policy it follows.
    Policy {
        /// The policy.
        policy: Policy,
        /// The list that it comes to; not its own where no endpoint is here and a setting says so
        /// ([`crate::rules::WithoutLocal`]).
        list: List,
    },
    /// Whom the list takes.
    Endpoints {
        /// The list.
        list: List,
        /// Ready ones, or the last resort.
        taken: Taken,
        /// The hints in force.
        topology: Topology,
        /// The node's zone.
        zone: Arc<str>,
        /// How many it takes.
        count: usize,
    },
    /// Whether the client keeps its endpoint.
    Affinity(Affinity),
    /// Whose source the endpoint sees.
    Source {
        /// The rule of the place.
        masquerade: Masquerade,
        /// The kind of client.
        client: Client,
        /// Where the place comes from.
        origin: Origin,
        /// Whether some endpoint is the client itself and is masqueraded for that alone.
        hairpin: bool,
    },
}

/// What steps are told from.
pub(super) struct Seen<'a> {
    pub(super) here: &'a Here,
    pub(super) service: &'a Service,
    pub(super) frontend: &'a Frontend,
    pub(super) packet: &'a Packet,
    pub(super) decision: &'a Decision<'a>,
    pub(super) policy: Policy,
    pub(super) choice: &'a Choice<'a>,
    pub(super) list: List,
}

/// The steps in the order of [`crate::decide`], to the one that said no.
pub(super) fn steps(seen: &Seen) -> Vec<Step> {
    let (frontend, source) = (seen.frontend, seen.packet.source);
    let ranges = match &frontend.sources {
        Sources::Any => None,
        Sources::Only(ranges) => Some(ranges.clone()),
    };
    let of_source = |range: &&Cidr| range.contains(source);
    let admitted_by = ranges
        .iter()
        .flat_map(|r| r.iter())
        .find(of_source)
        .copied();
    let mut steps = vec![
        Step::Place(frontend.origin, Ok(())),
        Step::Sources {
            source,
            admitted_by,
            ranges,
        },
    ];
    if seen.decision.action.is_none() {
        return steps;
    }
    let client = seen.decision.client;
    steps.push(Step::Client {
        client,
        source,
        own_pods: seen.here.own_pods(),
        detector: seen.here.options.detector.clone(),
    });
    steps.push(Step::Policy {
        policy: seen.policy,
        list: seen.list,
    });
    let all = seen.choice.candidates().iter();
    let taken = all.filter(|c| seen.choice.standing(c, seen.list).is_ok());
    steps.push(Step::Endpoints {
        list: seen.list,
        taken: seen.choice.taken(seen.list),
        topology: match seen.list {
            List::Cluster => seen.choice.topology(),
            List::Local => Topology::Anywhere,
        },
        zone: seen.here.node.zone.clone(),
        count: taken.count(),
    });
    if let Verdict::Forward(targets) = &seen.decision.verdict {
        let masquerade = frontend.masquerade;
        let mut itself = targets.iter().filter(|target| target.address == source);
        let taken = |target: &crate::Target| target.source == SourceSeen::Masqueraded;
        steps.push(Step::Affinity(seen.service.affinity));
        steps.push(Step::Source {
            masquerade,
            client,
            origin: frontend.origin,
            hairpin: !masquerade.takes(client) && itself.any(taken),
        });
    }
    steps
}

impl Step {
    /// The rule's name.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Place(..) => "place",
            Self::Sources { .. } => "sources",
            Self::Client { .. } => "client",
            Self::Policy { .. } => "policy",
            Self::Endpoints { .. } => "endpoints",
            Self::Affinity(_) => "affinity",
            Self::Source { .. } => "source",
        }
    }

    /// The field that decides.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Place(origin, _) => origin.field(),
            Self::Sources { .. } => "spec.loadBalancerSourceRanges",
            Self::Client { detector, .. } => match detector {
                Detector::NodeCidr => "spec.podCIDRs of the Node",
                Detector::Cidrs(_) => "clusterCIDR",
                Detector::Interface(_) => "detectLocal",
                Detector::None => "detectLocalMode",
            },
            Self::Policy { policy, .. } => match policy {
                Policy::Internal(_) => "spec.internalTrafficPolicy",
                Policy::External(_) | Policy::ShortCircuit => "spec.externalTrafficPolicy",
            },
            Self::Endpoints { topology, .. } => match topology {
                Topology::Anywhere => "endpoints[].conditions",
                Topology::SameNode | Topology::SameZone => "endpoints[].hints",
            },
            Self::Affinity(_) => "spec.sessionAffinity",
            Self::Source { origin, .. } => match origin {
                Origin::ClusterIp => "masqueradeAll",
                _ => "spec.externalTrafficPolicy",
            },
        }
    }
}

impl Origin {
    /// The field of the Service.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::ClusterIp => "spec.clusterIPs",
            Self::ExternalIp => "spec.externalIPs",
            Self::LoadBalancerIp => "status.loadBalancer.ingress",
            Self::NodePort => "spec.ports[].nodePort",
        }
    }

    /// What such a place is called.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::ClusterIp => "cluster IP",
            Self::ExternalIp => "external IP",
            Self::LoadBalancerIp => "load-balancer IP",
            Self::NodePort => "node port",
        }
    }
}

/// Prefixes, for people: no list of a hundred.
pub(super) fn listed<T: fmt::Display>(values: &[T]) -> String {
    let shown: Vec<String> = values.iter().take(MOST).map(ToString::to_string).collect();
    let more = values.len().saturating_sub(MOST);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    shown.join(", ") + &more
}

const MOST: usize = 6;

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(origin, Ok(())) => write!(out, "this Service's {}", origin.words()),
            Self::Place(_, Err(cause)) => cause.fmt(out),
            Self::Sources {
                source,
                admitted_by,
                ranges,
            } => match (admitted_by, ranges) {
                (_, None) => out.write_str("everybody may come"),
                (Some(range), _) => write!(out, "{source} may come: it is in {range}"),
                (None, Some(ranges)) if ranges.is_empty() => {
                    out.write_str("nobody of this family may come: no range is of it")
                }
                (None, Some(ranges)) => {
                    write!(
                        out,
                        "{source} may not come: it is in none of {}",
                        listed(ranges)
                    )
                }
            },
            Self::Client {
                client,
                source,
                own_pods,
                ..
            } => match client {
                Client::Node => out.write_str("inside: the node itself"),
                Client::OwnPod => write!(out, "inside: {source} is a Pod of this node"),
                Client::Outside if *own_pods == OwnPods::default() => write!(
                    out,
                    "outside: {source} comes by a link, and this node cannot tell its own Pods"
                ),
                Client::Outside => write!(
                    out,
                    "outside: {source} is none of this node's Pods ({})",
                    own_pods
                ),
            },
            Self::Policy { policy, list } => out.write_str(policy_in_words(*policy, *list)),
            Self::Endpoints {
                list,
                taken,
                topology,
                zone,
                count,
            } => endpoints_in_words(out, (*list, *taken, *topology), zone, *count),
            Self::Affinity(Affinity::None) => out.write_str("each connection chooses anew"),
            Self::Affinity(Affinity::ClientIp { timeout }) => write!(
                out,
                "a client keeps its endpoint until it was idle for {timeout} s"
            ),
            Self::Source {
                masquerade,
                client,
                hairpin,
                ..
            } => source_in_words(out, *masquerade, *client, *hairpin),
        }
    }
}

fn policy_in_words(policy: Policy, list: List) -> &'static str {
    match (policy, list) {
        (Policy::ShortCircuit, _) => {
            "clients inside may go to any endpoint of the cluster, whatever the policy"
        }
        (_, List::Local) => "Local: endpoints of this node alone",
        _ if policy.list() == List::Local => {
            "Local, but no endpoint is here: any endpoint of the cluster (without-local)"
        }
        _ => "Cluster: any endpoint of the cluster",
    }
}

fn endpoints_in_words(
    out: &mut fmt::Formatter<'_>,
    (list, taken, topology): (List, Taken, Topology),
    zone: &str,
    count: usize,
) -> fmt::Result {
    let place = match list {
        List::Cluster => "in the cluster",
        List::Local => "on this node",
    };
    match (taken, topology, count) {
        (Taken::Ready, Topology::SameNode, _) => {
            write!(out, "{count} ready, whose hints name this node")
        }
        (Taken::Ready, Topology::SameZone, _) => {
            write!(
                out,
                "{count} ready, whose hints name this node's zone {zone}"
            )
        }
        (Taken::Ready, Topology::Anywhere, _) => write!(out, "{count} ready {place}"),
        (Taken::Draining, _, 0) => write!(out, "none {place}"),
        (Taken::Draining, ..) => write!(
            out,
            "none is ready {place}: {count} that terminate and still serve"
        ),
    }
}

fn source_in_words(
    out: &mut fmt::Formatter<'_>,
    masquerade: Masquerade,
    client: Client,
    hairpin: bool,
) -> fmt::Result {
    if hairpin {
        return out.write_str("kept, but a Pod that reaches itself is masqueraded");
    }
    let taken = if masquerade.takes(client) {
        "masqueraded"
    } else {
        "kept"
    };
    let rule = match masquerade {
        Masquerade::Never => "own Pods cannot be told, so nobody's is taken",
        Masquerade::NodeOnly => "policy Local leaves everybody's but the node's own",
        Masquerade::UnlessOwnPod => "own Pods keep theirs, all others lose it",
        Masquerade::Always => "everybody's is taken",
    };
    write!(out, "{taken}: {rule}")
}
