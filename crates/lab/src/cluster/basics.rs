//! What a lab has besides its nodes: the DNS Service with every node as an endpoint, and load-balancer addresses.

use kube::Client;
use serde_json::{Value, json};
use thiserror::Error;

use super::plan::NodePlan;
use super::{Cluster, UpError};

/// Why an object of the manifests was not created.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The text is no manifest.
    #[error("manifest: {0}")]
    Yaml(String),
    /// A kind that the lab's own small client does not know.
    #[error("{kind} {name}: the lab creates {known}; use kubectl for other kinds", known = known())]
    Kind {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API refused it.
    #[error("create {kind} {name}: {message}{}", before(*.created))]
    Refused {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// The API's answer.
        message: String,
        /// How many objects of the manifest were created before it.
        created: usize,
    },
    /// There is no client.
    #[error(transparent)]
    Client(#[from] Box<UpError>),
}

impl Cluster {
    /// Creates the Service `kube-system/kube-dns` with an endpoint on each node, and a pool of load-balancer
    /// addresses that is announced on the segment (`examples/lab`).
    ///
    /// # Errors
    /// [`CreateError`] with the object that was refused.
    pub async fn create_basics(&self) -> Result<(), CreateError> {
        let client = self.client().await.map_err(Box::new)?;
        for text in BASICS {
            create_all(&client, text).await?;
        }
        let plans: Vec<&NodePlan> = self.nodes().collect();
        for slice in dns_endpoints(&plans) {
            create(&client, &slice, "default", 0).await?;
        }
        Ok(())
    }
}

/// Creates the objects of a manifest of any number of documents, namespaces first. The API checks every field: one
/// that it does not know is refused, as kubectl does it.
///
/// # Errors
/// [`CreateError`] with the first object that was refused; those before it are there. A kind that the lab does not
/// know is found before anything is created.
pub async fn create_all(client: &Client, yaml: &str) -> Result<(), CreateError> {
    create_all_in(client, yaml, "default").await
}

/// [`create_all`], where what names no namespace is created in this one.
///
/// # Errors
/// As those of [`create_all`].
pub async fn create_all_in(
    client: &Client,
    yaml: &str,
    namespace: &str,
) -> Result<(), CreateError> {
    create_those(client, yaml, namespace, |_| true).await
}

/// Creates what of a manifest gives rights: service accounts, roles, their bindings, and the namespaces that they are in.
/// What would run Pods is left out.
///
/// # Errors
/// As [`create_all`].
pub async fn grant(client: &Client, yaml: &str) -> Result<(), CreateError> {
    create_those(client, yaml, "default", |kind| GRANTED.contains(&kind)).await
}

async fn create_those(
    client: &Client,
    yaml: &str,
    namespace: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), CreateError> {
    let objects: Result<Vec<Value>, _> = serde_saphyr::from_multiple(yaml);
    let mut objects = objects.map_err(|error| CreateError::Yaml(error.to_string()))?;
    objects.retain(|object| wanted(object["kind"].as_str().unwrap_or_default()));
    objects.sort_by_key(|object| object["kind"] != "Namespace");
    for object in &objects {
        folder(object, namespace)?;
    }
    for (created, object) in objects.iter().enumerate() {
        create(client, object, namespace, created).await?;
    }
    Ok(())
}

async fn create(
    client: &Client,
    object: &Value,
    namespace: &str,
    created: usize,
) -> Result<(), CreateError> {
    let (kind, name) = kind_and_name(object);
    let folder = folder(object, namespace)?;
    let request = http::Request::post(format!("{folder}?fieldValidation=Strict"))
        .header("content-type", "application/json");
    let request = request
        .body(object.to_string().into_bytes())
        .expect("a folder is a URI");
    let refused = |error| CreateError::Refused {
        kind,
        name,
        message: match error {
            kube::Error::Api(status) => status.message,
            other => other.to_string(),
        },
        created,
    };
    let created = client.request::<Value>(request).await;
    created.map(drop).map_err(refused)
}

/// Where an object is created: in its own namespace, or in this one.
fn folder(object: &Value, namespace: &str) -> Result<String, CreateError> {
    let (kind, name) = kind_and_name(object);
    let namespace = word(&object["metadata"]["namespace"], namespace);
    let known = KINDS.iter().find(|(known, _)| *known == kind);
    let (_, folder) = known.ok_or(CreateError::Kind { kind, name })?;
    Ok(folder.replace("{}", &namespace))
}

fn kind_and_name(object: &Value) -> (String, String) {
    let name = word(&object["metadata"]["name"], "");
    (word(&object["kind"], ""), name)
}

fn word(value: &Value, default: &str) -> String {
    value.as_str().unwrap_or(default).to_owned()
}

fn before(created: usize) -> String {
    match created {
        0 => String::new(),
        1 => " (the object before it was created)".to_owned(),
        more => format!(" (the {more} objects before it were created)"),
    }
}

/// A slice for each family: every node, at its own address.
fn dns_endpoints(plans: &[&NodePlan]) -> Vec<Value> {
    let slice = |family: &str| {
        let endpoints = plans.iter().filter_map(|plan| {
            let own = plan.addresses.iter().find(|own| own.address.is_ipv4() == (family == "IPv4"))?;
            let conditions = json!({ "ready": true, "serving": true, "terminating": false });
            Some(json!({ "addresses": [own.address], "nodeName": plan.name, "conditions": conditions }))
        });
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("kube-dns-{}", family.to_lowercase()),
                "namespace": "kube-system",
                "labels": { "kubernetes.io/service-name": "kube-dns" },
            },
            "addressType": family,
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": [
                { "name": "dns", "protocol": "UDP", "port": 53 },
                { "name": "dns-tcp", "protocol": "TCP", "port": 53 },
            ],
        })
    };
    ["IPv4", "IPv6"].map(slice).into()
}

fn known() -> String {
    KINDS.map(|(kind, _)| kind).join(", ")
}

const BASICS: [&str; 2] = [
    include_str!("../../../../examples/lab/pool.yaml"),
    include_str!("../../../../examples/lab/dns.yaml"),
];

/// What [`grant`] creates.
const GRANTED: [&str; 6] = [
    "Namespace",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
];

/// Kinds, and where their objects are created.
const KINDS: [(&str, &str); 16] = [
    ("Namespace", "/api/v1/namespaces"),
    ("Service", "/api/v1/namespaces/{}/services"),
    ("Pod", "/api/v1/namespaces/{}/pods"),
    ("ConfigMap", "/api/v1/namespaces/{}/configmaps"),
    (
        "EndpointSlice",
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    ),
    ("Endpoints", "/api/v1/namespaces/{}/endpoints"),
    ("ServiceCIDR", "/apis/networking.k8s.io/v1/servicecidrs"),
    ("IPAddress", "/apis/networking.k8s.io/v1/ipaddresses"),
    (
        "CustomResourceDefinition",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ),
    (
        "ClusterRole",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    ),
    (
        "ClusterRoleBinding",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    ),
    ("ServiceAccount", "/api/v1/namespaces/{}/serviceaccounts"),
    (
        "Role",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    ),
    (
        "RoleBinding",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    ),
    (
        "IPAddressPool",
        "/apis/metallb.io/v1beta1/namespaces/{}/ipaddresspools",
    ),
    (
        "L2Advertisement",
        "/apis/metallb.io/v1beta1/namespaces/{}/l2advertisements",
    ),
];
