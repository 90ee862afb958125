//! What the credentials of a node reach, through a kube client with the user of each role.

use daymark_apiserver::tls::Role;
use daymark_apiserver::{ApiServer, Config};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

const ANNOUNCERS: &str = "kube-system";
const KUBELETS: &str = "kube-node-lease";

fn leases(server: &ApiServer, role: &Role, namespace: &str) -> Api<Lease> {
    let client = Client::new(server.router_as(Some(role.user())), "default");
    Api::namespaced(client, namespace)
}

fn lease(name: &str) -> Lease {
    let object = json!({ "metadata": { "name": name }, "spec": { "holderIdentity": name } });
    serde_json::from_value(object).expect("a Lease")
}

fn renewal() -> Patch<serde_json::Value> {
    Patch::Merge(json!({ "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } }))
}

fn server() -> ApiServer {
    ApiServer::open(Config::default()).expect("a server in memory opens")
}

fn agent(node: &str) -> Role {
    Role::Agent(node.to_owned())
}

fn kubelet(node: &str) -> Role {
    Role::Kubelet(node.to_owned())
}

/// The code and the message of a refusal; 200 is none.
fn refusal<T>(answer: Result<T, kube::Error>) -> (u16, String) {
    match answer {
        Ok(_) => (200, String::new()),
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        Err(other) => panic!("no answer of the API: {other}"),
    }
}

#[tokio::test]
async fn an_announcer_makes_renews_and_releases_its_lease() {
    let server = server();
    let api = leases(&server, &agent("n1"), ANNOUNCERS);
    let name = "daymark-announcer-n1";
    let missing = api.patch(name, &PatchParams::default(), &renewal()).await;
    assert_eq!(refusal(missing).0, 404, "it is made when it is not there");
    let params = PostParams::default();
    api.create(&params, &lease(name)).await.expect("made");
    let renewed = api.patch(name, &PatchParams::default(), &renewal()).await;
    let renewed = renewed.expect("renewed");
    let replaced = api.replace(name, &params, &renewed).await;
    let metadata = replaced.expect("replaced").metadata;
    let preconditions = Preconditions {
        uid: metadata.uid,
        resource_version: metadata.resource_version,
    };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    api.delete(name, &params).await.expect("released");
    assert!(api.get_opt(name).await.expect("an answer").is_none());
}

#[tokio::test]
async fn nobody_writes_the_lease_of_another() {
    let server = server();
    for (namespace, name) in [
        (ANNOUNCERS, "daymark-announcer-n1"),
        (ANNOUNCERS, "daymark-announcer-n2"),
        (ANNOUNCERS, "leader"),
        (KUBELETS, "n1"),
        (KUBELETS, "n2"),
    ] {
        let api = leases(&server, &Role::Admin, namespace);
        let made = api.create(&PostParams::default(), &lease(name)).await;
        made.expect("made");
    }
    // role, namespace, name, what its user may do to the Lease: patch and make it, delete it
    let rows = [
        (
            agent("n1"),
            ANNOUNCERS,
            "daymark-announcer-n1",
            [true, true],
        ),
        (
            agent("n1"),
            ANNOUNCERS,
            "daymark-announcer-n2",
            [false, false],
        ),
        (agent("n1"), ANNOUNCERS, "leader", [false, false]),
        (agent("n1"), KUBELETS, "n1", [false, false]),
        (agent("n1"), KUBELETS, "n2", [false, false]),
        (kubelet("n1"), KUBELETS, "n1", [true, false]),
        (kubelet("n1"), KUBELETS, "n2", [false, false]),
        (
            kubelet("n1"),
            ANNOUNCERS,
            "daymark-announcer-n1",
            [false, false],
        ),
    ];
    for (role, namespace, name, [writes, deletes]) in rows {
        let api = leases(&server, &role, namespace);
        let place = format!("{role:?}, {namespace}/{name}");
        let patched = api.patch(name, &PatchParams::default(), &renewal()).await;
        let expected = if writes { 200 } else { 403 };
        assert_eq!(refusal(patched).0, expected, "patch: {place}");
        // It is there, so whoever may make it hears that.
        let made = api.create(&PostParams::default(), &lease(name)).await;
        let expected = if writes { 409 } else { 403 };
        assert_eq!(refusal(made).0, expected, "create: {place}");
        let dry = DeleteParams::default().dry_run();
        let deleted = api.delete(name, &dry).await;
        let expected = if deletes { 200 } else { 403 };
        assert_eq!(refusal(deleted).0, expected, "delete: {place}");
    }
}

#[tokio::test]
async fn a_refusal_says_which_lease_is_the_agents() {
    let server = server();
    let api = leases(&server, &agent("n1"), ANNOUNCERS);
    let others = lease("daymark-announcer-n2");
    let made = api.create(&PostParams::default(), &others).await;
    assert_eq!(
        refusal(made),
        (
            403,
            "leases.coordination.k8s.io \"daymark-announcer-n2\" is forbidden: User \"daymark:agent:n1\" cannot create \
             resource \"leases\" in API group \"coordination.k8s.io\" in the namespace \"kube-system\": it may do that \
             to \"kube-system/daymark-announcer-n1\" only"
                .to_owned()
        )
    );
    let mut unnamed = lease("");
    unnamed.metadata.name = None;
    unnamed.metadata.generate_name = Some("daymark-announcer-".to_owned());
    let made = api.create(&PostParams::default(), &unnamed).await;
    assert_eq!(refusal(made).0, 403, "a name that the server makes up");
}

#[tokio::test]
async fn a_kubelet_registers_its_own_node_alone() {
    let server = server();
    let client = Client::new(server.router_as(Some(kubelet("n1").user())), "default");
    let nodes: Api<Node> = Api::all(client);
    for (name, code) in [("n1", 200), ("n2", 403)] {
        let node = json!({ "metadata": { "name": name } });
        let node = serde_json::from_value(node).expect("a Node");
        let made = nodes.create(&PostParams::default(), &node).await;
        assert_eq!(refusal(made).0, code, "{name}");
    }
}
