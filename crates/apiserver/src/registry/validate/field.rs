//! What is wrong with one field of an object, in the words of Kubernetes.
//!
//! Source: `k8s.io/apimachinery/pkg/util/validation/field` (paths, error types and how a message is put together).

use std::fmt;

use serde_json::Value;

use crate::status::{Cause, CauseReason};

/// The place of a field in an object: `spec.ports[0].nodePort`, `metadata.labels[app]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A path that starts at a field of the object itself.
    pub fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    /// The field `name` below this one.
    pub fn child(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    /// The entry at `index` of this list, counted from zero.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as the API writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The type of a field error: it decides the machine-readable reason of the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It must be set.
    Required,
    /// It is out of form or out of range.
    Invalid,
    /// It is none of those that exist.
    NotSupported,
    /// It is there twice.
    Duplicate,
    /// It may not be set here.
    Forbidden,
    /// It has too many bytes.
    TooLong,
    /// It has too many entries.
    TooMany,
}

impl Kind {
    fn reason(self) -> CauseReason {
        match self {
            Self::Required => CauseReason::Required,
            Self::Invalid => CauseReason::Invalid,
            Self::NotSupported => CauseReason::NotSupported,
            Self::Duplicate => CauseReason::Duplicate,
            Self::Forbidden => CauseReason::Forbidden,
            Self::TooLong => CauseReason::TooLong,
            Self::TooMany => CauseReason::TooMany,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
        }
    }

    /// Whether the message repeats the value that was refused.
    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong)
    }
}

/// One field error: `path: what: value: why`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What sort of mistake it is.
    pub kind: Kind,
    /// Where.
    pub path: Path,
    /// The value that was refused.
    pub bad: Value,
    /// Why; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(kind: Kind, path: &Path, bad: Value, detail: impl Into<String>) -> Self {
        Self {
            kind,
            path: path.clone(),
            bad,
            detail: detail.into(),
        }
    }

    /// The field must be set; `detail` may be empty.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(Kind::Required, path, Value::Null, detail)
    }

    /// The value is out of form or out of range.
    pub fn invalid(path: &Path, bad: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, path, bad.into(), detail)
    }

    /// The value is none of those that exist, which the message lists in the order given.
    pub fn not_supported(path: &Path, bad: impl Into<Value>, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|k| format!("\"{k}\"")).collect();
        Self::new(
            Kind::NotSupported,
            path,
            bad.into(),
            format!("supported values: {}", known.join(", ")),
        )
    }

    /// The value is there twice.
    pub fn duplicate(path: &Path, bad: impl Into<Value>) -> Self {
        Self::new(Kind::Duplicate, path, bad.into(), "")
    }

    /// The field may not be set here.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, path, Value::Null, detail)
    }

    /// The value has more than `max` bytes.
    pub fn too_long(path: &Path, max: usize) -> Self {
        Self::new(
            Kind::TooLong,
            path,
            Value::Null,
            format!("may not be more than {max} bytes"),
        )
    }

    /// The list has `actual` entries, more than `max`.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        Self::new(
            Kind::TooMany,
            path,
            actual.into(),
            format!("must have at most {max} {items}"),
        )
    }

    /// The message without the path, as a cause carries it.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        if self.kind.shows_value() {
            text.push_str(": ");
            text.push_str(&self.bad.to_string());
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        Self {
            reason: error.kind.reason(),
            field: error.path.0.clone(),
            message: error.body(),
        }
    }
}

/// The causes of a 422, one for each field error.
pub fn causes(errors: Vec<FieldError>) -> Vec<Cause> {
    errors.into_iter().map(Cause::from).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_put_together_as_upstream_does() {
        let ports = Path::new("spec").child("ports");
        let rows: &[(FieldError, &str)] = &[
            (
                FieldError::required(&ports, ""),
                "spec.ports: Required value",
            ),
            (
                FieldError::required(&ports.index(0).child("name"), "why"),
                "spec.ports[0].name: Required value: why",
            ),
            (
                FieldError::invalid(
                    &ports.index(1).child("port"),
                    0,
                    "must be between 1 and 65535, inclusive",
                ),
                "spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                FieldError::duplicate(&ports.index(1).child("name"), "x"),
                "spec.ports[1].name: Duplicate value: \"x\"",
            ),
            (
                FieldError::not_supported(
                    &ports.index(0).child("protocol"),
                    "FOO",
                    &["SCTP", "TCP", "UDP"],
                ),
                "spec.ports[0].protocol: Unsupported value: \"FOO\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                FieldError::forbidden(&ports, "no"),
                "spec.ports: Forbidden: no",
            ),
            (
                FieldError::too_long(&ports, 63),
                "spec.ports: Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many(&ports, 9, 8),
                "spec.ports: Too many: 9: must have at most 8 items",
            ),
            (
                FieldError::invalid(&ports, json!(["a"]), "x"),
                "spec.ports: Invalid value: [\"a\"]: x",
            ),
            (
                FieldError::invalid(&ports, Value::Null, "field is immutable"),
                "spec.ports: Invalid value: null: field is immutable",
            ),
        ];
        for (error, text) in rows {
            assert_eq!(error.to_string(), *text);
        }
    }
}
