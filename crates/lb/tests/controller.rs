//! The controller against the embedded API server.

mod common;

use std::time::Duration;

use common::*;
use daymark_feed::{Config as Feeds, Feed, Nodes, Wanted};
use daymark_lb::controller::{self, Config};
use kube::Client;
use serde_json::{Value, json};

/// A running controller; dropping it ends it without a word.
struct Controller {
    _feed: Feed,
    task: tokio::task::JoinHandle<()>,
}

impl Controller {
    fn start(client: &Client) -> Self {
        let feed = Feed::start(
            client,
            Feeds {
                pools: Wanted::Yes,
                nodes: Nodes::All { own: None },
                ..Feeds::default()
            },
        );
        let run = controller::run(
            client.clone(),
            feed.subscribe(),
            Config::default(),
            std::future::pending(),
        );
        Self {
            task: tokio::spawn(run),
            _feed: feed,
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const SOON: Duration = Duration::from_secs(10);

async fn has(client: &Client, name: &str, expected: &[&str]) -> Value {
    until(&format!("{name} has {expected:?}"), SOON, || async {
        let service = get(client, &format!("{SERVICES}/{name}")).await;
        let found = ingress(&service);
        if found == expected {
            Ok(service)
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
}

async fn condition(client: &Client, name: &str, reason: &str) -> String {
    until(
        &format!("{name} has a condition {reason}"),
        SOON,
        || async {
            let service = get(client, &format!("{SERVICES}/{name}")).await;
            let condition = service["status"]["conditions"]
                .as_array()
                .and_then(|all| all.first())
                .cloned();
            let condition = condition.unwrap_or_default();
            if condition["reason"] == reason {
                Ok(condition["message"].as_str().unwrap_or_default().to_owned())
            } else {
                Err(service["status"].to_string())
            }
        },
    )
    .await
}

async fn event(client: &Client, object: &str, reason: &str) -> Value {
    until(&format!("{object} has an Event {reason}"), SOON, || async {
        let events = get(client, "/api/v1/events").await;
        let all = events["items"].as_array().cloned().unwrap_or_default();
        let found = all
            .iter()
            .find(|one| one["involvedObject"]["name"] == object && one["reason"] == reason);
        found
            .cloned()
            .ok_or_else(|| all.iter().map(|one| one["reason"].to_string()).collect())
    })
    .await
}

async fn set_up() -> Client {
    let server = server();
    let client = client(&server);
    metallb_namespace(&client).await;
    client
}

#[tokio::test]
async fn a_service_gets_an_address_its_pool_is_named_and_the_count_is_kept() {
    let client = set_up().await;
    call(
        &client,
        "POST",
        POOLS,
        pool("p", &["172.30.0.200-172.30.0.203"]),
    )
    .await;
    let _controller = Controller::start(&client);
    call(&client, "POST", SERVICES, service("web", json!({}))).await;
    let service = has(&client, "web", &["172.30.0.200"]).await;
    assert_eq!(
        service["status"]["loadBalancer"]["ingress"][0]["ipMode"],
        "VIP"
    );
    assert_eq!(
        service["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"],
        "p"
    );
    let allocated = event(&client, "web", "IPAllocated").await;
    assert_eq!(
        allocated["involvedObject"]["uid"],
        service["metadata"]["uid"]
    );
    let silent = event(&client, "web", "NotAdvertised").await;
    let message = silent["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("172.30.0.200") && message.contains("spec.ipAddressPools"),
        "{message}"
    );
    until("the pool counts", SOON, || async {
        let pool = get(&client, &format!("{POOLS}/p")).await;
        let status = &pool["status"];
        let right = status["assignedIPv4"] == 1 && status["availableIPv4"] == 3;
        if right {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn addresses_survive_a_restart_and_a_younger_pool_that_sorts_first() {
    let client = set_up().await;
    call(
        &client,
        "POST",
        POOLS,
        pool("p", &["172.30.0.200-172.30.0.203"]),
    )
    .await;
    let first = Controller::start(&client);
    for name in ["a", "b", "c"] {
        call(&client, "POST", SERVICES, service(name, json!({}))).await;
    }
    for (name, address) in [
        ("a", "172.30.0.200"),
        ("b", "172.30.0.201"),
        ("c", "172.30.0.202"),
    ] {
        has(&client, name, &[address]).await;
    }
    drop(first);
    call(&client, "DELETE", &format!("{SERVICES}/a"), Value::Null).await;
    // Creation times have whole seconds: after two the new pool is the younger one, whatever its name.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let younger = pool("first", &["172.30.0.200-172.30.0.210"]);
    call(&client, "POST", POOLS, younger).await;
    let _second = Controller::start(&client);
    call(&client, "POST", SERVICES, service("d", json!({}))).await;
    for (name, address) in [
        ("b", "172.30.0.201"),
        ("c", "172.30.0.202"),
        ("d", "172.30.0.200"),
    ] {
        let service = has(&client, name, &[address]).await;
        let from = &service["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
        assert_eq!(from, "p", "{name}");
    }
}

#[tokio::test]
async fn a_pool_that_holds_a_node_and_cluster_ips_gives_neither_and_says_so() {
    let client = set_up().await;
    let address = json!([{ "type": "InternalIP", "address": "172.30.0.200" }]);
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" },
        "spec": { "podCIDRs": ["172.30.0.201/32"] }, "status": { "addresses": address },
    });
    call(&client, "POST", "/api/v1/nodes", node).await;
    let wide = pool("p", &["172.30.0.200-172.30.0.203", "10.96.0.0/24"]);
    call(&client, "POST", POOLS, wide).await;
    let _controller = Controller::start(&client);
    call(&client, "POST", SERVICES, service("web", json!({}))).await;
    has(&client, "web", &["172.30.0.202"]).await;
    let asks =
        json!({ "metadata": { "annotations": { "metallb.io/loadBalancerIPs": "172.30.0.200" } } });
    call(&client, "POST", SERVICES, service("asks", asks)).await;
    let message = condition(&client, "asks", "AddressReserved").await;
    assert!(message.contains("Node node-1"), "{message}");
    let warning = event(&client, "p", "ReservedAddresses").await;
    let message = warning["message"].as_str().unwrap_or_default();
    for named in ["Node node-1", "172.30.0.201/32", "10.96.0.0/16"] {
        assert!(message.contains(named), "{message}");
    }
}

#[tokio::test]
async fn a_pool_of_another_namespace_gives_nothing_and_is_told_so() {
    let client = set_up().await;
    let elsewhere = |path: &str| path.replace("metallb-system", "default");
    let mut stray = pool("stray", &["172.30.0.200-172.30.0.203"]);
    stray["metadata"]["namespace"] = "default".into();
    call(&client, "POST", &elsewhere(POOLS), stray).await;
    let mut covers = advertisement(&["stray"]);
    covers["metadata"]["namespace"] = "default".into();
    call(&client, "POST", &elsewhere(ADVERTISEMENTS), covers).await;
    let _controller = Controller::start(&client);
    call(&client, "POST", SERVICES, service("web", json!({}))).await;
    condition(&client, "web", "NoPools").await;
    for name in ["stray", "l2"] {
        let warning = event(&client, name, "WrongNamespace").await;
        let message = warning["message"].as_str().unwrap_or_default();
        assert!(message.contains("namespace metallb-system"), "{message}");
    }
}

#[tokio::test]
async fn an_exhausted_pool_is_told_and_heals_when_an_address_is_freed() {
    let client = set_up().await;
    call(&client, "POST", POOLS, pool("p", &["172.30.0.200/32"])).await;
    let _controller = Controller::start(&client);
    call(&client, "POST", SERVICES, service("first", json!({}))).await;
    has(&client, "first", &["172.30.0.200"]).await;
    call(&client, "POST", SERVICES, service("second", json!({}))).await;
    let message = condition(&client, "second", "PoolExhausted").await;
    assert!(
        message.contains("IPAddressPool metallb-system/p") && message.contains("spec.addresses"),
        "{message}"
    );
    let warning = event(&client, "second", "AllocationFailed").await;
    assert_eq!(
        (&warning["type"], &warning["message"]),
        (&json!("Warning"), &json!(message))
    );
    let cluster_ip = json!({ "spec": { "type": "ClusterIP" } });
    call(&client, "PATCH", &format!("{SERVICES}/first"), cluster_ip).await;
    has(&client, "second", &["172.30.0.200"]).await;
    condition(&client, "second", "Assigned").await;
    until(
        "the annotation of the former load balancer is gone",
        SOON,
        || async {
            let first = get(&client, &format!("{SERVICES}/first")).await;
            let annotation = &first["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
            if annotation.is_null() {
                Ok(())
            } else {
                Err(annotation.to_string())
            }
        },
    )
    .await;
}

#[tokio::test]
async fn overlapping_pools_are_told_on_both() {
    let client = set_up().await;
    call(
        &client,
        "POST",
        POOLS,
        pool("p", &["172.30.0.200-172.30.0.203"]),
    )
    .await;
    call(
        &client,
        "POST",
        POOLS,
        pool("q", &["172.30.0.203-172.30.0.205"]),
    )
    .await;
    let _controller = Controller::start(&client);
    for name in ["p", "q"] {
        let warning = event(&client, name, "PoolOverlap").await;
        let message = warning["message"].as_str().unwrap_or_default().to_owned();
        assert!(
            message.contains("172.30.0.203 belongs to IPAddressPool metallb-system/p and"),
            "{message}"
        );
        until("the pool has a condition", SOON, || async {
            let pool = get(&client, &format!("{POOLS}/{name}")).await;
            let condition = &pool["status"]["conditions"][0];
            let right = condition["status"] == "False" && condition["reason"] == "PoolOverlap";
            if right {
                Ok(())
            } else {
                Err(pool["status"].to_string())
            }
        })
        .await;
    }
}

#[tokio::test]
async fn wishes_and_classes_are_respected() {
    let client = set_up().await;
    call(
        &client,
        "POST",
        POOLS,
        pool(
            "p",
            &["172.30.0.200-172.30.0.250", "fd00:30::200-fd00:30::250"],
        ),
    )
    .await;
    let _controller = Controller::start(&client);
    let other = json!({ "spec": { "loadBalancerClass": "other.example/lb" } });
    call(&client, "POST", SERVICES, service("other", other)).await;
    let asks =
        json!({ "metadata": { "annotations": { "metallb.io/loadBalancerIPs": "172.30.0.240" } } });
    call(&client, "POST", SERVICES, service("asks", asks)).await;
    let outside =
        json!({ "metadata": { "annotations": { "metallb.io/loadBalancerIPs": "192.0.2.1" } } });
    call(&client, "POST", SERVICES, service("outside", outside)).await;
    let misspelt =
        json!({ "metadata": { "annotations": { "metallb.io/loadBalancerIPs": "foo" } } });
    call(&client, "POST", SERVICES, service("misspelt", misspelt)).await;
    let dual = json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } });
    call(&client, "POST", SERVICES, service("dual", dual)).await;
    has(&client, "asks", &["172.30.0.240"]).await;
    has(&client, "dual", &["172.30.0.200", "fd00:30::200"]).await;
    let message = condition(&client, "outside", "AddressOutsidePools").await;
    assert!(
        message.contains("192.0.2.1 is in no IPAddressPool"),
        "{message}"
    );
    let message = condition(&client, "misspelt", "AddressUnreadable").await;
    let named = "annotation metallb.io/loadBalancerIPs";
    assert!(
        message.contains(named) && message.contains("\"foo\""),
        "{message}"
    );
    event(&client, "misspelt", "AllocationFailed").await;
    let misspelt = get(&client, &format!("{SERVICES}/misspelt")).await;
    assert_eq!(ingress(&misspelt), [""; 0]);
    let other = get(&client, &format!("{SERVICES}/other")).await;
    assert_eq!(ingress(&other), [""; 0]);
    assert!(other["status"]["conditions"].is_null());
}
