//! From a piece of work to the calls that do it: decided at once on what is known, carried out beside the loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use crate::adrift::Step;
use crate::cache::id_of;
use crate::collect::ignore_missing;
use crate::endpoints::topology::Shares;
use crate::endpoints::{self, Inputs, MAX_ENDPOINTS, Plan, Write};
use crate::graph::Fate;
use crate::kinds::Kinds;
use crate::lease::{Answer, Question};
use crate::node::{Pulse, Verdict, judge, pod_patch, unknown_patch};
use crate::notice::warn_about;
use crate::options::Options;
use crate::queue::Ended;
use crate::world::{Job, World, node_of};
use crate::{adrift, cidr, clock, collect, events, lease, namespace, schedule};

/// How many Pods of a silent node are written at a time.
const POD_WRITES: usize = 16;

/// How long to wait after somebody else wrote first.
const AFTER_CONFLICT: Duration = Duration::from_millis(5);

/// What was written or heard, for the caches.
pub(crate) enum Effect {
    Slice(Box<EndpointSlice>),
    SliceGone {
        namespace: String,
        name: String,
        uid: String,
    },
    Pod(Box<Pod>),
    Node(Box<Node>),
    /// The API says that a node's Lease was renewed.
    Heard {
        node: String,
        renewed: Timestamp,
    },
    /// The API did not answer in time.
    ApiWasAway,
    Bound {
        pod: Box<Pod>,
        uid: String,
    },
    NotBound {
        uid: String,
    },
}

/// How a piece of work ended.
pub(crate) struct Outcome {
    pub(crate) job: Job,
    pub(crate) effects: Vec<Effect>,
    pub(crate) result: Result<Ended, kube::Error>,
}

/// What the work needs beside what is known.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) client: Client,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) options: Options,
}

/// Work that is over, or under way.
pub(crate) enum Started {
    Over(Ended),
    Underway(BoxFuture<'static, Outcome>),
}

/// Decides what a job needs and starts it.
pub(crate) fn start(job: Job, world: &mut World, tools: &Tools, now: Instant) -> Started {
    match &job {
        Job::Slices(namespace, name) => slices(job.clone(), namespace, name, world, tools),
        Job::Bind(namespace, name) => bind(job.clone(), namespace, name, world, tools),
        Job::Node(name) => node(job.clone(), name, world, tools, now),
        Job::Stranded(node) => stranded(job.clone(), node, world, tools, now),
        Job::Collect(uid) => match world.graph.fate(uid) {
            Fate::Keep => Started::Over(Ended::Done),
            fate => plain(job, tools, |tools| async move {
                collect::carry_out(&tools.client, &tools.kinds, fate).await
            }),
        },
        Job::Namespace(name) => {
            let name = name.clone();
            plain(job, tools, |tools| async move {
                namespace::empty(&tools.client, &tools.kinds, &name).await
            })
        }
        Job::Cidr(name) => {
            let name = name.clone();
            plain(job, tools, |tools| async move {
                cidr::tend(&tools.client, &name).await
            })
        }
        Job::Events => plain(job, tools, |tools| async move {
            events::sweep(&tools.client, &tools.options).await
        }),
    }
}

/// Work whose writes come back through the watches.
fn plain<F>(job: Job, tools: &Tools, work: impl FnOnce(Tools) -> F) -> Started
where
    F: Future<Output = Result<Ended, kube::Error>> + Send + 'static,
{
    let work = work(tools.clone());
    Started::Underway(
        async move {
            Outcome {
                job,
                effects: Vec::new(),
                result: work.await,
            }
        }
        .boxed(),
    )
}

fn slices(job: Job, namespace: &str, name: &str, world: &mut World, tools: &Tools) -> Started {
    let Some(service) = world.services.get(namespace, name).cloned() else {
        world
            .triggers
            .remove(&(namespace.to_owned(), name.to_owned()));
        return Started::Over(Ended::Done);
    };
    if !endpoints::has_selector(&service) {
        return Started::Over(Ended::Done);
    }
    let pods: Vec<Arc<Pod>> = world
        .pods
        .of(namespace)
        .filter(|pod| endpoints::matches(&service, &pod.metadata))
        .cloned()
        .collect();
    let kept = |slice: &&Arc<EndpointSlice>| {
        let labels = slice.metadata.labels.as_ref();
        endpoints::is_ours(slice)
            && labels
                .and_then(|l| l.get(endpoints::SERVICE_NAME_LABEL))
                .is_some_and(|n| n == name)
    };
    let slices: Vec<Arc<EndpointSlice>> =
        world.slices.of(namespace).filter(kept).cloned().collect();
    let triggers = world
        .triggers
        .entry((namespace.to_owned(), name.to_owned()))
        .or_default();
    let trigger = triggers.next(&service, &pods);
    let nodes = &world.nodes;
    let node = |name: &str| nodes.get("", name).cloned();
    let inputs = Inputs {
        service: &service,
        pods: &pods,
        node: &node,
        shares: &|| Shares::of(nodes.all().map(Arc::as_ref)),
        slices: &slices,
        trigger,
        max: MAX_ENDPOINTS,
    };
    let plan = endpoints::plan(&inputs);
    if plan.waits_for_node {
        debug!(namespace, name, "a Pod waits for its Node to be known");
    }
    if plan.writes.is_empty() {
        return Started::Over(Ended::Done);
    }
    Started::Underway(write_slices(job, tools.client.clone(), service, plan).boxed())
}

async fn write_slices(job: Job, client: Client, service: Arc<Service>, plan: Plan) -> Outcome {
    let namespace = id_of(service.as_ref()).0;
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace);
    let mut effects = Vec::new();
    let mut result = Ok(Ended::Done);
    for write in plan.writes {
        match write_slice(&api, &namespace, write).await {
            Ok(effect) => effects.push(effect),
            Err(error) => {
                result = soften(error);
                break;
            }
        }
    }
    let about = || service.object_ref(&());
    if let Err(error) = &result {
        let message = format!("the EndpointSlices of this Service were not written: {error}");
        warn_about(&client, about(), "FailedToUpdateEndpointSlices", message).await;
    } else if let Some(why) = plan.no_hints {
        let message = format!("no topology hints: {why}");
        warn_about(&client, about(), "TopologyAwareHintsDisabled", message).await;
    }
    Outcome {
        job,
        effects,
        result,
    }
}

async fn write_slice(
    api: &Api<EndpointSlice>,
    namespace: &str,
    write: Write,
) -> Result<Effect, kube::Error> {
    let params = PostParams::default();
    Ok(match write {
        Write::Create(slice) => Effect::Slice(Box::new(api.create(&params, &slice).await?)),
        Write::Update(slice) => {
            let name = slice.metadata.name.clone().unwrap_or_default();
            Effect::Slice(Box::new(api.replace(&name, &params, &slice).await?))
        }
        Write::Delete { name, uid } => {
            let preconditions = Preconditions {
                uid: Some(uid.clone()),
                resource_version: None,
            };
            let params = DeleteParams {
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            ignore_missing(api.delete(&name, &params).await.map(|_| ()))?;
            Effect::SliceGone {
                namespace: namespace.to_owned(),
                name,
                uid,
            }
        }
    })
}

/// Errors that the next look at the world resolves: somebody wrote first, or the namespace is going away.
fn soften(error: kube::Error) -> Result<Ended, kube::Error> {
    match &error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => {
            Ok(Ended::Again(AFTER_CONFLICT))
        }
        kube::Error::Api(status) if is_terminating(status) => Ok(Ended::Done),
        _ => Err(error),
    }
}

fn is_terminating(status: &kube::core::Status) -> bool {
    let causes = status
        .details
        .as_ref()
        .map(|details| details.causes.as_slice())
        .unwrap_or_default();
    status.code == 403
        && causes
            .iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
}

fn bind(job: Job, namespace: &str, name: &str, world: &mut World, tools: &Tools) -> Started {
    let Some(pod) = world
        .pods
        .get(namespace, name)
        .filter(|pod| schedule::waits(pod))
        .cloned()
    else {
        return Started::Over(Ended::Done);
    };
    let Some(node) = schedule::choose(
        &pod,
        world.nodes.all().map(Arc::as_ref),
        &world.pod_counts(),
    ) else {
        debug!(namespace, name, "no node is ready for this Pod");
        return Started::Over(Ended::Done);
    };
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    world.assumed.insert(uid.clone(), node.clone());
    let api: Api<Pod> = Api::namespaced(tools.client.clone(), namespace);
    let (name, version) = (name.to_owned(), pod.metadata.resource_version.clone());
    let work = async move {
        let patch = json!({ "metadata": { "uid": uid, "resourceVersion": version }, "spec": { "nodeName": node } });
        let params = PatchParams::default();
        let (effects, result) = match api.patch(&name, &params, &Patch::Merge(patch)).await {
            Ok(pod) => (
                vec![Effect::Bound {
                    pod: Box::new(pod),
                    uid,
                }],
                Ok(Ended::Done),
            ),
            Err(error) => (vec![Effect::NotBound { uid }], soften(error)),
        };
        Outcome {
            job,
            effects,
            result,
        }
    };
    Started::Underway(work.boxed())
}

fn node(job: Job, name: &str, world: &mut World, tools: &Tools, now: Instant) -> Started {
    let (grace, hears) = (tools.options.node_grace, world.hears(now));
    let (Some(node), Some(heartbeat)) = (world.nodes.get("", name), world.heartbeats.get_mut(name))
    else {
        return Started::Over(Ended::Done);
    };
    let pulse = match heartbeat.lapses(grace) <= now && hears {
        true => Pulse::Silent,
        false => Pulse::Alive,
    };
    let verdict = judge(node, pulse);
    let today = clock::today();
    let pods: Vec<(Arc<Pod>, Value)> = world
        .pods
        .all()
        .filter(|pod| verdict.pods_not_ready && node_of(pod) == Some(name))
        .filter_map(|pod| Some((Arc::clone(pod), pod_patch(pod, today)?)))
        .collect();
    let wait = heartbeat.wait(grace, now);
    let writes = verdict.unknown || verdict.taints.is_some() || !pods.is_empty();
    let asks = match pulse {
        Pulse::Silent => writes,
        Pulse::Alive => hears && heartbeat.is_late(grace, now),
    };
    if !writes && !asks {
        return Started::Over(Ended::Again(wait));
    }
    let question = asks.then(|| {
        heartbeat.ask(now);
        Question {
            node: name.to_owned(),
            known: heartbeat.renewal(),
            patience: lease::patience(grace),
        }
    });
    let findings = Findings {
        node: Arc::clone(node),
        verdict,
        pods,
        wait,
    };
    Started::Underway(tend_node(job, tools.client.clone(), question, findings).boxed())
}

/// What is known of a node, and what is to be written of it.
struct Findings {
    node: Arc<Node>,
    verdict: Verdict,
    pods: Vec<(Arc<Pod>, Value)>,
    wait: Duration,
}

/// Asks the API where there is doubt, and writes what still holds then.
async fn tend_node(
    job: Job,
    client: Client,
    question: Option<Question>,
    findings: Findings,
) -> Outcome {
    let Some(question) = question else {
        return write_node(job, client, findings).await;
    };
    // With what the API said, the node is looked at again at once.
    let (effect, result) = match question.ask(&client).await {
        Answer::Silent => return write_node(job, client, findings).await,
        Answer::Renewed(renewed) => {
            let node = question.node;
            (
                Effect::Heard { node, renewed },
                Ok(Ended::Again(Duration::ZERO)),
            )
        }
        Answer::Late(took) => {
            let node = question.node;
            warn!(
                node,
                ?took,
                "the API was away: that no node was heard means nothing"
            );
            (Effect::ApiWasAway, Ok(Ended::Again(Duration::ZERO)))
        }
        Answer::Failed(error) => (Effect::ApiWasAway, Err(error)),
    };
    Outcome {
        job,
        effects: vec![effect],
        result,
    }
}

async fn write_node(job: Job, client: Client, findings: Findings) -> Outcome {
    let Findings {
        node,
        verdict,
        pods,
        wait,
    } = findings;
    if verdict.unknown {
        let node = id_of(node.as_ref()).1;
        info!(
            node,
            pods = pods.len(),
            "the node does not renew its Lease: not ready"
        );
    }
    let mut effects = Vec::new();
    let mut result = Ok(Ended::Again(wait));
    let mut written = stream::iter(
        pods.into_iter()
            .map(|(pod, patch)| write_pod(client.clone(), pod, patch)),
    )
    .buffer_unordered(POD_WRITES);
    while let Some(answer) = written.next().await {
        match answer {
            Ok(effect) => effects.extend(effect),
            Err(error) => result = Err(error),
        }
    }
    match write_verdict(&client, &node, verdict).await {
        Ok(answers) => effects.extend(answers.into_iter().map(|node| Effect::Node(Box::new(node)))),
        Err(error) => result = soften(error),
    }
    Outcome {
        job,
        effects,
        result,
    }
}

async fn write_pod(
    client: Client,
    pod: Arc<Pod>,
    patch: Value,
) -> Result<Option<Effect>, kube::Error> {
    let (namespace, name) = id_of(pod.as_ref());
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    match api
        .patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
    {
        Ok(pod) => Ok(Some(Effect::Pod(Box::new(pod)))),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn write_verdict(
    client: &Client,
    node: &Node,
    verdict: Verdict,
) -> Result<Vec<Node>, kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let name = node.metadata.name.clone().unwrap_or_default();
    let params = PatchParams::default();
    let mut answers = Vec::new();
    if let Some(taints) = verdict.taints {
        let version = &node.metadata.resource_version;
        let patch =
            json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
        answers.push(api.patch(&name, &params, &Patch::Merge(patch)).await?);
    }
    if verdict.unknown {
        // Of the node that was judged: a kubelet that posted meanwhile is not overwritten.
        let judged = answers.last().unwrap_or(node);
        let patch = unknown_patch(judged, clock::today());
        answers.push(
            api.patch_status(&name, &params, &Patch::Strategic(patch))
                .await?,
        );
    }
    Ok(answers)
}

/// Pods that nobody will ever stop: their node is not there.
fn stranded(job: Job, node: &str, world: &mut World, tools: &Tools, now: Instant) -> Started {
    if world.nodes.get("", node).is_some() {
        return Started::Over(Ended::Done);
    }
    let (mut told, mut deleted, mut next) = (Vec::new(), Vec::new(), None::<Duration>);
    let mut again = |wait: Duration| next = Some(next.map_or(wait, |next| next.min(wait)));
    for pod in world.pods.all().filter(|pod| node_of(pod) == Some(node)) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        match world.adrift.step(uid, now) {
            Some(Step::Wait(wait)) => again(wait),
            Some(Step::Tell(left)) => {
                again(left);
                told.push((Arc::clone(pod), left));
            }
            Some(Step::Delete) => deleted.push(Arc::clone(pod)),
            None => {}
        }
    }
    let ended = next.map_or(Ended::Done, Ended::Again);
    if told.is_empty() && deleted.is_empty() {
        return Started::Over(ended);
    }
    if !deleted.is_empty() {
        let pods = deleted.len();
        warn!(node, pods, "there is no such node: its Pods are deleted");
    }
    plain(job, tools, move |tools| async move {
        for (pod, left) in told {
            adrift::tell(&tools.client, &pod, left).await;
        }
        for pod in deleted {
            adrift::delete(&tools.client, &pod).await?;
        }
        Ok(ended)
    })
}
