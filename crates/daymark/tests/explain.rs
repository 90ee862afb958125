//! `daymark explain` and `daymark status` against a lab: for each of the usual questions the answer names the cause, and real
//! packets do what it says.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

/// A lab of two nodes with an API that objects are put into.
struct Lab {
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
}

impl Lab {
    /// `None` where the machine lets this user have no labs; that is said past the harness's capture.
    fn up(test: &str) -> Option<Self> {
        // Short enough for sockets in it.
        let folder = PathBuf::from(format!("/tmp/dmx-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let up = daymark(&folder, &["lab", "up", "--nodes", "2"]);
        if !up.status.success() {
            return skipped(test, &text(&up));
        }
        let kubeconfig = text(&daymark(&folder, &["lab", "kubeconfig"]));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(async {
            let file = Kubeconfig::read_from(kubeconfig.trim()).unwrap();
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(file, &options).await;
            kube::Client::try_from(config.unwrap()).unwrap()
        });
        Some(Self {
            folder,
            runtime,
            client,
        })
    }

    fn run(&self, args: &[&str]) -> Output {
        daymark(&self.folder, args)
    }

    fn service(&self, name: &str, spec: Value) {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        let service: Service = serde_json::from_value(object).unwrap();
        let api: Api<Service> = Api::default_namespaced(self.client.clone());
        let params = PostParams::default();
        self.runtime
            .block_on(api.create(&params, &service))
            .unwrap();
    }

    /// A Pod that answers at port 8080, on a node.
    fn pod(&self, name: &str, node: &str, app: &str, probe: Value) {
        let object = json!({
            "metadata": {
                "name": name,
                "labels": {"app": app},
                "annotations": {"lab.daymark.dev/readiness-period": "200ms"},
            },
            "spec": {
                "nodeName": node,
                "containers": [{
                    "name": "echo",
                    "image": "daymark",
                    "command": ["daymark", "echo", "--port", "8080"],
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": probe,
                }],
            },
        });
        let pod: Pod = serde_json::from_value(object).unwrap();
        let api: Api<Pod> = Api::default_namespaced(self.client.clone());
        let params = PostParams::default();
        self.runtime.block_on(api.create(&params, &pod)).unwrap();
    }

    /// What is found out, and the exit code; where nothing is, what was said in place of it.
    fn explain(&self, args: &str) -> (Value, i32) {
        let words = format!("explain --lab -o json {args}");
        let output = self.run(&words.split_whitespace().collect::<Vec<_>>());
        let found = serde_json::from_slice(&output.stdout);
        let code = output.status.code().unwrap();
        if code == 3 {
            return (Value::String(text(&output)), code);
        }
        (
            found.unwrap_or_else(|_| panic!("{args}: {}", text(&output))),
            code,
        )
    }

    /// Asks until the first cause of the first place is this one (`forwarded`: none).
    fn settle(&self, args: &str, cause: &str) -> Value {
        self.wait_for(args, |found| first_cause(found) == cause)
    }

    /// Asks until what is found is so, on a busy machine for half a minute.
    fn wait_for(&self, args: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut found = Value::Null;
        for _ in 0..PATIENCE {
            found = self.explain(args).0;
            if is_so(&found) {
                return found;
            }
            std::thread::sleep(STEP);
        }
        panic!("{args} has not come so far: {found:#}");
    }

    /// What a client in a place of the lab gets at the destination.
    fn reaches(&self, place: &str, to: &str) -> bool {
        let exe = env!("CARGO_BIN_EXE_daymark");
        let args = ["lab", "exec", place, "--", exe, "ask", to, "--timeout", "1"];
        self.run(&args).status.success()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run(&["lab", "down"]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How often something is looked for, and how often at most.
const STEP: Duration = Duration::from_millis(100);
const PATIENCE: usize = 300;

/// Runs the binary with a runtime folder of the test's own, and no kubeconfig but the lab's.
fn daymark(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_daymark"))
        .args(args)
        .env("XDG_RUNTIME_DIR", folder)
        .env("HOME", folder)
        .env_remove("KUBECONFIG")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn skipped<T>(test: &str, why: &str) -> Option<T> {
    let forbidden = [
        "user namespaces are forbidden",
        "this kernel has no",
        "mounting proc on /proc",
        "read-only here",
    ];
    assert!(forbidden.iter().any(|reason| why.contains(reason)), "{why}");
    assert!(
        std::env::var_os("DAYMARK_FAIL_ON_SKIP").is_none(),
        "{test} cannot run: {why}"
    );
    let _ = writeln!(std::io::stderr(), "test {test} ... SKIPPED: {why}");
    None
}

fn first_cause(found: &Value) -> &str {
    let cause = match &found["cause"] {
        Value::Null => &found["answers"][0]["causes"][0],
        cause => cause,
    };
    match (cause["code"].as_str(), &found["answers"][0]["forwarded"]) {
        (Some(code), _) => code,
        (None, Value::Bool(true)) => "forwarded",
        _ => "nothing",
    }
}

fn address(found: &Value) -> &str {
    found["answers"][0]["packet"]["destination"]
        .as_str()
        .unwrap()
}

fn cluster_service(app: &str) -> Value {
    json!({"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]})
}

#[test]
fn the_usual_questions_are_answered_and_packets_agree() {
    let Some(lab) = Lab::up("usual") else { return };
    let probe = |port: u16| json!({"httpGet": {"path": "/healthz", "port": port}, "periodSeconds": 1, "failureThreshold": 1});
    lab.pod("web-1", "node-1", "web", probe(8080));
    lab.pod("web-2", "node-2", "web", probe(8080));
    lab.pod("slow-1", "node-2", "slow", probe(9));
    lab.pod("client-1", "node-1", "client", probe(8080));
    lab.service("web", cluster_service("web"));
    lab.service("slow", cluster_service("slow"));
    lab.service("typo", cluster_service("wbe"));
    let named = json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]});
    lab.service("named", named);
    let mut local = cluster_service("slow");
    local["type"] = json!("LoadBalancer");
    local["externalTrafficPolicy"] = json!("Local");
    local["publishNotReadyAddresses"] = json!(true);
    lab.service("local", local);
    let mut ranged = cluster_service("web");
    ranged["type"] = json!("LoadBalancer");
    ranged["loadBalancerSourceRanges"] = json!(["198.51.100.0/24"]);
    lab.service("ranged", ranged);
    lab.service(
        "alias",
        json!({"type": "ExternalName", "externalName": "example.com"}),
    );

    // Who is ready is reached, and the answer names both endpoints and what does it in the kernel.
    let web = "svc/web --from pod/client-1";
    let found = lab.wait_for(web, |found| {
        let used = found["answers"][0]["endpoints"]
            .as_array()
            .into_iter()
            .flatten();
        used.filter(|endpoint| endpoint["standing"] == "used")
            .count()
            == 2
    });
    assert_eq!(lab.explain(web).1, 0);
    assert_eq!(found["node"], "node-1");
    let kernel = &found["answers"][0]["kernel"];
    assert_eq!(kernel["agrees"], true, "{kernel:#}");
    let objects = kernel["objects"].as_array().unwrap();
    let slots = objects.iter().filter(|object| object["object"] == "slots");
    assert_eq!(slots.count(), 2, "{kernel:#}");
    assert!(lab.reaches("pod/client-1", address(&found)));

    // The selector matches no Pod: the nearest is told.
    let found = lab.settle("svc/typo --from pod/client-1", "no-endpoints");
    let selector = found["pods"]["selector"].as_str().unwrap().to_owned();
    let selector = selector.as_str();
    assert!(
        selector.contains("app=wbe matches none of the 4 Pods"),
        "{selector}"
    );
    assert!(selector.contains("not \"wbe\""), "{selector}");
    assert!(!lab.reaches("pod/client-1", address(&found)));

    // The Pod is not ready.
    let found = lab.settle("svc/slow --from pod/client-1", "none-ready");
    let pod = &found["pods"]["selected"][0];
    assert_eq!(pod["name"], "slow-1");
    assert!(
        pod["obstacles"][0]
            .as_str()
            .unwrap()
            .starts_with("it is not ready"),
        "{pod}"
    );
    assert!(!lab.reaches("pod/client-1", address(&found)));

    // The name of the target port is unknown.
    let found = lab.settle("svc/named --from pod/client-1", "port-not-named");
    let obstacle = found["pods"]["selected"][0]["obstacles"][0]
        .as_str()
        .unwrap();
    assert!(
        obstacle.contains("no container has a port named \"web\""),
        "{obstacle}"
    );
    assert!(obstacle.contains("http/TCP"), "{obstacle}");
    assert!(!lab.reaches("pod/client-1", address(&found)));

    // Policy Local without a local endpoint: node-1 drops what comes from outside, node-2 does not.
    let node_port = found_node_port(&lab, "local");
    let local = format!("svc/local --port {node_port} --from outside");
    let found = lab.settle(&local, "no-local-endpoint");
    assert!(!lab.reaches("outside", address(&found)));
    let found = lab.settle(&format!("{local} --node node-2"), "forwarded");
    assert!(lab.reaches("outside", address(&found)));

    // A range excludes the client; with the load balancer's address the answer is about that alone.
    let ip = load_balancer_ip(&lab, "ranged");
    let ranged = format!("svc/ranged --address {ip} --from outside");
    let found = lab.settle(&ranged, "source-range");
    let why = found["answers"][0]["causes"][0]["text"].as_str().unwrap();
    assert!(
        why.contains("172.30.0.100") && why.contains("198.51.100.0/24"),
        "{why}"
    );
    assert!(!lab.reaches("outside", address(&found)));
    let (found, code) = lab.explain(&ranged);
    assert_eq!(code, 1);
    // What was dropped just now is counted.
    let objects = found["answers"][0]["kernel"]["objects"].as_array().unwrap();
    let meanings: Vec<&str> = objects
        .iter()
        .filter_map(|o| o["meaning"].as_str())
        .collect();
    let counted = meanings
        .iter()
        .find_map(|meaning| meaning.split_once(" packets so far"));
    let count = counted.and_then(|(before, _)| before.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count > 0), "{meanings:?}");
    let found = lab.explain(&ranged.replace("outside", "198.51.100.7")).0;
    assert_eq!(first_cause(&found), "forwarded");

    by_hand(&lab);
    an_answer_taken_elsewhere(&lab, "typo", selector);
    an_answer_about_a_pod(&lab, "typo");
    without_an_address(&lab);

    assert_eq!(first_cause(&lab.explain("svc/alias").0), "external-name");
    assert_eq!(first_cause(&lab.explain("svc/nothing").0), "no-service");
    let (found, code) = lab.explain("svc/web --port 81");
    assert_eq!((first_cause(&found), code), ("no-such-port", 1));
    let gone = lab.run(&["explain", "svc/web", "--lab", "--from", "pod/gone"]);
    assert_eq!(gone.status.code(), Some(3));
    assert!(
        text(&gone).contains("there is no pod/gone in namespace default"),
        "{}",
        text(&gone)
    );
}

/// The remedy for a Service without selector is about its slice.
fn by_hand(lab: &Lab) {
    lab.service("by-hand", json!({"ports": [{"name": "web", "port": 80}]}));
    let slice = json!({
        "metadata": {"name": "by-hand-1", "labels": {"kubernetes.io/service-name": "by-hand"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.9.9"]}],
        "ports": [{"name": "http", "port": 8080}],
    });
    let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
    let api: Api<EndpointSlice> = Api::default_namespaced(lab.client.clone());
    let params = PostParams::default();
    lab.runtime.block_on(api.create(&params, &slice)).unwrap();
    let found = lab.settle("svc/by-hand --from pod/client-1", "port-not-named");
    let remedy = found["answers"][0]["causes"][0]["remedy"].as_str().unwrap();
    assert!(
        remedy.starts_with("ports[].name of the EndpointSlice"),
        "{remedy}"
    );
}

/// An agent's own answer, and what the Pods say beside it once somebody takes it to a kubeconfig.
fn an_answer_taken_elsewhere(lab: &Lab, service: &str, selector: &str) {
    let (mut found, _) = lab.explain(&format!("svc/{service}"));
    found.as_object_mut().unwrap().remove("pods").unwrap();
    let path = lab.folder.join("answer.json");
    std::fs::write(&path, found.to_string()).unwrap();
    let path = path.to_str().unwrap();
    let kubeconfig = text(&lab.run(&["lab", "kubeconfig"]));
    let kubeconfig = kubeconfig.trim();
    let told = lab.run(&[
        "explain",
        "--answer",
        path,
        "--kubeconfig",
        kubeconfig,
        "-o",
        "json",
    ]);
    let pods: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(pods["pods"]["selector"], selector);
    assert_eq!(pods["answers"][0]["kernel"], found["answers"][0]["kernel"]);
    assert_eq!(told.status.code(), Some(1));
    let without = lab.run(&["explain", "--answer", path]);
    assert_eq!(without.status.code(), Some(3));
    assert!(
        text(&without).contains("--kubeconfig"),
        "{}",
        text(&without)
    );
}

/// The agent was told addresses, and whoever takes its answer to a kubeconfig says which Pod has them.
fn an_answer_about_a_pod(lab: &Lab, service: &str) {
    let pods: Api<Pod> = Api::default_namespaced(lab.client.clone());
    let pod = lab.runtime.block_on(pods.get("client-1")).unwrap();
    let address = pod.status.unwrap().pod_ip.unwrap();
    let (mut found, _) = lab.explain(&format!("svc/{service} --from {address}"));
    found.as_object_mut().unwrap().remove("pods").unwrap();
    let path = lab.folder.join("answer.json");
    std::fs::write(&path, found.to_string()).unwrap();
    let kubeconfig = text(&lab.run(&["lab", "kubeconfig"]));
    let of = |who: &str| {
        let path = path.to_str().unwrap();
        let kubeconfig = kubeconfig.trim();
        let by = ["--kubeconfig", kubeconfig, "--from", who];
        lab.run(&[&["explain", "--answer", path][..], &by].concat())
    };
    let told = text(&of("pod/client-1"));
    let head = format!("from pod/client-1 ({address})\n");
    assert!(told.contains(&head), "{told}");
    let other = of("pod/web-2");
    assert_eq!(other.status.code(), Some(3));
    let said = text(&other);
    assert!(said.contains(&format!("is about {address}")), "{said}");
    assert!(
        said.contains("ask the agent of node-2 with --from"),
        "{said}"
    );
}

/// A load balancer of another class gives no address: that keeps clients outside away, and a Pod has the cluster IP.
fn without_an_address(lab: &Lab) {
    let mut other = cluster_service("web");
    other["type"] = json!("LoadBalancer");
    other["loadBalancerClass"] = json!("other.example/lb");
    lab.service("other", other);
    lab.settle("svc/other --from pod/client-1", "forwarded");
    assert_eq!(lab.explain("svc/other --from pod/client-1").1, 0);
    let (found, code) = lab.explain("svc/other --from outside");
    let cause = &found["absent"]["cause"];
    assert_eq!(
        (&cause["code"], code),
        (&json!("no-load-balancer-address"), 1)
    );
    let why = cause["text"].as_str().unwrap();
    assert!(why.contains("other.example/lb"), "{why}");
}

fn get(lab: &Lab, name: &str) -> Service {
    let api: Api<Service> = Api::default_namespaced(lab.client.clone());
    lab.runtime.block_on(api.get(name)).unwrap()
}

fn found_node_port(lab: &Lab, name: &str) -> i32 {
    let spec = get(lab, name).spec.unwrap();
    spec.ports.unwrap()[0].node_port.unwrap()
}

/// Given out within some seconds.
fn load_balancer_ip(lab: &Lab, name: &str) -> String {
    for _ in 0..PATIENCE {
        let status = get(lab, name)
            .status
            .and_then(|status| status.load_balancer);
        let ingress = status.and_then(|status| status.ingress).unwrap_or_default();
        if let Some(ip) = ingress.into_iter().find_map(|ingress| ingress.ip) {
            return ip;
        }
        std::thread::sleep(STEP);
    }
    panic!("{name} has got no address");
}

#[test]
fn a_status_is_healthy_until_the_agent_is_gone_and_without_the_api_it_says_so() {
    let Some(lab) = Lab::up("status") else { return };
    let status = |node: &str| {
        let output = lab.run(&["status", "--lab", "--node", node, "-o", "json"]);
        let code = output.status.code().unwrap();
        (
            serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(),
            code,
            text(&output),
        )
    };
    lab.service("web", cluster_service("web"));
    let (mut found, mut code, _) = status("node-2");
    for _ in 0..PATIENCE {
        if code == 0 {
            break;
        }
        std::thread::sleep(STEP);
        (found, code, _) = status("node-2");
    }
    assert_eq!(
        (code, &found["healthy"], &found["node"]),
        (0, &json!(true), &json!("node-2")),
        "{found:#}"
    );
    assert_eq!(found["differencesTotal"], 0);
    let parts = found["parts"].as_array().unwrap();
    let names: Vec<&str> = parts
        .iter()
        .map(|part| part["name"].as_str().unwrap())
        // Of kernels without table owners alone.
        .filter(|name| *name != "foreign")
        .collect();
    let all = [
        "feed",
        "api",
        "dns",
        "announcer",
        "kube-proxy",
        "health port",
        "metrics port",
        "plane",
        "conntrack",
        "listeners",
    ];
    assert_eq!(names, all);
    let frontends = found["counts"].as_array().unwrap().iter().filter(|count| {
        count["table"] == "ip daymark" && count["of"].as_str().unwrap().starts_with("fe-")
    });
    let held: u64 = frontends.map(|count| count["held"].as_u64().unwrap()).sum();
    assert!(held >= 3, "web, kubernetes and kube-dns: {found:#}");

    // An agent that is gone is no answer; its socket is that of a dead one, and the other node's is not touched.
    let part = |name: &str| {
        let output = lab.run(&["lab", "status", "-o", "json"]);
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let parts = all["parts"].as_array().unwrap().clone();
        parts.into_iter().find(|part| part["name"] == name).unwrap()
    };
    let kill = |name: &str| {
        let pid = part(name)["pid"].to_string();
        let killed = lab.run(&["lab", "exec", "fabric", "--", "kill", "-9", &pid]);
        assert!(killed.status.success(), "{}", text(&killed));
    };
    kill("agent-node-1");
    let gone = (0..PATIENCE).find_map(|_| {
        std::thread::sleep(STEP);
        let (_, code, said) = status("node-1");
        (code == 3).then_some(said)
    });
    let said = gone.unwrap();
    assert!(said.contains("no agent answers at"), "{said}");
    assert_eq!(status("node-2").1, 0);

    // Without the API an agent goes on, and says what it lacks.
    kill("api");
    let deaf = (0..PATIENCE).find_map(|_| {
        std::thread::sleep(STEP);
        let (found, code, _) = status("node-2");
        (code == 1).then_some(found)
    });
    let found = deaf.unwrap();
    assert_eq!(found["healthy"], false);
    let feed = &found["parts"][0];
    assert!(
        feed["text"].as_str().unwrap().contains("no watch is open"),
        "{feed}"
    );
    assert_eq!(found["differencesTotal"], 0);
    // Explaining needs no API, only Pods do.
    let found = lab.explain("svc/web --from 10.244.2.9 --node node-2").0;
    assert_eq!(first_cause(&found), "no-endpoints", "{found:#}");
    assert!(found["pods"]["unread"].is_string(), "{found:#}");
}

#[test]
fn without_an_agent_both_verbs_say_where_they_looked() {
    let folder = std::env::temp_dir();
    let socket = folder.join("daymark-no-agent-here.sock");
    let socket = socket.to_str().unwrap();
    for args in [
        &["status", "--socket", socket][..],
        &["explain", "svc/web", "--socket", socket],
    ] {
        let output = daymark(&folder, args);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        assert!(
            text(&output).contains("no agent answers at"),
            "{}",
            text(&output)
        );
        assert!(
            text(&output).contains("daymark-no-agent-here.sock"),
            "{}",
            text(&output)
        );
    }
}
