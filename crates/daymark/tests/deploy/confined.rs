//! The agent as a container runtime starts it from `deploy/node.yaml`: with the capabilities of the manifest alone, new privileges
//! forbidden, everything read-only but the socket's folder, and the system calls that the default profile refuses refused. On
//! the node of a lab, behind the init step, with real packets.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use daymark_dataplane::nft::apply::Kernel;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout;
use daymark_lab::bare::{self, BareLab, Outcome, Place, Pod, Probe, Protocol, Spec};
use daymark_lab::net::PodAddresses;
use daymark_netlink::nft::{Exists, Family, Message, Table, TableFlags, TableId};
use daymark_node::ask::server::vacancy;
use daymark_sys::ns::NetNs;
use daymark_sys::process::{Confinement, Isolation};
use rustix::thread::CapabilitySet;

use super::*;

/// A node of a lab, its API, and the files of its agent.
struct Site<'a> {
    lab: &'a BareLab,
    here: NetNs,
    ground: Ground,
    config: PathBuf,
    run: PathBuf,
    container: Value,
}

impl<'a> Site<'a> {
    /// The agent has this account.
    async fn new(lab: &'a BareLab, account: &str) -> Self {
        let here = lab.ns(&Place::Node("node-1".to_owned())).unwrap().clone();
        // Labs leave low ports to everybody; machines do not.
        let low = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        here.within(|| std::fs::write(low, "1024"))
            .unwrap()
            .unwrap();
        let listener = here.within(|| TcpListener::bind("127.0.0.1:0")).unwrap();
        let objects = manifest("node.yaml");
        let mut granted = grants(&all());
        granted.push(right_of_dns(account));
        let ground = Ground::at(listener.unwrap(), granted);
        objects_of_the_api(&ground).await;
        let config = config_file(&objects, ground.folder.path(), &ground.kubeconfig(account));
        let text = std::fs::read_to_string(&config).unwrap();
        // The one setting that belongs to the machine and not to a network namespace.
        let text = format!("{text}conntrack: {{maxPerCore: 0, min: 0}}\n");
        std::fs::write(&config, text).unwrap();
        let run = ground.folder.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let container = pod(&objects)["containers"][0].clone();
        Self {
            lab,
            here,
            ground,
            config,
            run,
            container,
        }
    }

    /// The node's address alone is on no link, and there are no others to be announced to.
    async fn join_a_link(&self) {
        let opened = self.here.within(new_connection).unwrap();
        let (connection, handle, _) = opened.unwrap();
        tokio::spawn(connection);
        let (eth0, address) = (2, IpAddr::from([172, 30, 0, 12]));
        handle
            .address()
            .add(eth0, address, 24)
            .execute()
            .await
            .unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.run.join("node.sock")
    }

    /// The agent's command line in the node's network; `more` flags behind the manifest's.
    fn command(&self, more: &[&str]) -> Command {
        let mut args = arguments(&self.container, &self.config);
        *args.last_mut().unwrap() = format!("--socket={}", self.socket().display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_daymark"));
        command.args(args).args(more);
        command
    }

    /// With these capabilities, and in all else as the manifest has it.
    fn agent(&self, capabilities: CapabilitySet, more: &[&str]) -> Program {
        let mut command = self.command(more);
        Isolation {
            network: Some(self.here.clone()),
            confinement: Some(Confinement {
                capabilities,
                writable: vec![self.run.clone()],
            }),
            ..Isolation::default()
        }
        .apply(&mut command);
        Program::run(&mut command)
    }

    /// The first container of the Pod: all rights, and it ends.
    fn init(&self) {
        let mut command = self.command(&["--init-only"]);
        Isolation {
            network: Some(self.here.clone()),
            ..Isolation::default()
        }
        .apply(&mut command);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// What the node's own health port answers, whole; kubelet asks there.
    fn get(&self, path: &str) -> String {
        let ask = || get("127.0.0.1:10256", path);
        self.here.within(ask).unwrap().unwrap_or_default()
    }

    async fn healthy(&self, agent: &Program) {
        for _ in 0..200 {
            let answer = self.get("/healthz");
            if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not healthy:\n{}", agent.said());
    }

    fn reaches(&self, from: Place, to: &str) -> String {
        let probe = Probe {
            from,
            source: None,
            to: to.parse().unwrap(),
            protocol: Protocol::Tcp,
        };
        // The lab has a runtime of its own.
        let outcome =
            tokio::task::block_in_place(|| self.lab.probe(&probe, Duration::from_secs(3)));
        match outcome {
            Ok(Outcome::Reached(answer)) => answer.place.to_string(),
            other => panic!("{to}: {other:?}"),
        }
    }
}

/// What who adds DNS to the manifest's agent grants it: without it there is no first state, and no health.
fn right_of_dns(account: &str) -> Grant {
    Grant {
        user: account.to_owned(),
        api_groups: vec![String::new()],
        resources: vec!["namespaces".to_owned()],
        verbs: ["list", "watch"].map(str::to_owned).into(),
        ..Grant::default()
    }
}

fn lab() -> BareLab {
    let pod = |number| Pod {
        name: format!("pod-{number}"),
        addresses: PodAddresses {
            v4: Some([10, 244, 1, number].into()),
            v6: None,
        },
        link: None,
    };
    BareLab::new(&Spec {
        nodes: vec![bare::Node {
            name: "node-1".to_owned(),
            addresses: vec![[172, 30, 0, 11].into()],
            pods: [1, 2, 9].map(pod).into(),
        }],
        outside: vec![[172, 30, 0, 100].into()],
        ports: vec![8080],
    })
    .unwrap()
}

async fn objects_of_the_api(ground: &Ground) {
    for namespace in ["metallb-system", "daymark-announcers"] {
        ground
            .create(
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            )
            .await;
    }
    ground
        .create(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.11"}],
                       "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .await;
    let port = |protocol: &str, node: u16| json!([{"name": "p", "port": 80, "targetPort": 8080, "protocol": protocol, "nodePort": node}]);
    for (name, protocol, node) in [("web", "TCP", 30_080), ("talk", "UDP", 30_081)] {
        ground
            .create(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
                "spec": {"type": "NodePort", "ports": port(protocol, node)},
            }))
            .await;
        ground.create(slice(name, protocol, "10.244.1.1")).await;
    }
}

fn slice(service: &str, protocol: &str, address: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": service, "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "p", "port": 8080, "protocol": protocol}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}, "nodeName": "node-1"}],
    })
}

/// The API's own choice.
async fn cluster_ip(ground: &Ground, service: &str) -> String {
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(ground.client.clone(), "default");
    services
        .get(service)
        .await
        .unwrap()
        .spec
        .unwrap()
        .cluster_ip
        .unwrap()
}

/// The capabilities that the manifest adds to none.
fn manifests(container: &Value) -> CapabilitySet {
    let added = texts(&container["securityContext"]["capabilities"]["add"]);
    assert_eq!(added, ["NET_ADMIN"]);
    CapabilitySet::NET_ADMIN
}

/// Every thread of a process has these lines in its status.
fn assert_confined(agent: &Program) {
    let none = "0000000000000000";
    let net_admin = "0000000000001000";
    let lines = [
        ("CapInh", none),
        ("CapPrm", net_admin),
        ("CapEff", net_admin),
        ("CapBnd", net_admin),
        ("CapAmb", none),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ];
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.child.id())).unwrap();
    let mut threads = 0;
    for task in tasks {
        // A thread may end meanwhile.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        for (name, value) in lines {
            assert!(
                status.contains(&format!("{name}:\t{value}\n")),
                "{name} is not {value} in\n{status}"
            );
        }
        threads += 1;
    }
    assert!(threads > 1, "its threads are there");
}

/// kube-proxy's table, as it leaves it.
fn kube_proxys() -> TableId {
    TableId::new(Family::Ip, "kube-proxy")
}

#[test]
fn an_agent_serves_with_the_capabilities_of_its_manifest_alone() {
    isolated_test(
        "confined::an_agent_serves_with_the_capabilities_of_its_manifest_alone",
        || {
            let lab = lab();
            run(async {
                let site = Site::new(&lab, NODE).await;
                let mut kernel = site.here.within(Netlink::open).unwrap().unwrap();
                let table = Table {
                    id: kube_proxys(),
                    flags: TableFlags::NONE,
                    comment: None,
                };
                kernel
                    .commit(&[Message::NewTable {
                        table,
                        exists: Exists::Refuse,
                    }])
                    .unwrap();
                site.init();
                let kept = site.here.within(|| {
                    std::fs::read_to_string(
                        "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established",
                    )
                });
                assert_eq!(
                    kept.unwrap().unwrap().trim(),
                    "86400",
                    "the init step sets what kube-proxy would"
                );

                let mut agent = site.agent(manifests(&site.container), &[]);
                site.healthy(&agent).await;
                assert_confined(&agent);
                for path in ["/livez", "/readyz", "/healthz"] {
                    assert!(
                        site.get(path).contains(" 200 "),
                        "{path}: {}",
                        site.get(path)
                    );
                }
                // Packets, from a Pod, the node and outside.
                let web = cluster_ip(&site.ground, "web").await;
                for (from, to) in [
                    (Place::Pod("pod-9".to_owned()), format!("{web}:80")),
                    (Place::Node("node-1".to_owned()), format!("{web}:80")),
                    (Place::Outside, "172.30.0.11:30080".to_owned()),
                ] {
                    assert_eq!(site.reaches(from, &to), "pod/pod-1");
                }
                follows(&site).await;
                // What kube-proxy left.
                for tries in 0.. {
                    if kernel.header(&kube_proxys()).unwrap().is_none() {
                        break;
                    }
                    assert!(
                        tries < 200,
                        "kube-proxy's table is still there:\n{}",
                        agent.said()
                    );
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                // Its socket, which it made itself, and what it says there.
                let mode = std::fs::metadata(site.socket())
                    .unwrap()
                    .permissions()
                    .mode();
                assert_eq!(mode & 0o777, 0o600);
                let status = Command::new(env!("CARGO_BIN_EXE_daymark"))
                    .args(["status", "--socket"])
                    .arg(site.socket())
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&status.stdout).into_owned();
                assert!(
                    status.status.success() && said.starts_with("node-1: healthy"),
                    "{said}"
                );
                agent.end();
                let said = agent.said();
                for wrong in [
                    "not permitted",
                    "ermission denied",
                    "ead-only file system",
                    "CAP_",
                ] {
                    let lines = said
                        .lines()
                        .filter(|line| line.contains(wrong) && !line.contains("oomScoreAdj"));
                    let lines: Vec<&str> = lines.collect();
                    assert!(lines.is_empty(), "{lines:#?}");
                }
                assert_eq!(
                    site.reaches(Place::Outside, "172.30.0.11:30080"),
                    "pod/pod-1",
                    "the kernel serves on"
                );
            });
        },
    );
}

/// A client that always sends from one port is led to the new endpoint: the kernel's old flow was removed.
async fn follows(site: &Site<'_>) {
    let to: SocketAddr = format!("{}:80", cluster_ip(&site.ground, "talk").await)
        .parse()
        .unwrap();
    let client = site.lab.ns(&Place::Pod("pod-9".to_owned())).unwrap();
    let socket = client
        .within(|| UdpSocket::bind("0.0.0.0:4053"))
        .unwrap()
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let ask = || -> std::io::Result<String> {
        let mut buffer = [0; 512];
        socket.send_to(b"?", to)?;
        let (length, _) = socket.recv_from(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        Ok(text.split(' ').next().unwrap_or_default().to_owned())
    };
    let first = (0..50).find_map(|_| ask().ok());
    assert_eq!(first.as_deref(), Some("pod/pod-1"));
    let slices: Api<k8s_openapi::api::discovery::v1::EndpointSlice> =
        Api::namespaced(site.ground.client.clone(), "default");
    let patch = Patch::Merge(slice("talk", "UDP", "10.244.1.2"));
    slices
        .patch("talk", &PatchParams::default(), &patch)
        .await
        .unwrap();
    for _ in 0..50 {
        if ask().is_ok_and(|answer| answer == "pod/pod-2") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the client's old flow is still there");
}

/// The rows of the table in `docs/security.md`: what each capability is for does not work without it, and is named; with it no word
/// of a capability is said.
#[test]
fn what_lacks_its_capability_names_it() {
    isolated_test("confined::what_lacks_its_capability_names_it", || {
        let admin = CapabilitySet::NET_ADMIN;
        let none = CapabilitySet::empty();
        let announce = ["--announce", "--announce-namespace=daymark-announcers"];
        let dns = ["--dns-bind=172.30.0.11:53"];
        for (flags, lacks, name) in [
            (&[][..], admin, "CAP_NET_ADMIN"),
            (&announce[..], CapabilitySet::NET_RAW, "CAP_NET_RAW"),
            (
                &dns[..],
                CapabilitySet::NET_BIND_SERVICE,
                "CAP_NET_BIND_SERVICE",
            ),
        ] {
            let lab = lab();
            run(async {
                let site = Site::new(&lab, ANNOUNCER).await;
                site.join_a_link().await;
                let poor = if lacks == admin { none } else { admin };
                let agent = site.agent(poor, flags);
                agent.says(name).await;
                drop(agent);
                let agent = site.agent(admin | lacks, flags);
                site.healthy(&agent).await;
                assert!(!agent.said().contains(name), "{}", agent.said());
            });
        }
    });
}

/// `daymark cleanup` has the agent's place while it removes tables: an agent that starts meanwhile makes none, and then serves.
#[test]
fn an_agent_makes_no_tables_while_a_cleanup_is_at_work() {
    isolated_test(
        "confined::an_agent_makes_no_tables_while_a_cleanup_is_at_work",
        || {
            let lab = lab();
            run(async {
                let site = Site::new(&lab, NODE).await;
                let mut kernel = site.here.within(Netlink::open).unwrap().unwrap();
                let mut tables = || {
                    let mut there = |table| kernel.header(&table).unwrap().is_some();
                    layout::all_tables()
                        .filter(|table| there(table.clone()))
                        .count()
                };
                let cleanup = vacancy(&site.socket()).unwrap();
                let agent = site.agent(manifests(&site.container), &[]);
                agent.says("daymark cleanup works on this node").await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_eq!(tables(), 0, "{}", agent.said());
                drop(cleanup);
                site.healthy(&agent).await;
                assert!(tables() > 0, "{}", agent.said());
            });
        },
    );
}
