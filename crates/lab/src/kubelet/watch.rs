//! The Pods bound to this node, each handed to a worker of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc;

use super::worker::{Kubelet, Update, Worker};

/// Watches for ever; after an outage, anew.
pub(super) async fn run(kubelet: &Rc<Kubelet>) {
    let mut workers = Workers::default();
    let mut outages = kubelet.session.outages();
    loop {
        tokio::select! {
            () = follow(kubelet, &mut workers) => {}
            _ = outages.changed() => {}
        }
    }
}

/// Follows one stream; returns only to be called again.
async fn follow(kubelet: &Rc<Kubelet>, workers: &mut Workers) {
    let pods: Api<Pod> = Api::all(kubelet.session.client());
    let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", kubelet.config.node));
    let mut events = pin!(watcher(pods, mine));
    let mut listed = BTreeSet::new();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(pod))) => {
                listed.extend(uid(&pod));
                workers.apply(kubelet, pod);
            }
            Ok(Some(Event::InitDone)) => workers.keep(&listed),
            Ok(Some(Event::Apply(pod))) => workers.apply(kubelet, pod),
            Ok(Some(Event::Delete(pod))) => workers.delete(&pod),
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "watching Pods");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn uid(pod: &Pod) -> Option<String> {
    pod.metadata.uid.clone()
}

/// The workers, by their Pod's uid: a name may return while the old Pod is still ending.
#[derive(Default)]
struct Workers(BTreeMap<String, mpsc::UnboundedSender<Update>>);

impl Workers {
    fn apply(&mut self, kubelet: &Rc<Kubelet>, pod: Pod) {
        self.0.retain(|_, worker| !worker.is_closed());
        let Some(uid) = uid(&pod) else { return };
        if let Some(worker) = self.0.get(&uid) {
            // A worker that ended in this moment has nothing more to do with its Pod.
            let _ = worker.send(Update::Changed(Box::new(pod)));
            return;
        }
        let (sender, inbox) = mpsc::unbounded_channel();
        self.0.insert(uid, sender);
        tokio::task::spawn_local(Worker::new(Rc::clone(kubelet), pod, inbox).run());
    }

    fn delete(&mut self, pod: &Pod) {
        if let Some(worker) = uid(pod).and_then(|uid| self.0.remove(&uid)) {
            let _ = worker.send(Update::Gone);
        }
    }

    /// Ends the workers of Pods that a new list does not know.
    fn keep(&mut self, listed: &BTreeSet<String>) {
        self.0.retain(|uid, worker| {
            let known = listed.contains(uid);
            if !known {
                let _ = worker.send(Update::Gone);
            }
            known
        });
    }
}

const RETRY: Duration = Duration::from_millis(100);
