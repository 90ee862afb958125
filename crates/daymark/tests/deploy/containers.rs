//! What the manifests give the containers.

use super::*;

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

/// Those that stand in kustomization.yaml between signs of a comment, as an operator takes them in.
#[test]
fn patches_that_are_to_be_taken_in_find_what_they_change() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kustomization.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| *line != "# patches:");
    let taken_in: String = lines.map(|line| format!("{}\n", &line[2..])).collect();
    let taken_in: Value = serde_saphyr::from_str(&taken_in).unwrap();
    let objects = all();
    let mut done = Vec::new();
    for patch in taken_in["patches"].as_array().unwrap() {
        let names: &[&str] = match patch["target"]["name"].as_str().unwrap() {
            "daymark-(node|announcer)" => &["daymark-node", "daymark-announcer"],
            "daymark-node" => &["daymark-node"],
            other => panic!("{other}: of which objects?"),
        };
        let steps: Vec<Value> = serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap();
        for (name, step) in names
            .iter()
            .flat_map(|name| steps.iter().map(move |step| (name, step)))
        {
            let object = find(&objects, patch["target"]["kind"].as_str().unwrap(), name);
            let found = object.pointer(step["path"].as_str().unwrap());
            let found = found.unwrap_or_else(|| panic!("{name} has no {step}"));
            done.push((step["op"].clone(), found.clone(), step["value"].clone()));
        }
    }
    let renamed = (json!("replace"), json!("daymark-node"), json!("kube-proxy"));
    let everywhere = (json!("remove"), json!("node"), Value::Null);
    assert_eq!(done, [renamed.clone(), renamed, everywhere]);
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
