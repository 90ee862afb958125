//! `deploy/cleanup.yaml`, and what `daymark cleanup` leaves alone.

use super::*;

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
        "cleanup::cleanup_leaves_the_tables_of_an_agent_that_runs_and_says_whose_they_are",
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
