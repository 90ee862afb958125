//! `--validate-only`: what flags and file come to, without a kernel, an API or rights.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use daymark_model::input::Detector;

use super::Args;
use crate::client::Access;
use crate::columns::columns;
use crate::kube_proxy::Decided;
use crate::kube_proxy::defaults::HEALTH_PORT;
use crate::kube_proxy::settings::Defaults;
use crate::out::say;

/// Prints it. What is read over, and what would be Events on the Node, stands below.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (decided, _) = args.decide()?;
    let api = api(&decided.given.access(&args.kube_proxy))?;
    let source = match &args.kube_proxy.config {
        Some(path) => format!("the configuration {}", path.display()),
        None => "the flags".to_owned(),
    };
    say!("{source} can be used");
    say!(
        "{}",
        columns(2, &rows(&decided, api)).trim_end_matches('\n')
    );
    if let Some(warning) = unreached(decided.settings.healthz) {
        say!("warning: {warning}");
    }
    for remark in &decided.remarks {
        say!("no effect: {remark}");
    }
    for notice in &decided.settings.notices {
        say!("Event {} on the Node: {}", notice.reason, notice.message);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the API is, and what it is shown. A file is often judged elsewhere than on the nodes, where the kubeconfig that it names is.
fn api(access: &Access) -> anyhow::Result<[String; 2]> {
    if let Some(path) = access.kubeconfig.as_deref().filter(|path| !path.exists()) {
        let shown = path.display();
        let why = format!("not judged: the kubeconfig {shown} is not on this machine");
        return Ok([why.clone(), why]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let server = runtime.block_on(access.server())?;
    let place = format!("{}, by {}", server.host, server.named_by);
    let place = match server.proxy {
        Some(proxy) => format!("{place}, through the proxy {proxy}"),
        None => place,
    };
    Ok([place, server.credential.to_owned()])
}

fn rows(decided: &Decided, [api, credential]: [String; 2]) -> Vec<Vec<String>> {
    let Decided {
        given, settings, ..
    } = decided;
    let options = &settings.options;
    let defaults = match settings.defaults {
        Defaults::Own => "daymark's own".to_owned(),
        Defaults::KubeProxy => {
            let full = given.configuration.clone().completed();
            format!("kube-proxy's, of mode {}", full.mode)
        }
    };
    let at = |address: Option<SocketAddr>| {
        address.map_or_else(|| "nowhere".to_owned(), |address| address.to_string())
    };
    let choices = options.rules.all_words();
    let choices = choices.map(|(name, word)| format!("{name}={word}"));
    let rows = [
        ("Node", options.node_name.to_string()),
        ("API", api),
        ("credential", credential),
        ("defaults", defaults),
        ("own Pods", own_pods(&options.detector)),
        ("node ports", list(&options.node_port_addresses.0)),
        ("health", at(settings.healthz)),
        ("metrics", at(settings.metrics)),
        ("choices", choices.join(" ")),
    ];
    rows.map(|(name, value)| vec![name.to_owned(), value])
        .into()
}

/// Where the probes of deploy/node.yaml do not reach health. kubelet asks them from the node itself.
fn unreached(healthz: Option<SocketAddr>) -> Option<String> {
    let probed = SocketAddr::from((Ipv4Addr::LOCALHOST, HEALTH_PORT));
    let reached = |at: SocketAddr| {
        at.port() == probed.port() && (at.ip().is_unspecified() || at.ip() == probed.ip())
    };
    if healthz.is_some_and(reached) {
        return None;
    }
    let at = healthz.map_or_else(|| "nowhere".to_owned(), |at| at.to_string());
    Some(format!(
        "healthzBindAddress: health is served at {at}, and the probes of deploy/node.yaml ask {probed}: kubelet would start the agent \
         anew again and again; write 0.0.0.0:{HEALTH_PORT} here, or where it is served into both probes"
    ))
}

fn own_pods(detector: &Detector) -> String {
    match detector {
        Detector::NodeCidr => "in spec.podCIDRs of the Node".to_owned(),
        Detector::Cidrs(cidrs) => format!("in {}", list(cidrs)),
        Detector::Interface(pattern) => format!("behind the interface {pattern}"),
        Detector::None => {
            "not known: clusterCIDR is not set, and every Pod counts as outside".to_owned()
        }
    }
}

fn list(all: &[impl ToString]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(", ")
}
