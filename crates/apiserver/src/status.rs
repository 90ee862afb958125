//! The error of the API: a `v1` Status with code, reason, message, details and causes.
//!
//! Clients decide by reason first, then by code. The wording is upstream's
//! (`k8s.io/apimachinery/pkg/api/errors/errors.go`).

use std::fmt;

use serde_json::{Map, Value, json};

use crate::registry::Resource;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// The machine-readable reason.
    pub reason: Reason,
    /// The text for people.
    pub message: String,
    /// What the error is about.
    pub details: Option<Box<Details>>,
}

/// The object and the fields that an error is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The resource or, for an invalid object, the kind.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// One entry for each field that is wrong.
    pub causes: Vec<Cause>,
    /// When to try again, in seconds; 0 means not said.
    pub retry_after_seconds: u32,
    /// A token to go on with after an expired one; shown in the Status' metadata.
    pub continue_token: String,
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The kind of mistake.
    pub reason: CauseReason,
    /// Path such as `spec.ports[0].port`; may be empty.
    pub field: String,
    /// What is wrong, without the path: `Required value`, `Invalid value: 0: must be ...`.
    pub message: String,
}

/// `metav1.CauseType`: the kinds of mistake a field can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseReason {
    /// `FieldValueNotFound`: a reference to something that is not there.
    NotFound,
    /// `FieldValueRequired`
    Required,
    /// `FieldValueDuplicate`
    Duplicate,
    /// `FieldValueInvalid`
    Invalid,
    /// `FieldValueTypeInvalid`
    TypeInvalid,
    /// `FieldValueNotSupported`: not one of the values of an enumeration.
    NotSupported,
    /// `FieldValueForbidden`
    Forbidden,
    /// `FieldValueTooLong`
    TooLong,
    /// `FieldValueTooMany`
    TooMany,
    /// `InternalError`
    Internal,
    /// `NamespaceTerminating`: a cause of 403 that controllers look for.
    NamespaceTerminating,
    /// `ResourceVersionTooLarge`: a cause of 504 on reads of a version that does not exist yet.
    ResourceVersionTooLarge,
    /// `UnexpectedServerResponse`
    UnexpectedServerResponse,
}

impl CauseReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::NamespaceTerminating => "NamespaceTerminating",
            Self::ResourceVersionTooLarge => "ResourceVersionTooLarge",
            Self::UnexpectedServerResponse => "UnexpectedServerResponse",
        }
    }
}

/// `metav1.StatusReason`: what client-go decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the API's own words")]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
    AlreadyExists,
    Conflict,
    Expired,
    RequestEntityTooLarge,
    Invalid,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
    Timeout,
    ServerTimeout,
}

impl Reason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Expired => "Expired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
            Self::ServerTimeout => "ServerTimeout",
        }
    }

    fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::ServerTimeout => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

impl Status {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.name = name.to_owned();
        details.group = resource.group.to_owned();
        details.kind = resource.plural.to_owned();
        self
    }

    fn caused_by(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    /// Tells the client when to try again.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// Hands out a token to go on with.
    pub(crate) fn continuing(mut self, token: String) -> Self {
        self.details.get_or_insert_default().continue_token = token;
        self
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 401: no usable client certificate.
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// 403: `services "x" is forbidden: why`; without a name `services is forbidden: why`.
    pub fn forbidden(resource: &Resource, name: &str, why: impl fmt::Display) -> Self {
        let subject = resource.qualified();
        let message = match name {
            "" => format!("{subject} is forbidden: {why}"),
            name => format!("{subject} {name:?} is forbidden: {why}"),
        };
        Self::new(Reason::Forbidden, message).about(resource, name)
    }

    /// 403 for a path that is no resource: `forbidden: why`.
    pub fn forbidden_path(why: impl fmt::Display) -> Self {
        Self::new(Reason::Forbidden, format!("forbidden: {why}"))
    }

    /// 403 with the cause that controllers look for: the namespace is going away.
    pub fn namespace_terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        Self::forbidden(resource, name, why).caused_by(vec![Cause {
            reason: CauseReason::NamespaceTerminating,
            field: "metadata.namespace".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
        }])
    }

    /// 404: `services "x" not found`.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(
            Reason::NotFound,
            format!("{} {name:?} not found", resource.qualified()),
        )
        .about(resource, name)
    }

    /// 404 for a path that is not served.
    pub fn unknown_path() -> Self {
        Self::new(
            Reason::NotFound,
            "the server could not find the requested resource",
        )
    }

    /// 404 for a kind that real clusters have and this server leaves out, with what there is instead.
    pub(crate) fn unserved_kind(group: &str, version: &str, resource: &str) -> Self {
        let group_version = match group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        let instead = match (group, resource) {
            ("", "endpoints") => "use endpointslices of discovery.k8s.io/v1",
            ("apiextensions.k8s.io", _) => {
                "kinds cannot be added; those of metallb.io/v1beta1 are built in"
            }
            _ => "kubectl api-resources lists what it serves",
        };
        Self::unserved(
            &format!("the resource {resource} of {group_version}"),
            instead,
        )
    }

    /// 404 for something of a real cluster's API server, with what there is instead. It begins as
    /// [`Status::unknown_path`] does.
    pub(crate) fn unserved(what: &str, instead: &str) -> Self {
        let mut status = Self::unknown_path();
        let more =
            format!(": {what} is not served by this API server (daymark, standalone); {instead}");
        status.message.push_str(&more);
        status
    }

    /// 404 for a subresource that real clusters have: `exec`, `log`, `proxy` and the like.
    pub(crate) fn unserved_subresource(plural: &str, subresource: &str) -> Self {
        let message = format!(
            "{plural}/{subresource} is not served by this API server (daymark, standalone)"
        );
        Self::new(Reason::NotFound, message)
    }

    /// 405: the resource does not do that.
    pub fn method_not_allowed(why: impl Into<String>) -> Self {
        Self::new(Reason::MethodNotAllowed, why)
    }

    /// 406: none of the accepted media types can be served.
    pub fn not_acceptable(served: &str) -> Self {
        let message = format!("only the following media types are accepted: {served}");
        Self::new(Reason::NotAcceptable, message)
    }

    /// 415: the body's media type is not read.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(Reason::UnsupportedMediaType, message)
    }

    /// 409: `services "x" already exists`.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(Reason::AlreadyExists, message).about(resource, name)
    }

    /// 409: `Operation cannot be fulfilled on services "x": why`.
    pub fn conflict(resource: &Resource, name: &str, why: impl fmt::Display) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            resource.qualified()
        );
        Self::new(Reason::Conflict, message).about(resource, name)
    }

    /// 409: the object changed since the client read it.
    pub fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 410: the version asked for has been compacted away.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// 410: the version asked for is newer than any of the store, which can only be an older one put back.
    pub fn store_is_older(asked: u64, newest: u64) -> Self {
        Self::expired(format!(
            "too large resource version: {asked}, the newest is {newest}: the store is older than what this client has \
             seen (it was restored from a backup, or made anew): list again and watch from there"
        ))
    }

    /// 413: the request is too large.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(Reason::RequestEntityTooLarge, message)
    }

    /// 422: `Service "x" is invalid: ` and the fields that are wrong.
    pub fn invalid(resource: &Resource, name: &str, causes: Vec<Cause>) -> Self {
        let mut status = Self::invalid_kind(&resource.qualified_kind(), name, causes);
        let details = status.details.get_or_insert_default();
        details.group = resource.group.to_owned();
        details.kind = resource.kind.to_owned();
        status
    }

    /// 422 for something that is no served kind, such as `ListOptions.meta.k8s.io`.
    pub fn invalid_kind(qualified_kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let message = format!("{qualified_kind} {name:?} is invalid: {}", summary(&causes));
        let mut status = Self::new(Reason::Invalid, message).caused_by(causes);
        let details = status.details.get_or_insert_default();
        let (kind, group) = qualified_kind
            .split_once('.')
            .unwrap_or((qualified_kind, ""));
        (details.kind, details.group) = (kind.to_owned(), group.to_owned());
        details.name = name.to_owned();
        status
    }

    /// 422 without fields: a patch that cannot be applied.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(Reason::Invalid, message)
    }

    /// 429: try again later.
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(Reason::TooManyRequests, message).retry_after(seconds)
    }

    /// 500: `Internal error occurred: why`.
    pub fn internal(why: impl fmt::Display) -> Self {
        let message = why.to_string();
        Self::new(
            Reason::InternalError,
            format!("Internal error occurred: {why}"),
        )
        .caused_by(vec![Cause {
            reason: CauseReason::Internal,
            field: String::new(),
            message,
        }])
    }

    /// 503: the store cannot take writes.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Reason::ServiceUnavailable, message)
    }

    /// 504: a read asked for a version that does not exist yet.
    pub fn version_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let cause = Cause {
            reason: CauseReason::ResourceVersionTooLarge,
            field: String::new(),
            message: "Too large resource version".to_owned(),
        };
        Self::new(Reason::Timeout, format!("Timeout: {message}"))
            .caused_by(vec![cause])
            .retry_after(1)
    }

    /// The Status object.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason.as_str(),
        });
        if let Some(details) = &self.details {
            let shown = details.to_json();
            if shown.as_object().is_some_and(|shown| !shown.is_empty()) {
                object["details"] = shown;
            }
            if !details.continue_token.is_empty() {
                object["metadata"]["continue"] = details.continue_token.as_str().into();
            }
        }
        object["code"] = self.code.into();
        object
    }
}

impl Details {
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ] {
            if !text.is_empty() {
                out.insert(key.to_owned(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            out.insert(
                "causes".to_owned(),
                self.causes.iter().map(Cause::to_json).collect(),
            );
        }
        if self.retry_after_seconds > 0 {
            out.insert(
                "retryAfterSeconds".to_owned(),
                self.retry_after_seconds.into(),
            );
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        let mut out = json!({ "reason": self.reason.as_str(), "message": self.message });
        if !self.field.is_empty() {
            out["field"] = self.field.as_str().into();
        }
        out
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.message),
            field => write!(f, "{field}: {}", self.message),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// One error as it is, several in brackets, each text once.
fn summary(causes: &[Cause]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in causes {
        let text = cause.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}
