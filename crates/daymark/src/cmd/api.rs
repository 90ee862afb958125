//! `daymark api`: the embedded API server alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use daymark_apiserver::tls::{Pki, Role, listen};
use daymark_apiserver::{ApiServer, Config};

use crate::out::say;
use crate::shutdown::{Ending, Work};

/// The name of the store in the data directory.
const STORE: &str = "store.redb";

const EXAMPLES: &str = "\
Examples:
  daymark api --data /var/lib/daymark --kubeconfig admin.conf
  kubectl --kubeconfig admin.conf get services -A

  # On two addresses, with a kubeconfig for the agent of a node
  daymark api --data ./data --listen 127.0.0.1:6443,172.30.0.1:6443 --advertise 172.30.0.1 \\
      --kubeconfig admin.conf --issue agent:node-1=node-1.conf

Roles of --issue: admin, viewer, controller, agent:NODE, kubelet:NODE.
The server ends on SIGINT and SIGTERM with exit code 0; 1 means that it could not start, or not go on.";

/// Flags of `daymark api`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder with the store and the CA; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen.
    #[arg(
        long,
        value_name = "ADDR",
        value_delimiter = ',',
        default_value = "127.0.0.1:6443"
    )]
    listen: Vec<SocketAddr>,
    /// A listening socket that the parent process left open; replaces --listen, may be repeated.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    listen_fd: Vec<RawFd>,
    /// The addresses under which Pods reach this server.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    advertise: Vec<IpAddr>,
    /// Further names and addresses for the serving certificate.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    name: Vec<String>,
    /// Where to write the administrator's kubeconfig.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A kubeconfig for another role.
    #[arg(long, value_name = "ROLE=FILE", value_parser = parse_issue)]
    issue: Vec<(Role, PathBuf)>,
    /// One or two networks for Services, the first of the default family.
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "10.96.0.0/16,fd00:10:96::/112"
    )]
    service_cidrs: Vec<String>,
    /// The range of node ports.
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767", value_parser = parse_ports)]
    node_ports: RangeInclusive<u16>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ending = Ending::listen(Work::Endless)?;
    let listeners = listeners(&args)?;
    let first = listeners
        .first()
        .context("--listen: at least one address is needed")?
        .local_addr()?;
    make_folder(&args.data)?;
    let config = Config {
        store: Some(args.data.join(STORE)),
        service_cidrs: args.service_cidrs.clone(),
        node_ports: args.node_ports.clone(),
        advertise: args.advertise.clone(),
        port: first.port(),
        ..Config::default()
    };
    let server = ApiServer::open(config)?;
    let pki = Pki::open(&args.data.join("pki"))?;
    let tls = pki.server_config(&names(&args, &listeners)?)?;
    let url = format!("https://{}", reachable(first));
    write_kubeconfigs(&args, &pki, &url)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let asked_to_end = ending.serve();
        announce(&url, args.kubeconfig.as_deref());
        tokio::select! {
            ended = server.serve(listeners, tls) => ended.context("serving")?,
            () = asked_to_end => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn listeners(args: &Args) -> anyhow::Result<Vec<TcpListener>> {
    if args.listen_fd.is_empty() {
        return Ok(args
            .listen
            .iter()
            .map(|address| listen(*address))
            .collect::<Result<_, _>>()?);
    }
    let inherit = |number: &RawFd| {
        let socket = daymark_sys::process::inherited(*number).with_context(|| {
            format!("--listen-fd {number}: the parent process left no socket there")
        })?;
        Ok(TcpListener::from(socket))
    };
    args.listen_fd.iter().map(inherit).collect()
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| {
            let shown = path.display();
            anyhow!("--data {shown}: the folder cannot be made: {error}; choose one that this user may make or write to")
        })
}

/// Everything that a client may call the server by.
fn names(args: &Args, listeners: &[TcpListener]) -> anyhow::Result<Vec<String>> {
    let mut names = args.name.clone();
    names.push(
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    );
    names.extend(args.advertise.iter().map(IpAddr::to_string));
    for listener in listeners {
        names.push(listener.local_addr()?.ip().to_string());
    }
    names.retain(|name| !name.is_empty() && name != "0.0.0.0" && name != "::");
    Ok(names)
}

/// An address to connect to: loopback where the server listens on all.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn write_kubeconfigs(args: &Args, pki: &Pki, url: &str) -> anyhow::Result<()> {
    let admin = args
        .kubeconfig
        .iter()
        .map(|file| (Role::Admin, file.clone()));
    for (role, file) in admin.chain(args.issue.iter().cloned()) {
        pki.kubeconfig(&role, "daymark", url)?.write(&file)?;
    }
    Ok(())
}

fn announce(url: &str, kubeconfig: Option<&Path>) {
    match kubeconfig {
        Some(file) => say!(
            "daymark api: serving {url}; kubectl --kubeconfig {} get ns",
            file.display()
        ),
        None => say!("daymark api: serving {url}"),
    }
}

fn parse_issue(text: &str) -> Result<(Role, PathBuf), String> {
    let (role, file) = text
        .split_once('=')
        .ok_or("write ROLE=FILE, such as agent:node-1=node-1.conf")?;
    let role = match role.split_once(':') {
        None if role == "admin" => Role::Admin,
        None if role == "viewer" => Role::Viewer,
        None if role == "controller" => Role::Controller,
        Some(("agent", node)) if !node.is_empty() => Role::Agent(node.to_owned()),
        Some(("kubelet", node)) if !node.is_empty() => Role::Kubelet(node.to_owned()),
        _ => {
            return Err(format!(
                "{role:?} is none of admin, viewer, controller, agent:NODE, kubelet:NODE"
            ));
        }
    };
    Ok((role, PathBuf::from(file)))
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let malformed = || format!("{text:?}: write FIRST-LAST, such as 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(malformed)?;
    let first: u16 = first.parse().map_err(|_| malformed())?;
    let last: u16 = last.parse().map_err(|_| malformed())?;
    match first > 0 && first <= last {
        true => Ok(first..=last),
        false => Err(format!(
            "{text:?}: the first port must be at least 1 and at most the last"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use daymark_apiserver::tls::Role;

    use super::{parse_issue, parse_ports, reachable};

    #[test]
    fn roles_are_read_with_their_file() {
        let agent = Role::Agent("node-1".to_owned());
        assert_eq!(
            parse_issue("agent:node-1=a.conf"),
            Ok((agent, PathBuf::from("a.conf")))
        );
        assert_eq!(
            parse_issue("viewer=v"),
            Ok((Role::Viewer, PathBuf::from("v")))
        );
        for wrong in ["admin", "agent=x", "agent:=x", "root=x"] {
            assert!(parse_issue(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn port_ranges_are_read() {
        assert_eq!(parse_ports("30000-32767"), Ok(30_000..=32_767));
        for wrong in ["30000", "2-1", "0-5", "a-b", "1-70000"] {
            assert!(parse_ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_on_all_addresses_is_reached_on_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(reached("[::]:1"), "[::1]:1");
        assert_eq!(reached("192.0.2.1:1"), "192.0.2.1:1");
    }
}
