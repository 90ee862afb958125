//! The manifests in `deploy/`: what they grant is what the programs ask for, no less and no more, and what they give the
//! containers is what the parts need.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "deploy/confined.rs"]
mod confined;
#[path = "deploy/ending.rs"]
mod ending;
#[path = "deploy/follower.rs"]
mod follower;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daymark_apiserver::registry::User;
use daymark_apiserver::tls::{Kubeconfig, Pki};
use daymark_apiserver::{ApiServer, Config, Grant, Use};
use daymark_node::leftovers::Mark;
use daymark_sys::ns::isolated_test;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::discovery::ApiResource;
use rtnetlink::{LinkUnspec, new_connection};
use serde_json::{Value, json};

const NODE_ADDRESS: &str = "192.0.2.9";
const NODE: &str = "system:serviceaccount:kube-system:daymark-node";
const ANNOUNCER: &str = "system:serviceaccount:kube-system:daymark-announcer";
const CONTROLLER: &str = "system:serviceaccount:kube-system:daymark-controller";

fn manifest(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn all() -> Vec<Value> {
    [manifest("node.yaml"), manifest("load-balancer.yaml")].concat()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// What the bindings of the manifests grant, rule by rule.
fn grants(objects: &[Value]) -> Vec<Grant> {
    let mut grants = Vec::new();
    for binding in objects {
        if !["ClusterRoleBinding", "RoleBinding"].contains(&binding["kind"].as_str().unwrap()) {
            continue;
        }
        let namespace = binding["metadata"]["namespace"].as_str();
        let is_role = |role: &&Value| {
            role["kind"] == binding["roleRef"]["kind"]
                && role["metadata"]["name"] == binding["roleRef"]["name"]
                && role["metadata"]["namespace"].as_str() == namespace
        };
        let role = objects
            .iter()
            .find(is_role)
            .unwrap_or_else(|| panic!("{binding} binds no role"));
        for subject in binding["subjects"].as_array().unwrap() {
            let [of, name] = ["namespace", "name"].map(|field| subject[field].as_str().unwrap());
            for rule in role["rules"].as_array().unwrap() {
                grants.push(Grant {
                    user: format!("system:serviceaccount:{of}:{name}"),
                    namespace: namespace.map(str::to_owned),
                    api_groups: texts(&rule["apiGroups"]),
                    resources: texts(&rule["resources"]),
                    resource_names: texts(&rule["resourceNames"]),
                    verbs: texts(&rule["verbs"]),
                });
            }
        }
    }
    grants
}

/// Every single right of a user.
fn rights(grants: &[Grant], user: &str) -> BTreeSet<Use> {
    let mut rights = BTreeSet::new();
    for grant in grants.iter().filter(|grant| grant.user == user) {
        for api_group in &grant.api_groups {
            for resource in &grant.resources {
                rights.extend(grant.verbs.iter().map(|verb| Use {
                    user: user.to_owned(),
                    verb: verb.clone(),
                    api_group: api_group.clone(),
                    resource: resource.clone(),
                }));
            }
        }
    }
    rights
}

/// An API server that knows these grants, and an administrator's client.
struct Ground {
    server: ApiServer,
    pki: Pki,
    url: String,
    client: kube::Client,
    folder: tempfile::TempDir,
}

impl Ground {
    async fn new(grants: Vec<Grant>) -> Self {
        up().await;
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap(), grants)
    }

    /// The same, answering at a loopback that is up.
    fn at(listener: TcpListener, grants: Vec<Grant>) -> Self {
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = ApiServer::open(Config {
            grants,
            port,
            ..Config::default()
        })
        .unwrap();
        let pki = Pki::ephemeral().unwrap();
        let tls = pki.server_config(&["127.0.0.1".to_owned()]).unwrap();
        let serving = server.clone();
        tokio::spawn(async move { serving.serve(vec![listener], tls).await });
        let client = kube::Client::new(server.router(), "default");
        let url = format!("https://127.0.0.1:{port}");
        let folder = tempfile::tempdir().unwrap();
        Self {
            server,
            pki,
            url,
            client,
            folder,
        }
    }

    /// A kubeconfig of a service account.
    fn kubeconfig(&self, user: &str) -> PathBuf {
        let user = User {
            name: user.to_owned(),
            groups: vec!["system:serviceaccounts".to_owned()],
        };
        let certificate = self.pki.client(user).unwrap();
        let file = self.folder.path().join("kubeconfig.conf");
        Kubeconfig::new(&self.pki, &certificate, "test", &self.url)
            .write(&file)
            .unwrap();
        file
    }

    async fn create(&self, object: Value) {
        let text = |field: &str| object[field].as_str().unwrap();
        let (group, version) = text("apiVersion")
            .split_once('/')
            .unwrap_or(("", text("apiVersion")));
        let plural = format!("{}s", text("kind").to_lowercase());
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: text("apiVersion").to_owned(),
            kind: text("kind").to_owned(),
            plural,
        };
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let status = object["status"].clone();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        if !status.is_null() {
            let patch = Patch::Merge(json!({ "status": status }));
            api.patch_status(&name, &PatchParams::default(), &patch)
                .await
                .unwrap();
        }
    }

    async fn node(&self) {
        let addresses = [("InternalIP", NODE_ADDRESS)];
        let addresses = addresses.map(|(kind, address)| json!({"type": kind, "address": address}));
        self.create(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
            "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .await;
    }

    async fn service(&self, health_check_port: u16) {
        self.create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app": "web"},
                     "healthCheckNodePort": health_check_port, "ports": [{"port": 80}]},
        }))
        .await;
    }

    /// Waits until an Event of this reason was written.
    async fn event(&self, program: &Program, reason: &str) {
        let events: Api<k8s_openapi::api::core::v1::Event> = Api::all(self.client.clone());
        for _ in 0..200 {
            let found = events.list(&ListParams::default()).await.unwrap();
            if found
                .items
                .iter()
                .any(|event| event.reason.as_deref() == Some(reason))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no Event {reason}:\n{}", program.said());
    }

    /// Waits until there is a Lease: that one was asked for does not yet mean that there is one to be deleted.
    async fn lease(&self, program: &Program, namespace: &str) {
        let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
            Api::namespaced(self.client.clone(), namespace);
        for _ in 0..200 {
            let found = leases.list(&ListParams::default()).await.unwrap();
            if !found.items.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no Lease in {namespace}:\n{}", program.said());
    }

    /// Waits until a right was made use of.
    async fn used(&self, program: &Program, verb: &str, resource: &str) {
        for _ in 0..200 {
            let used = self.server.used_grants();
            if used
                .iter()
                .any(|used| used.verb == verb && used.resource == resource)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {verb} of {resource}:\n{}", program.said());
    }

    /// Every right was used, but for lists: an API server that streams lists is asked for none.
    fn assert_used(&self, grants: &[Grant], user: &str) {
        let mut used: BTreeSet<Use> = self
            .server
            .used_grants()
            .into_iter()
            .filter(|used| used.user == user)
            .collect();
        let watched: Vec<Use> = used
            .iter()
            .filter(|used| used.verb == "watch")
            .cloned()
            .collect();
        used.extend(watched.into_iter().map(|used| Use {
            verb: "list".to_owned(),
            ..used
        }));
        assert_eq!(
            used,
            rights(grants, user),
            "used (left) and granted (right)"
        );
    }
}

/// Loopback with a node's address on it.
async fn up() {
    let (connection, handle, _) = new_connection().unwrap();
    tokio::spawn(connection);
    let loopback = 1;
    let link = LinkUnspec::new_with_index(loopback).up().build();
    handle.link().set(link).execute().await.unwrap();
    let address: IpAddr = NODE_ADDRESS.parse().unwrap();
    handle
        .address()
        .add(loopback, address, 32)
        .execute()
        .await
        .unwrap();
}

/// An answer, whole.
fn get(at: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The binary, running.
struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daymark"));
        command.args(args);
        Self::run(&mut command)
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, into) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits until an agent's metrics have this line.
    async fn counts(&self, line: &str) {
        for _ in 0..200 {
            let page = get("127.0.0.1:10249", "/metrics");
            if page.is_ok_and(|page| page.lines().any(|found| found == line)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("there is no {line}:\n{}", self.said());
    }

    /// Waits until its log has this text.
    async fn says(&self, text: &str) {
        for _ in 0..200 {
            if self.said().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not say {text}:\n{}", self.said());
    }

    /// Ends it by SIGTERM; it must end well.
    fn end(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The files of a ConfigMap, with this kubeconfig in place of its own.
fn config_file(objects: &[Value], folder: &Path, kubeconfig: &Path) -> PathBuf {
    let data = &find(objects, "ConfigMap", "daymark-node")["data"];
    let text = data["config.conf"].as_str().unwrap();
    let there = "/var/lib/kube-proxy/kubeconfig.conf";
    assert!(text.contains(there), "{text}");
    let file = folder.join("config.conf");
    std::fs::write(&file, text.replace(there, kubeconfig.to_str().unwrap())).unwrap();
    file
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

/// The container's arguments with this configuration file and node name in place.
fn arguments(container: &Value, config: &Path) -> Vec<String> {
    // The socket's folder is the machine's; here it is the test's.
    let socket = format!("--socket={}", config.with_file_name("node.sock").display());
    let place = |text: String| {
        let text = text.replace("$(NODE_NAME)", "Node-1");
        text.replace("/var/lib/kube-proxy/config.conf", config.to_str().unwrap())
    };
    let all = texts(&container["args"]).into_iter().map(place);
    all.chain([socket]).collect()
}

/// The Pod of the nodes' agents.
fn pod(objects: &[Value]) -> &Value {
    pod_of(objects, "daymark-node")
}

/// The Pod of a DaemonSet.
fn pod_of<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    &find(objects, "DaemonSet", name)["spec"]["template"]["spec"]
}

/// As the DaemonSet starts it. Three Events are written: the proxy's about the Node, since the manifest's mode is taken away,
/// one that the API is reached at an address of a ServiceCIDR, and one about a Service whose health check has no free port.
#[test]
fn an_agent_asks_for_what_its_manifest_grants_and_for_nothing_else() {
    isolated_test(
        "an_agent_asks_for_what_its_manifest_grants_and_for_nothing_else",
        || {
            run(async {
                let objects = manifest("node.yaml");
                let granted = grants(&objects);
                let ground = Ground::new(granted.clone()).await;
                ground.node().await;
                let _taken = TcpListener::bind((NODE_ADDRESS, 30_998)).unwrap();
                ground.service(30_998).await;
                ground
                    .create(json!({
                        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
                        "metadata": {"name": "loops"}, "spec": {"cidrs": ["127.0.0.0/8"]},
                    }))
                    .await;
                let config = config_file(&objects, ground.folder.path(), &ground.kubeconfig(NODE));
                let text = std::fs::read_to_string(&config)
                    .unwrap()
                    .replace("mode: nftables\n", "");
                std::fs::write(&config, text).unwrap();
                let args = arguments(&pod(&objects)["containers"][0], &config);
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let mut agent = Program::start(&args);
                ground.event(&agent, "KubeProxyDefaultMode").await;
                ground.event(&agent, "ApiServerIsService").await;
                agent.counts("daymark_api_server_is_service 1").await;
                agent.counts("daymark_kube_proxy_leftovers 0").await;
                ground
                    .event(&agent, "FailedToStartServiceHealthcheck")
                    .await;
                agent.end();
                let said = agent.said();
                for wrong in ["answered 403", "orbidden", "cannot ", "no such field"] {
                    assert!(!said.contains(wrong), "{wrong} in\n{said}");
                }
                ground.assert_used(&granted, NODE);
            });
        },
    );
}

#[test]
fn an_agent_that_announces_and_the_controller_ask_for_what_their_manifest_grants() {
    isolated_test(
        "an_agent_that_announces_and_the_controller_ask_for_what_their_manifest_grants",
        || {
            run(async {
                let objects = all();
                let granted = grants(&objects);
                let ground = Ground::new(granted.clone()).await;
                ground.node().await;
                for namespace in ["metallb-system", "daymark-announcers"] {
                    ground.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
                }
                for (kind, spec) in [
                    ("IPAddressPool", json!({"addresses": ["198.51.100.0/24"]})),
                    ("L2Advertisement", json!({})),
                ] {
                    ground
                        .create(json!({
                            "apiVersion": "metallb.io/v1beta1", "kind": kind,
                            "metadata": {"name": "all", "namespace": "metallb-system"}, "spec": spec,
                        }))
                        .await;
                }
                ground.service(30_999).await;
                let file = ground.kubeconfig(CONTROLLER);
                let deployment =
                    &find(&objects, "Deployment", "daymark-controller")["spec"]["template"]["spec"];
                let args = texts(&deployment["containers"][0]["args"]);
                let place = |text: &String| {
                    text.replace("/etc/daymark/kubeconfig.conf", file.to_str().unwrap())
                };
                let args: Vec<String> = args.iter().map(place).collect();
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let mut controller = Program::start(&args);
                for (verb, resource) in [
                    ("patch", "services/status"),
                    ("patch", "ipaddresspools/status"),
                    ("create", "events"),
                ] {
                    ground.used(&controller, verb, resource).await;
                }
                ground.used(&controller, "patch", "services").await;
                let health = get("127.0.0.1:8080", "/healthz").unwrap();
                assert!(health.starts_with("HTTP/1.0 200"), "{health}");
                controller.end();
                assert!(
                    !controller.said().contains("orbidden"),
                    "{}",
                    controller.said()
                );
                ground.assert_used(&granted, CONTROLLER);

                let kubeconfig = ground.kubeconfig(ANNOUNCER);
                let config = config_file(&objects, ground.folder.path(), &kubeconfig);
                let container = &pod_of(&objects, "daymark-announcer")["containers"][0];
                let args = arguments(container, &config);
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let taken = TcpListener::bind((NODE_ADDRESS, 30_999)).unwrap();
                let mut agent = Program::start(&args);
                ground
                    .event(&agent, "FailedToStartServiceHealthcheck")
                    .await;
                ground.lease(&agent, "daymark-announcers").await;
                ground.used(&agent, "watch", "l2advertisements").await;
                agent.end();
                drop(taken);
                assert!(!agent.said().contains("orbidden"), "{}", agent.said());
                ground.assert_used(&granted, ANNOUNCER);
            });
        },
    );
}

#[test]
fn an_agent_without_a_right_says_which_verb_on_which_resource() {
    isolated_test(
        "an_agent_without_a_right_says_which_verb_on_which_resource",
        || {
            run(async {
                let objects = manifest("node.yaml");
                let mut granted = grants(&objects);
                granted.retain(|grant| !grant.resources.contains(&"endpointslices".to_owned()));
                let ground = Ground::new(granted).await;
                ground.node().await;
                let config = config_file(&objects, ground.folder.path(), &ground.kubeconfig(NODE));
                let args = arguments(&pod(&objects)["containers"][0], &config);
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let agent = Program::start(&args);
                agent.says("endpointslices").await;
                let said = agent.said();
                // The log quotes what it is told.
                let said = said.replace('\\', "");
                let wanted = format!(
                    "User {NODE:?} cannot watch resource \"endpointslices\" in API group \"discovery.k8s.io\""
                );
                assert!(said.contains(&wanted), "{wanted} is not in\n{said}");
            });
        },
    );
}

#[test]
fn an_api_that_cannot_be_reached_or_trusted_is_named_with_the_reason_and_asked_again() {
    isolated_test(
        "an_api_that_cannot_be_reached_or_trusted_is_named_with_the_reason_and_asked_again",
        || {
            run(async {
                let objects = manifest("node.yaml");
                let ground = Ground::new(grants(&objects)).await;
                let stranger = Ground {
                    pki: Pki::ephemeral().unwrap(),
                    folder: tempfile::tempdir().unwrap(),
                    url: ground.url.clone(),
                    server: ground.server.clone(),
                    client: ground.client.clone(),
                };
                let away = Ground {
                    url: "https://127.0.0.1:9".to_owned(),
                    folder: tempfile::tempdir().unwrap(),
                    ..stranger
                };
                let stranger = Ground {
                    pki: Pki::ephemeral().unwrap(),
                    folder: tempfile::tempdir().unwrap(),
                    ..ground
                };
                for (other, reason) in [
                    (stranger, "invalid peer certificate"),
                    (away, "onnection refused"),
                ] {
                    let (folder, kubeconfig) = (other.folder.path(), other.kubeconfig(NODE));
                    let config = config_file(&objects, folder, &kubeconfig);
                    let args = arguments(&pod(&objects)["containers"][0], &config);
                    let args: Vec<&str> = args.iter().map(String::as_str).collect();
                    let mut agent = Program::start(&args);
                    agent.says(reason).await;
                    agent.says(&other.url).await;
                    agent.end();
                }
            });
        },
    );
}

/// What `docs/security.md` says of the containers.
#[test]
fn the_containers_have_the_capabilities_of_their_parts_alone() {
    let objects = all();
    let pod = pod(&objects);
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    let [init, node] = ["initContainers", "containers"].map(|field| &pod[field][0]);
    assert_eq!(init["securityContext"], json!({"privileged": true}));
    assert!(texts(&init["args"]).contains(&"--init-only".to_owned()));
    let context = &node["securityContext"];
    assert_eq!(
        context["capabilities"],
        json!({"drop": ["ALL"], "add": ["NET_ADMIN"]})
    );
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    // What a rollout waits for is this agent's own first state, which /healthz is not.
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(node[probe]["httpGet"]["path"], path, "{probe}");
    }
    let deployment =
        &find(&objects, "Deployment", "daymark-controller")["spec"]["template"]["spec"];
    let context = &deployment["containers"][0]["securityContext"];
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(deployment["securityContext"]["runAsNonRoot"], true);
    // Every account, ConfigMap and role that is named is there.
    for object in [
        find(&objects, "DaemonSet", "daymark-node"),
        find(&objects, "DaemonSet", "daymark-announcer"),
        find(&objects, "Deployment", "daymark-controller"),
    ] {
        let pod = &object["spec"]["template"]["spec"];
        find(
            &objects,
            "ServiceAccount",
            pod["serviceAccountName"].as_str().unwrap(),
        );
        find(
            &objects,
            "ConfigMap",
            pod["volumes"][0]["configMap"]["name"].as_str().unwrap(),
        );
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        assert_eq!(&object["spec"]["selector"]["matchLabels"], labels);
    }
}

#[test]
fn an_agent_that_announces_is_another_ones_equal_but_for_what_that_takes() {
    let objects = all();
    let mut expected = find(&objects, "DaemonSet", "daymark-node").to_string();
    expected = expected.replace("daymark-node", "daymark-announcer");
    let mut expected: Value = serde_json::from_str(&expected).unwrap();
    let pod = &mut expected["spec"]["template"]["spec"];
    // One configuration for all nodes, and each node runs one agent.
    pod["volumes"][0]["configMap"]["name"] = "daymark-node".into();
    let others =
        &mut pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let not_these = json!({"key": "daymark", "operator": "NotIn", "values": ["announcer"]});
    assert_eq!(
        others.take(),
        json!({"nodeSelectorTerms": [{"matchExpressions": [not_these]}]})
    );
    pod.as_object_mut().unwrap().remove("affinity");
    assert_eq!(pod["nodeSelector"]["daymark"].take(), "node");
    pod["nodeSelector"]["daymark"] = "announcer".into();
    let more = |list: &mut Value, more: &[&str]| {
        let list = list.as_array_mut().unwrap();
        list.extend(more.iter().map(|text| Value::from(*text)));
    };
    let node = &mut pod["containers"][0];
    let flags = ["--announce", "--announce-namespace=daymark-announcers"];
    more(&mut node["args"], &flags);
    more(
        &mut node["securityContext"]["capabilities"]["add"],
        &["NET_RAW"],
    );
    assert_eq!(find(&objects, "DaemonSet", "daymark-announcer"), &expected);
    // Load-balancer addresses give the other nodes' account no right more.
    let alone = grants(&manifest("node.yaml"));
    assert_eq!(rights(&grants(&objects), NODE), rights(&alone, NODE));
}

#[test]
fn images_have_this_version_and_are_named_in_one_place() {
    let version = env!("CARGO_PKG_VERSION");
    let kustomization = manifest("kustomization.yaml").remove(0);
    assert_eq!(kustomization["resources"], json!(["node.yaml"]));
    let images = kustomization["images"].as_array().unwrap();
    let mut known = BTreeSet::new();
    for image in images {
        assert_eq!(image["newTag"], version, "{image}");
        known.insert(format!("{}:{version}", image["name"].as_str().unwrap()));
    }
    let mut used = BTreeSet::new();
    for object in [all(), manifest("cleanup.yaml")].concat() {
        for container in containers(&object["spec"]["template"]["spec"]) {
            // Whoever pulls a node's proxy anew at each start needs the registry then, which may be a Service.
            assert_eq!(container["imagePullPolicy"], "IfNotPresent", "{container}");
            used.insert(container["image"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(used, known);
}

/// The containers of a Pod, those that come before the others first.
fn containers(pod: &Value) -> Vec<&Value> {
    let lists = ["initContainers", "containers"];
    let lists = lists.map(|list| pod[list].as_array().into_iter().flatten());
    lists.into_iter().flatten().collect()
}

#[test]
fn the_cleanup_has_no_right_in_the_api_and_no_capability_that_it_does_not_need() {
    let (objects, agents_objects) = (manifest("cleanup.yaml"), all());
    assert!(objects.iter().all(|object| object["kind"] == "DaemonSet"));
    let rows = [
        ("daymark-cleanup", json!(["NET_ADMIN"]), "--daymark"),
        (
            "daymark-cleanup-kube-proxy",
            json!(["NET_ADMIN", "NET_RAW"]),
            "--kube-proxy",
        ),
    ];
    assert_eq!(objects.len(), rows.len());
    for (name, capabilities, flag) in rows {
        let pod = &find(&objects, "DaemonSet", name)["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["hostNetwork"], true, "{name}");
        assert!(pod["nodeSelector"]["daymark-cleanup"].is_string(), "{name}");
        // It knows the label of every agent.
        let terms = "requiredDuringSchedulingIgnoredDuringExecution";
        let terms = &pod["affinity"]["nodeAffinity"][terms]["nodeSelectorTerms"];
        let expression = &terms[0]["matchExpressions"][0];
        let agents = ["daymark-node", "daymark-announcer"];
        let agents =
            agents.map(|agent| pod_of(&agents_objects, agent)["nodeSelector"]["daymark"].clone());
        assert_eq!(expression["values"], json!(agents), "{name}");
        let cleans = |container: &&Value| texts(&container["args"]).contains(&flag.to_owned());
        let all = containers(pod);
        assert_eq!(all.iter().copied().filter(cleans).count(), 1, "{name}");
        for container in all {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
            assert_eq!(
                context["capabilities"]["drop"],
                json!(["ALL"]),
                "{container}"
            );
            let added = if cleans(&container) {
                &capabilities
            } else {
                &Value::Null
            };
            assert_eq!(&context["capabilities"]["add"], added, "{container}");
        }
    }
    let own = &find(&objects, "DaemonSet", "daymark-cleanup")["spec"]["template"]["spec"];
    let run =
        json!([{"name": "run", "hostPath": {"path": "/run/daymark", "type": "DirectoryOrCreate"}}]);
    assert_eq!(own["volumes"], run, "where the agent's lock is");
}

#[test]
fn cleanup_leaves_the_tables_of_an_agent_that_runs_and_says_whose_they_are() {
    isolated_test(
        "cleanup_leaves_the_tables_of_an_agent_that_runs_and_says_whose_they_are",
        || {
            run(async {
                up().await;
                let folder = tempfile::tempdir().unwrap();
                let socket = folder.path().join("node.sock");
                let cleanup = || {
                    let mut command = Command::new(env!("CARGO_BIN_EXE_daymark"));
                    command
                        .args(["cleanup", "--daymark", "--socket"])
                        .arg(&socket);
                    let ended = command.output().unwrap();
                    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                    (ended.status.code(), said)
                };
                assert_eq!(cleanup(), (Some(0), String::new()));
                let agent = daymark_node::ask::server::Listener::bind(&socket).unwrap();
                let (code, said) = cleanup();
                assert_eq!(code, Some(1), "{said}");
                let who = format!("process {}", std::process::id());
                let place = socket.display().to_string();
                for part in [&*who, &*place, "to end first"] {
                    assert!(said.contains(part), "{part} in {said}");
                }
                drop(agent);
                // One with another socket, or without any.
                let claim = daymark_node::claim::Claim::take().await.unwrap();
                let (code, said) = cleanup();
                assert_eq!(code, Some(1), "{said}");
                assert!(said.contains(&who) && said.contains("--socket"), "{said}");
                drop(claim);
                assert_eq!(cleanup(), (Some(0), String::new()));
                // The agent, which has no programs of iptables, hears from it that nothing of kube-proxy is left.
                let mark = Mark(socket.with_file_name("kube-proxy-removed"));
                assert!(!mark.is_left());
                let mut command = Command::new(env!("CARGO_BIN_EXE_daymark"));
                command
                    .args(["cleanup", "--kube-proxy", "--socket"])
                    .arg(&socket);
                let ended = command.output().unwrap();
                assert!(ended.status.success(), "{ended:?}");
                assert!(mark.is_left());
                follower::waits_for_rules(&socket);
                follower::waits_for_a_sync(&socket);
            });
        },
    );
}
