//! Selectors: a plain map of labels, and `matchLabels` with `matchExpressions`.
//!
//! Source: `k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation.go`.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::meta::validate_labels;
use super::names;
use super::read::{at, list, text};

/// A `metav1.LabelSelector`.
pub fn validate_label_selector(path: &Path, selector: &Value) -> Vec<FieldError> {
    let mut wrong = validate_labels(&path.child("matchLabels"), at(selector, "matchLabels"));
    for (i, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        wrong.extend(validate_requirement(
            &path.child("matchExpressions").index(i),
            requirement,
        ));
    }
    wrong
}

fn validate_requirement(path: &Path, requirement: &Value) -> Vec<FieldError> {
    let values = list(requirement, "values");
    let at_values = path.child("values");
    let mut wrong = Vec::new();
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            wrong.push(FieldError::required(
                &at_values,
                "must be specified when `operator` is 'In' or 'NotIn'",
            ));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            wrong.push(FieldError::forbidden(&at_values, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => wrong.push(FieldError::invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        )),
    }
    wrong.extend(names::invalid(
        &path.child("key"),
        text(requirement, "key"),
        names::qualified_name,
    ));
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        wrong.extend(names::invalid(
            &at_values.index(i),
            value,
            names::label_value,
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requirements_need_the_values_their_operator_takes() {
        let rows = [
            (json!({ "matchLabels": { "a": "b" } }), ""),
            (json!({ "matchLabels": { "a": "b c" } }), "s.matchLabels[a]"),
            (
                json!({ "matchExpressions": [{ "key": "a", "operator": "In", "values": ["b"] }] }),
                "",
            ),
            (
                json!({ "matchExpressions": [{ "key": "a", "operator": "In" }] }),
                "s.matchExpressions[0].values",
            ),
            (
                json!({ "matchExpressions": [{ "key": "a", "operator": "Exists", "values": ["b"] }] }),
                "s.matchExpressions[0].values",
            ),
            (
                json!({ "matchExpressions": [{ "key": "a", "operator": "Like" }] }),
                "s.matchExpressions[0].operator",
            ),
            (
                json!({ "matchExpressions": [{ "operator": "Exists" }] }),
                "s.matchExpressions[0].key",
            ),
        ];
        for (selector, expected) in rows {
            let wrong = validate_label_selector(&Path::new("s"), &selector);
            assert_eq!(
                wrong.first().map_or("", |e| e.path.as_str()),
                expected,
                "{selector}"
            );
        }
    }
}
