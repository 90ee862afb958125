//! Who may do what: a fixed table of roles by group, instead of RBAC objects.
//!
//! | group | may |
//! |---|---|
//! | `system:masters` | everything |
//! | `daymark:controllers` | everything |
//! | `daymark:viewers` | read everything but Secrets |
//! | `daymark:agents` | read what the proxy, DNS and announcers need; write Events and Leases |
//! | `system:nodes` | read that and Pods, ConfigMaps, Secrets; write their own Node, Lease and Pods' status, and Events |
//!
//! Whoever has a client certificate may read discovery, OpenAPI, the version and the metrics.

use http::Method;

use crate::http::{Query, Target};
use crate::json;
use crate::registry::User;
use crate::server::Server;
use crate::status::Status;

/// The verbs that rights are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiVerb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl ApiVerb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// What is asked.
pub(crate) struct Attributes<'a> {
    /// The verb.
    pub(crate) verb: ApiVerb,
    /// The resource, and the object if there is one.
    pub(crate) target: &'a Target,
}

/// The verb of a request on a resource. A watch on a named object is a plain get.
pub(crate) fn verb(method: &Method, target: &Target, query: &Query) -> Result<ApiVerb, Status> {
    let collection = target.name.is_empty();
    match method.as_str() {
        "GET" | "HEAD" if !collection => Ok(Get),
        "GET" | "HEAD" if query.flag("watch")? == Some(true) => Ok(Watch),
        "GET" | "HEAD" => Ok(List),
        "POST" => Ok(Create),
        "PUT" => Ok(Update),
        "PATCH" => Ok(Patch),
        "DELETE" if collection => Ok(DeleteCollection),
        "DELETE" => Ok(Delete),
        _ => Err(Status::method_not_allowed(
            "the server does not allow this method on the requested resource",
        )),
    }
}

/// A right of a group.
struct Rule {
    group: &'static str,
    verbs: &'static [ApiVerb],
    /// Resources and subresources by plural name; `*` is all.
    resources: &'static [&'static str],
    limit: Limit,
}

/// To which objects a right is limited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    All,
    /// All but Secrets.
    NoSecrets,
    /// The object with the node's own name.
    OwnName,
    /// Pods that are bound to the node.
    OwnPods,
}

use ApiVerb::{Create, Delete, DeleteCollection, Get, List, Patch, Update, Watch};

const READ: &[ApiVerb] = &[Get, List, Watch];
const WRITE: &[ApiVerb] = &[Create, Update, Patch];
const CHANGE: &[ApiVerb] = &[Update, Patch];
const EVERYTHING: &[ApiVerb] = &[
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
];

/// What the proxy, DNS and announcers read.
const MODEL: &[&str] = &[
    "services",
    "endpointslices",
    "nodes",
    "namespaces",
    "servicecidrs",
    "leases",
    "ipaddresspools",
    "l2advertisements",
];

const fn rule(
    group: &'static str,
    verbs: &'static [ApiVerb],
    resources: &'static [&'static str],
    limit: Limit,
) -> Rule {
    Rule {
        group,
        verbs,
        resources,
        limit,
    }
}

const RULES: &[Rule] = &[
    rule("system:masters", EVERYTHING, &["*"], Limit::All),
    rule("daymark:controllers", EVERYTHING, &["*"], Limit::All),
    rule("daymark:viewers", READ, &["*"], Limit::NoSecrets),
    rule("daymark:agents", READ, MODEL, Limit::All),
    rule("daymark:agents", WRITE, &["events", "leases"], Limit::All),
    rule("system:nodes", READ, MODEL, Limit::All),
    rule(
        "system:nodes",
        READ,
        &["pods", "configmaps", "secrets"],
        Limit::All,
    ),
    rule("system:nodes", &[Create], &["nodes", "leases"], Limit::All),
    rule(
        "system:nodes",
        CHANGE,
        &["nodes", "nodes/status", "leases"],
        Limit::OwnName,
    ),
    rule(
        "system:nodes",
        CHANGE,
        &["pods", "pods/status"],
        Limit::OwnPods,
    ),
    rule("system:nodes", &[Delete], &["pods"], Limit::OwnPods),
    rule("system:nodes", WRITE, &["events"], Limit::All),
];

/// The name of a node's user is this and the node's name.
const NODE_USER: &str = "system:node:";

/// Lets the request pass, or answers 403 in upstream's words (404 for what is not served).
pub(crate) fn allow(user: &User, asked: &Attributes<'_>, server: &Server) -> Result<(), Status> {
    if RULES.iter().any(|rule| rule.permits(user, asked, server)) {
        return Ok(());
    }
    let Target {
        group,
        version,
        resource,
        namespace,
        name,
        ..
    } = asked.target;
    let place = server
        .registry
        .position(group, version, resource)
        .ok_or_else(|| Status::unserved_kind(group, version, resource))?;
    let row = &server.registry.entries()[place].kind.resource;
    let scope = match namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = format!(
        "User {:?} cannot {} resource {:?} in API group {group:?} {scope}",
        user.name,
        asked.verb.as_str(),
        asked.resource(),
    );
    Err(Status::forbidden(row, name, why))
}

impl Attributes<'_> {
    /// The resource as rights name it: `services`, or `services/status`.
    fn resource(&self) -> String {
        match self.target.subresource.as_str() {
            "" => self.target.resource.clone(),
            subresource => format!("{}/{subresource}", self.target.resource),
        }
    }
}

impl Rule {
    fn permits(&self, user: &User, asked: &Attributes<'_>, server: &Server) -> bool {
        let resource = asked.resource();
        user.groups.iter().any(|group| group == self.group)
            && self.verbs.contains(&asked.verb)
            && self
                .resources
                .iter()
                .any(|known| *known == "*" || *known == resource)
            && self.limit.holds(user, asked.target, server)
    }
}

impl Limit {
    fn holds(self, user: &User, target: &Target, server: &Server) -> bool {
        let node = user.name.strip_prefix(NODE_USER);
        match self {
            Self::All => true,
            Self::NoSecrets => target.resource != "secrets",
            Self::OwnName => node == Some(target.name.as_str()),
            Self::OwnPods => node.is_some_and(|node| runs(node, target, server)),
        }
    }
}

/// Whether a Pod is bound to a node. A Pod that is not there may pass: the answer is 404 then.
fn runs(node: &str, target: &Target, server: &Server) -> bool {
    let key = daymark_store::Key::new("pods", target.namespace.as_str(), target.name.as_str());
    let snapshot = server.store.snapshot();
    snapshot
        .get(&key)
        .is_none_or(|entry| json::text(entry.value.value(), "/spec/nodeName") == node)
}

#[cfg(test)]
mod tests;
