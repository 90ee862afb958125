//! Carrying out what [`crate::graph`] decided.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tracing::{debug, info};

use crate::graph::{Fate, Target};
use crate::kinds::Kinds;
use crate::queue::Ended;

/// Carries out a fate.
///
/// # Errors
/// Whatever the API answered; what was done before stays done.
pub(crate) async fn carry_out(
    client: &Client,
    kinds: &Kinds,
    fate: Fate,
) -> Result<Ended, kube::Error> {
    match fate {
        Fate::Keep => {}
        Fate::AskForOwners(target, owners) => {
            if all_gone(client, kinds, &target, &owners).await? {
                delete(client, kinds, &target).await?;
            }
        }
        Fate::DeleteFirst(targets) => {
            for target in &targets {
                delete(client, kinds, target).await?;
            }
        }
        Fate::SetFree { owner, dependents } => {
            for target in &dependents {
                set_free(client, kinds, target, &owner).await?;
            }
        }
        Fate::Release(target, finalizer) => release(client, kinds, &target, finalizer).await?,
    }
    Ok(Ended::Done)
}

/// Whether the API knows none of the owners. A kind that is not served counts as there: better a leftover than a loss.
async fn all_gone(
    client: &Client,
    kinds: &Kinds,
    target: &Target,
    owners: &[OwnerReference],
) -> Result<bool, kube::Error> {
    for owner in owners {
        let Some(kind) = kinds.of_owner(owner) else {
            debug!(
                owner = owner.kind,
                of = target.name,
                "owner of a kind that is not served: kept"
            );
            return Ok(false);
        };
        let found = kind
            .api(client, &target.namespace)
            .get_opt(&owner.name)
            .await?;
        if found.is_some_and(|found| found.metadata.uid.as_deref() == Some(owner.uid.as_str())) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn delete(client: &Client, kinds: &Kinds, target: &Target) -> Result<(), kube::Error> {
    let Some(kind) = kinds.get(target.kind) else {
        return Ok(());
    };
    let preconditions = Preconditions {
        uid: Some(target.uid.clone()),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::background()
    };
    info!(
        kind = kind.resource.kind,
        namespace = target.namespace,
        name = target.name,
        "deleted: its owner is gone"
    );
    ignore_missing(
        kind.api(client, &target.namespace)
            .delete(&target.name, &params)
            .await
            .map(|_| ()),
    )
}

async fn set_free(
    client: &Client,
    kinds: &Kinds,
    target: &Target,
    owner: &str,
) -> Result<(), kube::Error> {
    let Some(kind) = kinds.get(target.kind) else {
        return Ok(());
    };
    let api = kind.api(client, &target.namespace);
    let Some(object) = api.get_opt(&target.name).await? else {
        return Ok(());
    };
    let mut owners = object.metadata.owner_references.unwrap_or_default();
    owners.retain(|own| own.uid != owner);
    let patch = json!({ "metadata": {
        "uid": target.uid, "resourceVersion": object.metadata.resource_version, "ownerReferences": owners,
    } });
    ignore_missing(
        api.patch(&target.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(|_| ()),
    )
}

async fn release(
    client: &Client,
    kinds: &Kinds,
    target: &Target,
    finalizer: &str,
) -> Result<(), kube::Error> {
    let Some(kind) = kinds.get(target.kind) else {
        return Ok(());
    };
    let api = kind.api(client, &target.namespace);
    let Some(object) = api.get_opt(&target.name).await? else {
        return Ok(());
    };
    let mut finalizers = object.metadata.finalizers.unwrap_or_default();
    finalizers.retain(|own| own != finalizer);
    let patch = json!({ "metadata": {
        "uid": target.uid, "resourceVersion": object.metadata.resource_version, "finalizers": finalizers,
    } });
    ignore_missing(
        api.patch(&target.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(|_| ()),
    )
}

/// What is gone already, or is another object by now, needs nothing.
pub(crate) fn ignore_missing(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    }
}
