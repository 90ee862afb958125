//! A request body as an object of its kind.

use serde_json::{Map, Value};

use super::FieldValidation;
use super::kinds::Kind;
use crate::json;
use crate::schema::body::Parsed;
use crate::schema::{Schemas, prune};
use crate::status::Status;

/// A body in the shape of its kind.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    /// The object, in the version of the request.
    pub(crate) object: Value,
    /// What the client should hear about unknown and duplicate fields.
    pub(crate) warnings: Vec<String>,
}

/// Decodes a body: its kind must be the endpoint's, types must fit, unknown fields go by `validation`.
/// `metadata.managedFields` is accepted and dropped.
pub(crate) fn decode(
    kind: &Kind,
    body: Parsed,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let Parsed {
        value: mut object,
        duplicates,
    } = body;
    check_kind(kind, &object)?;
    let metadata = json::metadata(&mut object);
    metadata.shift_remove("managedFields");
    metadata.shift_remove("selfLink");
    let schemas = Schemas::all();
    let root = schemas
        .root(kind.definition)
        .expect("every kind has a schema");
    let unknown = prune(schemas, root, &mut object)
        .map_err(|mismatch| Status::bad_request(format!("{}: {mismatch}", unfit(kind))))?;
    let warnings = findings(kind, &duplicates, &unknown, validation)?;
    Ok(Decoded {
        object: ordered(kind, object),
        warnings,
    })
}

fn check_kind(kind: &Kind, object: &Value) -> Result<(), Status> {
    if !object.is_object() {
        let message = format!(
            "{}: the body must be an object, not {}",
            unfit(kind),
            json::go_kind(object)
        );
        return Err(Status::bad_request(message));
    }
    let (wanted_version, wanted_kind) = (kind.resource.api_version(), kind.resource.kind);
    let (version, found) = (
        json::text(object, "/apiVersion"),
        json::text(object, "/kind"),
    );
    if !found.is_empty() && found != wanted_kind {
        let message =
            format!("{found} in version {version:?} cannot be handled as a {wanted_kind}");
        return Err(Status::bad_request(message));
    }
    if !version.is_empty() && version != wanted_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted_version})"
        )));
    }
    Ok(())
}

fn unfit(kind: &Kind) -> String {
    let name = kind.resource.kind;
    format!(
        "{name} in version {:?} cannot be handled as a {name}",
        kind.resource.version
    )
}

fn findings(
    kind: &Kind,
    duplicates: &[String],
    unknown: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let duplicates = duplicates
        .iter()
        .map(|path| format!("duplicate field \"{path}\""));
    let unknown = unknown
        .iter()
        .map(|path| format!("unknown field \"{path}\""));
    let found: Vec<String> = duplicates.chain(unknown).collect();
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Strict if !found.is_empty() => {
            let message = format!(
                "{}: strict decoding error: {}",
                unfit(kind),
                found.join(", ")
            );
            Err(Status::bad_request(message))
        }
        FieldValidation::Warn | FieldValidation::Strict => Ok(found),
    }
}

/// apiVersion, kind and metadata first, as upstream writes them.
fn ordered(kind: &Kind, object: Value) -> Value {
    let Value::Object(mut fields) = object else {
        return object;
    };
    let mut out = Map::with_capacity(fields.len() + 2);
    out.insert("apiVersion".to_owned(), kind.resource.api_version().into());
    out.insert("kind".to_owned(), kind.resource.kind.into());
    let metadata = fields
        .shift_remove("metadata")
        .unwrap_or_else(|| Value::Object(Map::new()));
    out.insert("metadata".to_owned(), metadata);
    fields.shift_remove("apiVersion");
    fields.shift_remove("kind");
    out.extend(fields);
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{FieldValidation, decode};
    use crate::registry::kinds::SERVICE;
    use crate::schema::body::{Format, parse};

    fn check(
        text: &str,
        validation: FieldValidation,
    ) -> Result<(serde_json::Value, Vec<String>), String> {
        let parsed = parse(Format::Json, text.as_bytes()).unwrap();
        let decoded = decode(&SERVICE, parsed, validation).map_err(|status| status.message)?;
        Ok((decoded.object, decoded.warnings))
    }

    #[test]
    fn unknown_and_duplicate_fields_go_by_the_validation_asked_for() {
        let text = r#"{"kind":"Service","spec":{"foo":1},"spec":{"bar":2}}"#;
        let refused = check(text, FieldValidation::Strict).unwrap_err();
        assert_eq!(
            refused,
            "Service in version \"v1\" cannot be handled as a Service: strict decoding error: duplicate field \
             \"spec\", unknown field \"spec.bar\""
        );
        let (object, warnings) = check(text, FieldValidation::Warn).unwrap();
        assert_eq!(
            warnings,
            ["duplicate field \"spec\"", "unknown field \"spec.bar\""]
        );
        assert_eq!(
            object,
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {}})
        );
        assert!(check(text, FieldValidation::Ignore).unwrap().1.is_empty());
    }

    #[test]
    fn a_body_of_another_kind_is_refused() {
        let cases = [
            (
                r#"{"kind":"Pod","apiVersion":"v1"}"#,
                "Pod in version \"v1\" cannot be handled as a Service",
            ),
            (
                r#"{"kind":"Service","apiVersion":"v2"}"#,
                "the API version in the data (v2) does not match the expected API version (v1)",
            ),
            (
                "[]",
                "Service in version \"v1\" cannot be handled as a Service: the body must be an object, not array",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(check(text, FieldValidation::Warn).unwrap_err(), message);
        }
    }

    #[test]
    fn managed_fields_are_accepted_and_dropped() {
        let text = r#"{"metadata":{"name":"a","managedFields":[{"whatever":1}]}}"#;
        let (object, warnings) = check(text, FieldValidation::Strict).unwrap();
        assert_eq!(object["metadata"], json!({"name": "a"}));
        assert!(warnings.is_empty());
    }
}
