//! Node, Namespace, Event, Lease, ConfigMap and Secret.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Layout, NAME, age, column, integer, or, wide};
use crate::json;

pub(super) const PLAIN: Layout = Layout {
    columns: &[NAME, AGE],
    cells: |object, now| vec![json::name(object).into(), age::of(object, now)],
};

pub(super) const NODE: Layout = Layout {
    columns: &[
        NAME,
        column("Status", "Whether the node is ready."),
        column("Roles", "The roles of the node."),
        AGE,
        column("Version", "The version of the node's kubelet."),
        wide("Internal-IP", "The address inside the cluster."),
        wide("External-IP", "The address from outside."),
        wide("OS-Image", "The operating system."),
        wide("Kernel-Version", "The kernel, with the architecture."),
        wide("Container-Runtime", "What runs the containers."),
    ],
    cells: |node, now| {
        let about = |field: &str| json::text(node, &format!("/status/nodeInfo/{field}")).to_owned();
        vec![
            json::name(node).into(),
            node_status(node).into(),
            or(&node_roles(node), "<none>"),
            age::of(node, now),
            about("kubeletVersion").into(),
            or(address(node, "InternalIP"), "<none>"),
            or(address(node, "ExternalIP"), "<none>"),
            or(&about("osImage"), "<unknown>"),
            or(
                &kernel(&about("kernelVersion"), &about("architecture")),
                "<unknown>",
            ),
            or(&about("containerRuntimeVersion"), "<unknown>"),
        ]
    },
};

pub(super) const NAMESPACE: Layout = Layout {
    columns: &[
        NAME,
        column("Status", "Active, or Terminating while its content goes."),
        AGE,
    ],
    cells: |namespace, now| {
        vec![
            json::name(namespace).into(),
            json::text(namespace, "/status/phase").into(),
            age::of(namespace, now),
        ]
    },
};

pub(super) const EVENT: Layout = Layout {
    columns: &[
        column("Last Seen", "When it last happened."),
        column("Type", "Normal or Warning."),
        column("Reason", "Why, in one word."),
        column("Object", "What it is about."),
        wide("Subobject", "The part of the object."),
        wide("Source", "Who says so."),
        column("Message", "What happened."),
        wide("First Seen", "When it first happened."),
        super::Column {
            priority: 1,
            ..integer("Count", "How often it happened.")
        },
        super::Column {
            priority: 1,
            ..NAME
        },
    ],
    cells: |event, now| {
        vec![
            last_seen(event, now),
            json::text(event, "/type").into(),
            json::text(event, "/reason").into(),
            event_object(event).into(),
            json::text(event, "/involvedObject/fieldPath").into(),
            event_source(event).into(),
            json::text(event, "/message").trim().into(),
            first_seen(event, now),
            event
                .get("count")
                .and_then(Value::as_i64)
                .filter(|count| *count > 0)
                .unwrap_or(1)
                .into(),
            json::name(event).into(),
        ]
    },
};

pub(super) const LEASE: Layout = Layout {
    columns: &[NAME, column("Holder", "Who holds the lease."), AGE],
    cells: |lease, now| {
        vec![
            json::name(lease).into(),
            json::text(lease, "/spec/holderIdentity").into(),
            age::of(lease, now),
        ]
    },
};

pub(super) const CONFIG_MAP: Layout = Layout {
    columns: &[NAME, integer("Data", "How many entries there are."), AGE],
    cells: |map, now| {
        vec![
            json::name(map).into(),
            entries(map, &["/data", "/binaryData"]),
            age::of(map, now),
        ]
    },
};

pub(super) const SECRET: Layout = Layout {
    columns: &[
        NAME,
        column("Type", "What the secret is for."),
        integer("Data", "How many entries there are."),
        AGE,
    ],
    cells: |secret, now| {
        let kind = json::text(secret, "/type");
        vec![
            json::name(secret).into(),
            kind.into(),
            entries(secret, &["/data"]),
            age::of(secret, now),
        ]
    },
};

fn entries(object: &Value, pointers: &[&str]) -> Value {
    pointers
        .iter()
        .filter_map(|pointer| json::map(object, pointer))
        .map(Map::len)
        .sum::<usize>()
        .into()
}

fn node_status(node: &Value) -> String {
    let conditions = json::list(node, "/status/conditions");
    let ready = conditions
        .iter()
        .find(|condition| json::text(condition, "/type") == "Ready");
    let status = match ready.map(|ready| json::text(ready, "/status")) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    };
    match node.pointer("/spec/unschedulable") {
        Some(Value::Bool(true)) => format!("{status},SchedulingDisabled"),
        _ => status.to_owned(),
    }
}

fn node_roles(node: &Value) -> String {
    let labels = json::map(node, "/metadata/labels").into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str(),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let addresses = json::list(node, "/status/addresses").iter();
    let mut of_kind = addresses.filter(|address| json::text(address, "/type") == kind);
    of_kind
        .next()
        .map_or("", |address| json::text(address, "/address"))
}

fn kernel(version: &str, architecture: &str) -> String {
    match (version, architecture) {
        ("", _) => String::new(),
        (version, "") => version.to_owned(),
        (version, architecture) => format!("{version} ({architecture})"),
    }
}

fn event_object(event: &Value) -> String {
    let (kind, name) = (
        json::text(event, "/involvedObject/kind"),
        json::text(event, "/involvedObject/name"),
    );
    match name {
        "" => kind.to_lowercase(),
        name => format!("{}/{name}", kind.to_lowercase()),
    }
}

fn event_source(event: &Value) -> String {
    let first = |first, second| match json::text(event, first) {
        "" => json::text(event, second),
        found => found,
    };
    let component = first("/source/component", "/reportingComponent");
    match first("/source/host", "/reportingInstance") {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}

fn first_seen(event: &Value, now: Timestamp) -> Value {
    age::since(
        event,
        first_set(event, &["/firstTimestamp", "/eventTime"]),
        now,
    )
}

fn last_seen(event: &Value, now: Timestamp) -> Value {
    let pointers = [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/firstTimestamp",
        "/eventTime",
    ];
    age::since(event, first_set(event, &pointers), now)
}

/// The first of the times that is set; the last one if none is.
fn first_set(event: &Value, pointers: &[&'static str]) -> &'static str {
    let set = pointers
        .iter()
        .find(|pointer| json::time(event, pointer).is_some());
    set.or(pointers.last()).expect("there is at least one")
}
