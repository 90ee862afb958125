//! Real packets through a real kernel as a judge.
//!
//! Each case gets a lab of its own: the node that the case describes with the plane under test, every
//! endpoint and every client as a Pod, and whoever else sends outside. Nobody tells the lab what ought
//! to happen; the model is only asked how many endpoints to look for, and, because a node's own
//! address says nothing about masquerading, for the word to use there.

pub(crate) mod layout;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use daymark_case::{Case, Judge, Outcome, Seen, Spread};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{CommitError, Kernel, Plane};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_dataplane::nft::program::Program;
use daymark_lab::bare::{self, Answer, BareLab, Place, Probe};
use daymark_model::decide::{self, Arrival, SourceSeen};
use daymark_model::input::Affinity;
use daymark_model::{Delta, Desired, Packet, Protocol, Target, Verdict, World};
use daymark_netlink::nft::Message;

use layout::Layout;

/// How long a packet may take before it counts as dropped: everything is one machine.
const PATIENCE: Duration = Duration::from_millis(400);
/// How often each endpoint is tried for, so that missing one of n by chance is rarer than 1 in 10^6.
const TRIES: usize = 16;

/// What stands for SCTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sctp {
    /// An INIT in a raw packet: every kernel translates it.
    Inits,
    /// That, and whole associations where INITs get through: the kernel must have SCTP.
    Associations,
}

/// A lab for one case.
pub(crate) struct LabJudge {
    layout: Layout,
    lab: BareLab,
    plane: Plane<Netlink>,
    spoil: Box<dyn Fn(&mut Program)>,
    is_spoiled: bool,
    desired: Desired,
    sctp: Sctp,
    associations: usize,
}

impl LabJudge {
    /// Builds the lab of a case. The caller is inside namespaces of its own.
    ///
    /// # Errors
    /// What the lab or the kernel refused, in words.
    pub(crate) fn new(case: &Case, flags: TableFlags) -> Result<Self, String> {
        Self::spoiled(case, flags, |_| ())
    }

    /// A lab whose kernel holds the program after `spoil` has been at it: to show that the cases notice.
    ///
    /// # Errors
    /// As [`LabJudge::new`].
    pub(crate) fn spoiled(
        case: &Case,
        flags: TableFlags,
        spoil: impl Fn(&mut Program) + 'static,
    ) -> Result<Self, String> {
        let layout = Layout::of(case);
        let lab = layout.build()?;
        let here = Place::Node(layout.here().to_owned());
        let ns = lab.ns(&here).map_err(|error| error.to_string())?;
        let kernel = ns
            .within(Netlink::open)
            .map_err(|error| error.to_string())?;
        let kernel = kernel.map_err(|error| error.to_string())?;
        let (plane, _) = Plane::start(kernel, flags).map_err(|error| error.to_string())?;
        Ok(Self {
            layout,
            lab,
            plane,
            spoil: Box::new(spoil),
            is_spoiled: false,
            desired: Desired::default(),
            sctp: Sctp::Inits,
            associations: 0,
        })
    }

    /// Also tries whole SCTP associations, if asked to.
    ///
    /// # Errors
    /// The kernel has no SCTP, in words.
    pub(crate) fn with_sctp(mut self, sctp: Sctp) -> Result<Self, String> {
        if sctp == Sctp::Associations {
            let listening = self.lab.listen_sctp(&self.layout.ports());
            listening.map_err(|error| {
                format!("{error} (associations need the module sctp; --sctp inits does without)")
            })?;
        }
        self.sctp = sctp;
        Ok(self)
    }

    /// How many SCTP associations came to be.
    pub(crate) fn associations(&self) -> usize {
        self.associations
    }

    /// Puts the spoiled program into the kernel, if it is another one.
    fn spoil(&mut self) -> Result<(), CommitError> {
        let meant = self.plane.compiler().program();
        let mut spoiled = meant.clone();
        (self.spoil)(&mut spoiled);
        self.is_spoiled = spoiled != *meant;
        if self.is_spoiled {
            self.replace(&spoiled)?;
        }
        Ok(())
    }

    /// Puts the program that was meant back, so that it can be updated.
    fn mend(&mut self) -> Result<(), CommitError> {
        if self.is_spoiled {
            let meant = self.plane.compiler().program().clone();
            self.replace(&meant)?;
        }
        Ok(())
    }

    fn replace(&mut self, program: &Program) -> Result<(), CommitError> {
        let tables = program.tables().map(|table| table.table.id.clone());
        let mut messages: Vec<Message> = tables.map(|table| Message::DelTable { table }).collect();
        messages.extend(program.create());
        self.plane.kernel().commit(&messages)
    }

    /// Enough probes that every endpoint is found: the expected number of them, or a few.
    fn probes(&self, packet: &Packet) -> Vec<Probe> {
        let count = match decide::decide(&self.desired, packet) {
            Verdict::Forward(targets) => TRIES * targets.len(),
            Verdict::Reject(_) | Verdict::Drop(_) | Verdict::Untouched => 2,
        };
        let probe = Probe {
            from: self.layout.place_of(packet),
            source: Some(packet.source),
            to: SocketAddr::new(packet.destination, packet.port),
            protocol: match packet.protocol {
                Protocol::Tcp => bare::Protocol::Tcp,
                Protocol::Udp => bare::Protocol::Udp,
                Protocol::Sctp => bare::Protocol::Sctp,
            },
        };
        vec![probe; count]
    }

    /// What became of a packet, sent by every probe.
    fn send(
        &self,
        packet: &Packet,
        probes: &[Probe],
    ) -> Result<(Outcome, Vec<bare::Outcome>), String> {
        let results = self.lab.probe_all(probes, PATIENCE);
        let outcomes: Result<Vec<_>, _> = results.into_iter().collect();
        let outcomes = outcomes.map_err(|error| error.to_string())?;
        Ok((self.gather(packet, &outcomes), outcomes))
    }

    /// Associations end where INITs end: at the same endpoints, or nowhere. How one that is refused looks depends on
    /// the kernel's SCTP (`sctp_v4_err`), so nothing is asked but that nobody was reached.
    fn associate(&mut self, packet: &Packet, inits: Outcome) -> Result<Outcome, String> {
        let mut probes = self.probes(packet);
        for probe in &mut probes {
            probe.protocol = bare::Protocol::Association;
        }
        let (seen, outcomes) = self.send(packet, &probes)?;
        let reached = |outcome: &&bare::Outcome| matches!(outcome, bare::Outcome::Reached(_));
        let count = outcomes.iter().filter(reached).count();
        self.associations += count;
        let agree = match &inits {
            Outcome::Forward(_) => seen == inits,
            Outcome::Untouched => count == 0 || seen == inits,
            Outcome::Refuse(_) | Outcome::Drop(_) | Outcome::Other(_) => count == 0,
        };
        Ok(if agree {
            inits
        } else {
            Outcome::Other(format!("INITs: {inits:?}; associations: {seen:?}"))
        })
    }

    fn target(&self, packet: &Packet, answer: &Answer) -> Result<Target, String> {
        let (address, port) = (answer.arrived_at.ip(), answer.arrived_at.port());
        let own = self.layout.is_here(answer.source.ip());
        let source = match (packet.arrival, answer.source.ip() == packet.source, own) {
            (Arrival::Node, _, true) => self.word_for_the_node(packet, address, port),
            (_, true, _) => SourceSeen::Kept,
            (Arrival::Link, false, true) => SourceSeen::Masqueraded,
            (_, false, _) => {
                return Err(format!(
                    "{address}:{port} saw the source {}",
                    answer.source.ip()
                ));
            }
        };
        Ok(Target {
            address,
            port,
            source,
        })
    }

    /// The node's own packets carry the node's address with or without masquerading.
    fn word_for_the_node(&self, packet: &Packet, address: IpAddr, port: u16) -> SourceSeen {
        let Verdict::Forward(targets) = decide::decide(&self.desired, packet) else {
            return SourceSeen::Kept;
        };
        let same = targets
            .iter()
            .find(|target| target.address == address && target.port == port);
        same.map_or(SourceSeen::Kept, |target| target.source)
    }

    fn gather(&self, packet: &Packet, outcomes: &[bare::Outcome]) -> Outcome {
        let sent_to = SocketAddr::new(packet.destination, packet.port);
        let mut targets = BTreeSet::new();
        let mut others = BTreeSet::new();
        for outcome in outcomes {
            match outcome {
                bare::Outcome::Reached(answer) if answer.arrived_at == sent_to => {
                    others.insert(Plain::Untouched);
                }
                bare::Outcome::Reached(answer) => match self.target(packet, answer) {
                    Ok(target) => {
                        targets.insert(target);
                    }
                    Err(what) => {
                        others.insert(Plain::Other(what));
                    }
                },
                bare::Outcome::Refused(how) if how == refusal_of(packet.protocol) => {
                    others.insert(Plain::Refuse);
                }
                bare::Outcome::Refused(how) => {
                    others.insert(Plain::Other(format!("refused by {how:?}")));
                }
                bare::Outcome::Timeout => {
                    others.insert(Plain::Drop);
                }
            }
        }
        match (
            targets.is_empty(),
            others.into_iter().collect::<Vec<_>>().as_slice(),
        ) {
            (false, []) => Outcome::Forward(targets),
            (true, [Plain::Refuse]) => Outcome::Refuse(None),
            (true, [Plain::Drop]) => Outcome::Drop(None),
            (true, [Plain::Untouched]) => Outcome::Untouched,
            (_, rest) => Outcome::Other(format!("{rest:?} beside {targets:?}")),
        }
    }
}

/// How a refusal reaches a client: TCP by a reset, which no kernel limits; the others by ICMP.
fn refusal_of(protocol: Protocol) -> &'static bare::Refusal {
    match protocol {
        Protocol::Tcp => &bare::Refusal::TcpReset,
        Protocol::Udp | Protocol::Sctp => &bare::Refusal::PortUnreachable,
    }
}

/// An outcome without an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Plain {
    Refuse,
    Drop,
    Untouched,
    Other(String),
}

impl Judge for LabJudge {
    fn enter(&mut self, world: &World, delta: &Delta) -> Result<(), String> {
        self.desired.clone_from(world.desired());
        self.mend()
            .and_then(|()| self.plane.update(delta))
            .and_then(|_| self.spoil())
            .map_err(|error| error.to_string())
    }

    fn see(&mut self, packet: &Packet) -> Result<Seen, String> {
        let (mut outcome, _) = self.send(packet, &self.probes(packet))?;
        if packet.protocol == Protocol::Sctp && self.sctp == Sctp::Associations {
            outcome = self.associate(packet, outcome)?;
        }
        let frontend = decide::frontend(&self.desired, packet);
        let sticky = frontend.is_some_and(|frontend| frontend.affinity != Affinity::None);
        Ok(Seen {
            outcome,
            spread: if sticky { Spread::Probed } else { Spread::Anew },
        })
    }
}
