//! What may not change once it is set.
//!
//! Source: `pkg/apis/core/validation/validation.go` (`ValidateServiceUpdate`) of Kubernetes.

use serde_json::Value;

use super::view::{Service, Type};
use crate::registry::validate::read::some_text;
use crate::registry::validate::{FieldError, Path};

const FIXED: &str = "may not change once set";

/// The rules between the stored Service and the new one.
pub(super) fn validate(service: Service<'_>, before: Service<'_>) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    // A type that there is not has neither; that it is none is told elsewhere.
    if service.needs_cluster_ip() && !before.is(Type::ExternalName) {
        wrong.extend(validate_list(
            &IPS,
            service,
            &service.cluster_ips(),
            &before.cluster_ips(),
        ));
        if !service.is_headless() && !before.is_headless() {
            wrong.extend(validate_list(
                &FAMILIES,
                service,
                &service.families(),
                &before.families(),
            ));
        }
    }
    wrong.extend(validate_class(service, before));
    wrong.extend(validate_health_port(service, before));
    wrong
}

/// The names of one of the two lists whose first entry is fixed and whose second may come and go.
struct Listed {
    key: &'static str,
    one: &'static str,
}

const IPS: Listed = Listed {
    key: "clusterIPs",
    one: "clusterIP",
};
const FAMILIES: Listed = Listed {
    key: "ipFamilies",
    one: "ipFamily",
};

fn validate_list(
    listed: &Listed,
    service: Service<'_>,
    new: &[&str],
    old: &[&str],
) -> Vec<FieldError> {
    let path = Path::new("spec").child(listed.key);
    let shown = || {
        service
            .spec
            .get(listed.key)
            .cloned()
            .unwrap_or(Value::Array(Vec::new()))
    };
    let mut wrong = Vec::new();
    if new.is_empty() && !old.is_empty() {
        let why = format!("primary {} can not be unset", listed.one);
        wrong.push(FieldError::invalid(&path.index(0), shown(), why));
    }
    // With as many entries as before each one is fixed, otherwise the first.
    let fixed = if new.len() == old.len() { new.len() } else { 1 };
    let pairs = new.iter().zip(old).take(fixed).enumerate();
    let changed = pairs.filter(|(_, (new, old))| new != old);
    wrong.extend(changed.map(|(i, _)| FieldError::invalid(&path.index(i), shown(), FIXED)));
    if new.len() == 1 && old.len() > 1 && service.policy() != Some("SingleStack") {
        let path = Path::new("spec").child("ipFamilyPolicy");
        let why = format!(
            "must be set to 'SingleStack' when releasing the secondary {}",
            listed.one
        );
        wrong.push(FieldError::invalid(
            &path,
            service.policy().unwrap_or_default(),
            why,
        ));
    }
    wrong
}

fn validate_class(service: Service<'_>, before: Service<'_>) -> Option<FieldError> {
    if !service.is(Type::LoadBalancer) || !before.is(Type::LoadBalancer) {
        return None;
    }
    let class = some_text(service.spec, "loadBalancerClass");
    let path = Path::new("spec").child("loadBalancerClass");
    (class != some_text(before.spec, "loadBalancerClass"))
        .then(|| FieldError::invalid(&path, class, FIXED))
}

fn validate_health_port(service: Service<'_>, before: Service<'_>) -> Option<FieldError> {
    let needed = service.needs_health_port() && before.needs_health_port();
    let path = Path::new("spec").child("healthCheckNodePort");
    (needed && service.health_port() != before.health_port())
        .then(|| FieldError::forbidden(&path, "field is immutable"))
}
