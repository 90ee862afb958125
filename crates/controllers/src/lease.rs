//! Whether a node is silent, or only not heard: its Lease is read from the API once more.
//!
//! When the API stands still, watches do not fail: they say nothing, as if all nodes were silent, and so does a kubelet
//! that cannot renew. What is written then is carried out the moment the API goes on, before any node is heard. So
//! nothing is written of a node before the API has carried out a write and answered a read, and an answer that comes
//! late says that it was not the node that was away. A read alone would not do: while a disk hangs, reads are prompt
//! and all renewals wait; behind a write that was carried out, none does that came before it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::clock;

/// The namespace of the Leases that nodes renew.
pub(crate) const NODE_LEASES: &str = "kube-node-lease";

/// The Lease that is written before a node is judged: namespace and name.
const OURS: (&str, &str) = ("kube-system", "daymark-controllers");

/// Reads take milliseconds; on a busy machine they take as long as this, and nothing is wrong.
const SHORTEST: Duration = Duration::from_millis(500);

/// After how long an answer is late. Nodes renew three times in a grace period, or more often; an API that stood still
/// for less than a third has lost them one renewal, and silence still means something.
pub(crate) fn patience(grace: Duration) -> Duration {
    (grace / 3).max(SHORTEST)
}

/// When a node's Lease was last renewed.
pub(crate) fn renewed_at(lease: &Lease) -> Option<Timestamp> {
    let spec = lease.spec.as_ref()?;
    spec.renew_time.as_ref().map(|time| time.0)
}

/// What is asked.
pub(crate) struct Question {
    pub(crate) node: String,
    /// The renewal that was seen last.
    pub(crate) known: Option<Timestamp>,
    pub(crate) patience: Duration,
}

/// What the API says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Nothing new: the node is silent.
    Silent,
    /// The Lease was renewed and the watch did not say so yet.
    Renewed(Timestamp),
    /// The answer came late: the API was away, and no node could be heard.
    Late(Duration),
    /// There was none.
    Failed(kube::Error),
}

impl Question {
    /// Asks, and waits for as long as it takes: how long that is, is the answer.
    pub(crate) async fn ask(&self, client: &Client) -> Answer {
        let start = clock::now();
        let read = written_and_read(client, &self.node).await;
        let took = clock::now().duration_since(start);
        match read {
            Ok(lease) => self.judge(lease.as_ref().and_then(renewed_at), took),
            Err(error) => Answer::Failed(error),
        }
    }

    fn judge(&self, renewed: Option<Timestamp>, took: Duration) -> Answer {
        match renewed {
            _ if took > self.patience => Answer::Late(took),
            Some(at) if self.known != Some(at) => Answer::Renewed(at),
            // A Lease that somebody deleted is no sign of life.
            Some(_) | None => Answer::Silent,
        }
    }
}

/// Writes, and then reads the node's Lease.
async fn written_and_read(client: &Client, node: &str) -> Result<Option<Lease>, kube::Error> {
    write(client).await?;
    let api: Api<Lease> = Api::namespaced(client.clone(), NODE_LEASES);
    api.get_opt(node).await
}

/// Renews our own Lease: each time another moment, so that there is something to write.
async fn write(client: &Client) -> Result<(), kube::Error> {
    let (namespace, name) = OURS;
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let body = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": name },
        "spec": { "holderIdentity": name, "renewTime": MicroTime(clock::today()) },
    });
    match api
        .patch(name, &PatchParams::default(), &Patch::Merge(&body))
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = serde_json::from_value(body).map_err(kube::Error::SerdeError)?;
            match api.create(&PostParams::default(), &lease).await {
                // Another question was first: that was a write too.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                created => created.map(drop),
            }
        }
        patched => patched.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_grace_is_late_but_never_half_a_second() {
        for (grace, expected) in [(100, 500), (1500, 500), (3000, 1000), (60_000, 20_000)] {
            let found = patience(Duration::from_millis(grace));
            assert_eq!(found, Duration::from_millis(expected), "{grace} ms");
        }
    }

    #[test]
    fn only_a_prompt_answer_says_something_of_the_node() {
        let time = |second: i64| Timestamp::from_second(second).expect("a time");
        // known, read, milliseconds -> answer
        let rows = [
            (Some(1), Some(1), 3, "Silent"),
            (Some(1), Some(2), 3, "Renewed(1970-01-01T00:00:02Z)"),
            (None, Some(2), 3, "Renewed(1970-01-01T00:00:02Z)"),
            (None, None, 3, "Silent"),
            (Some(1), None, 3, "Silent"),
            (Some(1), Some(1), 1001, "Late(1.001s)"),
            (Some(1), Some(2), 1001, "Late(1.001s)"),
        ];
        for (known, read, took, expected) in rows {
            let question = Question {
                node: "a".to_owned(),
                known: known.map(time),
                patience: Duration::from_secs(1),
            };
            let answer = question.judge(read.map(time), Duration::from_millis(took));
            assert_eq!(
                format!("{answer:?}"),
                expected,
                "{known:?} {read:?} {took} ms"
            );
        }
    }
}
