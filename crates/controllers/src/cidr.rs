//! ServiceCIDRs: ready once seen, and held back from deletion while a Service's address depends on them.
//!
//! Source: `pkg/controller/servicecidrs/servicecidrs_controller.go` of Kubernetes; KEP-1880.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::clock;
use crate::queue::Ended;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// How long an API server may go on handing out addresses of a network that it has not yet seen going.
const GRACE: Duration = Duration::from_secs(10);

/// What to do about a ServiceCIDR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Rest,
    /// Put the finalizer on.
    Hold,
    /// Say that it is ready.
    Ready,
    /// Say that it is going and why it still is here; look again after that time.
    Terminating(String, Duration),
    /// Take the finalizer off.
    Release,
}

/// See [`Step`]. `others` are all ServiceCIDRs (the one itself does not count), `addresses` the names of all
/// IPAddresses.
pub(crate) fn decide(
    cidr: &ServiceCIDR,
    others: &[&ServiceCIDR],
    addresses: &[String],
    now: Timestamp,
) -> Step {
    let held = cidr
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER);
    let Some(deleted) = &cidr.metadata.deletion_timestamp else {
        return match (held, is_ready(cidr)) {
            (false, _) => Step::Hold,
            (true, false) => Step::Ready,
            (true, true) => Step::Rest,
        };
    };
    if !held {
        return Step::Rest;
    }
    let heirs: Vec<&ServiceCIDR> = others
        .iter()
        .filter(|other| {
            other.metadata.uid != cidr.metadata.uid && other.metadata.deletion_timestamp.is_none()
        })
        .copied()
        .collect();
    let orphan = addresses.iter().find(|name| {
        name.parse()
            .is_ok_and(|ip| contains(cidr, ip) && !heirs.iter().any(|other| contains(other, ip)))
    });
    if let Some(name) = orphan {
        let why = format!(
            "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR that covers them: {name}"
        );
        return Step::Terminating(why, GRACE);
    }
    let waited = Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default();
    match GRACE.checked_sub(waited).filter(|left| !left.is_zero()) {
        Some(left) => Step::Terminating(
            "Waiting for API servers to stop using the ServiceCIDR".to_owned(),
            left,
        ),
        None => Step::Release,
    }
}

fn is_ready(cidr: &ServiceCIDR) -> bool {
    let conditions = cidr
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn contains(cidr: &ServiceCIDR, ip: IpAddr) -> bool {
    let cidrs = cidr
        .spec
        .iter()
        .flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs
        .into_iter()
        .any(|text| network_contains(text, ip).unwrap_or_default())
}

fn network_contains(cidr: &str, ip: IpAddr) -> Option<bool> {
    let (network, prefix) = cidr.split_once('/')?;
    let (network, prefix): (IpAddr, u32) = (network.parse().ok()?, prefix.parse().ok()?);
    let host = |width: u32| width.checked_sub(prefix);
    Some(match (network, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (u32::from(a) ^ u32::from(b))
                .checked_shr(host(32)?)
                .unwrap_or_default()
                == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (u128::from(a) ^ u128::from(b))
                .checked_shr(host(128)?)
                .unwrap_or_default()
                == 0
        }
        _ => false,
    })
}

/// Looks at one ServiceCIDR and does the next step.
///
/// # Errors
/// Whatever the API answered.
pub(crate) async fn tend(client: &Client, name: &str) -> Result<Ended, kube::Error> {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    let all = api.list(&ListParams::default()).await?.items;
    let Some(cidr) = all
        .iter()
        .find(|cidr| cidr.metadata.name.as_deref() == Some(name))
    else {
        return Ok(Ended::Done);
    };
    let addresses = match cidr.metadata.deletion_timestamp {
        Some(_) => names(client).await?,
        None => Vec::new(),
    };
    let now = clock::today();
    let version = cidr
        .metadata
        .resource_version
        .as_deref()
        .unwrap_or_default();
    match decide(cidr, &all.iter().collect::<Vec<_>>(), &addresses, now) {
        Step::Rest => return Ok(Ended::Done),
        Step::Hold => patch_finalizers(&api, name, version, held(cidr)).await?,
        Step::Ready => {
            patch_status(
                &api,
                name,
                ready(true, "", "Kubernetes Service CIDR is ready", now),
            )
            .await?;
        }
        Step::Terminating(why, wait) => {
            if is_ready(cidr) {
                patch_status(&api, name, ready(false, "Terminating", &why, now)).await?;
            }
            return Ok(Ended::Again(wait));
        }
        Step::Release => patch_finalizers(&api, name, version, released(cidr)).await?,
    }
    Ok(Ended::Done)
}

fn held(cidr: &ServiceCIDR) -> Vec<String> {
    let mut finalizers = cidr.metadata.finalizers.clone().unwrap_or_default();
    finalizers.push(FINALIZER.to_owned());
    finalizers
}

fn released(cidr: &ServiceCIDR) -> Vec<String> {
    let mut finalizers = cidr.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    finalizers
}

async fn names(client: &Client) -> Result<Vec<String>, kube::Error> {
    let api: Api<IPAddress> = Api::all(client.clone());
    let addresses = api.list(&ListParams::default()).await?;
    Ok(addresses
        .items
        .into_iter()
        .filter_map(|address| address.metadata.name)
        .collect())
}

async fn patch_finalizers(
    api: &Api<ServiceCIDR>,
    name: &str,
    version: &str,
    finalizers: Vec<String>,
) -> Result<(), kube::Error> {
    let patch = json!({ "metadata": { "resourceVersion": version, "finalizers": finalizers } });
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(|_| ())
}

fn ready(ready: bool, reason: &str, message: &str, now: Timestamp) -> Value {
    let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({ "status": { "conditions": [{
        "type": "Ready", "status": if ready { "True" } else { "False" }, "reason": reason, "message": message,
        "lastTransitionTime": time,
    }] } })
}

async fn patch_status(api: &Api<ServiceCIDR>, name: &str, patch: Value) -> Result<(), kube::Error> {
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(uid: &str, network: &str, change: Value) -> ServiceCIDR {
        let mut object = json!({
            "metadata": { "name": uid, "uid": uid, "finalizers": [FINALIZER] },
            "spec": { "cidrs": [network] },
            "status": { "conditions": [{
                "type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        });
        if let (Some(meta), Value::Object(change)) = (object["metadata"].as_object_mut(), change) {
            meta.extend(change);
        }
        serde_json::from_value(object).expect("a ServiceCIDR")
    }

    #[test]
    fn steps() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let deleted = |time: &str| json!({ "deletionTimestamp": time });
        let (long_ago, just_now) = (
            deleted("2026-01-01T00:00:00Z"),
            deleted("2026-01-01T00:00:56Z"),
        );
        let wider = cidr("wider", "10.0.0.0/8", json!({}));
        let elsewhere = cidr("elsewhere", "10.97.0.0/16", json!({}));
        let used = vec!["10.96.0.1".to_owned(), "10.97.0.1".to_owned()];
        let rows = [
            (
                "in use",
                cidr("a", "10.96.0.0/16", json!({})),
                vec![],
                Step::Rest,
            ),
            (
                "new",
                cidr("a", "10.96.0.0/16", json!({ "finalizers": [] })),
                vec![],
                Step::Hold,
            ),
            (
                "covered by another",
                cidr("a", "10.96.0.0/16", long_ago.clone()),
                vec![&wider],
                Step::Release,
            ),
            (
                "no address in it",
                cidr("a", "10.98.0.0/16", long_ago.clone()),
                vec![&elsewhere],
                Step::Release,
            ),
        ];
        for (what, own, others, expected) in rows {
            assert_eq!(decide(&own, &others, &used, now), expected, "{what}");
        }
        let blocked = decide(
            &cidr("a", "10.96.0.0/16", long_ago),
            &[&elsewhere],
            &used,
            now,
        );
        assert!(matches!(blocked, Step::Terminating(why, GRACE) if why.ends_with("10.96.0.1")));
        let waits = decide(&cidr("a", "10.98.0.0/16", just_now), &[], &used, now);
        assert!(matches!(waits, Step::Terminating(_, left) if left == Duration::from_secs(6)));
    }

    #[test]
    fn networks_contain_addresses_of_their_family() {
        let rows = [
            ("10.96.0.0/16", "10.96.255.1", true),
            ("10.96.0.0/16", "10.97.0.1", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("fd00::/112", "fd00::ffff", true),
            ("fd00::/112", "fd00::1:0", false),
            ("fd00::/112", "10.0.0.1", false),
            ("10.96.0.1/32", "10.96.0.1", true),
        ];
        for (network, ip, expected) in rows {
            assert_eq!(
                network_contains(network, ip.parse().expect("an address")),
                Some(expected),
                "{network} {ip}"
            );
        }
    }
}
