//! `daymark explain`: where packets to a Service go, and why.

mod answer;
mod pods;
mod remedies;
mod sender;
mod table;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use daymark_lab::cluster::outside_addresses;
use daymark_node::ask::wire::{Explain, Explained, From, Reply, Request};
use kube::Client;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::lab::Output;
use crate::agent_socket::{self, Agents, Which};
use crate::out::say;
use crate::{client, failure};
use pods::Pods;
use sender::Sender;

/// Flags of `daymark explain`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark explain svc/web
  daymark explain svc/web --from pod/client-1 --port http
  daymark explain svc/web -n shop --from 198.51.100.9 --address 192.0.2.10
  daymark explain svc/web --lab --from outside
  kubectl -n kube-system exec POD -c node -- daymark explain svc/web -o json | daymark explain --answer -
  kubectl -n kube-system exec POD -c node -- daymark explain svc/web --from ADDRESS -o json | daymark explain --answer - --from pod/NAME

The node's agent answers: for each address of the Service the rules in order, the endpoints considered, the verdict, and what
the kernel holds. With a kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config, the lab's) Pods are read too: why a Pod is no
endpoint, and what is behind --from pod/NAME; --answer does so for an answer that an agent gave elsewhere. Exit code 0: forwarded
at every address asked for, and the kernel holds what does it; 1: not; 2: a flag that cannot be; 3: it could not be found out.")]
pub(crate) struct Args {
    /// The Service: svc/NAME.
    #[arg(value_name = "svc/NAME", value_parser = service_name, required_unless_present = "answer")]
    service: Option<String>,
    /// Ask no agent: take what `daymark explain -o json` printed elsewhere, `-` for standard input, and add what the Pods say.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service", "namespace", "port", "address", "socket", "lab", "node"])]
    answer: Option<PathBuf>,
    /// Its namespace.
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// Who sends: `pod` (a Pod of the node), pod/NAME, pod/NAMESPACE/NAME, node/NAME, `node` (the agent's own), `outside`, or
    /// addresses; `pod` if it is not said. With --answer, pod/NAME or addresses: the answer has to be about them.
    #[arg(long, value_name = "WHO", value_parser = who)]
    from: Option<Who>,
    /// One of its ports alone: number, node port or name.
    #[arg(long)]
    port: Option<String>,
    /// One of its addresses alone, or one of the node for node ports.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    #[command(flatten)]
    which: Which,
    /// How to reach the API, for Pods.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Every address in full.
    #[arg(long)]
    all: bool,
    /// Table for people, or JSON for programs.
    #[arg(long, short, default_value = "table")]
    output: Output,
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    OwnPod,
    /// Namespace, if it was said, and name.
    Pod(Option<String>, String),
    Node(Option<String>),
    Outside,
    Addresses(Vec<IpAddr>),
}

fn service_name(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        Some(("svc" | "service" | "services", name)) => name,
        Some((kind, _)) => return Err(format!("{kind} is no Service: write svc/NAME")),
        None => text,
    };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(good) {
        return Err("the name of a Service has a-z, 0-9 and -".to_owned());
    }
    Ok(name.to_owned())
}

fn who(text: &str) -> Result<Who, String> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        ["pod"] => Ok(Who::OwnPod),
        ["pod" | "pods" | "po", name] if !name.is_empty() => Ok(Who::Pod(None, name.to_owned())),
        ["pod" | "pods" | "po", namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            Ok(Who::Pod(Some(namespace.to_owned()), name.to_owned()))
        }
        ["node"] => Ok(Who::Node(None)),
        ["node" | "nodes", name] if !name.is_empty() => Ok(Who::Node(Some(name.to_owned()))),
        ["outside"] => Ok(Who::Outside),
        _ => {
            let addresses = text.split(',').map(str::parse).collect::<Result<_, _>>();
            addresses.map(Who::Addresses).map_err(|_| {
                "neither pod, pod/NAME, node, node/NAME, outside nor an address".to_owned()
            })
        }
    }
}

/// Everything that was found out.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Findings {
    /// Who sends.
    from: String,
    /// What to know about the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(flatten)]
    explained: Explained,
    /// What the API says about Pods; absent without a kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pods: Option<Pods>,
}

impl Findings {
    /// Whether the client's packets reach the Service wherever it can send them.
    fn is_good(&self) -> bool {
        let sent = self.explained.answers.iter().filter(|a| a.packet.is_some());
        let mut sent = sent.peekable();
        let mut absent = self.explained.absent.iter();
        sent.peek().is_some()
            && !absent.any(|absent| absent.needed)
            && sent.all(|a| a.forwarded && a.kernel.as_ref().is_some_and(|kernel| kernel.agrees))
    }

    /// What is not known to be bad is good only if all of it was looked at.
    fn code(&self) -> u8 {
        match (self.is_good(), self.explained.untold) {
            (false, _) => 1,
            (true, 0) => 0,
            (true, _) => UNKNOWN,
        }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let findings = match find_out(&args) {
        Ok(findings) => findings,
        Err(error) => return Ok(failure::complain(&error, UNKNOWN)),
    };
    match args.output {
        Output::Json => print(&serde_json::to_string_pretty(&findings)?),
        Output::Table => print(table::table(&findings, args.all).trim_end()),
    }
    Ok(ExitCode::from(findings.code()))
}

fn find_out(args: &Args) -> anyhow::Result<Findings> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match (&args.answer, &args.service) {
        (Some(path), _) => add_pods(args, path, &runtime),
        (None, Some(service)) => ask(args, service, &runtime),
        (None, None) => bail!("name a Service: svc/NAME"),
    }
}

/// An agent's answer, with the Pods.
fn add_pods(args: &Args, path: &Path, runtime: &Runtime) -> anyhow::Result<Findings> {
    let mut findings = answer::read(path)?;
    let (namespace, name) = answer::service(&findings)?;
    let api = runtime.block_on(api(args.kubeconfig.clone()))?;
    let api = api.context(
        "--answer adds what the Pods say, which is in the API: give --kubeconfig, or set KUBECONFIG; where there is neither, ask the agent \
         itself, with --from ADDRESS for a Pod",
    )?;
    if let Some(who) = &args.from {
        let sender = runtime.block_on(Sender::claimed(who, Some(&api), &namespace))?;
        sender.is_meant_by(&findings)?;
        let note = sender.elsewhere(&findings.explained.node);
        findings.note = note.or(findings.note);
        findings.from = sender.name;
    }
    let pods = runtime.block_on(pods::read(&api, &namespace, &name, &findings.explained));
    remedies::fit(&mut findings.explained, &pods);
    findings.pods = Some(pods);
    Ok(findings)
}

/// An agent of this machine or of a lab.
fn ask(args: &Args, service: &str, runtime: &Runtime) -> anyhow::Result<Findings> {
    let agents = args.which.agents()?;
    let kubeconfig = args.kubeconfig.clone().or_else(|| agents.kubeconfig());
    let api = runtime.block_on(api(kubeconfig))?;
    let client = runtime.block_on(resolve(args, &agents, api.as_ref()))?;
    let wanted = args.which.node.as_deref().or(client.node.as_deref());
    let socket = agents.socket(wanted)?;
    let mut explained = explain(args, service, &socket, client.from.clone())?;
    let pods = api.as_ref().map(|api| {
        let read = pods::read(api, &args.namespace, service, &explained);
        runtime.block_on(read)
    });
    if let Some(pods) = &pods {
        remedies::fit(&mut explained, pods);
    }
    let note = client.elsewhere(&explained.node);
    Ok(Findings {
        from: client.name,
        note,
        explained,
        pods,
    })
}

fn explain(args: &Args, service: &str, socket: &Path, from: From) -> anyhow::Result<Explained> {
    let request = Request::Explain(Explain {
        namespace: args.namespace.clone(),
        name: service.to_owned(),
        port: args.port.clone(),
        address: args.address,
        from,
    });
    match agent_socket::ask(socket, &request)? {
        Reply::Explained(explained) => Ok(explained),
        _ => bail!("the agent at {} answered something else", socket.display()),
    }
}

/// A client of the API: that of a flag or a lab must work, that of the environment is taken if it is there.
async fn api(named: Option<PathBuf>) -> anyhow::Result<Option<Client>> {
    if let Some(path) = named {
        return client::from_kubeconfig(&path).await.map(Some);
    }
    Ok(client::of_user().await)
}

async fn resolve(args: &Args, agents: &Agents, api: Option<&Client>) -> anyhow::Result<Sender> {
    let sender = |name: &str, from, node: Option<&String>| Sender {
        name: name.to_owned(),
        from,
        node: node.cloned(),
    };
    let who = args.from.as_ref().unwrap_or(&Who::OwnPod);
    Ok(match who {
        Who::OwnPod => sender("a Pod of this node", From::OwnPod, None),
        Who::Outside => match agents {
            Agents::Lab(_) => sender("outside", From::Addresses(outside_addresses().into()), None),
            Agents::Socket(_) => sender("outside", From::Outside, None),
        },
        Who::Node(None) => sender(sender::NODE, From::Node, None),
        Who::Node(node) => {
            let name = format!("node/{}", node.as_deref().unwrap_or_default());
            sender(&name, From::Node, node.as_ref())
        }
        Who::Addresses(ips) => Sender::addresses(ips),
        Who::Pod(namespace, name) => {
            let namespace = namespace.as_deref().unwrap_or(&args.namespace);
            Sender::pod(api, namespace, name).await?
        }
    })
}

fn print(text: &str) {
    say!("{text}");
}

/// The exit code where nothing could be found out.
pub(super) const UNKNOWN: u8 = 3;

#[cfg(test)]
mod tests;
