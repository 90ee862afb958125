//! What it costs that new connections are counted for their Service.
//!
//! Two planes alike, each in a network namespace of its own, with a Service whose endpoint is that namespace itself. In one of
//! them the rules that count are removed, so that those behind them, for when there is no room to count, serve. One thread
//! opens, accepts and resets connections in both by turns; the kernel does its part in that thread's time, so that a busy
//! machine does not blur it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Context;
use daymark_case::Case;
use daymark_dataplane::nft::apply::Plane;
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::layout::set;
use daymark_dataplane::nft::{TableFlags, counts};
use daymark_lab::net::{Prefix, Segment};
use daymark_model::{Family, World};
use daymark_netlink::nft::{Expr, Message, Victim};
use daymark_sys::ns::NetNs;

use super::{Figure, Measurement, Sizes, clock};

/// `count`.
pub(crate) fn cost(sizes: &Sizes, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let sites = [Counting::Yes, Counting::No].map(Site::new);
    let [counted, plain] = sites;
    let (counted, plain) = (counted?, plain?);
    let (mut with, mut without, mut share) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let [mut one, mut other] = [Duration::ZERO; 2];
        for _ in 0..TURNS {
            one += counted.open(sizes.connections)?;
            other += plain.open(sizes.connections)?;
        }
        let all = (TURNS * sizes.connections) as f64;
        let [one, other] = [one, other].map(|time| time.as_secs_f64() * 1e6 / all);
        with.push(one);
        without.push(other);
        share.push(100.0 * (one - other) / other);
    }
    let connections = u64::try_from(runs * TURNS * sizes.connections).unwrap_or(u64::MAX);
    anyhow::ensure!(
        counted.hits()? == connections,
        "every connection is counted"
    );
    anyhow::ensure!(plain.hits()? == 0, "none is counted where the rules went");
    let figure = |name: &str, what: &str, unit, runs| Figure {
        of: Measurement::Count,
        name: name.to_owned(),
        what: what.to_owned(),
        unit,
        runs,
        goal: None,
    };
    let what =
        "processor time of a new TCP connection through a ClusterIP, opened, accepted and reset";
    Ok(vec![
        figure("count-with", &format!("{what}, counted"), "us", with),
        figure("count-without", "the same, not counted", "us", without),
        figure("count-share", "what counting adds", "%", share),
    ])
}

/// How often a run goes back and forth.
const TURNS: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counting {
    Yes,
    No,
}

/// A namespace with a plane and a server.
struct Site {
    ns: NetNs,
    plane: Plane<Netlink>,
    listener: TcpListener,
    _segment: Segment,
}

impl Site {
    fn new(counting: Counting) -> anyhow::Result<Self> {
        let ns = NetNs::create()?;
        let mut segment = Segment::new(ns.clone(), &[Prefix::host(ADDRESS)])?;
        // A Service's address needs a route before it is translated.
        segment.fabric().accept_everything()?;
        let kernel = ns.within(Netlink::open)??;
        let (mut plane, _) = Plane::start(kernel, TableFlags::NONE)?;
        plane.reconcile(world()?.desired().clone())?;
        if counting == Counting::No {
            remove_counting(&mut plane)?;
        }
        let listener = ns.within(|| TcpListener::bind(SERVER))??;
        Ok(Self {
            ns,
            plane,
            listener,
            _segment: segment,
        })
    }

    /// Opens so many connections, one after the other; the time that this thread had.
    fn open(&self, connections: usize) -> anyhow::Result<Duration> {
        self.ns.within(|| {
            let started = clock::thread_time();
            for _ in 0..connections {
                let client = TcpStream::connect(SERVICE).context("connect")?;
                let (server, _) = self.listener.accept()?;
                // The client resets: its next connection from that port is a new one to conntrack, which asks the plane again.
                socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
                drop(client);
                drop(server);
            }
            Ok(clock::thread_time() - started)
        })?
    }

    fn hits(&self) -> anyhow::Result<u64> {
        let table = self.plane.compiler().words(Family::V4).table();
        let mut kernel = self.ns.within(Netlink::open)??;
        Ok(counts::connections(kernel.socket(), &table)?.values().sum())
    }
}

/// The rules that count have others behind them.
fn remove_counting(plane: &mut Plane<Netlink>) -> anyhow::Result<()> {
    let table = plane.compiler().words(Family::V4).table();
    let socket = plane.kernel().socket();
    let held = socket.snapshot(&table)?.context("the table")?;
    let counts = |expr: &Expr| matches!(expr, Expr::Dynset(dynset) if *dynset.set == *set::HITS);
    let rules = held.rules.iter();
    let counting = rules.filter(|rule| rule.object.exprs.iter().any(counts));
    let messages: Vec<Message> = counting
        .map(|rule| Message::DelRule {
            table: table.clone(),
            chain: rule.object.chain.clone(),
            which: Victim::Handle(rule.handle),
        })
        .collect();
    anyhow::ensure!(!messages.is_empty(), "no rule counts");
    Ok(socket.commit(&messages)?)
}

fn world() -> anyhow::Result<World> {
    let text = "node node-1 172.30.0.1\n\
                service web ClusterIP 80->8080/TCP cluster=10.96.0.20\n\
                endpoint 172.30.0.1 ready on node-1\n";
    let case = Case::parse("inline", text)?;
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    Ok(world)
}

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 0, 1));
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 20)), 80);
const SERVER: SocketAddr = SocketAddr::new(ADDRESS, 8080);
