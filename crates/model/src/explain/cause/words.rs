//! Causes in words.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::Cause;
use crate::address::{Family, Protocol};
use crate::audience::NotProxied;
use crate::desire::{NotServed, Policy};
use crate::explain::PortAsked;
use crate::explain::step::listed;
use crate::input::ServicePort;

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoService(key) => write!(out, "there is no Service {key}"),
            Self::NotProxied(why, proxy) => not_proxied(out, *why, proxy.as_deref()),
            Self::NoIngress(class) => {
                out.write_str("status.loadBalancer has no IP address")?;
                match class {
                    Some(class) => write!(out, "; spec.loadBalancerClass is {class}"),
                    None => out.write_str("; spec.loadBalancerClass is not set"),
                }
            }
            Self::NoPorts => out.write_str("spec.ports is empty"),
            Self::NoSuchPort { asked, known } => {
                let known: Vec<String> = known.iter().map(port_in_words).collect();
                write!(out, "it has no port {asked}: it has {}", known.join(", "))
            }
            Self::NoSuchAddress { asked, known } => {
                write!(
                    out,
                    "{asked} is none of its addresses: it has {}",
                    listed(known)
                )
            }
            Self::ClientWithout(family) => write!(out, "the client has no {family} address"),
            Self::NoNodePortAddress(family) => {
                write!(out, "no {family} address of this node serves node ports")
            }
            Self::NotServed(why) => out.write_str(match why {
                NotServed::NoClusterIp => "the Service has no cluster IP of this family",
                NotServed::ProxyMode => "its ipMode is Proxy: nodes leave the address alone",
                NotServed::NotLoadBalancer => "a status left over: spec.type is not LoadBalancer",
                NotServed::NoNodePorts => "a number left over: spec.type is ClusterIP",
                NotServed::Special => {
                    "an address that is loopback, link-local, multicast or unspecified is never a Service's"
                }
                NotServed::TooMany => {
                    "the ports before it, times the Service's addresses or endpoints, are as many as one Service may have, or its endpoints are more than may be looked at"
                }
                NotServed::NotAllowed => "this node's settings do not allow this external IP",
            }),
            Self::HeldBy { port, why } => {
                write!(out, "{port} has this address and port: it {why}")
            }
            Self::SourceRange { source, ranges } if ranges.is_empty() => {
                let family = Family::of(*source);
                write!(
                    out,
                    "loadBalancerSourceRanges has no {family} prefix, so nobody may come from {source}"
                )
            }
            Self::SourceRange { source, ranges } => write!(
                out,
                "the client {source} is in none of loadBalancerSourceRanges ({})",
                listed(ranges)
            ),
            Self::NoSlices => out.write_str("no EndpointSlice carries the Service's name"),
            Self::NoEndpoints => out.write_str("its EndpointSlices are empty"),
            Self::OtherFamilyOnly(family) => write!(out, "no endpoint has an {family} address"),
            Self::Hidden => out.write_str(
                "its endpoints are hidden from proxies by the label service.kubernetes.io/headless",
            ),
            Self::PortNotNamed {
                name,
                protocol,
                known,
            } => port_not_named(out, name, *protocol, known),
            Self::NoneReady {
                not_ready,
                terminating,
            } => none_ready(out, *not_ready, *terminating),
            Self::NoLocal {
                policy,
                node,
                nodes,
            } => {
                let policy = match policy {
                    Policy::Internal(_) => "internalTrafficPolicy",
                    Policy::External(_) | Policy::ShortCircuit => "externalTrafficPolicy",
                };
                let nodes: Vec<&Arc<str>> = nodes.iter().collect();
                let node = if node.is_empty() { "this node" } else { node };
                write!(out, "{policy} is Local and no endpoint is on {node}")?;
                if nodes.is_empty() {
                    return Ok(());
                }
                write!(out, ": they are on {}", listed(&nodes))
            }
        }
    }
}

impl fmt::Display for PortAsked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(out),
            Self::Name(name) => name.fmt(out),
        }
    }
}

fn not_proxied(out: &mut fmt::Formatter<'_>, why: NotProxied, name: Option<&str>) -> fmt::Result {
    match why {
        NotProxied::ExternalName => write!(
            out,
            "its type is ExternalName: an alias in DNS (CNAME) for {}, without any address",
            name.unwrap_or_default()
        ),
        NotProxied::Headless => {
            out.write_str("it is headless (clusterIP: None): names in DNS, without any address")
        }
        NotProxied::NoClusterIp => out.write_str("it has no cluster IP yet"),
        NotProxied::OtherProxy => write!(
            out,
            "the label service.kubernetes.io/service-proxy-name hands it to another proxy, {}",
            name.unwrap_or_default()
        ),
    }
}

fn port_in_words(port: &ServicePort) -> String {
    let named = if port.name.is_empty() {
        String::new()
    } else {
        format!(" ({})", port.name)
    };
    let node_port = port.node_port.map(|n| format!(", node port {n}"));
    let (number, protocol) = (port.port, port.protocol);
    format!(
        "{number}/{protocol}{named}{}",
        node_port.unwrap_or_default()
    )
}

fn port_not_named(
    out: &mut fmt::Formatter<'_>,
    name: &str,
    protocol: Protocol,
    known: &BTreeSet<(Arc<str>, Protocol)>,
) -> fmt::Result {
    let quoted = |name: &str, protocol| {
        if name.is_empty() {
            format!("an unnamed one/{protocol}")
        } else {
            format!("{name:?}/{protocol}")
        }
    };
    let wanted = if name.is_empty() {
        format!("an unnamed port/{protocol}")
    } else {
        format!("the port {}", quoted(name, protocol))
    };
    write!(out, "endpoints are there, but without {wanted}")?;
    let known: Vec<String> = known.iter().map(|(n, p)| quoted(n, *p)).collect();
    if known.is_empty() {
        return out.write_str(": their slices name no port");
    }
    write!(out, ": their slices name {}", listed(&known))
}

fn none_ready(out: &mut fmt::Formatter<'_>, not_ready: usize, terminating: usize) -> fmt::Result {
    let all = not_ready + terminating;
    match (not_ready, terminating) {
        (1, 0) => out.write_str("its one endpoint is not ready"),
        (0, 1) => out.write_str("its one endpoint terminates, and serves no more"),
        (_, 0) => write!(out, "none of {all} endpoints is ready"),
        (0, _) => write!(out, "all of {all} endpoints terminate, and serve no more"),
        _ => write!(
            out,
            "none of {all} endpoints is ready: {not_ready} not ready, {terminating} terminating"
        ),
    }
}
