//! Nodes: the agent's own as the model's input, any as a load balancer sees it.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model as model;
use daymark_model::Cidr;
use serde::Deserialize;

use super::meta::Metadata;
use super::value::{List, Part, Shape, Text};
use super::{Json, NodeRecord, Reader, Record};
use crate::config::Nodes;
use crate::record::{Balancing, ClusterNode, Eligibility, Network, ObjectKey, Readiness};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeJson<'a> {
    #[serde(borrow)]
    metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    spec: Part<Spec<'a>>,
    #[serde(borrow)]
    status: Part<Status<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec<'a> {
    #[serde(borrow, rename = "podCIDR")]
    pod_cidr: Text<'a>,
    #[serde(borrow, rename = "podCIDRs")]
    pod_cidrs: List<Text<'a>>,
    #[serde(borrow)]
    taints: List<Taint<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taint<'a> {
    #[serde(borrow)]
    key: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status<'a> {
    #[serde(borrow)]
    addresses: List<Address<'a>>,
    #[serde(borrow)]
    conditions: List<Condition<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    address: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
}

impl Shape for NodeJson<'_> {}
impl Shape for Spec<'_> {}
impl Shape for Status<'_> {}

impl<'a> Json<'a> for NodeJson<'a> {
    fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    fn record(&self, key: &ObjectKey, reader: &mut Reader<'_, '_>) -> Option<Record> {
        let addresses = self.addresses(reader);
        let (is_own, all) = match reader.context.nodes {
            Nodes::None => (false, false),
            Nodes::Own(name) => (*name == key.name, false),
            Nodes::All { own } => (own.as_ref() == Some(&key.name), true),
        };
        let cluster = all.then(|| Arc::new(self.cluster_node(key, addresses.clone(), reader)));
        let own = is_own.then(|| Arc::new(self.own_node(key, addresses, reader)));
        let eligibility = is_own.then(|| self.eligibility());
        let record = NodeRecord {
            own,
            eligibility,
            cluster,
        };
        (record.own.is_some() || record.cluster.is_some()).then_some(Record::Node(record))
    }
}

impl NodeJson<'_> {
    /// Internal ones before external ones (kubernetes `pkg/util/node`, `GetNodeHostIPs`): the first is the primary one.
    fn addresses(&self, reader: &mut Reader<'_, '_>) -> Vec<IpAddr> {
        let mut all = Vec::new();
        for kind in ["InternalIP", "ExternalIP"] {
            let entries = self.status.addresses.iter().enumerate();
            for (index, entry) in entries.filter(|(_, entry)| entry.kind.text() == kind) {
                let field = format!("status.addresses[{index}].address");
                all.extend(reader.address(&field, &entry.address));
            }
        }
        all
    }

    fn pod_cidrs(&self, reader: &mut Reader<'_, '_>) -> Vec<Cidr> {
        let single = self
            .spec
            .pod_cidrs
            .is_empty()
            .then_some(&self.spec.pod_cidr);
        let texts = self
            .spec
            .pod_cidrs
            .iter()
            .chain(single.filter(|text| !text.is_absent()));
        let mut pod_cidrs = Vec::new();
        for text in texts {
            match Cidr::parse(text.text()) {
                Some(cidr) => pod_cidrs.push(cidr),
                None => {
                    let why = format!("{:?} is not an address range; it is left out", text.text());
                    reader.refuse("spec.podCIDRs", why);
                }
            }
        }
        pod_cidrs
    }

    fn eligibility(&self) -> Eligibility {
        let is_leaving = |taint: &Taint<'_>| taint.key.text() == "ToBeDeletedByClusterAutoscaler";
        if !self.metadata.deletion_timestamp.is_absent() || self.spec.taints.iter().any(is_leaving)
        {
            Eligibility::Leaving
        } else {
            Eligibility::Eligible
        }
    }

    fn own_node(
        &self,
        key: &ObjectKey,
        addresses: Vec<IpAddr>,
        reader: &mut Reader<'_, '_>,
    ) -> model::Node {
        let zone = reader.share(self.metadata.labels.zone.text());
        model::Node {
            name: Arc::clone(&key.name),
            zone,
            addresses,
            pod_cidrs: self.pod_cidrs(reader),
        }
    }

    fn cluster_node(
        &self,
        key: &ObjectKey,
        addresses: Vec<IpAddr>,
        reader: &mut Reader<'_, '_>,
    ) -> ClusterNode {
        let condition = |kind: &str| {
            let found = self
                .status
                .conditions
                .iter()
                .find(|condition| condition.kind.text() == kind);
            found.map_or("", |condition| condition.status.text())
        };
        ClusterNode {
            name: Arc::clone(&key.name),
            ready: match condition("Ready") {
                "True" => Readiness::Ready,
                "Unknown" => Readiness::Unknown,
                _ => Readiness::NotReady,
            },
            addresses,
            pod_cidrs: self.pod_cidrs(reader),
            // The label's presence decides, whatever its value.
            balancing: if self.metadata.labels.exclude_from_load_balancers.is_absent() {
                Balancing::Included
            } else {
                Balancing::Excluded
            },
            network: if condition("NetworkUnavailable") == "True" {
                Network::Unavailable
            } else {
                Network::Available
            },
        }
    }
}
