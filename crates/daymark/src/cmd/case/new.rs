//! `daymark case new`: what kubectl printed, as a case.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use daymark_case::{Case, Step, random};
use daymark_feed::Kind;
use daymark_feed::one;
use daymark_model::decide::Arrival;
use daymark_model::{Change, Family, FrontendKey, Options, Packet, World};
use serde_json::Value;

use crate::out::{Stdout, warn_line};

/// Flags of `daymark case new`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  kubectl get service,endpointslice,node -n shop -o yaml > report.yaml
  daymark case new --from report.yaml --node node-1 --output cases/shop.case

The case holds the Services, EndpointSlices and the Node, and for each address and port a packet from a Pod of the node, from the
node and from outside, with what daymark makes of it: change those that are wrong to what you expect, and delete the
rest. What of the objects cannot be read is said, with its field.")]
pub(crate) struct Args {
    /// The objects as YAML or JSON, one, a list, or several documents; - is the standard input.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The node that decides; the first Node of the file unless given.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where the case goes; it is printed unless given.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = read(&args.from)?;
    let shown = args.from.display().to_string();
    let (case, left_out) = case(&text, args.node.as_deref()).with_context(|| shown.clone())?;
    for line in left_out {
        warn_line!("left out: {line}");
    }
    match &args.output {
        Some(path) => std::fs::write(path, case.to_string())
            .with_context(|| format!("writing {}", path.display()))?,
        None => write!(Stdout, "{case}")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The case, and what of the objects is not in it.
fn case(text: &str, node: Option<&str>) -> anyhow::Result<(Case, Vec<String>)> {
    let objects = objects(text)?;
    let named = |kind: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind);
        found.and_then(|object| object["metadata"]["name"].as_str())
    };
    let node = node
        .or_else(|| named("Node"))
        .unwrap_or("node-1")
        .to_owned();
    let (mut changes, mut left_out) = (Vec::new(), Vec::new());
    for object in &objects {
        let name = name(object);
        let kind = match object["kind"].as_str().unwrap_or_default() {
            "Service" => Kind::Service,
            "EndpointSlice" => Kind::EndpointSlice,
            "Node" => Kind::Node,
            other => {
                left_out.push(format!("{name}: a case has no {other}"));
                continue;
            }
        };
        let json = serde_json::to_vec(object)?;
        let decoded = one::decode(kind, &json, &node).map_err(|why| anyhow!("{name}: {why}"))?;
        left_out.extend(decoded.left_out.iter().map(|why| format!("{name}: {why}")));
        changes.extend(decoded.change);
    }
    if changes.is_empty() {
        bail!("there is no Service, EndpointSlice or Node of the name {node} in it");
    }
    let options = Options {
        node_name: node.as_str().into(),
        ..Options::default()
    };
    Ok((written(options, changes), left_out))
}

/// Every object of every document; a `List` is what it holds.
fn objects(text: &str) -> anyhow::Result<Vec<Value>> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow!("this is no YAML: {error}"))?;
    let mut objects = Vec::new();
    for document in documents {
        match document.get("items").and_then(Value::as_array) {
            Some(items) => objects.extend(items.iter().cloned()),
            None if document.is_object() => objects.push(document),
            None => {}
        }
    }
    Ok(objects)
}

fn name(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let namespace = word(&metadata["namespace"]);
    let name = if namespace.is_empty() {
        word(&metadata["name"])
    } else {
        format!("{namespace}/{}", word(&metadata["name"]))
    };
    format!("{} {name}", word(&object["kind"]))
}

/// The case with a packet of each kind of client for each address and port.
fn written(options: Options, changes: Vec<Change>) -> Case {
    let mut world = World::new(options.clone());
    // A machine has the addresses of its Node object.
    let own: Vec<IpAddr> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Node(Some(node)) => Some(node.addresses.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let mut all = vec![Change::MachineAddresses(own.clone().into())];
    all.extend(changes);
    all.sort_by_key(rank);
    world.apply(all.iter().cloned());
    let places = world.desired().frontends.keys();
    let packets = places.flat_map(|at| packets(&world, *at, &own));
    Case {
        about: vec!["What the report says, and what is expected instead.".to_owned()],
        options: Options {
            // The Node line names it.
            node_name: "".into(),
            ..options
        },
        steps: vec![Step {
            checks: packets
                .map(|packet| random::expected(&world, packet))
                .collect(),
            changes: all,
            ..Step::default()
        }],
        ..Case::default()
    }
}

/// The order of a case's lines.
fn rank(change: &Change) -> usize {
    match change {
        Change::Node(_) => 0,
        Change::MachineAddresses(_) => 1,
        Change::Service(..) => 2,
        _ => 3,
    }
}

fn packets(world: &World, at: FrontendKey, own: &[IpAddr]) -> Vec<Packet> {
    let family = at.family();
    let of_family = |ip: &&IpAddr| Family::of(**ip) == family;
    let (protocol, port) = at.protocol_port();
    let destination = match at {
        FrontendKey::Address { ip, .. } => Some(ip),
        FrontendKey::NodePort { .. } => {
            let serving = world.desired().node_port_addresses.iter();
            serving.copied().find(|ip| Family::of(*ip) == family)
        }
    };
    let Some(destination) = destination else {
        return Vec::new();
    };
    let pod = world.desired().own_pods.prefixes.iter();
    let pod = pod
        .map(|cidr| cidr.first())
        .find(|ip| Family::of(*ip) == family);
    let clients = [
        pod.map(|first| (Arrival::Link, ninth(first))),
        own.iter().find(of_family).map(|ip| (Arrival::Node, *ip)),
        Some((Arrival::Link, outside(family))),
    ];
    let packet = |(arrival, source)| Packet {
        arrival,
        interface: None,
        source,
        destination,
        protocol,
        port,
    };
    clients.into_iter().flatten().map(packet).collect()
}

/// A Pod's address: the ninth of a prefix, which few clusters have given away to something else.
fn ninth(first: IpAddr) -> IpAddr {
    match first {
        IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits() | 9).into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() | 9).into(),
    }
}

/// The host outside of the cluster that a lab has.
fn outside(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([172, 30, 0, 100]),
        Family::V6 => IpAddr::from([0xfd00, 0x30, 0, 0, 0, 0, 0, 0x100]),
    }
}

#[cfg(test)]
mod tests {
    use daymark_case::{Case, judge_model};

    use super::case;

    const REPORT: &str = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}
  spec:
    type: NodePort
    clusterIP: 10.96.0.20
    clusterIPs: [10.96.0.20]
    ipFamilies: [IPv4]
    externalTrafficPolicy: Local
    ports: [{name: http, port: 80, nodePort: 30080, protocol: TCP, targetPort: 8080}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{name: http, port: 8080, protocol: TCP}]
  endpoints: [{addresses: [10.244.2.5], nodeName: node-2, conditions: {ready: true}}]
---
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop}
";

    #[test]
    fn a_report_becomes_a_case_that_holds_and_says_what_daymark_does() {
        let (case, left_out) = case(REPORT, None).unwrap();
        assert_eq!(left_out, ["Pod shop/web-0: a case has no Pod"]);
        let text = case.to_string();
        let again =
            Case::parse("report.case", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let report = judge_model(&again);
        assert_eq!((report.checks, report.failures), (6, vec![]), "{text}");
        for line in [
            "172.30.0.100 -> 172.30.0.11:30080/TCP expect drop because no-local-endpoint",
            "10.244.1.9 -> 10.96.0.20:80/TCP expect 10.244.2.5:8080 source-kept",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_file_without_objects_is_refused() {
        let error = case("kind: Pod\nmetadata: {name: a}", None).unwrap_err();
        assert!(error.to_string().contains("no Service"), "{error}");
        assert!(case("a: [", None).is_err());
    }
}
