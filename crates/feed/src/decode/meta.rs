//! `metadata`: of labels and annotations only those that mean something to daymark.

use serde::Deserialize;

use super::value::{Number, Part, Shape, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) namespace: Text<'a>,
    #[serde(borrow)]
    pub(super) uid: Text<'a>,
    #[serde(borrow)]
    pub(super) resource_version: Text<'a>,
    #[serde(borrow)]
    pub(super) creation_timestamp: Text<'a>,
    #[serde(borrow)]
    pub(super) deletion_timestamp: Text<'a>,
    pub(super) generation: Number,
    #[serde(borrow)]
    pub(super) labels: Part<Labels<'a>>,
    #[serde(borrow)]
    pub(super) annotations: Part<Annotations<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Labels<'a> {
    #[serde(borrow, rename = "kubernetes.io/service-name")]
    pub(super) service_name: Text<'a>,
    #[serde(borrow, rename = "service.kubernetes.io/service-proxy-name")]
    pub(super) proxy_name: Text<'a>,
    #[serde(borrow, rename = "service.kubernetes.io/headless")]
    pub(super) headless: Text<'a>,
    #[serde(borrow, rename = "topology.kubernetes.io/zone")]
    pub(super) zone: Text<'a>,
    #[serde(
        borrow,
        rename = "node.kubernetes.io/exclude-from-external-load-balancers"
    )]
    pub(super) exclude_from_load_balancers: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations<'a> {
    #[serde(borrow, rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub(super) last_change: Text<'a>,
    #[serde(borrow, rename = "k8s.io/initial-events-end")]
    pub(super) initial_events_end: Text<'a>,
    #[serde(borrow, rename = "metallb.io/loadBalancerIPs")]
    pub(super) load_balancer_ips: Text<'a>,
    #[serde(borrow, rename = "metallb.universe.tf/loadBalancerIPs")]
    pub(super) load_balancer_ips_old: Text<'a>,
    #[serde(borrow, rename = "metallb.io/address-pool")]
    pub(super) address_pool: Text<'a>,
    #[serde(borrow, rename = "metallb.universe.tf/address-pool")]
    pub(super) address_pool_old: Text<'a>,
    #[serde(borrow, rename = "metallb.io/ip-allocated-from-pool")]
    pub(super) allocated_from: Text<'a>,
}

impl Shape for Metadata<'_> {}
impl Shape for Labels<'_> {}
impl Shape for Annotations<'_> {}
