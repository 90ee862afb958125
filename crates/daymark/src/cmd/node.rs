//! `daymark node`: the agent on a node.

mod announcing;
mod config_file;
mod parts;
mod replacement;
mod start;
mod validate;
mod vital;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_feed::{Feed, Pauses, PlaneReceiver, PlaneStatus, plane_channel};
use daymark_lb::announcer;
use daymark_lb::membership::{Timing, TimingError};
use daymark_node::agent::{Agent, Ended};
use daymark_node::health::Pages;
use daymark_node::leftovers::Scope;
use daymark_node::metrics::Metrics;
use daymark_node::metrics::connections::{self, Connections};
use daymark_node::metrics::refused::Refused;
use daymark_node::{events, foreign, full, health, health_check, loopback};
use daymark_sys::probe::{self, Answer, Capabilities};
use tokio::runtime::Handle;
use tracing::info;

use self::announcing::Announcing;
use self::parts::KubeProxys;
use self::vital::Vital;
use crate::client::Requests;
use crate::kube_proxy::{self, Decided, flags::Flags};
use crate::shutdown::{Ending, Work};
use crate::{agent_socket, exposition, logging};

/// Flags of `daymark node`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  daymark node --kubeconfig /etc/kubernetes/node.conf --node-name node-1
  daymark node --kubeconfig node.conf --node-name node-1 --announce \\
      --dns-bind 172.30.0.11:53 --dns-upstream 172.30.0.100:53

  daymark node --config /var/lib/kube-proxy/config.conf --hostname-override node-1
  daymark node --config config.conf --validate-only

With --config, or with --proxy-mode, the defaults are kube-proxy's (docs/from-kube-proxy.md); else daymark's own, which
leave alone what no flag asks for. The kernel keeps the tables when the agent ends; the next one adopts them.
Exit code 0 after SIGTERM or SIGINT; 1 if the agent could not start, a part of it that serves
panicked, or its configuration file changed. A second signal ends it at once.")]
pub(crate) struct Args {
    /// The namespace of those Leases. One of their own keeps the right to write them away from other Leases.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "kube-system",
        requires = "announce"
    )]
    announce_namespace: String,
    /// Leave what kube-proxy left in the kernel: for a node on which it serves other Services on purpose.
    #[arg(long)]
    leave_kube_proxy: bool,
    /// Decide what kube-proxy's modes disagree about, as in `unknown-ports=let-through` or `gone-endpoints=reset`; the names
    /// and words are those of docs/cases.md. May be given again for another choice.
    #[arg(long, value_name = "CHOICE=WORD")]
    choice: Vec<String>,
    /// Tell new connections of at most so many Service ports, each family by itself, in /metrics; 0: of none.
    #[arg(long, value_name = "NUMBER", default_value_t = connections::MOST)]
    connection_series: usize,
    /// When the file of --config has changed, and can be used, end at any moment of so many seconds, so that the agents of a
    /// cluster do not all start anew at once; 0: at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    config_spread: u32,
    /// Judge the flags and the configuration file, print what they come to, and end; needs no API and no rights, and changes
    /// nothing. Exit code 0 if an agent could start with them.
    #[arg(long)]
    validate_only: bool,
    /// Print the version and end.
    #[arg(long)]
    version: bool,
    #[command(flatten)]
    kube_proxy: Flags,
    /// Answer `daymark explain` and `daymark status` at this socket, mode 0600.
    #[arg(long, value_name = "PATH", default_value = agent_socket::DEFAULT)]
    socket: PathBuf,
    /// Answer cluster DNS at these addresses; none: no DNS here.
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',')]
    dns_bind: Vec<SocketAddr>,
    /// Who is asked for names outside of the cluster.
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',')]
    dns_upstream: Vec<SocketAddr>,
    /// Answer ARP and neighbour solicitations for load-balancer addresses.
    #[arg(long)]
    announce: bool,
    /// Renew the Lease that says that this node announces this often, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, requires = "announce")]
    announce_renew: Duration,
    /// Others take the addresses over when that Lease was not renewed for so many seconds, a whole number of at least
    /// three renewals.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds, requires = "announce")]
    announce_lapse: Duration,
}

impl Args {
    /// Whether an agent is asked for, or something that has an end.
    fn work(&self) -> Work {
        let flags = &self.kube_proxy;
        if self.validate_only || flags.init_only || flags.cleanup || flags.write_config_to.is_some()
        {
            Work::Job
        } else {
            Work::Endless
        }
    }

    /// What flags and file come to.
    fn decide(&self) -> anyhow::Result<(Decided, Timing)> {
        let timing = timing(
            ("--announce-renew", self.announce_renew),
            ("--announce-lapse", self.announce_lapse),
        )?;
        let mut decided = kube_proxy::decide(&self.kube_proxy, &start::host_name())?;
        decided.settings.choose(&self.choice)?;
        Ok((decided, timing))
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ending = Ending::listen(args.work())?;
    if args.validate_only {
        return validate::run(&args);
    }
    if let Some(done) = start::instead_of_running(args.version, &args.kube_proxy)? {
        return Ok(done);
    }
    let (decided, timing) = args.decide()?;
    logging::start_at(decided.log_level());
    decided.tell();
    if args.kube_proxy.init_only {
        start::load_conntrack();
        start::privileged(&decided.settings, &args.kube_proxy)?;
        info!("what needs privileges is done");
        return Ok(ExitCode::SUCCESS);
    }
    start::allow_files();
    let mut kernel = Netlink::open()?;
    // This loads conntrack, which has no settings before.
    let flags = flags(&mut kernel)?;
    start::privileged(&decided.settings, &args.kube_proxy)?;
    // A change goes through several tasks. On one thread they follow each other, and none wakes another thread up; what
    // carries other people's traffic, or answers to the clock, has threads of its own. So this one may sleep where nothing is to be
    // done before the pause of a crowd of changes is over.
    let pauses = Pauses::default();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    if !args.announce {
        // Leases are renewed on the one connection to the API, which has its task on this thread too.
        let sleeps = pauses.clone();
        runtime.on_thread_park(move || sleeps.sleep_through());
    }
    let runtime = runtime.enable_all().build()?;
    let traffic = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("traffic")
        .enable_all()
        .build()?;
    let served = serve(
        args,
        decided,
        timing,
        (kernel, flags),
        ending,
        (traffic.handle(), pauses),
    );
    let served = runtime.block_on(served);
    // Neither waits for what is on its way, such as a name that nobody resolves.
    traffic.shutdown_background();
    runtime.shutdown_background();
    served?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    args: Args,
    decided: Decided,
    timing: Timing,
    (kernel, flags): (Netlink, TableFlags),
    ending: Ending,
    (traffic, pauses): (&Handle, Pauses),
) -> anyhow::Result<()> {
    let Decided {
        settings, given, ..
    } = decided;
    let requests = Arc::new(Requests::default());
    let access = given.access(&args.kube_proxy);
    let (client, server) = access.client(Arc::clone(&requests)).await?;
    let node_name = settings.options.node_name.clone();
    let metrics = Arc::new(Metrics::default());
    let (status, plane) = plane_channel(PlaneStatus::Starting);
    let own = kernel.port();
    let (notices, board) = events::board();
    let (listener, _claim) = start::take_place(&args.socket).await?;
    let agent = Agent::start(
        kernel,
        flags,
        settings.options.clone(),
        status,
        Arc::clone(&metrics),
        notices.clone(),
    )?;
    let asked_to_end = ending.serve();
    let mut vital = Vital::default();
    let publish = board.publish(client.clone(), node_name.to_string(), agent.orders());
    vital.aside("Events", publish);
    let (asked, patience) = ((plane.clone(), Arc::clone(&metrics)), settings.patience);
    let health = Arc::new(move || health::health(&asked.0, &asked.1, patience));
    let checks = health_check::serve(agent.health_checks(), health, notices.clone());
    vital.endless("health checks of Services", checks);
    let ports = loopback::serve(agent.loopback(), Arc::clone(&metrics), notices);
    vital.endless_on(traffic, "node ports on loopback", ports);
    let hears = !flags.contains(TableFlags::OWNER);
    let hearing = hears.then(|| foreign::follow(own, agent.orders()));
    let mut config = feed_config(&args, &node_name);
    config.pauses = pauses;
    if let Some(longest) = settings.longest_pause {
        config.longest_pause = config.longest_pause.min(longest);
    }
    let feed = Feed::start(&client, config);
    let dns = {
        let _there = traffic.enter();
        start_dns(&args, &feed, &plane)?
    };
    let announced = Arc::new(daymark_lb::Metrics::default());
    let announcing = args.announce.then(|| {
        let config = announcer::Config {
            timing,
            lease_namespace: args.announce_namespace.clone(),
            ..announcer::Config::new(&node_name)
        };
        let (subscription, plane) = (feed.subscribe(), plane.clone());
        let metrics = Arc::clone(&announced);
        let _there = traffic.enter();
        Announcing::start(client.clone(), subscription, plane, config, metrics)
    });
    let dns_metrics = dns.as_ref().map(|server| Arc::clone(server.metrics()));
    if let Some(dns) = dns {
        vital.endless_on(traffic, "DNS", dns.ended());
    }
    let refusal = config_file::Refusal::default();
    let ports = start::Ports::of(&settings);
    let parts = parts::Parts {
        kinds: feed_config(&args, &node_name).kinds(),
        feed: Arc::clone(feed.metrics()),
        server: server.clone(),
        metrics: Arc::clone(&metrics),
        kube_proxy: if args.leave_kube_proxy {
            KubeProxys::Stays
        } else {
            KubeProxys::Goes
        },
        hearing: hearing.transpose()?,
        dns: dns_metrics.clone(),
        announcer: args.announce.then(|| Arc::clone(&announced)),
        configuration: args.kube_proxy.config.as_ref().map(|_| refusal.clone()),
        ports: ports.all(),
    };
    if let Some(listener) = listener {
        let answers = start::answer_questions(listener, agent.orders(), parts);
        vital.endless("the agent's socket", answers);
    }
    let extra = Arc::new({
        let (announced, feed) = (Arc::clone(&announced), Arc::clone(feed.metrics()));
        let refused = Refused::open()?;
        let connections = Connections::open(agent.orders(), args.connection_series)?;
        move || {
            exposition::of_parts(dns_metrics.as_deref(), &announced, &feed)
                + &requests.families()
                + &refused.lines()
                + &connections.lines()
        }
    });
    let pages = Pages {
        lines: extra,
        configz: given.configz(&settings).into(),
    };
    let open = ports.open(&settings, &plane, (&metrics, pages), &client, &mut vital);
    open.await?;
    if !args.leave_kube_proxy {
        let site = replacement::Site {
            client: client.clone(),
            node: Arc::clone(&node_name),
            metrics: Arc::clone(&metrics),
            scope: Scope {
                spared: settings.spared.clone(),
                mark: Some(agent_socket::mark(&args.socket)),
            },
        };
        vital.aside(
            "the removal of what kube-proxy left",
            replacement::replace_kube_proxy(plane.clone(), site),
        );
    }
    let address = start::api_address(
        plane.clone(),
        (client.clone(), server),
        agent.orders(),
        (Arc::clone(&node_name), Arc::clone(&metrics)),
    );
    vital.aside("the look at the API's address", address);
    vital.aside("giving back memory", start::give_back_memory(plane.clone()));
    let told = start::tell_node(
        client.clone(),
        settings.notices.clone(),
        Arc::clone(&node_name),
    );
    vital.aside("what is told of the Node", told);
    let full = full::follow(client.clone(), Arc::clone(&node_name), Arc::clone(&metrics));
    vital.aside("the look at the table of tracked connections", full);
    let config = config_file::Watch {
        flags: args.kube_proxy.clone(),
        spread: Duration::from_secs(args.config_spread.into()),
        client: client.clone(),
        node: node_name,
        metrics,
        refusal,
    };
    let mut announcing = announcing;
    let outcome = tokio::select! {
        ended = agent.follow(feed.subscribe(), settings.primary) => Err(why(ended)),
        ended = vital.ended() => Err(ended),
        ended = Announcing::ended(&mut announcing) => Err(ended),
        changed = config.changed() => Err(changed),
        () = asked_to_end => Ok(()),
    };
    info!("ending; the kernel keeps the tables");
    if let Some(announcing) = announcing {
        announcing.leave().await;
    }
    agent.stop();
    outcome
}

/// What the agent says when it ends for it, with exit code 1: the next one adopts the tables.
fn why(ended: Ended) -> anyhow::Error {
    let what = match ended {
        Ended::Feed => "the feed",
        Ended::Plane => "the plane's thread",
        Ended::Addresses => "the task that follows this machine's addresses",
    };
    anyhow!("{what} ended by itself, which it should not; its last words are in the log")
}

/// What is for DNS alone is not asked for: no right to read Namespaces, no headless Services.
fn feed_config(args: &Args, node_name: &str) -> daymark_feed::Config {
    let config = if args.announce {
        daymark_feed::Config::node_with_load_balancer(node_name)
    } else {
        daymark_feed::Config::node(node_name)
    };
    if args.dns_bind.is_empty() {
        config.without_dns()
    } else {
        config
    }
}

fn start_dns(
    args: &Args,
    feed: &Feed,
    plane: &PlaneReceiver,
) -> anyhow::Result<Option<daymark_dns::Server>> {
    if args.dns_bind.is_empty() {
        return Ok(None);
    }
    let sockets = daymark_dns::Sockets::bind(&args.dns_bind)?;
    let config = daymark_dns::Config {
        upstreams: args.dns_upstream.clone(),
        ..daymark_dns::Config::default()
    };
    let server = daymark_dns::Server::start(config, sockets, feed.subscribe(), plane.clone())?;
    Ok(Some(server))
}

/// A time in seconds, as in `3` and `0.25`, or with its unit: `3s`, `250ms`.
pub(crate) fn seconds(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1000.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let number: f64 = number
        .parse()
        .with_context(|| format!("{text:?} is no time: write it as 3, 0.25 or 250ms"))?;
    let time = Duration::try_from_secs_f64(number / unit)
        .with_context(|| format!("{text:?} is no time"))?;
    if time < Duration::from_millis(1) {
        bail!("{text:?} is too short: a Lease is not renewed within less than a millisecond");
    }
    Ok(time)
}

/// The timing of the announcers' Leases, from two flags with their names.
pub(crate) fn timing(renew: (&str, Duration), lapse: (&str, Duration)) -> anyhow::Result<Timing> {
    Timing::new(renew.1, lapse.1).map_err(|error| {
        let flag = match error {
            TimingError::NotSeconds(_) => lapse.0,
            TimingError::TooSeldom { .. } => renew.0,
        };
        anyhow!("{flag}: {error}")
    })
}

/// What this kernel allows; without the right to change tables there is no agent.
fn flags(kernel: &mut Netlink) -> anyhow::Result<TableFlags> {
    if let Answer::No { why, remedy } = Capabilities::of_this_thread()?.net_admin() {
        bail!("the agent may not change nftables: {why}; {remedy}");
    }
    if let Answer::No { why, remedy } = probe::nft_nat(kernel.socket())? {
        bail!("this kernel cannot translate addresses by nftables: {why}; {remedy}");
    }
    match probe::persistent_owner(kernel.socket())? {
        Answer::Yes => Ok(TableFlags::OWNER | TableFlags::PERSIST),
        Answer::No { why, .. } => {
            info!(
                why,
                "tables have no owner on this kernel; edits by others are watched for and mended"
            );
            Ok(TableFlags::NONE)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn times_are_seconds_unless_they_say_otherwise() {
        let check = |text: &str, millis: Option<u64>| {
            let found = seconds(text).ok();
            assert_eq!(found, millis.map(Duration::from_millis), "{text}");
        };
        check("3", Some(3000));
        check("0.25", Some(250));
        check("3s", Some(3000));
        check("1.5s", Some(1500));
        check("300ms", Some(300));
        for text in [
            "", "s", "ms", "0", "-1", "0.0001", "inf", "NaN", "3 s", "2m", "1e300",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn what_ended_by_itself_is_named() {
        for (ended, words) in [
            (Ended::Feed, "the feed ended"),
            (Ended::Plane, "the plane's thread ended"),
            (Ended::Addresses, "follows this machine's addresses ended"),
        ] {
            let said = why(ended).to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    #[tokio::test]
    async fn the_ports_for_health_and_metrics_are_watched() {
        let words = ["node", "--kubeconfig", "f", "--node-name", "n"];
        let args = Program::try_parse_from(words).unwrap().args;
        let (Decided { mut settings, .. }, _) = args.decide().unwrap();
        let any = Some((Ipv4Addr::LOCALHOST, 0).into());
        (settings.healthz, settings.metrics) = (any, any);
        let away = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("away"))
        });
        let client = kube::Client::new(away, "default");
        let pages = Pages {
            lines: Arc::new(String::new),
            configz: "".into(),
        };
        let (_status, plane) = plane_channel(PlaneStatus::Starting);
        let metrics = Arc::new(Metrics::default());
        let mut vital = Vital::default();
        let ports = start::Ports::of(&settings);
        let open = ports.open(&settings, &plane, (&metrics, pages), &client, &mut vital);
        open.await.unwrap();
        assert_eq!(vital.names(), ["health port", "metrics port"]);
    }

    #[test]
    fn the_flags_for_the_announcers_lease_are_checked_and_named() {
        let timing = |flags: &str| {
            let words = "node --kubeconfig f --node-name n --announce";
            let words = words.split(' ').chain(flags.split_whitespace());
            let args = Program::try_parse_from(words)?.args;
            timing(
                ("--announce-renew", args.announce_renew),
                ("--announce-lapse", args.announce_lapse),
            )
        };
        assert_eq!(timing("").unwrap(), Timing::default());
        let fast = timing("--announce-renew 0.3 --announce-lapse 1").unwrap();
        let expected = Timing::new(Duration::from_millis(300), Duration::from_secs(1));
        assert_eq!(fast, expected.unwrap());
        let refused = |flags| timing(flags).unwrap_err().to_string();
        assert_eq!(
            refused("--announce-renew 1.5"),
            "--announce-renew: renewing each 1.5s is too seldom for a Lease of 3s: renew at least three times in it"
        );
        assert_eq!(
            refused("--announce-lapse 3.5"),
            "--announce-lapse: the Lease duration is 3.5s, but a Lease counts whole seconds from 1 to 3600: round it"
        );
        let said = refused("--announce-renew soon");
        assert!(said.contains("--announce-renew <SECONDS>"), "{said}");
    }
}
