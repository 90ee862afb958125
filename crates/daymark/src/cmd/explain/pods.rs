//! What the API says about the Pods of a Service, read with the caller's own rights.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use daymark_controllers::explain::{Selected, selected};
use daymark_node::ask::wire::{Answer, Explained, From};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::failure;

/// Who makes the EndpointSlices of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Made {
    /// Not known: the Service could not be read, or is not there.
    #[default]
    Unknown,
    /// A controller, of the Pods that are selected.
    BySelector,
    /// Somebody: there is no selector.
    ByHand,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pods {
    /// Who makes the slices.
    #[serde(skip)]
    pub(super) made: Made,
    /// Why Pods could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unread: Option<String>,
    /// What the selector comes to, where that is the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) selector: Option<String>,
    /// The Pods that the Service selects.
    pub(super) selected: Vec<Line>,
}

/// A Pod that a Service selects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    pub(super) addresses: Vec<String>,
    /// What keeps it from being a ready endpoint; empty if nothing does.
    pub(super) obstacles: Vec<String>,
}

impl Pods {
    /// Whether there is nothing to tell: an alias, whose cause is told already.
    pub(super) fn says_nothing(&self) -> bool {
        self.unread.is_none() && self.selector.is_none() && self.selected.is_empty()
    }
}

/// A Pod as a client: its addresses, and its node. One in the node's network is the node.
pub(super) async fn client(
    api: &Client,
    namespace: &str,
    name: &str,
) -> anyhow::Result<(From, Option<String>)> {
    let pods: Api<Pod> = Api::namespaced(api.clone(), namespace);
    let found = pods.get_opt(name).await;
    let found = found.with_context(|| format!("pod/{name} in namespace {namespace}"))?;
    let pod = found.with_context(|| format!("there is no pod/{name} in namespace {namespace}"))?;
    let spec = pod.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.clone());
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return Ok((From::Node, node));
    }
    let addresses: Vec<IpAddr> = addresses(&pod).iter().flat_map(|ip| ip.parse()).collect();
    if addresses.is_empty() {
        bail!("pod/{name} has no address yet: it cannot send anything");
    }
    let from = From::Pod {
        addresses,
        node: node.clone(),
    };
    Ok((from, node))
}

fn addresses(pod: &Pod) -> Vec<String> {
    let ips = pod
        .status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten());
    ips.map(|ip| ip.ip.clone()).collect()
}

/// The Pods of a Service. Whatever goes wrong is part of the answer.
pub(super) async fn read(api: &Client, namespace: &str, name: &str, explained: &Explained) -> Pods {
    let unread = |why: String| Pods {
        unread: Some(why),
        ..Pods::default()
    };
    let read = async {
        let services: Api<Service> = Api::namespaced(api.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(api.clone(), namespace);
        let service = services.get_opt(name).await?;
        let pods = pods.list(&ListParams::default()).await?;
        Ok::<_, kube::Error>((service, pods.items))
    };
    match timeout(PATIENCE, read).await {
        Err(_) => unread(format!(
            "the API did not answer within {} s",
            PATIENCE.as_secs()
        )),
        Ok(Err(error)) => unread(failure::sentence(&error.into())),
        Ok(Ok((None, _))) => Pods {
            selector: Some(format!("the API has no Service {namespace}/{name}")),
            ..Pods::default()
        },
        Ok(Ok((Some(service), pods))) => tell(&service, &pods, explained),
    }
}

/// Of a Service that the API has and the agent does not know.
fn unknown_to_agent(service: &Service) -> &'static str {
    let ip = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref());
    if ip == Some("None") {
        "the API has it, and it is headless (clusterIP: None): names in DNS, without any address; an agent without DNS is not told of it"
    } else {
        "the API has it, and the agent does not know it: daymark status says whether the agent hears the API"
    }
}

pub(super) fn tell(service: &Service, pods: &[Pod], explained: &Explained) -> Pods {
    let cause = explained.cause.as_ref();
    if cause.is_some_and(|cause| cause.code == "no-service") {
        return Pods {
            selector: Some(unknown_to_agent(service).to_owned()),
            ..Pods::default()
        };
    }
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    let selector = selector.into_iter().flatten();
    let selector: Vec<String> = selector
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let selector = selector.join(",");
    let namespace = service.namespace().unwrap_or_default();
    match selected(service, pods) {
        // An alias, a headless Service: its cause is told already.
        Selected::NoSelector if explained.cause.is_some() => Pods::default(),
        Selected::NoSelector => Pods {
            made: Made::ByHand,
            selector: Some(
                "the Service has no selector: its EndpointSlices are made by hand".to_owned(),
            ),
            ..Pods::default()
        },
        Selected::Nobody { pods, nearest } => {
            let nearest = nearest.map(|(pod, differs)| {
                let differs: Vec<String> = differs.iter().map(ToString::to_string).collect();
                format!(
                    "; the nearest is {}: {}",
                    pod.name_any(),
                    differs.join(", ")
                )
            });
            let nearest = nearest.unwrap_or_default();
            Pods {
                made: Made::BySelector,
                selector: Some(format!(
                    "the selector {selector} matches none of the {pods} Pods in namespace {namespace}{nearest}"
                )),
                ..Pods::default()
            }
        }
        Selected::Pods(found) => {
            let known = endpoints(explained);
            let lines = found.into_iter().map(|(pod, obstacles)| {
                let mut line = Line {
                    name: pod.name_any(),
                    node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
                    addresses: addresses(pod),
                    obstacles: obstacles.iter().map(ToString::to_string).collect(),
                };
                if line.obstacles.is_empty() && !known.is_empty_for(&line.addresses) {
                    line.obstacles.push(NOT_YET.to_owned());
                }
                line
            });
            Pods {
                made: Made::BySelector,
                selected: lines.collect(),
                ..Pods::default()
            }
        }
    }
}

/// Addresses of endpoints that the agent knows.
struct Known {
    addresses: BTreeSet<IpAddr>,
    /// Whether there are more that it has not told.
    cut: bool,
}

fn endpoints(explained: &Explained) -> Known {
    let is_whole = |answer: &&Answer| {
        let all: usize = answer.standings.iter().map(|s| s.endpoints).sum();
        all == answer.endpoints.len()
    };
    let family = |answer: &Answer| answer.packet.as_ref().map(|p| p.destination.is_ipv4());
    // All places of a family have the same endpoints: one of them that lists all is enough.
    let whole = explained.answers.iter().filter(is_whole).map(family);
    let whole: BTreeSet<Option<bool>> = whole.collect();
    let mut cut = explained.answers.iter().filter(|answer| !is_whole(answer));
    let all = explained.answers.iter().flat_map(|a| &a.endpoints);
    Known {
        addresses: all.map(|endpoint| endpoint.address).collect(),
        cut: cut.any(|answer| !whole.contains(&family(answer))),
    }
}

impl Known {
    /// Whether nothing is missing: some address is known, or the agent was asked for no endpoints, or has not told them all.
    fn is_empty_for(&self, addresses: &[String]) -> bool {
        let mut parsed = addresses.iter().flat_map(|ip| ip.parse::<IpAddr>());
        self.cut || self.addresses.is_empty() || parsed.any(|ip| self.addresses.contains(&ip))
    }
}

const NOT_YET: &str = "nothing stands in its way, but no EndpointSlice has it: is a controller for EndpointSlices running?";
/// How long the API may take.
const PATIENCE: Duration = Duration::from_secs(5);
