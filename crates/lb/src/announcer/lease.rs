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
use tokio::time::sleep;

use crate::clock;
use crate::membership::{Announcer, Renewal, Standing, Timing};
use crate::moment::Moment;

/// The name of a node's Lease is this and the node's name.
const PREFIX: &str = "daymark-announcer-";
/// The label that tells these Leases from others of the namespace.
const LABEL: (&str, &str) = ("daymark.io/part", "announcer");
/// The prefixes that the node is on the link of, with commas.
const ON_LINK: &str = "daymark.io/on-link";
/// There while the announcer makes itself known and is not to be elected.
const JOINING: &str = "daymark.io/joining";
/// There from then on, with every renewal of that process, if it was the first.
const FIRST_OF_ALL: &str = "daymark.io/first";

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
    pub(super) async fn renew(
        &self,
        written: i64,
        prefixes: &[Cidr],
        standing: Standing,
    ) -> Result<(), kube::Error> {
        let on_link = prefixes
            .iter()
            .map(Cidr::to_string)
            .collect::<Vec<_>>()
            .join(",");
        let spec = self.spec(written);
        let [joining, first] = marks(standing);
        let annotations = json!({ ON_LINK: on_link, joining.0: joining.1, first.0: first.1 });
        let patch = json!({ "metadata": { "annotations": annotations }, "spec": spec });
        match self
            .leases
            .patch(&self.name(), &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                self.create(spec, on_link, standing).await
            }
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

    async fn create(
        &self,
        spec: LeaseSpec,
        on_link: String,
        standing: Standing,
    ) -> Result<(), kube::Error> {
        let marks = marks(standing).into_iter();
        let marks = marks.filter_map(|(name, text)| Some((name.to_owned(), text?.to_owned())));
        let on_link = (ON_LINK.to_owned(), on_link);
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name()),
                labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
                annotations: Some(marks.chain([on_link]).collect()),
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
            pause: Pause::default(),
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
    pause: Pause,
}

impl Watch {
    /// Opens it anew; a pause goes on, because why it failed may have stayed.
    pub(super) fn reopen(&mut self, heartbeat: &Heartbeat) {
        let pause = std::mem::take(&mut self.pause);
        *self = Self {
            pause,
            ..heartbeat.watch()
        };
    }

    /// What is new. Cancel safe.
    pub(super) async fn next(&mut self) -> News {
        loop {
            sleep(self.pause.left(clock::now())).await;
            match self.events.next().await {
                Some(Ok(event)) => {
                    // It begins to list also where it is refused each time.
                    if !matches!(event, Event::Init) {
                        self.pause = Pause::default();
                    }
                    if let Some(news) = self.take(event) {
                        return news;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the watch of announcers' Leases broke");
                    let chance = f64::from(clock::timestamp().subsec_nanosecond()) / 1e9;
                    self.pause.after(asked(&error), chance, clock::now());
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

/// The pause between two attempts to watch. An announcer that cannot watch is silent, so it does not wait long; but a thousand that
/// have no right to it are not to keep an API busy.
#[derive(Debug, Default)]
struct Pause {
    /// How often in a row it failed.
    failures: u32,
    /// Before this there is no attempt.
    until: Option<Moment>,
}

/// Whether the API could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// It answered that it will not.
    Refused,
    /// It could not be reached, or the connection broke.
    Unheard,
}

impl Pause {
    /// An attempt failed. `chance`, in 0.0..1.0, takes up to half off, so that not all come back at once.
    fn after(&mut self, asked: Asked, chance: f64, now: Moment) {
        let longest = match asked {
            Asked::Refused => LONGEST_REFUSED,
            Asked::Unheard => LONGEST,
        };
        let wait = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(longest);
        self.failures += 1;
        self.until = Some(now + wait.mul_f64(1.0 - chance / 2.0));
    }

    /// What is left of it.
    fn left(&self, now: Moment) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.since(now))
    }
}

/// An API that is overloaded, or has lost its store, answers too: that will pass, and is as if it were not heard.
fn asked(error: &watcher::Error) -> Asked {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    let code = match error {
        WatchError(status) => status.code,
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => status.code,
        _ => 0,
    };
    match code {
        401 | 403 | 404 => Asked::Refused,
        _ => Asked::Unheard,
    }
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);
const LONGEST_REFUSED: Duration = Duration::from_secs(30);

/// The annotations that say what an announcer's standing is, and those that must not be there.
fn marks(standing: Standing) -> [(&'static str, Option<&'static str>); 2] {
    let mark = |name, of| (name, (standing == of).then_some("true"));
    [
        mark(JOINING, Standing::Joining),
        mark(FIRST_OF_ALL, Standing::First),
    ]
}

fn announcer(lease: &Lease) -> Option<Announcer> {
    let node = lease.metadata.name.as_deref()?.strip_prefix(PREFIX)?;
    let spec = lease.spec.as_ref()?;
    let annotations = lease.metadata.annotations.as_ref();
    let annotation = |name| annotations.and_then(|annotations| annotations.get(name));
    let on_link = annotation(ON_LINK);
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
        // An agent that does not know the annotation joins at once.
        standing: match (annotation(JOINING), annotation(FIRST_OF_ALL)) {
            (Some(_), _) => Standing::Joining,
            (None, Some(_)) => Standing::First,
            (None, None) => Standing::Joined,
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(asked: Asked, chance: f64) -> Vec<u128> {
        let (mut pause, mut now, mut pauses) = (Pause::default(), clock::now(), Vec::new());
        for _ in 0..11 {
            pause.after(asked, chance, now);
            let left = pause.left(now);
            pauses.push(left.as_millis());
            now = now + left;
            assert_eq!(pause.left(now), Duration::ZERO);
        }
        pauses
    }

    #[test]
    fn an_api_that_refuses_is_asked_seldom_and_one_that_is_away_each_second() {
        let away = [100, 200, 400, 800, 1000, 1000, 1000, 1000, 1000, 1000, 1000];
        assert_eq!(pauses(Asked::Unheard, 0.0), away);
        assert_eq!(pauses(Asked::Unheard, 1.0), away.map(|wait| wait / 2));
        let refused = [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
        ];
        assert_eq!(pauses(Asked::Refused, 0.0), refused);
        for (code, expected) in [
            (401, Asked::Refused),
            (403, Asked::Refused),
            (429, Asked::Unheard),
            (500, Asked::Unheard),
            (503, Asked::Unheard),
        ] {
            let status = Box::new(kube::core::Status::failure("", "").with_code(code));
            let listing = watcher::Error::InitialListFailed(kube::Error::Api(status.clone()));
            assert_eq!(asked(&listing), expected, "{code}");
            assert_eq!(
                asked(&watcher::Error::WatchError(status)),
                expected,
                "{code}"
            );
        }
    }

    #[test]
    fn a_standing_is_read_as_it_was_written() {
        for standing in [Standing::Joining, Standing::Joined, Standing::First] {
            let marks = marks(standing).into_iter();
            let marks = marks.filter_map(|(name, text)| Some((name.to_owned(), text?.to_owned())));
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(format!("{PREFIX}node-1")),
                    annotations: Some(marks.collect()),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec::default()),
            };
            let read = announcer(&lease).map(|announcer| announcer.standing);
            assert_eq!(read, Some(standing));
        }
    }
}
