//! The three kinds of patch: JSON patch (RFC 6902), merge patch (RFC 7396) and strategic merge patch.

mod strategic;

use serde_json::Value;

use crate::schema::{NodeId, Schemas};
use crate::status::Status;

/// Upstream's limit on the operations of one JSON patch.
const MOST_OPERATIONS: usize = 10_000;

/// A patch, checked before the object is read.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    /// A list of operations.
    Json(json_patch::Patch),
    /// An object whose nulls delete.
    Merge(Value),
    /// A merge that knows list keys and directives.
    Strategic(Value),
}

/// What a `Content-Type` says about the patch in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    Strategic,
}

impl Patch {
    /// Reads the body of a patch request.
    pub(crate) fn parse(kind: PatchType, body: Value) -> Result<Self, Status> {
        match kind {
            PatchType::Json => Self::operations(body),
            PatchType::Merge | PatchType::Strategic if !body.is_object() => Err(
                Status::bad_request("error decoding patch: a patch must be an object"),
            ),
            PatchType::Merge => Ok(Self::Merge(body)),
            PatchType::Strategic => Ok(Self::Strategic(body)),
        }
    }

    fn operations(body: Value) -> Result<Self, Status> {
        let count = body.as_array().map_or(0, Vec::len);
        if count > MOST_OPERATIONS {
            let message = format!(
                "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {count}"
            );
            return Err(Status::too_large(message));
        }
        let operations = serde_json::from_value(body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        Ok(Self::Json(operations))
    }

    /// The patched object. `root` is the kind's schema.
    pub(crate) fn apply(
        &self,
        object: &Value,
        schemas: &Schemas,
        root: NodeId,
    ) -> Result<Value, Status> {
        let mut patched = object.clone();
        match self {
            Self::Json(operations) => {
                json_patch::patch(&mut patched, operations).map_err(|error| {
                    Status::unprocessable(format!(
                        "the server rejected our request due to an error in our request: {error}"
                    ))
                })?
            }
            Self::Merge(patch) => json_patch::merge(&mut patched, patch),
            Self::Strategic(patch) => strategic::apply(schemas, root, &mut patched, patch)
                .map_err(|error| Status::bad_request(error.to_string()))?,
        }
        Ok(patched)
    }
}
