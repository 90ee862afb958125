//! Lease.
//!
//! Source: `pkg/apis/coordination/validation/validation.go` of Kubernetes.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::meta::validate_object_name;
use super::names::{self, dns1123_subdomain};
use super::read::{at, int, some_text};

/// Strategies of a coordinated election.
const STRATEGIES: [&str; 1] = ["OldestEmulationVersion"];

/// A Lease, new or updated: both follow the same rules.
pub fn validate_lease(object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut wrong = validate_object_name(object, dns1123_subdomain);
    let path = Path::new("spec");
    let spec = &object["spec"];
    if at(spec, "leaseDurationSeconds").is_some() && int(spec, "leaseDurationSeconds") <= 0 {
        let seconds = int(spec, "leaseDurationSeconds");
        wrong.push(FieldError::invalid(
            &path.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    if at(spec, "leaseTransitions").is_some() && int(spec, "leaseTransitions") < 0 {
        let count = int(spec, "leaseTransitions");
        wrong.push(FieldError::invalid(
            &path.child("leaseTransitions"),
            count,
            "must be greater than or equal to 0",
        ));
    }
    let strategy = some_text(spec, "strategy");
    if let Some(strategy) = strategy.filter(|s| !STRATEGIES.contains(s)) {
        // A strategy of one's own is allowed with a domain in front.
        let at = path.child("strategy");
        match strategy.contains('/') {
            true => wrong.extend(names::invalid(&at, strategy, names::qualified_name)),
            false => wrong.push(FieldError::not_supported(&at, strategy, &STRATEGIES)),
        }
    }
    if some_text(spec, "preferredHolder").is_some_and(|h| !h.is_empty())
        && strategy.is_none_or(str::is_empty)
    {
        wrong.push(FieldError::forbidden(
            &path.child("preferredHolder"),
            "may only be specified when strategy is defined",
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leases() {
        let rows = [
            (
                json!({ "leaseDurationSeconds": 40, "holderIdentity": "node-1" }),
                "",
            ),
            (
                json!({ "leaseDurationSeconds": 0 }),
                "spec.leaseDurationSeconds",
            ),
            (json!({ "leaseTransitions": -1 }), "spec.leaseTransitions"),
            (json!({ "strategy": "Mine" }), "spec.strategy"),
            (
                json!({ "strategy": "example.com/mine", "preferredHolder": "a" }),
                "",
            ),
            (json!({ "preferredHolder": "a" }), "spec.preferredHolder"),
        ];
        for (spec, expected) in rows {
            let object = json!({ "metadata": { "name": "a" }, "spec": spec });
            let wrong = validate_lease(&object, None);
            assert_eq!(
                wrong.first().map_or("", |e| e.path.as_str()),
                expected,
                "{object}"
            );
        }
    }
}
