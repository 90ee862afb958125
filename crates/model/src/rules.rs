//! Choices: where kube-proxy's modes disagree or one of them is at fault, what daymark does, and the switch for it.
//!
//! [`Rules::default`] is what daymark does by itself: it fails closed, and refuses what would wander off.
//! [`Rules::of_mode`] is what kube-proxy does in a mode, for a node that is started with its configuration; where that lets
//! something pass that the default refuses, a notice says what. The reasons stand in
//! docs/semantics.md.

use std::fmt;

use crate::address::Cidr;
use crate::node_ports::UnnamedFamily;

/// A mode of kube-proxy (`mode` of KubeProxyConfiguration): which of its data planes a configuration was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// `iptables`.
    Iptables,
    /// `ipvs`.
    Ipvs,
    /// `nftables`.
    Nftables,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Iptables, Self::Ipvs, Self::Nftables];
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
        })
    }
}

/// What the rules leave open, decided.
///
/// ```
/// use daymark_model::rules::{Gap, Mode, Rules};
/// assert_eq!(Rules::default().ranges_of_one_family, Gap::Closed);
/// assert_eq!(Rules::of_mode(Mode::Nftables).ranges_of_one_family, Gap::Open);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `loadBalancerSourceRanges` names prefixes of one family alone: what that means for the other.
    pub ranges_of_one_family: Gap,
    /// Where node ports of a family answer that `nodePortAddresses` does not name.
    pub unnamed_family: UnnamedFamily,
    /// What happens at a port of a Service's address that no Service port names.
    pub unknown_ports: UnknownPorts,
    /// What happens to connections to an address of a ServiceCIDR that no Service has.
    pub unallocated: Unallocated,
    /// What happens to endpoints' TCP packets that connection tracking calls invalid.
    pub invalid: Invalid,
    /// Which of `spec.externalIPs` are served.
    pub external_ips: ExternalIps,
    /// What a policy `Local` means on a node without an endpoint, while others have some.
    pub without_local: WithoutLocal,
    /// What happens to a TCP connection that stands when its endpoint is gone.
    pub gone_endpoints: GoneEndpoints,
    /// What happens on loopback at the number of a node port that is not served there.
    pub unserved_loopback: UnservedLoopback,
}

/// What a setting that speaks of one family alone means for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gap {
    /// Nothing of the other family is let in, or served.
    #[default]
    Closed,
    /// Everything is, as if the setting were not there: kube-proxy, in every mode.
    Open,
}

/// What happens at a port of a Service's address that no Service port names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownPorts {
    /// Refused: at a cluster IP for everybody; at an external IP or a load balancer's address for clients outside, whose
    /// packets would otherwise go back and forth between node and router. Clients inside may reach what else the address
    /// is: it may be another node's.
    #[default]
    Refuse,
    /// Refused at cluster IPs alone: kube-proxy with nftables.
    RefuseAtClusterIps,
    /// Nothing, they go on as if there were no Service: kube-proxy with iptables.
    LetThrough,
}

/// What happens to new connections to an address of a ServiceCIDR that no Service has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unallocated {
    /// They are dropped: kube-proxy with nftables.
    #[default]
    Drop,
    /// Nothing: kube-proxy in its other modes.
    LetThrough,
}

/// What happens to TCP packets from a port of endpoints that connection tracking calls invalid, because they lie outside of
/// the window that it expects. They are not translated, so that a client would see an answer from a stranger and reset the
/// connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Invalid {
    /// They are dropped. kube-proxy with iptables drops every forwarded packet that is invalid, also those of flows that
    /// come this way in one direction alone.
    #[default]
    Drop,
    /// Nothing: kube-proxy in its other modes.
    LetThrough,
}

/// Which of `spec.externalIPs` are served (KEP-5707; CVE-2020-8554: whoever may write a Service may take an address).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExternalIps {
    /// All: kube-proxy, unless its gate `AllowServiceExternalIPs` is off.
    #[default]
    Any,
    /// Those inside these prefixes; without any, none.
    Within(Vec<Cidr>),
}

/// What a policy `Local` means on a node without an endpoint, while other nodes have some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithoutLocal {
    /// Connections are dropped: kube-proxy with iptables and nftables.
    #[default]
    Drop,
    /// They go to the other nodes' endpoints, clients outside unmasqueraded; only a cluster IP of a Service that is not
    /// reachable from outside refuses: kube-proxy with IPVS.
    Cluster,
}

/// What happens to a TCP connection that stands when its endpoint is gone: no slice of the Service names it any more, not even as
/// one that terminates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GoneEndpoints {
    /// Nothing: the Pod may live on and end it. kube-proxy, in every mode.
    #[default]
    Keep,
    /// The kernel forgets it, so that the client's next packet is answered by a reset.
    Reset,
}

/// What happens on loopback at the number of a node port that is not served there: UDP and SCTP always, TCP in a family whose
/// loopback `nodePortAddresses` does not name (KEP-6032).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnservedLoopback {
    /// Nothing: a program of the node that listens there is reached, and where none does the kernel refuses by itself.
    #[default]
    LetThrough,
    /// It is refused, whoever listens: kube-proxy with nftables and the gate `KubeProxyNFTablesLocalhostNodePorts`.
    Refuse,
}

impl Rules {
    /// What kube-proxy does in a mode.
    #[must_use]
    pub fn of_mode(mode: Mode) -> Self {
        let open = Self {
            ranges_of_one_family: Gap::Open,
            unnamed_family: UnnamedFamily::Open,
            ..Self::default()
        };
        match mode {
            Mode::Iptables => Self {
                unknown_ports: UnknownPorts::LetThrough,
                unallocated: Unallocated::LetThrough,
                ..open
            },
            Mode::Ipvs => Self {
                unallocated: Unallocated::LetThrough,
                invalid: Invalid::LetThrough,
                without_local: WithoutLocal::Cluster,
                ..open
            },
            Mode::Nftables => Self {
                unknown_ports: UnknownPorts::RefuseAtClusterIps,
                invalid: Invalid::LetThrough,
                ..open
            },
        }
    }

    /// Sets the choice of this name to a word: how a command line and a case write it. `None` if there is no such name or
    /// the choice has no such word.
    ///
    /// ```
    /// use daymark_model::rules::Rules;
    /// let mut rules = Rules::default();
    /// rules.set("external-ips", "cidr:192.0.2.0/24").unwrap();
    /// assert!(rules.set("external-ips", "some").is_none());
    /// assert_eq!(rules.words(), [("external-ips", "cidr:192.0.2.0/24".to_owned())]);
    /// ```
    #[must_use = "the name or the word may be unknown"]
    pub fn set(&mut self, name: &str, word: &str) -> Option<()> {
        match name {
            "ranges-of-one-family" => self.ranges_of_one_family = of_word(&GAP, word)?,
            "unnamed-family" => self.unnamed_family = of_word(&UNNAMED_FAMILY, word)?,
            "unknown-ports" => self.unknown_ports = of_word(&UNKNOWN_PORTS, word)?,
            "unallocated" => self.unallocated = of_word(&UNALLOCATED, word)?,
            "invalid" => self.invalid = of_word(&INVALID, word)?,
            "external-ips" => self.external_ips = external_ips(word)?,
            "without-local" => self.without_local = of_word(&WITHOUT_LOCAL, word)?,
            "gone-endpoints" => self.gone_endpoints = of_word(&GONE_ENDPOINTS, word)?,
            "unserved-loopback" => self.unserved_loopback = of_word(&UNSERVED_LOOPBACK, word)?,
            _ => return None,
        }
        Some(())
    }

    /// The choices that are not the default ones, as [`Rules::set`] takes them.
    #[must_use]
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let default = Self::default().all_words();
        let all = self.all_words().into_iter().zip(default);
        let differ = all.filter(|(this, default)| this != default);
        differ.map(|(this, _)| this).collect()
    }

    /// Every choice, as [`Rules::set`] takes it.
    #[must_use]
    pub fn all_words(&self) -> [(&'static str, String); 9] {
        let external_ips = match &self.external_ips {
            ExternalIps::Any => "any".to_owned(),
            ExternalIps::Within(cidrs) if cidrs.is_empty() => "none".to_owned(),
            ExternalIps::Within(cidrs) => {
                let cidrs: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
                format!("cidr:{}", cidrs.join(","))
            }
        };
        [
            (
                "ranges-of-one-family",
                word(&GAP, self.ranges_of_one_family),
            ),
            ("unnamed-family", word(&UNNAMED_FAMILY, self.unnamed_family)),
            ("unknown-ports", word(&UNKNOWN_PORTS, self.unknown_ports)),
            ("unallocated", word(&UNALLOCATED, self.unallocated)),
            ("invalid", word(&INVALID, self.invalid)),
            ("external-ips", external_ips),
            ("without-local", word(&WITHOUT_LOCAL, self.without_local)),
            ("gone-endpoints", word(&GONE_ENDPOINTS, self.gone_endpoints)),
            (
                "unserved-loopback",
                word(&UNSERVED_LOOPBACK, self.unserved_loopback),
            ),
        ]
    }
}

/// The names of all choices with the words that each takes, for a message about a wrong one.
pub const NAMES: [(&str, &str); 9] = [
    ("ranges-of-one-family", "closed, open"),
    ("unnamed-family", "closed, open"),
    (
        "unknown-ports",
        "refuse, refuse-at-cluster-ips, let-through",
    ),
    ("unallocated", "drop, let-through"),
    ("invalid", "drop, let-through"),
    ("external-ips", "any, none, cidr:PREFIX,..."),
    ("without-local", "drop, cluster"),
    ("gone-endpoints", "keep, reset"),
    ("unserved-loopback", "let-through, refuse"),
];

const GAP: [(&str, Gap); 2] = [("closed", Gap::Closed), ("open", Gap::Open)];
const UNNAMED_FAMILY: [(&str, UnnamedFamily); 2] = [
    ("closed", UnnamedFamily::Closed),
    ("open", UnnamedFamily::Open),
];
const UNKNOWN_PORTS: [(&str, UnknownPorts); 3] = [
    ("refuse", UnknownPorts::Refuse),
    ("refuse-at-cluster-ips", UnknownPorts::RefuseAtClusterIps),
    ("let-through", UnknownPorts::LetThrough),
];
const UNALLOCATED: [(&str, Unallocated); 2] = [
    ("drop", Unallocated::Drop),
    ("let-through", Unallocated::LetThrough),
];
const INVALID: [(&str, Invalid); 2] = [
    ("drop", Invalid::Drop),
    ("let-through", Invalid::LetThrough),
];
const UNSERVED_LOOPBACK: [(&str, UnservedLoopback); 2] = [
    ("let-through", UnservedLoopback::LetThrough),
    ("refuse", UnservedLoopback::Refuse),
];
const GONE_ENDPOINTS: [(&str, GoneEndpoints); 2] = [
    ("keep", GoneEndpoints::Keep),
    ("reset", GoneEndpoints::Reset),
];
const WITHOUT_LOCAL: [(&str, WithoutLocal); 2] = [
    ("drop", WithoutLocal::Drop),
    ("cluster", WithoutLocal::Cluster),
];

fn of_word<T: Copy>(words: &[(&str, T)], word: &str) -> Option<T> {
    let known = words.iter().find(|(known, _)| *known == word);
    known.map(|(_, value)| *value)
}

fn word<T: Copy + PartialEq>(words: &[(&str, T)], value: T) -> String {
    let known = words.iter().find(|(_, known)| *known == value);
    known.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

fn external_ips(word: &str) -> Option<ExternalIps> {
    match word {
        "any" => Some(ExternalIps::Any),
        "none" => Some(ExternalIps::Within(Vec::new())),
        _ => {
            let prefixes = word.strip_prefix("cidr:")?.split(',').map(Cidr::parse);
            Some(ExternalIps::Within(prefixes.collect::<Option<_>>()?))
        }
    }
}
