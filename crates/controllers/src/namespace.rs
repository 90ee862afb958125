//! Namespaces that are being deleted: first everything in them goes, then they do.
//!
//! Source: `pkg/controller/namespace/deletion` of Kubernetes.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::discovery::Scope;
use tracing::info;

use crate::kinds::Kinds;
use crate::queue::Ended;

/// How long to wait for objects that take their time (Pods with a grace period, finalizers).
const WAIT: Duration = Duration::from_millis(250);

/// Empties a namespace as far as it goes, and lets it go once it is empty.
///
/// # Errors
/// Whatever the API answered; what was deleted before stays deleted.
pub(crate) async fn empty(
    client: &Client,
    kinds: &Kinds,
    name: &str,
) -> Result<Ended, kube::Error> {
    let mut left = false;
    for (_, kind) in kinds
        .all()
        .filter(|(_, kind)| kind.scope == Scope::Namespaced)
    {
        let api = kind.api(client, name);
        let one = ListParams::default().limit(1);
        if api.list(&one).await?.items.is_empty() {
            continue;
        }
        api.delete_collection(&DeleteParams::background(), &ListParams::default())
            .await?;
        left |= !api.list(&one).await?.items.is_empty();
    }
    if left {
        return Ok(Ended::Again(WAIT));
    }
    finalize(client, name).await
}

async fn finalize(client: &Client, name: &str) -> Result<Ended, kube::Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(mut namespace) = api.get_opt(name).await? else {
        return Ok(Ended::Done);
    };
    if let Some(finalizers) = namespace
        .spec
        .as_mut()
        .and_then(|spec| spec.finalizers.as_mut())
    {
        finalizers.retain(|finalizer| finalizer != "kubernetes");
    }
    namespace.metadata.managed_fields = None;
    match api
        .replace_subresource("finalize", name, &PostParams::default(), &namespace)
        .await
    {
        Ok(_) => info!(namespace = name, "empty and gone"),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(kube::Error::Api(status)) if status.code == 409 => return Ok(Ended::Again(WAIT)),
        Err(error) => return Err(error),
    }
    Ok(Ended::Done)
}
