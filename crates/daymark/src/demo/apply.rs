//! The manifests of the tour, and small questions to the API.

use std::time::Duration;

use anyhow::{Context, bail};
use daymark_lab::cluster::create_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::Value;

/// One Service of each type, and their Pods.
const TYPES: [&str; 5] = [
    include_str!("../../../../examples/types/backend.yaml"),
    include_str!("../../../../examples/types/nodeport.yaml"),
    include_str!("../../../../examples/types/loadbalancer.yaml"),
    include_str!("../../../../examples/types/externalname.yaml"),
    include_str!("../../../../examples/types/client.yaml"),
];

/// The Services of the tour and their Pods.
pub(crate) async fn types(client: &Client) -> anyhow::Result<()> {
    for text in TYPES {
        create_all(client, text).await?;
    }
    Ok(())
}

/// A Pod of the manifests under another name, on the node given.
pub(crate) async fn copy_of_pod(
    client: &Client,
    of: &str,
    name: &str,
    node: &str,
) -> anyhow::Result<()> {
    for text in TYPES {
        for mut object in documents(text)? {
            if object["kind"] == "Pod" && object["metadata"]["name"] == of {
                object["metadata"]["name"] = name.into();
                object["spec"]["nodeName"] = node.into();
                return create(client, &object).await;
            }
        }
    }
    bail!("no Pod {of} in the manifests")
}

fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}

/// Creates an object.
pub(crate) async fn create(client: &Client, object: &Value) -> anyhow::Result<()> {
    // JSON is YAML.
    Ok(create_all(client, &object.to_string()).await?)
}

/// Deletes a Pod; `grace` in seconds, its own if `None`.
pub(crate) async fn delete_pod(
    client: &Client,
    name: &str,
    grace: Option<u32>,
) -> anyhow::Result<()> {
    let params = DeleteParams {
        grace_period_seconds: grace,
        ..DeleteParams::default()
    };
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.delete(name, &params)
        .await
        .with_context(|| format!("delete Pod {name}"))?;
    Ok(())
}

/// How many nodes take part in announcing addresses.
pub(crate) async fn announcers(client: &Client) -> anyhow::Result<usize> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let ours = ListParams::default().labels("daymark.io/part=announcer");
    Ok(leases.list(&ours).await.context("list Leases")?.items.len())
}

/// A Pod.
pub(crate) async fn pod(client: &Client, name: &str) -> anyhow::Result<Pod> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.get(name)
        .await
        .with_context(|| format!("get Pod {name}"))
}

/// Whether a Pod takes connections.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Waits until all Pods of the namespace are ready.
pub(crate) async fn pods_ready(client: &Client) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    until("all Pods are ready", || async {
        let all = pods.list(&Default::default()).await?;
        Ok(!all.items.is_empty()
            && all
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .all(is_ready))
    })
    .await
}

/// A Service's cluster IPs and load-balancer addresses.
pub(crate) async fn addresses(
    client: &Client,
    name: &str,
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let service = services
        .get(name)
        .await
        .with_context(|| format!("get Service {name}"))?;
    let cluster = service
        .spec
        .and_then(|spec| spec.cluster_ips)
        .unwrap_or_default();
    let status = service.status.and_then(|status| status.load_balancer);
    let ingress = status
        .and_then(|balancer| balancer.ingress)
        .unwrap_or_default();
    Ok((
        cluster,
        ingress
            .into_iter()
            .filter_map(|ingress| ingress.ip)
            .collect(),
    ))
}

/// Asks again until the answer is yes, for 15 seconds at most.
pub(crate) async fn until<F: Future<Output = anyhow::Result<bool>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> anyhow::Result<()> {
    for _ in 0..750 {
        if ask().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("after 15 s it is still not so that {what}")
}
