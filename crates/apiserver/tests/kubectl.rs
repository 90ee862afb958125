//! Stock kubectl against a server on loopback, over TLS: one step after the other.
//!
//! Where no kubectl is installed, the test says so and counts itself as skipped.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;

use daymark_apiserver::tls::{Pki, Role, listen};
use daymark_apiserver::{ApiServer, Config};

/// One call: what is asked, what is handed in, how it ends and what it says.
struct Step {
    args: &'static str,
    stdin: &'static str,
    ends: Ends,
    says: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Well,
    Badly,
}

const fn well(args: &'static str, says: &'static [&'static str]) -> Step {
    Step {
        args,
        stdin: "",
        ends: Ends::Well,
        says,
    }
}

const fn badly(args: &'static str, says: &'static [&'static str]) -> Step {
    Step {
        args,
        stdin: "",
        ends: Ends::Badly,
        says,
    }
}

const fn given(stdin: &'static str, step: Step) -> Step {
    Step { stdin, ..step }
}

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30007}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
";

/// What `kubectl get -o json` prints.
const LISTED: &str = r#"{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "first"}, "data": {"a": "b"}},
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "second"}, "data": {"a": "b"}}]}"#;

const WEB_MOVED: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30008}]
";

const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool}
spec: {addresses: [172.30.0.200-172.30.0.250]}
";

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
";

const UNKNOWN_FIELD: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"foo":1,"ports":[{"port":80}]}}"#;
const TEXT_FOR_NUMBER: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":"80"}]}}"#;
const TAKEN_PORT: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},
    "spec":{"type":"NodePort","ports":[{"port":80,"nodePort":30008}]}}"#;

const STEPS: &[Step] = &[
    well("get namespaces", &["default", "kube-system", "Active"]),
    well("version", &["v1.37.2+daymark"]),
    well(
        "api-resources",
        &[
            "services",
            "svc",
            "endpointslices",
            "ipaddresspools",
            "l2advertisements",
        ],
    ),
    given(
        WEB,
        well(
            "create -f -",
            &["service/web created", "configmap/settings created"],
        ),
    ),
    given(
        WEB,
        badly(
            "create -f -",
            &[
                "configmaps \"settings\" already exists",
                "provided port is already allocated",
            ],
        ),
    ),
    well("get svc", &["web", "NodePort", "80:30007/TCP"]),
    well("get svc,cm -o wide", &["app=web", "settings"]),
    well(
        "describe svc web",
        &["NodePort:", "30007/TCP", "IP Families:"],
    ),
    given(WEB, well("apply -f -", &["service/web configured"])),
    given(WEB, well("apply -f -", &["service/web unchanged"])),
    given(WEB_MOVED, well("apply -f -", &["service/web configured"])),
    well(
        "get svc web -o jsonpath={.spec.ports[*].nodePort}",
        &["30008"],
    ),
    well("label svc web tier=front", &["labeled"]),
    well("get svc -l tier=front,app -o name", &["service/web"]),
    well("annotate svc web note=1", &["annotated"]),
    well("edit svc web", &["edited"]),
    well(
        "get svc web -o jsonpath={.metadata.annotations.note}",
        &["edited-by-script"],
    ),
    well(
        r#"patch svc web -p {"spec":{"ports":[{"port":80,"targetPort":9090}]}}"#,
        &["patched"],
    ),
    well(
        "get svc web -o jsonpath={.spec.ports[*].name}{.spec.ports[*].targetPort}",
        &["http9090"],
    ),
    well(
        r#"patch svc web --type=json -p [{"op":"replace","path":"/spec/sessionAffinity","value":"ClientIP"}]"#,
        &["patched"],
    ),
    well(
        r#"patch svc web --type=merge -p {"spec":{"type":"ClusterIP"}}"#,
        &["patched"],
    ),
    well(
        "wait --for=jsonpath={.spec.type}=ClusterIP svc/web --timeout=10s",
        &["condition met"],
    ),
    well(
        r#"patch svc web --type=merge -p {"spec":{"type":"NodePort","ports":[{"port":80,"nodePort":30008}]}}"#,
        &["patched"],
    ),
    given(
        POOL,
        well("apply -f -", &["ipaddresspool.metallb.io/pool created"]),
    ),
    given(POOL, well("apply -f -", &["unchanged"])),
    well("get ipaddresspools", &["pool", "172.30.0.200-172.30.0.250"]),
    well(
        "explain service.spec.ports.nodePort",
        &["nodePort", "<integer>"],
    ),
    given(
        UNKNOWN_FIELD,
        badly("create -f -", &["unknown field \"spec.foo\""]),
    ),
    given(
        TEXT_FOR_NUMBER,
        badly(
            "create -f -",
            &["cannot unmarshal string", "spec.ports.port"],
        ),
    ),
    given(
        TAKEN_PORT,
        badly(
            "create -f -",
            &[
                "spec.ports[0].nodePort",
                "provided port is already allocated",
            ],
        ),
    ),
    given(
        WEB,
        badly(
            "-n nowhere create -f -",
            &["namespaces \"nowhere\" not found"],
        ),
    ),
    badly(
        "create namespace team",
        &[
            "application/vnd.kubernetes.protobuf is not read",
            "create -f",
        ],
    ),
    badly(
        "scale deployment/web --replicas=2",
        &["doesn't have a resource type"],
    ),
    given(
        DEFINITION,
        badly(
            "create -f -",
            &["no matches for kind", "ensure CRDs are installed first"],
        ),
    ),
    given(
        LISTED,
        well(
            "apply -f -",
            &["configmap/first created", "configmap/second created"],
        ),
    ),
    well("delete cm first second", &["deleted"]),
    badly("get --raw /api/v1/endpoints", &["use endpointslices"]),
    badly("exec web -- true", &["NotFound"]),
    given(
        WEB,
        badly(
            "apply --server-side -f -",
            &["server-side apply is not served"],
        ),
    ),
    well("delete svc web", &["deleted"]),
    well("delete cm --all", &["deleted"]),
    badly("get svc web", &["services \"web\" not found"]),
    badly(
        "delete namespace default",
        &["this namespace may not be deleted"],
    ),
    well("get --raw /readyz", &["ok"]),
];

/// Turns the value of the annotation that `kubectl edit` shows.
const EDITOR: &str = "#!/bin/sh\nsed -i 's/note: \"1\"/note: edited-by-script/' \"$1\"\n";

fn main() -> ExitCode {
    if let Err(error) = Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
    {
        say(&format!(
            "SKIPPED {} steps: no kubectl: {error}",
            STEPS.len()
        ));
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    serve(&runtime, folder.path());
    let mut watch = Watch::start(folder.path());
    let failed: Vec<String> = STEPS
        .iter()
        .filter_map(|step| check(folder.path(), step))
        .collect();
    let watched = watch.stop();
    runtime.shutdown_timeout(Duration::from_secs(1));
    failed.iter().for_each(|failure| say(failure));
    let seen = ["web", "80:30007/TCP", "80:30008/TCP"]
        .iter()
        .all(|text| watched.contains(text));
    if !seen {
        say(&format!("FAILED get svc -w: {watched}"));
    }
    let bad = failed.len() + usize::from(!seen);
    say(&format!(
        "{} passed; {bad} failed; 0 skipped",
        STEPS.len() + 1 - bad
    ));
    if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Starts a server on a free port of loopback and writes a kubeconfig and an editor.
fn serve(runtime: &tokio::runtime::Runtime, folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = ApiServer::open(Config::default()).expect("a server in memory");
    let pki = Pki::ephemeral().expect("a CA");
    let tls = pki.server_config(&[]).expect("a certificate");
    let config = pki
        .kubeconfig(&Role::Admin, "test", &format!("https://{address}"))
        .expect("a certificate");
    config.write(&folder.join("config")).expect("a kubeconfig");
    let editor = folder.join("editor");
    std::fs::write(&editor, EDITOR).expect("an editor");
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    runtime.spawn(async move { server.serve(vec![listener], tls).await });
}

fn kubectl(folder: &Path) -> Command {
    let mut command = Command::new("kubectl");
    command
        .env("HOME", folder)
        .env("KUBECONFIG", folder.join("config"))
        .env("KUBE_EDITOR", folder.join("editor"));
    command
        .arg("--request-timeout=20s")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What went wrong in a step, if anything did.
fn check(folder: &Path, step: &Step) -> Option<String> {
    let mut command = kubectl(folder);
    let mut child = command
        .args(step.args.split(' '))
        .stdin(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(step.stdin.as_bytes())
        .expect("kubectl reads");
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("kubectl ends");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    let ends = if status.success() {
        Ends::Well
    } else {
        Ends::Badly
    };
    let missing: Vec<_> = step
        .says
        .iter()
        .filter(|text| !said.contains(**text))
        .collect();
    let good = ends == step.ends && missing.is_empty();
    (!good).then(|| {
        format!(
            "FAILED kubectl {}: ended {ends:?}, lacks {missing:?}: {said}",
            step.args
        )
    })
}

/// A `kubectl get -w` that runs beside the steps.
struct Watch(Child);

impl Watch {
    fn start(folder: &Path) -> Self {
        // Its own timeout would end the watch.
        let mut command = kubectl(folder);
        let child = command
            .args(["--request-timeout=0", "get", "svc", "-w"])
            .spawn()
            .expect("kubectl runs");
        Self(child)
    }

    fn stop(&mut self) -> String {
        use std::io::Read;
        self.0.kill().expect("it still watches");
        let mut said = String::new();
        self.0
            .stdout
            .take()
            .expect("a pipe")
            .read_to_string(&mut said)
            .expect("text");
        self.0.wait().expect("it ends");
        said
    }
}

#[allow(
    clippy::disallowed_macros,
    reason = "this test has no harness that would print for it"
)]
fn say(text: &str) {
    println!("{text}");
}
