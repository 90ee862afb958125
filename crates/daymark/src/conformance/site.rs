//! A lab with a proxy on its node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use daymark_lab::bare::{BareLab, Outcome, Place, Probe, Protocol};
use daymark_lab::cluster::Child;
use daymark_lab::control::{ControlPlane, Relay};
use daymark_model::{Family, Packet};
use daymark_netlink::ct::Filter;
use daymark_sys::netlink::NfSocket;

use super::metrics::{self, Families};
use super::seen::Seen;
use super::sentinel::Sentinel;
use crate::beside::Proxy;
use crate::judge::lab::layout::Layout;

/// A packet and how many connections it takes to see every endpoint.
pub(crate) struct Question {
    pub(crate) packet: Packet,
    pub(crate) tries: Tries,
}

/// How often a packet is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tries {
    /// So often, many at once.
    AtOnce(usize),
    /// So often, one after the other: the first connection of a sticky client decides about the others.
    InTurn(usize),
}

/// A lab, its proxy, and the way to the API.
pub(crate) struct Site {
    proxy: Proxy,
    lab: BareLab,
    child: Child,
    here: Place,
    conntrack: NfSocket,
    _relay: Relay,
}

impl Site {
    /// Builds the lab and starts the proxy in it.
    pub(crate) fn new(
        proxy: Proxy,
        layout: &Layout,
        programs: &Path,
        config: &Path,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let lab = layout.build().map_err(anyhow::Error::msg)?;
        let here = Place::Node(layout.here().to_owned());
        lab.lift_icmp_limits(&here)?;
        let fabric = lab.ns(&Place::Fabric)?;
        let relay = Relay::start(fabric, API, ControlPlane::address()).context("the relay")?;
        let (program, args) = proxy.command(programs, config)?;
        let mut command = Command::new(program);
        command.args(args);
        let log = folder.join(format!("{}.log", proxy.name()));
        let child = lab.run(&here, proxy.name(), log, command)?;
        let conntrack = lab.ns(&here)?.within(NfSocket::open)??;
        Ok(Self {
            proxy,
            lab,
            child,
            here,
            conntrack,
            _relay: relay,
        })
    }

    /// Waits until the proxy drops what is sent to addresses of the ServiceCIDRs that no Service has. kube-proxy reads
    /// the ServiceCIDRs at any time, and acts upon them with its next full sync.
    pub(crate) fn await_ranges(&mut self) -> anyhow::Result<()> {
        let probes = Family::BOTH.map(|family| Probe {
            from: self.here.clone(),
            source: None,
            to: SocketAddr::new(of(family, UNALLOCATED), 9),
            protocol: Protocol::Tcp,
        });
        for _ in 0..SYNCS {
            self.child.check()?;
            let answers = self.lab.probe_all(&probes, PATIENCE);
            if answers.iter().all(|a| matches!(a, Ok(Outcome::Timeout))) {
                return Ok(());
            }
            std::thread::sleep(PATIENCE);
        }
        bail!(
            "{} does not drop what is sent to unallocated addresses after {:?}",
            self.proxy.name(),
            PATIENCE * SYNCS
        )
    }

    /// Waits until the proxy has done what the sentinel stands for, in both families.
    pub(crate) fn catch_up(&mut self, sentinel: &Sentinel) -> anyhow::Result<()> {
        for _ in 0..ROUNDS {
            self.child.check()?;
            let probes = sentinel.services().map(|to| Probe {
                from: self.here.clone(),
                source: None,
                to,
                protocol: Protocol::Tcp,
            });
            let answers = self.lab.probe_all(&probes, ROUND);
            let there = |(answer, end): (&Result<Outcome, _>, SocketAddr)| matches!(answer, Ok(Outcome::Reached(answer)) if answer.arrived_at == end);
            if answers.iter().zip(sentinel.ends()).all(there) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        bail!(
            "{} has not followed the API for {:?}",
            self.proxy.name(),
            (ROUND + PAUSE) * ROUNDS
        )
    }

    /// What the proxy counts.
    pub(crate) fn metrics(&self) -> anyhow::Result<Families> {
        let read = self.lab.ns(&self.here)?.within(metrics::read)?;
        read.with_context(|| format!("what {} counts", self.proxy.name()))
    }

    /// Forgets every connection, so that none of an earlier state is taken up again.
    pub(crate) fn forget(&mut self) -> anyhow::Result<()> {
        let flows = self.conntrack.flows(&Filter::default())?;
        self.conntrack.remove_flows(&flows)?;
        Ok(())
    }

    /// What becomes of packets.
    pub(crate) fn ask(&self, layout: &Layout, questions: &[Question]) -> anyhow::Result<Vec<Seen>> {
        let mut probes = Vec::new();
        for question in questions {
            if let Tries::AtOnce(count) = question.tries {
                probes.extend(std::iter::repeat_n(probe(layout, &question.packet), count));
            }
        }
        let outcomes = self.lab.probe_all(&probes, PATIENCE);
        let mut outcomes = outcomes.into_iter();
        let mut seen = Vec::with_capacity(questions.len());
        for Question { packet, tries } in questions {
            let to = SocketAddr::new(packet.destination, packet.port);
            let mut one = Seen::default();
            match *tries {
                Tries::AtOnce(count) => {
                    for outcome in outcomes.by_ref().take(count) {
                        one.add(to, outcome?);
                    }
                }
                Tries::InTurn(count) => {
                    for _ in 0..count {
                        one.add(to, self.lab.probe(&probe(layout, packet), PATIENCE)?);
                    }
                }
            }
            seen.push(one);
        }
        Ok(seen)
    }
}

fn probe(layout: &Layout, packet: &Packet) -> Probe {
    Probe {
        from: layout.place_of(packet),
        source: Some(packet.source),
        to: SocketAddr::new(packet.destination, packet.port),
        protocol: match packet.protocol {
            daymark_model::Protocol::Tcp => Protocol::Tcp,
            daymark_model::Protocol::Udp => Protocol::Udp,
            daymark_model::Protocol::Sctp => Protocol::Sctp,
        },
    }
}

/// An address of a family out of the two.
pub(crate) fn of(family: Family, [four, six]: [&str; 2]) -> IpAddr {
    let text = match family {
        Family::V4 => four,
        Family::V6 => six,
    };
    text.parse().expect("a constant address")
}

/// The API server's address in each lab: the fabric's.
pub(crate) const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(172, 30, 0, 1)), 6443);
/// Of the ServiceCIDRs, one a family, and no Service's.
const UNALLOCATED: [&str; 2] = ["10.96.0.251", "fd00:10:96::fb"];
/// Looks at it: some ten of kube-proxy's full syncs long.
const SYNCS: u32 = 100;
/// How long a packet may take before it counts as dropped: everything is one machine.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a proxy may take to follow a change: kube-proxy starts in some seconds.
const ROUNDS: u32 = 600;
const ROUND: Duration = Duration::from_millis(80);
const PAUSE: Duration = Duration::from_millis(20);
