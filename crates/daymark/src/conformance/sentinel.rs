//! A Service that is changed last, so that whoever follows it has followed everything before it.
//!
//! The Service's port counts the states and its endpoints' port goes to and fro: the first tells that all
//! Services were seen, the second that all slices were.

use std::net::SocketAddr;
use std::sync::Arc;

use daymark_model::input::{
    Affinity, ClusterIps, Conditions, ServicePort, ServiceType, SliceAudience, SlicePort,
    TrafficPolicy,
};
use daymark_model::{Endpoint, Family, Protocol, Service, ServiceKey, Slice, SliceKey};

use super::api::Writer;
use super::site::of;

/// The state that a proxy has to have come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sentinel(pub(crate) u16);

impl Sentinel {
    /// The next one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1) % STATES)
    }

    /// Where the Service answers, a family each.
    pub(crate) fn services(self) -> [SocketAddr; 2] {
        Family::BOTH.map(|family| SocketAddr::new(of(family, SERVICE), FIRST + self.0))
    }

    /// Where its connections end, a family each.
    pub(crate) fn ends(self) -> [SocketAddr; 2] {
        Family::BOTH.map(|family| SocketAddr::new(of(family, ENDPOINT), self.target()))
    }

    fn target(self) -> u16 {
        TARGETS[usize::from(self.0 % 2)]
    }

    /// Writes the state down.
    pub(crate) async fn raise(self, writer: &mut Writer) -> anyhow::Result<()> {
        writer.put_service(&key(), &self.service()).await?;
        for slice in self.slices() {
            writer.put_slice(&slice.key, &slice).await?;
        }
        Ok(())
    }

    fn service(self) -> Service {
        Service {
            key: key(),
            uid: None,
            created: 0,
            kind: ServiceType::ClusterIp,
            cluster_ips: ClusterIps::Allocated(
                Family::BOTH.map(|family| of(family, SERVICE)).into(),
            ),
            families: Family::BOTH.into(),
            external_ips: Vec::new(),
            ingress: Vec::new(),
            ports: vec![ServicePort {
                name: "state".into(),
                protocol: Protocol::Tcp,
                port: FIRST + self.0,
                node_port: None,
            }],
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity: Affinity::None,
            source_ranges: Vec::new(),
            health_check_node_port: None,
            proxy_name: None,
            load_balancer: None,
        }
    }

    /// Its slices, one a family.
    pub(crate) fn slices(self) -> [Slice; 2] {
        Family::BOTH.map(|family| Slice {
            key: SliceKey {
                namespace: NAMESPACE.into(),
                name: format!("sentinel-{family}").to_lowercase().into(),
            },
            service: key().name,
            family,
            audience: SliceAudience::Everyone,
            ports: vec![SlicePort {
                name: "state".into(),
                protocol: Protocol::Tcp,
                port: self.target(),
            }],
            endpoints: vec![Endpoint {
                address: of(family, ENDPOINT),
                conditions: Conditions {
                    ready: Some(true),
                    ..Conditions::default()
                },
                node: Some(Arc::from("node-2")),
                hints: None,
                hostname: None,
            }],
        })
    }
}

fn key() -> ServiceKey {
    ServiceKey::new(NAMESPACE, "sentinel")
}

/// The namespace of the sentinel.
pub(crate) const NAMESPACE: &str = "sentinel";
const SERVICE: [&str; 2] = ["10.96.0.250", "fd00:10:96::fa"];
const ENDPOINT: [&str; 2] = ["10.244.2.250", "fd00:10:244:2::fa"];
/// The ports of the Service: so many states can be told apart.
const FIRST: u16 = 20_000;
const STATES: u16 = 5_000;
const TARGETS: [u16; 2] = [8080, 8081];
