//! What a write request brings: its body, its options.

use std::time::Duration;

use axum::body::Body;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::{Query, negotiate};
use crate::auth::ApiVerb;
use crate::json;
use crate::registry::write::{DeleteOptions, Propagation};
use crate::registry::{DryRun, FieldValidation};
use crate::schema::body::{Format, Parsed, parse};
use crate::status::{Cause, CauseReason, Status};

/// The most bytes that a body may have, as upstream.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a body.
pub(super) async fn bytes(body: Body) -> Result<bytes::Bytes, Status> {
    let body = Limited::new(body, BODY_LIMIT).collect();
    let arrived = tokio::time::timeout(BODY_TIMEOUT, body).await;
    let arrived = arrived.map_err(|_| {
        Status::bad_request(format!(
            "the body did not arrive within {} s",
            BODY_TIMEOUT.as_secs()
        ))
    })?;
    match arrived {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(Status::too_large(
            format!("Request entity too large: limit is {BODY_LIMIT}"),
        )),
        Err(error) => Err(Status::bad_request(format!(
            "the body could not be read: {error}"
        ))),
    }
}

/// An object in a body, by its content type.
pub(super) fn object(headers: &HeaderMap, bytes: &[u8]) -> Result<Parsed, Status> {
    let format = negotiate::body_format(headers)?;
    parse(format, bytes).map_err(|why| {
        let language = match format {
            Format::Json => "json",
            Format::Yaml => "yaml",
        };
        Status::bad_request(format!(
            "couldn't get version/kind; {language} parse error: {why}"
        ))
    })
}

/// The document of a patch.
pub(super) fn patch(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::bad_request(format!("invalid JSON patch: {error}")))
}

/// `dryRun=All` is the only value there is.
pub(super) fn dry_run(
    verb: ApiVerb,
    query: &Query,
    options: Option<&Value>,
) -> Result<DryRun, Status> {
    let listed = options.map_or_else(Vec::new, |options| json::texts(options, "/dryRun"));
    let mut asked = query
        .all("dryRun")
        .chain(listed)
        .filter(|value| !value.is_empty())
        .peekable();
    if asked.peek().is_none() {
        return Ok(DryRun::Off);
    }
    match asked.find(|value| *value != "All") {
        None => Ok(DryRun::All),
        Some(other) => Err(unsupported(verb, "dryRun", other, "\"All\"")),
    }
}

/// What unknown fields do; unset means a warning. A delete has no such option.
pub(super) fn field_validation(verb: ApiVerb, query: &Query) -> Result<FieldValidation, Status> {
    match query.get("fieldValidation") {
        _ if [ApiVerb::Delete, ApiVerb::DeleteCollection].contains(&verb) => {
            Ok(FieldValidation::Warn)
        }
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => Err(unsupported(
            verb,
            "fieldValidation",
            other,
            "\"Ignore\", \"Warn\", \"Strict\"",
        )),
    }
}

fn unsupported(verb: ApiVerb, field: &str, value: &str, known: &str) -> Status {
    let cause = Cause {
        reason: CauseReason::NotSupported,
        field: field.to_owned(),
        message: format!("Unsupported value: {value:?}: supported values: {known}"),
    };
    let options = match verb {
        ApiVerb::Create => "CreateOptions.meta.k8s.io",
        ApiVerb::Update => "UpdateOptions.meta.k8s.io",
        ApiVerb::Patch => "PatchOptions.meta.k8s.io",
        ApiVerb::Delete | ApiVerb::DeleteCollection => "DeleteOptions.meta.k8s.io",
        ApiVerb::Get | ApiVerb::List | ApiVerb::Watch => unreachable!("reads write nothing"),
    };
    Status::invalid_kind(options, "", vec![cause])
}

/// The options of a delete, from its body and its query; the body wins.
pub(super) fn delete_options(query: &Query, body: Option<&Value>) -> Result<DeleteOptions, Status> {
    let text = |pointer: &str| {
        body.map(|body| json::text(body, pointer))
            .unwrap_or_default()
    };
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let grace = match body
        .and_then(|body| body.get("gracePeriodSeconds"))
        .and_then(Value::as_i64)
    {
        Some(seconds) => Some(seconds),
        None => query
            .number("gracePeriodSeconds")?
            .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
    };
    let policy = match text("/propagationPolicy") {
        "" => query.get("propagationPolicy"),
        policy => policy,
    };
    Ok(DeleteOptions {
        uid: some(text("/preconditions/uid")),
        resource_version: some(text("/preconditions/resourceVersion")),
        grace_seconds: grace,
        propagation: propagation(policy, body)?,
    })
}

fn propagation(policy: &str, body: Option<&Value>) -> Result<Propagation, Status> {
    let orphans = body
        .and_then(|body| body.get("orphanDependents"))
        .and_then(Value::as_bool)
        == Some(true);
    match policy {
        "" if !orphans => Ok(Propagation::Background),
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        "Orphan" | "" => Err(Status::bad_request(
            "propagationPolicy: Orphan is not served by this API server: remove metadata.ownerReferences from the \
             dependents first, then delete with Background",
        )),
        other => Err(Status::bad_request(format!(
            "propagationPolicy: {other:?} is none of Background, Foreground, Orphan"
        ))),
    }
}

/// The options object of a delete's body, if there is one.
pub(super) fn delete_body(headers: &HeaderMap, bytes: &[u8]) -> Result<Option<Value>, Status> {
    match bytes.is_empty() {
        true => Ok(None),
        false => object(headers, bytes).map(|parsed| Some(parsed.value)),
    }
}
