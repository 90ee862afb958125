//! Which Services each part of daymark looks at: one rule a consumer.
//!
//! The feed filters nothing, because what the proxy must not see (a headless Service) DNS must. An agent without DNS does not ask
//! for headless Services and hidden slices: with them, nothing that is decided here or from here would be another (`tests/world.rs`).

use crate::input::{ClusterIps, Service, ServiceType, Slice, SliceAudience};

/// Why the proxy leaves a Service alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotProxied {
    /// `spec.type` is ExternalName, even if a cluster IP is still set.
    ExternalName,
    /// `spec.clusterIP` is `None`.
    Headless,
    /// No cluster IP is allocated yet.
    NoClusterIp,
    /// The label `service.kubernetes.io/service-proxy-name` hands it to another proxy.
    OtherProxy,
}

/// Whether the node proxy serves the Service (kubernetes `pkg/proxy/util`, `ShouldSkipService`).
///
/// # Errors
/// The reason why not.
pub fn proxy(service: &Service) -> Result<(), NotProxied> {
    if service.proxy_name.is_some() {
        return Err(NotProxied::OtherProxy);
    }
    if matches!(service.kind, ServiceType::ExternalName(_)) {
        return Err(NotProxied::ExternalName);
    }
    match &service.cluster_ips {
        ClusterIps::Headless => Err(NotProxied::Headless),
        ClusterIps::Unset => Err(NotProxied::NoClusterIp),
        ClusterIps::Allocated(_) => Ok(()),
    }
}

/// Whether the node proxy reads the slice.
#[must_use]
pub fn proxy_reads_slice(slice: &Slice) -> bool {
    slice.audience == SliceAudience::Everyone
}

/// Whether DNS has records for the Service: all of them, whatever proxy serves the packets.
#[must_use]
pub fn dns(service: &Service) -> bool {
    match service.kind {
        ServiceType::ExternalName(_) => true,
        ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::LoadBalancer => {
            service.cluster_ips != ClusterIps::Unset
        }
    }
}

/// Whether a load balancer of class `class` (`None`: the default one) hands out addresses for the
/// Service: type LoadBalancer and exactly this `spec.loadBalancerClass` (KEP-1959).
#[must_use]
pub fn load_balancer(service: &Service, class: Option<&str>) -> bool {
    let asked = service
        .load_balancer
        .as_ref()
        .and_then(|request| request.class.as_deref());
    service.kind == ServiceType::LoadBalancer && asked == class
}
