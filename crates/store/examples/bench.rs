//! `cargo run --release -p daymark-store --example bench [FOLDER]`: the store's figures, and opening with JSON decoded.
#![allow(
    clippy::disallowed_macros,
    reason = "an example: what it prints is its result"
)]
#![allow(
    clippy::unwrap_used,
    reason = "an example: it stops at the first error"
)]

use std::path::Path;

use daymark_store::bench::{Settings, open, run};
use daymark_store::{Key, Op, Options, Plan, Store, Value};

fn main() {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let folder = tempfile::tempdir_in(parent).unwrap();
    let figures = run(&folder.path().join("writes.redb"), Settings::default()).unwrap();
    println!("{}", serde_json::to_string_pretty(&figures).unwrap());
    for services in [10_000, 20_000] {
        let path = folder.path().join(format!("{services}.redb"));
        fill(&path, services);
        let bytes = std::fs::metadata(&path).unwrap().len();
        let mut times: Vec<_> = (0..5).map(|_| open::<Json>(&path).unwrap()).collect();
        times.sort();
        let ((fastest, objects), (median, _), (slowest, _)) = (times[0], times[2], times[4]);
        println!(
            "{objects} objects of JSON, {bytes} bytes: open {median:?} ({fastest:?} to {slowest:?})"
        );
    }
}

/// A value that is parsed when the store opens.
struct Json(serde_json::Value);

impl Value for Json {
    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).unwrap()
    }

    fn decode(_key: &Key, bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

/// Services, each with the address object that is made in the same transaction.
fn fill(path: &Path, services: usize) {
    let store: Store<Json> = Store::open(Options::at(path)).unwrap();
    let mut last = None;
    for number in 0..services {
        let (done, outcome) = std::sync::mpsc::channel();
        let plan = move |_: &_, revision| {
            Ok::<_, ()>(Plan {
                ops: ops(number, revision),
                answer: (),
            })
        };
        store.submit(plan, move |result| drop(done.send(result)));
        last = Some(outcome);
    }
    last.unwrap().recv().unwrap().unwrap();
}

fn ops(number: usize, revision: u64) -> Vec<Op<Json>> {
    let address = format!(
        "10.{}.{}.{}",
        96 + number / 65536,
        number / 256 % 256,
        number % 256
    );
    let name = format!("service-{number}");
    let metadata = serde_json::json!({
        "name": name, "namespace": "default", "uid": format!("{number:032x}"), "resourceVersion": revision.to_string(),
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": name, "tier": "backend"},
        "annotations": {"example.com/owner": "team-a", "example.com/description": "a service among many others"},
    });
    let service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "selector": {"app": name},
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080},
                {"name": "metrics", "port": 9090, "protocol": "TCP", "targetPort": "metrics"},
            ],
        },
        "status": {"loadBalancer": {}},
    });
    let owner = serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": address},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": name}},
    });
    vec![
        Op::Put {
            key: Key::new("services", "default", name),
            value: Json(service),
        },
        Op::Put {
            key: Key::new("networking.k8s.io/ipaddresses", "", address),
            value: Json(owner),
        },
    ]
}
