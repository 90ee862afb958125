//! Records of the kinds that only a load balancer or DNS needs; the others are `model::input`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::Cidr;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace, empty for a kind without one.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(out, "{}/", self.namespace)?;
        }
        out.write_str(&self.name)
    }
}

/// A Namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
}

/// An IPAddressPool (`metallb.io/v1beta1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`, for Events about it.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp`, seconds since 1970: of two pools with one address the older has it.
    pub created: i64,
    /// `metadata.generation`, for conditions.
    pub generation: i64,
    /// `spec.addresses` that could be read, in order.
    pub ranges: Vec<AddressRange>,
    /// `spec.addresses` that could not, as written.
    pub unreadable: Vec<Arc<str>>,
    /// `spec.autoAssign`.
    pub assignment: Assignment,
    /// `spec.avoidBuggyIPs`.
    pub buggy_ips: BuggyIps,
    /// Fields of `spec` that are set and that the feed does not read, such as `serviceAllocation`.
    pub other_fields: Vec<Arc<str>>,
}

/// Addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    /// The lowest.
    pub first: IpAddr,
    /// The highest.
    pub last: IpAddr,
}

/// `spec.autoAssign`: who gets addresses of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignment {
    /// Any Service that asks for an address.
    #[default]
    Automatic,
    /// Only one that names the pool or an address of it.
    OnRequest,
}

/// `spec.avoidBuggyIPs`: whether IPv4 addresses that end in .0 and .255 are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuggyIps {
    /// They are.
    #[default]
    Give,
    /// They are not.
    Avoid,
}

/// An L2Advertisement (`metallb.io/v1beta1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Advertisement {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`, for Events about it.
    pub uid: Arc<str>,
    /// `metadata.generation`, for conditions.
    pub generation: i64,
    /// `spec.ipAddressPools`.
    pub pools: Vec<Arc<str>>,
    /// Fields of `spec` that are set and that the feed does not read, such as `interfaces`.
    pub other_fields: Vec<Arc<str>>,
}

/// The Lease by which a node shows that it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The node's name, which is the Lease's.
    pub node: Arc<str>,
    /// `spec.holderIdentity`.
    pub holder: Arc<str>,
    /// `spec.renewTime`, microseconds since 1970.
    pub renewed: Option<i64>,
    /// `spec.leaseDurationSeconds`.
    pub seconds: Option<u32>,
}

/// A Node as a load balancer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// The condition `Ready`.
    pub ready: Readiness,
    /// `status.addresses` of type InternalIP, then those of type ExternalIP, each in order.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<Cidr>,
    /// Whether the label `node.kubernetes.io/exclude-from-external-load-balancers` keeps it out.
    pub balancing: Balancing,
    /// The condition `NetworkUnavailable`.
    pub network: Network,
}

/// The condition `Ready` of a Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// `True`.
    Ready,
    /// `False`, or no such condition yet.
    NotReady,
    /// `Unknown`: its Lease lapsed.
    Unknown,
}

/// Whether a Node takes load-balancer traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancing {
    /// It does.
    Included,
    /// A label keeps it out.
    Excluded,
}

/// The condition `NetworkUnavailable` of a Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Not set, or `False`.
    Available,
    /// `True`.
    Unavailable,
}

/// Whether load balancers should send to a Node (KEP-3836).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// They should.
    Eligible,
    /// It is being deleted, or has the taint `ToBeDeletedByClusterAutoscaler`: it takes no new connections from outside.
    Leaving,
}
