//! Tells the API what became of a Pod: always the newest, as often as it takes.

use std::rc::Rc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::sync::watch;

use super::{Kubelet, names};
use crate::kubelet::api::in_time;

/// What happens to the object once the status has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It stays.
    Keep,
    /// It is deleted for good: its processes have ended.
    Delete,
}

/// The sending end: reports replace each other until they are sent.
pub(super) struct Reporter(watch::Sender<Option<(PodStatus, Then)>>);

impl Reporter {
    pub(super) fn start(kubelet: &Rc<Kubelet>, pod: &Pod) -> Self {
        let (sender, newest) = watch::channel(None);
        let (namespace, name) = names(pod);
        let target = Target {
            kubelet: Rc::clone(kubelet),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        };
        tokio::task::spawn_local(target.follow(newest));
        Self(sender)
    }

    pub(super) fn report(&self, status: PodStatus, then: Then) {
        self.0.send_replace(Some((status, then)));
    }

    /// The newest report.
    pub(super) fn reported(&self) -> Option<PodStatus> {
        self.0.borrow().as_ref().map(|(status, _)| status.clone())
    }
}

struct Target {
    kubelet: Rc<Kubelet>,
    namespace: String,
    name: String,
    uid: String,
}

/// How a request to the API went.
enum Sent {
    Done,
    /// The object is gone, or another of its name.
    Gone,
    /// Not now.
    Later,
}

impl Target {
    async fn follow(self, mut newest: watch::Receiver<Option<(PodStatus, Then)>>) {
        while newest.changed().await.is_ok() {
            loop {
                let Some((status, then)) = newest.borrow_and_update().clone() else {
                    break;
                };
                match self.send(&status).await {
                    Sent::Done if then == Then::Delete => return self.delete().await,
                    Sent::Done => break,
                    Sent::Gone => return,
                    Sent::Later => tokio::time::sleep(RETRY).await,
                }
            }
        }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.kubelet.session.client(), &self.namespace)
    }

    async fn send(&self, status: &PodStatus) -> Sent {
        // The uid makes it a conflict if another Pod has taken the name meanwhile.
        let body = json!({ "metadata": { "uid": self.uid }, "status": status });
        let params = PatchParams::default();
        self.outcome(
            in_time(
                self.api()
                    .patch_status(&self.name, &params, &Patch::Merge(&body)),
            )
            .await,
        )
    }

    async fn delete(&self) {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        while let Sent::Later = self.outcome(in_time(self.api().delete(&self.name, &params)).await)
        {
            tokio::time::sleep(RETRY).await;
        }
    }

    fn outcome<T>(&self, result: Option<Result<T, kube::Error>>) -> Sent {
        match result {
            Some(Ok(_)) => Sent::Done,
            Some(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409 | 410) => {
                Sent::Gone
            }
            Some(Err(error)) => {
                tracing::warn!(pod = %format!("{}/{}", self.namespace, self.name), %error, "reporting");
                Sent::Later
            }
            None => Sent::Later,
        }
    }
}

const RETRY: Duration = Duration::from_millis(100);
