//! The manifests in `deploy/`: what they grant is what the programs ask for, no less and no more, and what they give the
//! containers is what the parts need.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "deploy/cleanup.rs"]
mod cleanup;
#[path = "deploy/confined.rs"]
mod confined;
#[path = "deploy/containers.rs"]
mod containers;
#[path = "deploy/ending.rs"]
mod ending;
#[path = "deploy/follower.rs"]
mod follower;
#[path = "deploy/ground.rs"]
mod ground;
#[path = "deploy/rights.rs"]
mod rights;

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

use self::ground::{Ground, Program, get, up};

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

/// The containers of a Pod, those that come before the others first.
fn containers(pod: &Value) -> Vec<&Value> {
    let lists = ["initContainers", "containers"];
    let lists = lists.map(|list| pod[list].as_array().into_iter().flatten());
    lists.into_iter().flatten().collect()
}
