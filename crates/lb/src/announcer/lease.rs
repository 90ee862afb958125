//! The Lease of an announcer: written each second, watched by all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daymark_model::Cidr;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use crate::clock;
use crate::membership::{Announcer, Renewal, Timing};

/// The name of a node's Lease is this and the node's name.
const PREFIX: &str = "daymark-announcer-";
/// The label that tells these Leases from others of the namespace.
const LABEL: (&str, &str) = ("daymark.io/part", "announcer");
/// The prefixes that the node is on the link of, with commas.
const ON_LINK: &str = "daymark.io/on-link";

/// How this process shows that it lives.
#[derive(Clone)]
pub(super) struct Heartbeat {
    client: kube::Client,
    leases: Api<Lease>,
    node: Arc<str>,
    holder: Arc<str>,
    timing: Timing,
}

impl Heartbeat {
    pub(super) fn new(
        client: kube::Client,
        namespace: &str,
        node: Arc<str>,
        holder: Arc<str>,
        timing: Timing,
    ) -> Self {
        let leases = Api::namespaced(client.clone(), namespace);
        Self {
            client,
            leases,
            node,
            holder,
            timing,
        }
    }

    fn name(&self) -> String {
        format!("{PREFIX}{}", self.node)
    }

    /// Writes one renewal; makes the Lease when there is none.
    pub(super) async fn renew(&self, written: i64, prefixes: &[Cidr]) -> Result<(), kube::Error> {
        let on_link = prefixes
            .iter()
            .map(Cidr::to_string)
            .collect::<Vec<_>>()
            .join(",");
        let spec = self.spec(written);
        let patch = json!({ "metadata": { "annotations": { ON_LINK: on_link } }, "spec": spec });
        match self
            .leases
            .patch(&self.name(), &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => self.create(spec, on_link).await,
            other => other.map(drop),
        }
    }

    fn spec(&self, written: i64) -> LeaseSpec {
        let seconds = self.timing.lapse().as_secs();
        LeaseSpec {
            holder_identity: Some(self.holder.to_string()),
            lease_duration_seconds: Some(i32::try_from(seconds).expect("at most an hour")),
            renew_time: Timestamp::from_microsecond(written).ok().map(MicroTime),
            ..LeaseSpec::default()
        }
    }

    async fn create(&self, spec: LeaseSpec, on_link: String) -> Result<(), kube::Error> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name()),
                labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
                annotations: Some(BTreeMap::from([(ON_LINK.to_owned(), on_link)])),
                owner_references: self.node_reference().await.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        self.leases
            .create(&PostParams::default(), &lease)
            .await
            .map(drop)
    }

    /// Lets the Lease go with the Node. Without it the Lease merely stays behind, lapsed.
    async fn node_reference(&self) -> Option<OwnerReference> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = nodes.get_opt(&self.node).await.ok().flatten()?;
        Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.node.to_string(),
            uid: node.metadata.uid?,
            ..OwnerReference::default()
        })
    }

    /// Deletes the Lease, if it is still this process's: others take over at once.
    pub(super) async fn release(&self) -> Result<(), kube::Error> {
        let Some(lease) = self.leases.get_opt(&self.name()).await? else {
            return Ok(());
        };
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        if holder.as_deref() != Some(&*self.holder) {
            return Ok(());
        }
        let preconditions = Preconditions {
            uid: lease.metadata.uid,
            resource_version: lease.metadata.resource_version,
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        self.leases.delete(&self.name(), &params).await.map(drop)
    }

    /// Watches the Leases of all announcers.
    pub(super) fn watch(&self) -> Watch {
        let config = watcher::Config::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
        Watch {
            events: watcher(self.leases.clone(), config).boxed(),
            listed: Vec::new(),
        }
    }
}

/// What the watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A Lease came or changed.
    Saw(Announcer),
    /// A list is complete; these are all.
    Listed(Vec<Announcer>),
    /// The Lease of this node was deleted.
    Left(Arc<str>),
}

/// A watch of the Leases that starts again by itself.
pub(super) struct Watch {
    events: BoxStream<'static, Result<Event<Lease>, watcher::Error>>,
    listed: Vec<Announcer>,
}

impl Watch {
    /// What is new. Cancel safe.
    pub(super) async fn next(&mut self) -> News {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    if let Some(news) = self.take(event) {
                        return news;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the watch of announcers' Leases broke");
                    tokio::time::sleep(PAUSE).await;
                }
                // The stream of a watcher has no end.
                None => futures::future::pending::<()>().await,
            }
        }
    }

    fn take(&mut self, event: Event<Lease>) -> Option<News> {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(lease) => self.listed.extend(announcer(&lease)),
            Event::InitDone => return Some(News::Listed(std::mem::take(&mut self.listed))),
            Event::Apply(lease) => return announcer(&lease).map(News::Saw),
            Event::Delete(lease) => {
                return announcer(&lease).map(|announcer| News::Left(announcer.node));
            }
        }
        None
    }
}

/// Between two attempts to watch: an announcer that cannot watch is silent, so it does not wait long.
const PAUSE: Duration = Duration::from_millis(100);

fn announcer(lease: &Lease) -> Option<Announcer> {
    let node = lease.metadata.name.as_deref()?.strip_prefix(PREFIX)?;
    let spec = lease.spec.as_ref()?;
    let on_link = lease
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(ON_LINK));
    Some(Announcer {
        node: node.into(),
        renewal: Renewal {
            holder: spec.holder_identity.as_deref().unwrap_or_default().into(),
            written: spec
                .renew_time
                .as_ref()
                .map_or(0, |time| time.0.as_microsecond()),
        },
        lapse: spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        prefixes: on_link
            .into_iter()
            .flat_map(|text| text.split(','))
            .filter_map(Cidr::parse)
            .collect(),
    })
}

/// Numbers for `spec.renewTime` that never repeat within a process: the time of day, or one more than the last.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    last: i64,
}

impl Stamps {
    pub(super) fn next(&mut self) -> i64 {
        self.last = clock::timestamp().as_microsecond().max(self.last + 1);
        self.last
    }
}
