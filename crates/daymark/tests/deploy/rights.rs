//! What the programs ask of the API, beside what the manifests grant.

use super::*;

/// As the DaemonSet starts it. Three Events are written: the proxy's about the Node, since the manifest's mode is taken away,
/// one that the API is reached at an address of a ServiceCIDR, and one about a Service whose health check has no free port.
#[test]
fn an_agent_asks_for_what_its_manifest_grants_and_for_nothing_else() {
    isolated_test(
        "rights::an_agent_asks_for_what_its_manifest_grants_and_for_nothing_else",
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
                // Events are gone after an hour; the status says it for as long as it is so.
                let status = Command::new(env!("CARGO_BIN_EXE_daymark"))
                    .args(["status", "-o", "json", "--socket"])
                    .arg(config.with_file_name("node.sock"))
                    .output()
                    .unwrap();
                let told: Value = serde_json::from_slice(&status.stdout).unwrap();
                let parts = told["parts"].as_array().unwrap();
                let part = |name: &str| parts.iter().find(|part| part["name"] == name).unwrap();
                assert_eq!(part("kube-proxy")["healthy"], true, "{told:#}");
                let api = part("api");
                assert_eq!(
                    (&api["healthy"], status.status.code()),
                    (&json!(false), Some(1))
                );
                let why = api["text"].as_str().unwrap();
                assert!(why.contains("is 127.0.0.1, the address of"), "{why}");
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
        "rights::an_agent_that_announces_and_the_controller_ask_for_what_their_manifest_grants",
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
        "rights::an_agent_without_a_right_says_which_verb_on_which_resource",
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
        "rights::an_api_that_cannot_be_reached_or_trusted_is_named_with_the_reason_and_asked_again",
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
