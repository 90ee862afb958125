//! Who looks at a Service, and why not.

use daymark_case::Case;
use daymark_model::audience::{self, NotProxied};
use daymark_model::input::{ClusterIps, LoadBalancerRequest};
use daymark_model::{Change, Family, Service};

/// The Service of a case's line.
fn service(line: &str) -> Service {
    let case = Case::parse("here", &format!("service {line}")).expect("the line is a Service");
    match &case.steps[0].changes[0] {
        Change::Service(_, Some(service)) => service.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_proxy_serves_what_has_a_cluster_ip_and_no_other_proxy() {
    for (line, verdict) in [
        ("web ClusterIP 80/TCP cluster=10.96.0.20", Ok(())),
        ("web NodePort 80/TCP cluster=fd00:10:96::20", Ok(())),
        ("web LoadBalancer 80/TCP cluster=10.96.0.20", Ok(())),
        ("web ClusterIP 80/TCP", Err(NotProxied::NoClusterIp)),
        (
            "web ClusterIP 80/TCP cluster=None",
            Err(NotProxied::Headless),
        ),
        (
            "web ExternalName=example.com",
            Err(NotProxied::ExternalName),
        ),
        (
            "web ExternalName=example.com cluster=10.96.0.20",
            Err(NotProxied::ExternalName),
        ),
        (
            "web ClusterIP 80/TCP cluster=10.96.0.20 proxy-name=other",
            Err(NotProxied::OtherProxy),
        ),
        (
            "web ClusterIP 80/TCP cluster=10.96.0.20 proxy-name=",
            Err(NotProxied::OtherProxy),
        ),
    ] {
        assert_eq!(audience::proxy(&service(line)), verdict, "{line}");
    }
}

#[test]
fn dns_names_every_service_that_has_something_to_name() {
    for (line, named) in [
        ("web ClusterIP 80/TCP cluster=10.96.0.20", true),
        (
            "web ClusterIP 80/TCP cluster=10.96.0.20 proxy-name=other",
            true,
        ),
        ("web ClusterIP 80/TCP cluster=None", true),
        ("web ExternalName=example.com", true),
        ("web ClusterIP 80/TCP", false),
        ("web NodePort 80/TCP", false),
        ("web LoadBalancer 80/TCP", false),
    ] {
        assert_eq!(audience::dns(&service(line)), named, "{line}");
    }
}

#[test]
fn a_load_balancer_takes_its_own_class_alone() {
    let plain = "web LoadBalancer 80/TCP cluster=10.96.0.20";
    let classed = "web LoadBalancer 80/TCP cluster=10.96.0.20 lb-class=example.com/lb";
    let other_type = "web NodePort 80/TCP cluster=10.96.0.20 lb-class=example.com/lb";
    for (line, class, taken) in [
        (plain, None, true),
        (plain, Some("example.com/lb"), false),
        (classed, None, false),
        (classed, Some("example.com/lb"), true),
        (classed, Some("example.com/other"), false),
        (other_type, Some("example.com/lb"), false),
        ("web NodePort 80/TCP cluster=10.96.0.20", None, false),
    ] {
        assert_eq!(
            audience::load_balancer(&service(line), class),
            taken,
            "{line} {class:?}"
        );
    }
    let mut asks_without_class = service(plain);
    asks_without_class.load_balancer = Some(Box::new(LoadBalancerRequest::default()));
    assert!(audience::load_balancer(&asks_without_class, None));
}

#[test]
fn a_cluster_ip_is_found_by_its_family() {
    let both = service("web ClusterIP 80/TCP cluster=fd00:10:96::20,10.96.0.20").cluster_ips;
    let text = |family| both.of(family).map(|ip| ip.to_string());
    assert_eq!(text(Family::V4).as_deref(), Some("10.96.0.20"));
    assert_eq!(text(Family::V6).as_deref(), Some("fd00:10:96::20"));
    assert_eq!(both.all().len(), 2);
    for none in [ClusterIps::Unset, ClusterIps::Headless] {
        assert!(none.all().is_empty());
        assert_eq!(none.of(Family::V4), None);
    }
}
