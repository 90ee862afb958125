//! Who may do what: a fixed table of roles by group, instead of RBAC objects.
//!
//! | group | may |
//! |---|---|
//! | `system:masters` | everything |
//! | `daymark:controllers` | everything |
//! | `daymark:viewers` | read everything but Secrets |
//! | `daymark:agents` | read what the proxy, DNS and announcers need; write Events and their announcer's Lease |
//! | `system:nodes` | read that and Pods, ConfigMaps, Secrets; write their own Node, Lease and Pods' status, and Events |
//!
//! A Lease says who lives: whoever may write another's can keep a dead node ready, or an address at a node that is
//! gone. The credential of a node is as safe as the node, so it reaches no Lease but the node's own.
//!
//! What a server is handed as [`grant::Grant`]s comes on top.
//!
//! Whoever has a client certificate may read discovery, OpenAPI, the version and the metrics.

pub(crate) mod grant;

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
    /// The object's name.
    pub(crate) name: Name<'a>,
}

/// What is known of an object's name when rights are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// It is this; empty for a collection, and where the server makes it up.
    Known(&'a str),
    /// It is in a body that was not read yet: [`allow`] is asked once more when it was.
    InBody,
}

impl<'a> Name<'a> {
    /// What the path alone says of it.
    pub(crate) fn in_path(verb: ApiVerb, target: &'a Target) -> Self {
        match verb {
            Create if target.name.is_empty() => Self::InBody,
            _ => Self::Known(&target.name),
        }
    }

    fn is(self, wanted: &str) -> bool {
        match self {
            Self::Known(name) => name == wanted,
            Self::InBody => true,
        }
    }
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
    /// The Lease in that namespace that is named after the node, behind a prefix.
    OwnLease(&'static str, &'static str),
    /// Pods that are bound to the node.
    OwnPods,
}

use ApiVerb::{Create, Delete, DeleteCollection, Get, List, Patch, Update, Watch};

/// What an announcer renews, and deletes when it ends so that others take over at once: see `announcer::lease` of `lb`.
const ANNOUNCER: Limit = Limit::OwnLease("kube-system", "daymark-announcer-");

/// What a kubelet renews.
const KUBELET: Limit = Limit::OwnLease("kube-node-lease", "");

const READ: &[ApiVerb] = &[Get, List, Watch];
const FOLLOW: &[ApiVerb] = &[List, Watch];
const WRITE: &[ApiVerb] = &[Create, Update, Patch];
const CHANGE: &[ApiVerb] = &[Update, Patch];
const OWN: &[ApiVerb] = &[Get, Create, Update, Patch, Delete];
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
    rule("daymark:agents", FOLLOW, MODEL, Limit::All),
    // The owner of its Lease.
    rule("daymark:agents", &[Get], &["nodes"], Limit::All),
    rule("daymark:agents", WRITE, &["events"], Limit::All),
    rule("daymark:agents", OWN, &["leases"], ANNOUNCER),
    rule("system:nodes", READ, MODEL, Limit::All),
    rule(
        "system:nodes",
        READ,
        &["pods", "configmaps", "secrets"],
        Limit::All,
    ),
    rule("system:nodes", &[Create], &["nodes"], Limit::OwnName),
    rule(
        "system:nodes",
        CHANGE,
        &["nodes", "nodes/status"],
        Limit::OwnName,
    ),
    rule("system:nodes", WRITE, &["leases"], KUBELET),
    rule(
        "system:nodes",
        CHANGE,
        &["pods", "pods/status"],
        Limit::OwnPods,
    ),
    rule("system:nodes", &[Delete], &["pods"], Limit::OwnPods),
    rule("system:nodes", WRITE, &["events"], Limit::All),
];

/// The name of a node's user is one of these, its kubelet's or its agent's, and the node's name.
const NODE_USERS: [&str; 2] = ["system:node:", "daymark:agent:"];

/// Lets the request pass, or answers 403 in upstream's words, with what the user may write instead (404 for what is
/// not served).
pub(crate) fn allow(user: &User, asked: &Attributes<'_>, server: &Server) -> Result<(), Status> {
    let by_role = RULES.iter().any(|rule| rule.permits(user, asked, server));
    if by_role || server.grants.permit(user, asked) {
        return Ok(());
    }
    let Target {
        group,
        version,
        resource,
        namespace,
        ..
    } = asked.target;
    let name = match asked.name {
        Name::Known(name) => name,
        Name::InBody => "",
    };
    let place = server
        .registry
        .position(group, version, resource)
        .ok_or_else(|| Status::unserved_kind(group, version, resource))?;
    let row = &server.registry.entries()[place].kind.resource;
    let scope = match namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let own = RULES.iter().find_map(|rule| rule.own(user, asked));
    let why = format!(
        "User {:?} cannot {} resource {:?} in API group {group:?} {scope}{}",
        user.name,
        asked.verb.as_str(),
        asked.resource(),
        own.map_or_else(String::new, |own| format!(": it may do that to {own} only")),
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
        self.is_about(user, asked) && self.limit.holds(user, asked, server)
    }

    /// What the user may do this to by this right, if it is limited to what belongs to its node.
    fn own(&self, user: &User, asked: &Attributes<'_>) -> Option<String> {
        let node = node_of(user).filter(|_| self.is_about(user, asked))?;
        match self.limit {
            Limit::All | Limit::NoSecrets => None,
            Limit::OwnName => Some(format!("{node:?}")),
            Limit::OwnLease(namespace, prefix) => {
                Some(format!("{:?}", format!("{namespace}/{prefix}{node}")))
            }
            Limit::OwnPods => Some(format!("Pods on node {node:?}")),
        }
    }

    /// Whether the right is about this verb on this resource, and the user has it.
    fn is_about(&self, user: &User, asked: &Attributes<'_>) -> bool {
        let resource = asked.resource();
        user.groups.iter().any(|group| group == self.group)
            && self.verbs.contains(&asked.verb)
            && self
                .resources
                .iter()
                .any(|known| *known == "*" || *known == resource)
    }
}

impl Limit {
    fn holds(self, user: &User, asked: &Attributes<'_>, server: &Server) -> bool {
        let (target, node) = (asked.target, node_of(user));
        match self {
            Self::All => true,
            Self::NoSecrets => target.resource != "secrets",
            Self::OwnName => node.is_some_and(|node| asked.name.is(node)),
            Self::OwnLease(namespace, prefix) => {
                let own = |node| asked.name.is(&format!("{prefix}{node}"));
                target.namespace == namespace && node.is_some_and(own)
            }
            Self::OwnPods => node.is_some_and(|node| runs(node, target, server)),
        }
    }
}

/// The node that a user is the kubelet or the agent of.
fn node_of(user: &User) -> Option<&str> {
    NODE_USERS
        .iter()
        .find_map(|prefix| user.name.strip_prefix(prefix))
        .filter(|node| !node.is_empty())
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
