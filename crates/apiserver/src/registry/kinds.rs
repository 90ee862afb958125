//! The table of served kinds: names, schema, selectable fields, and where a kind departs from the common rules.

use crate::registry::{Resource, Scope};
use crate::selector::{FieldSource, Selectable};

use super::events;

/// One served kind.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Its names.
    pub(crate) resource: Resource,
    /// The schema's definition.
    pub(crate) definition: &'static str,
    /// What a PUT to a name that is not there does.
    pub(crate) put_missing: PutMissing,
    /// Whether an update may leave out the resourceVersion.
    pub(crate) unversioned: Unversioned,
    /// What makes `metadata.generation` grow.
    pub(crate) generation: Generation,
    /// What a new object's status starts as.
    pub(crate) first_status: FirstStatus,
    /// How objects go away.
    pub(crate) removal: Removal,
    /// Whether strategic merge patches are understood: not for custom resources, as upstream.
    pub(crate) strategic: Strategic,
    /// Fields to select by, beside name and namespace.
    pub(crate) fields: &'static [Selectable],
    /// For a kind that shows objects of another one: the fields that have other names there.
    pub(crate) renames: Option<&'static events::Renames>,
}

/// What a PUT to a name that is not there does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutMissing {
    Creates,
    NotFound,
}

/// Whether an update may leave out the resourceVersion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unversioned {
    Allowed,
    Refused,
}

/// What makes `metadata.generation` grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind has none.
    None,
    /// A change of anything but metadata and status.
    Spec,
    /// A change of anything but metadata, or of labels: EndpointSlice.
    Content,
}

/// What a new object's status starts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstStatus {
    /// Whatever the client sent.
    Sent,
    /// Nothing: only the status subresource writes it.
    Wiped,
}

/// How objects go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// At once, unless finalizers hold them.
    Direct,
    /// Pods: the node gets a grace period, and removes the object itself.
    Graceful,
    /// Namespaces: once their content is gone, which `spec.finalizers` stands for.
    Emptied,
}

/// Whether strategic merge patches are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategic {
    Served,
    Refused,
}

const fn text(label: &'static str, pointer: &'static str) -> Selectable {
    Selectable {
        label,
        source: FieldSource::Text(pointer),
    }
}

const fn flag(label: &'static str, pointer: &'static str) -> Selectable {
    Selectable {
        label,
        source: FieldSource::Bool(pointer),
    }
}

const fn core(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    scope: Scope,
) -> Resource {
    Resource {
        group: "",
        version: "v1",
        kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        scope,
        subresources: &[],
        store_kind: plural,
    }
}

const COMMON: Kind = Kind {
    resource: core("", "", "", Scope::Namespaced),
    definition: "",
    put_missing: PutMissing::NotFound,
    unversioned: Unversioned::Allowed,
    generation: Generation::None,
    first_status: FirstStatus::Sent,
    removal: Removal::Direct,
    strategic: Strategic::Served,
    fields: &[],
    renames: None,
};

pub(crate) static NAMESPACE: Kind = Kind {
    resource: Resource {
        short_names: &["ns"],
        subresources: &["status", "finalize"],
        ..core("Namespace", "namespaces", "namespace", Scope::Cluster)
    },
    definition: "io.k8s.api.core.v1.Namespace",
    first_status: FirstStatus::Wiped,
    removal: Removal::Emptied,
    fields: &[text("status.phase", "/status/phase")],
    ..COMMON
};

pub(crate) static NODE: Kind = Kind {
    resource: Resource {
        short_names: &["no"],
        subresources: &["status"],
        ..core("Node", "nodes", "node", Scope::Cluster)
    },
    definition: "io.k8s.api.core.v1.Node",
    fields: &[flag("spec.unschedulable", "/spec/unschedulable")],
    ..COMMON
};

pub(crate) static POD: Kind = Kind {
    resource: Resource {
        short_names: &["po"],
        categories: &["all"],
        subresources: &["status"],
        ..core("Pod", "pods", "pod", Scope::Namespaced)
    },
    definition: "io.k8s.api.core.v1.Pod",
    generation: Generation::Spec,
    first_status: FirstStatus::Wiped,
    removal: Removal::Graceful,
    fields: &[
        text("spec.nodeName", "/spec/nodeName"),
        text("spec.restartPolicy", "/spec/restartPolicy"),
        text("spec.schedulerName", "/spec/schedulerName"),
        text("spec.serviceAccountName", "/spec/serviceAccountName"),
        flag("spec.hostNetwork", "/spec/hostNetwork"),
        text("status.phase", "/status/phase"),
        text("status.podIP", "/status/podIP"),
        text("status.nominatedNodeName", "/status/nominatedNodeName"),
    ],
    ..COMMON
};

pub(crate) static SERVICE: Kind = Kind {
    resource: Resource {
        short_names: &["svc"],
        categories: &["all"],
        subresources: &["status"],
        ..core("Service", "services", "service", Scope::Namespaced)
    },
    definition: "io.k8s.api.core.v1.Service",
    put_missing: PutMissing::Creates,
    first_status: FirstStatus::Wiped,
    fields: &[
        text("spec.clusterIP", "/spec/clusterIP"),
        text("spec.type", "/spec/type"),
    ],
    ..COMMON
};

pub(crate) static CONFIG_MAP: Kind = Kind {
    resource: Resource {
        short_names: &["cm"],
        ..core("ConfigMap", "configmaps", "configmap", Scope::Namespaced)
    },
    definition: "io.k8s.api.core.v1.ConfigMap",
    ..COMMON
};

pub(crate) static SECRET: Kind = Kind {
    resource: core("Secret", "secrets", "secret", Scope::Namespaced),
    definition: "io.k8s.api.core.v1.Secret",
    fields: &[text("type", "/type")],
    ..COMMON
};

pub(crate) static EVENT: Kind = Kind {
    resource: Resource {
        short_names: &["ev"],
        ..core("Event", "events", "event", Scope::Namespaced)
    },
    definition: "io.k8s.api.core.v1.Event",
    put_missing: PutMissing::Creates,
    fields: &[
        text("involvedObject.kind", "/involvedObject/kind"),
        text("involvedObject.namespace", "/involvedObject/namespace"),
        text("involvedObject.name", "/involvedObject/name"),
        text("involvedObject.uid", "/involvedObject/uid"),
        text("involvedObject.apiVersion", "/involvedObject/apiVersion"),
        text(
            "involvedObject.resourceVersion",
            "/involvedObject/resourceVersion",
        ),
        text("involvedObject.fieldPath", "/involvedObject/fieldPath"),
        text("reason", "/reason"),
        text("reportingComponent", "/reportingComponent"),
        Selectable {
            label: "source",
            source: FieldSource::Either("/source/component", "/reportingComponent"),
        },
        text("type", "/type"),
    ],
    ..COMMON
};

pub(crate) static EVENT_VIEW: Kind = Kind {
    resource: Resource {
        group: "events.k8s.io",
        short_names: &["ev"],
        ..core("Event", "events", "event", Scope::Namespaced)
    },
    definition: "io.k8s.api.events.v1.Event",
    put_missing: PutMissing::Creates,
    fields: &[
        text("regarding.kind", "/involvedObject/kind"),
        text("regarding.namespace", "/involvedObject/namespace"),
        text("regarding.name", "/involvedObject/name"),
        text("regarding.uid", "/involvedObject/uid"),
        text("reason", "/reason"),
        text("reportingController", "/reportingComponent"),
        text("type", "/type"),
    ],
    renames: Some(&events::RENAMES),
    ..COMMON
};

pub(crate) static ENDPOINT_SLICE: Kind = Kind {
    resource: Resource {
        group: "discovery.k8s.io",
        store_kind: "discovery.k8s.io/endpointslices",
        ..core(
            "EndpointSlice",
            "endpointslices",
            "endpointslice",
            Scope::Namespaced,
        )
    },
    definition: "io.k8s.api.discovery.v1.EndpointSlice",
    generation: Generation::Content,
    ..COMMON
};

pub(crate) static LEASE: Kind = Kind {
    resource: Resource {
        group: "coordination.k8s.io",
        store_kind: "coordination.k8s.io/leases",
        ..core("Lease", "leases", "lease", Scope::Namespaced)
    },
    definition: "io.k8s.api.coordination.v1.Lease",
    put_missing: PutMissing::Creates,
    unversioned: Unversioned::Refused,
    ..COMMON
};

pub(crate) static SERVICE_CIDR: Kind = Kind {
    resource: Resource {
        group: "networking.k8s.io",
        subresources: &["status"],
        store_kind: "networking.k8s.io/servicecidrs",
        ..core("ServiceCIDR", "servicecidrs", "servicecidr", Scope::Cluster)
    },
    definition: "io.k8s.api.networking.v1.ServiceCIDR",
    first_status: FirstStatus::Wiped,
    ..COMMON
};

pub(crate) static IP_ADDRESS: Kind = Kind {
    resource: Resource {
        group: "networking.k8s.io",
        short_names: &["ip"],
        store_kind: "networking.k8s.io/ipaddresses",
        ..core("IPAddress", "ipaddresses", "ipaddress", Scope::Cluster)
    },
    definition: "io.k8s.api.networking.v1.IPAddress",
    ..COMMON
};

const METALLB: Kind = Kind {
    unversioned: Unversioned::Refused,
    generation: Generation::Spec,
    strategic: Strategic::Refused,
    ..COMMON
};

pub(crate) static IP_ADDRESS_POOL: Kind = Kind {
    resource: Resource {
        group: "metallb.io",
        version: "v1beta1",
        subresources: &["status"],
        store_kind: "metallb.io/ipaddresspools",
        ..core(
            "IPAddressPool",
            "ipaddresspools",
            "ipaddresspool",
            Scope::Namespaced,
        )
    },
    definition: "io.metallb.v1beta1.IPAddressPool",
    first_status: FirstStatus::Wiped,
    ..METALLB
};

pub(crate) static L2_ADVERTISEMENT: Kind = Kind {
    resource: Resource {
        group: "metallb.io",
        version: "v1beta1",
        subresources: &["status"],
        store_kind: "metallb.io/l2advertisements",
        ..core(
            "L2Advertisement",
            "l2advertisements",
            "l2advertisement",
            Scope::Namespaced,
        )
    },
    definition: "io.metallb.v1beta1.L2Advertisement",
    first_status: FirstStatus::Wiped,
    ..METALLB
};

/// Every kind.
pub(crate) static ALL: &[&Kind] = &[
    &NAMESPACE,
    &NODE,
    &POD,
    &SERVICE,
    &CONFIG_MAP,
    &SECRET,
    &EVENT,
    &EVENT_VIEW,
    &ENDPOINT_SLICE,
    &LEASE,
    &SERVICE_CIDR,
    &IP_ADDRESS,
    &IP_ADDRESS_POOL,
    &L2_ADVERTISEMENT,
];
