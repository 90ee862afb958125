//! `daymark kubelet`: plays kubelet on a node of a lab, which starts it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use daymark_lab::kubelet::{self, Config};
use daymark_lab::net::Prefix;

use super::node::seconds;

/// Flags of `daymark kubelet`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kubeconfig to reach the API with.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The node's name.
    #[arg(long)]
    node: String,
    /// The socket that tells where Pods are.
    #[arg(long)]
    control: PathBuf,
    /// A folder of its own, for logs and the Pods' files.
    #[arg(long)]
    state: PathBuf,
    /// An address of the node's eth0, with its prefix length.
    #[arg(long = "address", value_name = "PREFIX")]
    addresses: Vec<Prefix>,
    /// Where Pods get their addresses from.
    #[arg(long = "pod-cidr", value_name = "PREFIX")]
    pod_cidrs: Vec<Prefix>,
    /// An address of the cluster's DNS.
    #[arg(long = "dns", value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local")]
    domain: String,
    /// A label of the node, NAME=VALUE.
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Renew the node's Lease this often, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    lease_renew: Duration,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    crate::logging::start();
    kubelet::run(Config {
        kubeconfig: args.kubeconfig,
        node: args.node,
        labels: args.labels,
        addresses: args.addresses,
        pod_cidrs: args.pod_cidrs,
        dns: args.dns,
        domain: args.domain,
        lease_renew: args.lease_renew,
        control: args.control,
        state: args.state,
        binary: std::env::current_exe().context("the path of this program")?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a label is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
