//! A commit between any two questions of a packet: it is served as before or as behind it, and a client with affinity stays
//! where it is as long as its endpoint is there. Which transactions there are is the plane's decision, as before a kernel.

use std::collections::BTreeSet;
use std::sync::Arc;

use daymark_case::random::Random;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{CommitError, Kernel, Plane};
use daymark_dataplane::nft::layout::set;
use daymark_dataplane::nft::program::Program;
use daymark_dataplane::nft::trace::{self, Host, Memory, Moments, Single};
use daymark_model::decide::Arrival;
use daymark_model::{Change, Cidr, Desired, FrontendKey, Packet, Service, ServiceKey, Slice};
use daymark_netlink::nft::{Message, Ruleset, TableId};

use crate::common::every_plan;
use crate::singles;

/// A program in the place of the kernel, and what it was before each commit.
#[derive(Debug)]
struct Recorder {
    kernel: Release,
    program: Program,
    before: Vec<Program>,
}

/// A commit is no moment: elements of hashes come and go when the generation changes, and a set of several ranges in one key changes
/// its copies behind everything else (`nf_tables_commit`, `nft_pipapo_commit`).
#[derive(Clone, Copy, Debug)]
enum Release {
    /// A packet finds all of the copy: what goes is there as long as what comes is not.
    Linux617,
    /// A packet passes by what is of another generation than its own: what goes is gone before what comes is there.
    BeforeLinux617,
}

impl Release {
    /// Whether a message acts at the end of its commit alone.
    fn is_late(self, message: &Message) -> bool {
        match (message, self) {
            (Message::NewElems { elements, .. }, _)
            | (Message::DelElems { elements, .. }, Self::Linux617) => {
                set::RANGES.contains(&&*elements.set)
            }
            _ => false,
        }
    }
}

impl Recorder {
    fn new(kernel: Release) -> Self {
        Self {
            kernel,
            program: Program::default(),
            before: Vec::new(),
        }
    }
}

impl Kernel for Recorder {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        self.before.push(self.program.clone());
        let all = messages.iter().cloned();
        let (late, others): (Vec<Message>, Vec<Message>) =
            all.partition(|message| self.kernel.is_late(message));
        if !late.is_empty() && !others.is_empty() {
            let mut half = self.program.clone();
            half.commit(&others)?;
            self.before.push(half);
        }
        self.program.commit(messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        self.program.read(table)
    }
}

/// One Service that has ranges may have none from now on, or its own, or wider ones around these.
fn opened(random: &mut Random, services: &[(ServiceKey, Arc<Service>)]) -> Change {
    let (key, service) = &services[random.below(services.len())];
    let mut service = Service::clone(service);
    match random.below(4) {
        0 => service.source_ranges.clear(),
        1 => {}
        _ => {
            let bits = 1 + random.below(8) as u8;
            let wider = |range: &Cidr| Cidr::new(range.first(), range.length() - bits);
            let wider = service.source_ranges.iter().map(wider);
            service.source_ranges = wider.map(|range| range.expect("a prefix")).collect();
        }
    }
    Change::Service(key.clone(), Some(Arc::new(service)))
}

/// In each slice that changes, each endpoint or not; most often those of one Service alone.
fn changed(random: &mut Random, whole: &[Arc<Slice>]) -> Vec<Change> {
    let service = whole[random.below(whole.len())].service.clone();
    let all = random.below(4) == 0;
    let slices = whole.iter().filter(|slice| all || slice.service == service);
    let change = |slice: &Arc<Slice>| {
        let mut slice = Slice::clone(slice);
        slice.endpoints.retain(|_| random.below(3) != 0);
        Change::Slice(slice.key.clone(), Some(Arc::new(slice)))
    };
    slices.map(change).collect()
}

/// To every place, from a client outside that no range keeps away, an own Pod, which is an endpoint itself, and the node.
fn packets(desired: &Desired) -> Vec<Packet> {
    let mut packets = Vec::new();
    for key in desired.frontends.keys() {
        let (four, destination, port, protocol) = match *key {
            FrontendKey::Address { ip, protocol, port } => (ip.is_ipv4(), ip, port, protocol),
            FrontendKey::NodePort {
                family,
                protocol,
                port,
            } => {
                let four = family == daymark_model::Family::V4;
                let node = if four { "172.30.0.11" } else { "fd00:30::11" };
                (four, node.parse().expect("an address"), port, protocol)
            }
        };
        let sources = match four {
            true => ["172.30.0.100", "10.244.1.5", "172.30.0.11"],
            false => ["fd00:30::100", "fd00:10:244:1::5", "fd00:30::11"],
        };
        let arrivals = [Arrival::Link, Arrival::Link, Arrival::Node];
        packets.extend(
            sources
                .into_iter()
                .zip(arrivals)
                .map(|(source, arrival)| Packet {
                    arrival,
                    interface: None,
                    source: source.parse().expect("an address"),
                    destination,
                    port,
                    protocol,
                }),
        );
    }
    packets
}

/// What is said of one packet during one change.
struct Question<'a> {
    packet: &'a Packet,
    old: &'a Desired,
    new: &'a Desired,
    /// Its verdicts before the change, and behind it.
    verdicts: [BTreeSet<Single>; 2],
}

impl<'a> Question<'a> {
    /// Nothing if the change is not about this packet. One that is served alike by another frontend is asked for, too.
    fn new(packet: &'a Packet, old: &'a Desired, new: &'a Desired) -> Option<Self> {
        let verdicts = [old, new].map(|desired| singles::of_model(desired, packet));
        let by = |desired: &Desired| {
            singles::keys(packet).map(|key| desired.frontends.get(&key).cloned())
        };
        let changes = verdicts[0] != verdicts[1] || by(old) != by(new);
        changes.then_some(Self {
            packet,
            old,
            new,
            verdicts,
        })
    }

    /// Where nobody was, and a moment later somebody is, the packet may be dropped: it was let through to be refused, and is
    /// not to be refused any more. Its client asks again.
    fn allows(&self, got: Single) -> bool {
        let nobody = |verdicts: &BTreeSet<Single>| {
            !verdicts.iter().any(|one| matches!(one, Single::Forward(_)))
        };
        let [before, behind] = &self.verdicts;
        before.contains(&got)
            || behind.contains(&got)
            || (got == Single::Dropped && (nobody(before) || nobody(behind)))
            || singles::while_changing(self.old, self.new, self.packet).contains(&got)
    }

    /// Lets the commit happen behind each question that the packet asks; how many packets that were.
    fn ask(&self, [before, after]: [&Program; 2], random: u32) -> usize {
        let addresses = &self.new.own_addresses;
        let [before, after] = [before, after].map(|program| Host { program, addresses });
        let mut chosen = Memory::default();
        let (first, _) = trace::once(before, self.packet, random, &mut chosen).expect("a program");
        let stays = self
            .verdicts
            .iter()
            .all(|verdicts| verdicts.contains(&first));
        let mut walks = 0;
        for memory in [&Memory::default(), &chosen] {
            for asked_before in 1.. {
                let (moments, mut now) = (
                    Moments {
                        before,
                        after,
                        asked_before,
                    },
                    memory.clone(),
                );
                let walked = trace::across(moments, self.packet, random, &mut now);
                let (got, _, asked) = walked.expect("programs that fit together");
                walks += 1;
                let what = || {
                    format!(
                        "{:?} got {got:?} with a commit behind question {asked_before}",
                        self.packet
                    )
                };
                assert!(self.allows(got), "{}, not of {:?}", what(), self.verdicts);
                if *memory != Memory::default() && stays {
                    assert_eq!(got, first, "{}, but its endpoint is still there", what());
                    assert_eq!(now, chosen, "{}, and its endpoint was forgotten", what());
                }
                if asked <= asked_before {
                    break;
                }
            }
        }
        walks
    }
}

#[test]
fn a_commit_between_two_questions_of_a_packet_takes_nobodys_endpoint_away() {
    ask_between_commits(Release::Linux617);
}

#[test]
fn neither_does_one_of_a_kernel_that_hides_ranges_before_it_shows_others() {
    ask_between_commits(Release::BeforeLinux617);
}

fn ask_between_commits(kernel: Release) {
    let (mut random, mut world) = (Random::new(8_000), every_plan());
    let whole = world.inputs().slices_in_order();
    let services = world.inputs().services.iter();
    let guarded = services.filter(|(_, service)| !service.source_ranges.is_empty());
    let guarded: Vec<_> = guarded
        .map(|(key, service)| (key.clone(), Arc::clone(service)))
        .collect();
    let started = Plane::start(Recorder::new(kernel), TableFlags::NONE);
    let (mut plane, _) = started.expect("an empty kernel");
    plane.reconcile(world.desired().clone()).expect("a load");
    let (mut walks, mut joined) = (0, 0);
    for _ in 0..CHANGES {
        plane.kernel().before.clear();
        let old = world.desired().clone();
        let mut changes = changed(&mut random, &whole);
        if random.below(2) == 0 {
            changes.push(opened(&mut random, &guarded));
        }
        let delta = world.apply(changes);
        plane.update(&delta).expect("a commit");
        let kernel = plane.kernel();
        let mut moments = std::mem::take(&mut kernel.before);
        joined += usize::from(moments.len() == 1);
        moments.push(kernel.program.clone());
        let new = world.desired();
        for packet in &packets(new) {
            let Some(question) = Question::new(packet, &old, new) else {
                continue;
            };
            for pair in moments.windows(2) {
                let asked = (0..2).map(|number| question.ask([&pair[0], &pair[1]], number));
                walks += asked.sum::<usize>();
            }
        }
    }
    assert!(walks > 10_000, "only {walks} packets");
    assert!(joined > 0, "no change was one commit");
}

const CHANGES: usize = 24;
