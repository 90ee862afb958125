//! daymark: Kubernetes Services, whole, in one binary.
//!
//! The program's life: read the flags, pick the verb, run it, turn its result into an exit code.
//! No thread exists before a verb runs: `lab` and `demo` enter their namespaces first.

mod agent_socket;
mod bench;
mod beside;
mod client;
mod clock;
mod cmd;
mod columns;
mod conformance;
mod demo;
mod exposition;
mod failure;
mod guest;
mod judge;
mod kube_proxy;
mod logging;
mod out;
mod shutdown;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Kubernetes Services, whole: API, proxy, DNS and load balancer in one binary.
#[derive(Parser)]
#[command(name = "daymark", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// A guided tour: a lab, the kinds of Service, real traffic, a verdict per row.
    Demo(cmd::demo::Args),
    /// A cluster out of network namespaces: up, down, run, exec, kubeconfig, status.
    Lab(cmd::lab::Args),
    /// The agent on a node of a cluster: proxy, DNS, announcer.
    Node(Box<cmd::node::Args>),
    /// Where packets to a Service go, and why.
    Explain(cmd::explain::Args),
    /// What the kernel holds against what it should hold, and the health of every part.
    Status(cmd::status::Args),
    /// The cluster-wide half: endpoints, nodes, namespaces, load-balancer addresses.
    Controller(cmd::controller::Args),
    /// The embedded API server alone.
    Api(cmd::api::Args),
    /// Run behaviour cases against a judge.
    Case(cmd::case::Args),
    /// Hold daymark against the real kube-proxy, under the real API server.
    Conformance(cmd::conformance::Args),
    /// Reproducible measurements, as JSON.
    Bench(cmd::bench::Args),
    /// Look after a store file: check, compact, export, import.
    Store(cmd::store::Args),
    /// Remove what an agent, or kube-proxy, left in the kernel.
    Cleanup(cmd::cleanup::Args),
    /// A small server that tells who asked: the lab's Pods run it.
    Echo(cmd::echo::Args),
    /// A client that tells who answered: one connection a request.
    Ask(cmd::ask::Args),
    /// The part that plays kubelet on a lab node.
    #[command(hide = true)]
    Kubelet(cmd::kubelet::Args),
    /// Another kernel, in QEMU: boots it and runs commands in it, for tests.
    #[command(hide = true)]
    Guest(cmd::guest::Args),
}

fn main() -> ExitCode {
    out::printing(run)
}

fn run() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Demo(args) => cmd::demo::run(args),
        Verb::Lab(args) => cmd::lab::run(args),
        Verb::Node(args) => cmd::node::run(*args),
        Verb::Explain(args) => cmd::explain::run(args),
        Verb::Status(args) => cmd::status::run(args),
        Verb::Controller(args) => cmd::controller::run(args),
        Verb::Api(args) => cmd::api::run(args),
        Verb::Case(args) => cmd::case::run(args),
        Verb::Conformance(args) => cmd::conformance::run(args),
        Verb::Bench(args) => cmd::bench::run(args),
        Verb::Store(args) => cmd::store::run(args),
        Verb::Cleanup(args) => cmd::cleanup::run(&args),
        Verb::Echo(args) => cmd::echo::run(args),
        Verb::Ask(args) => cmd::ask::run(args),
        Verb::Kubelet(args) => cmd::kubelet::run(args),
        Verb::Guest(args) => cmd::guest::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => failure::complain(&error, 1),
    }
}
