//! An API server that knows what the manifests grant, and the binary beside it.

use super::*;

/// An API server that knows these grants, and an administrator's client.
pub(super) struct Ground {
    pub(super) server: ApiServer,
    pub(super) pki: Pki,
    pub(super) url: String,
    pub(super) client: kube::Client,
    pub(super) folder: tempfile::TempDir,
}

impl Ground {
    pub(super) async fn new(grants: Vec<Grant>) -> Self {
        up().await;
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap(), grants)
    }

    /// The same, answering at a loopback that is up.
    pub(super) fn at(listener: TcpListener, grants: Vec<Grant>) -> Self {
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
    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
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

    pub(super) async fn create(&self, object: Value) {
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

    pub(super) async fn node(&self) {
        let addresses = [("InternalIP", NODE_ADDRESS)];
        let addresses = addresses.map(|(kind, address)| json!({"type": kind, "address": address}));
        self.create(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
            "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .await;
    }

    pub(super) async fn service(&self, health_check_port: u16) {
        self.create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app": "web"},
                     "healthCheckNodePort": health_check_port, "ports": [{"port": 80}]},
        }))
        .await;
    }

    /// Waits until an Event of this reason was written.
    pub(super) async fn event(&self, program: &Program, reason: &str) {
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
    pub(super) async fn lease(&self, program: &Program, namespace: &str) {
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
    pub(super) async fn used(&self, program: &Program, verb: &str, resource: &str) {
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
    pub(super) fn assert_used(&self, grants: &[Grant], user: &str) {
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
pub(super) async fn up() {
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
pub(super) fn get(at: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The binary, running.
pub(super) struct Program {
    pub(super) child: Child,
    pub(super) lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub(super) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daymark"));
        command.args(args);
        Self::run(&mut command)
    }

    pub(super) fn run(command: &mut Command) -> Self {
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

    pub(super) fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits until an agent's metrics have this line.
    pub(super) async fn counts(&self, line: &str) {
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
    pub(super) async fn says(&self, text: &str) {
        for _ in 0..200 {
            if self.said().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not say {text}:\n{}", self.said());
    }

    /// Ends it by SIGTERM; it must end well.
    pub(super) fn end(&mut self) {
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
