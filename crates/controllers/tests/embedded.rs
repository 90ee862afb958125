//! The controllers against the embedded API server, in one process and over its router.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use daymark_apiserver::{ApiServer, Config};
use daymark_controllers::{Options, Scheduler};
use http::{Method, Request};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event as KubeEvent, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::{ServiceExt, service_fn};

/// How long any one thing may take here: far more than it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the API answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// Reads are answered, writes wait, as with a server whose disk hangs.
    ReadOnly,
    /// Requests wait, as with a server that was stopped by a signal.
    Shut,
}

impl Gate {
    fn lets_through(self, method: &Method) -> bool {
        match self {
            Self::Open => true,
            Self::ReadOnly => method == Method::GET,
            Self::Shut => false,
        }
    }
}

/// A server with controllers; they end with it.
struct Cluster {
    /// Comes through even when the gate is shut.
    client: Client,
    /// What the controllers use.
    gated: Client,
    gate: watch::Sender<Gate>,
    controllers: JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.controllers.abort();
    }
}

impl Cluster {
    async fn start(options: Options) -> Self {
        let server = ApiServer::open(Config::default()).expect("an empty server in memory");
        let client = Client::new(server.router(), "default");
        let (gate, passage) = watch::channel(Gate::Open);
        let gated = service_fn(move |request: Request<Body>| {
            let (mut passage, router) = (passage.clone(), server.router());
            async move {
                let method = request.method().clone();
                let open = passage.wait_for(|gate| gate.lets_through(&method)).await;
                drop(open.expect("the cluster is there"));
                router.oneshot(request).await
            }
        });
        let gated = Client::new(gated, "default");
        let controllers = tokio::spawn(daymark_controllers::run(
            gated.clone(),
            options,
            std::future::pending(),
        ));
        Self {
            client,
            gated,
            gate,
            controllers,
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn node(&self, name: &str) -> Node {
        let api: Api<Node> = Api::all(self.client.clone());
        let labels =
            json!({ "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "zone-a" });
        create(
            &api,
            json!({ "metadata": { "name": name, "labels": labels } }),
        )
        .await;
        self.post_status(name).await
    }

    /// What a kubelet does when it is (back) in touch.
    async fn post_status(&self, name: &str) -> Node {
        let api: Api<Node> = Api::all(self.client.clone());
        let conditions =
            json!([{ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "" }]);
        let patch = Patch::Strategic(json!({ "status": { "conditions": conditions } }));
        api.patch_status(name, &PatchParams::default(), &patch)
            .await
            .expect("the kubelet's status")
    }

    async fn pod(&self, name: &str, node: Option<&str>) -> Pod {
        let object = json!({
            "metadata": { "name": name, "labels": { "app": "web" } },
            "spec": { "nodeName": node, "containers": [{ "name": "web", "image": "echo" }] },
        });
        create(&self.api(), object).await
    }

    async fn set_ready(&self, name: &str, last_octet: u8, ready: &str) {
        let status = json!({
            "phase": "Running",
            "podIP": format!("10.244.1.{last_octet}"),
            "podIPs": [{ "ip": format!("10.244.1.{last_octet}") }, { "ip": format!("fd00:10:244:1::{last_octet:x}") }],
            "conditions": [{ "type": "Ready", "status": ready }],
        });
        let patch = Patch::Strategic(json!({ "status": status }));
        self.api::<Pod>()
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .expect("the kubelet's status");
    }

    async fn service(&self, name: &str) -> Service {
        let spec =
            json!({ "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] });
        create(
            &self.api(),
            json!({ "metadata": { "name": name }, "spec": spec }),
        )
        .await
    }

    /// Addresses of ready endpoints of a Service, sorted.
    async fn ready(&self, service: &str) -> Vec<String> {
        let api: Api<EndpointSlice> = self.api();
        let selector =
            ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = api.list(&selector).await.expect("a list").items;
        let endpoints = slices
            .into_iter()
            .flat_map(|slice| slice.endpoints.unwrap_or_default());
        let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true));
        let mut addresses: Vec<String> = ready.flat_map(|endpoint| endpoint.addresses).collect();
        addresses.sort();
        addresses
    }

    async fn ready_becomes(&self, service: &str, expected: &[&str]) -> Duration {
        eventually(&format!("endpoints of {service}: {expected:?}"), || async {
            (self.ready(service).await == expected).then_some(())
        })
        .await
        .0
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let object: K = serde_json::from_value(object).expect("an object of that kind");
    api.create(&PostParams::default(), &object)
        .await
        .expect("created")
}

/// Waits until `look` sees something; answers with how long that took.
#[allow(clippy::disallowed_methods, reason = "a test measures")]
async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    look: impl Fn() -> F,
) -> (Duration, T) {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return (start.elapsed(), found);
        }
        assert!(
            start.elapsed() < PATIENCE,
            "did not come to pass within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn lab() -> Options {
    Options {
        scheduler: Scheduler::On,
        node_grace: Duration::from_millis(1500),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_pods_without_delay() {
    let cluster = Cluster::start(Options::default()).await;
    cluster.node("node-1").await;
    cluster.service("web").await;
    eventually("the empty slice", || async {
        let slices = cluster
            .api::<EndpointSlice>()
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items;
        slices.into_iter().find(|s| {
            s.metadata
                .name
                .as_deref()
                .is_some_and(|n| n.starts_with("web-"))
        })
    })
    .await;
    cluster.pod("web-1", Some("node-1")).await;
    cluster.set_ready("web-1", 1, "True").await;
    cluster.ready_becomes("web", &["10.244.1.1"]).await;

    let mut delays = Vec::new();
    for round in 0..20 {
        let (status, expected): (_, &[&str]) = if round % 2 == 0 {
            ("False", &[])
        } else {
            ("True", &["10.244.1.1"])
        };
        cluster.set_ready("web-1", 1, status).await;
        delays.push(cluster.ready_becomes("web", expected).await);
    }
    delays.sort();
    // Single-digit milliseconds on an idle machine; the bound is for a busy one, and far below any batch period.
    assert!(delays[10] < Duration::from_millis(250), "{delays:?}");

    cluster.pod("web-2", Some("node-1")).await;
    cluster.set_ready("web-2", 2, "True").await;
    cluster
        .ready_becomes("web", &["10.244.1.1", "10.244.1.2"])
        .await;
    let now = DeleteParams::default().grace_period(0);
    cluster
        .api::<Pod>()
        .delete("web-1", &now)
        .await
        .expect("deleted");
    cluster.ready_becomes("web", &["10.244.1.2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_go_with_their_service() {
    let cluster = Cluster::start(Options::default()).await;
    cluster.node("node-1").await;
    let api: Api<Service> = cluster.api();
    for _ in 0..3 {
        cluster.service("web").await;
        let slices: Api<EndpointSlice> = cluster.api();
        let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
        eventually("a slice", || async {
            (!slices.list(&of_web).await.expect("a list").items.is_empty()).then_some(())
        })
        .await;
        api.delete("web", &DeleteParams::background())
            .await
            .expect("deleted");
        eventually("no slice", || async {
            slices
                .list(&of_web)
                .await
                .expect("a list")
                .items
                .is_empty()
                .then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_spread_over_ready_nodes() {
    // Nobody renews the Leases of these nodes, however long a busy machine takes to bind nine Pods.
    let cluster = Cluster::start(Options {
        node_grace: Duration::from_secs(60),
        ..lab()
    })
    .await;
    for name in ["node-1", "node-2", "node-3"] {
        cluster.node(name).await;
    }
    for i in 0..9 {
        cluster.pod(&format!("web-{i}"), None).await;
    }
    let bound = || async {
        let pods = cluster
            .api::<Pod>()
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items;
        let mut nodes: Vec<String> = pods
            .into_iter()
            .filter_map(|pod| pod.spec.and_then(|spec| spec.node_name))
            .collect();
        nodes.sort();
        (nodes.len() == 9).then_some(nodes)
    };
    let (_, nodes) = eventually("nine bound Pods", bound).await;
    assert_eq!(
        nodes.iter().filter(|node| *node == "node-2").count(),
        3,
        "{nodes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_loses_its_endpoints_and_comes_back() {
    let cluster = Cluster::start(lab()).await;
    cluster.node("node-1").await;
    cluster.service("web").await;
    cluster.pod("web-1", Some("node-1")).await;
    cluster.set_ready("web-1", 1, "True").await;
    cluster.ready_becomes("web", &["10.244.1.1"]).await;

    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-node-lease");
    let renew = |second: u32| {
        let time = format!("2026-01-01T00:00:{second:02}.000000Z");
        Patch::Merge(json!({ "spec": { "holderIdentity": "node-1", "renewTime": time } }))
    };
    create(
        &leases,
        json!({ "metadata": { "name": "node-1", "namespace": "kube-node-lease" } }),
    )
    .await;
    for second in 0..6 {
        leases
            .patch("node-1", &PatchParams::default(), &renew(second))
            .await
            .expect("renewed");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(
            cluster.ready("web").await,
            ["10.244.1.1"],
            "the Lease is renewed"
        );
    }
    // Half a second of the grace period is over. That the API is asked first costs milliseconds.
    let silent = cluster.ready_becomes("web", &[]).await;
    assert!(silent < Duration::from_millis(1750), "{silent:?}");
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let taints = || async {
        let node = nodes.get("node-1").await.expect("the node");
        node.spec
            .and_then(|spec| spec.taints)
            .unwrap_or_default()
            .into_iter()
            .map(|taint| taint.key)
            .collect::<Vec<_>>()
    };
    eventually("tainted", || async {
        (taints().await == ["node.kubernetes.io/unreachable"; 2]).then_some(())
    })
    .await;

    // Again and again, as a kubelet does: once would have to be seen within the grace period.
    let beats = tokio::spawn(renew_always(leases, "node-1"));
    eventually("no taint", || async {
        cluster.post_status("node-1").await;
        taints().await.is_empty().then_some(())
    })
    .await;
    cluster.set_ready("web-1", 1, "True").await;
    cluster.ready_becomes("web", &["10.244.1.1"]).await;
    beats.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_stood_still_makes_no_node_silent() {
    let cluster = Cluster::start(lab()).await;
    let names = ["node-1", "node-2"];
    for (octet, node) in (1..).zip(names) {
        cluster.node(node).await;
        let pod = format!("web-{octet}");
        cluster.pod(&pod, Some(node)).await;
        cluster.set_ready(&pod, octet, "True").await;
    }
    cluster.service("web").await;
    let both = ["10.244.1.1", "10.244.1.2"];
    cluster.ready_becomes("web", &both).await;
    let beats = names.map(|node| tokio::spawn(beat(cluster.gated.clone(), node)));
    // Longer than the grace period; and from before its middle until shortly before its end.
    for gate in [Gate::Shut, Gate::ReadOnly] {
        for stop in [2500, 1400, 3700] {
            tokio::time::sleep(Duration::from_millis(400)).await;
            cluster.gate.send_replace(gate);
            tokio::time::sleep(Duration::from_millis(stop)).await;
            cluster.gate.send_replace(Gate::Open);
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                assert_eq!(cluster.ready("web").await, both, "{gate:?} for {stop} ms");
            }
        }
    }
    beats[0].abort();
    cluster.ready_becomes("web", &both[1..]).await;
    beats[1].abort();
}

/// A new kubelet's Lease, renewed.
async fn beat(client: Client, node: &str) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let lease = json!({ "metadata": { "name": node } });
    create(&leases, lease).await;
    renew_always(leases, node).await;
}

/// What a kubelet does: it renews three times in a grace period, and tries again a while after no answer came.
async fn renew_always(leases: Api<Lease>, node: &str) {
    loop {
        let now = MicroTime(jiff::Timestamp::now());
        let patch = Patch::Merge(json!({ "spec": { "renewTime": now } }));
        let params = PatchParams::default();
        let renewed = leases.patch(node, &params, &patch);
        let _ = tokio::time::timeout(Duration::from_millis(700), renewed).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_all_that_is_in_it() {
    let cluster = Cluster::start(Options::default()).await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    create(&namespaces, json!({ "metadata": { "name": "doomed" } })).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "doomed");
    for i in 0..5 {
        create(
            &maps,
            json!({ "metadata": { "name": format!("map-{i}"), "namespace": "doomed" } }),
        )
        .await;
    }
    namespaces
        .delete("doomed", &DeleteParams::default())
        .await
        .expect("accepted");
    eventually("gone", || async {
        namespaces
            .get_opt("doomed")
            .await
            .expect("an answer")
            .is_none()
            .then_some(())
    })
    .await;
    assert!(
        maps.list(&ListParams::default())
            .await
            .expect("a list")
            .items
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_deleted_node_are_deleted() {
    let cluster = Cluster::start(lab()).await;
    // The controllers are at work: a Node that went before that was never there.
    cluster.service("web").await;
    let slices: Api<EndpointSlice> = cluster.api();
    eventually("a slice", || async {
        let all = slices.list(&ListParams::default()).await.expect("a list");
        (!all.items.is_empty()).then_some(())
    })
    .await;
    cluster.node("node-1").await;
    cluster.pod("web-1", Some("node-1")).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes
        .delete("node-1", &DeleteParams::default())
        .await
        .expect("deleted");
    let pods: Api<Pod> = cluster.api();
    let (took, ()) = eventually("no Pod", || async {
        pods.get_opt("web-1")
            .await
            .expect("an answer")
            .is_none()
            .then_some(())
    })
    .await;
    // Whichever of the two the controllers heard of first: a Pod of a Node that never was waits for ten times that.
    assert!(took < lab().node_grace * 5, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_a_node_that_is_not_there_is_told_before_it_is_deleted() {
    // Deleted after ten grace periods.
    let cluster = Cluster::start(Options {
        node_grace: Duration::from_millis(300),
        ..Options::default()
    })
    .await;
    cluster.pod("lost", Some("node-9")).await;
    cluster.pod("early", Some("node-1")).await;
    let pods: Api<Pod> = cluster.api();
    let events: Api<KubeEvent> = cluster.api();
    let list = ListParams::default().fields("involvedObject.name=lost");
    let (told, event) = eventually("an Event", || async {
        let found = events.list(&list).await.expect("a list").items;
        found.into_iter().next()
    })
    .await;
    assert_eq!(
        (event.type_.as_deref(), event.reason.as_deref()),
        (Some("Warning"), Some("NodeNotFound"))
    );
    let message = event.message.unwrap_or_default();
    assert!(
        message.starts_with("spec.nodeName: there is no Node \"node-9\""),
        "{message}"
    );
    assert!(pods.get_opt("lost").await.expect("an answer").is_some());
    cluster.node("node-1").await;
    let (gone, ()) = eventually("no Pod", || async {
        let pod = pods.get_opt("lost").await.expect("an answer");
        pod.is_none().then_some(())
    })
    .await;
    assert!(
        told + gone >= Duration::from_millis(2500),
        "{told:?} {gone:?}"
    );
    assert_eq!(
        events.list(&list).await.expect("a list").items.len(),
        1,
        "one Event is enough"
    );
    assert!(pods.get_opt("early").await.expect("an answer").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependent_goes_first_when_the_owner_is_deleted_in_the_foreground() {
    let cluster = Cluster::start(Options::default()).await;
    let maps: Api<ConfigMap> = cluster.api();
    let owner = create(&maps, json!({ "metadata": { "name": "owner" } })).await;
    let reference = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid, "blockOwnerDeletion": true,
    });
    create(
        &maps,
        json!({ "metadata": { "name": "child", "ownerReferences": [reference] } }),
    )
    .await;
    maps.delete("owner", &DeleteParams::foreground())
        .await
        .expect("accepted");
    for name in ["child", "owner"] {
        eventually(name, || async {
            maps.get_opt(name)
                .await
                .expect("an answer")
                .is_none()
                .then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_service_network_becomes_ready() {
    let cluster = Cluster::start(Options::default()).await;
    let cidrs: Api<ServiceCIDR> = Api::all(cluster.client.clone());
    create(
        &cidrs,
        json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.97.0.0/16"] } }),
    )
    .await;
    let ready = || async {
        let cidr = cidrs.get("more").await.expect("the ServiceCIDR");
        let conditions = cidr
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        (conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
            && cidr.metadata.finalizers.is_some())
        .then_some(())
    };
    eventually("ready", ready).await;
}
